//! What a shard counts, and the sums over shards that `stats` shows.
//!
//! Each event is counted in the size class of its item; totals are sums over classes.
//!
//! What is NOT here: counters of commands, which each worker keeps ([`crate::stats`]).

use super::log::Run;
use super::shard::Shard;
use super::shards::Store;
use super::slot::{Bits, Header};
use super::{ClassCounters, StoreConfig, StoreCounters};
use crate::clock::Now;
use crate::item::{SizeClasses, size_of};

/// Sizes up to this are looked up in a table by granule.
const SMALL_MAX: usize = 8 << 10;
const GRANULE: usize = 8;

/// Items looked at in each shard's oldest segment for [`ClassCounters::age`].
const AGE_SAMPLE: usize = 128;

/// Why an item was reclaimed after its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reclaimer {
    /// A write needed room.
    Write,
    /// The sweep came by.
    Sweep,
}

/// One shard's counters.
#[derive(Debug)]
pub(super) struct Tally {
    /// By class number; number 0 is never used.
    classes: Vec<ClassCounters>,
    /// The class of a size, by granules rounded up.
    small: Box<[u8]>,
    sizes: SizeClasses,
    cas: bool,
    pub(super) bytes: usize,
    pub(super) total_items: u64,
}

impl Tally {
    /// Counters for the classes of `config`.
    pub(super) fn new(config: &StoreConfig) -> Tally {
        let sizes = config.classes.clone();
        let granules = 0..=SMALL_MAX / GRANULE;
        Tally {
            classes: vec![ClassCounters::default(); usize::from(sizes.count()) + 1],
            small: granules.map(|granules| sizes.class_of(granules * GRANULE)).collect(),
            sizes,
            cas: config.cas,
            bytes: 0,
            total_items: 0,
        }
    }

    /// As [`SizeClasses::class_of`]; chunk sizes are multiples of a granule.
    pub(super) fn class_of(&self, size: usize) -> u8 {
        match self.small.get(size.div_ceil(GRANULE)) {
            Some(&class) => class,
            None => self.sizes.class_of(size),
        }
    }

    /// The counters of `class`.
    pub(super) fn class(&mut self, class: u8) -> &mut ClassCounters {
        &mut self.classes[usize::from(class)]
    }

    /// The counters of an item's class.
    pub(super) fn class_for(&mut self, header: &Header) -> &mut ClassCounters {
        let class = self.class_of(self.size(header));
        self.class(class)
    }

    /// An item's size as memcached counts it.
    pub(super) fn size(&self, header: &Header) -> usize {
        let key_len = usize::from(header.key_len);
        size_of(key_len, header.value_len as usize, header.flags, self.cas)
    }

    /// An item that takes `bytes` is there.
    pub(super) fn enter(&mut self, header: &Header, bytes: usize) {
        let size = self.size(header) as u64;
        let class = self.class_for(header);
        class.number += 1;
        class.mem_requested += size;
        self.bytes += bytes;
    }

    /// An item that took `bytes` is there no more.
    pub(super) fn leave(&mut self, header: &Header, bytes: usize) {
        let size = self.size(header) as u64;
        let class = self.class_for(header);
        class.number -= 1;
        class.mem_requested -= size;
        self.bytes -= bytes;
    }

    /// An item takes fewer bytes than it did.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// An expired or flushed item was reclaimed.
    pub(super) fn reclaimed(&mut self, header: &Header, by: Reclaimer) {
        let class = self.class_for(header);
        match by {
            Reclaimer::Write => class.reclaimed += 1,
            Reclaimer::Sweep => class.crawler_reclaimed += 1,
        }
        if !header.bits.has(Bits::FETCHED) {
            class.expired_unfetched += 1;
        }
    }

    /// A live item was evicted that had not been accessed for `idle` seconds.
    pub(super) fn evicted(&mut self, header: &Header, idle: u32) {
        let class = self.class_for(header);
        class.evicted += 1;
        class.evicted_time = idle;
        if header.expiry.second().is_some() {
            class.evicted_nonzero += 1;
        }
        if !header.bits.has(Bits::FETCHED) {
            class.evicted_unfetched += 1;
        }
        if header.bits.has(Bits::REFERENCED) {
            class.evicted_active += 1;
        }
    }

    fn reset(&mut self) {
        self.total_items = 0;
        for class in &mut self.classes {
            let gauges = (class.number, class.mem_requested);
            *class = ClassCounters::default();
            (class.number, class.mem_requested) = gauges;
        }
    }
}

impl ClassCounters {
    fn add(&mut self, other: &ClassCounters) {
        self.number += other.number;
        self.mem_requested += other.mem_requested;
        self.age = self.age.max(other.age);
        self.evicted += other.evicted;
        self.evicted_nonzero += other.evicted_nonzero;
        self.evicted_time = self.evicted_time.max(other.evicted_time);
        self.evicted_unfetched += other.evicted_unfetched;
        self.evicted_active += other.evicted_active;
        self.outofmemory += other.outofmemory;
        self.reclaimed += other.reclaimed;
        self.expired_unfetched += other.expired_unfetched;
        self.crawler_reclaimed += other.crawler_reclaimed;
        self.crawler_items_checked += other.crawler_items_checked;
        self.cmd_set += other.cmd_set;
        self.delete_hits += other.delete_hits;
        self.incr_hits += other.incr_hits;
        self.decr_hits += other.decr_hits;
        self.cas_hits += other.cas_hits;
        self.cas_badval += other.cas_badval;
        self.touch_hits += other.touch_hits;
    }

    fn is_unused(&self) -> bool {
        *self == ClassCounters::default()
    }
}

impl Shard {
    /// Headers of at most `most` items of the oldest segment.
    fn oldest_items(&self, most: usize) -> impl Iterator<Item = Header> {
        let number = self.log.oldest().or(self.log.open_segment(Run::Head)).unwrap_or(0);
        self.headers(number).take(most)
    }

    fn headers(&self, number: u32) -> impl Iterator<Item = Header> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let (handle, header) = self.log.next_live(number, offset)?;
            offset = handle.offset() + header.slot_len();
            Some(header)
        })
    }

    /// Shows `visit` each item of the first segment from `number` on; returns the number after.
    fn segment_from(&self, number: u32, mut visit: impl FnMut(&Shard, &Header)) -> Option<u32> {
        let (number, _) = self.log.segments().find(|&(held, _)| held >= number)?;
        self.headers(number).for_each(|header| visit(self, &header));
        Some(number + 1)
    }
}

impl Store {
    /// The store's counters.
    #[must_use]
    pub fn counters(&self) -> StoreCounters {
        let mut sum = ClassCounters::default();
        let mut counters = StoreCounters::default();
        let mut buckets = 0;
        for lane in 0..self.shards() {
            let shard = self.lock(lane);
            shard.tally.classes.iter().for_each(|class| sum.add(class));
            counters.total_items += shard.tally.total_items;
            counters.bytes += shard.tally.bytes as u64;
            counters.pinned_bytes += (shard.blocks.pinned() * super::blocks::BLOCK) as u64;
            counters.hash_bytes += (shard.index.held() * super::pool::SEGMENT) as u64;
            buckets += shard.index.buckets() as u64;
        }
        StoreCounters {
            curr_items: sum.number,
            mem_requested: sum.mem_requested,
            total_malloced: self.usage().touched as u64,
            hash_power_level: u64::from(buckets.max(1).ilog2()),
            evictions: sum.evicted,
            evicted_unfetched: sum.evicted_unfetched,
            evicted_active: sum.evicted_active,
            reclaimed: sum.reclaimed,
            expired_unfetched: sum.expired_unfetched,
            crawler_reclaimed: sum.crawler_reclaimed,
            crawler_items_checked: sum.crawler_items_checked,
            ..counters
        }
    }

    /// Counters of each class that has or had items, by class number.
    #[must_use]
    pub fn classes(&self, now: Now) -> Vec<(u8, ClassCounters)> {
        let mut sums = vec![ClassCounters::default(); usize::from(u8::MAX) + 1];
        for lane in 0..self.shards() {
            let shard = self.lock(lane);
            for (sum, class) in sums.iter_mut().zip(&shard.tally.classes) {
                sum.add(class);
            }
            for header in shard.oldest_items(AGE_SAMPLE) {
                let class = shard.tally.class_of(shard.tally.size(&header));
                let age = now.seconds().since(header.last_access);
                let sum = &mut sums[usize::from(class)];
                sum.age = sum.age.max(age);
            }
        }
        (0..=u8::MAX).zip(sums).filter(|(_, class)| !class.is_unused()).collect()
    }

    /// Items by size rounded up to 32 bytes, ascending (`stats sizes`); walks every item.
    #[must_use]
    pub fn sizes(&self) -> Vec<(usize, u64)> {
        let mut buckets = std::collections::BTreeMap::new();
        for lane in 0..self.shards() {
            let mut number = 0;
            // One segment a lock: items that move meanwhile may be met twice or not at all.
            while let Some(after) = self.lock(lane).segment_from(number, |shard, header| {
                *buckets.entry(shard.tally.size(header).next_multiple_of(32)).or_default() += 1;
            }) {
                number = after;
            }
        }
        buckets.into_iter().collect()
    }

    /// Starts the counters from zero; gauges stay.
    pub fn reset_counters(&self) {
        for lane in 0..self.shards() {
            self.lock(lane).tally.reset();
        }
    }
}

#[cfg(any(test, fuzzing))]
impl Tally {
    /// Items in all classes.
    pub(super) fn items(&self) -> u64 {
        self.classes.iter().map(|class| class.number).sum()
    }
}
