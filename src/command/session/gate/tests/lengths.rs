//! Lengths, keys, bodies and first bytes that cannot be, before the login and after it.

use super::sasl::{STEP, authenticated};
use super::*;
use crate::protocol::binary::sample::Frame;

/// A header with lengths that contradict each other or are beyond every limit.
fn impossible(opcode: u8) -> Vec<Vec<u8>> {
    let lengths: [(u16, u8, u32); 7] = [
        (0, 0, u32::MAX),
        (0, 0, 0x8000_0001),
        (3, 8, (1 << 30) + 1),
        (u16::MAX, 0, 4),
        (3, 255, 4),
        (10, 20, 29),
        (251, 0, 251),
    ];
    let header = |(key_len, extras_len, body_len)| {
        Frame { key_len, extras_len, body_len, ..Frame::new(opcode, b"", b"", b"") }.bytes()
    };
    lengths.map(header).into()
}

#[test]
fn before_a_sasl_login_impossible_lengths_of_every_opcode_end_the_connection_unread() {
    let server = sasl_server(Settings::default());
    for opcode in 0..=u8::MAX {
        for header in impossible(opcode) {
            let mut client = Client::of(&server, Auto);
            let login = frame(START, b"PLAIN", RIGHT);
            let (answers, ended) = client.ask(&[header.clone(), login].concat());
            assert!(ended && answers.len() == 1, "{}: {answers:?}", header.escape_ascii());
            let status = answers[0].0;
            assert!([0x20, 0x04, 0x81].contains(&status), "{}", header.escape_ascii());
        }
    }
    let counts = server.totals.counts();
    assert_eq!((server.store.counters().curr_items, counts.auth_cmds), (0, 0));
}

#[test]
fn after_a_sasl_login_impossible_lengths_end_the_connection_with_one_answer() {
    let server = sasl_server(Settings::default());
    for opcode in [0x00, 0x01, 0x05, 0x08, 0x0a, 0x0e, 0x10, 0x1c, START, STEP] {
        for header in impossible(opcode) {
            let mut client = Client::of(&server, Auto);
            assert_eq!(client.one(START, b"PLAIN", RIGHT), authenticated());
            let (answers, ended) = client.ask(&[header.clone(), frame(0x0a, b"", b"")].concat());
            assert!(ended && answers.len() == 1, "{}: {answers:?}", header.escape_ascii());
        }
    }
    assert_eq!(server.store.counters().curr_items, 0);
}

#[test]
fn a_wrong_first_byte_ends_a_sasl_connection_without_a_word_before_and_after_the_login() {
    let server = sasl_server(Settings::default());
    for magic in (0..=u8::MAX).filter(|magic| *magic != 0x80) {
        let mut wrong = frame(0x00, b"key", b"");
        wrong[0] = magic;
        let next = [wrong, frame(START, b"PLAIN", RIGHT)].concat();
        assert_eq!(Client::of(&server, Binary).ask(&next), (vec![], true), "{magic:#x}");
        let mut inside = Client::of(&server, Binary);
        assert_eq!(inside.one(START, b"PLAIN", RIGHT), authenticated());
        assert_eq!(inside.ask(&next), (vec![], true), "{magic:#x}");
    }
}

#[test]
fn keys_and_bodies_over_the_limit_are_refused_after_a_text_login_and_the_next_is_heard() {
    let server = server(Settings { item_size_max: 1 << 10, ..text_login() });
    let mut client = Client::of(&server, Auto);
    assert_eq!(client.say(LOGIN).0, "STORED\r\n");
    let (key, value) = ("k".repeat(251), "get a\r\n".repeat(300));
    let malformed = "CLIENT_ERROR bad command line format\r\n";
    assert_eq!(
        client.say(format!("get {key}\r\nmg {key} v\r\n").as_bytes()).0,
        malformed.repeat(2)
    );
    let too_large = format!("set a 0 0 {}\r\n{value}\r\nms a {}\r\n{value}\r\n", 2100, 2100);
    assert_eq!(value.len(), 2100);
    let refused = "SERVER_ERROR object too large for cache\r\n";
    assert_eq!(client.say(too_large.as_bytes()).0, refused.repeat(2));
    assert_eq!(client.say(b"get a\r\n").0, "END\r\n");
}

#[test]
fn bodies_over_the_limit_are_refused_after_a_sasl_login_and_the_next_is_heard() {
    let server = sasl_server(Settings { item_size_max: 1 << 10, ..Settings::default() });
    let mut client = Client::of(&server, Auto);
    assert_eq!(client.one(START, b"PLAIN", RIGHT), authenticated());
    let set = Frame::new(0x01, &[0; 8], b"k", &frame(0x0a, b"", b"").repeat(100)).bytes();
    let (answers, ended) = client.ask(&[set, frame(0x0a, b"", b"")].concat());
    assert_eq!(answers, [Framed(0x03, "Too large.".to_owned()), Framed(0, String::new())]);
    assert!(!ended && client.is_inside());
    let (answers, ended) = client.ask(&frame(0x00, &[b'k'; 251], b""));
    assert_eq!(answers, [Framed(0x04, "Invalid arguments".to_owned())]);
    assert!(ended, "a key that cannot be ends the stream");
}
