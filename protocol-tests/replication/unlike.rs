//! Nodes that are not alike: in memory, and in what their clocks say.

use std::thread;
use std::time::Duration;

use crate::client::{Client, wait_until};

use super::cluster::Plan;
use super::contents::contents;

fn fill(client: &mut Client, name: &str, items: usize) {
    let value = vec![b'v'; 10_000];
    for number in 0..items {
        client.set(&format!("{name}{number}"), &value);
    }
}

#[test]
fn a_small_node_forgets_what_it_has_no_room_for_and_a_large_one_keeps_it() {
    let mut cluster = Plan::of(2).with_at(0, &["-m", "256"]).with_at(1, &["-m", "16"]).start();
    let (mut large, mut small) = (cluster.client(0), cluster.client(1));
    fill(&mut large, "large", 3_000);
    fill(&mut small, "small", 3_000);
    assert_eq!(large.stat("evictions"), 0);
    assert!(small.stat("evictions") > 1_000);
    let all = contents(&mut large);
    assert_eq!(all.len(), 6_000);
    let few = contents(&mut small);
    assert!(few.len() > 100 && few.len() < 2_000, "{}", few.len());
    for (key, item) in &few {
        assert!(all.get(key) == Some(item), "{key}");
    }
    assert!(few.contains_key("small2999"), "what was written last is there");
    // The small one starts empty: it gets what it has room for, and the large one loses nothing by it.
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    cluster.wait_until_in_sync();
    let mut small = cluster.client(1);
    assert!(contents(&mut large) == all, "the large one is as it was");
    assert_eq!(large.stat("evictions"), 0);
    let few = contents(&mut small);
    assert!(few.len() > 100 && few.len() < 2_000, "{}", few.len());
    assert!(few.iter().all(|(key, item)| all.get(key) == Some(item)));
    // The large one starts empty: it gets what there is, and the small one keeps serving it.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.wait_until_in_sync();
    let mut large = cluster.client(0);
    fill(&mut large, "later", 100);
    let (all, few) = (contents(&mut large), contents(&mut small));
    assert!(all.len() > 100);
    assert!(few.iter().all(|(key, item)| all.get(key) == Some(item)));
}

#[test]
fn clocks_that_are_a_little_off_decide_nothing_that_clients_see_in_their_order() {
    for offset in ["200", "-200", "5000", "-5000"] {
        let mut cluster = Plan::of(2).with_at(1, &["--test-clock-offset-ms", offset]).start();
        let mut clients = [cluster.client(0), cluster.client(1)];
        for round in 0..50 {
            let writer = &mut clients[round % 2];
            writer.set("k", format!("round {round}").as_bytes());
            for client in &mut clients {
                assert_eq!(
                    client.get("k").map(|value| String::from_utf8(value).unwrap()),
                    Some(format!("round {round}")),
                    "clocks {offset} ms apart"
                );
            }
        }
        let [one, other] = &mut clients;
        other.ask("delete k\r\n", "DELETED\r\n");
        one.ask("get k\r\n", "END\r\n");
        one.set("k", b"again");
        other.ask("flush_all\r\n", "OK\r\n");
        one.ask("get k\r\n", "END\r\n");
        one.set("k", b"after the flush");
        other.ask("set expires 0 100 1\r\nx\r\n", "STORED\r\n");
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(held["k"].value, b"after the flush");
        cluster.wait_until_in_sync();
    }
}

#[test]
fn an_item_expires_on_both_nodes_at_the_same_second() {
    let cluster = Plan::of(2).start();
    for (from, to) in [(0, 1), (1, 0)] {
        let (mut writer, mut reader) = (cluster.client(from), cluster.client(to));
        writer.ask("set short 0 2 1\r\nx\r\n", "STORED\r\n");
        writer.ask("set longer 0 2 1\r\nx\r\n", "STORED\r\n");
        reader.ask("touch longer 100\r\n", "TOUCHED\r\n");
        assert!(reader.get("short").is_some());
        wait_until("it has expired where it was written", || writer.get("short").is_none());
        thread::sleep(Duration::from_millis(1_000));
        assert_eq!(reader.get("short"), None);
        assert!(writer.get("longer").is_some() && reader.get("longer").is_some());
    }
}

#[test]
fn a_clock_two_hours_off_is_refused_with_a_line_that_names_the_peer() {
    for offset in ["7200000", "-7200000"] {
        let mut cluster = Plan::of(2)
            .with(&["--bootstrap-timeout", "1"])
            .with_at(1, &["--test-clock-offset-ms", offset])
            .laid_out();
        cluster.nodes.iter_mut().for_each(super::node::Node::start);
        for node in &mut cluster.nodes {
            node.wait_until_it_serves();
            let line = node.wait_until_it_says(&["ERROR", "clock", "--max-clock-skew"]);
            assert!(line.contains("addr=127.0.0.1"), "{line}");
            assert!(
                line.contains("(clock_skew:7200_s)") || line.contains("(clock_skew:7199_s)"),
                "{line}"
            );
        }
        for (from, to) in [(0, 1), (1, 0)] {
            cluster.client(from).set(&format!("of{from}"), b"v");
            assert_eq!(cluster.client(to).get(&format!("of{from}")), None);
            assert_eq!(cluster.nodes[from].told("peers_in_sync"), 0);
        }
        // With its clock set right it is a peer.
        cluster.nodes[1].kill();
        cluster.nodes[1].add_flags(&["--test-clock-offset-ms", "0"]);
        cluster.nodes[1].start();
        cluster.wait_until_in_sync();
        assert!(cluster.client(1).get("of0").is_some());
    }
}
