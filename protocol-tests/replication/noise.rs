//! Whoever gets as far as speaking to a node, and what he says that no peer says.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::PATIENCE;
use crate::memory::Numbers;

use super::cluster::{Cluster, Plan};
use super::contents::{Contents, contents};

/// With what a peer begins when nobody has to prove anything.
const MAGIC: &[u8] = b"twincached peer 1 o\n";

/// Says `bytes` to the port for peers and waits to be sent away; what was answered.
fn say(port: u16, bytes: &[u8], is_all: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // He may be sent away before he has said everything.
    let _ = stream.write_all(bytes);
    if is_all {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{:?} is not sent away: {error}", bytes.escape_ascii().to_string()),
    }
    heard
}

/// A frame's bytes: its length, type, flags, two zeros, checksum, and body.
fn frame(length: u32, kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&[kind, flags, 0, 0, 1, 2, 3, 4]);
    frame.extend_from_slice(body);
    frame
}

fn assert_untouched(cluster: &mut Cluster, before: &Contents, after: &str) {
    for node in 0..2 {
        assert!(cluster.nodes[node].is_alive(), "{after}");
        assert!(contents(&mut cluster.client(node)) == *before, "{after} changed node {node}");
        assert_eq!(cluster.nodes[node].told("peers_in_sync"), 1, "{after}");
    }
}

fn pair_with_a_key() -> (Cluster, Contents) {
    let cluster = Plan::of(2).start();
    cluster.client(0).set("k", b"v");
    let (_, held) = cluster.wait_until_identical();
    (cluster, held)
}

#[test]
fn a_frame_that_is_too_long_broken_or_unknown_ends_the_connection_with_a_line_and_nothing_else() {
    let (mut cluster, held) = pair_with_a_key();
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("a length of 4 GiB", frame(u32::MAX, 1, 1, b""), "oversize_frame"),
        (
            "a length beyond what is allowed before HELLO",
            frame(1 << 20, 1, 1, b""),
            "oversize_frame",
        ),
        ("a wrong checksum", frame(4, 1, 1, b"abcd"), "bad_frame"),
        ("an item before HELLO", sound([4, 0, 0, 0, 9, 1, 0, 0], b"abcd"), "bad_frame"),
    ];
    for (what, bytes, reason) in cases {
        for node in 0..2 {
            let port = cluster.nodes[node].peer_port;
            say(port, &[MAGIC, &bytes].concat(), false);
            let line = cluster.nodes[node].wait_until_it_says(&[reason]);
            assert!(line.contains("addr=127.0.0.1:"), "{what}: {line}");
        }
        assert_untouched(&mut cluster, &held, what);
    }
}

/// What a node says first to a peer: a HELLO, as good as any.
fn hello_of(port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.write_all(MAGIC).unwrap();
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    heard[MAGIC.len()..].to_vec()
}

/// A place in a body, and what is put there.
type Change<'b> = (usize, &'b [u8]);

/// The first frame of `hello` with other bytes at a place of its body, and sound all the same.
fn forged(hello: &[u8], changes: &[Change<'_>]) -> Vec<u8> {
    const HEADER: usize = 12;
    let head: [u8; 8] = hello[..8].try_into().unwrap();
    let length = u32::from_le_bytes(hello[..4].try_into().unwrap()) as usize;
    let mut body = hello[HEADER..HEADER + length].to_vec();
    for (at, bytes) in changes {
        body[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    sound(head, &body)
}

/// A frame with the checksum that it must have.
fn sound(head: [u8; 8], body: &[u8]) -> Vec<u8> {
    let sum = crc32fast::hash(&[&head[..], body].concat()).to_le_bytes();
    [&head, &sum[..], body].concat()
}

/// The type of the next frame.
fn next_type(stream: &mut TcpStream) -> u8 {
    let mut header = [0; 12];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_le_bytes(header[..4].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).unwrap();
    header[4]
}

#[test]
fn a_node_of_a_later_release_is_talked_with_whatever_it_says_that_may_be_ignored() {
    const START: u8 = 2;
    const HEARTBEAT: u8 = 18;
    let (mut cluster, held) = pair_with_a_key();
    let port = cluster.nodes[0].peer_port;
    let changes: &[Change<'_>] =
        &[(NODE, &[77]), (BOOT, &[7; 16]), (PROTO, &[1, 0, 9, 0]), (FEATURES, &[0xff; 8])];
    let hello = forged(&hello_of(port), changes);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let new_frame = sound([5, 0, 0, 0, 200, 0, 0, 0], b"later");
    stream.write_all(&[MAGIC, &hello, &new_frame].concat()).unwrap();
    stream.read_exact(&mut [0; MAGIC.len()]).unwrap();
    while next_type(&mut stream) != START {}
    stream.write_all(&new_frame).unwrap();
    for _ in 0..3 {
        while next_type(&mut stream) != HEARTBEAT {}
    }
    drop(stream);
    let log = cluster.nodes[0].log();
    assert!(!log.contains("peer refused") && !log.contains("unknown_frame"), "{log}");
    assert_untouched(&mut cluster, &held, "a later release");
}

/// Where a HELLO's body has what: after eight bytes by which it is known, the oldest and newest
/// version spoken, features known and required, what must be set alike, and the cluster's name with
/// its length.
const PROTO: usize = 8;
const FEATURES: usize = PROTO + 4;
const REQUIRED: usize = FEATURES + 8;
const CLUSTER: usize = REQUIRED + 8 + 8 + 1;
const NODE: usize = CLUSTER + "twincached".len();
const BOOT: usize = NODE + 1;
const CLOCK: usize = BOOT + 16 + 8;

#[test]
fn who_introduces_himself_as_no_peer_may_is_refused_for_that_reason() {
    let (mut cluster, held) = pair_with_a_key();
    for (node, other) in [(0, &[2]), (1, &[1])] {
        let port = cluster.nodes[node].peer_port;
        let hello = hello_of(port);
        let boot: Change<'_> = (BOOT, &[7; 16]);
        let somebody: Change<'_> = (NODE, &[77]);
        let clock = u64::from_le_bytes(hello[12 + CLOCK..12 + CLOCK + 8].try_into().unwrap());
        let late = (clock + 7_200_000_000).to_le_bytes();
        let required: Change<'_> = (REQUIRED, &[0, 0, 0, 0, 0, 1, 0, 0]);
        let cases: [(&[Change<'_>], &str); 6] = [
            (&[somebody, boot, required], "(unknown_feature:40)"),
            (&[somebody, boot, (PROTO, &[9, 0, 9, 0])], "protocol_version"),
            (&[somebody, boot, (CLUSTER, b"othercache")], "cluster_name"),
            (&[somebody, boot, (CLOCK, &late)], "clock_skew"),
            (&[boot], "node_id_is_ours"),
            (&[boot, (NODE, other)], "node_id_twice"),
        ];
        for (changes, reason) in cases {
            say(port, &[MAGIC, &forged(&hello, changes)].concat(), false);
            let line = cluster.nodes[node].wait_until_it_says(&["peer refused", reason]);
            assert!(line.contains("addr=127.0.0.1:"), "{line}");
            assert_untouched(&mut cluster, &held, reason);
        }
    }
}

#[test]
fn whatever_is_cut_off_in_the_middle_changes_nothing() {
    let (mut cluster, held) = pair_with_a_key();
    let port = cluster.nodes[0].peer_port;
    let hello = hello_of(port);
    assert!(hello.len() > 30, "{}", hello.len());
    for length in (0..hello.len()).step_by(3) {
        say(port, &[MAGIC, &hello[..length]].concat(), true);
    }
    let line = cluster.nodes[0].wait_until_it_says(&["peer refused (first_frame_cut_off)"]);
    assert!(line.contains("addr=127.0.0.1:"), "{line}");
    // Its own HELLO, back to it: it has dialled itself, so to speak.
    say(port, &[MAGIC, &hello].concat(), true);
    // One bit is wrong.
    for byte in (0..hello.len()).step_by(5) {
        let mut wrong = hello.clone();
        wrong[byte] ^= 4;
        say(port, &[MAGIC, &wrong].concat(), true);
    }
    assert_untouched(&mut cluster, &held, "a HELLO in pieces");
}

#[test]
fn noise_behind_the_right_first_line_changes_nothing() {
    let (mut cluster, held) = pair_with_a_key();
    let port = cluster.nodes[0].peer_port;
    let mut numbers = Numbers(0x5eed);
    for _ in 0..200 {
        let length = usize::try_from(numbers.below(4_000)).unwrap();
        let mut bytes: Vec<u8> = (0..length).map(|_| numbers.next().to_be_bytes()[0]).collect();
        if bytes.len() > 4 && numbers.below(2) == 0 {
            // A length that is allowed, so that the rest is looked at.
            bytes[..4].copy_from_slice(&u32::try_from(length / 2).unwrap().to_le_bytes());
        }
        say(port, &[MAGIC, &bytes].concat(), true);
    }
    assert_untouched(&mut cluster, &held, "noise");
}

/// Somebody who holds many connections to some ports open and says nothing on them. Those that are
/// ended he opens again.
struct Silent {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Silent {
    /// Once he holds as many to each port as he can.
    fn at(ports: &[u16]) -> Silent {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = ports.iter().map(|&port| {
            let (stop, (held, holds)) = (Arc::clone(&stop), mpsc::channel());
            let thread = thread::spawn(move || hold(port, &stop, &held));
            holds.recv_timeout(PATIENCE).unwrap();
            thread
        });
        let threads = threads.collect();
        Silent { stop, threads }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn hold(port: u16, stop: &AtomicBool, held: &mpsc::Sender<()>) {
    const COUNT: usize = 100;
    let mut open: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let is_open = |mut stream: &TcpStream| {
            stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        open.retain(is_open);
        while open.len() < COUNT {
            // Nobody listens while the node is dead.
            let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { break };
            stream.set_nonblocking(true).unwrap();
            open.push(stream);
        }
        // He need not be told twice.
        let _ = held.send(());
        // He is there first when the port opens again.
        thread::sleep(Duration::from_millis(if open.len() == COUNT { 50 } else { 2 }));
    }
}

#[test]
fn who_holds_the_ports_of_both_nodes_and_says_nothing_keeps_no_peer_out() {
    let (mut cluster, held) = pair_with_a_key();
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.peer_port).collect();
    let silent = Silent::at(&ports);
    cluster.nodes[1].kill();
    // By then the survivor dials once a second, and whoever wants the port is there before it.
    thread::sleep(Duration::from_millis(2_500));
    cluster.nodes[1].start();
    cluster.wait_until_in_sync();
    assert_untouched(&mut cluster, &held, "silent connections");
    let log = cluster.nodes[1].log();
    assert!(!log.contains("serve alone"), "{log}");
    assert!(cluster.nodes[0].told("strangers_sent_away") > 0);
    cluster.nodes[0].wait_until_it_says(&["WARN", "do not say whose they are", "addr=127.0.0.1:"]);
    drop(silent);
}
