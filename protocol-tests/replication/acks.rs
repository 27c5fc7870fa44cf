//! What clients may rely on when they are answered, and whom that costs time.

use std::time::{Duration, Instant};

use crate::client::{Client, wait_until};

use super::cluster::Plan;

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

#[test]
fn who_waits_for_a_frozen_peer_is_answered_in_time_and_others_do_not_wait_at_all() {
    let mut cluster = Plan::of(2).with(&["--ack-timeout", "1000"]).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let (mut writer, mut reader) = (cluster.client(near), cluster.client(near));
        let mut careless = cluster.client(near);
        writer.set("k", b"before");
        cluster.nodes[far].freeze();
        let begun = Instant::now();
        writer.send("set k 0 0 5\r\nafter\r\n");
        wait_until("it is stored", || reader.get("k").as_deref() == Some(&b"after"[..]));
        careless.send("set k2 0 0 1 noreply\r\nx\r\n");
        wait_until("it is stored, too", || reader.get("k2").is_some());
        careless.ask("get none\r\n", "END\r\n");
        let others = begun.elapsed();
        writer.expect("STORED\r\n");
        let answered = begun.elapsed();
        cluster.nodes[far].thaw();
        assert!(others < Duration::from_millis(900), "others waited for {others:?}");
        assert!(answered > Duration::from_millis(900), "the writer waited for {answered:?} only");
        assert!(answered < Duration::from_secs(3), "the writer waited for {answered:?}");
        assert!(cluster.nodes[near].told("ack_fallbacks") >= 1);
        cluster.wait_until_in_sync();
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(held["k"].value, b"after");
    }
}

#[test]
fn with_fallback_error_a_write_without_a_peer_is_refused_and_nothing_is_stored() {
    let mut cluster = Plan::of(2).with(&["--ack-fallback", "error"]).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let mut client = cluster.client(near);
        client.set("k", b"1");
        cluster.nodes[far].kill();
        let refused = "SERVER_ERROR replication timeout\r\n";
        // A peer that has just gone may have come back before the ack-timeout is over.
        wait_until("nobody is waited for any more", || {
            let mut early = cluster.client(near);
            early.send("set early 0 0 1\r\n1\r\n");
            early.line() == refused.as_bytes()
        });
        for request in [
            "set k 0 0 1\r\n2\r\n",
            "delete k\r\n",
            "touch k 10\r\n",
            "incr k 1\r\n",
            "flush_all\r\n",
        ] {
            client.ask(request, refused);
        }
        assert_eq!(client.get("k").as_deref(), Some(&b"1"[..]));
        cluster.nodes[far].start();
        cluster.wait_until_in_sync();
        client.set("k", b"3");
        assert_eq!(cluster.client(far).get("k").as_deref(), Some(&b"3"[..]));
    }
}
