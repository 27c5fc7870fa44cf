//! Exclusive locks: of clients that want one at two nodes at once, one gets it.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, long_form, show};

use super::cluster::{Cluster, Plan};

const EXCLUSIVE: &[&str] = &["--lock-policy", "exclusive", "--ack", "all"];

fn exclusive(nodes: usize) -> Plan {
    Plan::of(nodes).with(EXCLUSIVE)
}

fn rounds() -> usize {
    if long_form() { 5_000 } else { 500 }
}

/// All nodes ask the same at once, round after round; how many got it in each round.
fn race(
    cluster: &Cluster,
    rounds: usize,
    ask: impl Fn(&mut Client, usize) -> bool + Sync,
    free: impl Fn(&mut Client, usize) + Sync,
) -> Vec<usize> {
    let racers = cluster.nodes.len();
    let barrier = Barrier::new(racers);
    let won: Vec<Vec<bool>> = thread::scope(|scope| {
        let all: Vec<_> = (0..racers)
            .map(|node| {
                let (barrier, ask, free) = (&barrier, &ask, &free);
                scope.spawn(move || {
                    let mut client = cluster.client(node);
                    (0..rounds)
                        .map(|round| {
                            barrier.wait();
                            let won = ask(&mut client, round);
                            barrier.wait();
                            // Whoever frees it need not be who took it.
                            if round % racers == node {
                                free(&mut client, round);
                            }
                            won
                        })
                        .collect()
                })
            })
            .collect();
        all.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    (0..rounds).map(|round| won.iter().filter(|racer| racer[round]).count()).collect()
}

#[track_caller]
fn assert_one_winner_each(cluster: &Cluster, what: &str, winners: &[usize]) {
    let wrong: Vec<_> = winners.iter().enumerate().filter(|(_, winners)| **winners != 1).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:?}");
    let doubtful: u64 = cluster.nodes.iter().map(|node| node.told("lock_doubtful")).sum();
    let split: u64 = cluster.nodes.iter().map(|node| node.told("lock_split")).sum();
    assert_eq!((doubtful, split), (0, 0), "{what}");
}

fn line(client: &mut Client, request: &str) -> String {
    client.send(request);
    String::from_utf8(client.line()).unwrap().trim_end().to_owned()
}

#[test]
fn of_adds_that_race_on_all_nodes_one_is_stored() {
    for nodes in [2, 3] {
        let cluster = exclusive(nodes).start();
        let begun = Instant::now();
        let ask = |client: &mut Client, _: usize| {
            line(client, "add sess.lock 768 15 1\r\n1\r\n") == "STORED"
        };
        let free =
            |client: &mut Client, _: usize| client.ask("delete sess.lock\r\n", "DELETED\r\n");
        let winners = race(&cluster, rounds(), ask, free);
        show(&format!("{} races of adds on {nodes} nodes: {:?}", winners.len(), begun.elapsed()));
        assert_one_winner_each(&cluster, "add", &winners);
    }
}

/// What pecl memcache sends to read a session, all at once, and whether it then has the lock.
fn pecl_reads(client: &mut Client, key: &str) -> (bool, Option<String>) {
    client.send(format!("incr {key}.lock 1\r\nadd {key}.lock 768 15 1\r\n1\r\nget {key}\r\n"));
    let counted = client.line();
    let added = client.line();
    let mut value = None;
    if client.line().starts_with(b"VALUE") {
        value = Some(String::from_utf8(client.line()).unwrap().trim_end().to_owned());
        client.expect("END\r\n");
    }
    (counted == b"1\r\n" || added == b"STORED\r\n", value)
}

#[test]
fn sessions_that_pecl_locks_on_any_node_lose_no_increment() {
    for nodes in [2, 3] {
        let cluster = exclusive(nodes).start();
        let workers = 2 * nodes;
        let each = rounds() / 10;
        thread::scope(|scope| {
            for worker in 0..workers {
                let cluster = &cluster;
                scope.spawn(move || {
                    // One address: any request may reach any node.
                    let mut clients: Vec<Client> = (0..nodes).map(|n| cluster.client(n)).collect();
                    for count in 0..each {
                        let client = &mut clients[(worker + count) % nodes];
                        let value = loop {
                            match pecl_reads(client, "sess") {
                                (true, value) => break value,
                                (false, _) => thread::sleep(Duration::from_millis(1)),
                            }
                        };
                        let next = value.map_or(0, |value| value.parse::<usize>().unwrap()) + 1;
                        let next = format!("{next:05}");
                        let client = &mut clients[(worker + 2 * count + 1) % nodes];
                        client.send(format!(
                            "set sess 0 0 5\r\n{next}\r\nset sess.lock 768 15 1\r\n0\r\n"
                        ));
                        client.expect("STORED\r\nSTORED\r\n");
                    }
                });
            }
        });
        let all = (workers * each).to_string();
        let held = cluster.client(0).get("sess").unwrap();
        let held = String::from_utf8(held).unwrap();
        assert_eq!(held.trim_start_matches('0'), all, "{nodes} nodes");
    }
}
