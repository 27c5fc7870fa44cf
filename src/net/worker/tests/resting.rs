//! When a worker rests, and who calls it or hears of it meanwhile.

use super::*;

#[test]
fn who_found_few_rests_before_the_next_look_and_more_seldom_where_that_brings_no_more() {
    let room = Room::open();
    let mut callers: Vec<Caller> = (0..5).map(|_| room.come()).collect();
    let mut speak = |count: usize| {
        callers[..count].iter_mut().for_each(|caller| caller.say(b"mn\r\n"));
        room.round_until(Instant::now() + TICK / 2);
        callers[..count].iter_mut().for_each(|caller| caller.hear("MN\r\n"));
        room.worker.counters.moderated_rounds.count()
    };
    assert_eq!([1, 1, 1].map(&mut speak), [0, 0, 0]);
    assert_eq!([5; 8].map(&mut speak), [0, 1, 1, 1, 1, 1, 2, 2]);
}

#[test]
fn who_has_been_called_or_has_no_time_does_not_rest() {
    let room = Room::open();
    let mut callers: Vec<Caller> = (0..5).map(|_| room.come()).collect();
    let mut speak = |until: Instant| {
        callers.iter_mut().for_each(|caller| caller.say(b"mn\r\n"));
        room.round_until(until);
        callers.iter_mut().for_each(|caller| caller.hear("MN\r\n"));
        room.worker.counters.moderated_rounds.count()
    };
    let soon = || Instant::now() + TICK / 2;
    assert_eq!((speak(soon()), speak(Instant::now())), (0, 0));
    room.worker.poller.calls().knocker().wake();
    assert_eq!(speak(soon()), 0);
    assert_eq!(speak(soon()), 1);
}

#[test]
fn a_reply_that_waits_for_peers_is_sent_when_they_have_called_and_what_came_meanwhile_behind_it() {
    let peers = Peers::new(&Peering { ack: Ack::One, ..Peering::default() }, 1);
    let room = Room::of(Server::with_peers(Settings::default(), peers));
    let peers = room.worker.server.peers.clone().unwrap();
    let now = || room.worker.server.clock.unmoved();
    peers.permit(Serving::Now, now());
    peers.acknowledge(Version(0), Version(0), 1);
    let (mut caller, mut other) = (room.come(), room.come());
    caller.say(b"set k 0 0 1\r\nv\r\n");
    room.round();
    for caller in [&mut caller, &mut other] {
        caller.say(b"get k\r\n");
    }
    room.round();
    other.hear("VALUE k 0 1\r\nv\r\nEND\r\n");
    caller.0.set_nonblocking(true).unwrap();
    let error = caller.0.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "peers do not have it");
    caller.0.set_nonblocking(false).unwrap();
    peers.acknowledge(Version(u64::MAX), Version(0), 1);
    room.round();
    caller.hear("STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n");
    assert_eq!(peers.waits().waited, 1);
    assert!(room.worker.clients.borrow().iter().all(|(_, client)| client.owns_nothing()));
}

#[test]
fn those_for_whose_replies_peers_are_waited_for_no_more_are_told_together() {
    let peers = Peers::new(&Peering { ack: Ack::One, ..Peering::default() }, 1);
    let room = Room::of(Server::with_peers(Settings::default(), peers));
    let peers = room.worker.server.peers.clone().unwrap();
    peers.permit(Serving::Now, room.worker.server.clock.unmoved());
    peers.acknowledge(Version(0), Version(0), 1);
    let mut callers: Vec<Caller> = (0..8).map(|_| room.come()).collect();
    for (number, caller) in callers.iter_mut().enumerate() {
        let rest = if number == 5 { "get k5\r\n" } else { "" };
        caller.say(format!("set k{number} 0 0 1\r\n{number}\r\n{rest}").as_bytes());
    }
    room.round();
    let batched = || room.worker.counters.batched_transfers.count();
    let read = batched();
    callers[3].0.shutdown(std::net::Shutdown::Write).unwrap();
    callers[4].say(b"get k4\r\n");
    peers.acknowledge(Version(u64::MAX), Version(0), 1);
    room.round();
    assert_eq!(batched(), 2 * read, "as many as were read together");
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.hear("STORED\r\n");
        match number {
            3 => caller.hear_end(),
            4 | 5 => caller.hear(&format!("VALUE k{number} 0 1\r\n{number}\r\nEND\r\n")),
            _ => {}
        }
    }
    assert_eq!(room.clients(), 7);
    assert!(room.worker.clients.borrow().iter().all(|(_, client)| client.owns_nothing()));
}

#[test]
fn a_worker_that_rests_is_called_from_another_thread() {
    let room = Room::open();
    room.round();
    for _ in 0..100 {
        let knocker = room.worker.poller.calls().knocker();
        let knocks = thread::spawn(move || knocker.wake());
        while !room.worker.is_door_knocked.get() {
            let began = Instant::now();
            room.round_until(began + Duration::from_secs(10));
            assert!(began.elapsed() < Duration::from_secs(9), "the call was not heard");
        }
        room.worker.is_door_knocked.set(false);
        knocks.join().unwrap();
    }
}

struct Rung(AtomicU32);

impl std::task::Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn peers_hear_in_time_of_what_a_worker_logs_that_does_not_rest() {
    let room = Room::open();
    let log = MutationLog::new(1, 1 << 20);
    let rung = Arc::new(Rung(AtomicU32::new(0)));
    assert!(log.wake_after(Version(0), &Arc::clone(&rung).into()));
    MutationLog::wake_when_told();
    log.append_for_test(Mutation::Put, b"k", Now::from_unix_seconds(1_800_000_000));
    assert_eq!(rung.0.load(Ordering::Relaxed), 0, "the worker may have more to log");
    for _ in 0..TURNS_UNTOLD_MAX {
        room.worker.begin_turn();
        room.worker.end_turn();
    }
    assert_eq!(rung.0.load(Ordering::Relaxed), 1);
}
