//! Long replies and long batches: who has to wait, and how much is held meanwhile.

use std::time::Duration;

use super::*;

#[test]
fn after_so_many_requests_a_connection_yields_and_loses_nothing() {
    let server = server(Settings { max_reqs_per_event: 3, ..Settings::default() });
    let mut client = Client::of(&server);
    let mut out = Vec::new();
    let input = b"get a\r\n".repeat(7);
    let received = client.session.receive(&input, client.now, &mut out);
    assert_eq!(received, Received { consumed: 21, next: Next::Yield });
    assert_eq!(server.totals.counts().conn_yields, 1);
    assert_eq!(client.say(&input), b"END\r\n".repeat(7));
    assert_eq!(server.totals.counts().conn_yields, 3, "the seventh is the last of its batch");
    assert_eq!(client.say(&b"get a\r\n".repeat(3)), b"END\r\n".repeat(3));
    assert_eq!(server.totals.counts().conn_yields, 3, "nothing was left to yield for");
}

#[test]
fn a_huge_multi_get_is_answered_whole_and_in_bounded_pieces() {
    let mut client = Client::of(&server(Settings::default()));
    let value = "v".repeat(1000);
    client.say(format!("set k 0 0 1000\r\n{value}\r\n").as_bytes());
    client.longest_send = 0;
    let reply = client.say(format!("get{}\r\nversion\r\n", " k".repeat(70_000)).as_bytes());
    let hit = format!("VALUE k 0 1000\r\n{value}\r\n");
    let tail = format!("END\r\nVERSION {}\r\n", crate::limits::VERSION);
    assert_eq!(reply.len(), 70_000 * hit.len() + tail.len());
    assert!(reply.chunks(hit.len()).take(70_000).all(|chunk| chunk == hit.as_bytes()));
    assert!(reply.ends_with(tail.as_bytes()));
    assert!(client.longest_send <= 2 * OUTPUT_SOFT_MAX, "held {} bytes", client.longest_send);
}

#[test]
fn a_hundred_thousand_misses_are_looked_up_in_turns() {
    let mut client = Client::of(&server(Settings::default()));
    let line = format!("get{}\r\n", " m".repeat(100_000));
    let mut out = Vec::new();
    let received = client.session.receive(line.as_bytes(), client.now, &mut out);
    assert_eq!(received, Received { consumed: line.len(), next: Next::Resume });
    let mut turns = 1;
    while client.session.resume(client.now, &mut out) == Next::Resume {
        turns += 1;
    }
    assert_eq!(out, b"END\r\n");
    assert!(turns > 50, "only {turns} turns");
}

#[test]
fn a_get_whose_turns_end_anywhere_is_answered_in_its_order_and_counts_each_key_once() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    let lens = [3, 500, 70_000, 511, 20_000, 0, 512, 513];
    for n in 0..64 {
        let (flags, len) = (n % 3, lens[n % lens.len()]);
        let value = "v".repeat(len);
        client.say(format!("set k{n} {flags} 0 {len}\r\n{value}\r\n").as_bytes());
    }
    // Numbers beyond 63 were never stored.
    let asked: Vec<usize> = (0..700).map(|nth| nth * 31 % 80).collect();
    let (mut line, mut expected) = ("get".to_owned(), String::new());
    for &n in &asked {
        line += &format!(" k{n}");
        if n < 64 {
            let (flags, len) = (n % 3, lens[n % lens.len()]);
            expected += &format!("VALUE k{n} {flags} {len}\r\n{}\r\n", "v".repeat(len));
        }
    }
    let reply = client.say(format!("{line}\r\n").as_bytes());
    assert!(reply == format!("{expected}END\r\n").as_bytes(), "the reply is another");
    let hits = asked.iter().filter(|&&n| n < 64).count() as u64;
    let counts = server.totals.counts();
    assert_eq!((counts.cmd_get, counts.get_hits, counts.get_misses), (700, hits, 700 - hits));
    assert_eq!(counts.class_hits.iter().sum::<u64>(), hits);
}

#[test]
fn why_a_key_is_missed_is_counted_though_a_turn_ends_before_it() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    let value = "v".repeat(70_000);
    client.say(format!("set big 0 0 70000\r\n{value}\r\nset gone 0 1 1\r\nx\r\n").as_bytes());
    client.now = client.now.plus(Duration::from_secs(2));
    let reply = client.say(b"get big gone\r\n");
    assert!(reply == format!("VALUE big 0 70000\r\n{value}\r\nEND\r\n").as_bytes());
    let counts = server.totals.counts();
    assert_eq!((counts.cmd_get, counts.get_misses, counts.get_expired), (2, 1, 1));
}

#[test]
fn large_values_are_sent_in_bounded_pieces_and_stay_what_they_were() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    let value = "0123456789".repeat(90_000);
    client.say(format!("set k 0 0 {}\r\n{value}\r\n", value.len()).as_bytes());
    let mut reply = Vec::new();
    let mut next = client.session.receive(b"get k k\r\n", client.now, &mut reply).next;
    Client::of(&server).say(b"set k 0 0 1\r\nx\r\n");
    while next == Next::Resume {
        let mut turn = Vec::new();
        next = client.session.resume(client.now, &mut turn);
        assert!(turn.len() <= 2 * OUTPUT_SOFT_MAX, "a turn of {} bytes", turn.len());
        reply.extend_from_slice(&turn);
    }
    let expected = format!("VALUE k 0 900000\r\n{value}\r\nVALUE k 0 1\r\nx\r\nEND\r\n");
    assert_eq!(reply.len(), expected.len());
    assert!(reply == expected.as_bytes());
}

#[test]
fn pipelined_large_replies_do_not_pile_up() {
    let mut client = Client::of(&server(Settings::default()));
    client.say(format!("set k 0 0 10000\r\n{}\r\n", "v".repeat(10_000)).as_bytes());
    client.longest_send = 0;
    let reply = client.say(&b"get k\r\n".repeat(500));
    assert_eq!(reply.len(), 500 * ("VALUE k 0 10000\r\n".len() + 10_000 + "\r\nEND\r\n".len()));
    assert!(client.longest_send <= 2 * OUTPUT_SOFT_MAX, "held {} bytes", client.longest_send);
}
