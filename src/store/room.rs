//! Making room: reclaim what has expired, move what is scattered, evict what is old, in that order.
//!
//! The three are in [`super::sweep`], [`super::compact`] and [`super::evict`].
//!
//! Each step under the shard's lock is bounded: a sweep walks one segment (at most
//! [`super::SWEEP_STEP_ITEMS`] items); a compaction moves [`MOVES_MAX`] items and what is left of a
//! segment; an eviction moves as many and walks at most `VICTIMS_A_STEP` segments. The longest
//! were measured at 0.1 ms with items of 300 bytes and 0.3 ms with the tiniest. A write takes
//! several steps when it finds many segments due, at most each of its shard's once a second.
//!
//! What is NOT here: the order of shards to ask ([`super::shards`]).

use super::change::Need;
use super::log::Run;
use super::pool::{Claim, Purpose};
use super::shard::Shard;
use crate::clock::Now;

/// Most items moved in one step.
pub(super) const MOVES_MAX: usize = 2048;

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
            self.compact(terms.evictions, now);
        }
        if self.supply(need) {
            return Step::Onward;
        }
        if self.sweep_due(now) {
            // What it left may be enough: then the other due segments can wait.
            let _ = self.supply(need) || self.squeeze(need, terms.evictions, now);
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
        let is_blocks = matches!(need, Need::Blocks(_));
        (!is_blocks && self.blocks.compact(&self.shared.pool)) || self.compact(evictions, now)
    }

    /// Takes what is needed from the pool. `false` if it does not have it.
    pub(super) fn supply(&mut self, need: Need) -> bool {
        match need {
            Need::Head(len) => {
                self.log.fits(Run::Head, len) || self.open(Run::Head, 0, Claim::Common)
            }
            Need::Growth | Need::Spill => {
                let segment = self.shared.pool.take(Purpose::Index, Claim::Common);
                segment.map(|segment| self.index.add(segment)).is_some()
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
    pub(super) fn open(&mut self, run: Run, age: u64, claim: Claim) -> bool {
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
}
