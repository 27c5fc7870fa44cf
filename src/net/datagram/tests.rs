//! Real datagrams on loopback.

use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::thread;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::command::Server;
use crate::net::WorkerThread;
use crate::net::tests::{PATIENCE, until};
use crate::settings::{BindingProtocol, Settings};

/// A server in this process that speaks UDP only.
struct House {
    server: Arc<Server>,
    addr: SocketAddr,
    workers: Vec<WorkerThread>,
    stop: CancellationToken,
}

impl House {
    fn open(settings: Settings) -> House {
        House::open_at("127.0.0.1:0", settings)
    }

    fn open_at(addr: &str, settings: Settings) -> House {
        let listen = Listen::from(addr.parse::<SocketAddr>().unwrap());
        let listen = Listen { protocol: settings.protocol, ..listen };
        let sockets = listen_udp(&listen, settings.threads).unwrap();
        let addr = sockets[0].about.addr.unwrap();
        let server = Arc::new(Server::new(settings));
        let stop = CancellationToken::new();
        let (stop_requests, _) = mpsc::unbounded_channel();
        let start = |(index, socket)| {
            let (stop_requests, stop) = (stop_requests.clone(), stop.clone());
            let state = watch::channel(State::Ready).1;
            WorkerThread::start(index, &server, vec![socket], stop_requests, stop, state).unwrap()
        };
        let workers = sockets.into_iter().enumerate().map(start).collect();
        House { server, addr, workers, stop }
    }

    fn caller(&self) -> Caller {
        Caller::at("127.0.0.1:0", self.addr)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
        self.workers.drain(..).for_each(WorkerThread::join);
    }
}

/// A client that numbers its requests.
struct Caller {
    socket: UdpSocket,
    id: u16,
}

impl Caller {
    fn at(own: &str, server: SocketAddr) -> Caller {
        let socket = UdpSocket::bind(own).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller { socket, id: 0x0100 }
    }

    fn say(&mut self, payload: &[u8]) {
        self.id += 1;
        let [high, low] = self.id.to_be_bytes();
        let heading = [high, low, 0, 0, 0, 1, 0, 0];
        self.socket.send(&[&heading, payload].concat()).unwrap();
    }

    /// The next message to the last request, put together from its datagrams.
    fn hear(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        let mut datagram = [0; 2000];
        let mut sequence = 0;
        loop {
            let len = self.socket.recv(&mut datagram).unwrap();
            let number = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
            assert_eq!((number(0), number(2), number(6)), (self.id, sequence, 0));
            assert!(len <= 1400);
            message.extend_from_slice(&datagram[8..len]);
            sequence += 1;
            if sequence == number(4) {
                return message;
            }
            assert_eq!(len, 1400, "only the last datagram is short");
        }
    }

    fn ask(&mut self, request: &str) -> String {
        self.say(request.as_bytes());
        String::from_utf8(self.hear()).unwrap()
    }

    /// Nothing more has been sent than what has been heard.
    fn hears_nothing(&mut self) {
        assert!(self.ask("version\r\n").starts_with("VERSION "));
    }
}

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

fn one_worker() -> Settings {
    Settings { threads: 1, ..Settings::default() }
}

/// Nobody is trusted, not even loopback.
fn suspicious() -> Settings {
    Settings { udp_allow: Vec::new(), ..settings() }
}

#[test]
fn text_and_binary_are_answered_behind_a_heading() {
    let house = House::open(settings());
    let mut caller = house.caller();
    assert_eq!(caller.ask("set k 7 0 3\r\nabc\r\n"), "STORED\r\n");
    assert_eq!(caller.ask("get k\r\n"), "VALUE k 7 3\r\nabc\r\nEND\r\n");
    assert_eq!(caller.ask("get none\n"), "END\r\n");
    assert_eq!(caller.ask("incr none 1\r\n"), "NOT_FOUND\r\n");
    let get = [&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4][..], &[0; 8], b"k"].concat();
    caller.say(&get);
    let hit = caller.hear();
    assert_eq!(hit[..16], [0x81, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4]);
    assert_eq!(&hit[24..], b"\0\0\0\x07abc");
}

#[test]
fn several_commands_are_answered_one_message_each_and_silent_ones_not_at_all() {
    let house = House::open(settings());
    let mut caller = house.caller();
    caller
        .say(b"set k 0 0 1 noreply\r\nx\r\nget k\r\ndelete k noreply\r\nget k\r\nfoo\r\nget k\r\n");
    for wanted in ["VALUE k 0 1\r\nx\r\nEND\r\n", "END\r\n", "ERROR\r\n", "END\r\n"] {
        assert_eq!(String::from_utf8(caller.hear()).unwrap(), wanted);
    }
    caller.hears_nothing();
    assert_eq!(house.server.totals.counts().conn_yields, 0);
}

#[test]
fn a_multi_get_is_one_message_in_as_many_datagrams_as_it_needs() {
    let house = House::open(Settings { item_size_max: 8 << 20, ..settings() });
    let mut caller = house.caller();
    let mut wanted = String::new();
    let mut request = "get".to_owned();
    for (number, size) in [0, 1, 100, 1391, 1392, 5_000, 40_000].into_iter().enumerate() {
        let value = "v".repeat(size);
        assert_eq!(caller.ask(&format!("set k{number} 0 0 {size}\r\n{value}\r\n")), "STORED\r\n");
        request += &format!(" k{number}");
        wanted += &format!("VALUE k{number} 0 {size}\r\n{value}\r\n");
    }
    assert_eq!(caller.ask(&(request + "\r\n")), wanted + "END\r\n");
}

#[test]
fn a_value_far_longer_than_one_packet_arrives_whole() {
    let house = House::open(settings());
    let size = 200_000;
    let store = &house.server.store;
    let value = vec![b'v'; size];
    let write =
        crate::store::Write::new(crate::store::Mode::Set, &value, 0, crate::item::Expiry::NEVER);
    store.write(store.key(b"k"), &write, house.server.clock.now()).unwrap();
    let mut caller = house.caller();
    let socket = socket2::SockRef::from(&caller.socket);
    socket.set_recv_buffer_size(4 << 20).unwrap();
    if socket.recv_buffer_size().unwrap() < 2 * 150 * 2304 {
        // The machine's bound is below what this reply takes in a receive buffer.
        caller.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    }
    let mut reader = Caller { socket: caller.socket.try_clone().unwrap(), id: caller.id + 1 };
    reader.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = thread::spawn(move || reader.hear());
    caller.say(b"get k\r\n");
    let heard = heard.join().unwrap();
    assert_eq!(heard.len(), format!("VALUE k 0 {size}\r\n").len() + size + "\r\nEND\r\n".len());
}

#[test]
fn half_requests_and_wrong_headings_are_dropped_and_harm_nobody_else() {
    let house = House::open(one_worker());
    let mut culprit = house.caller();
    let mut other = house.caller();
    let bad: [&[u8]; 8] = [
        b"",
        b"\0\x01\0\0\0\x01\0",
        b"\0\x01\0\0\0\x01\0\0",
        b"\0\x01\0\0\0\0\0\0get k\r\n",
        b"\0\x01\0\0\0\x02\0\0get k\r\n",
        b"\0\x01\0\0\x01\x01\0\0get k\r\n",
        b"\0\x01\0\0\0\x01\0\0set k 0 0 100\r\nhalf",
        b"\0\x01\0\0\0\x01\0\0get k",
    ];
    for datagram in bad {
        culprit.socket.send(datagram).unwrap();
        assert_eq!(other.ask("get k\r\n"), "END\r\n");
    }
    until("all of them are counted", || house.server.totals.counts().udp_dropped == 8);
    assert_eq!(culprit.ask("get k\r\n"), "END\r\n");
    culprit.say(&[0x80, 1, 0, 1, 8, 0, 0, 0, 0, 0, 0, 20]);
    culprit.say(&vec![b'x'; 65_000]);
    culprit.say(b"GET / HTTP/1.1\r\n\r\n");
    culprit.hears_nothing();
    assert_eq!(house.server.totals.counts().udp_datagrams, 21);
}

#[test]
fn a_value_too_large_is_refused_and_what_stands_behind_it_is_heard() {
    let house = House::open(Settings { item_size_max: 1024, ..settings() });
    let mut caller = house.caller();
    caller.say(format!("set k 0 0 2000\r\n{}\r\nget k\r\n", "x".repeat(2000)).as_bytes());
    assert_eq!(caller.hear(), b"SERVER_ERROR object too large for cache\r\n");
    assert_eq!(caller.hear(), b"END\r\n");
}

#[test]
fn commands_that_make_no_sense_in_a_datagram_are_unknown() {
    let house = House::open(Settings { enable_shutdown: true, ..one_worker() });
    let mut caller = house.caller();
    for command in [
        "watch",
        "watch mutations",
        "lru_crawler metadump all",
        "lru_crawler mgdump all",
        "shutdown",
        "shutdown graceful",
        "quit",
        "verbosity 2",
        "cache_memlimit 100",
        "slabs automove 0",
        "refresh_certs",
        "debugpanic",
    ] {
        assert_eq!(caller.ask(&format!("{command}\r\n")), "ERROR\r\n", "{command}");
    }
    for opcode in [0x07, 0x17, 0x20] {
        caller.say(&[&[0x80, opcode][..], &[0; 22]].concat());
        assert_eq!(caller.hear()[6..8], [0, 0x81], "{opcode:#x}");
    }
    assert_eq!(house.server.verbosity.load(Ordering::Relaxed), 0);
    assert!(caller.ask("stats\r\n").starts_with("STAT pid "));
    assert!(caller.ask("stats conns\r\n").contains(":UDP UDP\r\nSTAT "));
    assert_eq!(caller.ask("flush_all\r\n"), "OK\r\n");
}

/// The attack of February 2018: small questions with a forged address, large answers.
#[test]
fn an_unproven_source_gets_one_short_datagram_at_most_ten_times_its_own() {
    let house = House::open(suspicious());
    let mut caller = house.caller();
    assert_eq!(caller.ask("set small 0 0 10\r\n0123456789\r\n"), "STORED\r\n");
    let large = "v".repeat(50_000);
    assert_eq!(caller.ask(&format!("set large 0 0 50000\r\n{large}\r\n")), "STORED\r\n");
    let refused = "SERVER_ERROR reply too large for udp\r\n";
    assert_eq!(caller.ask("get small\r\n"), "VALUE small 0 10\r\n0123456789\r\nEND\r\n");
    assert_eq!(caller.ask("get large\r\n"), refused);
    assert_eq!(caller.ask(&format!("get{}\r\n", " large".repeat(200))), refused);
    let middle = "v".repeat(1000);
    assert_eq!(caller.ask(&format!("set mid 0 0 1000\r\n{middle}\r\n")), "STORED\r\n");
    assert_eq!(caller.ask("get mid\r\n"), refused, "one datagram, but too many times as long");
    let padded = format!("get mid{}\r\n", " x".repeat(50));
    assert!(caller.ask(&padded).starts_with("VALUE mid "));
    assert_eq!(caller.ask("stats\r\n"), "ERROR\r\n");
    assert_eq!(caller.ask("flush_all\r\n"), "ERROR\r\n");
    caller.say(b"get small\r\nget small\r\nset small 0 0 1\r\nx\r\n");
    assert!(caller.hear().starts_with(b"VALUE small"));
    assert_eq!(caller.ask("get small\r\n"), "VALUE small 0 10\r\n0123456789\r\nEND\r\n");
    assert_eq!(house.server.totals.counts().udp_replies_refused, 3);
    let before = house.server.totals.counts();
    for _ in 0..200 {
        caller.ask("get large\r\n");
    }
    let after = house.server.totals.counts();
    let factor =
        (after.bytes_written - before.bytes_written) / (after.bytes_read - before.bytes_read);
    assert!(factor < 10, "{factor}");
}

#[test]
fn an_allowed_source_has_a_bound_too() {
    let house = House::open(settings());
    let mut caller = house.caller();
    let value = "v".repeat(60_000);
    assert_eq!(caller.ask(&format!("set k 0 0 60000\r\n{value}\r\n")), "STORED\r\n");
    let request = format!("get{}\r\n", " k".repeat(300));
    assert_eq!(caller.ask(&request), "SERVER_ERROR reply too large for udp\r\n");
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for (wildcard, asked) in
        [("0.0.0.0:0", ["127.0.0.1", "127.0.0.2", "127.9.8.7"]), ("[::]:0", ["::1"; 3])]
    {
        let house = House::open_at(wildcard, settings());
        for ip in asked {
            let server = SocketAddr::new(ip.parse().unwrap(), house.addr.port());
            let own = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            // A connected socket hears nobody but the address it asks.
            let mut caller = Caller::at(own, server);
            for _ in 0..20 {
                assert_eq!(caller.ask("get k\r\n"), "END\r\n", "{ip}");
            }
            assert!(caller.ask("stats\r\n").len() > 1400);
        }
    }
}

#[test]
fn answers_to_one_source_come_in_the_order_of_its_questions() {
    let house = House::open(settings());
    let mut callers: Vec<Caller> = (0..4).map(|_| house.caller()).collect();
    for _ in 0..20 {
        for caller in &mut callers {
            for _ in 0..10 {
                caller.say(b"get k\r\n");
            }
        }
        for caller in &mut callers {
            caller.id -= 10;
            for _ in 0..10 {
                caller.id += 1;
                assert_eq!(caller.hear(), b"END\r\n");
            }
        }
    }
}

#[test]
fn a_server_is_not_answered_lest_two_of_them_talk_for_ever() {
    let house = House::open(settings());
    let own = format!("127.0.0.2:{}", house.addr.port());
    let mut twin = Caller::at(&own, house.addr);
    twin.say(b"ERROR\r\n");
    until("it is dropped", || house.server.totals.counts().udp_dropped == 1);
    assert_eq!(house.server.totals.counts().bytes_written, 0);
}

#[test]
fn a_taken_udp_address_is_named_although_our_own_sockets_share_it() {
    let house = House::open(settings());
    let refused = listen_udp(&Listen::from(house.addr), 2).unwrap_err().to_string();
    let (addr, port) = (house.addr, house.addr.port());
    let wanted = format!("failed to listen on UDP port {port}: Address already in use ({addr})");
    assert_eq!(refused, wanted);
}

#[test]
fn a_listener_may_speak_one_protocol_only() {
    let house = House::open(Settings { protocol: BindingProtocol::Binary, ..settings() });
    let mut caller = house.caller();
    caller.say(b"get k\r\nget k\r\nget k\r\nget k\r\n");
    let noop = [&[0x80, 0x0a][..], &[0; 22]].concat();
    caller.say(&noop);
    assert_eq!(caller.hear()[..2], [0x81, 0x0a]);
}
