//! A client that writes every value to both nodes, as pecl memcache does, and frees the lock at the
//! first before the second has read a byte: its late copy must not undo what the next page wrote.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::{Client, wait_until};
use crate::frame::request;

use super::cluster::{Cluster, Plan};

/// When a session expires, as PHP says it.
fn expiry() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1440
}

fn set(value: &str, expiry: u64) -> String {
    format!("set s 0 {expiry} {}\r\n{value}\r\nset s.lock 768 15 1\r\n0\r\n", value.len())
}

fn write(client: &mut Client, value: &str, expiry: u64) {
    client.ask(set(value, expiry), "STORED\r\nSTORED\r\n");
}

fn read_locked(client: &mut Client, value: &str) {
    let locked = format!("1\r\nNOT_STORED\r\nVALUE s 0 {}\r\n{value}\r\nEND\r\n", value.len());
    client.ask("incr s.lock 1\r\nadd s.lock 768 15 1\r\n1\r\nget s\r\n", locked);
}

fn wait_until_both_say(pair: &Cluster, value: &str) {
    let says = |node: usize| pair.client(node).get("s").as_deref() == Some(value.as_bytes());
    wait_until("both nodes say the same", || says(0) && says(1));
}

/// A pair that holds a session which nobody has locked.
fn pair() -> (Cluster, u64) {
    let (pair, expiry) = (Plan::of(2).with(&["--ack-timeout", "5000"]).start(), expiry());
    for node in [0, 1] {
        write(&mut pair.client(node), "start", expiry);
    }
    wait_until_both_say(&pair, "start");
    (pair, expiry)
}

#[test]
fn a_late_copy_of_a_write_does_not_undo_the_next_page_s() {
    let (pair, expiry) = pair();
    let [mut first, mut late] = [pair.client(0), pair.client(1)];
    for round in 0..20 {
        let (one, two) = (format!("one {round}"), format!("two {round}"));
        write(&mut first, &one, expiry);
        read_locked(&mut pair.client(0), &one);
        for node in [0, 1] {
            write(&mut pair.client(node), &two, expiry);
        }
        write(&mut late, &one, expiry);
        wait_until_both_say(&pair, &two);
        // Nothing more is under way: what this writes comes behind it.
        pair.client(1).set("behind", b"");
        wait_until_both_say(&pair, &two);
    }
}

/// More than are executed in one go, with a lock among them that is freed when peers have what is before it.
#[test]
fn late_copies_that_come_at_once_undo_nothing() {
    let (pair, expiry) = pair();
    let keys = || (10..35).map(|number| format!("session-{number}"));
    let set = |key: &str, value: &str| format!("set {key} 0 {expiry} 3\r\n{value}\r\n");
    let all = |value: &str| keys().map(|key| set(&key, value)).collect::<String>();
    let stored = "STORED\r\n".repeat(25);
    for value in ["one", "two"] {
        pair.client(0).ask(all(value), stored.clone());
    }
    let mut late = all("one");
    let lock = set("early", "new") + "set s.lock 768 15 1\r\n0\r\n";
    late.insert_str(3 * set("session-10", "one").len(), &lock);
    pair.client(1).ask(late, stored + "STORED\r\nSTORED\r\n");
    pair.client(1).set("behind", b"");
    wait_until("node 0 has heard all", || pair.client(0).get("behind").is_some());
    for (node, key) in [0, 1].into_iter().flat_map(|node| keys().map(move |key| (node, key))) {
        let value = pair.client(node).get(&key);
        assert_eq!(value.as_deref(), Some(&b"two"[..]), "{key} at node {node}");
    }
}

#[test]
fn a_late_copy_of_a_framed_write_does_not_undo_the_next_page_s() {
    let (pair, expiry) = pair();
    let framed = |node: usize, value: &str| {
        let set = request(&format!("set key=s exp={expiry} value={value}"));
        let mut client = pair.client(node);
        client.send(set);
        let answer = client.frame();
        assert_eq!(answer[6..8], [0, 0], "{answer:?}");
    };
    framed(0, "one");
    framed(0, "two");
    framed(1, "two");
    framed(1, "one");
    pair.client(1).set("behind", b"");
    wait_until_both_say(&pair, "two");
}

#[test]
fn a_page_that_read_at_the_second_node_may_write_an_old_value_there() {
    let (pair, expiry) = pair();
    for value in ["one", "two"] {
        write(&mut pair.client(0), value, expiry);
    }
    let mut page = pair.client(1);
    page.ask("get s\r\n", "VALUE s 0 3\r\ntwo\r\nEND\r\n");
    write(&mut page, "one", expiry);
    wait_until_both_say(&pair, "one");
}

#[test]
fn a_client_without_a_moment_of_expiry_may_write_an_old_value_at_any_node() {
    let pair = Plan::of(2).start();
    for exptime in [0, 1000] {
        for (node, value) in [(0, "one"), (0, "two"), (1, "one"), (0, "two"), (1, "one")] {
            pair.client(node).ask(format!("set s 0 {exptime} 3\r\n{value}\r\n"), "STORED\r\n");
            wait_until_both_say(&pair, value);
        }
    }
}

/// A copy is a copy once.
#[test]
fn a_value_that_is_written_twice_more_is_written() {
    let (pair, expiry) = pair();
    for value in ["one", "two"] {
        write(&mut pair.client(0), value, expiry);
    }
    for (value, is_now) in [("one", "two"), ("one", "one")] {
        write(&mut pair.client(1), value, expiry);
        wait_until_both_say(&pair, is_now);
    }
}

/// Whoever gets the lock may write at any node: what it protected must be there first.
#[test]
fn a_lock_is_freed_when_the_peer_has_what_it_protected() {
    let (pair, expiry) = pair();
    let mut page = pair.client(0);
    read_locked(&mut page, "start");
    pair.nodes[1].freeze();
    page.send(set("one", expiry));
    wait_until("the write is there", || pair.client(0).get("s").as_deref() == Some(b"one"));
    assert_eq!(pair.client(0).get("s.lock").as_deref(), Some(&b"1"[..]), "the peer has nothing");
    pair.nodes[1].thaw();
    page.expect("STORED\r\nSTORED\r\n");
    assert_eq!(pair.client(0).get("s.lock").as_deref(), Some(&b"0"[..]));
}
