//! What this node's clients changed, in the order of its versions.
//!
//! Picture a ticket machine that keeps the stubs. Whoever changes an item takes a version here, and
//! within the same short lock a stub is kept: version, kind, key, never the value. So the log is in
//! the order of its versions, and a position in it *is* a version. Readers remember the last
//! version they have read and come back for what is after it; the values they take from the store,
//! as they are by then.
//!
//! The stubs lie in chunks, all together of a fixed size. The oldest chunk is forgotten when that
//! is exceeded, and a reader that was still before its end has been [overrun](Read::Overrun).
//!
//! A version is taken under the lock of the item's shard, before the item is changed: whoever reads
//! an entry and then asks the store for its item waits for that change.
//!
//! What is NOT here: values, floors, and what peers have of the log.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::clock::Now;
use crate::version::{Version, VersionClock};

/// The log is cut into about this many chunks.
const CHUNKS: usize = 256;

/// A longer chunk would make finding a position in it slow.
const CHUNK_MAX: usize = 16 << 10;

/// Bytes of an entry besides its key: version, base, kind, key length.
const ENTRY: usize = 18;

thread_local! {
    /// So that whoever answers clients knows how far peers must come before he may, whichever
    /// command it was, and never waits for what others have logged.
    static LOGGED_HERE: Cell<Version> = const { Cell::new(Version(0)) };
}

/// What a client changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The item has a new version: stored, or marked stale.
    Put,
    /// The item was deleted.
    Deleted,
    /// The item has a new expiry; its version is still `base`.
    Touched {
        /// The version that was touched.
        base: Version,
    },
    /// Everything was flushed, or will be: [`super::Store::flushes`] tells.
    Flush,
}

/// A mutation as it was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its version, and its position.
    pub version: Version,
    /// What happened.
    pub mutation: Mutation,
    /// To which key; empty for a flush.
    pub key: &'a [u8],
}

/// Entries read from the log. Reading appends.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
}

impl Entries {
    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (entry, after) = decode(rest)?;
            rest = after;
            Some(entry)
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets them, to read others.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
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

/// The node's version clock and its log of mutations. Every change of every worker writes here: what
/// it needs lies in two neighbouring cache lines, and only the entry itself elsewhere.
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
        let mut inner = self.inner.lock();
        let version = self.next(&mut inner, now);
        inner.push(&Entry { version, mutation, key }, self.limit);
        self.last.store(version.0, Ordering::Release);
        LOGGED_HERE.set(version);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
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
        Read::CaughtUp(upto)
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

    /// How many entries are kept after `after`, and their bytes.
    #[must_use]
    pub fn after(&self, after: Version) -> (u64, u64) {
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
        (entries, bytes)
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes()
    }

    /// Wakes `waker` once, when the next entry is logged. `false`, and it will not be woken, when
    /// there is an entry after `after` already. It is woken while a shard is locked: waking must
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

fn encode(entry: &Entry<'_>, into: &mut Vec<u8>) {
    let (kind, base) = match entry.mutation {
        Mutation::Put => (0, Version(0)),
        Mutation::Deleted => (1, Version(0)),
        Mutation::Touched { base } => (2, base),
        Mutation::Flush => (3, Version(0)),
    };
    into.extend_from_slice(&entry.version.0.to_le_bytes());
    into.extend_from_slice(&base.0.to_le_bytes());
    into.push(kind);
    into.push(u8::try_from(entry.key.len()).unwrap_or(u8::MAX));
    into.extend_from_slice(entry.key);
}

/// The first entry in `bytes`, and what follows it.
fn decode(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (base, rest) = rest.split_first_chunk()?;
    let (&[kind, key_len], rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(key_len))?;
    let mutation = match kind {
        0 => Mutation::Put,
        1 => Mutation::Deleted,
        2 => Mutation::Touched { base: Version(u64::from_le_bytes(*base)) },
        _ => Mutation::Flush,
    };
    Some((Entry { version: Version(u64::from_le_bytes(*version)), mutation, key }, rest))
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
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    const NOON: Now = Now::from_unix_seconds(1_800_000_000);

    #[test]
    fn what_a_change_writes_lies_in_two_neighbouring_cache_lines() {
        // `is_deaf` is for tests only.
        assert!(size_of::<Mutex<Inner>>() + 3 * size_of::<u64>() <= 128);
        assert_eq!(align_of::<MutationLog>(), 128);
    }

    fn keys(entries: &Entries) -> Vec<String> {
        entries.iter().map(|entry| String::from_utf8_lossy(entry.key).into_owned()).collect()
    }

    #[test]
    fn entries_come_back_in_order_from_any_position() {
        let log = MutationLog::new(3, 1 << 20);
        let versions: Vec<Version> = (0..1_000u32)
            .map(|n| log.append(Mutation::Put, format!("key-{n}").as_bytes(), NOON))
            .collect();
        for start in [0, 1, 500, 998, 999] {
            let mut entries = Entries::default();
            let read = log.read(versions[start], usize::MAX, NOON, &mut entries);
            let expected: Vec<_> = (start + 1..1_000).map(|n| format!("key-{n}")).collect();
            assert_eq!(keys(&entries), expected);
            assert!(matches!(read, Read::CaughtUp(upto) if upto > versions[999]));
        }
    }

    #[test]
    fn every_kind_reads_back_as_it_was_logged() {
        let log = MutationLog::new(1, 1 << 20);
        let base = Version(77);
        let kinds = [Mutation::Put, Mutation::Deleted, Mutation::Touched { base }, Mutation::Flush];
        for mutation in kinds {
            log.append(mutation, &[b'k'; 250], NOON);
        }
        let mut entries = Entries::default();
        log.read(Version(0), usize::MAX, NOON, &mut entries);
        assert!(entries.iter().map(|entry| entry.mutation).eq(kinds));
        assert!(entries.iter().all(|entry| entry.key == [b'k'; 250]));
    }

    #[test]
    fn reading_within_a_budget_and_going_on_misses_nothing() {
        let log = MutationLog::new(1, 1 << 20);
        let expected: Vec<_> = (0..500u32).map(|n| n.to_string()).collect();
        for key in &expected {
            log.append(Mutation::Put, key.as_bytes(), NOON);
        }
        let (mut met, mut after, mut reads) = (Vec::new(), Version(0), 0);
        loop {
            let mut entries = Entries::default();
            let read = log.read(after, 200, NOON, &mut entries);
            met.extend(keys(&entries));
            reads += 1;
            match read {
                Read::More(last) => after = last,
                Read::CaughtUp(_) => break,
                Read::Overrun => panic!("nothing was forgotten"),
            }
        }
        assert_eq!(met, expected);
        assert!(reads > 40, "{reads}");
    }

    #[test]
    fn a_reader_behind_what_was_forgotten_is_told_and_one_at_its_edge_goes_on() {
        for limit in [300, 5_000, 100_000] {
            let log = MutationLog::new(1, limit);
            let versions: Vec<Version> = (0..20_000u32)
                .map(|n| log.append(Mutation::Put, n.to_string().as_bytes(), NOON))
                .collect();
            assert!(log.bytes() <= limit);
            assert!(log.bytes() > limit / 2, "most of the room is used: {}", log.bytes());
            let forgotten = log.forgotten();
            let edge = versions.binary_search(&forgotten).unwrap();
            let mut entries = Entries::default();
            let early = Version(forgotten.0 - 1);
            assert_eq!(log.read(early, usize::MAX, NOON, &mut entries), Read::Overrun);
            assert_eq!(log.upto(early, NOON), None);
            log.read(forgotten, usize::MAX, NOON, &mut entries);
            assert_eq!(entries.iter().count(), versions.len() - edge - 1);
            assert_eq!(log.oldest(), Some(versions[edge + 1]));
        }
    }

    #[test]
    fn what_is_after_a_position_is_counted_to_the_entry_and_the_byte() {
        for limit in [1_000, 1 << 20] {
            let log = MutationLog::new(1, limit);
            assert_eq!(log.after(Version(0)), (0, 0));
            let versions: Vec<Version> = (0..300u32)
                .map(|n| log.append(Mutation::Put, format!("key-{n}").as_bytes(), NOON))
                .collect();
            for after in versions.iter().filter(|after| **after >= log.forgotten()) {
                let mut entries = Entries::default();
                log.read(*after, usize::MAX, NOON, &mut entries);
                let expected = (entries.iter().count() as u64, entries.bytes.len() as u64);
                assert_eq!(log.after(*after), expected);
            }
            assert_eq!(log.after(Version(0)).1, log.bytes() as u64);
        }
    }

    #[test]
    fn nothing_is_logged_at_or_before_what_a_reader_was_told() {
        let log = MutationLog::new(1, 1 << 20);
        let Read::CaughtUp(upto) = log.read(Version(0), 1, NOON, &mut Entries::default()) else {
            panic!("the log is empty");
        };
        let first = log.append(Mutation::Put, b"a", NOON);
        assert!(first > upto);
        assert_eq!(log.upto(upto, NOON), None, "there is an entry to be read");
        let later = log.upto(first, NOON).unwrap();
        assert!(log.append(Mutation::Put, b"b", NOON) > later);
    }

    #[test]
    fn a_version_observed_is_earlier_than_the_next() {
        let log = MutationLog::new(1, 1 << 20);
        let ahead = Version::floor_at(Now::from_unix_seconds(1_900_000_000));
        log.observe(ahead);
        log.observe(Version(5));
        assert!(log.append(Mutation::Put, b"a", NOON) > ahead);
        assert_eq!(log.last(), log.latest());
    }

    #[test]
    fn a_thread_learns_only_of_what_it_has_logged_itself_and_only_once() {
        let log = Arc::new(MutationLog::new(1, 1 << 20));
        assert_eq!(MutationLog::take_logged_here(), None);
        log.append(Mutation::Put, b"a", NOON);
        let second = log.append(Mutation::Put, b"b", NOON);
        let others = Arc::clone(&log);
        let theirs = std::thread::spawn(move || {
            let third = others.append(Mutation::Put, b"c", NOON);
            (third, MutationLog::take_logged_here())
        });
        let (third, seen) = theirs.join().unwrap();
        assert_eq!(seen, Some(third));
        assert_eq!(MutationLog::take_logged_here(), Some(second));
        assert_eq!(MutationLog::take_logged_here(), None);
    }

    #[test]
    fn a_log_with_another_number_gives_later_versions_with_that_number() {
        let log = MutationLog::new(1, 1 << 20);
        let Some(before) = log.upto(Version(0), NOON) else { panic!("nothing is unread") };
        log.renumber(9);
        let after = log.append(Mutation::Put, b"a", NOON);
        assert!(after > before);
        assert_eq!((before.node(), after.node()), (1, 9));
    }

    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_reader_that_has_caught_up_is_woken_once_by_the_next_entry() {
        let log = MutationLog::new(1, 1 << 20);
        let bell = Arc::new(Bell(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&bell));
        assert!(log.wake_after(Version(0), &waker));
        log.stamp(NOON);
        assert_eq!(bell.0.load(Ordering::Relaxed), 0, "a stamp alone is no entry");
        let first = log.append(Mutation::Put, b"a", NOON);
        let second = log.append(Mutation::Put, b"b", NOON);
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        assert!(!log.wake_after(first, &waker), "there is something to read");
        assert!(log.wake_after(second, &waker));
    }
}
