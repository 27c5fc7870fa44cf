//! What the admin port of a node says of its peers.

use std::net::SocketAddr;

use crate::admin::{address_in, get, scrape};
use crate::client::wait_until;

use super::cluster::Plan;
use super::node::Node;
use super::proxy::Wire;

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

/// Where the node's admin port is.
fn admin(node: &Node) -> SocketAddr {
    address_in(&node.wait_until_it_says(&["the admin port is"])).unwrap()
}

/// The value of the one series that has all of `parts`.
fn value(addr: SocketAddr, parts: &[&str]) -> f64 {
    let all = scrape(addr);
    let mut found = all.iter().filter(|(series, _)| parts.iter().all(|part| series.contains(part)));
    let (_, &value) = found.next().unwrap_or_else(|| panic!("no {parts:?} in {all:#?}"));
    assert_eq!(found.count(), 0, "more than one {parts:?} in {all:#?}");
    value
}

fn is(addr: SocketAddr, parts: &[&str], wanted: f64) -> bool {
    value(addr, parts).to_bits() == wanted.to_bits()
}

#[test]
fn metrics_tell_of_a_pair_what_its_stats_tell_alike_and_cut() {
    let mut cluster = Plan::of(2).with(&ADMIN).wired().start();
    for near in [0, 1] {
        let addr = admin(&cluster.nodes[near]);
        let far_node = (2 - near).to_string();
        let of_the_peer = |family: &str| {
            let all = scrape(addr);
            let is_far = |series: &&String| {
                series.starts_with("twincached_peer_info")
                    && series.contains(&format!("node=\"{far_node}\""))
            };
            let info = all.keys().find(is_far).unwrap_or_else(|| panic!("no peer in {all:#?}"));
            let (_, peer) = info.split_once("peer=\"").unwrap();
            let (peer, _) = peer.split_once('"').unwrap();
            (all[&format!("twincached_peer_{family}{{peer={peer:?}}}")], info.clone())
        };
        let sent = || of_the_peer("sent_records_total").0;
        let before = sent();
        let mut client = cluster.client(near);
        (0..50).for_each(|n| client.set(&format!("k{n}"), b"v"));
        wait_until("what was sent is told", || sent() - before > 49.5);
        assert!(sent() - before < 50.5, "{before} before, {} after 50 writes", sent());
        wait_until("a round trip is measured", || of_the_peer("rtt_seconds").0 > 0.0);
        assert!(of_the_peer("rtt_seconds").0 < 1.0);
        let (in_sync, info) = of_the_peer("in_sync");
        assert!(in_sync > 0.5 && info.contains("state=\"streaming\""), "{info}");
        assert!(is(addr, &["replication_state{", "state=\"ready\""], 1.0));

        let all = scrape(addr);
        let stats = client.stats("replication");
        for (series, stat) in [
            ("ack_wait_seconds_count", "ack_waits"),
            ("ack_fallbacks_total", "ack_fallbacks"),
            ("peers_in_sync", "peers_in_sync"),
            ("floors{kind=\"tombstone\"}", "tombstones"),
            ("bootstrapped_alone", "bootstrapped_alone"),
        ] {
            let shown = all[&format!("twincached_replication_{series}")];
            assert_eq!(shown.to_string(), stats[stat], "{series}");
        }
        assert!(all["twincached_replication_ack_wait_seconds_count"] > 49.5, "{all:#?}");

        cluster.set(0, 1, Wire::Cut);
        wait_until("the cut is told", || is(addr, &["replication_peers_in_sync"], 0.0));
        let (in_sync, info) = of_the_peer("in_sync");
        assert!(in_sync < 0.5 && !info.contains("last_error=\"none\""), "{info}");
        client.ask("delete k0\r\n", "DELETED\r\n");
        assert!(value(addr, &["replication_floors{kind=\"tombstone\"}"]) > 0.5);
        client.set("k0", b"v");
        assert_eq!(get(addr, "/readyz").status, 200, "a node without its peer serves alone");
        cluster.set(0, 1, Wire::Whole);
        cluster.wait_until_in_sync();
    }
}

#[test]
fn a_node_that_waits_for_its_peers_is_healthy_and_not_ready_until_one_is_there() {
    let mut cluster = Plan::of(2).with(&ADMIN).with(&["--bootstrap-timeout", "wait"]).laid_out();
    cluster.nodes[0].start();
    let addr = admin(&cluster.nodes[0]);
    wait_until("it is loading", || get(addr, "/readyz").body.starts_with("loading"));
    let ready = get(addr, "/readyz");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert_eq!(get(addr, "/healthz").status, 200);
    assert!(cluster.nodes[0].try_connect().is_none(), "its client port is open");
    assert!(is(addr, &["replication_state{", "state=\"loading\""], 1.0));
    assert!(is(addr, &["twincached_ready"], 0.0));

    cluster.nodes[1].start();
    cluster.wait_until_in_sync();
    for node in &cluster.nodes {
        let addr = admin(node);
        assert_eq!(get(addr, "/readyz").status, 200);
        assert!(is(addr, &["replication_state{", "state=\"ready\""], 1.0));
    }
}
