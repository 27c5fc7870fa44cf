//! Who else comes to the port for peers, and nodes that were set up wrongly.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::plain::Cluster;
use crate::certificates::{ca, issue};
use crate::client::wait_until;

/// What a stranger is told who says `bytes` and ends his half.
fn told(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // He may be sent away before he has said everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    heard
}

#[test]
fn scans_health_checks_and_noise_learn_nothing_and_change_nothing() {
    let mut cluster = Cluster::start(2, &[]);
    let ports: Vec<u16> = cluster.0.iter().map(|node| node.peer_port).collect();
    let noise: Vec<u8> =
        (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for port in ports {
        for bytes in [
            &b""[..],
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"flush_all\r\n",
            b"rep k 0 0 1 1\r\nx\r\n",
            b"twincached peer 1 s\n",
            &noise,
        ] {
            assert_eq!(told(port, bytes), b"", "{:?}", &bytes[..bytes.len().min(20)]);
        }
        for _ in 0..200 {
            drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
        // Who gets past the magic line is greeted as anybody is whom the operator lets in, and
        // closed for saying what is no frame.
        let greeted = told(port, &[b"twincached peer 1 o\n", &noise[..]].concat());
        assert!(greeted.len() < 4096, "{}", greeted.len());
    }
    cluster.wait_until_in_sync();
    cluster.0[0].client().set("k", b"v");
    assert_eq!(cluster.0[1].client().get("k").as_deref(), Some(&b"v"[..]));
    for node in &cluster.0 {
        assert_eq!(node.client().stats("replication")["peer1:link_downs"], "0");
    }
    cluster.assert_sound();
}

#[test]
fn a_wrong_secret_is_refused_with_its_reason_and_a_right_one_works_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, secret: &str| {
        let path = dir.path().join(name);
        fs::write(&path, secret).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) =
        (file("right", "correct horse battery\n"), file("wrong", "wrong horse battery\n"));
    let mut cluster = Cluster::of(2, &["--bootstrap-timeout", "1"]);
    cluster.0[0].with(&["--peer-secret-file", &right]);
    cluster.0[1].with(&["--peer-secret-file", &wrong]);
    cluster.start_all();
    wait_until("the refusal is told", || {
        cluster.0[0]
            .server()
            .stderr()
            .contains("it has another secret (--peer-secret-file differs)")
    });
    cluster.0[1].client().set("k", b"from a stranger");
    assert_eq!(cluster.0[0].client().get("k"), None);
    assert_eq!(cluster.0[0].client().stats("replication")["peers_in_sync"], "0");
    cluster.0[1].kill();
    *cluster.0[1].flags().last_mut().unwrap() = right;
    cluster.0[1].start();
    cluster.wait_until_in_sync();
    cluster.0[1].client().set("k", b"from a peer");
    assert_eq!(cluster.0[0].client().get("k").as_deref(), Some(&b"from a peer"[..]));
    assert!(
        cluster.0[0]
            .server()
            .stderr()
            .lines()
            .filter(|line| line.contains("another secret"))
            .count()
            <= 3
    );
}

#[test]
fn with_tls_only_who_has_a_certificate_of_ours_is_a_peer() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ours, theirs) = (ca(), ca());
    let ours_pem = write("ca.pem", &ours.pem());
    let of = |name: &str, (cert, key): (String, String)| {
        [
            "--peer-tls-cert".to_owned(),
            write(&format!("{name}.pem"), &cert),
            "--peer-tls-key".to_owned(),
            write(&format!("{name}.key"), &key),
            "--peer-tls-ca".to_owned(),
            ours_pem.clone(),
        ]
    };
    let (one, two, stranger) = (
        of("one", issue(&ours, "one")),
        of("two", issue(&ours, "two")),
        of("x", issue(&theirs, "x")),
    );
    let mut cluster = Cluster::of(2, &["--bootstrap-timeout", "1"]);
    let plain = cluster.0[1].flags().len();
    cluster.0[0].flags().extend(one);
    cluster.0[1].flags().extend(stranger);
    cluster.start_all();
    wait_until("the refusal is told", || cluster.0[0].server().stderr().contains("TLS failed"));
    assert_eq!(cluster.0[0].client().stats("replication")["peers_in_sync"], "0");
    cluster.0[1].kill();
    cluster.0[1].flags().truncate(plain);
    cluster.0[1].flags().extend(two);
    cluster.0[1].start();
    cluster.wait_until_in_sync();
    cluster.0[1].client().set("k", b"v");
    assert_eq!(cluster.0[0].client().get("k").as_deref(), Some(&b"v"[..]));
    assert_eq!(
        told(cluster.0[0].peer_port, b"twincached peer 1 o\n").first(),
        Some(&0x15),
        "an alert"
    );
}

#[test]
fn a_node_id_that_a_peer_has_ends_the_start_and_another_cluster_is_kept_out() {
    let mut cluster = Cluster::of(2, &["--bootstrap-timeout", "2"]);
    cluster.0[0].with(&["--node-id", "7"]);
    cluster.0[0].start();
    cluster.0[1].with(&["--node-id", "7"]);
    let said = cluster.0[1].launch().err().expect("it must not run");
    let (theirs, ours) = (cluster.0[0].peer_port, cluster.0[1].peer_port);
    assert!(said.contains("--node-id was given 7"), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{theirs}")) || said.contains("127.0.0.1:"), "{said}");
    assert!(said.contains(&format!("this node is at 127.0.0.1:{ours}")), "{said}");
    cluster.0[0].client().set("k", b"v");

    *cluster.0[1].flags().last_mut().unwrap() = "8".to_owned();
    cluster.0[1].with(&["--cluster", "another"]);
    cluster.0[1].start();
    assert!(cluster.0[1].server().stderr().contains("--cluster differs"));
    assert_eq!(cluster.0[1].client().get("k"), None);
    cluster.0[1].kill();
    let length = cluster.0[1].flags().len();
    cluster.0[1].flags().truncate(length - 2);
    cluster.0[1].start();
    assert_eq!(cluster.0[1].client().get("k").as_deref(), Some(&b"v"[..]));
    cluster.wait_until_in_sync();
}

#[test]
fn a_node_that_was_given_no_id_takes_another_when_a_peer_has_its_own() {
    let mut cluster = Cluster::of(2, &["--bootstrap-timeout", "1"]);
    cluster.0[0].start();
    let usual = cluster.0[0].client().stats("replication")["node"].clone();
    cluster.0[0].kill();
    cluster.0[1].with(&["--node-id", &usual]);
    cluster.0[1].start();
    cluster.0[1].client().set("k", b"v");
    cluster.0[0].start();
    assert_ne!(cluster.0[0].client().stats("replication")["node"], usual);
    assert_eq!(cluster.0[0].client().get("k").as_deref(), Some(&b"v"[..]));
    cluster.wait_until_in_sync();
    cluster.0[0].client().set("back", b"w");
    assert_eq!(cluster.0[1].client().get("back").as_deref(), Some(&b"w"[..]));
}

#[test]
fn a_clock_that_is_far_off_is_refused_and_one_that_is_a_little_off_is_not() {
    let mut cluster = Cluster::of(2, &["--bootstrap-timeout", "1"]);
    cluster.0[0].start();
    cluster.0[1].with(&["--test-clock-offset-ms", "7200000"]);
    cluster.0[1].start();
    wait_until("the refusal is told", || cluster.0[0].server().stderr().contains("does NTP run?"));
    cluster.0[1].client().set("k", b"from the future");
    assert_eq!(cluster.0[0].client().get("k"), None);
    cluster.0[1].kill();
    *cluster.0[1].flags().last_mut().unwrap() = "-5000".to_owned();
    cluster.0[1].start();
    cluster.wait_until_in_sync();
    cluster.0[0].client().set("k", b"first");
    cluster.0[1].client().set("k", b"second");
    assert_eq!(cluster.0[0].client().get("k").as_deref(), Some(&b"second"[..]), "later is later");
}
