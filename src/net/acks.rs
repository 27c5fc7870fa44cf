//! Replies that wait until peers have what they tell of.
//!
//! Picture a cloakroom: a client whose requests changed something leaves his reply there with a
//! number, the version of the last change, and goes on as soon as his number is called. Numbers are
//! called in their order, whenever peers have come further; each worker has a cloakroom of its own,
//! and one bell through which the replication thread reaches it. Nobody else waits, unless the whole
//! node stood still for a moment: then everybody stays in the hall until it is said what was missed.
//!
//! What is NOT here: how long a peer may take before it is waited for no more (that is the core's
//! ack-timeout), and what is logged ([`MutationLog`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::Instant;

use crate::clock::Now;
use crate::command::{Acknowledged, Peers, Pledges, Serving};
use crate::store::MutationLog;
use crate::version::Version;

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent.
    Send,
    /// Nobody has acknowledged what it tells of, and clients are to hear that.
    Withdraw,
    /// Nobody knows what peers have any more: it is not sent, and its client goes.
    Drop,
}

/// A reply that waits.
#[derive(Debug)]
pub(super) struct Held {
    version: Version,
    since: Instant,
    place: Option<u64>,
    pub(super) pledges: Pledges,
}

/// The cloakroom of one worker.
#[derive(Debug)]
pub(super) struct Cloakroom {
    peers: Arc<Peers>,
    waiting: RefCell<BTreeMap<(Version, u64), Waker>>,
    next_place: Cell<u64>,
    /// Clients of a node that stood still.
    hall: RefCell<Vec<Waker>>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    /// Somebody waits.
    is_heard: AtomicBool,
    worker: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_heard.load(Ordering::SeqCst) {
            self.worker.wake_by_ref();
        }
    }
}

impl Cloakroom {
    /// A cloakroom whose numbers `peers` call: `worker` is woken whenever it is to call who is due.
    pub(super) fn new(peers: &Arc<Peers>, worker: Waker) -> Cloakroom {
        let bell = Arc::new(Bell { is_heard: AtomicBool::new(false), worker });
        peers.hang_up(Waker::from(Arc::clone(&bell)));
        Cloakroom {
            peers: Arc::clone(peers),
            waiting: RefCell::default(),
            next_place: Cell::new(0),
            hall: RefCell::default(),
            bell,
        }
    }

    /// Whether what this thread has answered since it last asked must wait; it tells of `pledges`.
    pub(super) fn hold(&self, pledges: Pledges) -> Option<Held> {
        let version = MutationLog::take_logged_here()?;
        let held = || Held { version, since: Instant::now(), place: None, pledges };
        self.peers.are_awaited().then(held)
    }

    /// Waits for `held` to be called.
    pub(super) fn poll(&self, held: &mut Held, now: Now, cx: &mut Context<'_>) -> Poll<Verdict> {
        let mut acknowledged = self.peers.acknowledged(held.version);
        if acknowledged == Acknowledged::Wait && self.peers.serving(now) != Serving::No {
            let place = *held
                .place
                .get_or_insert_with(|| self.next_place.replace(self.next_place.get() + 1));
            self.waiting.borrow_mut().insert((held.version, place), cx.waker().clone());
            self.bell.is_heard.store(true, Ordering::SeqCst);
            // They may have come further in between, when the bell was not heard.
            acknowledged = self.peers.acknowledged(held.version);
            if acknowledged == Acknowledged::Wait {
                return Poll::Pending;
            }
        }
        if let Some(place) = held.place {
            self.waiting.borrow_mut().remove(&(held.version, place));
            self.peers.count_wait(held.since.elapsed());
        }
        Poll::Ready(self.judge(acknowledged))
    }

    /// Waits until a client may be answered, or is to go.
    pub(super) fn poll_serving(&self, now: Now, cx: &mut Context<'_>) -> Poll<()> {
        if self.peers.serving(now) != Serving::Soon {
            return Poll::Ready(());
        }
        self.hall.borrow_mut().push(cx.waker().clone());
        self.bell.is_heard.store(true, Ordering::SeqCst);
        // It may have been said in between, when the bell was not heard.
        match self.peers.serving(now) {
            Serving::Soon => Poll::Pending,
            Serving::Now | Serving::No => Poll::Ready(()),
        }
    }

    fn judge(&self, acknowledged: Acknowledged) -> Verdict {
        match acknowledged {
            Acknowledged::Yes => Verdict::Send,
            Acknowledged::Wait => Verdict::Drop,
            Acknowledged::Alone if self.peers.withhold_unacknowledged() => Verdict::Withdraw,
            Acknowledged::Alone => {
                self.peers.count_fallback();
                Verdict::Send
            }
        }
    }

    /// Calls those who may go, and all if nobody knows any more who may.
    pub(super) fn call_due(&self, now: Now) {
        let serving = self.peers.serving(now);
        if serving != Serving::Soon {
            self.hall.take().into_iter().for_each(Waker::wake);
        }
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.first_entry() {
            let (version, _) = *first.key();
            let is_called = self.peers.acknowledged(version) != Acknowledged::Wait;
            if !is_called && serving != Serving::No {
                return;
            }
            first.remove().wake();
        }
        if self.hall.borrow().is_empty() {
            self.bell.is_heard.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests;
