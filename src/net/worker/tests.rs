//! Who sleeps, and what becomes of them.

use std::os::unix::net::UnixStream;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, yield_now};

use super::*;
use crate::store::Mutation;
use crate::version::Version;

/// A worker whose clients are what the tests let come.
struct Room {
    worker: Rc<Worker>,
    bell: Bell,
    _stop_requested: mpsc::UnboundedReceiver<Stop>,
}

impl Room {
    fn open() -> Room {
        let server = Arc::new(Server::new(Settings::default()));
        let (stop_requests, _stop_requested) = mpsc::unbounded_channel();
        let worker = Rc::new(Worker::new(server, Arc::default(), stop_requests).unwrap());
        let bell = worker.dormitory.bell().unwrap();
        Room { worker, bell, _stop_requested }
    }

    /// Somebody connects.
    fn come(&self) -> tokio::net::UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (fd, now) = (ours.as_raw_fd(), self.worker.now().seconds());
        let (addr, state) = ("unix:/s".to_owned(), ConnState::NewCmd);
        let listed = Arc::new(Connection::new(fd, addr, None, Transport::Unix, state, now));
        let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let session = self.worker.session(&listed);
        let place = Place::new(&self.worker, listed, seat);
        self.worker.lay_down(Sleeper { place, stream: Stream::Unix(ours), session });
        tokio::net::UnixStream::from_std(theirs).unwrap()
    }

    /// Somebody connects, asks, and is answered.
    async fn come_and_ask(&self) -> tokio::net::UnixStream {
        let mut caller = self.come();
        ask_version(&mut caller).await;
        self.wake().await;
        hear_version(&mut caller).await;
        caller
    }

    async fn wake(&self) {
        self.bell.readable().await.unwrap().clear_ready();
        self.worker.wake_sleepers();
    }

    async fn pass(&self, time: Duration) {
        self.look_after(time);
        yield_now().await;
    }

    /// Clients are looked after when `time` has passed, and none of them has had a turn since.
    fn look_after(&self, time: Duration) {
        let ticks = time.as_millis() / TICK.as_millis();
        self.worker.ticks.fetch_add(u32::try_from(ticks).unwrap(), Ordering::Relaxed);
        self.worker.look_after_clients();
    }

    /// How many are awake, and how many asleep.
    fn awake_and_asleep(&self) -> (usize, usize) {
        (self.worker.members.borrow().len(), self.worker.dormitory.len())
    }
}

async fn ask_version(caller: &mut tokio::net::UnixStream) {
    caller.write_all(b"version\r\n").await.unwrap();
}

async fn hear_version(caller: &mut tokio::net::UnixStream) {
    let mut heard = [0; 64];
    let length = caller.read(&mut heard).await.unwrap();
    assert!(heard[..length].starts_with(b"VERSION "));
}

#[tokio::test]
async fn one_is_awake_from_the_first_byte_until_it_has_been_silent_for_a_while() {
    LocalSet::new()
        .run_until(async {
            let room = Room::open();
            let mut caller = room.come();
            assert_eq!(room.awake_and_asleep(), (0, 1));
            for _ in 0..2 {
                ask_version(&mut caller).await;
                room.wake().await;
                hear_version(&mut caller).await;
                room.pass(AWAKE_MAX - TICK).await;
                assert_eq!(room.awake_and_asleep(), (1, 0));
                room.pass(TICK).await;
                assert_eq!(room.awake_and_asleep(), (0, 1));
                assert_eq!(room.worker.server.connections.len(), 1, "asleep, it is listed");
            }
        })
        .await;
}

#[tokio::test]
async fn one_within_a_request_does_not_sleep() {
    LocalSet::new()
        .run_until(async {
            let room = Room::open();
            let mut caller = room.come();
            caller.write_all(b"vers").await.unwrap();
            room.wake().await;
            while room.worker.counters.bytes_read.count() == 0 {
                yield_now().await;
            }
            room.pass(2 * AWAKE_MAX).await;
            assert_eq!(room.awake_and_asleep(), (1, 0));
            caller.write_all(b"ion\r\n").await.unwrap();
            hear_version(&mut caller).await;
        })
        .await;
}

#[tokio::test]
async fn one_that_is_about_to_sleep_when_all_are_to_go_goes() {
    LocalSet::new()
        .run_until(async {
            let room = Room::open();
            let mut caller = room.come_and_ask().await;
            room.look_after(2 * AWAKE_MAX);
            let (_states, mut state) = watch::channel(State::Ready);
            room.worker.end_those_of_before(&mut state);
            room.look_after(TICK);
            while !room.worker.members.borrow().is_empty() {
                yield_now().await;
            }
            assert_eq!(room.awake_and_asleep(), (0, 0));
            assert_eq!(caller.read(&mut [0]).await.unwrap(), 0, "its connection is closed");
        })
        .await;
}

#[tokio::test]
async fn one_that_hangs_up_in_its_sleep_is_forgotten() {
    LocalSet::new()
        .run_until(async {
            let room = Room::open();
            drop(room.come());
            room.wake().await;
            while room.awake_and_asleep() != (0, 0) {
                yield_now().await;
            }
            assert!(room.worker.server.connections.is_empty());
        })
        .await;
}

struct Rung(AtomicU32);

impl std::task::Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The tests' runtime has no hook for when it rests, so it is as if this worker never did.
#[tokio::test]
async fn peers_hear_in_time_of_what_a_worker_logs_that_never_rests() {
    LocalSet::new()
        .run_until(async {
            let room = Room::open();
            let mut caller = room.come_and_ask().await;
            let log = MutationLog::new(1, 1 << 20);
            let rung = Arc::new(Rung(AtomicU32::new(0)));
            assert!(log.wake_after(Version(0), &Arc::clone(&rung).into()));
            MutationLog::wake_when_told();
            log.append_for_test(Mutation::Put, b"k", Now::from_unix_seconds(1_800_000_000));
            assert_eq!(rung.0.load(Ordering::Relaxed), 0, "the worker may have more to log");
            for _ in 0..TURNS_UNTOLD_MAX {
                ask_version(&mut caller).await;
                hear_version(&mut caller).await;
            }
            assert_eq!(rung.0.load(Ordering::Relaxed), 1);
        })
        .await;
}

#[tokio::test]
async fn of_so_many_turns_one_is_timed() {
    LocalSet::new()
        .run_until(async {
            let room = Room::open();
            let mut caller = room.come_and_ask().await;
            let timed = || {
                let counts = room.worker.server.totals.counts();
                let named = counts.named().filter(|(name, _)| name.starts_with("turn_l"));
                named.map(|(_, count)| count).sum::<u64>()
            };
            let before = timed();
            for _ in 0..3 * TURNS_UNTOLD_MAX {
                ask_version(&mut caller).await;
                hear_version(&mut caller).await;
            }
            assert_eq!(timed() - before, 3);
        })
        .await;
}
