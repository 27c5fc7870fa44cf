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

/// A pair that was apart for longer than the horizon, in which `near` deleted a session and both were
/// written to, and is together again.
fn apart_and_together(policy: &str, near: usize) -> Cluster {
    let far = 1 - near;
    let flags = ["--tombstone-horizon", "1", "--replication-log", "1", "--after-long-separation"];
    let mut cluster = Plan::of(2).with(&flags).with(&[policy]).wired().start();
    cluster.client(near).set("session", b"somebody");
    cluster.client(near).set("kept", b"v");
    cluster.wait_until_identical();
    cluster.set(0, 1, Wire::Cut);
    wait_until("the cut is seen", || cluster.nodes[near].told("peers_in_sync") == 0);
    cluster.client(far).set("alone", b"v");
    cluster.client(near).ask("delete session\r\n", "DELETED\r\n");
    wait_until("the delete is forgotten, and told", || {
        cluster.nodes[near].told("purged_unstable") > 0
    });
    write_more(&mut cluster.client(near));
    cluster.set(0, 1, Wire::Whole);
    wait_until("it is counted", || cluster.nodes[near].told("long_separations") > 0);
    cluster.wait_until_in_sync();
    cluster.wait_until_identical();
    cluster
}

#[test]
fn a_deleted_session_does_not_come_back_after_a_long_separation_with_a_node_that_wipes() {
    for (near, far) in [(0, 1), (1, 0)] {
        let cluster = apart_and_together("wipe", near);
        for node in [near, far] {
            let mut client = cluster.client(node);
            assert_eq!(client.get("session"), None);
            assert_eq!(client.get("alone"), None, "the price");
            assert!(client.get("kept").is_some() && client.get("more59999").is_some());
        }
        assert_eq!([near, far].map(|node| cluster.nodes[node].told("wipes")), [0, 1]);
        cluster.nodes[far].wait_until_it_says(&["WARN", "we forget what we have"]);
        cluster.nodes[near].wait_until_it_says(&["it forgets what it has"]);
    }
}

#[test]
fn merged_after_a_long_separation_nodes_keep_everything_and_say_what_that_means() {
    for near in [0, 1] {
        let cluster = apart_and_together("merge", near);
        for node in [0, 1] {
            let mut client = cluster.client(node);
            assert!(client.get("alone").is_some() && client.get("more59999").is_some());
            assert_eq!(cluster.nodes[node].told("wipes"), 0);
            let words = ["WARN", "may come back", "--after-long-separation"];
            cluster.nodes[node].wait_until_it_says(&words);
        }
    }
}
