//! What `stats replication` says, in each state that a pair can be in.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::client::wait_until;

use super::cluster::{Cluster, Plan};
use super::proxy::Wire;

type Stats = BTreeMap<String, String>;

/// A peer's statistics of a node of a pair, without the peer's number: ours is not linked.
fn of_the_peer(stats: &Stats, peer_node: &str) -> Stats {
    let number =
        (0..3).find(|n| stats.get(&format!("peer{n}:node")).is_some_and(|v| v == peer_node));
    let prefix =
        format!("peer{}:", number.unwrap_or_else(|| panic!("no {peer_node} in {stats:?}")));
    let own = |(name, value): (&String, &String)| {
        name.strip_prefix(&prefix).map(|name| (name.to_owned(), value.clone()))
    };
    stats.iter().filter_map(own).collect()
}

fn stats(cluster: &Cluster, node: usize) -> Stats {
    cluster.client(node).stats("replication")
}

fn number(stats: &Stats, name: &str) -> u64 {
    stats.get(name).unwrap_or_else(|| panic!("no {name} in {stats:?}")).parse().unwrap()
}

#[test]
fn stats_are_true_while_a_pair_is_alike_cut_and_alike_again() {
    let mut cluster = Plan::of(2).with(&["--ack-timeout", "200"]).wired().start();
    for (near, far) in [(0, 1), (1, 0)] {
        let far_node = (far + 1).to_string();
        let before = of_the_peer(&stats(&cluster, near), &far_node);
        let mut client = cluster.client(near);
        (0..50).for_each(|n| client.set(&format!("k{n}"), b"v"));
        let sent = |stats: &Stats| number(stats, "sent_records");
        wait_until("what was sent is told, and a round trip", || {
            let peer = of_the_peer(&stats(&cluster, near), &far_node);
            sent(&peer) - sent(&before) == 50 && number(&peer, "rtt_us") > 0
        });
        let node = stats(&cluster, near);
        let peer = of_the_peer(&node, &far_node);
        assert_eq!((node["state"].as_str(), node["peers_in_sync"].as_str()), ("ready", "1"));
        assert_eq!(node["node"], (near + 1).to_string());
        assert_eq!((peer["state"].as_str(), peer["in_sync"].as_str()), ("streaming", "yes"));
        // But for the moment in which a heartbeat is on its way.
        wait_until("nothing lags", || {
            let peer = of_the_peer(&stats(&cluster, near), &far_node);
            ["lag_ms", "lag_records", "lag_bytes", "queued_bytes"].iter().all(|n| peer[*n] == "0")
        });
        assert!(number(&node, "ack_waits") >= 50, "{node:?}");
        let fallbacks = number(&node, "ack_fallbacks");
        assert_eq!(client.stats("")["replication"], "MASTER");

        cluster.set(0, 1, Wire::Cut);
        wait_until("the cut is told", || stats(&cluster, near)["peers_in_sync"] == "0");
        (0..20).for_each(|n| client.set(&format!("alone{n}"), b"v"));
        wait_until("what it lacks is told", || {
            number(&of_the_peer(&stats(&cluster, near), &far_node), "lag_records") == 20
        });
        let node = stats(&cluster, near);
        let peer = of_the_peer(&node, &far_node);
        assert_eq!((node["state"].as_str(), peer["in_sync"].as_str()), ("ready", "no"));
        assert!(["down", "dialling"].contains(&peer["state"].as_str()), "{peer:?}");
        assert_eq!(number(&peer, "link_downs"), number(&before, "link_downs") + 1);
        let error = peer["last_error"].as_str();
        assert!(
            ["connection_lost", "unreachable", "not_authenticated"].contains(&error),
            "{error}"
        );
        assert!(number(&peer, "lag_bytes") >= 20 * "alone0".len() as u64, "{peer:?}");
        assert_eq!(number(&node, "ack_fallbacks"), fallbacks + 20);
        assert_eq!(client.stats("")["replication"], "none");
        client.ask("delete alone0\r\n", "DELETED\r\n");
        assert!(stats(&cluster, near)["tombstones"] != "0", "kept while a peer does not know");

        cluster.set(0, 1, Wire::Whole);
        cluster.wait_until_in_sync();
        let resumed = || {
            let peer = of_the_peer(&stats(&cluster, near), &far_node);
            number(&peer, "resumes") > number(&before, "resumes") && peer["in_sync"] == "yes"
        };
        wait_until("it went on where it was", resumed);
        let peer = of_the_peer(&stats(&cluster, near), &far_node);
        assert_eq!(
            (peer["last_error"].as_str(), peer["lag_records"].as_str()),
            ("connection_lost", "0")
        );
        wait_until("nobody needs tombstones", || stats(&cluster, near)["tombstones"] == "0");
        cluster.wait_until_identical();
    }
    cluster.assert_nothing_was_repaired();
}

#[test]
fn stats_tell_of_a_peer_that_was_waited_for_in_vain() {
    let mut cluster = Plan::of(2).with(&["--ack-timeout", "100"]).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let timeouts = cluster.nodes[near].told("ack_timeouts");
        cluster.nodes[far].freeze();
        cluster.client(near).set("k", b"v");
        wait_until("the timeout is told", || cluster.nodes[near].told("ack_timeouts") > timeouts);
        let node = stats(&cluster, near);
        assert_eq!(node["peers_in_sync"], "0");
        let peer = of_the_peer(&node, &(far + 1).to_string());
        assert_eq!(peer["in_sync"], "no");
        wait_until("the lag grows", || {
            let peer = of_the_peer(&stats(&cluster, near), &(far + 1).to_string());
            number(&peer, "lag_ms") > 200
        });
        cluster.nodes[near].wait_until_it_says(&["peer too slow"]);
        cluster.nodes[far].thaw();
        cluster.wait_until_in_sync();
        let peer = format!("peer=127.0.0.1:{}", cluster.nodes[far].peer_port);
        cluster.nodes[near].wait_until_it_says(&["WARN", "peer too slow", &peer]);
        cluster.nodes[near].wait_until_it_says(&["WARN", "peer in sync again", &peer]);
    }
}

#[test]
fn stats_tell_of_a_node_that_serves_alone_and_of_one_that_has_been_sent_everything() {
    let mut cluster = Plan::of(2).with(&["--bootstrap-timeout", "1"]).laid_out();
    cluster.nodes[0].start();
    let took = cluster.nodes[0].wait_until_it_serves();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert_eq!(cluster.nodes[0].told("bootstrapped_alone"), 1);
    cluster.nodes[0].wait_until_it_says(&["no peer was linked in time"]);
    (0..30).for_each(|n| cluster.client(0).set(&format!("k{n}"), b"v"));
    cluster.nodes[1].start();
    cluster.wait_until_in_sync();
    assert_eq!(cluster.nodes[1].told("bootstrapped_alone"), 0);
    // Shown a moment later.
    wait_until("it is told what was loaded", || {
        let loaded = stats(&cluster, 1);
        let peers = (0..2).map(|n| number(&loaded, &format!("peer{n}:received_records")));
        peers.sum::<u64>() >= 30
    });
    wait_until("it is told who was loaded", || {
        let source = stats(&cluster, 0);
        (0..2).map(|n| number(&source, &format!("peer{n}:scans_boot"))).sum::<u64>() == 1
    });
}

#[test]
fn a_write_that_lost_to_one_made_at_the_same_time_is_counted_where_it_was_made() {
    let mut cluster = Plan::of(2).wired().start();
    let counts = |cluster: &Cluster| [0, 1].map(|node| cluster.nodes[node].told("conflicts"));
    for (near, far) in [(0, 1), (1, 0)] {
        cluster.client(near).set("k", b"known");
        cluster.wait_until_identical();
        cluster.client(far).set("k", b"later");
        cluster.wait_until_identical();
        let before = counts(&cluster);
        cluster.set(0, 1, Wire::Cut);
        wait_until("the cut is told", || stats(&cluster, near)["peers_in_sync"] == "0");
        cluster.client(near).set("k", b"lost");
        thread::sleep(Duration::from_millis(20));
        cluster.client(far).set("k", b"won");
        cluster.set(0, 1, Wire::Whole);
        cluster.wait_until_in_sync();
        let (_, held) = cluster.wait_until_identical();
        assert_eq!(held["k"].value, b"won");
        let mut expected = before;
        expected[near] += 1;
        wait_until("the conflict is counted", || counts(&cluster) == expected);
    }
}

#[test]
fn a_reset_of_the_statistics_counts_waits_anew() {
    let cluster = Plan::of(2).start();
    let mut client = cluster.client(0);
    (0..20).for_each(|n| client.set(&format!("k{n}"), b"v"));
    assert!(cluster.nodes[0].told("ack_waits") >= 20);
    client.ask("stats reset\r\n", "RESET\r\n");
    for name in ["ack_waits", "ack_wait_us", "ack_fallbacks", "ack_timeouts", "ack_wait_longer"] {
        assert_eq!(cluster.nodes[0].told(name), 0, "{name}");
    }
    wait_until("what was sent is still told", || {
        number(&of_the_peer(&stats(&cluster, 0), "2"), "sent_records") >= 20
    });
}
