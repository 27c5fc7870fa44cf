//! Nodes that were apart for longer than they remember what was deleted.

use crate::client::{Client, wait_until};

use super::cluster::{Cluster, Plan};
use super::proxy::Wire;

/// So many keys that the smallest log forgets what was before them.
const MORE: usize = 60_000;

fn write_more(client: &mut Client) {
    let lines: String = (0..MORE).map(|n| format!("set more{n} 0 0 1 noreply\r\nx\r\n")).collect();
    client.send(lines);
    client.ask("mn\r\n", "MN\r\n");
}

/// A pair that was apart for longer than the horizon, in which the first deleted a session and both
/// were written to, and is together again.
fn apart_and_together(policy: &str) -> Cluster {
    let flags = ["--tombstone-horizon", "1", "--replication-log", "1", "--after-long-separation"];
    let mut cluster = Plan::of(2).with(&flags).with(&[policy]).wired().start();
    cluster.client(0).set("session", b"somebody");
    cluster.client(0).set("kept", b"v");
    cluster.wait_until_identical();
    cluster.set(0, 1, Wire::Cut);
    wait_until("the cut is seen", || cluster.nodes[0].told("peers_in_sync") == 0);
    cluster.client(1).set("alone", b"v");
    cluster.client(0).ask("delete session\r\n", "DELETED\r\n");
    wait_until("the delete is forgotten, and told", || {
        cluster.nodes[0].told("purged_unstable") > 0
    });
    write_more(&mut cluster.client(0));
    cluster.set(0, 1, Wire::Whole);
    wait_until("it is counted", || cluster.nodes[0].told("long_separations") > 0);
    cluster.wait_until_in_sync();
    cluster.wait_until_identical();
    cluster
}

#[test]
fn a_deleted_session_does_not_come_back_after_a_long_separation_with_a_node_that_wipes() {
    let cluster = apart_and_together("wipe");
    for node in [0, 1] {
        let mut client = cluster.client(node);
        assert_eq!(client.get("session"), None);
        assert_eq!(client.get("alone"), None, "the price");
        assert!(client.get("kept").is_some() && client.get("more59999").is_some());
    }
    let wipes: Vec<u64> = cluster.nodes.iter().map(|node| node.told("wipes")).collect();
    assert_eq!(wipes, [0, 1]);
    cluster.nodes[1].wait_until_it_says(&["WARN", "we forget what we have"]);
    cluster.nodes[0].wait_until_it_says(&["it forgets what it has"]);
}

#[test]
fn merged_after_a_long_separation_nodes_keep_everything_and_say_what_that_means() {
    let cluster = apart_and_together("merge");
    for node in [0, 1] {
        let mut client = cluster.client(node);
        assert!(client.get("alone").is_some() && client.get("more59999").is_some());
        assert_eq!(cluster.nodes[node].told("wipes"), 0);
        let words = ["WARN", "may come back", "--after-long-separation"];
        cluster.nodes[node].wait_until_it_says(&words);
    }
}
