//! Nodes that are killed, stopped, started and frozen.

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::cluster::Cluster;
use crate::client::{Client, wait_until};

fn value(number: usize) -> Vec<u8> {
    format!("value-{number}-").repeat(20).into_bytes()
}

/// Writes so many values and reads the answer to each.
fn fill(client: &mut Client, count: usize) {
    for number in 0..count {
        client.set(&format!("k{number}"), &value(number));
    }
}

#[track_caller]
fn assert_filled(client: &mut Client, count: usize) {
    let held = (0..count).filter(|n| client.get(&format!("k{n}")) == Some(value(*n)));
    assert_eq!(held.count(), count);
}

#[test]
fn what_was_answered_survives_kill_9_and_a_node_that_starts_empty_gets_it_all() {
    let mut cluster = Cluster::start(2, &["--ack-timeout", "5000"]);
    for round in 0..2 {
        let (dies, lives) = (round, 1 - round);
        let mut client = cluster.0[dies].client();
        fill(&mut client, 500);
        client.ask("delete k0\r\n", "DELETED\r\n");
        cluster.0[dies].kill();
        assert_eq!(cluster.0[lives].client().get("k0"), None, "deleted stays deleted");
        cluster.0[lives].client().set("k0", &value(0));
        assert_filled(&mut cluster.0[lives].client(), 500);
        assert!(cluster.0[dies].refuses());
        cluster.0[dies].start();
        assert_filled(&mut cluster.0[dies].client(), 500);
        cluster.wait_until_in_sync();
    }
    cluster.assert_sound();
}

#[test]
fn clients_are_refused_until_a_node_has_what_its_peers_have() {
    let mut cluster = Cluster::start(2, &["--ack-timeout", "5000", "-m", "256"]);
    let mut client = cluster.0[0].client();
    let large = vec![b'v'; 1 << 19];
    for number in 0..200 {
        client.set(&format!("large-{number}"), &large);
    }
    cluster.0[1].kill();
    // It is asked all the time while it loads 100 MB: refused, or answered with everything.
    let node = &mut cluster.0[1];
    let port = node.client_port;
    let started = std::thread::scope(|scope| {
        let asking = scope.spawn(move || {
            let mut refused = 0;
            loop {
                match std::net::TcpStream::connect(("127.0.0.1", port)) {
                    Ok(stream) => {
                        let missing = Client::over(stream).get("large-199").is_none();
                        return (refused, missing);
                    }
                    Err(_) => refused += 1,
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        node.start();
        asking.join().unwrap()
    });
    let (refused, missing) = started;
    assert!(refused > 5, "it was refused {refused} times");
    assert!(!missing, "whoever is served finds everything");
    let mut reader = cluster.0[1].client();
    for number in 0..200 {
        assert_eq!(reader.get(&format!("large-{number}")).as_ref(), Some(&large));
    }
}

#[test]
fn nodes_that_start_together_serve_at_once_and_find_each_other() {
    for _ in 0..10 {
        let mut cluster = Cluster::of(3, &[]);
        let begun = std::time::Instant::now();
        cluster.start_all();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "they served after {took:?}");
        cluster.wait_until_in_sync();
        cluster.0[0].client().set("k", b"v");
        wait_until("every node has it", || {
            cluster.0.iter().all(|node| node.client().get("k").is_some())
        });
        for node in &cluster.0 {
            assert_eq!(node.client().stats("replication")["bootstrapped_alone"], "0");
        }
    }
}

#[test]
fn a_node_without_a_peer_serves_after_the_bootstrap_timeout_and_says_so() {
    let mut cluster = Cluster::of(2, &["--bootstrap-timeout", "2"]);
    let begun = std::time::Instant::now();
    cluster.0[0].start();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let mut client = cluster.0[0].client();
    assert_eq!(client.stats("replication")["bootstrapped_alone"], "1");
    assert_eq!(client.stats("")["replication"], "none");
    client.set("k", b"alone");
    cluster.0[1].start();
    assert_eq!(cluster.0[1].client().get("k").as_deref(), Some(&b"alone"[..]));
    cluster.wait_until_in_sync();
    wait_until("it is told", || client.stats("")["replication"] == "MASTER");
}

#[test]
fn a_planned_stop_hands_everything_over_even_if_nobody_waited_for_it() {
    let mut cluster = Cluster::start(2, &["--ack", "async"]);
    for round in 0..4 {
        let (stops, stays) = (round % 2, (round + 1) % 2);
        let mut client = cluster.0[stops].client();
        for number in 0..2_000 {
            client.set(&format!("k{number}"), &value(number + round));
        }
        cluster.0[stops].stop();
        let mut other = cluster.0[stays].client();
        let held =
            (0..2_000).filter(|n| other.get(&format!("k{n}")) == Some(value(*n + round))).count();
        assert_eq!(held, 2_000, "round {round}");
        cluster.0[stops].start();
        cluster.wait_until_in_sync();
    }
}

#[test]
fn a_node_that_stood_still_serves_nobody_until_it_has_caught_up() {
    let mut cluster = Cluster::start(2, &[]);
    let (mut frozen, mut other) = (cluster.0[0].client(), cluster.0[1].client());
    frozen.set("k", b"old");
    cluster.0[0].signal(Signal::SIGSTOP);
    other.set("k", b"new");
    // Longer than a node may stand still unnoticed.
    std::thread::sleep(Duration::from_millis(2_500));
    // This is the first thing that it finds.
    frozen.send("get k\r\n");
    cluster.0[0].signal(Signal::SIGCONT);
    let line = frozen.line();
    if !line.is_empty() {
        // It had caught up by then; else it sends its clients away.
        assert_eq!(line, b"VALUE k 0 3\r\n");
        frozen.expect("new\r\nEND\r\n");
    }
    wait_until("it serves again", || {
        Client::try_of(cluster.0[0].server()).is_some_and(|mut client| client.is_served())
    });
    assert_eq!(cluster.0[0].client().get("k").as_deref(), Some(&b"new"[..]));
    assert_eq!(cluster.0[0].client().stats("replication")["stalls"], "1");
    cluster.wait_until_in_sync();
    cluster.assert_sound();
}

#[test]
fn a_client_port_that_is_taken_ends_the_start_with_its_reason() {
    let cluster = Cluster::of(2, &[]);
    let port = cluster.0[0].client_port;
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let said = cluster.0[0].launch().err().expect("it cannot start");
    assert!(said.contains(&format!("failed to listen on TCP port {port}")), "{said}");
}
