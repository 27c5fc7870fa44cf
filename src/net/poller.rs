//! What a worker waits for: its clients' sockets, and calls.
//!
//! Picture a waiter with one bell for all tables: he hears that something is wanted, sees on each table's
//! [`Signals`] what it is, and goes to those tables only. A table signals because its socket can be read or
//! written again, or because what its client waits for elsewhere has come: peers have a change, a lock has
//! been decided, others have had their turn. Whoever is no client (the acceptor, the node's state) just
//! [knocks](Calls::knocker).
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
/// unless it was full.
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
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, CALL))?;
        Ok(Poller { epoll, calls: Arc::new(Calls::with(bell)) })
    }

    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// What tells a runtime that there is something to be waited for no longer. To be called within it.
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

    /// Tells also when `socket` can be written.
    ///
    /// # Errors
    /// The machine refuses to poll it.
    pub(super) fn watch_both_ways(&self, socket: impl AsFd, signals: &Signals) -> io::Result<()> {
        let both = ARRIVALS | EpollFlags::EPOLLOUT;
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(both, signals.key as u64))?)
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
    bell: EventFd,
    /// Somebody has called since the worker looked last.
    is_called: AtomicBool,
    /// The worker hears the bell only.
    is_listened_for: AtomicBool,
    /// It is no client, or not only clients, that called.
    is_knocked: AtomicBool,
    clients: Mutex<Vec<usize>>,
}

impl Calls {
    /// Nobody has called yet.
    fn with(bell: EventFd) -> Calls {
        Calls {
            bell,
            is_called: AtomicBool::new(false),
            is_listened_for: AtomicBool::new(false),
            is_knocked: AtomicBool::new(false),
            clients: Mutex::default(),
        }
    }

    /// Says that the worker will hear the bell only from here on; returns whether nobody has called before.
    pub(super) fn listen(&self) -> bool {
        self.is_listened_for.store(true, Ordering::SeqCst);
        !self.is_called.load(Ordering::SeqCst)
    }

    fn call(&self) {
        self.is_called.store(true, Ordering::SeqCst);
        if self.is_listened_for.swap(false, Ordering::SeqCst) {
            // It is never full: nobody rings so often.
            let _ = self.bell.write(1);
        }
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
    flags: AtomicU8,
    calls: Arc<Calls>,
}

/// The socket may have something to be read.
const READABLE: u8 = 1;
/// The client has hung up, or ended its half: behind what can be read is the end.
const HUNG_UP: u8 = 2;
/// The socket may have room.
const WRITABLE: u8 = 4;
/// Somebody waits for room.
const WAITS_FOR_ROOM: u8 = 8;

impl Signals {
    /// Those of the client with this key, whose socket is new.
    pub(super) fn new(key: usize, calls: &Arc<Calls>) -> Signals {
        Signals { key, flags: AtomicU8::new(WRITABLE), calls: Arc::clone(calls) }
    }

    /// Notes what the poller tells.
    pub(super) fn note(&self, event: &EpollEvent) {
        let told = event.events();
        if told.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.set(READABLE | HUNG_UP | WRITABLE);
        } else {
            self.set(READABLE);
        }
        if told.intersects(EpollFlags::EPOLLOUT) {
            self.set(WRITABLE);
        }
    }

    pub(super) fn may_be_read(&self) -> bool {
        self.has(READABLE)
    }

    pub(super) fn may_be_written(&self) -> bool {
        self.has(WRITABLE)
    }

    /// Nothing more could be read, or at least no more than `arrived` of `room`.
    pub(super) fn was_read(&self, arrived: usize, room: usize) {
        if arrived < room && !self.has(HUNG_UP) {
            self.clear(READABLE);
        }
    }

    /// Nothing can be read now, whatever was told.
    pub(super) fn is_read_empty(&self) {
        self.clear(READABLE);
    }

    /// The socket is full.
    pub(super) fn is_full(&self) {
        self.clear(WRITABLE);
        self.set(WAITS_FOR_ROOM);
    }

    /// Whether somebody has found the socket full since this was asked last.
    pub(super) fn take_full(&self) -> bool {
        let waits = self.has(WAITS_FOR_ROOM);
        if waits {
            self.clear(WAITS_FOR_ROOM);
        }
        waits
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    // Only the worker's thread has to do with them: others wake, and that is all.
    fn set(&self, flags: u8) {
        self.flags.store(self.flags.load(Ordering::Relaxed) | flags, Ordering::Relaxed);
    }

    fn clear(&self, flags: u8) {
        self.flags.store(self.flags.load(Ordering::Relaxed) & !flags, Ordering::Relaxed);
    }
}

impl Wake for Signals {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.calls.clients.lock().push(self.key);
        self.calls.call();
    }
}
