//! Peers that are added, looked at and removed while the nodes run (`peers`).

use std::time::Duration;

use crate::client::{Client, wait_until};

use super::cluster::{Cluster, Plan};
use super::load::{Load, Shape};
use super::node::Node;

/// A node whose peer refuses it, or is not there, dials it again within this time.
const DIALLED_AGAIN: Duration = Duration::from_secs(2);

/// What `peers` answers, without `END`.
fn peers(client: &mut Client) -> Vec<String> {
    client.send("peers\r\n");
    let mut lines = Vec::new();
    loop {
        let line = String::from_utf8(client.line()).unwrap();
        match line.trim_end() {
            "END" => return lines,
            "" => panic!("the connection ended after {lines:?}"),
            peer => lines.push(peer.to_owned()),
        }
    }
}

fn address(node: &Node) -> String {
    format!("127.0.0.1:{}", node.peer_port)
}

fn line_of(cluster: &Cluster, at: usize, address: &str) -> Option<String> {
    let lines = peers(&mut cluster.client(at));
    lines.into_iter().find(|line| line.starts_with(&format!("PEER {address} ")))
}

/// A pair that knows of nobody else, and a third node that knows of all.
fn pair_and_a_third() -> Cluster {
    let mut cluster = Plan::of(2).with(&["--enable-peer-changes"]).start();
    let known: Vec<String> = cluster.nodes.iter().map(address).collect();
    let peer_port = super::port::free_port();
    let mut flags = vec!["--node-id".to_owned(), "3".to_owned()];
    for address in known.into_iter().chain([format!("127.0.0.1:{peer_port}")]) {
        flags.extend(["--peer".to_owned(), address]);
    }
    flags.extend(["--ack-timeout", "1000", "--enable-peer-changes"].map(str::to_owned));
    cluster.nodes.push(Node::new(peer_port, &flags));
    cluster
}

#[test]
fn a_third_node_added_to_a_pair_under_load_gets_everything_and_a_removed_one_nothing_more() {
    let mut cluster = pair_and_a_third();
    let third = address(&cluster.nodes[2]);
    (0..300).for_each(|n| cluster.client(0).set(&format!("before{n}"), b"v"));
    let pause = Duration::from_millis(1);
    let shape = Shape { clients: 2, keys: 200, pause, ..Shape::default() };
    let load = Load::start("load", &[cluster.nodes[0].address()], &shape);
    load.wait_for(100);
    for node in [0, 1] {
        cluster.client(node).ask(format!("peers add {third}\r\n"), "OK\r\n");
        wait_until("it is listed, down", || {
            line_of(&cluster, node, &third).is_some_and(|line| !line.contains("in_sync=yes"))
        });
    }
    load.wait_for(100);
    cluster.nodes[2].start();
    cluster.wait_until_in_sync();
    load.wait_for(300);
    for node in [0, 1] {
        wait_until("it is listed, in sync", || {
            let line = line_of(&cluster, node, &third);
            line.is_some_and(|line| line.contains("node=3 state=streaming in_sync=yes"))
        });
    }

    for node in [0, 1] {
        cluster.client(node).ask(format!("peers remove {third}\r\n"), "OK\r\n");
        wait_until("it is listed no more", || line_of(&cluster, node, &third).is_none());
        assert_eq!(cluster.nodes[node].told("peers_in_sync"), 1);
        cluster.nodes[node].wait_until_it_says(&["peer unlinked (removed)"]);
        cluster.nodes[node].wait_until_it_says(&["INFO", "is a peer no longer"]);
    }
    load.wait_for(300);
    let ledger = load.end();
    ledger.assert_undisturbed();
    let (_, held) = cluster.wait_until_these_are_identical(&[0, 1]);
    assert!(ledger.lost_in(&held).is_empty());
    assert!(held.contains_key("before299"));

    // It got what was written before it came, and now writes for itself.
    let mut removed = cluster.client(2);
    assert_eq!(removed.get("before299").as_deref(), Some(&b"v"[..]));
    (0..50).for_each(|n| removed.set(&format!("alone{n}"), b"v"));
    cluster.nodes[2].wait_until_it_says(&["ERROR", "removed_by_peer"]);
    std::thread::sleep(DIALLED_AGAIN);
    for node in [0, 1] {
        assert_eq!(cluster.client(node).get("alone49"), None);
        let lines = peers(&mut cluster.client(node));
        assert_eq!(lines.len(), 2, "itself and the other: {lines:?}");
    }
    let told = cluster.nodes[2].log().matches("removed_by_peer").count();
    assert!(told <= 2, "once for each that refuses it: {}", cluster.nodes[2].log());

    // Taken back, it brings what it wrote meanwhile.
    for node in [0, 1] {
        cluster.client(node).ask(format!("peers add {third}\r\n"), "OK\r\n");
    }
    cluster.wait_until_in_sync();
    let (_, held) = cluster.wait_until_identical();
    assert!(held.contains_key("alone49") && held.contains_key("before299"));
}

#[test]
fn writes_that_wait_for_a_frozen_peer_are_answered_when_it_is_removed() {
    for (near, far) in [(0, 1), (1, 0)] {
        let flags = ["--enable-peer-changes", "--ack-timeout", "30000"];
        let cluster = Plan::of(2).with(&flags).start();
        let mut waiting = cluster.client(near);
        waiting.set("k", b"v");
        cluster.nodes[far].freeze();
        waiting.send("set k 0 0 1\r\nw\r\n");
        wait_until("it is written", || cluster.client(near).get("k").as_deref() == Some(b"w"));
        let other = address(&cluster.nodes[far]);
        cluster.client(near).ask(format!("peers remove {other}\r\n"), "OK\r\n");
        waiting.expect("STORED\r\n");
        assert_eq!(cluster.nodes[near].told("ack_fallbacks"), 1);
        cluster.nodes[far].thaw();
    }
}

#[test]
fn what_is_wrong_with_a_change_is_said_in_the_answer() {
    let cluster = Plan::of(2).with(&["--enable-peer-changes"]).start();
    let mut client = cluster.client(0);
    let other = address(&cluster.nodes[1]);
    client.ask(
        format!("peers add {other}\r\n"),
        format!("CLIENT_ERROR {other} is a peer already\r\n"),
    );
    client.ask(
        "peers add web3:11212\r\n",
        "CLIENT_ERROR web3:11212 is another machine, and nobody would have to prove who he is; \
         allowed: with --peer-secret-file file, with --peer-tls-cert, -key and -ca, or with \
         --peer-insecure on a network where everybody may read every session\r\n",
    );
    client.ask(
        "peers remove node=2\r\n",
        format!("CLIENT_ERROR node 2 is {other}, which is to be removed by that name\r\n"),
    );
    client.ask(
        "peers add a:b\r\n",
        "CLIENT_ERROR a peer was given as \"a:b\"; allowed: host, host:port, or [IPv6]:port\r\n",
    );
    assert_eq!(peers(&mut client).len(), 2);
    assert_eq!(cluster.nodes[0].told("peers_in_sync"), 1);
}

#[test]
fn nobody_changes_peers_where_the_operator_has_not_allowed_it() {
    let cluster = Plan::of(2).start();
    let mut client = cluster.client(0);
    let other = address(&cluster.nodes[1]);
    let refused = "SERVER_ERROR peers cannot be changed here: start with --enable-peer-changes\r\n";
    client.ask(format!("peers remove {other}\r\n"), refused);
    client.ask("peers add 127.0.0.1:1\r\n", refused);
    // Who has just dialled us, too, is listed for a moment beside its address.
    wait_until("two are listed", || peers(&mut client).len() == 2);
    assert_eq!(cluster.nodes[0].told("peers_in_sync"), 1);
}
