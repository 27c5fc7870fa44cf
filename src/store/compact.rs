//! Compacting: the live items of the sparsest segments are moved together.
//!
//! It pays when at most [`SOURCES_MAX`] segments can be emptied to gain one (with `-M`,
//! [`SOURCES_MAX_UNEVICTED`]). Below the limit the log may have one dead byte in [`DEAD_SHARE`]
//! before it is compacted instead of taking more memory.

use super::counters::Reclaimer;
use super::log::Run;
use super::pool::{Claim, SEGMENT};
use super::room::MOVES_MAX;
use super::shard::Shard;
use super::slot::narrow;
use crate::clock::Now;

/// Most segments emptied to gain one.
const SOURCES_MAX: usize = 9;

/// As [`SOURCES_MAX`], where the alternative is not to evict but to refuse.
const SOURCES_MAX_UNEVICTED: usize = 40;

/// Below the limit, dead slots may be one part in this many of the log before it is compacted.
/// Rewriting items at random with other sizes then moves 2.6 items a write; at one in six 1.8, at
/// one in twelve 4.2.
const DEAD_SHARE: usize = 8;

impl Shard {
    /// Whether the log has more dead slots than it should keep.
    pub(super) fn is_wasteful(&self) -> bool {
        self.log.dead() * DEAD_SHARE > self.log.live() + self.log.dead()
    }

    /// Moves the live items of the sparsest segments together, if that pays. Where nothing may be
    /// evicted, more work pays. `true` if anything was gained.
    pub(super) fn compact(&mut self, evictions: bool, now: Now) -> bool {
        let sources_max = if evictions { SOURCES_MAX } else { SOURCES_MAX_UNEVICTED };
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
        if dead < SEGMENT {
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
}
