//! All memory of the store, cut into segments of one size.
//!
//! A shard takes a segment for its log (items), its blocks (large values) or its index (buckets)
//! and gives it back when nothing is left in it, so memory is never stuck in a purpose or a size.
//! The memory is asked from the machine once, when the limit is set: a write never meets a failing
//! allocator, and pages that were never used cost nothing. What was used is used again first.
//!
//! Look-ups in a large store wait for the translation of a small page as often as for the item, so the
//! memory is cut into *reams* of the size of a large page. But a thread that touches one first waits:
//! until it is zeroed, and while the machine moves others together, for some milliseconds. So a thread
//! that has nothing else to do ([`Pool::touch_ahead`]) asks for a large page and touches it before it is
//! needed. Whoever needs a segment before that touches small pages, which are always at hand: also while the
//! thread has a ream in its hands, for as long as it may wait there for a core, because there is one ream
//! more than the limit allows to be held.
//!
//! The limit counts what is held, side tables included: each purpose has its [`Purpose::cost`]. A
//! small reserve, one segment a shard, is given to those only who move items together and give
//! back another segment before they let go of their shard.
//!
//! What is NOT here: what lies in a segment, and finding segments to give back ([`super::room`]).

use std::io;
use std::thread::{self, Thread};

use memmap2::{Advice, MmapMut};
use parking_lot::Mutex;

/// Bytes of a segment.
pub(super) const SEGMENT: usize = 128 << 10;

/// A segment's memory, not cleared.
pub(super) type Segment = &'static mut [u8; SEGMENT];

/// Segments asked from the machine at a time: a large page. Linux lays such a mapping where large
/// pages begin, and keeps one book for all that lie side by side.
const REAM_SEGMENTS: usize = (2 << 20) / SEGMENT;

/// Bytes of the smallest page.
const PAGE: usize = 4096;

/// Fewest segments kept ready: one for so many that are held, within bounds. When there are fewer, a
/// ream is touched.
const HELD_A_READY: usize = 64;
const READY_MIN: usize = 4;
const READY_MAX: usize = 2 * REAM_SEGMENTS;

/// Reams that are not touched ahead.
const FRESH_MIN: usize = 2;

/// Bytes per segment for the tables that say what lies in it.
const SIDE: usize = 64;

/// Memory of stores that are gone, for the next one: leaked memory cannot be freed.
static SPARE: Mutex<Memory> = Mutex::new(Memory::NONE);

/// Memory that nobody holds.
#[derive(Debug)]
struct Memory {
    /// Segments that were held before.
    used: Vec<Segment>,
    /// Segments touched ahead.
    ready: Vec<Segment>,
    /// The rest of a ream that was needed before it was touched.
    begun: Vec<Segment>,
    /// Reams never touched.
    fresh: Vec<MmapMut>,
}

impl Memory {
    const NONE: Memory =
        Memory { used: Vec::new(), ready: Vec::new(), begun: Vec::new(), fresh: Vec::new() };

    fn pop(&mut self) -> Option<Segment> {
        let touched = self.used.pop().or_else(|| self.ready.pop());
        if touched.is_some() {
            return touched;
        }
        if self.begun.is_empty() {
            self.begun.extend(segments(self.fresh.pop()?));
        }
        self.begun.pop()
    }

    /// Adds segments: of stores that are gone, and then of the machine's.
    fn grow(&mut self, mut lacking: usize) -> io::Result<()> {
        let mut spare = SPARE.lock();
        while lacking > 0
            && let Some(segment) = spare.used.pop()
        {
            self.used.push(segment);
            lacking -= 1;
        }
        while lacking > 0
            && let Some(ream) = spare.fresh.pop()
        {
            lacking = lacking.saturating_sub(ream.len() / SEGMENT);
            self.fresh.push(ream);
        }
        drop(spare);
        for _ in 0..lacking.div_ceil(REAM_SEGMENTS) {
            self.fresh.push(MmapMut::map_anon(REAM_SEGMENTS * SEGMENT)?);
        }
        Ok(())
    }

    /// Takes all of `other`, as held before if it was touched.
    fn append(&mut self, other: &mut Memory) {
        for touched in [&mut other.used, &mut other.ready, &mut other.begun] {
            self.used.append(touched);
        }
        self.fresh.append(&mut other.fresh);
    }

    fn segments(&self) -> usize {
        let fresh: usize = self.fresh.iter().map(|ream| ream.len() / SEGMENT).sum();
        self.used.len() + self.ready.len() + self.begun.len() + fresh
    }
}

/// The segments of a ream, the first one last.
fn segments(ream: MmapMut) -> impl Iterator<Item = Segment> {
    let (segments, _) = Box::leak(Box::new(ream)).as_chunks_mut::<SEGMENT>();
    segments.iter_mut().rev()
}

/// What a segment is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Items.
    Log,
    /// Buckets.
    Index,
    /// Large values.
    Blocks,
}

impl Purpose {
    /// Bytes counted against the limit for one segment: itself and its side tables. For blocks
    /// these are the lists that say which blocks make up a value (4 bytes a block) and an entry
    /// with its allocation for each value; the shortest large values have 9 blocks.
    pub(super) fn cost(self) -> usize {
        match self {
            Purpose::Log | Purpose::Index => SEGMENT + SIDE,
            Purpose::Blocks => SEGMENT + SIDE + 1536,
        }
    }
}

/// How a segment may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Leaves the reserve alone.
    Common,
    /// May use the reserve; the caller gives back a segment before it unlocks its shard.
    Moving,
}

/// Memory of the size of a large page that nobody has touched.
#[derive(Debug)]
pub struct Ream(MmapMut);

impl Ream {
    /// Touches it, which may take milliseconds.
    #[must_use]
    pub fn touched(mut self) -> Ream {
        self.0.chunks_mut(PAGE).for_each(|page| page[0] = 0);
        self
    }
}

/// The store's memory.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Memory,
    /// Bytes held, by [`Purpose::cost`].
    held: usize,
    /// `held` never exceeds this, except while a lower limit is being reached.
    limit: usize,
    /// Bytes of the limit kept for [`Claim::Moving`].
    reserve: usize,
    /// Segments in all, free ones included.
    segments: usize,
    /// Segments held.
    taken: usize,
    /// Most segments held at once: what the machine has really given, but for what lies ready.
    touched: usize,
    /// Who touches memory ahead, while he has nothing to do.
    toucher: Option<Thread>,
}

/// Bytes of the store's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Held, side tables included.
    pub(super) held: usize,
    /// The limit.
    pub(super) limit: usize,
    /// Most that was held at once, as the machine sees it.
    pub(super) touched: usize,
}

impl Pool {
    /// Memory for `limit` bytes shared by `shards` shards. When the machine refuses some of it,
    /// the store has less.
    pub(super) fn new(limit: usize, shards: usize) -> Pool {
        let reserve = shards * Purpose::Log.cost();
        let state = State {
            free: Memory::NONE,
            held: 0,
            limit,
            reserve,
            segments: 0,
            taken: 0,
            touched: 0,
            toucher: None,
        };
        let pool = Pool { state: Mutex::new(state) };
        if pool.provide(limit).is_err() {
            tracing::warn!(limit, "the machine refuses part of the memory that -m allows");
        }
        pool
    }

    /// A segment for `purpose`, or `None` when the limit is reached.
    pub(super) fn take(&self, purpose: Purpose, claim: Claim) -> Option<Segment> {
        let mut state = self.state.lock();
        if state.takeable(purpose, claim) == 0 {
            return None;
        }
        let segment = state.free.pop()?;
        state.held += purpose.cost();
        state.taken += 1;
        state.touched = state.touched.max(state.taken);
        let toucher = if state.is_short() { state.toucher.take() } else { None };
        drop(state);
        if let Some(toucher) = toucher {
            toucher.unpark();
        }
        Some(segment)
    }

    /// Has `touch` touch some memory that will be needed soon. When there is nothing to touch it returns
    /// `false`, and the thread is unparked as soon as there is.
    pub(super) fn touch_ahead(&self, touch: impl FnOnce(Ream) -> Option<Ream>) -> bool {
        let Some(ream) = self.state.lock().next_to_touch() else { return false };
        // A machine that has no large pages, or lends them to nobody, does without.
        if let Err(error) = ream.advise(Advice::HugePage) {
            tracing::debug!(%error, "no large pages");
        }
        if let Some(Ream(ream)) = touch(Ream(ream)) {
            self.state.lock().free.ready.extend(segments(ream));
        }
        true
    }

    /// How many segments could be taken.
    pub(super) fn takeable(&self, purpose: Purpose, claim: Claim) -> usize {
        self.state.lock().takeable(purpose, claim)
    }

    /// Takes back a segment that was taken for `purpose`.
    pub(super) fn give_back(&self, segment: Segment, purpose: Purpose) {
        let mut state = self.state.lock();
        state.held -= purpose.cost();
        state.taken -= 1;
        state.free.used.push(segment);
    }

    /// What is held and what may be.
    pub(super) fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage { held: state.held, limit: state.limit, touched: state.touched * SEGMENT }
    }

    /// Changes the limit. What is held above it must be given back by the caller's doing; until
    /// then nothing can be taken.
    ///
    /// # Errors
    /// The machine refuses the memory; the limit is as it was.
    pub(super) fn set_limit(&self, limit: usize) -> io::Result<()> {
        self.provide(limit)?;
        self.state.lock().limit = limit;
        Ok(())
    }

    /// Asks for what `limit` allows beyond what there is, and for a ream that may be in the hands of who touches
    /// it. Nobody waits for that: it takes a millisecond for a gigabyte.
    fn provide(&self, limit: usize) -> io::Result<()> {
        let wanted = (limit / Purpose::Log.cost()).next_multiple_of(REAM_SEGMENTS) + REAM_SEGMENTS;
        let lacking = wanted.saturating_sub(self.state.lock().segments);
        let mut more = Memory::NONE;
        let provided = more.grow(lacking);
        let mut state = self.state.lock();
        state.segments += more.segments();
        state.free.append(&mut more);
        provided
    }
}

impl State {
    fn takeable(&self, purpose: Purpose, claim: Claim) -> usize {
        let kept = if claim == Claim::Common { self.reserve } else { 0 };
        let room = self.limit.saturating_sub(kept).saturating_sub(self.held);
        (room / purpose.cost()).min(self.segments - self.taken)
    }

    /// Whether memory is to be touched ahead. The last reams are left: one is more than may be held, and of the
    /// other perhaps only a part may.
    fn is_short(&self) -> bool {
        let wanted = (self.taken / HELD_A_READY).clamp(READY_MIN, READY_MAX);
        self.free.used.len() + self.free.ready.len() < wanted && self.free.fresh.len() > FRESH_MIN
    }

    fn next_to_touch(&mut self) -> Option<MmapMut> {
        if self.is_short() {
            return self.free.fresh.pop();
        }
        self.toucher = Some(thread::current());
        None
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        SPARE.lock().append(&mut self.state.get_mut().free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_bytes_never_exceed_the_limit_and_the_reserve_is_for_movers() {
        let pool = Pool::new(2 << 20, 1);
        let mut taken = Vec::new();
        while let Some(segment) = pool.take(Purpose::Log, Claim::Common) {
            taken.push(segment);
        }
        assert_eq!(taken.len(), 14, "of sixteen, side tables take one and the reserve one");
        assert_eq!(pool.takeable(Purpose::Index, Claim::Common), 0);
        taken.extend(pool.take(Purpose::Log, Claim::Moving));
        assert_eq!(taken.len(), 15);
        assert!(pool.take(Purpose::Log, Claim::Moving).is_none());
        let usage = pool.usage();
        assert!(usage.held <= usage.limit);
        for segment in taken {
            pool.give_back(segment, Purpose::Log);
        }
        assert_eq!(pool.usage().held, 0);
    }

    #[test]
    fn a_segment_given_back_is_the_next_one_taken() {
        let pool = Pool::new(2 << 20, 1);
        let segment = pool.take(Purpose::Blocks, Claim::Common).unwrap();
        let address = segment.as_ptr();
        pool.give_back(segment, Purpose::Blocks);
        let again = pool.take(Purpose::Index, Claim::Common).unwrap();
        assert_eq!(again.as_ptr(), address, "untouched memory is left untouched");
        assert!(address.addr().is_multiple_of(PAGE));
        pool.give_back(again, Purpose::Index);
    }

    /// A pool of which so many reams can be held, by whom does not move items, and that no other test has touched.
    fn fresh(reams: usize) -> Pool {
        untouched(reams * REAM_SEGMENTS + 1)
    }

    /// A pool of which so many segments can be held, and that no other test has touched.
    fn untouched(limit: usize) -> Pool {
        let mut pool = Pool::new(limit * Purpose::Log.cost(), 1);
        let state = pool.state.get_mut();
        SPARE.lock().append(&mut state.free);
        let ream = |_| MmapMut::map_anon(REAM_SEGMENTS * SEGMENT).unwrap();
        state.free.fresh = (0..state.segments / REAM_SEGMENTS).map(ream).collect();
        state.segments = state.free.segments();
        pool
    }

    fn touch_ahead(pool: &Pool) -> bool {
        pool.touch_ahead(|ream| Some(ream.touched()))
    }

    fn take(pool: &Pool, count: usize) -> Vec<Segment> {
        (0..count).map(|_| pool.take(Purpose::Log, Claim::Common).unwrap()).collect()
    }

    #[test]
    fn memory_touched_ahead_is_in_large_pages_if_there_are_any_and_taken_before_other() {
        let pool = fresh(3);
        assert!(touch_ahead(&pool), "an empty store has a ream ready");
        assert!(!touch_ahead(&pool), "and no more than that");
        let ahead = take(&pool, REAM_SEGMENTS);
        let first = ahead.iter().map(|segment| segment.as_ptr().addr()).min().unwrap();
        let ream = first..first + REAM_SEGMENTS * SEGMENT;
        assert!(ahead.iter().all(|segment| ream.contains(&segment.as_ptr().addr())));
        let untouched = take(&pool, 1);
        if std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            assert!(asks_for_large_pages(first));
            let first = untouched[0].as_ptr().addr();
            assert!(!asks_for_large_pages(first), "who cannot wait does not ask");
        }
        ahead.into_iter().chain(untouched).for_each(|it| pool.give_back(it, Purpose::Log));
    }

    /// Whether the memory at this address was asked for in large pages.
    fn asks_for_large_pages(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let is_there = |line: &str| {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let range =
                range.map(|(from, to)| [from, to].map(|end| usize::from_str_radix(end, 16)));
            matches!(range, Some([Ok(from), Ok(to)]) if (from..to).contains(&address))
        };
        let mut lines = maps.lines().skip_while(|&line| !is_there(line));
        let flags = lines.find(|line| line.starts_with("VmFlags:")).unwrap();
        flags.split_whitespace().any(|flag| flag == "hg")
    }

    #[test]
    fn who_touches_ahead_is_woken_when_little_is_ready_and_leaves_the_last_reams() {
        let pool = fresh(3);
        assert!(touch_ahead(&pool) && !touch_ahead(&pool));
        let mut taken = take(&pool, REAM_SEGMENTS - READY_MIN + 1);
        thread::park();
        assert!(touch_ahead(&pool), "or else the thread would have slept for ever");
        taken.extend(take(&pool, REAM_SEGMENTS));
        assert!(touch_ahead(&pool));
        taken.extend(take(&pool, REAM_SEGMENTS));
        assert!(!touch_ahead(&pool), "the last are for who needs them at once");
        taken.into_iter().for_each(|segment| pool.give_back(segment, Purpose::Log));
    }

    #[test]
    fn all_that_the_limit_allows_can_be_taken_while_some_is_being_touched() {
        const LIMIT: usize = 3 * REAM_SEGMENTS;
        let pool = untouched(LIMIT);
        let mut taken = Vec::new();
        let is_touched = pool.touch_ahead(|ream| {
            while let Some(segment) = pool.take(Purpose::Log, Claim::Moving) {
                taken.push(segment);
            }
            Some(ream)
        });
        assert!(is_touched);
        assert_eq!(taken.len(), LIMIT);
        taken.into_iter().for_each(|segment| pool.give_back(segment, Purpose::Log));
    }

    #[test]
    fn a_lower_limit_lets_nothing_be_taken_until_enough_is_given_back() {
        let pool = Pool::new(4 << 20, 1);
        let mut taken: Vec<_> =
            std::iter::from_fn(|| pool.take(Purpose::Log, Claim::Common)).collect();
        pool.set_limit(2 << 20).unwrap();
        while pool.usage().held > (2 << 20) - 2 * Purpose::Log.cost() {
            assert!(pool.take(Purpose::Log, Claim::Common).is_none());
            pool.give_back(taken.pop().unwrap(), Purpose::Log);
        }
        taken.push(pool.take(Purpose::Log, Claim::Common).unwrap());
        assert!(pool.usage().held <= pool.usage().limit);
        taken.into_iter().for_each(|segment| pool.give_back(segment, Purpose::Log));
    }
}
