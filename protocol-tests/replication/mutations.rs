//! Every way to change something, on one node and then on the other: what was answered is there.

use std::time::Duration;

use crate::client::{Client, wait_until};
use crate::frame::request;
use crate::udp::caller::Caller;

use super::cluster::{Cluster, Plan};
use super::contents::contents;
use super::port::free_port;

/// Requests of text clients and their answers. `{cas:k}` is the cas unique of `k`.
const TEXT: &[(&str, &str)] = &[
    ("set k 7 0 5\r\nhello\r\n", "STORED\r\n"),
    ("set t 0 1000 3\r\nabc\r\n", "STORED\r\n"),
    ("add a 4294967295 0 1\r\nx\r\n", "STORED\r\n"),
    ("add a 1 0 1\r\ny\r\n", "NOT_STORED\r\n"),
    ("replace a 2 50 2\r\nzz\r\n", "STORED\r\n"),
    ("append a 0 0 3\r\nend\r\n", "STORED\r\n"),
    ("prepend a 0 0 5\r\nbegin\r\n", "STORED\r\n"),
    ("cas k 3 0 2 {cas:k}\r\nxy\r\n", "STORED\r\n"),
    ("cas k 3 0 2 1\r\nno\r\n", "EXISTS\r\n"),
    ("set n 0 0 2\r\n10\r\n", "STORED\r\n"),
    ("incr n 5\r\n", "15\r\n"),
    ("decr n 6\r\n", "9\r\n"),
    ("incr n 18446744073709551600\r\n", "18446744073709551609\r\n"),
    ("touch t 500\r\n", "TOUCHED\r\n"),
    ("gat 300 t\r\n", "VALUE t 0 3\r\nabc\r\nEND\r\n"),
    ("gats 200 t\r\n", "VALUE t 0 3 {cas:t}\r\nabc\r\nEND\r\n"),
    ("touch t 0\r\n", "TOUCHED\r\n"),
    ("set empty 0 0 0\r\n\r\n", "STORED\r\n"),
    ("set gone 0 -1 1\r\na\r\n", "STORED\r\n"),
    ("set t 0 -1 1\r\na\r\n", "STORED\r\n"),
    ("delete k\r\n", "DELETED\r\n"),
    ("delete k\r\n", "NOT_FOUND\r\n"),
    ("set k 1 0 5\r\nagain\r\n", "STORED\r\n"),
];

/// Looking at everything after each step takes the token with which a stale value may be renewed: `Z`.
const META: &[(&str, &str)] = &[
    ("ms m 2 F5 T100\r\nhi\r\n", "HD\r\n"),
    ("ms m 1 MA\r\n!\r\n", "HD\r\n"),
    ("ms m 1 MP\r\n?\r\n", "HD\r\n"),
    ("ms m 2 MR F9\r\nok\r\n", "HD\r\n"),
    ("ms m2 1 ME\r\n1\r\n", "HD\r\n"),
    ("ms m2 1 ME\r\n2\r\n", "NS\r\n"),
    ("ms m 3 C{cas:m}\r\nnew\r\n", "HD\r\n"),
    ("ms m 3 C1\r\nold\r\n", "EX\r\n"),
    ("ms m 3 C1 I\r\nold\r\n", "HD\r\n"),
    ("mg m T60 v\r\n", "VA 3 Z X\r\nold\r\n"),
    ("mg made N30 s v\r\n", "VA 0 s0 W\r\n\r\n"),
    ("ma c N0 J10 v\r\n", "VA 2\r\n10\r\n"),
    ("ma c D5 v\r\n", "VA 2\r\n15\r\n"),
    ("ma c MD D2 T90 v\r\n", "VA 2\r\n13\r\n"),
    ("md m2 I T30\r\n", "HD\r\n"),
    ("ms m2 1 T0\r\n3\r\n", "HD\r\n"),
    ("md m C1\r\n", "EX\r\n"),
    ("md m C{cas:m}\r\n", "HD\r\n"),
    ("md c q\r\nmn\r\n", "MN\r\n"),
];

const BINARY: &[&str] = &[
    "set key=b flags=7 exp=100 value=abc",
    "add key=b2 flags=1 value=1",
    "replace key=b2 flags=2 value=2",
    "append key=b value=def",
    "prepend key=b value=000",
    "incr key=count delta=5 initial=42",
    "incr key=count delta=5 initial=42",
    "decr key=count delta=3 initial=42",
    "touch key=b exp=500",
    "gat key=b exp=300",
    "gatk key=b exp=200",
    "delete key=b2",
];

/// Requests that are answered only when they fail, or find something.
const QUIET: &[&str] = &[
    "setq key=q flags=7 exp=100 value=abc",
    "addq key=q2 flags=1 value=1",
    "replaceq key=q2 flags=2 value=2",
    "appendq key=q value=def",
    "prependq key=q value=000",
    "incrq key=qn delta=5 initial=42",
    "decrq key=qn delta=3 initial=42",
    "deleteq key=q2",
    "flushq",
];

const NOREPLY: &str = "set r 3 0 1 noreply\r\n1\r\nadd r2 0 0 1 noreply\r\n2\r\n\
     replace r2 0 9 1 noreply\r\n3\r\nappend r 0 0 1 noreply\r\n0\r\nprepend r 0 0 1 noreply\r\n7\r\n\
     incr r 5 noreply\r\ndecr r 1 noreply\r\ntouch r 77 noreply\r\n\
     delete r2 noreply\r\nms r3 1 q\r\nx\r\nma r q\r\n";

/// `request` with the cas uniques that its marks stand for.
fn with_cas(request: &str, client: &mut Client) -> String {
    let Some((before, rest)) = request.split_once("{cas:") else { return request.to_owned() };
    let (key, after) = rest.split_once('}').unwrap();
    client.send(format!("mg {key} c\r\n"));
    let answer = String::from_utf8(client.line()).unwrap();
    let words = answer.split_whitespace();
    let cas = words.filter_map(|word| word.strip_prefix('c')).next();
    format!("{before}{}{after}", cas.unwrap_or_else(|| panic!("{key}: {answer:?}")))
}

/// An answer was heard: what it tells of is on the other node already.
#[track_caller]
fn assert_mirrored(writer: &mut Client, reader: &mut Client, after: &str) {
    let (written, read) = (contents(writer), contents(reader));
    let differences = super::contents::differences(&written, &read);
    assert!(differences.is_empty(), "after {after:?}: {differences:#?}");
}

#[track_caller]
fn wait_until_mirrored(writer: &mut Client, reader: &mut Client, after: &str) {
    let held = contents(writer);
    wait_until(&format!("{after:?} is mirrored"), || contents(reader) == held);
}

fn in_text(writer: &mut Client, reader: &mut Client) {
    for (request, answer) in TEXT.iter().chain(META) {
        let (request, answer) = (with_cas(request, writer), with_cas(answer, writer));
        writer.ask(&request, &answer);
        assert_mirrored(writer, reader, &request);
    }
    let large = vec![b'l'; 900_000];
    writer.set("large", &large);
    assert_eq!(reader.get("large").as_ref(), Some(&large));
    writer.send(NOREPLY);
    wait_until_mirrored(writer, reader, NOREPLY);
    assert_eq!(reader.get("r").as_deref(), Some(&b"715"[..]));
    writer.ask("flush_all\r\n", "OK\r\n");
    assert_eq!(contents(reader).len(), 0);
    writer.set("after", b"1");
    assert_mirrored(writer, reader, "a set after flush_all");
}

fn in_binary(writer: &mut Client, binary: &mut Client, reader: &mut Client) {
    for line in BINARY {
        assert_eq!(ask(binary, line), 0, "{line}");
        assert_mirrored(writer, reader, line);
    }
    for line in QUIET {
        binary.send(request(line));
        assert_eq!(ask(binary, "noop"), 0, "{line}");
        wait_until_mirrored(writer, reader, line);
    }
    writer.set("k", b"v");
    assert_eq!(ask(binary, "flush"), 0);
    assert_eq!(contents(reader).len(), 0);
}

/// The status of the answer to a request in frames.
fn ask(client: &mut Client, line: &str) -> u16 {
    client.send(request(line));
    status(&client.frame())
}

fn status(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[6], frame[7]])
}

fn in_both_directions(cluster: &mut Cluster, mut story: impl FnMut(&Cluster, usize, usize)) {
    story(cluster, 0, 1);
    story(cluster, 1, 0);
    cluster.wait_until_identical();
    cluster.assert_nothing_was_repaired();
}

#[test]
fn what_text_and_meta_clients_change_is_on_the_peer_when_they_are_answered() {
    in_both_directions(&mut Plan::of(2).start(), |cluster, from, to| {
        in_text(&mut cluster.client(from), &mut cluster.client(to));
    });
}

#[test]
fn what_binary_clients_change_is_on_the_peer_when_they_are_answered() {
    in_both_directions(&mut Plan::of(2).start(), |cluster, from, to| {
        let (mut text, mut binary) = (cluster.client(from), cluster.client(from));
        in_binary(&mut text, &mut binary, &mut cluster.client(to));
    });
}

#[test]
fn what_comes_over_a_unix_socket_is_mirrored_like_anything_else() {
    let mut cluster =
        Plan::of(2).with_at(0, &["-s", "{dir}/s"]).with_at(1, &["-s", "{dir}/s"]).start();
    in_both_directions(&mut cluster, |cluster, from, to| {
        in_text(&mut cluster.client(from), &mut cluster.client(to));
    });
}

#[test]
fn what_comes_by_datagrams_is_mirrored_like_anything_else() {
    let ports = [free_port(), free_port()];
    let [one, other] = ports.map(|port| port.to_string());
    let mut cluster = Plan::of(2).with_at(0, &["-U", &one]).with_at(1, &["-U", &other]).start();
    in_both_directions(&mut cluster, |cluster, from, to| {
        let (mut text, mut reader) = (cluster.client(from), cluster.client(to));
        let address = ([127, 0, 0, 1], ports[from]).into();
        let mut caller = Caller::between("127.0.0.1", address);
        for (request, answer) in TEXT.iter().chain(META) {
            let (request, answer) = (with_cas(request, &mut text), with_cas(answer, &mut text));
            let heard = caller.ask(&request).unwrap();
            assert_eq!(String::from_utf8(heard).unwrap(), answer, "{request:?}");
            assert_mirrored(&mut text, &mut reader, &request);
        }
        for line in BINARY {
            assert_eq!(status(&caller.ask(request(line)).unwrap()), 0, "{line}");
            assert_mirrored(&mut text, &mut reader, line);
        }
        caller.say("set quiet 0 0 1 noreply\r\n1\r\n");
        wait_until("a datagram without an answer is mirrored", || {
            reader.get("quiet").as_deref() == Some(&b"1"[..])
        });
        assert_eq!(caller.ask("flush_all\r\n").unwrap(), b"OK\r\n");
        assert_mirrored(&mut text, &mut reader, "flush_all by a datagram");
        assert_eq!(contents(&mut reader).len(), 0);
    });
}

#[test]
fn lock_keys_stay_where_they_were_made_and_what_an_operator_names_does_too() {
    let locks = ["sess_1.lock", "lock.abc", "memc.sess.lock.x", "memc.sess.key.lock.y"];
    in_both_directions(&mut Plan::of(2).start(), |cluster, from, to| {
        let (mut writer, mut reader) = (cluster.client(from), cluster.client(to));
        for lock in locks {
            writer.ask(format!("add {lock} 0 15 1\r\n1\r\n"), "STORED\r\n");
        }
        writer.set("sess_1", b"data");
        assert_eq!(reader.get("sess_1").as_deref(), Some(&b"data"[..]));
        for lock in locks {
            assert_eq!(reader.get(lock), None, "{lock}");
            reader.ask(format!("delete {lock}\r\n"), "NOT_FOUND\r\n");
            assert!(writer.get(lock).is_some(), "{lock}");
            writer.ask(format!("delete {lock}\r\n"), "DELETED\r\n");
        }
    });
    let cluster = Plan::of(2).with(&["--lock-keys", "here:*"]).start();
    let (mut writer, mut reader) = (cluster.client(0), cluster.client(1));
    writer.set("here:1", b"1");
    writer.set("sess_1.lock", b"1");
    assert_eq!(reader.get("here:1"), None);
    assert!(reader.get("sess_1.lock").is_some(), "only what the operator names stays");
}

#[test]
fn a_delayed_flush_empties_both_nodes_when_it_is_due() {
    in_both_directions(&mut Plan::of(2).start(), |cluster, from, to| {
        let (mut writer, mut reader) = (cluster.client(from), cluster.client(to));
        writer.set("k", b"v");
        writer.ask("flush_all 2\r\n", "OK\r\n");
        assert!(writer.get("k").is_some() && reader.get("k").is_some());
        wait_until("both are empty", || writer.get("k").is_none() && reader.get("k").is_none());
        // memcached lets what was written in the very second of a flush die with it.
        std::thread::sleep(Duration::from_millis(1_100));
        writer.set("k2", b"v");
        assert!(reader.get("k2").is_some());
    });
}

#[test]
fn a_version_that_a_client_makes_up_is_refused() {
    let cluster = Plan::of(2).start();
    for node in [0, 1] {
        let mut client = cluster.client(node);
        client.send("ms k 1 E99\r\n1\r\n");
        let answer = String::from_utf8(client.line()).unwrap();
        assert!(answer.starts_with("CLIENT_ERROR "), "{answer}");
        client.ask("get k\r\n", "END\r\n");
    }
}
