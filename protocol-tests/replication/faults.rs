//! Nodes that stand still, and wires that are cut, silent or slow.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Host, long_form, machine_to_itself, show, wait_until};

use super::cluster::{Cluster, Plan};
use super::contents::contents;
use super::load::{Load, Shape};
use super::proxy::Wire;

/// Nodes are alike again so long after a fault has ended.
const HEALED: Duration = Duration::from_secs(2);

/// Memory that a frozen peer may cost beside the store: the log, and what waits on its link.
const BESIDE_KIB: u64 = (64 + 16) << 10;

/// Writes a second at a node, and their p99.9, during `time`.
fn written_for(cluster: &Cluster, node: usize, time: Duration) -> (f64, Duration) {
    let shape = Shape { clients: 2, keys: 2_000, ..Shape::default() };
    let load = Load::start("f", &[cluster.nodes[node].address()], &shape);
    thread::sleep(time);
    let written = load.written();
    let ledger = load.end();
    ledger.assert_undisturbed();
    (f64::from(u32::try_from(written).unwrap()) / time.as_secs_f64(), ledger.p999())
}

fn a_frozen_peer(ack: &str) {
    let _alone = machine_to_itself();
    let (before_time, time) = match long_form() {
        true => (Duration::from_secs(20), Duration::from_secs(20)),
        false => (Duration::from_secs(1), Duration::from_millis(2_500)),
    };
    let mut cluster = Plan::of(2).with(&["--ack", ack, "--ack-timeout", "50"]).start();
    for (frozen, writes) in [(1, 0), (0, 1)] {
        // Both keys and connections have been used before anything is measured.
        written_for(&cluster, writes, Duration::from_millis(300));
        let (before, p999_before) = written_for(&cluster, writes, before_time);
        let rss = cluster.nodes[writes].rss_kib();
        cluster.nodes[frozen].freeze();
        let (during, p999_during) = written_for(&cluster, writes, time);
        let grown = cluster.nodes[writes].rss_kib().saturating_sub(rss);
        assert_eq!(cluster.nodes[writes].told("peers_in_sync"), 0);
        let (thawed, host) = (Instant::now(), Host::watched());
        cluster.nodes[frozen].thaw();
        cluster.wait_until_in_sync();
        let (alike, _) = cluster.wait_until_identical();
        let (healed, taken) = (alike - thawed, host.took());
        show(&format!(
            "a peer stands still for {time:?} (--ack {ack}): p99.9 of a set {p999_during:.2?}, with the peer \
             {p999_before:.2?} (ratio {:.2}); {during:.0} sets/s, {before:.0} with it; {} MiB more memory; \
             alike {healed:.2?} later",
            p999_during.as_secs_f64() / p999_before.as_secs_f64(),
            grown >> 10
        ));
        assert!(grown < BESIDE_KIB, "{grown} KiB");
        assert!(healed < HEALED + taken, "{healed:?}, the host took {taken:?}");
        // Whoever waited for the peer each time would manage forty.
        assert!(during * 10.0 > before, "{during} sets/s with a frozen peer, {before} without");
    }
}

#[test]
fn a_peer_that_stands_still_costs_no_client_of_another_anything() {
    a_frozen_peer("async");
}

#[test]
fn a_peer_that_stands_still_is_waited_for_once_and_then_no_more() {
    a_frozen_peer("one");
}

#[test]
fn a_node_that_stood_still_answers_nobody_from_what_it_had() {
    let _alone = machine_to_itself();
    let rounds = if long_form() { 20 } else { 2 };
    let mut cluster = Plan::of(2).with(&["--ack-timeout", "50"]).start();
    for round in 0..rounds {
        let (frozen, writes) = (round % 2, 1 - round % 2);
        let mut early: Vec<_> = (0..20).map(|_| cluster.client(frozen)).collect();
        early[0].set("k", b"old");
        early.iter_mut().for_each(|client| assert!(client.get("k").is_some()));
        cluster.nodes[frozen].freeze();
        cluster.client(writes).set("k", b"new");
        thread::sleep(Duration::from_millis(2_300));
        early.iter_mut().for_each(|client| client.send("get k\r\n"));
        cluster.nodes[frozen].thaw();
        for client in &mut early {
            let said = client.last_words().map(|said| String::from_utf8(said).unwrap());
            assert!(
                said.as_ref().is_some_and(|said| !said.contains("old")),
                "a client that had asked the frozen node was answered {said:?}"
            );
        }
        cluster.wait_until_in_sync();
        assert_eq!(cluster.client(frozen).get("k").as_deref(), Some(&b"new"[..]));
        assert!(cluster.nodes[frozen].told("stalls") > 0);
    }
}

/// Nodes that do not hear each other know what is later by their clocks, to a millisecond.
fn later() {
    thread::sleep(Duration::from_millis(5));
}

/// What both sides of a cut do to the same keys.
fn write_on_both_sides(cluster: &Cluster) {
    let [mut left, mut right] = [0, 1].map(|node| cluster.client(node));
    left.ask("delete deleted_left\r\n", "DELETED\r\n");
    right.ask("delete deleted_right\r\n", "DELETED\r\n");
    let name = |number: usize| format!("both{number}");
    for number in 0..1_000 {
        let first = if number % 2 == 0 { &mut left } else { &mut right };
        first.set(&name(number), b"first");
    }
    later();
    for number in 0..1_000 {
        let second = if number % 2 == 0 { &mut right } else { &mut left };
        second.set(&name(number), b"second");
        second.set(&format!("only{number}"), b"here");
    }
    left.set("revived", b"left");
    right.ask("delete rewritten\r\n", "DELETED\r\n");
    right.ask("touch touched 1000\r\n", "TOUCHED\r\n");
    later();
    right.ask("delete revived\r\n", "DELETED\r\n");
    left.set("rewritten", b"left");
    left.ask("delete touched\r\n", "DELETED\r\n");
}

#[test]
fn after_a_cut_both_sides_hold_the_later_of_two_writes_and_what_was_deleted_stays_deleted() {
    let _alone = machine_to_itself();
    let cut = Duration::from_secs(if long_form() { 30 } else { 2 });
    for wire in [Wire::Cut, Wire::Silent] {
        let mut cluster = Plan::of(2).with(&["--ack-timeout", "50"]).wired().start();
        let mut client = cluster.client(0);
        for key in ["deleted_left", "deleted_right", "revived", "rewritten", "touched"] {
            client.set(key, b"old");
        }
        cluster.wait_until_identical();
        cluster.set(0, 1, wire);
        write_on_both_sides(&cluster);
        thread::sleep(cut);
        assert!(contents(&mut cluster.client(0)) != contents(&mut cluster.client(1)));
        let (whole, host) = (Instant::now(), Host::watched());
        cluster.set(0, 1, Wire::Whole);
        cluster.wait_until_in_sync();
        let (alike, held) = cluster.wait_until_identical();
        let (healed, taken) = (alike - whole, host.took());
        for number in 0..1_000 {
            assert_eq!(held[&format!("both{number}")].value, b"second", "both{number}");
            assert_eq!(held[&format!("only{number}")].value, b"here", "only{number}");
        }
        for key in ["deleted_left", "deleted_right", "revived", "touched"] {
            assert!(!held.contains_key(key), "{key} came back");
        }
        assert_eq!(held["rewritten"].value, b"left");
        show(&format!(
            "wires {wire:?} for {cut:?}, writes on both sides: alike {healed:.2?} later"
        ));
        assert!(healed < HEALED + taken, "{wire:?}: {healed:?}, the host took {taken:?}");
    }
}

#[test]
fn a_flush_on_one_side_of_a_cut_reaches_the_other_and_spares_what_was_written_later() {
    let mut cluster = Plan::of(2).with(&["--ack-timeout", "50"]).wired().start();
    for (flushes, other) in [(0, 1), (1, 0)] {
        cluster.client(0).set("before", b"1");
        cluster.set(0, 1, Wire::Cut);
        wait_until("both know", || {
            (0..2).all(|node| cluster.nodes[node].told("peers_in_sync") == 0)
        });
        cluster.client(other).set("during", b"1");
        later();
        cluster.client(flushes).ask("flush_all\r\n", "OK\r\n");
        later();
        cluster.client(other).set("later", b"1");
        cluster.set(0, 1, Wire::Whole);
        cluster.wait_until_in_sync();
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(held.keys().collect::<Vec<_>>(), ["later"]);
    }
}

#[test]
fn three_nodes_of_which_two_cannot_hear_each_other_are_alike_when_they_can() {
    let mut cluster = Plan::of(3).with(&["--ack-timeout", "50"]).wired().start();
    cluster.set(0, 1, Wire::Cut);
    for node in 0..3 {
        let mut client = cluster.client(node);
        for number in 0..200 {
            client.set(&format!("k{number}"), format!("of {node}").as_bytes());
        }
    }
    cluster.set(0, 1, Wire::Whole);
    cluster.wait_until_in_sync();
    let (_, held) = cluster.wait_until_identical();
    assert!(held.len() == 200 && held.values().all(|item| item.value == b"of 2"));
}

#[test]
fn a_slow_wire_costs_bounded_memory_and_ends_with_the_same_on_both_sides() {
    let _alone = machine_to_itself();
    let mut cluster = Plan::of(2).with(&["--ack", "async", "-m", "128"]).wired().start();
    for (writes, reads) in [(0, 1), (1, 0)] {
        cluster.wires(0, 1).for_each(|proxy| {
            proxy.limit(1_000_000);
            proxy.delay(Duration::from_millis(20));
        });
        let shape = Shape {
            clients: 2,
            value_bytes: 20_000,
            pause: Duration::from_micros(200),
            ..Shape::default()
        };
        let load = Load::start("s", &[cluster.nodes[writes].address()], &shape);
        load.wait_for(2_000);
        let rss = cluster.nodes[writes].rss_kib();
        load.wait_for(2_000);
        let grown = cluster.nodes[writes].rss_kib().saturating_sub(rss);
        let ledger = load.end();
        ledger.assert_undisturbed();
        assert!(cluster.client(reads).is_served());
        cluster.wires(0, 1).for_each(|proxy| {
            proxy.limit(0);
            proxy.delay(Duration::ZERO);
        });
        assert!(grown < BESIDE_KIB, "{grown} KiB");
        cluster.wait_until_in_sync();
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(ledger.lost_in(&held).len(), 0);
        assert_eq!(held.len(), 1_000);
    }
}

#[test]
fn a_link_that_flaps_loses_nothing() {
    let _alone = machine_to_itself();
    let flaps = if long_form() { 100 } else { 8 };
    let mut cluster = Plan::of(2).with(&["--ack", "async"]).wired().start();
    let shape = Shape { clients: 1, pause: Duration::from_micros(300), ..Shape::default() };
    let loads = [("a", 0), ("b", 1)]
        .map(|(name, node)| Load::start(name, &[cluster.nodes[node].address()], &shape));
    for flap in 0..flaps {
        cluster.set(0, 1, if flap % 3 == 2 { Wire::Silent } else { Wire::Cut });
        loads.iter().for_each(|load| load.wait_for(30));
        cluster.set(0, 1, Wire::Whole);
        loads.iter().for_each(|load| load.wait_for(30));
    }
    cluster.wait_until_in_sync();
    let ledgers = loads.map(Load::end);
    let (_, held) = cluster.wait_until_identical();
    for ledger in ledgers {
        assert_eq!(ledger.lost_in(&held).len(), 0);
        ledger.assert_undisturbed();
    }
}
