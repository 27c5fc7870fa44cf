//! Sweeping: expired and flushed items are reclaimed, a segment at a time.
//!
//! Each log segment knows a lower bound of its items' expiries; a segment that is due is walked
//! and its bound made exact. A write that needs room sweeps every due segment before it lets
//! anything live go. The sweep in the background comes back to a segment only after
//! [`SWEEP_PAUSE`], so that items expiring one by one do not cost a walk each, and none outlives its
//! time by two seconds.

use super::SWEEP_STEP_ITEMS;
use super::change::Change;
use super::counters::Reclaimer;
use super::log::NOTHING_DUE;
use super::pool::SEGMENT;
use super::shard::Shard;
use super::slot::{HEADER, Handle, Header, slot_len};
use crate::clock::Now;

/// Seconds before the background sweep walks a segment again.
const SWEEP_PAUSE: u32 = 2;

const _: () = assert!(SWEEP_STEP_ITEMS * slot_len(HEADER, 1, 0) >= SEGMENT);

impl Shard {
    /// Sweeps a segment in which an item has expired or was flushed. `false` if there is none.
    pub(super) fn sweep_due(&mut self, now: Now) -> bool {
        let second = now.seconds().0;
        if self.due_at > second {
            return false;
        }
        // The earliest first: it is the likeliest to have nothing live left.
        let due = self.log.segments().map(|(number, about)| (about.min_expiry, number)).min();
        match due.filter(|&(min_expiry, _)| min_expiry <= second) {
            Some((_, number)) => {
                self.sweep_segment(number, Reclaimer::Write, now);
                true
            }
            None => {
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

    /// Reclaims the item if it has expired or was flushed.
    pub(super) fn reclaim_if_gone(
        &mut self,
        handle: Handle,
        header: &Header,
        by: Reclaimer,
        now: Now,
    ) -> bool {
        let Some(miss) = self.gone(handle, header, now) else {
            return false;
        };
        let item = self.item_at(handle, *header);
        self.tally.reclaimed(header, by);
        self.commit(Some(item), Change::Remove(miss.into()), now);
        true
    }
}

/// When the background sweep may walk a segment.
fn visit_at(min_expiry: u32, swept_at: u32) -> u32 {
    let after_pause = if swept_at == 0 { 0 } else { swept_at.saturating_add(SWEEP_PAUSE) };
    min_expiry.max(after_pause)
}
