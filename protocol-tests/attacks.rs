//! Clients that mean ill or are broken: noise, half lines, requests that panic, endless pipelines.
//! Others must be served meanwhile, memory stay bounded, and nothing else panic.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, long_form, machine_to_itself, many_files, rss_kib, show, wait_until};
use crate::memory::Numbers;
use crate::server::{Program, Server};

/// Asks for something small again and again until `done`, and says how long the slowest answer
/// took.
pub(crate) fn slowest_answer(server: &Server, done: &AtomicBool) -> Duration {
    let mut client = Client::of(server);
    let mut slowest = Duration::ZERO;
    for round in 0.. {
        let since = Instant::now();
        let value = format!("value{round}");
        client.set("well-behaved", value.as_bytes());
        assert_eq!(client.get("well-behaved").as_deref(), Some(value.as_bytes()));
        slowest = slowest.max(since.elapsed());
        if done.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    slowest
}

/// Ends the asking of [`slowest_answer`] when dropped, by a panic too.
pub(crate) struct Finish<'a>(pub(crate) &'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends noise until `ends`, on a new connection whenever the server closes one.
fn shout(server: &Server, seed: u64, ends: Instant, sent: &AtomicU64) {
    let mut numbers = Numbers(seed);
    let noise: Vec<u8> = (0..1 << 18).flat_map(|_| numbers.next().to_le_bytes()).collect();
    while Instant::now() < ends {
        let mut writer = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        let mut reader = writer.try_clone().unwrap();
        let answers = std::thread::spawn(move || {
            let mut sink = vec![0; 64 << 10];
            while matches!(reader.read(&mut sink), Ok(read) if read > 0) {}
        });
        // Text from the first byte on, and every connection from another place in the noise.
        let mut at = usize::try_from(numbers.below(1 << 20)).unwrap();
        let mut taken = writer.write_all(b"get k\r\n").is_ok();
        while taken && Instant::now() < ends {
            let end = noise.len().min(at + (64 << 10));
            taken = writer.write_all(&noise[at..end]).is_ok();
            sent.fetch_add((end - at) as u64, Ordering::Relaxed);
            at = if end == noise.len() { 0 } else { end };
        }
        let _ = writer.shutdown(std::net::Shutdown::Both);
        answers.join().unwrap();
    }
}

#[test]
fn random_bytes_at_full_speed_neither_grow_nor_stop_the_server() {
    let _machine = machine_to_itself();
    let span = Duration::from_secs(if long_form() { 30 } else { 3 });
    let mut server = Server::start(Program::Twincached, &["-m", "64"]);
    assert!(Client::of(&server).is_served());
    let before = rss_kib(&server);
    let (sent, done, since) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let (slowest, worst) = std::thread::scope(|scope| {
        let well_behaved = scope.spawn(|| slowest_answer(&server, &done));
        let (server, sent, finish) = (&server, &sent, Finish(&done));
        let shouting: Vec<_> = [0x1234_5678_9abc_def1, 0xfeed_beef_dead_cafe]
            .map(|seed| scope.spawn(move || shout(server, seed, since + span, sent)))
            .into();
        let mut worst = 0;
        while shouting.iter().any(|thread| !thread.is_finished()) {
            worst = worst.max(rss_kib(server));
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(finish);
        (well_behaved.join().unwrap(), worst)
    });
    let grown = worst.saturating_sub(before);
    let speed = sent.into_inner() as f64 / 1e6 / since.elapsed().as_secs_f64();
    show(&format!(
        "{speed:.0} MB/s of random bytes for {span:?}: RSS + {grown} KiB; another client's slowest \
         set and get {slowest:?}"
    ));
    // -m 64 and what the noise may have stored within it, and buffers.
    assert!(grown <= (64 + 16) * 1024, "RSS + {grown} KiB");
    assert_eq!(server.complaint(), None);
}

/// The same with bytes that are nearly requests.
#[test]
fn damaged_requests_are_all_survived() {
    let _machine = machine_to_itself();
    let span = Duration::from_secs(if long_form() { 30 } else { 3 });
    let mut server = Server::start(Program::Twincached, &["-m", "64"]);
    let requests: &[&[u8]] = &[
        b"set k 0 0 10\r\n0123456789\r\n",
        b"get k kk kkk kkkk\r\n",
        b"gets k\r\n",
        b"gat 100 k kk\r\n",
        b"append k 0 0 3\r\nabc\r\n",
        b"cas k 1 2 3 4 noreply\r\nabc\r\n",
        b"incr k 18446744073709551615\r\n",
        b"delete k 0 noreply\r\n",
        b"touch k -1\r\n",
        b"flush_all 5 noreply\r\n",
        b"stats cachedump 1 2\r\n",
        b"stats detail dump\r\n",
        b"stats settings\r\n",
        b"lru tune 10 20 0.1 2.0\r\n",
        b"lru_crawler crawl 1,2,3\r\n",
        b"slabs reassign 1 2\r\n",
        b"verbosity 1\r\n",
        b"cache_memlimit 64\r\n",
    ];
    let ends = Instant::now() + span;
    let mut numbers = Numbers(0x5eed_5eed_5eed_5eed);
    let (mut connections, mut sent) = (0u64, 0u64);
    while Instant::now() < ends {
        let mut client = Client::of(&server);
        connections += 1;
        let mut batch = Vec::new();
        for _ in 0..200 {
            let mut request = requests[usize::try_from(numbers.below(18)).unwrap()].to_vec();
            for _ in 0..numbers.below(4) {
                if request.is_empty() {
                    break;
                }
                let at = usize::try_from(numbers.below(request.len() as u64)).unwrap();
                match numbers.below(4) {
                    0 => request[at] = u8::try_from(numbers.below(256)).unwrap(),
                    1 => drop(request.remove(at)),
                    2 => request.insert(at, b"0123456789-+ \r\n\0\xff:"[at % 18]),
                    _ => request.truncate(at + 1),
                }
            }
            batch.extend(request);
        }
        sent += batch.len() as u64;
        client.set_patience(Duration::from_millis(50));
        client.try_send(&batch, Duration::from_secs(2));
        let _ = client.line();
    }
    show(&format!("{sent} bytes of damaged requests on {connections} connections were survived"));
    assert!(Client::of(&server).is_served());
    assert_eq!(server.complaint(), None);
}

/// F13 and the half lines: connections that begin and never end a request.
#[test]
fn a_thousand_half_lines_hold_up_nobody() {
    let _machine = machine_to_itself();
    many_files();
    let count: u64 = if long_form() { 8_000 } else { 1_000 };
    let limit = (count + 100).to_string();
    let mut server = Server::start(Program::Twincached, &["-c", &limit]);
    let mut client = Client::of(&server);
    client.set("k", b"v");
    let before = rss_kib(&server);
    let mut half: Vec<Client> = Vec::new();
    for number in 0..count {
        half.push(Client::of(&server));
        let words = ["get half-a-", "set k 0 0 1", "ge", "get m m m m m m m m m m m"];
        half.last_mut().unwrap().send(words[usize::try_from(number % 4).unwrap()]);
    }
    wait_until("all are connected", || client.stat("curr_connections") == count + 1);
    let mut slowest = Duration::ZERO;
    for loris in half.iter_mut().take(500) {
        let since = Instant::now();
        client.set("other", b"value");
        assert!(client.get("other").is_some());
        slowest = slowest.max(since.elapsed());
        loris.send("x");
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!(
        "{count} clients send half a line: RSS + {grown} KiB ({} B a connection); another client's \
         slowest set and get {slowest:?}",
        grown * 1024 / count
    ));
    assert!(grown <= count * 16, "RSS + {grown} KiB is more than 16 KiB a connection");
    let mut last = half.pop().unwrap();
    last.ask("\r\n", "END\r\n");
    assert_eq!(server.complaint(), None);
}

/// A client that resets its connection leaves an answer that cannot be sent. Answers are made in
/// memory that connections share; what is left there must not be sent to the next one.
#[test]
fn an_answer_that_could_not_be_sent_is_sent_to_nobody_else() {
    let server = Server::start(Program::Twincached, &["-t", "1"]);
    let mut bystander = Client::of(&server);
    bystander.set("secret", b"of somebody else");
    for _ in 0..500 {
        let mut victim = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        victim.write_all(b"get secret\r\n").unwrap();
        socket2::SockRef::from(&victim).set_linger(Some(Duration::ZERO)).unwrap();
        drop(victim);
        bystander.ask("get mine\r\n", "END\r\n");
        Client::of(&server).ask("get mine\r\n", "END\r\n");
    }
}

/// F25.
#[test]
fn a_panic_in_a_request_ends_only_its_connection() {
    let server = Server::start(Program::Twincached, &[]);
    let mut bystander = Client::of(&server);
    bystander.set("k", b"v");
    for round in 1..=8 {
        let mut victim = Client::of(&server);
        assert!(victim.is_served());
        victim.send("debugpanic\r\n");
        assert_eq!(victim.last_words().as_deref(), Some(&b""[..]), "it is closed");
        assert_eq!(bystander.get("k").as_deref(), Some(&b"v"[..]));
        let panics = bystander.stats("twincached");
        assert_eq!(panics.get("panics"), Some(&round.to_string()), "{panics:?}");
    }
    assert!((0..16).all(|_| Client::of(&server).is_served()), "every worker lives");
    wait_until("the victims are gone", || bystander.stat("curr_connections") == 1);
}

#[test]
fn a_long_pipeline_lets_others_have_their_turn() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-t", "1"]);
    let done = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let others = scope.spawn(|| slowest_answer(&server, &done));
        let finish = Finish(&done);
        let mut greedy = Client::of(&server);
        for _ in 0..20 {
            greedy.send(b"get missing\r\n".repeat(20_000));
            greedy.expect(b"END\r\n".repeat(20_000));
        }
        drop(finish);
        others.join().unwrap()
    });
    show(&format!(
        "400,000 pipelined gets on one worker: another's slowest set and get {slowest:?}"
    ));
    assert!(Client::of(&server).stat("conn_yields") > 0);
}
