//! Real sockets on loopback: what holds for any conversation, whatever is said in it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Acceptor, Listener, WorkerThread, listen_tcp, listen_unix};
use crate::command::{ConnState, Server, Stop};
use crate::replication::State;
use crate::settings::{BindingProtocol, Listen, Settings};

/// Longer than anything here takes, short enough to fail in.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A server in this process.
struct House {
    server: Arc<Server>,
    addr: SocketAddr,
    workers: Vec<WorkerThread>,
    acceptor: Option<thread::JoinHandle<()>>,
    stop: CancellationToken,
    stop_requested: mpsc::UnboundedReceiver<Stop>,
    dir: tempfile::TempDir,
}

impl House {
    fn open(settings: Settings) -> House {
        House::of_node(settings, watch::channel(State::Ready).1)
    }

    /// The house of a node with this state.
    fn of_node(settings: Settings, state: watch::Receiver<State>) -> House {
        let server = Arc::new(Server::new(settings));
        let dir = tempfile::tempdir().unwrap();
        let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = listen_tcp(&Listen::from(any_port), 64).unwrap();
        let unix = dir.path().join("s");
        let unix = listen_unix(&unix, 0o700, BindingProtocol::Ascii, 64).unwrap();
        let addr = listener.about.addr.unwrap();
        if *state.borrow() == State::Ready {
            listener.open().unwrap();
            unix.open().unwrap();
        }
        let stop = CancellationToken::new();
        let (stop_requests, stop_requested) = mpsc::unbounded_channel();
        let workers: Vec<_> = (0..server.settings.threads)
            .map(|n| {
                let (stop_requests, stop) = (stop_requests.clone(), stop.clone());
                WorkerThread::start(n, &server, Vec::new(), stop_requests, stop, state.clone())
                    .unwrap()
            })
            .collect();
        let acceptor = Acceptor::new(&server, &workers);
        let stopped = stop.clone();
        let acceptor =
            Some(thread::spawn(move || accept(acceptor, vec![listener, unix], &state, &stopped)));
        House { server, addr, workers, acceptor, stop, stop_requested, dir }
    }

    fn connect(&self) -> Caller<TcpStream> {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Caller(stream)
    }

    fn connect_unix(&self) -> Caller<UnixStream> {
        let stream = UnixStream::connect(self.dir.path().join("s")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller(stream)
    }

    /// Stores a value of `size` bytes under `key`.
    fn store(&self, key: &str, size: usize) {
        let mut caller = self.connect();
        caller.say(format!("set {key} 0 0 {size}\r\n{}\r\n", "v".repeat(size)).as_bytes());
        caller.hear("STORED\r\n");
    }

    /// Lets the first worker believe that time has passed, and look after its clients then.
    fn pass_seconds(&self, seconds: u32) {
        let ticks = &self.workers[0].ticks;
        let now = ticks.fetch_add(2 * seconds, Ordering::Relaxed) + 2 * seconds;
        until("the worker has looked", || ticks.load(Ordering::Relaxed) > now);
    }

    /// Waits until nothing more is written; how much that was.
    fn written_in_the_end(&self) -> u64 {
        let mut last = u64::MAX;
        until("nothing more is written", || {
            thread::sleep(Duration::from_millis(50));
            let now = self.server.totals.counts().bytes_written;
            std::mem::replace(&mut last, now) == now
        });
        last
    }

    fn clients_listed(&self) -> usize {
        let listening = ConnState::Listening;
        self.server.connections.iter().filter(|entry| entry.state() != listening).count()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
        self.workers.drain(..).for_each(WorkerThread::join);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

fn accept(
    acceptor: Acceptor,
    listeners: Vec<Listener>,
    state: &watch::Receiver<State>,
    stop: &CancellationToken,
) {
    let runtime =
        Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let acceptor = Rc::new(acceptor);
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn_local(Rc::clone(&acceptor).accept_from(listener, state.clone()));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = tasks.join_next() => panic!("accepting ended: {ended:?}"),
        }
    });
}

/// A client.
struct Caller<S>(S);

impl<S: Read + Write> Caller<S> {
    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn hear(&mut self, wanted: &str) {
        let mut heard = vec![0; wanted.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), wanted);
    }

    fn hear_end(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        self.0.read_to_end(&mut heard).unwrap();
        heard
    }

    /// Asks something and waits for the answer: from then on the server knows of us.
    fn greet(&mut self) {
        self.say(b"mn_is_no_command x\r\n");
        self.hear("ERROR\r\n");
    }
}

/// Waits for something, or fails saying what did not come.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 5 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain until {what}");
}

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

fn value(key: &str, size: usize) -> String {
    format!("VALUE {key} 0 {size}\r\n{}\r\nEND\r\n", "v".repeat(size))
}

#[test]
fn a_client_that_ends_its_half_before_it_reads_is_answered() {
    let house = House::open(settings());
    let mut caller = house.connect();
    caller.say(b"version\n");
    caller.0.shutdown(Shutdown::Write).unwrap();
    assert!(caller.hear_end().starts_with(b"VERSION 1.6."));
}

#[test]
fn half_a_request_and_the_end_of_the_stream_close_without_a_reply() {
    let house = House::open(settings());
    let mut caller = house.connect();
    caller.say(b"set a 0 0 10\r\nhalf");
    caller.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(caller.hear_end(), b"");
    until("the connection is forgotten", || house.clients_listed() == 0);
}

#[test]
fn replies_to_a_pipeline_larger_than_every_buffer_come_whole_and_in_order() {
    let house = House::open(settings());
    house.store("k", 3000);
    let mut caller = house.connect();
    let mut writer = caller.0.try_clone().unwrap();
    let rounds = 3000;
    let sender = thread::spawn(move || {
        let round =
            "get k\r\nincr none 1\r\nset big 0 0 5000\r\n".to_owned() + &"b".repeat(5000) + "\r\n";
        writer.write_all(round.repeat(rounds).as_bytes()).unwrap();
    });
    let answer = value("k", 3000) + "NOT_FOUND\r\nSTORED\r\n";
    for _ in 0..rounds {
        caller.hear(&answer);
    }
    sender.join().unwrap();
}

#[test]
fn a_value_larger_than_the_read_buffer_may_come_in_any_pieces() {
    let house = House::open(settings());
    let size = 500_000;
    let request = format!("set a 0 0 {size}\r\n{}\r\nget a\r\n", "v".repeat(size));
    for piece in [1_460, 65_536, 65_537, request.len()] {
        let mut caller = house.connect();
        for piece in request.as_bytes().chunks(piece) {
            caller.say(piece);
        }
        caller.hear(&format!("STORED\r\n{}", value("a", size)));
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_others_are_served() {
    let house = House::open(Settings { threads: 1, ..Settings::default() });
    house.store("k", 100_000);
    let mut deaf = house.connect();
    let asked = 2_000;
    let mut writer = deaf.0.try_clone().unwrap();
    let sender = thread::spawn(move || writer.write_all("get k\r\n".repeat(asked).as_bytes()));
    let last = house.written_in_the_end();
    assert!(last < 100_000 * asked as u64 / 2, "the replies were written although nobody read");
    house.connect().greet();
    for _ in 0..asked {
        deaf.hear(&value("k", 100_000));
    }
    sender.join().unwrap().unwrap();
}

#[test]
fn who_finds_no_seat_is_told_so_and_a_seat_given_up_is_free_again() {
    let house = House::open(Settings { conn_limit: 2, ..settings() });
    let (mut one, mut two) = (house.connect(), house.connect_unix());
    one.greet();
    two.greet();
    for _ in 0..3 {
        assert_eq!(house.connect().hear_end(), b"ERROR Too many open connections\r\n");
    }
    assert_eq!(house.server.totals.counts().rejected_connections, 3);
    assert_eq!(house.server.totals.counts().total_connections, 2);
    drop(one);
    until("somebody may sit down", || {
        let mut caller = house.connect();
        // Where there is no seat, the refusal may have closed the connection already.
        let _ = caller.0.write_all(b"version\r\n");
        let mut heard = [0; 5];
        caller.0.read_exact(&mut heard).is_ok() && &heard == b"VERSI"
    });
}

#[test]
fn without_maxconns_fast_who_finds_no_seat_waits_for_one() {
    let house = House::open(Settings { conn_limit: 1, maxconns_fast: false, ..settings() });
    let mut first = house.connect();
    first.greet();
    let mut second = house.connect();
    second.say(b"version\r\n");
    until("accepting is off", || house.server.accepting.load(Ordering::Relaxed) == 0);
    drop(first);
    second.hear("VERSION ");
    assert_eq!(house.server.accepting.load(Ordering::Relaxed), 1);
    assert_eq!(house.server.listen_disabled_num.load(Ordering::Relaxed), 1);
    assert!(house.server.listen_disabled_us.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_silent_tcp_client_is_closed_after_the_idle_timeout_and_a_unix_one_is_not() {
    let house = House::open(Settings { idle_timeout: 5, ..settings() });
    let (mut tcp, mut unix) = (house.connect(), house.connect_unix());
    let mut who_never_spoke = house.connect();
    tcp.greet();
    unix.greet();
    until("all are listed", || house.clients_listed() == 3);
    house.server.clock.move_by(7);
    assert_eq!(tcp.hear_end(), b"");
    assert_eq!(who_never_spoke.hear_end(), b"");
    assert_eq!(house.server.totals.counts().idle_kicks, 2);
    unix.greet();
}

#[test]
fn half_a_request_that_nobody_finishes_is_closed_and_a_slow_one_is_not() {
    let house = House::open(Settings { threads: 1, ..Settings::default() });
    let (mut stalled, mut slow, mut idle) = (house.connect(), house.connect(), house.connect());
    let mut refused = house.connect();
    idle.greet();
    refused.say(b"set a 0 0 2000000\r\n");
    refused.hear("SERVER_ERROR object too large for cache\r\n");
    let read = || house.server.totals.counts().bytes_read;
    let say_and_be_read = |caller: &mut Caller<TcpStream>, bytes: &[u8]| {
        let before = read();
        caller.say(bytes);
        until("it is read", || read() == before + bytes.len() as u64);
    };
    say_and_be_read(&mut stalled, b"set a 0 0 10\r\nha");
    say_and_be_read(&mut slow, b"set b 0 0 10\r\n");
    for bytes in [&b"bb"[..], b"bbbb", b"bbbb"] {
        house.pass_seconds(25);
        say_and_be_read(&mut slow, bytes);
    }
    assert_eq!(stalled.hear_end(), b"");
    assert_eq!(refused.hear_end(), b"");
    slow.say(b"\r\n");
    slow.hear("STORED\r\n");
    idle.greet();
}

#[test]
fn a_reply_that_nobody_takes_is_given_up() {
    let house = House::open(Settings { threads: 1, ..Settings::default() });
    house.store("k", 100_000);
    let mut deaf = house.connect();
    deaf.say("get k\r\n".repeat(1_000).as_bytes());
    house.written_in_the_end();
    house.pass_seconds(50);
    assert_eq!(house.clients_listed(), 1, "it is patient for a minute");
    house.pass_seconds(15);
    until("the connection is forgotten", || house.clients_listed() == 0);
}

#[test]
fn a_connection_speaks_what_its_own_listener_speaks() {
    let house = House::open(settings());
    let binary_version = [&[0x80, 0x0b][..], &[0; 22], b" x\n"].concat();
    let mut unix = house.connect_unix();
    unix.say(&binary_version);
    unix.hear("ERROR\r\n");
    let mut tcp = house.connect();
    tcp.say(&binary_version);
    let mut first = [0];
    let length = tcp.0.read(&mut first).unwrap();
    assert_ne!(&first[..length], b"E", "it took the frame for a line");
}

#[test]
fn connections_are_listed_while_they_are_open() {
    let house = House::open(settings());
    until("the listeners are listed", || house.server.connections.len() == 2);
    let mut caller = house.connect();
    caller.greet();
    let ours = format!("tcp:{}", caller.0.local_addr().unwrap());
    let listed = house.server.connections.iter().find(|entry| entry.addr == ours).unwrap().clone();
    assert_eq!(listed.listen_addr.as_deref(), Some(format!("tcp:{}", house.addr).as_str()));
    drop(caller);
    until("it is forgotten", || house.clients_listed() == 0);
}

#[test]
fn stopping_finishes_the_reply_that_is_being_sent_and_closes_the_idle_at_once() {
    let house = House::open(Settings { threads: 1, item_size_max: 32 << 20, ..settings() });
    let size = 20 << 20;
    house.store("k", size);
    let (mut reading, mut idle) = (house.connect(), house.connect());
    let mut who_never_spoke = house.connect();
    idle.greet();
    reading.say(b"get k\r\nget k\r\n");
    reading.hear("VALUE k");
    until("all are listed", || house.clients_listed() == 3);
    house.stop.cancel();
    assert_eq!(idle.hear_end(), b"");
    assert_eq!(who_never_spoke.hear_end(), b"");
    let heard = String::from_utf8(reading.hear_end()).unwrap();
    let rest = &value("k", size)["VALUE k".len()..];
    assert!(heard.starts_with(rest), "the first reply was cut");
}

/// Whether a client that goes on speaking is answered after the server has begun to stop.
fn is_heard_out() -> bool {
    let house = House::open(Settings { threads: 1, ..settings() });
    let mut page = house.connect();
    page.greet();
    house.stop.cancel();
    until("nobody is accepted", || TcpStream::connect(house.addr).is_err());
    thread::sleep(Duration::from_millis(20));
    page.say(b"version\r\n");
    let mut heard = Vec::new();
    // What was not heard is thrown away with the connection, which resets it.
    page.0.read_to_end(&mut heard).is_ok() && !heard.is_empty()
}

/// PHP asks for a session in three requests, sent one after the other, and must hear all answers or none.
#[test]
fn stopping_hears_out_who_is_speaking() {
    // A busy machine may let a client be silent for longer than that is waited for.
    assert!((0..10).any(|_| is_heard_out()));
}

#[test]
fn stopping_does_not_wait_for_the_end_of_who_never_stops_speaking() {
    let house = House::open(Settings { threads: 1, ..settings() });
    let mut chatterbox = house.connect();
    chatterbox.greet();
    house.stop.cancel();
    until("it is hung up on", || {
        let said = chatterbox.0.write_all(b"version\r\n").is_ok();
        !said || chatterbox.0.read(&mut [0; 64]).is_ok_and(|read| read == 0)
    });
}

#[test]
fn shutdown_reaches_whoever_runs_the_server() {
    let mut house = House::open(Settings { enable_shutdown: true, ..settings() });
    let mut caller = house.connect();
    caller.say(b"shutdown graceful\r\n");
    assert_eq!(caller.hear_end(), b"");
    assert_eq!(house.stop_requested.blocking_recv(), Some(Stop::Graceful));
}

#[test]
fn a_request_that_panics_ends_its_connection_and_no_other() {
    let house = House::open(Settings { threads: 1, test_clock: true, ..Settings::default() });
    let (mut unlucky, mut other) = (house.connect(), house.connect());
    other.greet();
    unlucky.say(b"version\r\ndebugpanic\r\nversion\r\n");
    assert_eq!(unlucky.hear_end(), b"", "nothing is answered half way");
    assert_eq!(house.server.totals.counts().panics, 1);
    other.greet();
    house.connect().greet();
}

#[test]
fn a_watcher_hears_of_connections_and_is_forgotten_when_it_hangs_up() {
    let house = House::open(settings());
    let mut watcher = house.connect();
    watcher.say(b"watch connevents\r\n");
    watcher.hear("OK\r\n");
    house.connect().greet();
    let mut heard = String::new();
    while !(heard.contains("type=conn_new") && heard.contains("reason=normal")) {
        let mut piece = [0; 4096];
        let length = watcher.0.read(&mut piece).unwrap();
        assert_ne!(length, 0, "the watcher was closed after {heard}");
        heard += std::str::from_utf8(&piece[..length]).unwrap();
    }
    drop(watcher);
    until("the watcher is forgotten", || house.clients_listed() == 0);
}

#[test]
fn a_unix_socket_replaces_a_socket_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let listen = |path: &PathBuf| listen_unix(path, 0o750, BindingProtocol::Auto, 16);

    let left_behind = dir.path().join("left");
    drop(UnixListener::bind(&left_behind).unwrap());
    let listener = listen(&left_behind).unwrap();
    let refused = UnixStream::connect(&left_behind).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "nobody listens yet");
    listener.open().unwrap();
    let mode = std::fs::metadata(&left_behind).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    UnixStream::connect(&left_behind).unwrap();
    drop(listener);

    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let refused = listen(&file).unwrap_err().to_string();
    assert!(refused.contains("Address already in use"), "{refused}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let long = dir.path().join("x".repeat(108 - dir.path().as_os_str().len()));
    let refused = listen(&long).unwrap_err().to_string();
    assert!(refused.contains("at most 107 bytes"), "{refused}");
}

#[test]
fn a_taken_tcp_address_is_named() {
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let taken = listen_tcp(&Listen::from(any_port), 16).unwrap();
    taken.open().unwrap();
    let addr = taken.about.addr.unwrap();
    let refused = listen_tcp(&Listen::from(addr), 16).unwrap_err().to_string();
    let port = addr.port();
    assert_eq!(
        refused,
        format!("failed to listen on TCP port {port}: Address already in use ({addr})")
    );
}

#[test]
fn clients_are_refused_whenever_the_node_is_not_ready() {
    let (tell, state) = watch::channel(State::Loading);
    let house = House::of_node(Settings::default(), state);
    let unix = house.dir.path().join("s");
    let refused = |wanted: ErrorKind| {
        TcpStream::connect(house.addr).is_err_and(|error| error.kind() == wanted)
    };
    assert!(refused(ErrorKind::ConnectionRefused));
    assert!(UnixStream::connect(&unix).is_err());
    for _ in 0..3 {
        tell.send_replace(State::Ready);
        until("the doors are open", || TcpStream::connect(house.addr).is_ok());
        let mut client = house.connect();
        client.greet();
        tell.send_replace(State::Loading);
        assert_eq!(client.hear_end(), b"", "it is closed");
        until("the door is shut", || refused(ErrorKind::ConnectionRefused));
        let mut late = UnixStream::connect(&unix).unwrap();
        late.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(late.read(&mut [0; 8]).unwrap(), 0, "it is turned away");
    }
}
