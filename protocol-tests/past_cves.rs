//! What broke memcached in the past, as far as it came over the text protocol, its statistics and
//! its admin commands; each test names the number under which it was published.

use std::time::Duration;

use crate::client::{Client, rss_kib, settled_rss_kib, show};
use crate::pattern::escape;
use crate::server::{Program, Server};

/// CVE-2010-1152.
#[test]
fn bytes_without_a_newline_are_cut_off_early() {
    let server = Server::start(Program::Twincached, &[]);
    let mut other = Client::of(&server);
    assert!(other.is_served());
    let before = settled_rss_kib(&server);
    let mut client = Client::of(&server);
    let block = vec![b'x'; 64 << 10];
    let mut taken = 0u64;
    while taken < 200 << 20 && client.try_send(&block, Duration::from_secs(5)) {
        taken += block.len() as u64;
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("without a newline: closed after {} KiB, RSS + {grown} KiB", taken >> 10));
    assert!(taken < 8 << 20, "{taken} bytes were taken (kernel buffers hold a few MB of them)");
    assert!(grown < 1024, "RSS + {grown} KiB");
    assert!(other.is_served());
}

/// CVE-2009-2415: a length must be a length.
#[test]
fn lengths_that_are_none_are_refused_by_every_storage_command() {
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    let lengths = [
        "-1",
        "-2147483648",
        "2147483646",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "1e3",
        "0x10",
        "+1",
        "1.0",
        "abc",
    ];
    for verb in ["set", "add", "replace", "append", "prepend", "cas"] {
        for length in lengths {
            let unique = if verb == "cas" { " 1" } else { "" };
            let request = format!("{verb} k 0 0 {length}{unique}\r\nnot a command\r\n");
            client.ask(&request, "CLIENT_ERROR bad command line format\r\nERROR\r\n");
        }
    }
    client.ask("get k\r\n", "END\r\n");
}

#[rustfmt::skip]
const ADMIN_COMMANDS: &[&str] = &[
    "verbosity", "cache_memlimit", "refresh_certs", "misbehave", "debugtime", "debugitem",
    "flush_all", "shutdown", "slabs", "slabs reassign", "slabs automove", "slabs automove ratio",
    "slabs automove freeratio", "slabs automove window", "lru", "lru mode", "lru tune",
    "lru temp_ttl", "lru_crawler", "lru_crawler enable", "lru_crawler disable", "lru_crawler sleep",
    "lru_crawler tocrawl", "lru_crawler crawl", "lru_crawler metadump", "lru_crawler mgdump",
    "watch", "extstore", "extstore item_size", "stats", "stats items", "stats slabs", "stats sizes",
    "stats conns", "stats settings", "stats detail", "stats cachedump", "stats reset", "version",
];

#[rustfmt::skip]
const ARGUMENTS: &[&str] = &[
    "", " ", " abc", " -1", " 0", " 1", " 64", " 255", " 256", " 2147483648", " 4294967296",
    " 18446744073709551616", " 1 2", " -1 -1", " 1 2 3", " 1 2 3 4 5 6 7 8 9 10", " nan",
    " nan nan nan nan", " inf inf inf inf", " 1e400", " %n%s", " \x01\x7f", " noreply", " all",
    " 1,2,,3", " ,", " hash", " on", " off",
];

/// CVE-2019-11596 and the admin commands of 2026: every one with none, too few, too many and odd
/// arguments.
#[test]
fn admin_commands_survive_whatever_arguments() {
    let mut server = Server::start(Program::Twincached, &["-m", "1024"]);
    let mut probes = 0;
    for &command in ADMIN_COMMANDS {
        for &argument in ARGUMENTS {
            // The debug commands do what they say when the test clock is on.
            if command == "debugtime" && !argument.is_empty() {
                continue;
            }
            let mut client = Client::of(&server);
            client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
            client.send(format!("{command}{argument}\r\n"));
            let silent = argument == " noreply";
            if silent {
                client.set_patience(Duration::from_millis(20));
            }
            let answer = client.line();
            assert!(silent || !answer.is_empty(), "`{command}{argument}` is not answered");
            probes += 1;
        }
        assert!(Client::of(&server).is_served(), "the server lives after `{command}`");
        assert_eq!(server.complaint(), None, "{command}");
    }
    show(&format!("{probes} admin commands with odd arguments were answered"));
}

/// CVE-2013-0179: keys go to the log escaped, whatever they hold.
#[test]
fn a_key_cannot_write_to_the_log_what_it_likes() {
    let server = Server::start(Program::Twincached, &["-vvv"]);
    let mut client = Client::of(&server);
    let key = b"\x1b[31mred\x07\x08\x9b\x7f%s%n";
    for _ in 0..3 {
        client.send(
            [b"set ", &key[..], b" 0 0 1\r\nx\r\nget ", key, b"\r\nfoo ", key, b"\r\n"].concat(),
        );
        client.expect("STORED\r\n");
        client.line();
        client.expect("x\r\nEND\r\nERROR\r\n");
        client.ask([b"get ", &[b'k'; 250][..], b" ", &key[..], b"\r\n"].concat(), "VALUE ");
        client.line();
        client.expect("x\r\nEND\r\n");
    }
    let log = std::fs::read(server.file("stderr")).unwrap();
    let raw =
        log.iter().find(|&&byte| (byte < 0x20 && byte != b'\n' && byte != b'\t') || byte == 0x7f);
    assert_eq!(raw, None, "a control byte stands raw in the log: {}", escape(&log));
}

/// CVE-2019-15026.
#[test]
fn connections_on_a_long_socket_path_are_listed() {
    let server = Server::start(Program::Twincached, &["-s", "{dir}/socket"]);
    let length = server.file("").as_os_str().len();
    drop(server);
    let name = "s".repeat(107 - length);
    let server = Server::start(Program::Twincached, &["-s", &format!("{{dir}}/{name}")]);
    let mut client = Client::of(&server);
    let conns = client.stats("conns");
    assert!(conns.values().any(|value| value.starts_with("unix:") && value.ends_with(&name)));
    assert!(client.is_served());
}
