//! Evicting: the oldest segment is walked, and what was not accessed since the last time goes.
//!
//! An item that was accessed is moved to the head and its mark cleared: a second chance. Where
//! large values go, eviction stops as soon as there is enough.

use super::blocks::BLOCKS_A_SEGMENT;
use super::change::{Cause, Change, Item, Need};
use super::counters::Reclaimer;
use super::log::Run;
use super::pool::{Claim, Purpose};
use super::room::MOVES_MAX;
use super::shard::Shard;
use super::slot::{Bits, Header};
use crate::clock::Now;
use crate::watch::{Categories, Eviction};

/// Most segments evicted from in one step.
const VICTIMS_A_STEP: usize = 4;

impl Shard {
    /// Evicts old items until what is needed is there, or so many that others should have their
    /// turn. `false` if no item is left to evict.
    pub(super) fn evict(&mut self, need: Need, now: Now) -> bool {
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
    pub(super) fn evict_segment(&mut self, now: Now) -> bool {
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
            Need::Growth | Need::Spill => takeable(Purpose::Index) > 0,
            Need::Blocks(count) => {
                self.blocks.free() + takeable(Purpose::Blocks) * BLOCKS_A_SEGMENT >= count
            }
        }
    }

    /// Gives an item a second chance if it was accessed.
    fn spare(&mut self, item: &Item, chances: &mut usize) -> bool {
        if *chances == 0 || !item.header.bits.has(Bits::REFERENCED) {
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
        if let Some(peered) = &self.shared.peered {
            peered.note_eviction();
        }
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
        self.commit(Some(*item), Change::Remove(Cause::Evicted), now);
    }
}

#[cfg(test)]
impl super::Store {
    /// Evicts the live item with this key; `false` if there is none.
    pub(crate) fn evict_for_test(&self, key: &[u8], now: Now) -> bool {
        let key = self.key(key);
        let mut shard = self.enter(self.lane_of(key), now);
        let found = shard.look_up(key, now);
        found.map(|item| shard.evict_item(&item, now)).is_ok()
    }
}
