//! All memory of the store, cut into segments of one size.
//!
//! A shard takes a segment for its log (items), its blocks (large values) or its index (buckets)
//! and gives it back when nothing is left in it, so memory is never stuck in a purpose or a size.
//! The memory is asked from the machine once, when the limit is set: a write never meets a failing
//! allocator, and pages that were never used cost nothing. What was used is used again first.
//!
//! The limit counts what is held, side tables included: each purpose has its [`Purpose::cost`]. A
//! small reserve, one segment a shard, is given to those only who move items together and give
//! back another segment before they let go of their shard.
//!
//! What is NOT here: what lies in a segment, and finding segments to give back ([`super::room`]).

use std::collections::TryReserveError;

use parking_lot::Mutex;

/// Bytes of a segment.
pub(super) const SEGMENT: usize = 128 << 10;

/// A segment's memory, not cleared.
pub(super) type Segment = &'static mut [u8; SEGMENT];

/// Segments begin where pages do.
const ALIGN: usize = 4096;

/// Bytes asked from the machine at a time.
const EXTENT: usize = 64 << 20;

/// Bytes per segment for the tables that say what lies in it.
const SIDE: usize = 64;

/// Memory of stores that are gone, for the next one: leaked memory cannot be freed.
static SPARE: Mutex<Memory> = Mutex::new(Memory::NONE);

/// Memory that nobody holds.
#[derive(Debug)]
struct Memory {
    /// Segments that were held before.
    used: Vec<Segment>,
    /// Memory never touched, whole segments each.
    fresh: Vec<&'static mut [u8]>,
}

impl Memory {
    const NONE: Memory = Memory { used: Vec::new(), fresh: Vec::new() };

    fn pop(&mut self) -> Option<Segment> {
        if let Some(segment) = self.used.pop() {
            return Some(segment);
        }
        let (segment, rest) = self.fresh.pop()?.split_first_chunk_mut()?;
        if !rest.is_empty() {
            self.fresh.push(rest);
        }
        Some(segment)
    }

    fn segments(&self) -> usize {
        let fresh: usize = self.fresh.iter().map(|extent| extent.len() / SEGMENT).sum();
        self.used.len() + fresh
    }
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
    /// Most segments held at once: what the machine has really given.
    touched: usize,
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
        };
        let pool = Pool { state: Mutex::new(state) };
        if pool.state.lock().provide(limit).is_err() {
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
        Some(segment)
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
    pub(super) fn set_limit(&self, limit: usize) -> Result<(), TryReserveError> {
        let mut state = self.state.lock();
        state.provide(limit)?;
        state.limit = limit;
        Ok(())
    }
}

impl State {
    fn takeable(&self, purpose: Purpose, claim: Claim) -> usize {
        let kept = if claim == Claim::Common { self.reserve } else { 0 };
        let room = self.limit.saturating_sub(kept).saturating_sub(self.held);
        (room / purpose.cost()).min(self.segments - self.taken)
    }

    /// Asks the machine for what `limit` allows beyond what there is.
    fn provide(&mut self, limit: usize) -> Result<(), TryReserveError> {
        let wanted = limit / Purpose::Log.cost();
        let mut spare = SPARE.lock();
        let used = spare.used.len().saturating_sub(wanted.saturating_sub(self.segments));
        let mut again = Memory { used: spare.used.split_off(used), fresh: Vec::new() };
        while self.segments + again.segments() < wanted
            && let Some(extent) = spare.fresh.pop()
        {
            again.fresh.push(extent);
        }
        drop(spare);
        self.segments += again.segments();
        self.free.used.append(&mut again.used);
        self.free.fresh.append(&mut again.fresh);
        while self.segments < wanted {
            let segments = (wanted - self.segments).min(EXTENT / SEGMENT);
            self.free.fresh.insert(0, extent(segments * SEGMENT)?);
            self.segments += segments;
        }
        Ok(())
    }
}

/// `bytes` bytes, whole segments, that the machine has promised but not yet given.
fn extent(bytes: usize) -> Result<&'static mut [u8], TryReserveError> {
    // Zeroed memory can be had lazily, or fallibly, but not both: ask first, then take.
    Vec::<u8>::new().try_reserve_exact(bytes + ALIGN)?;
    let extent = vec![0u8; bytes + ALIGN].leak();
    let skip = extent.as_ptr().align_offset(ALIGN).min(ALIGN);
    Ok(&mut extent[skip..skip + bytes])
}

impl Drop for Pool {
    fn drop(&mut self) {
        let free = &mut self.state.get_mut().free;
        let mut spare = SPARE.lock();
        spare.used.append(&mut free.used);
        spare.fresh.append(&mut free.fresh);
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
        assert!(address.addr().is_multiple_of(ALIGN));
        pool.give_back(again, Purpose::Index);
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
