//! What broke memcached in the past over the binary protocol, and clients that mean ill in frames;
//! each test names the number under which it was published, or its row in the matrix of faults.
//! The same over text is in [`crate::past_cves`], [`crate::attacks`] and [`crate::buffers`].

use std::time::{Duration, Instant};

use crate::client::{Client, long_form, machine_to_itself, many_files, rss_kib, show, wait_until};
use crate::frame::request;
use crate::memory::Numbers;
use crate::pattern::escape;
use crate::server::{Program, Server};

/// Asks and returns the status of the one answer.
#[track_caller]
fn status(client: &mut Client, request: &[u8]) -> u16 {
    client.send(request);
    let reply = client.frame();
    u16::from_be_bytes([reply[6], reply[7]])
}

/// CVE-2011-4971, CVE-2016-8704 to 8706, CVE-2017-9951, CVE-2020-10931, and 1.6.42's body over
/// 2^31: each is answered at once, once, and the connection closed, whatever the opcode.
#[test]
fn lengths_that_cannot_be_are_answered_once_and_closed_on_every_opcode() {
    let mut server = Server::start(Program::Twincached, &[]);
    for opcode in 0..=u8::MAX {
        for (lengths, expected) in [
            ("bodylen=0xffffffff", 0x04),
            ("bodylen=0x80000001", 0x04),
            ("keylen=0xffff bodylen=8", 0x81),
            ("extlen=255 bodylen=8", 0x81),
            ("keylen=5 extlen=4 bodylen=8", 0x81),
        ] {
            let mut client = Client::of(&server);
            let got = status(&mut client, &request(&format!("{opcode:#04x} {lengths}")));
            assert_eq!(got, expected, "{opcode:#04x} {lengths}");
            let last = client.last_words();
            assert_eq!(last.as_deref(), Some(&b""[..]), "{opcode:#04x} {lengths}");
        }
    }
    assert!(Client::of(&server).is_served());
    assert_eq!(server.complaint(), None);
}

/// CVE-2022-26635: only frames can name a key with a line end, and no list of keys in lines may
/// repeat it as it is.
#[test]
fn a_key_with_a_line_end_forges_no_line_anywhere() {
    let server = Server::start(Program::Twincached, &["-vv"]);
    let mut watcher = Client::of(&server);
    watcher.ask("watch fetchers mutations deletions\r\n", "OK\r\n");
    let mut text = Client::of(&server);
    text.ask("stats detail on\r\n", "OK\r\n");
    let mut client = Client::of(&server);
    assert_eq!(status(&mut client, &request("set key=a\\r\\nFORGED\\sline\\r\\n:b value=x")), 0);
    assert_eq!(status(&mut client, &request("get key=a\\r\\nFORGED\\sline\\r\\n:b")), 0);
    for (list, end) in [
        ("stats cachedump 1 0", "END\r\n"),
        ("stats cachedump 2 0", "END\r\n"),
        ("stats detail dump", "END\r\n"),
        ("lru_crawler metadump all", "END\r\n"),
        ("lru_crawler mgdump all", "EN\r\n"),
    ] {
        text.send(format!("{list}\r\n"));
        loop {
            let line = text.line();
            assert!(!line.starts_with(b"FORGED"), "{list}: {}", escape(&line));
            if line == end.as_bytes() {
                break;
            }
        }
    }
    assert_eq!(status(&mut client, &request("delete key=a\\r\\nFORGED\\sline\\r\\n:b")), 0);
    loop {
        let line = watcher.line();
        assert!(!line.starts_with(b"FORGED"), "watch: {}", escape(&line));
        if line.windows(12).any(|words| words == b"type=deleted") {
            break;
        }
    }
    assert!(!server.stderr().lines().any(|line| line.starts_with("FORGED")), "the log");
}

/// 1.6.42, 32ea7d8b5: a store that fails while its watcher looks on.
#[test]
fn stores_that_fail_under_a_watchers_eyes_are_told_to_both() {
    let mut server = Server::start(Program::Twincached, &["-I", "1k"]);
    let mut watcher = Client::of(&server);
    watcher.ask("watch mutations\r\n", "OK\r\n");
    let mut client = Client::of(&server);
    let large = "x".repeat(2_000);
    for (line, expected) in [
        ("replace key=k value=x".to_string(), 0x01),
        ("append key=k value=x".to_string(), 0x05),
        ("set key=k value=x cas=5".to_string(), 0x01),
        (format!("set key=k value={large}"), 0x03),
        (format!("addq key=k value={large}"), 0x03),
        (format!("replace key=k value={large}"), 0x03),
        (format!("prependq key=k value={large}"), 0x03),
    ] {
        assert_eq!(status(&mut client, &request(&line)), expected, "{}", &line[..12]);
    }
    for told in [
        "not_stored",
        "not_stored",
        "not_found",
        "too_large",
        "too_large",
        "too_large",
        "too_large",
    ] {
        let line = String::from_utf8(watcher.line()).unwrap();
        assert!(line.contains(" type=item_store ") && line.contains(told), "{told}: {line}");
    }
    assert_eq!(server.complaint(), None);
}

/// F17 and 1.6.43, e3b7d33ce: quiet gets of one value that nobody reads.
#[test]
fn a_hundred_thousand_quiet_gets_of_one_key_hold_no_copies_and_give_it_back() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "64"]);
    let mut client = Client::of(&server);
    client.set("k", &[b'x'; 1_000]);
    let before = rss_kib(&server);
    let many = request("getq key=k").repeat(100_000);
    let mut stalled: Vec<Client> = (0..4).map(|_| Client::of(&server)).collect();
    for reader in &mut stalled {
        reader.try_send(&many, Duration::from_millis(200));
    }
    let reader = &mut stalled[0];
    for _ in 0..70_000 {
        assert_eq!(reader.bytes(24 + 4 + 1_000)[..8], *b"\x81\x09\0\0\x04\0\0\0");
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("4 x 100,000 quiet gets of one key, hardly read: RSS + {grown} KiB"));
    assert!(grown <= 4 * 8 * 1024, "RSS + {grown} KiB");
    client.ask("delete k\r\n", "DELETED\r\n");
    drop(stalled);
    wait_until("the stalled connections are closed", || client.stat("curr_connections") == 1);
    assert_eq!(client.stat("bytes"), 0, "the value's memory came back");
}

/// F13 and F20: half a header, a header without its body, and a value that is declared and not sent
/// take neither memory nor other people's items.
#[test]
fn a_thousand_half_frames_cost_little_and_hold_up_nobody() {
    let _machine = machine_to_itself();
    many_files();
    let mut server = Server::start(Program::Twincached, &["-m", "64", "-c", "1100"]);
    let mut client = Client::of(&server);
    for number in 0..5_000 {
        client.set(&format!("k{number}"), &[b'x'; 10_000]);
    }
    let before = rss_kib(&server);
    let halves = [
        request("noop")[..12].to_vec(),
        request("get key=half")[..26].to_vec(),
        request("set key=half value=only\\sthis\\smuch bodylen=1000000"),
        request("0x70 value=unknown bodylen=0x3fffffff"),
    ];
    let mut half = Vec::new();
    for number in 0..1_000 {
        half.push(Client::of(&server));
        half[number].send(&halves[number % halves.len()]);
    }
    wait_until("all are connected", || client.stat("curr_connections") == 1_001);
    let mut slowest = Duration::ZERO;
    for number in 0..5_000 {
        let since = Instant::now();
        assert!(client.get(&format!("k{number}")).is_some());
        slowest = slowest.max(since.elapsed());
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!(
        "1,000 clients send half a frame: RSS + {grown} KiB; another client's slowest get {slowest:?}"
    ));
    assert!(grown <= 1_000 * 16, "RSS + {grown} KiB is more than 16 KiB a connection");
    assert_eq!(client.stat("evictions"), 0);
    half[0].send(&request("noop")[12..]);
    assert_eq!(half[0].bytes(24)[..2], *b"\x81\x0a");
    assert_eq!(server.complaint(), None);
}

/// F18: clients that ask in frames for a lot and read nothing.
#[test]
fn frames_that_nobody_reads_cost_little_and_hold_up_nobody() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "64"]);
    let mut client = Client::of(&server);
    client.set("big", &vec![b'x'; 1_000_000]);
    let before = rss_kib(&server);
    let gets = request("getk key=big").repeat(2_000);
    let mut readers: Vec<Client> = (0..50).map(|_| Client::of(&server)).collect();
    for reader in &mut readers {
        reader.try_send(&gets, Duration::from_millis(50));
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..500 {
        let since = Instant::now();
        client.set("other", b"value");
        assert!(client.get("other").is_some());
        slowest = slowest.max(since.elapsed());
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!(
        "50 clients ask for 2,000 x 1 MB in frames and read nothing: RSS + {grown} KiB; another \
         client's slowest set and get {slowest:?}"
    ));
    assert!(grown <= 50 * 256, "RSS + {grown} KiB is more than 256 KiB a connection");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

fn below(numbers: &mut Numbers, bound: usize) -> usize {
    usize::try_from(numbers.below(u64::try_from(bound).unwrap())).unwrap()
}

/// Bytes that are nearly frames, of every opcode; all that is heard is logged, too (CVE-2013-0179,
/// -7290, -7291).
#[test]
fn damaged_frames_are_all_survived() {
    let _machine = machine_to_itself();
    let span = Duration::from_secs(if long_form() { 30 } else { 3 });
    let mut server = Server::start(Program::Twincached, &["-m", "64", "-vvv"]);
    let bodies = [
        "key=k value=0123456789 extras={\\0*8}",
        "key=n extras={\\0*20}",
        "key=k",
        "key=k extras=\\0\\0\\0\\x09",
        "key=settings",
    ];
    let empty = [0x07, 0x0a, 0x0b, 0x17, 0x20];
    let mut numbers = Numbers(0x5eed_5eed_5eed_5eed);
    let (mut connections, mut sent) = (0u64, 0usize);
    let ends = Instant::now() + span;
    while Instant::now() < ends {
        let mut batch = Vec::new();
        for _ in 0..20 {
            let opcode = below(&mut numbers, 0x28);
            let body = if empty.contains(&opcode) {
                String::new()
            } else {
                format!(" {}", bodies[below(&mut numbers, bodies.len())])
            };
            let mut request = request(&format!("{opcode:#04x}{body}"));
            for _ in 0..numbers.below(3) {
                let at = below(&mut numbers, request.len());
                match numbers.below(4) {
                    0 => request[at] = u8::try_from(numbers.below(256)).unwrap(),
                    1 if request.len() > 1 => drop(request.remove(at)),
                    2 => request.insert(at, b"\0\x01\x08\x14\x80\x81\xff\r\n"[at % 9]),
                    _ => request.truncate(at + 1),
                }
            }
            batch.extend(request);
        }
        let mut client = Client::of(&server);
        client.set_patience(Duration::from_millis(50));
        client.try_send(&batch, Duration::from_secs(2));
        client.set_patience(Duration::from_millis(2));
        let _ = client.last_words();
        connections += 1;
        sent += batch.len();
    }
    show(&format!("{sent} bytes of damaged frames on {connections} connections were survived"));
    assert!(Client::of(&server).is_served());
    assert_eq!(server.complaint(), None);
}
