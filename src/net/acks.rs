//! Replies that wait until peers have what they tell of.
//!
//! Picture a cloakroom: a client whose requests changed something leaves his reply there with a
//! number, the version of the last change, and goes on as soon as his number is called. Numbers are
//! called in their order, whenever peers have come further; each worker has a cloakroom of its own,
//! and one bell through which the replication thread reaches it. Nobody else waits.
//!
//! What is NOT here: how long a peer may take before it is waited for no more (that is the core's
//! ack-timeout; here is only a last resort), and what is logged ([`MutationLog`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::command::{Acknowledged, Peers, Pledges};
use crate::store::MutationLog;
use crate::version::Version;

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent.
    Send,
    /// Nobody has acknowledged what it tells of, and clients are to hear that.
    Withdraw,
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
    waiting: RefCell<BTreeMap<(Version, u64), (Instant, Waker)>>,
    next_place: Cell<u64>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    /// Somebody waits.
    is_heard: AtomicBool,
    ring: Notify,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_heard.load(Ordering::SeqCst) {
            self.ring.notify_one();
        }
    }
}

impl Cloakroom {
    /// A cloakroom whose numbers `peers` call.
    pub(super) fn new(peers: &Arc<Peers>) -> Cloakroom {
        let bell = Arc::<Bell>::default();
        peers.hang_up(Waker::from(Arc::clone(&bell)));
        Cloakroom {
            peers: Arc::clone(peers),
            waiting: RefCell::default(),
            next_place: Cell::new(0),
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
    pub(super) fn poll(&self, held: &mut Held, cx: &mut Context<'_>) -> Poll<Verdict> {
        let mut acknowledged = self.peers.acknowledged(held.version);
        if acknowledged == Acknowledged::Wait && held.since.elapsed() < self.peers.patience() {
            let place = *held
                .place
                .get_or_insert_with(|| self.next_place.replace(self.next_place.get() + 1));
            let waiter = (held.since, cx.waker().clone());
            self.waiting.borrow_mut().insert((held.version, place), waiter);
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

    fn judge(&self, acknowledged: Acknowledged) -> Verdict {
        if acknowledged == Acknowledged::Yes {
            Verdict::Send
        } else if self.peers.withhold_unacknowledged() {
            Verdict::Withdraw
        } else {
            self.peers.count_fallback();
            Verdict::Send
        }
    }

    /// Calls numbers whenever the bell rings.
    pub(super) async fn call(self: Rc<Self>) {
        loop {
            self.bell.ring.notified().await;
            self.call_due();
        }
    }

    /// Calls those who may go, or have waited for too long.
    pub(super) fn call_due(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.first_entry() {
            let (version, _) = *first.key();
            let (since, _) = first.get();
            let is_called = self.peers.acknowledged(version) != Acknowledged::Wait;
            if !is_called && since.elapsed() < self.peers.patience() {
                return;
            }
            let (_, waker) = first.remove();
            waker.wake();
        }
        self.bell.is_heard.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
