//! Making room: reclaim what has expired, move what is scattered, evict what is old, in that order.
//!
//! *Sweep*: each log segment knows a lower bound of its items' expiries; a segment that is due is
//! walked and its bound made exact. A write that needs room sweeps every due segment before it
//! lets anything live go. The sweep in the background comes back to a segment only after
//! [`SWEEP_PAUSE`], so that items expiring one by one do not cost a walk each.
//!
//! *Compact*: the live items of the sparsest segments are moved together. It pays when at most
//! [`SOURCES_MAX`] segments can be emptied to gain one (with `-M`, [`SOURCES_MAX_UNEVICTED`]).
//!
//! *Evict*: the oldest segment is walked. An item that was accessed since the last time is moved to
//! the head, its mark cleared (a second chance); the others are evicted. For blocks, eviction
//! stops as soon as enough are free.
//!
//! Each step under the shard's lock is bounded: a sweep walks one segment (at most 4,096 items), a
//! compaction moves [`MOVES_MAX`] items and what is left of a segment, an eviction moves as many
//! and removes the items of the segments needed (one for a slot, two for a piece of a large value):
//! some 10,000 slots in all, well under a millisecond.
//!
//! What is NOT here: the order of shards to ask ([`super::shards`]).

use super::blocks::BLOCKS_A_SEGMENT;
use super::counters::Reclaimer;
use super::log::{NOTHING_DUE, Run};
use super::pool::{Claim, Purpose};
use super::shard::{Change, Item, Need, Shard};
use super::slot::{Bits, Handle, Header, narrow};
use crate::clock::Now;
use crate::watch::{Categories, Eviction};

/// Seconds before the background sweep walks a segment again.
const SWEEP_PAUSE: u32 = 8;

/// Most segments emptied to gain one.
const SOURCES_MAX: usize = 9;

/// As [`SOURCES_MAX`], where the alternative is not to evict but to refuse.
const SOURCES_MAX_UNEVICTED: usize = 40;

/// Most items moved in one step.
const MOVES_MAX: usize = 2048;

/// Most segments evicted from in one step.
const VICTIMS_A_STEP: usize = 4;

/// Below the limit, dead slots may be this share of the log before it is compacted.
const DEAD_SHARE: usize = 8;

/// What others than this shard allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Live items may be evicted.
    pub(super) evictions: bool,
    /// Segments that would be this shard's if all had the same.
    pub(super) fair: usize,
    /// Another shard has something to reclaim.
    pub(super) due_elsewhere: bool,
    /// No other shard can help.
    pub(super) alone: bool,
}

/// What a step towards room led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be room now, or more steps may make it.
    Onward,
    /// Another shard must help.
    Elsewhere,
    /// There is nothing to give.
    Nothing,
}

impl Shard {
    /// One bounded step towards what is needed.
    pub(super) fn make_room(&mut self, need: Need, terms: &Terms, now: Now) -> Step {
        if matches!(need, Need::Head(_)) && self.is_wasteful() {
            self.compact(SOURCES_MAX, now);
        }
        if self.supply(need) {
            return Step::Onward;
        }
        if self.sweep_due(now) {
            return Step::Onward;
        }
        if terms.due_elsewhere && !terms.alone {
            return Step::Elsewhere;
        }
        if self.squeeze(need, terms.evictions, now) {
            return Step::Onward;
        }
        if !terms.alone && (!terms.evictions || self.held() * 2 < terms.fair) {
            return Step::Elsewhere;
        }
        if terms.evictions && self.evict(need, now) {
            return Step::Onward;
        }
        if terms.alone { Step::Nothing } else { Step::Elsewhere }
    }

    /// Gives back a segment for another shard if that can be done. `false` = nothing to give.
    pub(super) fn give_way(&mut self, evictions: bool, now: Now) -> bool {
        let need = Need::Spill;
        self.sweep_due(now)
            || self.squeeze(need, evictions, now)
            || (evictions && self.evict_segment(now))
    }

    /// Moves what is scattered. `true` if that gained anything.
    fn squeeze(&mut self, need: Need, evictions: bool, now: Now) -> bool {
        let sources_max = if evictions { SOURCES_MAX } else { SOURCES_MAX_UNEVICTED };
        let is_blocks = matches!(need, Need::Blocks(_));
        (!is_blocks && self.blocks.compact(&self.shared.pool)) || self.compact(sources_max, now)
    }

    /// Takes what is needed from the pool. `false` if it does not have it.
    fn supply(&mut self, need: Need) -> bool {
        match need {
            Need::Head(len) => {
                self.log.fits(Run::Head, len) || self.open(Run::Head, 0, Claim::Common)
            }
            Need::Main => {
                let segment = self.shared.pool.take(Purpose::Index, Claim::Common);
                segment.map(|segment| self.index.add_main(segment)).is_some()
            }
            Need::Spill => {
                let segment = self.shared.pool.take(Purpose::Index, Claim::Common);
                segment.map(|segment| self.index.add_spill(segment)).is_some()
            }
            Need::Blocks(count) => {
                while self.blocks.free() < count {
                    match self.shared.pool.take(Purpose::Blocks, Claim::Common) {
                        Some(segment) => self.blocks.add(segment),
                        None => return false,
                    }
                }
                true
            }
        }
    }

    /// Lets `run` write on a fresh segment.
    fn open(&mut self, run: Run, age: u64, claim: Claim) -> bool {
        if !self.log.can_open() {
            return false;
        }
        let Some(segment) = self.shared.pool.take(Purpose::Log, claim) else {
            return false;
        };
        let sealed = self.log.open(run, segment, age);
        self.give_back(sealed);
        true
    }

    // ---- sweep ----

    /// Sweeps a segment in which an item has expired or was flushed. `false` if there is none.
    fn sweep_due(&mut self, now: Now) -> bool {
        let second = now.seconds().0;
        if self.due_at > second {
            return false;
        }
        let mut segments = self.log.segments();
        match segments.find(|(_, about)| about.min_expiry <= second) {
            Some((number, _)) => {
                drop(segments);
                self.sweep_segment(number, Reclaimer::Write, now);
                true
            }
            None => {
                drop(segments);
                self.refresh_due();
                false
            }
        }
    }

    /// Sweeps a due segment that was not swept a moment ago. `false` if there is none.
    pub(super) fn sweep_background(&mut self, now: Now) -> bool {
        let second = now.seconds().0;
        if self.visit_at > second {
            return false;
        }
        let due = self.log.segments().find(|(_, about)| {
            about.min_expiry <= second && visit_at(about.min_expiry, about.swept_at) <= second
        });
        match due.map(|(number, _)| number) {
            Some(number) => {
                self.sweep_segment(number, Reclaimer::Sweep, now);
                true
            }
            None => {
                self.refresh_due();
                false
            }
        }
    }

    fn refresh_due(&mut self) {
        self.due_at = NOTHING_DUE;
        self.visit_at = NOTHING_DUE;
        for (_, about) in self.log.segments() {
            self.due_at = self.due_at.min(about.min_expiry);
            self.visit_at = self.visit_at.min(visit_at(about.min_expiry, about.swept_at));
        }
    }

    fn sweep_segment(&mut self, number: u32, by: Reclaimer, now: Now) {
        let (mut offset, mut min_expiry) = (0, NOTHING_DUE);
        while let Some((handle, header)) = self.log.next_live(number, offset) {
            offset = handle.offset() + header.slot_len();
            if by == Reclaimer::Sweep {
                self.tally.class_for(&header).crawler_items_checked += 1;
            }
            if !self.reclaim_if_gone(handle, &header, by, now)
                && let Some(second) = header.expiry.second()
            {
                min_expiry = min_expiry.min(second.0);
            }
        }
        let about = self.log.about_mut(number);
        about.min_expiry = min_expiry;
        about.swept_at = now.seconds().0;
    }

    fn reclaim_if_gone(
        &mut self,
        handle: Handle,
        header: &Header,
        by: Reclaimer,
        now: Now,
    ) -> bool {
        if self.gone(handle, header, now).is_none() {
            return false;
        }
        let item = self.item_at(handle, *header);
        self.tally.reclaimed(header, by);
        self.commit(Some(item), Change::Remove, now);
        true
    }

    // ---- compact ----

    /// Whether the log has more dead slots than it should keep.
    fn is_wasteful(&self) -> bool {
        self.log.dead() * DEAD_SHARE > self.log.live() + self.log.dead()
    }

    /// Moves the live items of the sparsest segments together, if at most `sources_max` of them
    /// have to be emptied to gain one. `true` if anything was gained.
    fn compact(&mut self, sources_max: usize, now: Now) -> bool {
        let held_before = self.log.held();
        let dead_before = self.log.dead();
        let mut moves = 0;
        for number in self.sparsest(sources_max) {
            let emptied = self.move_out(number, &mut moves, now);
            if !emptied || moves >= MOVES_MAX || self.log.held() < held_before {
                break;
            }
        }
        self.log.held() < held_before || self.log.dead() < dead_before
    }

    /// Sealed segments whose dead slots make up a segment together, sparsest first; none if more
    /// than `most` would be needed.
    fn sparsest(&self, most: usize) -> Vec<u32> {
        let sealed = self.log.segments().filter(|&(number, _)| !self.log.is_open(number));
        let mut sparse: Vec<(u32, u32)> = sealed
            .filter(|(_, about)| about.dead() > 0)
            .map(|(number, about)| (about.dead(), number))
            .collect();
        if sparse.len() > most {
            sparse.select_nth_unstable_by(most - 1, |a, b| b.cmp(a));
            sparse.truncate(most);
        }
        sparse.sort_unstable_by(|a, b| b.cmp(a));
        let dead: usize = sparse.iter().map(|&(dead, _)| dead as usize).sum();
        if dead < super::pool::SEGMENT {
            sparse.clear();
        }
        sparse.into_iter().map(|(_, number)| number).collect()
    }

    /// Moves the live items of a segment to the survivors, which gives it back. `false` if they
    /// had no room.
    fn move_out(&mut self, number: u32, moves: &mut usize, now: Now) -> bool {
        let age = self.log.about(number).age;
        let mut offset = 0;
        while let Some((handle, header)) = self.log.next_live(number, offset) {
            offset = handle.offset() + header.slot_len();
            if self.reclaim_if_gone(handle, &header, Reclaimer::Write, now) {
                continue;
            }
            let len = header.needed_len();
            if !self.log.fits(Run::Survivors, len) && !self.open(Run::Survivors, age, Claim::Moving)
            {
                return false;
            }
            let item = self.item_at(handle, header);
            self.relocate(&item, Run::Survivors);
            if let Some(survivors) = self.log.open_segment(Run::Survivors) {
                self.log.mix_age(survivors, age, narrow(len));
            }
            *moves += 1;
        }
        true
    }

    // ---- evict ----

    /// Evicts old items until what is needed is there, or so many that others should have their
    /// turn. `false` if no item is left to evict.
    fn evict(&mut self, need: Need, now: Now) -> bool {
        let mut chances = MOVES_MAX;
        for _ in 0..VICTIMS_A_STEP {
            let Some(number) = self.victim() else {
                return false;
            };
            self.evict_from(number, &mut chances, now, |shard| shard.has(need));
            if self.supply(need) {
                break;
            }
        }
        true
    }

    /// Evicts old items until a segment has been given back, or as [`Shard::evict`].
    fn evict_segment(&mut self, now: Now) -> bool {
        let held_before = self.held();
        let mut chances = MOVES_MAX;
        for _ in 0..VICTIMS_A_STEP {
            let Some(number) = self.victim() else {
                return false;
            };
            self.evict_from(number, &mut chances, now, |shard| shard.held() < held_before);
            if self.held() < held_before {
                break;
            }
        }
        true
    }

    /// The segment to evict from. When there is none but the head, the head is sealed.
    fn victim(&mut self) -> Option<u32> {
        if let Some(number) = self.log.oldest() {
            return Some(number);
        }
        let sealed = self.log.seal(Run::Head);
        self.give_back(sealed);
        self.log.oldest()
    }

    /// Walks a segment, evicting what was not accessed since the last time and moving the rest
    /// while there are `chances`. Stops after a large value if that is `enough`.
    fn evict_from(
        &mut self,
        number: u32,
        chances: &mut usize,
        now: Now,
        enough: impl Fn(&Shard) -> bool,
    ) {
        if self.log.open_segment(Run::Survivors) == Some(number) {
            let sealed = self.log.seal(Run::Survivors);
            self.give_back(sealed);
        }
        let mut offset = 0;
        while let Some((handle, header)) = self.log.next_live(number, offset) {
            offset = handle.offset() + header.slot_len();
            if self.reclaim_if_gone(handle, &header, Reclaimer::Write, now) {
                continue;
            }
            let item = self.item_at(handle, header);
            if self.spare(&item, chances) {
                continue;
            }
            self.evict_item(&item, now);
            if header.bits.has(Bits::LARGE) && enough(self) {
                return;
            }
        }
    }

    /// Whether [`Shard::supply`] would have what is needed.
    fn has(&self, need: Need) -> bool {
        let takeable = |purpose| self.shared.pool.takeable(purpose, Claim::Common);
        match need {
            Need::Head(len) => self.log.fits(Run::Head, len) || takeable(Purpose::Log) > 0,
            Need::Main | Need::Spill => takeable(Purpose::Index) > 0,
            Need::Blocks(count) => {
                self.blocks.free() + takeable(Purpose::Blocks) * BLOCKS_A_SEGMENT >= count
            }
        }
    }

    /// Gives an item a second chance if it was accessed, or is being read so that evicting it
    /// would gain nothing.
    fn spare(&mut self, item: &Item, chances: &mut usize) -> bool {
        let is_read =
            || self.large_id(item.handle, &item.header).is_some_and(|id| self.blocks.is_pinned(id));
        if *chances == 0 || !(item.header.bits.has(Bits::REFERENCED) || is_read()) {
            return false;
        }
        let len = item.header.needed_len();
        if !self.log.fits(Run::Head, len) && !self.open(Run::Head, 0, Claim::Moving) {
            return false;
        }
        *chances -= 1;
        let bits = item.header.bits.without(Bits::REFERENCED);
        let item = Item { header: Header { bits, ..item.header }, ..*item };
        self.relocate(&item, Run::Head);
        true
    }

    fn evict_item(&mut self, item: &Item, now: Now) {
        let header = &item.header;
        let idle = now.seconds().since(header.last_access);
        self.tally.evicted(header, idle);
        let watch = &self.shared.config.watch;
        if watch.wants(Categories::EVICTIONS) {
            watch.evicted(
                &Eviction {
                    key: self.log.key(item.handle),
                    fetched: header.bits.has(Bits::FETCHED),
                    ttl: header.expiry.ttl(now.seconds()),
                    idle,
                    class: self.found(header, now).class,
                    size: header.value_len as usize,
                },
                now,
            );
        }
        self.commit(Some(*item), Change::Remove, now);
    }

    // ---- looking around ----

    /// Headers of at most `most` items of the oldest segment.
    pub(super) fn oldest_items(&self, most: usize) -> impl Iterator<Item = Header> {
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
    pub(super) fn segment_from(
        &self,
        number: u32,
        mut visit: impl FnMut(&Shard, &Header),
    ) -> Option<u32> {
        let (number, _) = self.log.segments().find(|&(held, _)| held >= number)?;
        self.headers(number).for_each(|header| visit(self, &header));
        Some(number + 1)
    }
}

/// When the background sweep may walk a segment.
fn visit_at(min_expiry: u32, swept_at: u32) -> u32 {
    let after_pause = if swept_at == 0 { 0 } else { swept_at.saturating_add(SWEEP_PAUSE) };
    min_expiry.max(after_pause)
}
