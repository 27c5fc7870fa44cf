//! What clients may rely on when they are answered, and whom that costs time.

use std::time::{Duration, Instant};

use crate::client::{Client, machine_to_itself, show, wait_until};
use crate::frame::request;

use super::cluster::Plan;
use super::load::{Load, Shape};

fn cas_of(client: &mut Client, key: &str) -> String {
    client.send(format!("gets {key}\r\n"));
    let line = String::from_utf8(client.line()).unwrap();
    client.line();
    client.expect("END\r\n");
    line.trim_end().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_cas_unique_means_the_same_on_every_node() {
    let cluster = Plan::of(3).with(&["--ack", "all"]).start();
    for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
        let (mut writer, mut other) = (cluster.client(from), cluster.client(to));
        writer.set("shared", b"first");
        let seen = cas_of(&mut other, "shared");
        assert_eq!(seen, cas_of(&mut writer, "shared"));
        writer.ask("touch shared 100\r\n", "TOUCHED\r\n");
        other.ask(format!("cas shared 0 0 6 {seen}\r\nsecond\r\n"), "STORED\r\n");
        writer.ask(format!("cas shared 0 0 5 {seen}\r\nthird\r\n"), "EXISTS\r\n");
        assert_eq!(writer.get("shared").as_deref(), Some(&b"second"[..]));
    }
}

/// Hardly less than the time for which a frozen peer is waited for here.
const NEARLY: Duration = Duration::from_millis(1_400);

#[test]
fn who_waits_for_a_frozen_peer_is_answered_in_time_and_others_do_not_wait_at_all() {
    let mut cluster = Plan::of(2).with(&["--ack-timeout", "1500"]).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let (mut writer, mut reader) = (cluster.client(near), cluster.client(near));
        let [mut careless, mut framed] = [(); 2].map(|()| cluster.client(near));
        writer.set("k", b"before");
        cluster.nodes[far].freeze();
        let begun = Instant::now();
        writer.send("set k 0 0 5\r\nafter\r\n");
        wait_until("it is stored", || reader.get("k").as_deref() == Some(&b"after"[..]));
        careless.ask(
            "set k2 0 0 1 noreply\r\nx\r\nget k2\r\nms k3 1 q\r\ny\r\nmg k3 v\r\n",
            "VALUE k2 0 1\r\nx\r\nEND\r\nVA 1\r\ny\r\n",
        );
        let quietly = ["setq key=k4 value=z", "deleteq key=k2", "get key=k4"].map(request).concat();
        framed.send(quietly);
        framed.expect_frame("get flags=0 value=z cas={c=number}");
        let others = begun.elapsed();
        careless.send("mn\r\n");
        framed.send(request("noop"));
        writer.expect("STORED\r\n");
        let mut asked = Vec::new();
        careless.expect("MN\r\n");
        asked.push(begun.elapsed());
        framed.expect_frame("noop");
        asked.push(begun.elapsed());
        let answered = begun.elapsed();
        cluster.nodes[far].thaw();
        assert!(others < NEARLY, "others waited for {others:?}");
        for asked in asked {
            assert!(asked > NEARLY, "a no-op waited for {asked:?} only");
        }
        assert!(answered > NEARLY, "the writer waited for {answered:?} only");
        assert!(answered < 3 * NEARLY, "the writer waited for {answered:?}");
        assert!(cluster.nodes[near].told("ack_fallbacks") >= 1);
        cluster.wait_until_in_sync();
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(held["k"].value, b"after");
    }
}

/// How long a client may notice that a peer has died: far from the twenty seconds for which one that
/// lives is waited for, and longer than a crowded machine lets a node stand still.
const NOTICED: Duration = Duration::from_secs(5);

#[test]
fn who_waits_for_a_peer_is_answered_when_it_dies_and_nobody_waits_for_it_after_that() {
    let mut cluster = Plan::of(2).with(&["--ack-timeout", "20000"]).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let (mut writer, mut reader) = (cluster.client(near), cluster.client(near));
        let fallbacks = cluster.nodes[near].told("ack_fallbacks");
        // A peer that stands still is still waited for: its connection lives.
        cluster.nodes[far].freeze();
        writer.send("set k 0 0 5\r\nafter\r\n");
        wait_until("it is stored", || reader.get("k").as_deref() == Some(&b"after"[..]));
        let killed = Instant::now();
        cluster.nodes[far].kill();
        writer.expect("STORED\r\n");
        assert!(killed.elapsed() < NOTICED, "the writer waited for {:?}", killed.elapsed());
        let later = Instant::now();
        for number in 0..100 {
            writer.set(&format!("k{number}"), b"alone");
        }
        assert!(later.elapsed() < NOTICED, "100 writes took {:?}", later.elapsed());
        assert_eq!(cluster.nodes[near].told("ack_fallbacks"), fallbacks + 101);
        assert_eq!(cluster.nodes[near].told("peers_awaited"), 0);
        cluster.nodes[far].start();
        cluster.wait_until_in_sync();
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(
            (held["k"].value.as_slice(), held["k99"].value.as_slice()),
            (&b"after"[..], &b"alone"[..])
        );
    }
}

#[test]
fn no_client_waits_long_when_the_peer_of_its_node_is_killed() {
    let _alone = machine_to_itself();
    let mut cluster = Plan::by_default(2).start();
    let mut longest = Duration::ZERO;
    for cycle in 0..6 {
        let (lives, dies) = (cycle % 2, 1 - cycle % 2);
        let load = Load::start(
            &format!("c{cycle}_"),
            &[cluster.nodes[lives].address()],
            &Shape::default(),
        );
        load.wait_for(500);
        cluster.nodes[dies].kill();
        load.wait_for(500);
        let ledger = load.end();
        ledger.assert_undisturbed();
        longest = ledger.waits.iter().copied().chain([longest]).max().unwrap();
        cluster.nodes[dies].start();
        cluster.wait_until_in_sync();
    }
    show(&format!(
        "kill -9 of a peer, 6 times under load, default options: no write at the survivor took longer \
         than {longest:.1?}"
    ));
    assert!(longest < NOTICED, "{longest:?}");
}
