//! Datagrams that are cut, too long, wrongly counted or made up, and other clients meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::caller::{Caller, HEADING_LEN, Heading, udp_port};
use crate::attacks::Finish;
use crate::client::{Client, long_form, machine_to_itself, rss_kib, show, wait_until};
use crate::frame;
use crate::memory::Numbers;
use crate::server::{Program, Server};

/// Datagrams sent before their sender waits until all have been read: what a socket's buffer takes
/// on every machine, so that the kernel drops none of the other client's.
const WINDOW: usize = 32;

/// Longest payload of a datagram that IPv4 carries, the heading included.
const LONGEST: usize = 65_507;

/// A kind of datagram: what it is called, and how one is made.
type Kind = (&'static str, fn(&mut Numbers) -> Vec<u8>);

const KINDS: [Kind; 7] = [
    ("incomplete", incomplete),
    ("over-long", over_long),
    ("wrongly counted", wrongly_counted),
    ("runts", runt),
    ("random", |numbers| random(numbers, 200)),
    ("random behind a heading", |numbers| Heading::of(7).around(&random(numbers, 200))),
    ("damaged", damaged),
];

fn below(numbers: &mut Numbers, bound: usize) -> usize {
    usize::try_from(numbers.below(bound as u64)).unwrap()
}

fn number(numbers: &mut Numbers) -> u16 {
    u16::try_from(numbers.below(1 << 16)).unwrap()
}

fn random(numbers: &mut Numbers, most: usize) -> Vec<u8> {
    let len = below(numbers, most);
    (0..len.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes()).take(len).collect()
}

/// A good request. None flushes, and none has the other clients' keys.
fn request(numbers: &mut Numbers) -> Vec<u8> {
    let texts = [
        "set noise 0 0 5\r\nhello\r\n",
        "cas noise 0 0 5 77\r\nhello\r\n",
        "append noise 0 0 5 noreply\r\nhello\r\n",
        "get noise noise-2 noise-3\r\n",
        "gat 0 noise\r\n",
        "incr noise 1\r\n",
        "touch noise 100\r\n",
        "delete noise\r\n",
        "ms noise 5 T0 c\r\nhello\r\n",
        "mg noise v t s f c\r\n",
        "ma noise N0 J5 v\r\n",
        "version\r\n",
    ];
    let frames = [
        "set key=noise value=hello",
        "setq key=noise value=hello",
        "append key=noise value=hello",
        "getkq key=noise",
        "incr key=noise delta=1 initial=5",
        "touch key=noise exp=100",
        "deleteq key=noise",
        "noop",
    ];
    match below(numbers, texts.len() + frames.len()) {
        at if at < texts.len() => texts[at].as_bytes().to_vec(),
        at => frame::request(frames[at - texts.len()]),
    }
}

fn incomplete(numbers: &mut Numbers) -> Vec<u8> {
    let whole = request(numbers);
    let cut = 1 + below(numbers, whole.len() - 1);
    Heading::of(7).around(&whole[..cut])
}

/// More bytes than were declared, or a whole datagram of something, up to the longest there is.
fn over_long(numbers: &mut Numbers) -> Vec<u8> {
    let behind = random(numbers, 300);
    let request = match below(numbers, 3) {
        0 => [b"set noise 0 0 5\r\nhello", &behind[..], b"\r\n"].concat(),
        1 => [b"ms noise 5\r\nhello", &behind[..], b"\r\n"].concat(),
        _ => [frame::request("set key=noise value=hello"), behind].concat(),
    };
    Heading::of(7).around(&request)
}

fn wrongly_counted(numbers: &mut Numbers) -> Vec<u8> {
    let totals = [0, 2, 256, 257, u16::MAX, number(numbers) | 2];
    let total = totals[below(numbers, totals.len())];
    let heading = Heading {
        id: number(numbers),
        sequence: number(numbers),
        total,
        reserved: number(numbers),
    };
    heading.around(&request(numbers))
}

fn runt(numbers: &mut Numbers) -> Vec<u8> {
    Heading::of(7).around(b"")[..below(numbers, HEADING_LEN + 1)].to_vec()
}

fn damaged(numbers: &mut Numbers) -> Vec<u8> {
    let mut datagram = Heading::of(7).around(&request(numbers));
    for _ in 0..=below(numbers, 4) {
        let at = HEADING_LEN + below(numbers, datagram.len() - HEADING_LEN);
        datagram[at] = number(numbers).to_le_bytes()[0];
    }
    datagram
}

/// Waits until everything sent has been read. A culprit's own buffer may be too small for all the
/// answers: he asks until he hears one.
fn settle(culprit: &mut Caller) {
    wait_until("a culprit is answered", || {
        let id = culprit.say("version\r\n");
        std::iter::from_fn(|| culprit.hear()).any(|datagram| {
            Heading::read(&datagram)
                .is_some_and(|(heading, piece)| heading.id == id && piece.starts_with(b"VERSION "))
        })
    });
}

/// Sends `count` datagrams of all kinds, and every 500th as long as can be; how many of each kind.
fn shout(mut culprit: Caller, seed: u64, count: usize) -> Vec<usize> {
    culprit.set_patience(Duration::from_millis(100));
    let mut numbers = Numbers(seed);
    let mut sent = vec![0; KINDS.len() + 1];
    for turn in 0..count {
        let kind = below(&mut numbers, KINDS.len());
        let very_long = turn % 500 == 0;
        if very_long || turn % WINDOW == 0 {
            settle(&mut culprit);
        }
        if very_long {
            let len = LONGEST - below(&mut numbers, 1_000);
            let long: Vec<u8> = (0..len).map(|_| number(&mut numbers).to_le_bytes()[0]).collect();
            culprit.send(&Heading::of(7).around(&long[HEADING_LEN..])).unwrap();
            settle(&mut culprit);
            sent[KINDS.len()] += 1;
        } else {
            culprit.send(&KINDS[kind].1(&mut numbers)).unwrap();
            sent[kind] += 1;
        }
    }
    settle(&mut culprit);
    sent
}

/// Stores and reads by `ask` until `done`; how often, and how long the slowest took.
fn go_on(done: &AtomicBool, mut ask: impl FnMut(&str) -> Vec<u8>) -> (u32, Duration) {
    let mut slowest = Duration::ZERO;
    for round in 0.. {
        let since = Instant::now();
        let value = format!("value {round}");
        let len = value.len();
        assert_eq!(ask(&format!("set k 0 0 {len}\r\n{value}\r\n")), b"STORED\r\n");
        let hit = format!("VALUE k 0 {len}\r\n{value}\r\nEND\r\n");
        assert_eq!(ask("get k\r\n").escape_ascii().to_string(), hit.escape_default().to_string());
        slowest = slowest.max(since.elapsed());
        if done.load(Ordering::Relaxed) {
            return (round + 1, slowest);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    unreachable!("rounds without end")
}

/// CVE-2022-48571, and what else a datagram may be.
#[test]
fn a_million_bad_datagrams_harm_no_other_client() {
    let _machine = machine_to_itself();
    let count = if long_form() { 1_000_000 } else { 20_000 };
    // Half of the noise comes from a source that is allowed; so that no damage makes a flush of it.
    let flags = ["-U", "-1", "-t", "2", "-F", "--udp-allow", "127.0.0.1"];
    let mut server = Server::start(Program::Twincached, &flags);
    let port = udp_port(&server);
    assert!(Client::of(&server).is_served());
    let (before, since, done) = (rss_kib(&server), Instant::now(), AtomicBool::new(false));
    let (sent, by_tcp, by_udp) = std::thread::scope(|scope| {
        let finish = Finish(&done);
        let by_tcp = scope.spawn(|| {
            let mut client = Client::of(&server);
            go_on(&done, |request| {
                client.send(request.replace(" k", " tcp"));
                let lines = if request.starts_with("set") { 1 } else { 3 };
                let answer = (0..lines).flat_map(|_| client.line()).collect::<Vec<u8>>();
                String::from_utf8(answer).unwrap().replace(" tcp ", " k ").into_bytes()
            })
        });
        let by_udp = scope.spawn(|| {
            let mut client = Caller::of(&server);
            go_on(&done, |request| client.ask(request).unwrap())
        });
        let culprits = ["127.0.0.1", "127.0.0.2"].map(|own| {
            let culprit = Caller::between(own, ([127, 0, 0, 1], port).into());
            scope.spawn(move || shout(culprit, u64::from(own.as_bytes()[8]), count / 2))
        });
        let sent = culprits.map(|culprit| culprit.join().unwrap());
        drop(finish);
        (sent, by_tcp.join().unwrap(), by_udp.join().unwrap())
    });
    let span = since.elapsed();
    let grown = rss_kib(&server).saturating_sub(before);
    let stats = Client::of(&server).stats("twincached");
    let kinds: Vec<String> = KINDS
        .iter()
        .map(|(name, _)| *name)
        .chain(["of 64 KB"])
        .enumerate()
        .map(|(at, name)| format!("{} {name}", sent[0][at] + sent[1][at]))
        .collect();
    show(&format!("{count} bad datagrams in {span:.1?}: {}", kinds.join(", ")));
    show(&format!(
        "meanwhile {} sets and gets by TCP (slowest {:?}) and {} by UDP (slowest {:?}), all right; \
         {} received, {} dropped, {} panics, RSS + {grown} KiB",
        by_tcp.0,
        by_tcp.1,
        by_udp.0,
        by_udp.1,
        stats["udp_datagrams"],
        stats["udp_dropped"],
        stats["panics"],
    ));
    assert_eq!(stats["panics"], "0");
    let received: usize = stats["udp_datagrams"].parse().unwrap();
    assert!(received >= count, "{received} of {count} were received");
    assert!(grown < 16 << 10, "RSS + {grown} KiB");
    assert_eq!(server.complaint(), None);
}
