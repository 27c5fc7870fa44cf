//! Exclusive lock keys on the clients' side: which requests are not executed where they come in,
//! where they wait, and by whom they are executed.
//!
//! Picture a counter with pigeonholes. A worker whose client wants to change a lock key lays the
//! request on the counter and goes on with others; the replication thread takes what lies there, has
//! it decided, by us or by another node, and lays the answer into the client's hole. Requests that
//! we decide are executed by the [`LockClerk`], who sits on the replication thread and serves one
//! request at a time, whosever client it is.
//!
//! A fetch that touches (`gat`) is executed where it comes in, as every fetch: it takes no lock and
//! frees none. So is a value that does not come whole.
//!
//! What is NOT here: who decides ([`crate::replication`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::session::{Next, Session};
use super::{ConnState, Connection, Server, Transport};
use crate::clock::Now;
use crate::protocol::request::{Block, Request, StoreMode};
use crate::replication::{Execute, Executed};
use crate::store::{KeyPatterns, MutationLog};

/// A request for a lock key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// Which key.
    pub key: Vec<u8>,
    /// The whole request, as it came.
    pub request: Vec<u8>,
}

/// Where requests for lock keys wait, and which keys these are.
#[derive(Debug)]
pub struct Locks {
    keys: KeyPatterns,
    next: AtomicU64,
    counter: Mutex<Counter>,
}

#[derive(Debug, Default)]
struct Counter {
    asked: Vec<(u64, LockRequest)>,
    taker: Option<Waker>,
    /// Nobody will take anything any more.
    is_closed: bool,
    holes: std::collections::HashMap<u64, Arc<Hole>>,
}

/// Where one answer is laid.
#[derive(Debug, Default)]
struct Hole {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
enum Inside {
    #[default]
    Nothing,
    Waited(Waker),
    Answer(Vec<u8>),
    /// There will be no answer.
    Never,
}

/// An answer that is waited for.
#[derive(Debug)]
pub struct LockAnswer {
    hole: Arc<Hole>,
}

impl Locks {
    /// An empty counter for requests that change keys like `keys`.
    #[must_use]
    pub fn new(keys: KeyPatterns) -> Locks {
        Locks { keys, next: AtomicU64::new(1), counter: Mutex::default() }
    }

    /// The lock key that `request` may change.
    pub(super) fn key_of<'r>(&self, request: &'r Request<'_>) -> Option<&'r [u8]> {
        Locks::changed_key(request).filter(|key| self.keys.has(key))
    }

    /// The key that `request` may change.
    pub(super) fn changed_key<'r>(request: &'r Request<'_>) -> Option<&'r [u8]> {
        Some(match request {
            Request::Store(storage) if matches!(storage.block, Block::Value(_)) => storage.key,
            Request::Delete { key, .. } | Request::Touch { key, .. } => key,
            Request::Arithmetic(wanted) => wanted.key,
            Request::MetaSet(set) if matches!(set.block, Block::Value(_)) => &set.meta.key.bytes,
            Request::MetaDelete(meta) => &meta.key.bytes,
            Request::MetaArithmetic(wanted) => &wanted.meta.key.bytes,
            Request::MetaGet(meta)
                if meta.options.vivify.is_some() || meta.options.exptime.is_some() =>
            {
                &meta.key.bytes
            }
            _ => return None,
        })
    }

    /// Whether `request` may take a lock, and lets none go.
    pub(super) fn takes(request: &Request<'_>) -> bool {
        match request {
            Request::Store(storage) => storage.mode == StoreMode::Add,
            Request::Arithmetic(wanted) => wanted.up,
            Request::MetaSet(set) => set.mode == StoreMode::Add,
            Request::MetaArithmetic(wanted) => wanted.up,
            Request::MetaGet(_) => true,
            _ => false,
        }
    }

    /// Lays a request on the counter.
    pub fn ask(&self, request: LockRequest) -> LockAnswer {
        let hole = Arc::<Hole>::default();
        let mut counter = self.counter.lock();
        if counter.is_closed {
            *hole.inside.lock() = Inside::Never;
            return LockAnswer { hole };
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        counter.holes.insert(id, Arc::clone(&hole));
        counter.asked.push((id, request));
        let taker = counter.taker.take();
        drop(counter);
        if let Some(taker) = taker {
            taker.wake();
        }
        LockAnswer { hole }
    }

    /// Takes what lies on the counter, in the order in which it came; waits until there is something.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Vec<(u64, LockRequest)>> {
        let mut counter = self.counter.lock();
        if counter.asked.is_empty() {
            counter.taker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut counter.asked))
    }

    /// Lays an answer into its hole.
    pub fn answer(&self, id: u64, answer: Vec<u8>) {
        let hole = self.counter.lock().holes.remove(&id);
        if let Some(hole) = hole {
            hole.lay(Inside::Answer(answer));
        }
    }

    /// Nobody decides anything any more, or what has been asked so far was forgotten.
    pub fn forget_all(&self, is_closed: bool) {
        let mut counter = self.counter.lock();
        counter.is_closed = is_closed;
        counter.asked.clear();
        let holes = std::mem::take(&mut counter.holes);
        drop(counter);
        holes.into_values().for_each(|hole| hole.lay(Inside::Never));
    }
}

impl Hole {
    fn lay(&self, inside: Inside) {
        let before = std::mem::replace(&mut *self.inside.lock(), inside);
        if let Inside::Waited(waker) = before {
            waker.wake();
        }
    }
}

impl LockAnswer {
    /// The whole answer, as the client is to have it; `None` if there will be none.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut inside = self.hole.inside.lock();
        match &mut *inside {
            Inside::Answer(answer) => Poll::Ready(Some(std::mem::take(answer))),
            Inside::Never => Poll::Ready(None),
            waiting @ (Inside::Nothing | Inside::Waited(_)) => {
                *waiting = Inside::Waited(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Executes requests for lock keys, as if their clients were here.
#[derive(Debug)]
pub struct LockClerk {
    session: Session,
}

impl LockClerk {
    /// A clerk of `server`'s.
    #[must_use]
    pub fn new(server: &Arc<Server>, now: Now) -> LockClerk {
        let (addr, state) = ("peer".to_owned(), ConnState::NewCmd);
        let connection = Connection::new(0, addr, None, Transport::Unix, state, now.seconds());
        let counters = server.totals.register();
        LockClerk { session: Session::of_clerk(Arc::clone(server), counters, Arc::new(connection)) }
    }
}

impl Execute for LockClerk {
    fn execute(&mut self, request: &[u8], is_late: bool, now: Now) -> Executed {
        let _ = MutationLog::take_logged_here();
        let mut answer = Vec::new();
        self.session.begin_request(is_late);
        let mut next = self.session.receive(request, now, &mut answer).next;
        while next == Next::Resume {
            next = self.session.resume(now, &mut answer);
        }
        let takes = self.session.took_lock();
        Executed { answer, version: MutationLog::take_logged_here(), takes }
    }
}
