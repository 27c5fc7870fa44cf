//! Who is served in a round, and what becomes of them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use tokio::sync::Semaphore;

use super::super::acceptor::Stream;
use super::super::listener::About;
use super::super::tls::ListenerTls;
use super::super::tls::tests::any_tls;
use super::*;
use crate::command::{Peers, Transport};
use crate::limits::{READS_A_TURN, REQUEST_STALL_MAX, TLS_HANDSHAKE_MAX, TOLD_TOGETHER};
use crate::settings::{Ack, BindingProtocol, Peering};
use crate::store::Mutation;
use crate::version::Version;

mod resting;
mod standstill;

/// A worker whose clients are what the tests let come.
struct Room {
    worker: Rc<Worker>,
    _stop_requested: mpsc::UnboundedReceiver<Stop>,
}

impl Room {
    fn open() -> Room {
        Room::with(Settings::default())
    }

    fn with(settings: Settings) -> Room {
        Room::of(Server::new(settings))
    }

    fn of(server: Server) -> Room {
        let server = Arc::new(server);
        let (stop_requests, _stop_requested) = mpsc::unbounded_channel();
        let worker = Rc::new(Worker::new(server, Arc::default(), stop_requests).unwrap());
        Room { worker, _stop_requested }
    }

    /// Somebody connects.
    fn come(&self) -> Caller {
        self.come_to(None)
    }

    /// Somebody connects to a listener that speaks this TLS.
    fn come_to(&self, tls: Option<ListenerTls>) -> Caller {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let listener = About {
            name: "unix:/s".into(),
            transport: Transport::Unix,
            addr: None,
            protocol: BindingProtocol::Auto,
            tls,
            fd: 0,
        };
        self.worker.admit(Arrival {
            stream: Stream::Unix(ours),
            peer: "?:<AF 0>".to_owned(),
            listener: Arc::new(listener),
            seat: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        });
        Caller(theirs)
    }

    /// One round, which waits for nobody.
    fn round(&self) {
        self.round_until(Instant::now());
    }

    fn round_until(&self, until: Instant) {
        let round = pin!(self.worker.go_round(None, Some(until)));
        assert!(round.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    /// Clients are looked after when `time` has passed, in which nothing has moved.
    fn pass(&self, time: Duration) {
        let ticks = time.as_millis() / TICK.as_millis();
        self.worker.ticks.fetch_add(u32::try_from(ticks).unwrap(), Ordering::Relaxed);
        self.worker.look_after_clients(Instant::now());
    }

    fn clients(&self) -> usize {
        self.worker.clients.borrow().iter().count()
    }

    /// Turns that may have been timed, as far as they are counted down.
    fn turns(&self) -> u32 {
        self.worker.turns_left.get()
    }

    fn looked_after(&self) -> usize {
        let clients = self.worker.clients.borrow();
        clients.iter().filter(|(_, client)| client.is_looked_after).count()
    }
}

struct Caller(UnixStream);

impl Caller {
    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    #[track_caller]
    fn hear(&mut self, expected: &str) {
        let mut heard = vec![0; expected.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), expected);
    }

    /// It is told no more, and hung up on.
    #[track_caller]
    fn hear_end(&mut self) {
        let mut heard = Vec::new();
        self.0.read_to_end(&mut heard).unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), "");
    }
}

#[test]
fn those_who_speak_at_the_same_time_are_each_answered_their_own() {
    for io_uring in [true, false] {
        let room = Room::with(Settings { io_uring, ..Settings::default() });
        those_who_speak_at_the_same_time_are_answered(&room);
        let batched = room.worker.counters.batched_transfers.count();
        let is_allowed = Batcher::new(io_uring, Arc::default()).is_together();
        assert_eq!(batched > 0, is_allowed, "{batched} with io_uring {io_uring}");
    }
}

fn those_who_speak_at_the_same_time_are_answered(room: &Room) {
    let mut callers: Vec<Caller> = (0..50).map(|_| room.come()).collect();
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.say(format!("set k{number} {number} 0 2\r\n{number:02}\r\n").as_bytes());
    }
    room.round();
    callers.iter_mut().for_each(|caller| caller.hear("STORED\r\n"));
    // Each of these is more than one request, or less, or another than what it is beside.
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.say(
            match number % 5 {
                0 => format!("get k{number}\r\n"),
                1 => format!("mg k{number} v\r\nget k{number} k0\r\nget missing\r\n"),
                2 => format!("append k{number} 0 0 1\r\n!\r\nget k{number}\r\nget k"),
                3 => format!("delete k{number}\r\nget k{number}\r\n"),
                _ => "no_such_command\r\nset k 0 0 a\r\n".to_owned(),
            }
            .as_bytes(),
        );
    }
    room.round();
    assert_eq!(room.looked_after(), 10, "those whose last request is not whole");
    for (number, caller) in callers.iter_mut().enumerate() {
        let value = format!("VALUE k{number} {number} 2\r\n{number:02}\r\n");
        caller.hear(&match number % 5 {
            0 => format!("{value}END\r\n"),
            1 => format!("VA 2\r\n{number:02}\r\n{value}VALUE k0 0 2\r\n00\r\nEND\r\nEND\r\n"),
            2 => format!("STORED\r\nVALUE k{number} {number} 3\r\n{number:02}!\r\nEND\r\n"),
            3 => "DELETED\r\nEND\r\n".to_owned(),
            _ => "ERROR\r\nCLIENT_ERROR bad command line format\r\n".to_owned(),
        });
        if number % 5 == 2 {
            caller.say(b"0\r\n");
        }
    }
    room.round();
    for caller in callers.iter_mut().skip(2).step_by(5) {
        caller.hear("VALUE k0 0 2\r\n00\r\nEND\r\n");
    }
    assert!(room.worker.clients.borrow().iter().all(|(_, client)| client.owns_nothing()));
}

#[test]
fn who_sends_more_than_is_read_at_a_time_keeps_nobody_from_being_answered() {
    let room = Room::with(Settings { item_size_max: 2 << 20, ..Settings::default() });
    let (mut first, mut large, mut last) = (room.come(), room.come(), room.come());
    let value = "v".repeat(1 << 20);
    let sent = format!("set large 0 0 {}\r\n{value}\r\nversion\r\n", value.len());
    let mut sends = large.0.try_clone().unwrap();
    let sender = thread::spawn(move || sends.write_all(sent.as_bytes()).unwrap());
    while room.worker.counters.bytes_read.count() == 0 {
        room.round();
    }
    for _ in 0..3 {
        [&mut first, &mut last].into_iter().for_each(|caller| caller.say(b"get none\r\n"));
        room.round();
        [&mut first, &mut last].into_iter().for_each(|caller| caller.hear("END\r\n"));
    }
    while !sender.is_finished() {
        room.round();
    }
    room.round();
    large.hear("STORED\r\nVERSION ");
}

#[test]
fn who_hangs_up_behind_a_request_has_been_answered() {
    let room = Room::open();
    let (mut caller, mut other) = (room.come(), room.come());
    for caller in [&mut caller, &mut other] {
        caller.say(b"set k 0 0 1\r\nv\r\n");
    }
    caller.0.shutdown(std::net::Shutdown::Write).unwrap();
    room.round();
    other.hear("STORED\r\n");
    caller.hear("STORED\r\n");
    caller.hear_end();
    assert_eq!(room.clients(), 1);
    drop(other);
    room.round();
    assert_eq!(room.clients(), 0);
    assert!(room.worker.server.connections.is_empty());
}

#[test]
fn a_request_that_panics_among_others_ends_its_client_alone() {
    let room = Room::with(Settings { test_clock: true, ..Settings::default() });
    let mut callers: Vec<Caller> = (0..8).map(|_| room.come()).collect();
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.say(if number == 1 { b"version\r\ndebugpanic\r\n" } else { b"get none\r\n" });
    }
    room.round();
    callers.remove(1).hear_end();
    callers.iter_mut().for_each(|caller| caller.hear("END\r\n"));
    assert_eq!((room.clients(), room.worker.server.totals.counts().panics), (7, 1));
}

/// Somebody who has asked for more than his socket takes, and reads nothing yet.
fn asked_for_much() -> (Room, Caller) {
    let room = Room::with(Settings { item_size_max: 2 << 20, ..Settings::default() });
    let caller = room.come();
    let sent = format!("set k 0 0 {MUCH}\r\n{}\r\nget k\r\n", "v".repeat(MUCH));
    let mut sends = caller.0.try_clone().unwrap();
    let sender = thread::spawn(move || sends.write_all(sent.as_bytes()).unwrap());
    while !sender.is_finished() {
        room.round();
    }
    (room, caller)
}

/// Bytes that no socket takes at once.
const MUCH: usize = 1 << 20;

#[test]
fn who_takes_no_reply_has_the_rest_as_soon_as_he_does() {
    let (room, mut caller) = asked_for_much();
    (0..10).for_each(|_| room.round());
    assert_eq!(room.looked_after(), 1, "it waits for its reader");
    let mut takes = caller.0.try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut heard = vec![0; "STORED\r\nVALUE k 0 1048576\r\n".len() + MUCH];
        takes.read_exact(&mut heard).unwrap();
    });
    while !reader.is_finished() {
        room.round_until(Instant::now() + Duration::from_millis(1));
    }
    caller.hear("\r\nEND\r\n");
}

#[test]
fn who_has_ended_his_half_and_takes_no_reply_costs_no_rounds() {
    let (room, mut caller) = asked_for_much();
    caller.0.shutdown(std::net::Shutdown::Write).unwrap();
    (0..10).for_each(|_| room.round());
    let turns = room.turns();
    (0..50).for_each(|_| room.round());
    assert_eq!(room.turns(), turns, "nothing has changed");
    let mut takes = caller.0.try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut heard = Vec::new();
        takes.read_to_end(&mut heard).unwrap();
        heard.len()
    });
    while !reader.is_finished() {
        room.round_until(Instant::now() + Duration::from_millis(1));
    }
    let expected = "STORED\r\nVALUE k 0 1048576\r\n\r\nEND\r\n".len() + MUCH;
    assert_eq!(reader.join().unwrap(), expected);
    caller.hear_end();
}

#[test]
fn a_watcher_that_speaks_is_called_no_more_often_for_it() {
    let room = Room::open();
    let mut watcher = room.come();
    watcher.say(b"watch fetchers\r\n");
    room.round();
    watcher.hear("OK\r\n");
    for _ in 0..20 {
        watcher.say(b"x");
        room.round();
    }
    assert!(room.worker.alarms.borrow().len() <= 2, "{:?}", room.worker.alarms.borrow());
    room.round_until(Instant::now() + Duration::from_secs(1));
    room.round();
    assert!(room.worker.alarms.borrow().len() <= 2, "{:?}", room.worker.alarms.borrow());
}

#[test]
fn who_has_much_to_say_has_one_turn_a_round() {
    let room = Room::with(Settings { max_reqs_per_event: 2, ..Settings::default() });
    let mut caller = room.come();
    caller.say(&b"get none\r\n".repeat(200));
    room.round();
    // What comes meanwhile gives it no second turn.
    for round in 1..10 {
        let turns = room.turns();
        caller.say(b"get none\r\n");
        room.round();
        let taken = (turns + TURNS_UNTOLD_MAX - room.turns()) % TURNS_UNTOLD_MAX;
        assert_eq!(taken, 1, "round {round}");
    }
    (0..200).for_each(|_| room.round());
    (0..209).for_each(|_| caller.hear("END\r\n"));
}

#[test]
fn more_who_are_ready_than_are_told_of_at_a_time_are_served_in_the_next_round() {
    let room = Room::open();
    let mut callers: Vec<Caller> = (0..2 * READY_AT_ONCE).map(|_| room.come()).collect();
    callers.iter_mut().for_each(|caller| caller.say(b"get none\r\n"));
    room.round();
    room.round();
    callers.iter_mut().for_each(|caller| caller.hear("END\r\n"));
}

#[test]
fn a_reply_that_cannot_be_sent_is_never_sent_to_somebody_else() {
    for others in [1, 8] {
        let room = Room::open();
        let mut gone = room.come();
        let mut others: Vec<Caller> = (0..others).map(|_| room.come()).collect();
        gone.say(b"version\r\n");
        drop(gone);
        others.iter_mut().for_each(|other| other.say(b"no_such_command\r\n"));
        room.round();
        others.iter_mut().for_each(|other| other.hear("ERROR\r\n"));
        assert_eq!(room.clients(), others.len());
        others.iter_mut().for_each(|other| other.say(b"get none\r\n"));
        room.round();
        others.iter_mut().for_each(|other| other.hear("END\r\n"));
    }
}

#[test]
fn who_takes_no_reply_among_others_has_all_of_it_when_he_does() {
    let room = Room::open();
    let mut callers: Vec<Caller> = (0..8).map(|_| room.come()).collect();
    let value = "v".repeat(8 << 10);
    callers[0].say(format!("set k 0 0 {}\r\n{value}\r\n", value.len()).as_bytes());
    room.round();
    callers[0].hear("STORED\r\n");
    let mut asked = 0;
    while room.looked_after() < callers.len() {
        assert!(asked < 1000, "all wait for their readers at some time");
        callers.iter_mut().for_each(|caller| caller.say(b"get k\r\n"));
        asked += 1;
        room.round();
    }
    let expected = format!("VALUE k 0 {}\r\n{value}\r\nEND\r\n", value.len()).repeat(asked);
    let readers: Vec<_> = callers
        .into_iter()
        .map(|mut caller| {
            let expected = expected.clone();
            thread::spawn(move || caller.hear(&expected))
        })
        .collect();
    while readers.iter().any(|reader| !reader.is_finished()) {
        room.round_until(Instant::now() + Duration::from_millis(1));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn who_asks_for_much_is_told_before_more_are_answered() {
    let room = Room::open();
    let mut callers: Vec<Caller> = (0..5).map(|_| room.come()).collect();
    let value = "v".repeat(TOLD_TOGETHER / 4 - 8);
    callers[0].say(format!("set k 0 0 {}\r\n{value}\r\n", value.len()).as_bytes());
    room.round();
    room.round();
    callers[0].hear("STORED\r\n");
    callers.iter_mut().for_each(|caller| caller.say(b"get k\r\n"));
    room.round();
    let expected = format!("VALUE k 0 {}\r\n{value}\r\nEND\r\n", value.len());
    callers.iter_mut().for_each(|caller| caller.hear(&expected));
    let batched = if Batcher::new(true, Arc::default()).is_together() { 5 + 4 } else { 0 };
    let counted = room.worker.counters.batched_transfers.count();
    assert_eq!(counted, batched, "all were read together, four were told together, and one alone");
}

#[test]
fn one_that_stands_still_within_something_is_ended_and_no_other() {
    let room = Room::open();
    let (mut half, mut whole) = (room.come(), room.come());
    for caller in [&mut half, &mut whole] {
        caller.say(b"vers");
    }
    room.round();
    whole.say(b"ion\r\n");
    room.round();
    whole.hear("VERSION ");
    room.pass(REQUEST_STALL_MAX - TICK);
    assert_eq!(room.clients(), 2);
    room.pass(TICK);
    assert_eq!(room.clients(), 1);
    half.hear_end();
}

#[test]
fn what_a_turn_has_not_read_is_answered_though_it_waits_in_tls_and_not_in_the_socket() {
    const REQUEST: &[u8] = b"get nothing\r\n";
    const READ: usize = 4;
    const REQUESTS: usize = 2 * READ * READS_A_TURN as usize;
    let room = Room::open();
    // So that each read ends with a request.
    room.worker.buffers.borrow_mut().input = vec![0; READ * REQUEST.len()].into();
    let (tls, mut client) = any_tls();
    let mut caller = room.come_to(Some(tls));
    while client.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut caller.0).unwrap();
        }
        room.round();
        if client.wants_read() {
            client.read_tls(&mut caller.0).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    client.writer().write_all(&REQUEST.repeat(REQUESTS)).unwrap();
    while client.wants_write() {
        client.write_tls(&mut caller.0).unwrap();
    }
    // Nothing is read meanwhile: that there is room in a socket is told as well.
    (0..REQUESTS).for_each(|_| room.round());
    let mut heard = Vec::new();
    while heard.len() < REQUESTS * "END\r\n".len() {
        assert_ne!(client.read_tls(&mut caller.0).expect("all are answered"), 0);
        client.process_new_packets().unwrap();
        let _ = client.reader().read_to_end(&mut heard);
    }
    assert_eq!(heard, b"END\r\n".repeat(REQUESTS));
}

#[test]
fn a_handshake_that_stalls_is_ended_and_counted() {
    let room = Room::open();
    let mut callers = [(); 2].map(|()| room.come_to(Some(any_tls().0)));
    callers[1].say(b"\x16\x03\x01\x02\x00\x01");
    room.round();
    room.pass(TLS_HANDSHAKE_MAX - TICK);
    assert_eq!(room.clients(), 2);
    room.pass(TICK);
    callers.iter_mut().for_each(Caller::hear_end);
    assert_eq!(room.worker.counters.ssl_handshake_errors.count(), 2);
}

#[test]
fn when_the_node_may_have_missed_something_all_are_to_go() {
    let room = Room::open();
    let (mut silent, mut half) = (room.come(), room.come());
    half.say(b"vers");
    room.round();
    let (_states, mut state) = watch::channel(State::Ready);
    room.worker.end_those_of_before(&mut state);
    assert_eq!(room.clients(), 0);
    [&mut silent, &mut half].into_iter().for_each(Caller::hear_end);
}

#[test]
fn of_so_many_turns_one_is_timed() {
    let room = Room::open();
    let mut caller = room.come();
    let timed = || {
        let counts = room.worker.server.totals.counts();
        let named = counts.named().filter(|(name, _)| name.starts_with("turn_l"));
        named.map(|(_, count)| count).sum::<u64>()
    };
    for _ in 0..3 * TURNS_UNTOLD_MAX {
        caller.say(b"get none\r\n");
        room.round();
        caller.hear("END\r\n");
    }
    assert_eq!(timed(), 3);
}
