//! The connections' memory from outside: what clients declare and do not send, ask for and do not
//! read, or ask for all at once, costs little.

use std::time::{Duration, Instant};

use crate::client::{Client, long_form, machine_to_itself, many_files, rss_kib, show, wait_until};
use crate::server::{Program, Server};

const MIB_IN_KIB: u64 = 1024;

/// F20: what is declared and not sent takes neither memory nor other people's items.
#[test]
fn declared_values_that_do_not_come_cost_nothing() {
    let _machine = machine_to_itself();
    many_files();
    let server = Server::start(Program::Twincached, &["-m", "64", "-c", "2000"]);
    let mut client = Client::of(&server);
    for number in 0..5_000 {
        client.set(&format!("k{number}"), &[b'x'; 10_000]);
    }
    let before = rss_kib(&server);
    let stalled: Vec<Client> = (0..500)
        .map(|number| {
            let mut stalled = Client::of(&server);
            stalled.send(format!("set s{number} 0 0 1000000\r\nonly this much"));
            stalled
        })
        .collect();
    wait_until("all are connected", || client.stat("curr_connections") == 501);
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("500 clients declare 1 MB each and stall: RSS + {grown} KiB"));
    assert!(grown <= 500 * 64, "{grown} KiB is more than 64 KiB a connection");
    assert_eq!(client.stat("evictions"), 0);
    assert!((0..5_000).all(|number| client.get(&format!("k{number}")).is_some()));
    drop(stalled);
}

/// F18: values are not copied for clients that do not read them.
#[test]
fn clients_that_never_read_cost_little_and_hold_up_nobody() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "64"]);
    let mut client = Client::of(&server);
    let gets = if long_form() { 2_000 } else { 200 };
    client.set("big", &vec![b'x'; 1_000_000]);
    assert!(client.get("big").is_some());
    let before = rss_kib(&server);
    let silent: Vec<Client> = (0..50)
        .map(|_| {
            let mut silent = Client::of(&server);
            silent.try_send(&b"get big\r\n".repeat(gets), Duration::from_secs(1));
            silent
        })
        .collect();
    let (mut worst_rss, mut slowest) = (0, Duration::ZERO);
    for round in 0..200 {
        let since = Instant::now();
        client.set("other", format!("{round}").as_bytes());
        assert!(client.get("other").is_some());
        slowest = slowest.max(since.elapsed());
        worst_rss = worst_rss.max(rss_kib(&server));
        std::thread::sleep(Duration::from_millis(5));
    }
    let grown = worst_rss.saturating_sub(before);
    show(&format!(
        "50 clients ask {gets} times for 1 MB and never read: RSS + {grown} KiB; another client's \
         slowest set and get {slowest:?}"
    ));
    assert!(grown <= 50 * 128 + 8 * MIB_IN_KIB, "RSS + {grown} KiB");
    drop(silent);
}

#[test]
fn a_value_on_its_way_to_a_slow_reader_stays_what_it_was() {
    let server = Server::start(Program::Twincached, &["-I", "16m"]);
    let (mut slow, mut other) = (Client::of(&server), Client::of(&server));
    let length = 8 << 20;
    other.set("k", &vec![b'a'; length]);
    slow.send("get k\r\n");
    slow.expect(format!("VALUE k 0 {length}\r\n"));
    other.set("k", &vec![b'b'; length]);
    other.ask("delete k\r\n", "DELETED\r\n");
    other.set("k", b"c");
    let value = slow.bytes(length);
    assert!(value.iter().all(|&byte| byte == b'a'), "two values are mixed");
    slow.expect("\r\nEND\r\n");
    assert_eq!(slow.get("k").as_deref(), Some(&b"c"[..]));
}

/// F17 and CVE-2018-1000127: references to one value are not copies, do not run over, and end.
#[test]
fn seventy_thousand_references_to_one_key_are_answered_or_given_back() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "64"]);
    let mut client = Client::of(&server);
    client.set("k", &[b'x'; 1_000]);
    let many = format!("get {}k\r\n", "k ".repeat(70_000));
    let hit = [b"VALUE k 0 1000\r\n", &[b'x'; 1_000][..], b"\r\n"].concat();
    client.send(&many);
    for _ in 0..=70_000 {
        client.expect(&hit);
    }
    client.expect("END\r\n");
    let before = rss_kib(&server);

    let mut stalled: Vec<Client> = (0..4).map(|_| Client::of(&server)).collect();
    for reader in &mut stalled {
        reader.send(&many);
        reader.try_send(&b"get k\r\n".repeat(50_000), Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_millis(300));
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("4 x 120,000 references to one key, nobody reads: RSS + {grown} KiB"));
    assert!(grown <= 4 * 8 * MIB_IN_KIB, "RSS + {grown} KiB");
    client.ask("delete k\r\n", "DELETED\r\n");
    client.ask("get k\r\n", "END\r\n");
    drop(stalled);
    wait_until("the stalled connections are closed", || client.stat("curr_connections") == 1);
    assert_eq!(client.stat("bytes"), 0, "the value's memory came back");
}

#[test]
fn a_hundred_thousand_keys_on_one_line_are_answered_in_order() {
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    for number in (0..100_000).step_by(1_000) {
        client.set(&format!("k{number}"), b"v");
    }
    let line: String = (0..100_000).map(|number| format!(" k{number}")).collect();
    client.send(format!("get{line}\r\n"));
    for number in (0..100_000).step_by(1_000) {
        client.expect(format!("VALUE k{number} 0 1\r\nv\r\n"));
    }
    client.expect("END\r\n");
}

/// F17: a thousand times a megabyte, asked for at once.
#[test]
fn a_gigabyte_asked_for_in_one_line_is_sent_and_not_held() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "64"]);
    let (mut client, mut other) = (Client::of(&server), Client::of(&server));
    client.set("big", &vec![b'x'; 1_000_000]);
    let before = rss_kib(&server);
    client.send(format!("get {}\r\n", "big ".repeat(1_000)));
    let (mut worst, mut slowest) = (0, Duration::ZERO);
    for _ in 0..1_000 {
        client.expect("VALUE big 0 1000000\r\n");
        assert!(client.bytes(1_000_000).iter().all(|&byte| byte == b'x'));
        client.expect("\r\n");
        let since = Instant::now();
        assert!(other.is_served());
        slowest = slowest.max(since.elapsed());
        worst = worst.max(rss_kib(&server));
    }
    client.expect("END\r\n");
    let grown = worst.saturating_sub(before);
    show(&format!(
        "1,000 x 1 MB in one get: RSS + {grown} KiB; another client's slowest answer {slowest:?}"
    ));
    assert!(grown <= 32 * MIB_IN_KIB, "RSS + {grown} KiB");
}
