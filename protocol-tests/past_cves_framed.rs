//! What broke memcached in the past over frames, as far as it takes more than one of them; single
//! frames with impossible lengths are tested beside the decoder.

use std::time::Duration;

use crate::client::{Client, machine_to_itself, rss_kib, show, wait_until};
use crate::sasl::frame;
use crate::server::{Program, Server};

const SET: u8 = 0x01;
const GETQ: u8 = 0x09;
const NOOP: u8 = 0x0a;

/// Reads one answer; its status.
fn status(client: &mut Client) -> u16 {
    let header = client.bytes(24);
    client.bytes(u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize);
    u16::from_be_bytes([header[6], header[7]])
}

/// The refcount overflow of 1.6.43 (e3b7d33ce).
#[test]
fn seventy_thousand_quiet_gets_of_one_key_are_answered_or_given_back() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "64"]);
    let (mut client, mut text) = (Client::of(&server), Client::of(&server));
    client.send(frame(SET, &[0; 8], b"k", &[b'x'; 1_000]));
    assert_eq!(status(&mut client), 0);
    let thousand = frame(GETQ, b"", b"k", b"").repeat(1_000);
    for _ in 0..70 {
        client.send(&thousand);
        for _ in 0..1_000 {
            assert_eq!(status(&mut client), 0);
        }
    }
    let before = rss_kib(&server);
    let mut stalled: Vec<Client> = (0..4).map(|_| Client::of(&server)).collect();
    for reader in &mut stalled {
        reader.try_send(&thousand.repeat(70), Duration::from_millis(300));
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("4 x 70,000 quiet gets of one key, nobody reads: RSS + {grown} KiB"));
    assert!(grown <= 16 << 10, "RSS + {grown} KiB");
    text.ask("delete k\r\nget k\r\n", "DELETED\r\nEND\r\n");
    drop(stalled);
    wait_until("the stalled connections are closed", || text.stat("curr_connections") == 2);
    assert_eq!(text.stat("bytes"), 0, "the value's memory came back");
}

/// The null pointer of 1.6.42 (32ea7d8b5): stores that fail, while somebody watches.
#[test]
fn stores_that_fail_in_every_protocol_are_told_to_a_watcher_and_do_no_harm() {
    let server = Server::start(Program::Twincached, &[]);
    let mut watcher = Client::of(&server);
    watcher.ask("watch mutations\r\n", "OK\r\n");
    let (mut text, mut binary) = (Client::of(&server), Client::of(&server));
    text.set("k", b"v");
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    text.ask("add k 0 0 1\r\nx\r\nreplace other 0 0 1\r\nx\r\n", "NOT_STORED\r\nNOT_STORED\r\n");
    text.ask("cas k 0 0 1 1\r\nx\r\nappend other 0 0 1\r\nx\r\n", "EXISTS\r\nNOT_STORED\r\n");
    text.ask("ms k 1 ME\r\nx\r\nms other 1 MR\r\nx\r\nms k 1 C1\r\nx\r\n", "NS\r\nNS\r\nEX\r\n");
    let large = vec![b'x'; 2_000_000];
    for line in ["set k 0 0 2000000\r\n", "ms k 2000000\r\n"] {
        text.ask([line.as_bytes(), &large, b"\r\n"].concat(), too_large);
    }
    text.set("k", b"v");
    let failing = [
        (frame(0x02, &[0; 8], b"k", b"x"), 0x02),
        (frame(0x03, &[0; 8], b"other", b"x"), 0x01),
        (frame(0x0e, b"", b"other", b"x"), 0x05),
        (frame(0x02, &[0; 8], b"k", &large), 0x03),
        (frame(0x03, &[0; 8], b"k", &large), 0x03),
        (frame(SET, &[0; 8], b"k", &large), 0x03),
    ];
    for (frame, expected) in failing {
        binary.send(frame);
        assert_eq!(status(&mut binary), expected);
    }
    binary.send(frame(NOOP, b"", b"", b""));
    assert_eq!(status(&mut binary), 0, "the connection goes on");
    let (mut failed, mut lines) = (0, 0);
    while failed < 12 {
        let line = String::from_utf8(watcher.line()).unwrap();
        assert!(line.contains("type=item_store"), "{line}");
        failed += usize::from(!line.contains("status=stored"));
        lines += 1;
    }
    show(&format!("{lines} lines of a watcher tell of {failed} stores that failed"));
    assert!(text.is_served());
}
