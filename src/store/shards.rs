//! The shards together: which one a key lives in, locking, and helping each other to room.
//!
//! A shard is behind one lock, and no thread ever holds two. A shard that needs room helps itself
//! first; when it has little, or nothing to give, it is unlocked and another shard gives way: one
//! with something expired, else the one that holds most.
//!
//! What is NOT here: what happens inside a shard ([`super::shard`], [`super::room`]).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::blocks::{BLOCK, BLOCKS_A_SEGMENT};
use super::change::Need;
use super::peered::Peered;
use super::pool::{Pool, Purpose, Ream, SEGMENT, Usage};
use super::room::{Step, Terms};
use super::shard::{Shard, Shared};
use super::slot::{LOG_SEGMENTS_MAX, SLOT_MAX};
use super::{FlushAt, Key, LimitRefused, StoreConfig, Sweep};
use crate::clock::Now;

/// Most shards.
pub(super) const SHARDS_MAX: usize = 256;

/// Memory below which another shard is not worth its half-filled segments.
const SHARD_MEMORY_MIN: usize = 8 << 20;

/// Memory that a shard can hold with room to spare in its handles.
const SHARD_MEMORY_MAX: usize = LOG_SEGMENTS_MAX / 2 * SEGMENT;

/// Log segments that a shard cannot do without: head, survivors, the one being moved, and one in
/// reserve.
const LOG_SEGMENTS_MIN: usize = 4;

/// Most steps of one write towards room. Each step gains something, but others may take it away.
const STEPS_MAX: usize = 20_000;

/// The store. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    lanes: Box<[Lane]>,
    /// Shards are told apart by this many of a hash's highest bits.
    lane_bits: u32,
    /// Where the background sweep goes on.
    sweeping: AtomicUsize,
    /// One limit is set at a time.
    limit: Mutex<usize>,
}

/// A shard, and what others may know of it without its lock. Lanes do not share cache lines.
#[repr(align(128))]
struct Lane {
    shard: Mutex<Shard>,
    /// As [`Shard::held`] when it was last unlocked.
    held: AtomicUsize,
    /// As [`Shard::due_at`] when it was last unlocked.
    due_at: AtomicU32,
}

/// A locked shard.
pub(super) struct Locked<'a> {
    lane: &'a Lane,
    shard: MutexGuard<'a, Shard>,
    was_panicking: bool,
}

impl Deref for Locked<'_> {
    type Target = Shard;
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Locked<'_> {
    /// A step of the sweep, after which whoever waits for the shard has it first: who locks a shard again
    /// as soon as he has unlocked it is faster than those who wait have woken, for up to a millisecond.
    /// `false` if nothing was due.
    pub(super) fn sweep_step(&mut self, now: Now) -> bool {
        let was_due = self.sweep_background(now);
        if was_due {
            self.publish();
            MutexGuard::bump(&mut self.shard);
        }
        was_due
    }

    fn publish(&self) {
        let Lane { held, due_at, .. } = self.lane;
        // Nothing is written that is there: another core may have the line.
        if held.load(Ordering::Relaxed) != self.shard.held() {
            held.store(self.shard.held(), Ordering::Relaxed);
        }
        if due_at.load(Ordering::Relaxed) != self.shard.due_at {
            due_at.store(self.shard.due_at, Ordering::Relaxed);
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if cfg!(not(test)) && std::thread::panicking() && !self.was_panicking {
            // A shard half changed must not be read. Its twin takes over.
            std::process::abort();
        }
        self.publish();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("shards", &self.shards()).finish_non_exhaustive()
    }
}

fn shards_for(config: &StoreConfig) -> usize {
    let wanted = config.shards.max(1).next_power_of_two();
    let affordable = 1 << (config.memory_limit / SHARD_MEMORY_MIN).max(1).ilog2();
    let needed = config.memory_limit.div_ceil(SHARD_MEMORY_MAX).next_power_of_two();
    wanted.min(affordable).max(needed).min(SHARDS_MAX)
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(config: StoreConfig) -> Store {
        let shards = shards_for(&config);
        let limit = config.memory_limit;
        let pool = Pool::new(limit, shards);
        let shared = Arc::new(Shared::new(config, pool, shards));
        let lane = |_| Lane {
            shard: Mutex::new(Shard::new(Arc::clone(&shared))),
            held: AtomicUsize::new(0),
            due_at: AtomicU32::new(u32::MAX),
        };
        let inner = Inner {
            lanes: (0..shards).map(lane).collect(),
            lane_bits: shards.ilog2(),
            sweeping: AtomicUsize::new(0),
            limit: Mutex::new(limit),
            shared,
        };
        Store { inner: Arc::new(inner) }
    }

    /// A key with its hash.
    #[must_use]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key { bytes, hash: self.inner.shared.hash(bytes), seen: None }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.inner.lanes.len()
    }

    /// The shard that a key lives in.
    pub(super) fn lane_of(&self, key: Key<'_>) -> usize {
        self.lane_of_hash(key.hash)
    }

    /// The shard that keys with this hash live in.
    pub(super) fn lane_of_hash(&self, hash: u64) -> usize {
        // Two shifts, because a shift by all 64 bits is not one.
        let lane = hash >> 32 >> (32 - self.inner.lane_bits);
        usize::try_from(lane).unwrap_or(0)
    }

    /// Locks a shard.
    pub(super) fn lock(&self, lane: usize) -> Locked<'_> {
        let was_panicking = std::thread::panicking();
        let lane = &self.inner.lanes[lane];
        Locked { lane, shard: lane.shard.lock(), was_panicking }
    }

    /// Locks a shard to look at it only.
    pub(super) fn peek(&self, lane: usize) -> impl Deref<Target = Shard> {
        self.inner.lanes[lane].shard.lock()
    }

    /// Locks a shard to do something at `now`.
    pub(super) fn enter(&self, lane: usize, now: Now) -> Locked<'_> {
        let mut shard = self.lock(lane);
        shard.begin(now);
        shard
    }

    /// What the store was built from.
    pub(super) fn config(&self) -> &StoreConfig {
        &self.inner.shared.config
    }

    /// What is kept for peers, where there are any.
    pub(super) fn peered(&self) -> Option<&Peered> {
        self.inner.shared.peered.as_ref()
    }

    /// What is held and what may be.
    pub(super) fn usage(&self) -> Usage {
        self.inner.shared.pool.usage()
    }

    /// Attempts something in a shard, making room and attempting it anew while it says that it
    /// needs some. `None` when no room can be made.
    pub(super) fn with_room<T>(
        &self,
        lane: usize,
        now: Now,
        mut attempt: impl FnMut(&mut Shard) -> Result<T, Need>,
    ) -> Option<T> {
        let mut alone = false;
        for _ in 0..STEPS_MAX {
            let mut shard = self.enter(lane, now);
            let need = match attempt(&mut shard) {
                Ok(done) => return Some(done),
                Err(need) => need,
            };
            let step = shard.make_room(need, &self.terms(lane, alone, now), now);
            if step == Step::Nothing && need == Need::Growth {
                shard.put_off_growth();
                continue;
            }
            drop(shard);
            match step {
                Step::Onward => alone = false,
                Step::Elsewhere => alone = !self.relieve(lane, now),
                Step::Nothing => return None,
            }
        }
        None
    }

    fn terms(&self, lane: usize, alone: bool, now: Now) -> Terms {
        let segments = self.usage().limit / Purpose::Log.cost();
        Terms {
            evictions: self.config().evictions,
            fair: segments / self.shards(),
            due_elsewhere: self.others(lane).any(|other| self.is_due(other, now)),
            alone,
        }
    }

    fn others(&self, lane: usize) -> impl Iterator<Item = usize> {
        (0..self.shards()).filter(move |&other| other != lane)
    }

    fn is_due(&self, lane: usize, now: Now) -> bool {
        self.inner.lanes[lane].due_at.load(Ordering::Relaxed) <= now.seconds().0
    }

    /// Makes another shard than `lane` give back memory. `false` if none has any to give.
    fn relieve(&self, lane: usize, now: Now) -> bool {
        let evictions = self.config().evictions;
        if let Some(due) = self.others(lane).find(|&other| self.is_due(other, now)) {
            // Even if nothing was due after all: then that is known now.
            self.enter(due, now).sweep_due(now);
            return true;
        }
        let held = |lane: &usize| self.inner.lanes[*lane].held.load(Ordering::Relaxed);
        let mut others: Vec<usize> = self.others(lane).collect();
        others.sort_by_key(|lane| std::cmp::Reverse(held(lane)));
        others.into_iter().any(|other| self.enter(other, now).give_way(evictions, now))
    }

    /// Removes an item that a refused write must not leave behind (a `set` whose value is too
    /// large to be received). Not counted as a delete.
    pub fn discard(&self, key: Key<'_>, now: Now) {
        self.enter(self.lane_of(key), now).discard(key, now);
    }

    /// Makes every item stored before this call invisible.
    pub fn flush_all(&self, now: Now) {
        if let Some(peered) = self.peered() {
            return self.flush_peered(peered, now);
        }
        for lane in 0..self.shards() {
            self.lock(lane).flush_now(now);
        }
    }

    /// Makes every item stored before the second `at` invisible once that second is reached;
    /// replaces a pending flush.
    pub fn flush_all_at(&self, at: FlushAt, now: Now) {
        if let Some(peered) = self.peered() {
            return self.flush_peered_at(peered, at, now);
        }
        for lane in 0..self.shards() {
            // A pending flush that is due fires before it is replaced.
            self.enter(lane, now).flush_later(at);
        }
    }

    /// Gives back memory of expired and flushed items, in a bounded step.
    pub fn sweep(&self, now: Now) -> Sweep {
        let first = self.inner.sweeping.load(Ordering::Relaxed);
        for step in 0..self.shards() {
            let lane = (first + step) % self.shards();
            if self.enter(lane, now).sweep_step(now) {
                self.inner.sweeping.store(lane, Ordering::Relaxed);
                return Sweep::More;
            }
        }
        Sweep::Idle
    }

    /// Has `touch` touch some of the memory that will be needed soon; what it returns nothing of is lost.
    /// `false` when there is nothing to do: the calling thread is unparked when there is.
    #[must_use]
    pub fn touch_ahead(&self, touch: impl FnOnce(Ream) -> Option<Ream>) -> bool {
        self.inner.shared.pool.touch_ahead(touch)
    }

    /// The memory limit in bytes.
    #[must_use]
    pub fn memory_limit(&self) -> usize {
        *self.inner.limit.lock()
    }

    /// Changes the memory limit; a lower one evicts down to it.
    ///
    /// # Errors
    /// The limit cannot hold the store's own parts and one item of the largest size, or the
    /// machine has not as much, or nothing may be evicted (`-M`).
    pub fn set_memory_limit(&self, bytes: usize) -> Result<(), LimitRefused> {
        let mut limit = self.inner.limit.lock();
        if bytes < self.memory_limit_min() || bytes > self.shards() * SHARD_MEMORY_MAX {
            return Err(LimitRefused);
        }
        let pool = &self.inner.shared.pool;
        pool.set_limit(bytes).map_err(|_| LimitRefused)?;
        if !self.shrink() {
            // What there is was there before: growing back cannot fail.
            let _ = pool.set_limit(*limit);
            return Err(LimitRefused);
        }
        *limit = bytes;
        Ok(())
    }

    fn memory_limit_min(&self) -> usize {
        let item = self.config().item_size_max;
        self.memory_needed_besides(if item > SLOT_MAX { item } else { 0 })
    }

    /// Bytes of the smallest store that could hold one more large value of `len` bytes: what
    /// eviction cannot free (index, the least of logs, values that readers hold) and the value.
    pub(super) fn memory_needed_besides(&self, len: usize) -> usize {
        let (mut segments, mut blocks) = (0, len.div_ceil(BLOCK));
        for lane in 0..self.shards() {
            let shard = self.lock(lane);
            segments += shard.index.held() + LOG_SEGMENTS_MIN;
            blocks += shard.blocks.pinned();
        }
        let block_segments = blocks.div_ceil(BLOCKS_A_SEGMENT);
        segments * Purpose::Log.cost() + block_segments * Purpose::Blocks.cost()
    }

    /// Gives back what is held above the limit. `false` if that cannot be done.
    fn shrink(&self) -> bool {
        let evictions = self.config().evictions;
        let held = |lane: &usize| self.inner.lanes[*lane].held.load(Ordering::Relaxed);
        let gives_way = |lane: usize| {
            let mut shard = self.lock(lane);
            let now = Now::from_unix_seconds(shard.seen.0);
            shard.give_way(evictions, now)
        };
        while self.usage().held > self.usage().limit {
            let mut lanes: Vec<usize> = (0..self.shards()).collect();
            lanes.sort_by_key(|lane| std::cmp::Reverse(held(lane)));
            if !lanes.into_iter().any(gives_way) {
                return false;
            }
        }
        true
    }
}
