//! Whatever is written on one node, over whatever protocol, is on the others when it is answered.

use super::cluster::{Cluster, Node, free_port};
use crate::client::{Client, wait_until};
use crate::udp::caller::Caller;

/// What is done on one node, and what another then answers. `#` stands for a new key.
const TEXT: &[(&str, &str, &str, &str)] = &[
    ("set # 7 0 5\r\nhello\r\n", "STORED\r\n", "get #\r\n", "VALUE # 7 5\r\nhello\r\nEND\r\n"),
    ("add # 1 0 1\r\na\r\n", "STORED\r\n", "get #\r\n", "VALUE # 1 1\r\na\r\nEND\r\n"),
    (
        "set # 3 0 1\r\nb\r\nappend # 0 0 1\r\nc\r\nprepend # 0 0 1\r\na\r\n",
        "STORED\r\nSTORED\r\nSTORED\r\n",
        "get #\r\n",
        "VALUE # 3 3\r\nabc\r\nEND\r\n",
    ),
    (
        "set # 0 0 2\r\n41\r\nincr # 2\r\ndecr # 1\r\n",
        "STORED\r\n43\r\n42\r\n",
        "get #\r\n",
        "VALUE # 0 2\r\n42\r\nEND\r\n",
    ),
    (
        "set # 0 0 1\r\nx\r\nreplace # 9 0 1\r\ny\r\n",
        "STORED\r\nSTORED\r\n",
        "get #\r\n",
        "VALUE # 9 1\r\ny\r\nEND\r\n",
    ),
    ("set # 0 0 1\r\nx\r\ndelete #\r\n", "STORED\r\nDELETED\r\n", "get #\r\n", "END\r\n"),
    (
        "set # 0 0 1\r\nx\r\ntouch # 1000\r\n",
        "STORED\r\nTOUCHED\r\n",
        "mg # t v\r\n",
        "VA 1 t1000\r\nx\r\n",
    ),
    (
        "set # 0 500 1\r\nx\r\ngat 1000 #\r\n",
        "STORED\r\nVALUE # 0 1\r\nx\r\nEND\r\n",
        "mg # t\r\n",
        "HD t1000\r\n",
    ),
    ("set # 0 -1 1\r\nx\r\n", "STORED\r\n", "get #\r\n", "END\r\n"),
    ("ms # 2 F5\r\nhi\r\n", "HD\r\n", "mg # v f\r\n", "VA 2 f5\r\nhi\r\n"),
    ("ms # 2\r\nhi\r\nmd #\r\n", "HD\r\nHD\r\n", "mg # v\r\n", "EN\r\n"),
    ("ma # N0 J13 v\r\nma # v\r\n", "VA 2\r\n13\r\nVA 2\r\n14\r\n", "mg # v\r\n", "VA 2\r\n14\r\n"),
    ("ms # 1 q\r\nx\r\nmn\r\n", "MN\r\n", "mg # v\r\n", "VA 1\r\nx\r\n"),
    ("ms # 1\r\nx\r\nmd # I T30\r\n", "HD\r\nHD\r\n", "mg # v\r\n", "VA 1 X W\r\nx\r\n"),
];

fn with_key(text: &str, key: &str) -> String {
    text.replace('#', key)
}

#[test]
fn every_kind_of_write_is_on_every_other_node_when_it_is_answered() {
    let mut cluster = Cluster::start(3, &["--ack", "all", "--ack-timeout", "5000"]);
    let mut number = 0;
    for (from, to) in cluster.directions() {
        let (mut writer, mut reader) = (from.client(), to.client());
        for (request, answer, question, expected) in TEXT {
            number += 1;
            let key = format!("key-{number}");
            writer.ask(with_key(request, &key), with_key(answer, &key));
            reader.ask(with_key(question, &key), with_key(expected, &key));
        }
    }
    cluster.assert_sound();
}

#[test]
fn a_cas_unique_means_the_same_on_every_node() {
    let cluster = Cluster::start(2, &["--ack-timeout", "5000"]);
    for (from, to) in cluster.directions() {
        let (mut writer, mut other) = (from.client(), to.client());
        writer.set("shared", b"first");
        let unique = |client: &mut Client| {
            client.send("gets shared\r\n");
            let line = String::from_utf8(client.line()).unwrap();
            client.line();
            client.expect("END\r\n");
            line.trim_end().rsplit(' ').next().unwrap().to_owned()
        };
        let seen = unique(&mut other);
        assert_eq!(seen, unique(&mut writer));
        other.ask(format!("cas shared 0 0 6 {seen}\r\nsecond\r\n"), "STORED\r\n");
        writer.ask(format!("cas shared 0 0 5 {seen}\r\nthird\r\n"), "EXISTS\r\n");
        assert_eq!(writer.get("shared").as_deref(), Some(&b"second"[..]));
    }
}

#[test]
fn a_flush_empties_every_node_and_later_writes_stay() {
    let cluster = Cluster::start(2, &["--ack-timeout", "5000"]);
    for (from, to) in cluster.directions() {
        let (mut writer, mut other) = (from.client(), to.client());
        other.set("theirs", b"1");
        writer.set("ours", b"2");
        writer.ask("flush_all\r\n", "OK\r\n");
        assert_eq!((other.get("theirs"), other.get("ours")), (None, None));
        other.set("later", b"3");
        assert_eq!(writer.get("later").as_deref(), Some(&b"3"[..]));
    }
}

/// A request of the binary protocol.
fn frame(opcode: u8, extras: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    let body = extras.len() + key.len() + value.len();
    let mut frame = vec![0x80, opcode];
    frame.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
    frame.extend([u8::try_from(extras.len()).unwrap(), 0, 0, 0]);
    frame.extend(u32::try_from(body).unwrap().to_be_bytes());
    frame.extend([0; 12]);
    [&frame, extras, key.as_bytes(), value].concat()
}

const SET: u8 = 0x01;
const DELETE: u8 = 0x04;
const INCREMENT: u8 = 0x05;
const NOOP: u8 = 0x0a;
const APPEND: u8 = 0x0e;
const SETQ: u8 = 0x11;
const TOUCH: u8 = 0x1c;

/// Sends frames and waits for the answer to each.
fn by_frames(node: &Node, frames: &[Vec<u8>]) {
    let mut client = node.client();
    for frame in frames {
        client.send(frame);
        let header = client.bytes(24);
        assert_eq!(header[6..8], [0, 0], "the status of opcode {:#x}", header[1]);
        let body = u32::from_be_bytes(header[8..12].try_into().unwrap());
        client.bytes(usize::try_from(body).unwrap());
    }
}

#[test]
fn writes_in_frames_and_in_datagrams_are_mirrored_as_well() {
    let mut cluster = Cluster::of(2, &["--ack-timeout", "5000"]);
    for node in &mut cluster.0 {
        let port = free_port().to_string();
        node.with(&["-U", &port]);
    }
    cluster.start_all();
    cluster.wait_until_in_sync();
    for (round, (from, to)) in cluster.directions().into_iter().enumerate() {
        let mut reader = to.client();
        let key = |name: &str| format!("{name}-{round}");
        let stored = [0, 0, 0, 7, 0, 0, 0, 0];
        let counting = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 0];
        by_frames(
            from,
            &[
                frame(SET, &stored, &key("set"), b"one"),
                frame(APPEND, &[], &key("set"), b"+two"),
                frame(INCREMENT, &counting, &key("count"), b""),
                frame(INCREMENT, &counting, &key("count"), b""),
                frame(SET, &stored, &key("gone"), b"x"),
                frame(DELETE, &[], &key("gone"), b""),
                frame(TOUCH, &1000_u32.to_be_bytes(), &key("set"), b""),
                [frame(SETQ, &stored, &key("quiet"), b"q"), frame(NOOP, &[], "", b"")].concat(),
            ],
        );
        let set = key("set");
        reader.ask(format!("mg {set} v f t\r\n"), "VA 7 f7 t1000\r\none+two\r\n");
        assert_eq!(reader.get(&key("count")).as_deref(), Some(&b"42"[..]));
        assert_eq!(reader.get(&key("gone")), None);
        assert_eq!(reader.get(&key("quiet")).as_deref(), Some(&b"q"[..]));

        let mut caller = Caller::of(from.server());
        let stored = caller.ask(format!("set {} 0 0 3\r\nudp\r\n", key("udp"))).unwrap();
        assert_eq!(stored, b"STORED\r\n");
        assert_eq!(reader.get(&key("udp")).as_deref(), Some(&b"udp"[..]));
    }
    cluster.assert_sound();
}

#[test]
fn a_version_that_a_client_makes_up_is_refused() {
    let cluster = Cluster::start(2, &[]);
    let mut client = cluster.0[0].client();
    let refused = "CLIENT_ERROR explicit cas is not allowed with peers\r\n";
    client.ask("ms k 1 E123\r\nx\r\n", refused);
    client.ask("ms k 1\r\nx\r\n", "HD\r\n");
    client.ask("md k E5 I\r\n", refused);
    client.ask("ma n N0 E5\r\n", refused);
    client.ask("mg k v\r\n", "VA 1\r\nx\r\n");
}

#[test]
fn the_keys_of_phps_locks_stay_where_they_are() {
    let cluster = Cluster::start(2, &["--ack-timeout", "5000"]);
    let (mut one, mut other) = (cluster.0[0].client(), cluster.0[1].client());
    one.ask("add session.lock 0 0 1\r\n1\r\n", "STORED\r\n");
    one.set("session", b"data");
    assert_eq!(other.get("session").as_deref(), Some(&b"data"[..]));
    assert_eq!(other.get("session.lock"), None);
    other.ask("add session.lock 0 0 1\r\n1\r\n", "STORED\r\n");
}

#[test]
fn who_waits_for_a_frozen_peer_is_answered_in_time_and_others_do_not_wait_at_all() {
    let cluster = Cluster::start(2, &["--ack-timeout", "300"]);
    let (mut writer, mut reader) = (cluster.0[0].client(), cluster.0[0].client());
    writer.set("k", b"before");
    cluster.0[1].signal(nix::sys::signal::Signal::SIGSTOP);
    let begun = std::time::Instant::now();
    writer.send("set k 0 0 5\r\nafter\r\n");
    wait_until("it is stored", || reader.get("k").as_deref() == Some(&b"after"[..]));
    let read = begun.elapsed();
    writer.expect("STORED\r\n");
    let answered = begun.elapsed();
    cluster.0[1].signal(nix::sys::signal::Signal::SIGCONT);
    assert!(read.as_millis() < 250, "the reader waited for {read:?}");
    assert!((250..2_000).contains(&answered.as_millis()), "the writer waited for {answered:?}");
    let stats = writer.stats("replication");
    assert!(stats["ack_fallbacks"].parse::<u64>().unwrap() >= 1, "{stats:?}");
    cluster.wait_until_in_sync();
    wait_until("the peer has it", || {
        cluster.0[1].client().get("k").as_deref() == Some(&b"after"[..])
    });
}

#[test]
fn with_fallback_error_a_write_without_a_peer_is_refused_and_nothing_is_stored() {
    let mut cluster = Cluster::start(2, &["--ack-fallback", "error"]);
    let mut client = cluster.0[0].client();
    client.set("k", b"1");
    cluster.0[1].kill();
    wait_until("nobody is waited for", || client.stats("replication")["peers_awaited"] == "0");
    let refused = "SERVER_ERROR replication timeout\r\n";
    client.ask("set k 0 0 1\r\n2\r\n", refused);
    client.ask("delete k\r\n", refused);
    client.ask("touch k 10\r\n", refused);
    client.ask("flush_all\r\n", refused);
    assert_eq!(client.get("k").as_deref(), Some(&b"1"[..]));
    cluster.0[1].start();
    cluster.wait_until_in_sync();
    client.set("k", b"3");
    assert_eq!(cluster.0[1].client().get("k").as_deref(), Some(&b"3"[..]));
}
