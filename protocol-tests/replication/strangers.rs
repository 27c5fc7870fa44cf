//! Who else comes to the port for peers, and nodes that were set up wrongly: each is refused with a
//! line that names the reason and the peer, nothing of his is taken over, and the same node set up
//! rightly is welcome.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use tempfile::TempDir;

use crate::certificates::{ca, issue};
use crate::client::PATIENCE;

use super::cluster::{Cluster, Plan};
use super::node::Node;

/// What a stranger is told who says `bytes` and ends his half.
fn told(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // He may be sent away before he has said everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    heard
}

/// How often links of node 0 have ended.
fn downs(cluster: &Cluster) -> [String; 2] {
    let stats = cluster.client(0).stats("replication");
    ["peer0:link_downs", "peer1:link_downs"].map(|name| stats[name].clone())
}

#[test]
fn scans_health_checks_and_noise_learn_nothing_and_change_nothing() {
    let mut cluster = Plan::of(2).start();
    let noise: Vec<u8> =
        (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let before = downs(&cluster);
    for node in &cluster.nodes {
        for bytes in [
            &b""[..],
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"flush_all\r\n",
            b"rep k 0 0 1 1\r\nx\r\n",
            b"\x80\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"twincached peer 1 s\n",
            &noise,
        ] {
            assert_eq!(told(node.peer_port, bytes), b"", "{:?}", &bytes[..bytes.len().min(20)]);
        }
        for _ in 0..200 {
            drop(TcpStream::connect(("127.0.0.1", node.peer_port)).unwrap());
        }
    }
    cluster.wait_until_in_sync();
    cluster.client(0).set("k", b"v");
    assert_eq!(cluster.client(1).get("k").as_deref(), Some(&b"v"[..]));
    assert_eq!(downs(&cluster), before);
}

/// A node of a pair that is set up wrongly: each says so, naming the other, and neither takes over
/// what the other has. Then it is started with `right` as well.
fn refused_and_then_welcome(mut cluster: Cluster, words: [&[&str]; 2], right: &[&str]) {
    cluster.nodes.iter_mut().for_each(Node::start);
    for node in &mut cluster.nodes {
        node.wait_until_it_serves();
    }
    for (node, words) in cluster.nodes.iter().zip(words) {
        let line = node.wait_until_it_says(words);
        assert!(line.contains("127.0.0.1:"), "the line does not name the peer: {line}");
    }
    for (from, to) in [(0, 1), (1, 0)] {
        cluster.client(from).set(&format!("of{from}"), b"v");
        assert_eq!(cluster.client(to).get(&format!("of{from}")), None);
        assert_eq!(cluster.nodes[from].told("peers_in_sync"), 0);
        assert!(
            cluster.nodes[from].log().lines().filter(|line| line.contains("ERROR")).count() < 6,
            "the same is said again and again: {}",
            cluster.nodes[from].log()
        );
    }
    cluster.nodes[1].kill();
    cluster.nodes[1].add_flags(right);
    cluster.nodes[1].start();
    cluster.wait_until_in_sync();
    assert!(cluster.client(1).get("of0").is_some());
    cluster.client(1).set("k", b"v");
    assert!(cluster.client(0).get("k").is_some());
}

/// Files with what nodes prove that they know.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn of(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn who_has_another_secret_is_refused() {
    let files = Files::new();
    let right = files.of("right", "correct horse battery\n");
    let wrong = files.of("wrong", "wrong horse battery\n");
    let cluster = Plan::of(2)
        .with(&["--bootstrap-timeout", "1"])
        .with_at(0, &["--peer-secret-file", &right])
        .with_at(1, &["--peer-secret-file", &wrong])
        .laid_out();
    let words: &[&str] = &["peer refused: it has another secret (--peer-secret-file differs)"];
    refused_and_then_welcome(cluster, [words, words], &["--peer-secret-file", &right]);
}

/// Node by node, as an operator does it.
#[test]
fn a_secret_is_replaced_while_nodes_run_and_peers_that_are_linked_stay_so() {
    let files = Files::new();
    let secrets = ["one", "two"].map(|name| files.of(name, "correct horse battery\n"));
    let mut cluster = Plan::of(2)
        .with(&["--bootstrap-timeout", "1"])
        .with_at(0, &["--peer-secret-file", &secrets[0]])
        .with_at(1, &["--peer-secret-file", &secrets[1]])
        .start();
    let before = downs(&cluster);
    files.of("one", "short\n");
    cluster.nodes[0].hang_up();
    cluster.nodes[0].wait_until_it_says(&["SIGHUP", "5 bytes", "stays as it was"]);
    for (node, name) in ["one", "two"].into_iter().enumerate() {
        files.of(name, "another horse battery\n");
        cluster.nodes[node].hang_up();
        cluster.nodes[node].wait_until_it_says(&["SIGHUP: what peers must prove read again"]);
        let key = format!("k{node}");
        cluster.client(node).set(&key, b"v");
        assert!(cluster.client(1 - node).get(&key).is_some());
    }
    assert_eq!(downs(&cluster), before);
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    cluster.wait_until_in_sync();
    assert!(cluster.client(1).get("k0").is_some());
    // Nobody is let in with what was the secret once.
    let stale = files.of("stale", "correct horse battery\n");
    cluster.nodes[1].kill();
    cluster.nodes[1].add_flags(&["--peer-secret-file", &stale]);
    cluster.nodes[1].start();
    cluster.nodes[0].wait_until_it_says(&["peer refused: it has another secret"]);
}

#[test]
fn who_has_no_secret_where_one_is_asked_for_is_refused() {
    let files = Files::new();
    let right = files.of("right", "correct horse battery\n");
    let cluster = Plan::of(2)
        .with(&["--bootstrap-timeout", "1"])
        .with_at(0, &["--peer-secret-file", &right])
        .laid_out();
    let words: &[&str] = &["only one of the two sides has a secret"];
    refused_and_then_welcome(cluster, [words, words], &["--peer-secret-file", &right]);
}

#[test]
fn who_has_no_certificate_of_ours_is_refused() {
    let files = Files::new();
    let (ours, theirs) = (ca(), ca());
    let ca_file = files.of("ca.pem", &ours.pem());
    let of = |name: &str, (cert, key): (String, String)| {
        (files.of(&format!("{name}.cert"), &cert), files.of(&format!("{name}.key"), &key))
    };
    let one = of("one", issue(&ours, "one"));
    let two = of("two", issue(&ours, "two"));
    let stranger = of("stranger", issue(&theirs, "stranger"));
    let cluster = Plan::of(2)
        .with(&["--bootstrap-timeout", "1", "--peer-tls-ca", &ca_file])
        .with_at(0, &["--peer-tls-cert", &one.0, "--peer-tls-key", &one.1])
        .with_at(1, &["--peer-tls-cert", &stranger.0, "--peer-tls-key", &stranger.1])
        .laid_out();
    let words: &[&str] = &["TLS failed"];
    let right = ["--peer-tls-cert", &two.0, "--peer-tls-key", &two.1];
    refused_and_then_welcome(cluster, [words, words], &right);
}

#[test]
fn who_is_of_another_cluster_is_refused() {
    let cluster = Plan::of(2)
        .with(&["--bootstrap-timeout", "1"])
        .with_at(1, &["--cluster", "another"])
        .laid_out();
    let words: &[&str] = &["cluster_name", "--cluster differs"];
    refused_and_then_welcome(cluster, [words, words], &["--cluster", "twincached"]);
}

#[test]
fn who_has_another_policy_for_locks_is_refused() {
    let cluster = Plan::of(2)
        .with(&["--bootstrap-timeout", "1"])
        .with_at(1, &["--lock-policy", "exclusive"])
        .laid_out();
    let words: &[&str] = &["lock_policy", "--lock-policy or --lock-keys differ"];
    refused_and_then_welcome(cluster, [words, words], &["--lock-policy", "local"]);
}

#[test]
fn a_node_id_that_a_peer_has_ends_the_start_and_names_both() {
    let mut cluster =
        Plan::of(2).with(&["--bootstrap-timeout", "2"]).with_at(1, &["--node-id", "1"]).laid_out();
    cluster.nodes[0].start();
    cluster.nodes[0].wait_until_it_serves();
    cluster.client(0).set("k", b"v");
    cluster.nodes[1].start();
    let status = cluster.nodes[1].wait_until_it_ends();
    assert!(!status.success());
    let said = cluster.nodes[1].log();
    let own = format!("this node is at 127.0.0.1:{}", cluster.nodes[1].peer_port);
    assert!(said.contains("--node-id was given 1") && said.contains(&own), "{said}");
    assert!(said.contains("the id of the peer at 127.0.0.1:"), "{said}");
    cluster.nodes[0].wait_until_it_says(&["addr=127.0.0.1:", "--node-id must differ"]);
    cluster.nodes[1].add_flags(&["--node-id", "2"]);
    cluster.nodes[1].start();
    cluster.wait_until_in_sync();
    assert_eq!(cluster.client(1).get("k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn two_peers_with_one_node_id_are_not_both_let_in_whoever_comes_second() {
    let mut cluster = Plan::of(3).with(&["--bootstrap-timeout", "2"]).laid_out();
    cluster.nodes[2].add_flags(&["--node-id", "2"]);
    cluster.nodes[0].start();
    cluster.nodes[1].start();
    cluster.wait_until_these_are_in_sync(&[0, 1]);
    cluster.nodes[2].start();
    assert!(!cluster.nodes[2].wait_until_it_ends().success());
    cluster.nodes[2].wait_until_it_says(&["--node-id", "127.0.0.1:"]);
    cluster.wait_until_these_are_in_sync(&[0, 1]);
    cluster.nodes[2].add_flags(&["--node-id", "3"]);
    cluster.nodes[2].start();
    cluster.wait_until_in_sync();
}

#[test]
fn a_node_that_was_given_no_id_takes_another_when_a_peer_has_its_own() {
    let mut cluster = Plan::of(2).unnumbered().with(&["--bootstrap-timeout", "1"]).laid_out();
    cluster.nodes[0].start();
    cluster.nodes[0].wait_until_it_serves();
    let usual = cluster.nodes[0].told("node");
    cluster.nodes[0].kill();
    cluster.nodes[1].add_flags(&["--node-id", &usual.to_string()]);
    cluster.nodes[1].start();
    cluster.nodes[1].wait_until_it_serves();
    cluster.client(1).set("k", b"v");
    cluster.nodes[0].start();
    cluster.wait_until_in_sync();
    assert_ne!(cluster.nodes[0].told("node"), usual);
    assert_eq!(cluster.client(0).get("k").as_deref(), Some(&b"v"[..]));
    cluster.client(0).set("back", b"w");
    assert_eq!(cluster.client(1).get("back").as_deref(), Some(&b"w"[..]));
}
