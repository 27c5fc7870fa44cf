//! Where silent clients sleep: without a task, and without an entry in the runtime's poller.
//!
//! Most connections to a session store are silent most of the time, and one that can be polled at any
//! moment takes about a kilobyte: a task, and what tokio keeps for each socket. So a client has these
//! only while it talks. One who has just come, and one who has said nothing for a while, sleeps: of it
//! are left its [`Place`], its socket and its [`Session`]. Picture a dormitory with one bell: all
//! sleepers of a worker are in one poller, and the runtime knows nothing but that poller. It rings when
//! somebody's bytes are there, and [`super::worker`] gives those a task again.
//!
//! Who speaks TLS never sleeps: what the library keeps for it is many times as long as a task.
//!
//! What is NOT here: who lies down, and what becomes of the woken ([`super::worker`]).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;

use super::acceptor::Stream;
use super::client::{Pulse, Waiting};
use super::worker::Worker;
use crate::command::{CloseReason, Connection, Session};

/// Most clients woken before others have their turn.
pub(super) const WOKEN_AT_ONCE: usize = 64;

/// Rings when a sleeper is to be woken.
pub(super) type Bell = AsyncFd<OwnedFd>;

/// A connection's place among a worker's, asleep or awake: while it is held the connection is on the
/// list. It is to be dropped before the socket.
pub(super) struct Place {
    pub(super) worker: Rc<Worker>,
    pub(super) pulse: Rc<Pulse>,
    pub(super) listed: Arc<Connection>,
    /// One of the `-c` seats.
    _seat: OwnedSemaphorePermit,
}

impl Place {
    /// A place for a connection that has just come.
    pub(super) fn new(
        worker: &Rc<Worker>,
        listed: Arc<Connection>,
        seat: OwnedSemaphorePermit,
    ) -> Place {
        let pulse = Rc::new(Pulse {
            heard: Cell::new(0),
            waiting: Cell::new(Waiting::Request),
            moved: Cell::new(worker.tick()),
            drowsy: Cell::new(false),
            reason: Cell::new(CloseReason::Shutdown),
        });
        worker.enlist(&listed);
        Place { worker: Rc::clone(worker), pulse, listed, _seat: seat }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.leave(&self.listed, self.pulse.reason.get());
    }
}

/// What is left of a client that sleeps.
pub(super) struct Sleeper {
    pub(super) place: Place,
    pub(super) stream: Stream,
    pub(super) session: Session,
}

/// A worker's sleepers.
pub(super) struct Dormitory {
    poller: Epoll,
    /// By their sockets. In boxes, so that the places kept for more of them are small.
    sleepers: RefCell<HashMap<RawFd, Box<Sleeper>>>,
}

impl fmt::Debug for Dormitory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dormitory").field("poller", &self.poller).finish_non_exhaustive()
    }
}

impl Dormitory {
    /// An empty one.
    ///
    /// # Errors
    /// The machine refuses a poller.
    pub(super) fn open() -> io::Result<Dormitory> {
        let poller = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Dormitory { poller, sleepers: RefCell::default() })
    }

    /// What tells the runtime that somebody is to be woken. To be called within it.
    ///
    /// # Errors
    /// The machine refuses to poll the poller.
    #[expect(
        deprecated,
        reason = "unsound without a lasting descriptor only, and this one is owned"
    )]
    pub(super) fn bell(&self) -> io::Result<Bell> {
        AsyncFd::with_interest(self.poller.0.try_clone()?, Interest::READABLE)
    }

    /// Keeps a client until something arrives for it.
    ///
    /// # Errors
    /// The machine refuses to poll its socket, which is closed.
    pub(super) fn take_in(&self, sleeper: Sleeper) -> io::Result<()> {
        let fd = sleeper.stream.as_raw_fd();
        let arrivals = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        self.poller
            .add(&sleeper.stream, EpollEvent::new(arrivals, u64::from(fd.unsigned_abs())))?;
        self.sleepers.borrow_mut().insert(fd, Box::new(sleeper));
        Ok(())
    }

    /// Those for whom something has arrived, [`WOKEN_AT_ONCE`] at most. They sleep here no more.
    pub(super) fn woken(&self) -> Vec<Sleeper> {
        let mut events = [EpollEvent::empty(); WOKEN_AT_ONCE];
        // What interrupts it rings again.
        let ready = self.poller.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let fds = events[..ready].iter().filter_map(|event| RawFd::try_from(event.data()).ok());
        fds.filter_map(|fd| self.let_go(fd)).collect()
    }

    fn let_go(&self, fd: RawFd) -> Option<Sleeper> {
        let sleeper = self.sleepers.borrow_mut().remove(&fd)?;
        // It is there: it was put there with the sleeper.
        let _ = self.poller.delete(&sleeper.stream);
        Some(*sleeper)
    }

    /// How many sleep.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sleepers.borrow().len()
    }

    /// Ends the sleepers that `reason` gives a reason for.
    pub(super) fn end(&self, reason: impl Fn(&Place) -> Option<CloseReason>) {
        let is_ended = |sleeper: &Sleeper| {
            let reason = reason(&sleeper.place);
            reason.inspect(|&reason| sleeper.place.pulse.reason.set(reason)).is_some()
        };
        let mut sleepers = self.sleepers.borrow_mut();
        let ended: Vec<_> = sleepers.extract_if(|_, sleeper| is_ended(sleeper)).collect();
        drop(sleepers);
        // They leave the worker's lists while they are dropped.
        drop(ended);
    }
}
