//! What a worker waits for: its clients' sockets, and calls.
//!
//! Picture a waiter with one bell for all tables: he hears that something is wanted, sees on each table's
//! [`Signals`] what it is, and goes to those tables only. A table signals because its socket can be read or
//! written again, or because what its client waits for elsewhere has come: peers have a change, a lock has
//! been decided, others have had their turn. Whoever is no client (the acceptor, the node's state, peers who
//! have come further) just [knocks](Calls::knocker).
//!
//! The poller tells of a change once (edge-triggered): what it told stands in the signals until a read or a
//! write finds that it is true no more.
//!
//! What is NOT here: who the clients are and what is done for them ([`super::worker`]).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most sockets told of at a time.
pub(super) const READY_AT_ONCE: usize = 64;

/// Sockets that are ready.
pub(super) type Events = [EpollEvent; READY_AT_ONCE];

/// Tells a runtime that there is something for [`Poller::wait`].
pub(super) type Bell = AsyncFd<OwnedFd>;

/// What the poller tells of a call: no client has this key.
const CALL: u64 = u64::MAX;

/// Bytes, or the end. A unix socket has room again with each read of its client, which nobody wants to know
/// as long as it is not full.
const ARRIVALS: EpollFlags =
    EpollFlags::EPOLLIN.union(EpollFlags::EPOLLRDHUP).union(EpollFlags::EPOLLET);

/// A worker's poller.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: Epoll,
    calls: Arc<Calls>,
}

impl Poller {
    /// One that knows no socket.
    ///
    /// # Errors
    /// The machine refuses a poller.
    pub(super) fn open() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&eventfd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, CALL))?;
        Ok(Poller { epoll, calls: Arc::new(Calls::with(eventfd)) })
    }

    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// A bell that rings when [`wait`](Poller::wait) would return. To be called within a runtime.
    ///
    /// # Errors
    /// The machine refuses to poll the poller.
    #[expect(
        deprecated,
        reason = "unsound without a lasting descriptor only, and this one is owned"
    )]
    pub(super) fn bell(&self) -> io::Result<Bell> {
        AsyncFd::with_interest(self.epoll.0.try_clone()?, Interest::READABLE)
    }

    /// Tells from now on when `socket` can be read, until it is closed.
    ///
    /// # Errors
    /// The machine refuses to poll it.
    pub(super) fn watch(&self, socket: impl AsFd, signals: &Signals) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(ARRIVALS, signals.key as u64))?)
    }

    /// Tells also when `socket` has room, or no more. If it can be read it is told of once more.
    ///
    /// # Errors
    /// The machine refuses to poll it.
    pub(super) fn watch_room(
        &self,
        socket: impl AsFd,
        signals: &Signals,
        wanted: bool,
    ) -> io::Result<()> {
        if signals.has(ROOM_IS_WATCHED) == wanted {
            return Ok(());
        }
        let room = if wanted { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        self.epoll.modify(socket, &mut EpollEvent::new(ARRIVALS | room, signals.key as u64))?;
        signals.change(ROOM_IS_WATCHED, wanted);
        Ok(())
    }

    /// Waits until something is ready or called for, for `at_most` so long; returns how many of `events`
    /// tell of something.
    pub(super) fn wait(&self, events: &mut Events, at_most: Duration) -> usize {
        let at_most = if self.calls.listen() { at_most } else { Duration::ZERO };
        // Rounded up: who comes too early would come again and again.
        let millis = at_most.as_micros().div_ceil(1000);
        let timeout = EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX);
        // Who is interrupted comes again.
        let ready = self.epoll.wait(events, timeout).unwrap_or(0);
        self.calls.is_listened_for.store(false, Ordering::SeqCst);
        ready
    }
}

/// The key of the client whose socket this event tells of.
pub(super) fn key_of(event: &EpollEvent) -> Option<usize> {
    usize::try_from(event.data()).ok().filter(|_| event.data() != CALL)
}

/// Calls to a worker, from its own thread and others.
#[derive(Debug)]
pub(super) struct Calls {
    eventfd: EventFd,
    /// Somebody has called since the worker looked last.
    is_called: AtomicBool,
    /// The worker waits, or is about to: it hears the eventfd only.
    is_listened_for: AtomicBool,
    /// It is no client, or not only clients, that called.
    is_knocked: AtomicBool,
    clients: Mutex<Vec<usize>>,
}

impl Calls {
    /// Nobody has called yet.
    fn with(eventfd: EventFd) -> Calls {
        Calls {
            eventfd,
            is_called: AtomicBool::new(false),
            is_listened_for: AtomicBool::new(false),
            is_knocked: AtomicBool::new(false),
            clients: Mutex::default(),
        }
    }

    /// Says that the worker will hear the eventfd only from here on; returns whether nobody has called before.
    pub(super) fn listen(&self) -> bool {
        self.is_listened_for.store(true, Ordering::SeqCst);
        !self.is_called()
    }

    fn call(&self) {
        self.is_called.store(true, Ordering::SeqCst);
        if self.is_listened_for.swap(false, Ordering::SeqCst) {
            // It is never full: nobody rings so often.
            let _ = self.eventfd.write(1);
        }
    }

    /// Whether somebody has called since that was [taken](Calls::take) last.
    pub(super) fn is_called(&self) -> bool {
        self.is_called.load(Ordering::SeqCst)
    }

    /// Whether somebody has called since this was asked last.
    pub(super) fn take(&self) -> bool {
        self.is_called.swap(false, Ordering::SeqCst)
    }

    /// Whether somebody has knocked since this was asked last.
    pub(super) fn take_knock(&self) -> bool {
        self.is_knocked.swap(false, Ordering::SeqCst)
    }

    /// The clients that have called since this was asked last.
    pub(super) fn take_clients(&self) -> Vec<usize> {
        std::mem::take(&mut *self.clients.lock())
    }

    /// With this anybody knocks.
    pub(super) fn knocker(self: &Arc<Calls>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_knocked.store(true, Ordering::SeqCst);
        self.call();
    }
}

/// What a client's socket can do, and how the client calls its worker.
#[derive(Debug)]
pub(super) struct Signals {
    key: usize,
    /// Of the worker's thread alone.
    flags: AtomicU8,
    /// Its key is on the list of those who have called.
    has_called: AtomicBool,
    calls: Arc<Calls>,
}

/// The socket may have something to be read.
const READABLE: u8 = 1;
/// The client has hung up, or ended its half: behind what can be read is the end.
const HUNG_UP: u8 = 2;
/// The socket may have room.
const WRITABLE: u8 = 4;
/// The poller tells when it has.
const ROOM_IS_WATCHED: u8 = 8;

impl Signals {
    /// Those of the client with this key, whose socket is new.
    pub(super) fn new(key: usize, calls: &Arc<Calls>) -> Signals {
        let (flags, has_called) = (AtomicU8::new(WRITABLE), AtomicBool::new(false));
        Signals { key, flags, has_called, calls: Arc::clone(calls) }
    }

    /// Notes what the poller tells.
    pub(super) fn note(&self, event: &EpollEvent) {
        let told = event.events();
        let broken = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        let ended = broken | EpollFlags::EPOLLRDHUP;
        for (events, flag) in [
            (ended | EpollFlags::EPOLLIN, READABLE),
            (ended, HUNG_UP),
            (broken | EpollFlags::EPOLLOUT, WRITABLE),
        ] {
            if told.intersects(events) {
                self.change(flag, true);
            }
        }
    }

    pub(super) fn may_be_read(&self) -> bool {
        self.has(READABLE)
    }

    pub(super) fn may_be_written(&self) -> bool {
        self.has(WRITABLE)
    }

    /// So much could be read where there was `room`: if that is less, there is no more, but for the end. (Not
    /// so behind TCP's urgent data: who sends that waits until he sends more.)
    pub(super) fn note_read(&self, arrived: usize, room: usize) {
        if arrived < room && !self.has(HUNG_UP) {
            self.change(READABLE, false);
        }
    }

    /// Nothing can be read, whatever was told.
    pub(super) fn note_empty(&self) {
        self.change(READABLE, false);
    }

    /// Nothing can be written.
    pub(super) fn note_full(&self) {
        self.change(WRITABLE, false);
    }

    /// Whether the client has called since this was asked last.
    pub(super) fn take_call(&self) -> bool {
        self.has_called.swap(false, Ordering::SeqCst)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    fn change(&self, flag: u8, is_set: bool) {
        let others = self.flags.load(Ordering::Relaxed) & !flag;
        self.flags.store(if is_set { others | flag } else { others }, Ordering::Relaxed);
    }
}

impl Wake for Signals {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.has_called.swap(true, Ordering::SeqCst) {
            self.calls.clients.lock().push(self.key);
            self.calls.call();
        }
    }
}
