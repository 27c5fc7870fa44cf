//! Meta commands where a conversation does not reach: full memory, UDP, and clients that mean ill.

use std::net::UdpSocket;
use std::time::Duration;

use crate::client::{Client, machine_to_itself, rss_kib, show, wait_until};
use crate::server::{Program, Server};

const MALFORMED: &str = "CLIENT_ERROR bad command line format\r\n";
const OUT_OF_MEMORY: &str = "SERVER_ERROR out of memory storing object\r\n";

/// A `-M` server of which no byte is left, and the client that filled it; `n` and `old` are in it.
fn full() -> (Server, Client) {
    let server = Server::start(Program::Twincached, &["-M", "-m", "8"]);
    let mut client = Client::of(&server);
    client.ask("ms n 1\r\n5\r\nms old 3\r\nabc\r\n", "HD\r\nHD\r\n");
    for (round, len) in [10_000, 100, 1].into_iter().enumerate() {
        let mut number = 0;
        loop {
            client.send(format!("ms fill{round}-{number} {len}\r\n{}\r\n", "x".repeat(len)));
            match client.line().as_slice() {
                b"HD\r\n" => number += 1,
                answer => break assert_eq!(answer, OUT_OF_MEMORY.as_bytes()),
            }
        }
    }
    (server, client)
}

#[test]
fn what_finds_no_memory_is_told_so_in_spite_of_q() {
    let (_server, mut client) = full();
    for flags in ["", " q", " ME", " MA N0", " k O1 c s"] {
        client.ask(format!("ms new 5{flags}\r\nhello\r\n"), OUT_OF_MEMORY);
    }
    client.ask("mg new\r\n", "EN\r\n");
    client.ask("ma new N0\r\n", "SERVER_ERROR Out of memory allocating new item\r\n");
    client.ask("ma new N0 q v\r\n", "SERVER_ERROR Out of memory allocating new item\r\n");
    assert!(client.stat("store_no_memory") >= 5);
    assert_eq!(client.stat("evictions"), 0);
}

#[test]
fn a_placeholder_that_finds_no_memory_is_a_miss_and_nobody_wins() {
    let (_server, mut client) = full();
    client.ask("mg new N30 v k O1\r\nmg new N30 q\r\nmn\r\n", "EN knew O1\r\nMN\r\n");
}

#[test]
fn what_is_there_can_be_read_counted_and_deleted_when_memory_is_full() {
    let (_server, mut client) = full();
    client.ask("mg n v\r\nma n v\r\nma n MD D3\r\n", "VA 1\r\n5\r\nVA 1\r\n6\r\nHD\r\n");
    client.ask("mg n T100 R200\r\nmd n I T30\r\nmg n v\r\n", "HD W\r\nHD\r\nVA 1 X W\r\n3\r\n");
    client.ask("md n x\r\nmg n v\r\nmd n\r\nmg n\r\n", "HD\r\nVA 0\r\n\r\nHD\r\nEN\r\n");
}

#[test]
fn a_value_of_ms_that_finds_no_memory_takes_the_old_one_along() {
    let (_server, mut client) = full();
    let value = "x".repeat(100_000);
    client.ask(format!("ms old 100000 MR\r\n{value}\r\n"), OUT_OF_MEMORY);
    client.ask("mg old\r\n", "EN\r\n");
}

struct Datagrams {
    socket: UdpSocket,
    next_id: u16,
}

impl Datagrams {
    fn to(server: &Server) -> Datagrams {
        let ports = std::fs::read_to_string(server.file("port")).unwrap();
        let port = ports.lines().find_map(|line| line.strip_prefix("UDP INET: ")).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(format!("127.0.0.1:{port}")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Datagrams { socket, next_id: 1 }
    }

    /// Sends one datagram and expects `answers` in messages of their own and in order.
    fn ask(&mut self, request: &str, answers: &[&str]) {
        let id = self.next_id;
        self.next_id += 1;
        let frame = [&id.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0]].concat();
        self.socket.send(&[&frame, request.as_bytes()].concat()).unwrap();
        for answer in answers {
            let mut datagram = [0; 1500];
            let len = self.socket.recv(&mut datagram).unwrap();
            assert_eq!(&datagram[..8], &frame[..], "{request}");
            assert_eq!(String::from_utf8_lossy(&datagram[8..len]), *answer, "{request}");
        }
    }
}

#[test]
fn meta_commands_work_over_udp() {
    let server = Server::start(Program::Twincached, &["-U", "-1"]);
    let mut client = Datagrams::to(&server);
    client.ask("ms k 3 F5 T0\r\nabc\r\n", &["HD\r\n"]);
    client.ask("mg k v f k O1\r\n", &["VA 3 f5 kk O1\r\nabc\r\n"]);
    client.ask("mg k v\nma n N0 J7 v\nme miss\n", &["VA 3\r\nabc\r\n", "VA 1\r\n7\r\n", "EN\r\n"]);
    client.ask("mg miss q\r\nms j 1 q\r\nx\r\nmn\r\n", &["MN\r\n"]);
    client.ask("ms k 3 z\r\nnew\r\nmn\r\n", &["CLIENT_ERROR invalid flag\r\n", "MN\r\n"]);
    client.ask("md k\r\nmg k N30\r\nmg k\r\n", &["HD\r\n", "HD W\r\n", "HD Z\r\n"]);
    // Half a value is not waited for: the next datagram is a request again.
    client.ask("ms k 9\r\nhalf", &[]);
    client.ask("mn\r\n", &["MN\r\n"]);
}

/// CVE-2018-1000115.
#[test]
fn a_meta_answer_over_udp_is_no_amplifier_for_strangers() {
    let flags = ["-U", "-1", "--udp-allow", "10.99.99.0/24"];
    let server = Server::start(Program::Twincached, &flags);
    Client::of(&server).set("k", &[b'x'; 100_000]);
    let mut stranger = Datagrams::to(&server);
    stranger.ask("mg k v\r\n", &["SERVER_ERROR reply too large for udp\r\n"]);
    stranger.ask("mg k s\r\n", &["HD s100000\r\n"]);
}

/// CVE-2009-2415.
#[test]
fn lengths_that_are_none_are_refused_by_ms() {
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    #[rustfmt::skip]
    let lengths = [
        "-1", "-2147483648", "2147483646", "2147483647", "2147483648", "4294967295", "4294967296",
        "9223372036854775807", "9223372036854775808", "18446744073709551615",
        "18446744073709551616", "99999999999999999999999999", "1e3", "0x10", "+1", "1.0", "abc",
    ];
    for length in lengths {
        for flags in ["", " q", " MA", " b"] {
            let request = format!("ms k {length}{flags}\r\nnot a command\r\n");
            client.ask(&request, format!("{MALFORMED}ERROR\r\n"));
        }
    }
    client.ask("mg k\r\n", "EN\r\n");
}

/// CVE-2020-22570.
#[test]
fn crafted_meta_lines_are_answered_and_the_next_command_heard() {
    let mut server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    let long = ["k".repeat(250), "k".repeat(251), "k".repeat(2000)];
    let keys = ["", "k", "\0", "\x01\x7f", "\u{e9}", "%n%s", "====", "Zm9v", "AAAA"];
    let keys: Vec<&str> = keys.into_iter().chain(long.iter().map(String::as_str)).collect();
    #[rustfmt::skip]
    let flags = [
        "", " ", " b", " b k", " b b", " S", " S1", " T", " T-1", " Tx", " T99999999999", " N", " R",
        " E", " C", " M", " MM", " I", " O", " k k", " \0", " \x7f", " \u{e9}", " *", " 1", " -1",
        " 4294967296", " v q s t c f l h u x", " b v q s t c f l h u x I MS T0 N0 R0 C0 E0 J0",
    ];
    let mut probes = 0;
    for command in ["mg", "ms", "md", "ma", "mn", "me"] {
        for key in &keys {
            for flags in flags {
                // What follows ends whatever data block was declared, and is told from all answers.
                client.send(format!("{command} {key}{flags}\r\n\r\nmn\r\nversion\r\n"));
                while !client.line().starts_with(b"VERSION") {}
                probes += 1;
            }
        }
    }
    assert!(client.is_served());
    assert_eq!(server.complaint(), None);
    show(&format!("{probes} crafted meta lines were answered"));
}

/// CVE-2023-46852.
#[test]
fn spaces_by_the_thousand_before_a_meta_key_hurt_nobody() {
    let mut server = Server::start(Program::Twincached, &[]);
    for spaces in [1, 100, 1_000, 2_000, 65_536] {
        for command in ["mg", "ms", "md", "ma", "me"] {
            let mut client = Client::of(&server);
            client.send(format!("{command}{}k\r\nmn\r\n", " ".repeat(spaces)));
            let answer = client.line();
            // A line this long may also end the connection; it may not do anything else.
            assert!(spaces > 1_900 || !answer.is_empty(), "{command} and {spaces} spaces");
        }
    }
    assert!(Client::of(&server).is_served());
    assert_eq!(server.complaint(), None);
}

/// CVE-2022-26635: a key from base64 may hold a line end, and no listing repeats it raw.
#[test]
fn a_binary_key_with_line_ends_feigns_no_line_anywhere() {
    let server = Server::start(Program::Twincached, &["-vvv"]);
    let mut watcher = Client::of(&server);
    watcher.ask("watch fetchers mutations deletions\r\n", "OK\r\n");
    let mut client = Client::of(&server);
    let key = "YQ0KRU5EDQo="; // "a\r\nEND\r\n"
    client.ask(format!("ms {key} 1 b k\r\nx\r\n"), format!("HD k{key} b\r\n"));
    client.ask(format!("mg {key} b k\r\n"), format!("HD k{key} b\r\n"));
    client.ask(format!("me {key} b\r\n"), format!("ME {key} "));
    client.line();
    client.send("lru_crawler metadump all\r\n");
    client.expect("OK\r\n");
    let listed = client.line();
    assert!(listed.starts_with(b"key=a%0D%0AEND%0D%0A "), "{}", listed.escape_ascii());
    client.expect("END\r\n");
    client.ask("lru_crawler mgdump all\r\n", format!("OK\r\nmg {key} b\r\nEN\r\n"));
    client.ask(format!("md {key} b k\r\n"), format!("HD k{key} b\r\n"));
    loop {
        let line = watcher.line();
        assert!(line.starts_with(b"ts="), "{}", line.escape_ascii());
        if line.windows(12).any(|part| part == b"type=deleted") {
            break;
        }
    }
    let log = std::fs::read_to_string(server.file("stderr")).unwrap();
    assert!(!log.lines().any(|line| line.starts_with("END")), "{log}");
}

/// CVE-2023-46853.
#[test]
fn every_meta_command_may_end_in_a_bare_newline() {
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    client.ask("ms k 1 c\nx\r\n", "HD c");
    client.line();
    client.ask("mg k v\nma n N0\nmn \nme no\nmd k\n", "VA 1\r\nx\r\nHD\r\nMN\r\nEN\r\nHD\r\n");
}

/// The leaks of 1.6.45: lines refused late must not hold on to items.
#[test]
fn refused_meta_lines_hold_no_memory() {
    let server = Server::start(Program::Twincached, &["-M", "-m", "8"]);
    let mut client = Client::of(&server);
    let value = "x".repeat(500_000);
    for round in 0..50 {
        client.ask(format!("ms k 500000\r\n{value}\r\n"), "HD\r\n");
        let opaque = format!("mg k v O{}\r\n", "o".repeat(40));
        client.ask(opaque, "CLIENT_ERROR opaque token too long\r\n");
        client.ask("mg k v z\r\n", "CLIENT_ERROR invalid flag\r\n");
        client.ask(format!("ms k 500000 z\r\n{value}\r\n"), "CLIENT_ERROR invalid flag\r\n");
        client.ask(format!("ms k 500000\r\n{value}ab"), "CLIENT_ERROR bad data chunk\r\n");
        client.ask("md k\r\n", "HD\r\n");
        assert_eq!(client.stat("curr_items"), 0, "round {round}");
    }
    assert_eq!(client.stat("store_no_memory"), 0);
}

/// CVE-2018-1000127.
#[test]
fn one_value_may_be_asked_for_70_000_times_by_meta_without_a_reader() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &[]);
    let mut other = Client::of(&server);
    other.set("k", &[b'x'; 100_000]);
    let before = rss_kib(&server);
    let mut stalled = Client::of(&server);
    stalled.try_send("mg k v\r\n".repeat(70_000).as_bytes(), Duration::from_secs(1));
    other.ask("md k\r\nmg k\r\n", "HD\r\nEN\r\n");
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("70,000 mg of 100 kB that nobody reads: RSS + {grown} KiB"));
    assert!(grown < 4 * 1024, "RSS + {grown} KiB");
    drop(stalled);
    wait_until("the stalled client is gone", || other.stat("curr_connections") == 1);
    assert_eq!(other.stat("curr_items"), 0);
}

/// F20: what is declared and does not come takes neither memory nor anybody's place.
#[test]
fn values_that_ms_declares_and_never_sends_evict_nothing() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "16"]);
    let mut client = Client::of(&server);
    for number in 0..100 {
        client.set(&format!("live{number}"), &[b'x'; 10_000]);
    }
    let before = rss_kib(&server);
    let mut stalled: Vec<Client> = (0..200).map(|_| Client::of(&server)).collect();
    for (number, stalled) in stalled.iter_mut().enumerate() {
        stalled.ask(format!("mn\r\nms stalled{number} 1000000 q\r\nxxx"), "MN\r\n");
    }
    assert!(client.is_served());
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("200 times ms of 1 MB that does not come: RSS + {grown} KiB"));
    assert!(grown < 200 * 64, "RSS + {grown} KiB");
    assert_eq!((client.stat("curr_items"), client.stat("evictions")), (100, 0));
}

/// The NULL of 1.6.42: stores that fail while somebody watches.
#[test]
fn stores_that_fail_in_every_mode_are_watched_unharmed() {
    let mut server = Server::start(Program::Twincached, &["-M", "-m", "8"]);
    let mut watcher = Client::of(&server);
    watcher.ask("watch mutations fetchers deletions\r\n", "OK\r\n");
    let mut client = Client::of(&server);
    let value = "x".repeat(1_048_577);
    for mode in ["", " ME", " MA", " MP", " MR", " C1", " q", " b", " I C1"] {
        let too_large = "SERVER_ERROR object too large for cache\r\n";
        client.ask(format!("ms Zm9v 1048577{mode}\r\n{value}\r\n"), too_large);
        client.ask(format!("ms Zm9v 3{mode}\r\nabcde"), "CLIENT_ERROR bad data chunk\r\n");
        assert!(client.is_served(), "{mode}");
    }
    assert!(watcher.line().starts_with(b"ts="));
    assert_eq!(server.complaint(), None);
}

/// CVE-2010-1152: only get may have lines without end.
#[test]
fn a_meta_line_without_end_ends_the_connection() {
    let server = Server::start(Program::Twincached, &[]);
    for command in ["mg ", "ms ", "md ", "ma ", "mn ", "me "] {
        let mut client = Client::of(&server);
        client.send(format!("{command}{}", "k".repeat(4_000)));
        assert_eq!(client.last_words(), Some(Vec::new()), "{command}");
    }
    assert!(Client::of(&server).is_served());
}
