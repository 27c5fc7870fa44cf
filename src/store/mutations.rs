//! What this node's clients changed, in the order of its versions.
//!
//! Picture a ticket machine that keeps the stubs. Whoever changes an item takes a version here, and
//! within the same short lock a stub is kept: version, kind, key, never the value. So the log is in
//! the order of its versions, and a position in it *is* a version. Readers remember the last
//! version they have read and come back for what is after it; the values they take from the store,
//! as they are by then.
//!
//! For a reader that keeps up there are trays beside the machine ([`tray`]): whoever stores a value lays
//! a copy there, while he has it at hand, ready to be passed on. The reader takes full trays and leaves
//! empty ones, so it need not look for values that another core has just written.
//!
//! The stubs lie in chunks, all together of a fixed size. The oldest chunk is forgotten when that
//! is exceeded, and a reader that was still before its end has been [overrun](Read::Overrun).
//!
//! A version is taken under the lock of the item's shard, before the item is changed: whoever reads
//! an entry and then asks the store for its item waits for that change.
//!
//! What is NOT here: values but for those on the tray, floors, and what peers have of the log.

mod entry;
mod tray;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::clock::Now;
use crate::version::{Version, VersionClock};
pub(super) use entry::Carried;
use entry::{ENTRY, decode, encode};
pub use entry::{Entries, Entry, Mutation};
use tray::Trays;
pub use tray::{Framing, Place, Tray};

/// The log is cut into about this many chunks.
const CHUNKS: usize = 256;

/// A longer chunk would make finding a position in it slow.
const CHUNK_MAX: usize = 16 << 10;

thread_local! {
    /// So that whoever answers clients knows how far peers must come before he may, whichever
    /// command it was, and never waits for what others have logged.
    static LOGGED_HERE: Cell<Version> = const { Cell::new(Version(0)) };

    /// Of a thread that wakes readers when it is told to: the one that it has not woken yet.
    static TO_WAKE: RefCell<Option<Option<Waker>>> = const { RefCell::new(None) };
}

/// How far a read came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The budget is used up; this is the last version read, from where to go on.
    More(Version),
    /// Everything was read. Nothing at or before this version will be logged any more.
    CaughtUp(Version),
    /// Entries after the given version have been forgotten.
    Overrun,
}

/// What of the log lies after a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Entries, as far as they are kept.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The version of the first of them.
    pub first: Option<Version>,
}

/// The node's version clock and its log of mutations. Every change of every worker writes here: what
/// it needs lies in three neighbouring cache lines, and only the entry itself elsewhere.
#[derive(Debug)]
#[repr(align(128))]
pub struct MutationLog {
    inner: Mutex<Inner>,
    /// Version of the last entry.
    last: AtomicU64,
    /// As the clock's last; may be behind for a moment.
    latest: AtomicU64,
    limit: usize,
    /// It takes no notice of what it observes.
    #[cfg(test)]
    is_deaf: bool,
}

#[derive(Debug)]
struct Inner {
    clock: VersionClock,
    /// The latest entries.
    head: Chunk,
    /// Up to which version the last reader has read, and where in the head it goes on.
    read: (Version, usize),
    waker: Option<Waker>,
    older: Box<Older>,
    trays: Trays,
}

#[derive(Debug, Default)]
struct Older {
    /// Oldest first.
    chunks: VecDeque<Chunk>,
    /// Bytes in them.
    bytes: usize,
    /// The last version in the last chunk that was forgotten.
    forgotten: Version,
}

#[derive(Debug, Default)]
struct Chunk {
    last: Version,
    entries: u64,
    bytes: Vec<u8>,
}

/// What a reader wants, and what it has.
struct Reading<'a> {
    after: Version,
    budget: usize,
    read: Version,
    into: &'a mut Vec<u8>,
}

impl MutationLog {
    /// An empty log of `limit` bytes for the node `node`.
    #[must_use]
    pub fn new(node: u8, limit: usize) -> MutationLog {
        MutationLog {
            inner: Mutex::new(Inner {
                clock: VersionClock::new(node),
                head: Chunk::default(),
                read: (Version(0), 0),
                waker: None,
                older: Box::default(),
                trays: Trays::closed(),
            }),
            last: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            limit,
            #[cfg(test)]
            is_deaf: false,
        }
    }

    /// A version for a change that is not logged.
    pub(super) fn stamp(&self, now: Now) -> Version {
        self.next(&mut self.inner.lock(), now)
    }

    /// A version for a change, and the entry that tells of it.
    pub(super) fn append(&self, mutation: Mutation, key: &[u8], now: Now) -> Version {
        self.append_with(mutation, key, None, now)
    }

    /// The same for a change whose value is at hand.
    pub(super) fn append_with(
        &self,
        mutation: Mutation,
        key: &[u8],
        carried: Option<Carried<'_>>,
        now: Now,
    ) -> Version {
        let mut inner = self.inner.lock();
        let version = self.next(&mut inner, now);
        let entry = Entry { version, mutation, key };
        let cleared = inner.trays.lay(&entry, carried);
        inner.push(&entry, self.limit);
        self.last.store(version.0, Ordering::Release);
        LOGGED_HERE.set(version);
        let waker = inner.waker.take();
        drop(inner);
        drop(cleared);
        if let Some(waker) = waker {
            wake_in_time(waker);
        }
        version
    }

    fn next(&self, inner: &mut Inner, now: Now) -> Version {
        let version = inner.clock.next(now);
        self.latest.store(version.0, Ordering::Relaxed);
        version
    }

    /// Every version given from here on is later than `seen`.
    pub fn observe(&self, seen: Version) {
        #[cfg(test)]
        if self.is_deaf {
            return;
        }
        if seen.0 <= self.latest.load(Ordering::Relaxed) {
            return;
        }
        let mut inner = self.inner.lock();
        inner.clock.observe(seen);
        self.latest.store(inner.clock.last().0, Ordering::Relaxed);
    }

    /// Entries after `after`, oldest first, appended to `into` until that has about `budget` bytes;
    /// at least one.
    pub fn read(&self, after: Version, budget: usize, now: Now, into: &mut Entries) -> Read {
        let mut inner = self.inner.lock();
        let older = &inner.older;
        if after < older.forgotten {
            return Read::Overrun;
        }
        let mut reading = Reading { after, budget, read: after, into: &mut into.bytes };
        if !older.are_read(after) {
            let first = older.chunks.partition_point(|chunk| chunk.last <= after);
            let mut rest = older.chunks.range(first..);
            if !rest.all(|chunk| reading.take(&chunk.bytes)) {
                return Read::More(reading.read);
            }
        }
        let start = if inner.read.0 == after { inner.read.1 } else { 0 };
        if !reading.take(&inner.head.bytes[start..]) {
            return Read::More(reading.read);
        }
        let upto = self.next(&mut inner, now);
        inner.read = (upto, inner.head.bytes.len());
        inner.trays.open(upto);
        Read::CaughtUp(upto)
    }

    /// What is put from here on is laid on trays as `framing` writes it, for whoever reads on from where he
    /// has read to the end.
    pub fn frame_with(&self, framing: Framing) {
        self.inner.lock().trays.frame(framing);
    }

    /// In place of what is in `into` what was logged after `after`, and maybe some of what was before; never
    /// overrun. `None`: the trays do not have it all.
    pub fn take(&self, after: Version, now: Now, into: &mut Tray) -> Option<Read> {
        let mut inner = self.inner.lock();
        if after < inner.trays.since() {
            return None;
        }
        if let Some(last) = inner.trays.take_full(after, into) {
            return Some(Read::More(last));
        }
        let upto = self.next(&mut inner, now);
        inner.trays.take_all(upto, into);
        Some(Read::CaughtUp(upto))
    }

    /// A version at or before which nothing will be logged any more, if everything after `after`
    /// has been read; else `None`.
    pub fn upto(&self, after: Version, now: Now) -> Option<Version> {
        let mut inner = self.inner.lock();
        let is_read = inner.head.last <= after && after >= inner.older.forgotten;
        is_read.then(|| self.next(&mut inner, now))
    }

    /// The version of the last entry that this thread has logged since it last asked.
    #[must_use]
    pub fn take_logged_here() -> Option<Version> {
        let version = LOGGED_HERE.take();
        (version > Version(0)).then_some(version)
    }

    /// The same, and it may be asked for again.
    #[must_use]
    pub fn logged_here() -> Version {
        LOGGED_HERE.get()
    }

    /// Nobody is to ask for what this thread has logged after `before`.
    pub fn forget_logged_here(before: Version) {
        LOGGED_HERE.set(before);
    }

    /// Whoever asks next is to be told of `version`, which this thread has logged, if of none later.
    pub fn remember_logged_here(version: Version) {
        LOGGED_HERE.set(version.max(LOGGED_HERE.get()));
    }

    /// From here on this thread wakes readers in [`MutationLog::wake_reader`] only: what it logs in one
    /// go is then read together.
    pub fn wake_when_told() {
        TO_WAKE.with_borrow_mut(|to_wake| *to_wake = Some(None));
    }

    /// Wakes the reader that waited for what this thread has logged, if it has not been woken yet.
    pub fn wake_reader() {
        let waker = TO_WAKE.with_borrow_mut(|to_wake| to_wake.as_mut()?.take());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Gives versions another node number from here on. Only for a node that has logged nothing.
    pub fn renumber(&self, node: u8) {
        self.inner.lock().clock.renumber(node);
    }

    /// The version of the last entry; 0 before the first.
    #[must_use]
    pub fn last(&self) -> Version {
        Version(self.last.load(Ordering::Acquire))
    }

    /// The latest version given or observed.
    #[must_use]
    pub fn latest(&self) -> Version {
        self.inner.lock().clock.last()
    }

    /// A reader that has read up to an earlier version than this one has been overrun.
    #[must_use]
    pub fn forgotten(&self) -> Version {
        self.inner.lock().older.forgotten
    }

    /// The version of the oldest entry kept.
    #[must_use]
    pub fn oldest(&self) -> Option<Version> {
        let inner = self.inner.lock();
        let (entry, _) = decode(&inner.older.chunks.front().unwrap_or(&inner.head).bytes)?;
        Some(entry.version)
    }

    /// What is kept after `after`.
    #[must_use]
    pub fn after(&self, after: Version) -> Behind {
        let inner = self.inner.lock();
        let older = &inner.older.chunks;
        let first = older.partition_point(|chunk| chunk.last <= after);
        let mut chunks = older.range(first..).chain([&inner.head]).peekable();
        // Of the first chunk some may be at or before.
        let mut rest = chunks.peek().map_or(&[][..], |chunk| &chunk.bytes);
        let (mut entries, mut bytes) = (0, 0);
        for chunk in chunks {
            entries += chunk.entries;
            bytes += chunk.bytes.len() as u64;
        }
        while let Some((_, later)) = decode(rest).filter(|(entry, _)| entry.version <= after) {
            entries -= 1;
            bytes -= (rest.len() - later.len()) as u64;
            rest = later;
        }
        Behind { entries, bytes, first: decode(rest).map(|(entry, _)| entry.version) }
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes()
    }

    /// Wakes `waker` once, when the next entry is logged. `false`, and it will not be woken, when
    /// there is an entry after `after` already. It may be woken while a shard is locked: waking must
    /// be short and must not come back into the store.
    #[must_use]
    pub fn wake_after(&self, after: Version, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        let waits = inner.head.last <= after;
        if waits {
            inner.waker = Some(waker.clone());
        }
        waits
    }
}

/// Wakes a reader, or remembers to.
fn wake_in_time(waker: Waker) {
    let at_once = TO_WAKE.with_borrow_mut(|to_wake| match to_wake {
        Some(later) => later.replace(waker),
        None => Some(waker),
    });
    if let Some(waker) = at_once {
        waker.wake();
    }
}

impl Inner {
    fn bytes(&self) -> usize {
        self.older.bytes + self.head.bytes.len()
    }

    fn push(&mut self, entry: &Entry<'_>, limit: usize) {
        let chunk_len = (limit / CHUNKS).min(CHUNK_MAX);
        let len = ENTRY + entry.key.len();
        let mut room = Vec::new();
        while self.bytes() + len > limit {
            let Some(chunk) = self.forget() else { break };
            room = chunk;
        }
        if self.head.bytes.is_empty() || self.head.bytes.len() + len > chunk_len {
            room.clear();
            room.reserve_exact(chunk_len.max(len));
            self.begin_chunk(room);
        }
        self.head.last = entry.version;
        self.head.entries += 1;
        encode(entry, &mut self.head.bytes);
    }

    /// Forgets the oldest chunk, and returns its room.
    fn forget(&mut self) -> Option<Vec<u8>> {
        let oldest = self.older.pop().or_else(|| self.end_head())?;
        self.older.forgotten = oldest.last;
        Some(oldest.bytes)
    }

    fn begin_chunk(&mut self, room: Vec<u8>) {
        if let Some(full) = self.end_head() {
            self.older.bytes += full.bytes.len();
            self.older.chunks.push_back(full);
        }
        self.head.bytes = room;
    }

    /// The head as a chunk of its own, if it holds anything.
    fn end_head(&mut self) -> Option<Chunk> {
        self.read = (Version(0), 0);
        let head = &mut self.head;
        let (entries, bytes) = (mem::take(&mut head.entries), mem::take(&mut head.bytes));
        (!bytes.is_empty()).then_some(Chunk { last: head.last, entries, bytes })
    }
}

impl Older {
    fn pop(&mut self) -> Option<Chunk> {
        let oldest = self.chunks.pop_front()?;
        self.bytes -= oldest.bytes.len();
        Some(oldest)
    }

    /// Whether nothing here is after `after`.
    fn are_read(&self, after: Version) -> bool {
        self.chunks.back().is_none_or(|chunk| chunk.last <= after)
    }
}

impl Reading<'_> {
    /// Takes from a chunk what is wanted of it; at least one entry in all. `false`: that was enough.
    fn take(&mut self, chunk: &[u8]) -> bool {
        let mut rest = chunk;
        while let Some((entry, later)) = decode(rest) {
            if entry.version > self.after {
                if self.read > self.after && self.into.len() >= self.budget {
                    return false;
                }
                self.into.extend_from_slice(&rest[..rest.len() - later.len()]);
                self.read = entry.version;
            }
            rest = later;
        }
        true
    }
}

#[cfg(test)]
impl MutationLog {
    /// As a change of the store does.
    pub(crate) fn append_for_test(&self, mutation: Mutation, key: &[u8], now: Now) -> Version {
        self.append(mutation, key, now)
    }

    /// A log that takes no notice of what it observes, if `is_deaf`.
    pub(super) fn deaf(self, is_deaf: bool) -> MutationLog {
        MutationLog { is_deaf, ..self }
    }
}

#[cfg(test)]
mod tests;
