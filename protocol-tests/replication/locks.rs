//! Exclusive locks: of clients that want one at two nodes at once, one gets it.

use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Host, PATIENCE, long_form, show, wait_until};
use crate::frame;
use crate::server::Stream;

use super::cluster::{Cluster, Plan};
use super::proxy::Wire;

const EXCLUSIVE: &[&str] = &["--lock-policy", "exclusive", "--ack", "all"];

fn exclusive(nodes: usize) -> Plan {
    Plan::of(nodes).with(EXCLUSIVE)
}

fn rounds() -> usize {
    if long_form() { 5_000 } else { 500 }
}

/// Who races at a node: a connection for text, and one for frames.
struct Racer {
    text: Client,
    binary: Client,
}

/// Nodes that stand still are done without, and what comes of a race then is not for it to say: how often
/// one is run again for that.
const AGAIN_MAX: usize = 4;

/// Runs a race in which every round has one winner; how long it took.
#[track_caller]
fn race(
    cluster: &mut Cluster,
    what: &str,
    rounds: usize,
    ask: impl Fn(&mut Racer) -> bool + Sync,
) -> Duration {
    for _ in 0..=AGAIN_MAX {
        wait_until_one_decides(cluster);
        // Whoever has it from the last one.
        line(&mut cluster.client(0), "delete sess.lock\r\n");
        let stood_still = || told_by_all(cluster, ["pauses", "stalls"]);
        let (begun, before) = (Instant::now(), stood_still());
        let Err(wrong) = run(cluster, rounds, &ask) else { return begun.elapsed() };
        thread::sleep(SHOWN_AFTER);
        assert!(stood_still() != before, "{what}: {wrong}, and no node stood still");
        show(&format!("{what}: {wrong}, but a node stood still: again"));
    }
    panic!("{what}: nodes stood still in all races");
}

/// All nodes ask the same at once, round after round, and each in turn frees it, whoever had it. What
/// went wrong first.
fn run(
    cluster: &Cluster,
    rounds: usize,
    ask: &(impl Fn(&mut Racer) -> bool + Sync),
) -> Result<(), String> {
    let mut racers: Vec<_> = (0..cluster.nodes.len())
        .map(|node| Racer { text: cluster.client(node), binary: cluster.client(node) })
        .collect();
    // Decided twice, perhaps, or while a node was missing.
    let apart = || told_by_all(cluster, ["lock_doubtful", "lock_split"]);
    let before = apart();
    let barrier = Barrier::new(racers.len());
    for round in 0..rounds {
        let answers: Vec<_> = thread::scope(|scope| {
            let barrier = &barrier;
            let asking: Vec<_> = racers
                .iter_mut()
                .map(|racer| {
                    scope.spawn(move || {
                        barrier.wait();
                        ask(racer)
                    })
                })
                .collect();
            asking.into_iter().map(|asked| asked.join().ok()).collect()
        });
        let frees = round % racers.len();
        let freed = line(&mut racers[frees].text, "delete sess.lock\r\n");
        let winners = answers.iter().filter(|answer| **answer == Some(true)).count();
        if winners != 1 || answers.contains(&None) || freed != "DELETED" {
            return Err(format!("round {round}: who got it {answers:?}, who let go {freed}"));
        }
    }
    thread::sleep(SHOWN_AFTER);
    match apart() {
        after if after == before => Ok(()),
        after => Err(format!("decided apart: {before:?}, then {after:?}")),
    }
}

/// What nodes tell is up to 100 ms old.
const SHOWN_AFTER: Duration = Duration::from_millis(200);

fn told_by_all(cluster: &Cluster, names: [&str; 2]) -> [u64; 2] {
    names.map(|name| cluster.nodes.iter().map(|node| node.told(name)).sum())
}

fn line(client: &mut Client, request: &str) -> String {
    client.send(request);
    String::from_utf8(client.line()).unwrap().trim_end().to_owned()
}

#[test]
fn of_adds_that_race_on_all_nodes_one_is_stored() {
    for nodes in [2, 3] {
        let mut cluster = exclusive(nodes).start();
        let took = race(&mut cluster, "add", rounds(), adds);
        show(&format!("{} rounds of a race of adds on {nodes} nodes: {took:?}", rounds()));
        let forwarded: u64 = cluster.nodes.iter().map(|node| node.told("lock_forwarded")).sum();
        assert!(forwarded >= rounds() as u64, "{forwarded}");
    }
}

fn adds(racer: &mut Racer) -> bool {
    line(&mut racer.text, "add sess.lock 768 15 1\r\n1\r\n") == "STORED"
}

/// The status of the reply to a frame, and its value.
fn frame_asked(client: &mut Client, request: &str) -> (u16, Vec<u8>) {
    client.send(frame::request(request));
    let reply = client.frame();
    (u16::from_be_bytes([reply[6], reply[7]]), reply[24..].to_vec())
}

/// Whether it took the lock.
type Way = fn(&mut Racer) -> bool;

#[test]
fn one_wins_in_every_way_to_take_a_lock() {
    let mut cluster = exclusive(2).start();
    let ways: [(&str, Way); 6] = [
        ("binary increment", |racer| {
            let asked =
                frame_asked(&mut racer.binary, "incr key=sess.lock delta=1 initial=1 exp=15");
            asked == (0, 1u64.to_be_bytes().to_vec())
        }),
        ("binary add", |racer| {
            frame_asked(&mut racer.binary, "add key=sess.lock exp=15 value=1").0 == 0
        }),
        ("quiet binary add", |racer| {
            racer.binary.send(frame::request("addq key=sess.lock exp=15 value=1"));
            racer.binary.send(frame::request("noop"));
            // Only a refusal is answered.
            let is_refused = racer.binary.frame()[1] == 0x12;
            if is_refused {
                racer.binary.frame();
            }
            !is_refused
        }),
        ("ma N", |racer| {
            let head = line(&mut racer.text, "ma sess.lock N15 J1 v\r\n");
            let number = String::from_utf8(racer.text.line()).unwrap();
            head == "VA 1" && number == "1\r\n"
        }),
        ("ms ME", |racer| line(&mut racer.text, "ms sess.lock 1 ME T15\r\n1\r\n") == "HD"),
        ("mg N", |racer| line(&mut racer.text, "mg sess.lock N15 t\r\n").ends_with(" W")),
    ];
    for (what, ask) in ways {
        race(&mut cluster, what, rounds() / 2, ask);
    }
}

#[test]
fn a_lock_let_go_at_one_node_is_free_at_the_other_at_once() {
    let cluster = exclusive(2).start();
    let mut clients = [cluster.client(0), cluster.client(1)];
    for round in 0..50 {
        let (here, there) = (round % 2, (round + 1) % 2);
        clients[here].ask("add x.lock 0 15 1\r\n1\r\n", "STORED\r\n");
        clients[there].ask("add x.lock 0 15 1\r\n1\r\n", "NOT_STORED\r\n");
        clients[there].ask("get x.lock\r\n", "VALUE x.lock 0 1\r\n1\r\nEND\r\n");
        clients[there].ask("touch x.lock 20\r\n", "TOUCHED\r\n");
        clients[there].ask("incr x.lock 1\r\n", "2\r\n");
        clients[here].ask("decr x.lock 1\r\n", "1\r\n");
        // Nobody is told, and all of it happens in this order.
        clients[there].send("set x.lock 0 15 1 noreply\r\n0\r\nincr x.lock 1 noreply\r\n");
        clients[there].ask("get x.lock\r\n", "VALUE x.lock 0 1\r\n1\r\nEND\r\n");
        clients[here].ask("get x.lock\r\n", "VALUE x.lock 0 1\r\n1\r\nEND\r\n");
        clients[there].ask("delete x.lock\r\n", "DELETED\r\n");
        clients[here].ask("get x.lock\r\n", "END\r\n");
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

/// Waits until all nodes decide together.
fn wait_until_one_decides(cluster: &mut Cluster) {
    cluster.wait_until_in_sync();
    let nodes = cluster.nodes.len() as u64;
    wait_until("all nodes decide together", || {
        cluster.nodes.iter().all(|node| node.told("lock_nodes") == nodes)
    });
}

/// The answer, if there is one.
fn whole_line(client: &mut Client) -> Option<Vec<u8>> {
    Some(client.line()).filter(|line| line.ends_with(b"\n"))
}

/// Takes the lock, holds it for a moment and lets it go, again and again, at a node that may die;
/// the longest that an answer took.
fn use_lock(address: SocketAddr, held: &AtomicUsize, over: &AtomicBool) -> (usize, Duration) {
    let (mut won, mut longest) = (0, Duration::ZERO);
    let mut client = None;
    while !over.load(Ordering::Relaxed) {
        if client.is_none() {
            client = TcpStream::connect(address).ok().map(|tcp| Client::over(Stream::Tcp(tcp)));
        }
        let Some(asked) = &mut client else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let begun = Instant::now();
        let is_sent = asked.try_send(b"add sess.lock 0 2 1\r\n1\r\n", PATIENCE);
        let answer = if is_sent { whole_line(asked) } else { None };
        longest = longest.max(begun.elapsed());
        match answer.as_deref() {
            Some(b"STORED\r\n") => {
                won += 1;
                assert_eq!(held.fetch_add(1, Ordering::SeqCst), 0, "another has it, too");
                thread::sleep(Duration::from_micros(300));
                held.fetch_sub(1, Ordering::SeqCst);
                let begun = Instant::now();
                let is_sent = asked.try_send(b"delete sess.lock\r\n", PATIENCE);
                if !is_sent || whole_line(asked).is_none() {
                    client = None;
                }
                longest = longest.max(begun.elapsed());
            }
            Some(_) => thread::sleep(Duration::from_micros(500)),
            None => client = None,
        }
    }
    (won, longest)
}

#[test]
fn a_home_that_is_killed_in_a_race_and_comes_back_lets_nobody_share_a_lock() {
    let kills = if long_form() { 40 } else { 4 };
    for nodes in [2, 3] {
        let mut cluster = exclusive(nodes).start();
        let mut all = (0, Duration::ZERO);
        for kill in 0..kills {
            wait_until_one_decides(&mut cluster);
            let home = usize::try_from(cluster.nodes[0].told("lock_home")).unwrap() - 1;
            assert_eq!(home, 0, "the lowest decides");
            let dies = if kill % 4 == 3 { nodes - 1 } else { home };
            let (held, over) = (AtomicUsize::new(0), AtomicBool::new(false));
            let survivors = thread::scope(|scope| {
                let (held, over) = (&held, &over);
                let at = |node: usize| {
                    let address = cluster.nodes[node].address();
                    scope.spawn(move || use_lock(address, held, over))
                };
                let racers: Vec<_> = (0..nodes)
                    .filter(|node| *node != dies)
                    .flat_map(|node| [at(node), at(node)])
                    .collect();
                let theirs = [at(dies), at(dies)];
                thread::sleep(Duration::from_millis(150));
                cluster.nodes[dies].kill();
                thread::sleep(Duration::from_millis(500));
                over.store(true, Ordering::Relaxed);
                // Who asked the node that died does not count for how long answers took.
                theirs.into_iter().for_each(|racer| assert!(racer.join().is_ok()));
                racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
            });
            for (won, longest) in survivors {
                all = (all.0 + won, all.1.max(longest));
            }
            cluster.nodes[dies].start();
        }
        show(&format!(
            "{kills} kills of {nodes} nodes in a race for a lock: {} won at survivors, none shared, \
             no answer later than {:?}",
            all.0, all.1
        ));
        assert!(all.1 < Duration::from_secs(2), "{:?}", all.1);
        assert!(all.0 > 5 * kills, "{}", all.0);
    }
}

#[test]
fn a_home_that_stands_still_is_waited_for_less_than_a_second_and_then_done_without() {
    let mut cluster = exclusive(2).with(&["--ack-timeout", "50"]).start();
    wait_until_one_decides(&mut cluster);
    for _ in 0..2 {
        let mut client = cluster.client(1);
        client.ask("add sess.lock 0 15 1\r\n1\r\n", "STORED\r\n");
        let mut other = cluster.client(1);
        other.set("data", b"there");
        cluster.nodes[0].freeze();
        let (begun, host) = (Instant::now(), Host::watched());
        client.send("delete sess.lock\r\n");
        // Nobody else waits.
        other.ask("get data\r\n", "VALUE data 0 5\r\nthere\r\nEND\r\n");
        let others = begun.elapsed();
        client.expect("DELETED\r\n");
        let (waited, taken) = (begun.elapsed(), host.took());
        client.ask("add sess.lock 0 15 1\r\n1\r\n", "STORED\r\n");
        client.ask("delete sess.lock\r\n", "DELETED\r\n");
        cluster.nodes[0].thaw();
        show(&format!("a frozen home is waited for {waited:?}"));
        let others_max = waited.max(Duration::from_millis(400)) / 2;
        assert!(others < others_max, "somebody else waited for {others:?}");
        assert!(waited < Duration::from_secs(1) + taken, "{waited:?}, the host took {taken:?}");
        wait_until_one_decides(&mut cluster);
        cluster.client(0).ask("add sess.lock 0 15 1\r\n1\r\n", "STORED\r\n");
        cluster.client(1).ask("add sess.lock 0 15 1\r\n1\r\n", "NOT_STORED\r\n");
        cluster.client(1).ask("delete sess.lock\r\n", "DELETED\r\n");
    }
}

#[test]
fn nodes_that_cannot_talk_give_a_lock_once_on_each_side_and_once_in_all_when_they_can_again() {
    let mut cluster = exclusive(2).wired().start();
    for wire in [Wire::Cut, Wire::Silent] {
        wait_until_one_decides(&mut cluster);
        let split = [0, 1].map(|node| cluster.nodes[node].told("lock_split"));
        cluster.set(0, 1, wire);
        let mut clients = [cluster.client(0), cluster.client(1)];
        let begun = Instant::now();
        clients.iter_mut().for_each(|client| client.send("add sess.lock 0 60 1\r\n1\r\n"));
        let answers: Vec<_> = clients.iter_mut().map(Client::line).collect();
        let waited = begun.elapsed();
        show(&format!("wires {wire:?}: each side decides after {waited:?}"));
        assert!(waited < Duration::from_secs(4), "{waited:?}");
        // One may still have been told of the other's before the wire was cut.
        assert!(answers.iter().any(|answer| answer == b"STORED\r\n"), "{answers:?}");
        for client in &mut clients {
            client.ask("add side.lock 0 60 1\r\n1\r\n", "STORED\r\n");
            client.ask("add side.lock 0 60 1\r\n1\r\n", "NOT_STORED\r\n");
        }
        // What nodes tell is up to 100 ms old, and may be from before the cut or the adds.
        wait_until("both say that they decide alone, and did", || {
            let mut all = cluster.nodes.iter().zip(split);
            all.all(|(node, before)| {
                node.told("lock_nodes") == 1 && node.told("lock_split") > before
            })
        });
        cluster.set(0, 1, Wire::Whole);
        wait_until_one_decides(&mut cluster);
        for (index, client) in clients.iter_mut().enumerate() {
            if !client.is_served() {
                *client = cluster.client(index);
            }
            client.ask("add side.lock 0 60 1\r\n1\r\n", "NOT_STORED\r\n");
        }
        clients[1].ask("delete side.lock\r\n", "DELETED\r\n");
        clients[0].ask("delete side.lock\r\n", "NOT_FOUND\r\n");
        clients[0].ask("delete sess.lock\r\n", "DELETED\r\n");
        race(&mut cluster, "add", 100, adds);
        cluster.wait_until_identical();
    }
}
