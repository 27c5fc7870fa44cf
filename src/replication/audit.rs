//! Sums over all data, made in steps, and the audit that compares them with a peer's.
//!
//! An *audit* is due when a connection begins or another one ends (a third node may have told one of
//! us what it did not tell the other), and every ten minutes. Three mismatches one after the other
//! mean repair: a scan in both directions. The routine audit waits until neither side has had
//! anything to write for a while, so that a repair it causes is the alarm for a mistake of ours.
//! After a fault it does not wait, and a difference is no mistake and is not counted. Nor is one that
//! is left after a repair, which another audit looks for as soon as it is quiet: what a repair told
//! may have crossed with what was let go meanwhile. A node that
//! has evicted lacks things rightfully: it takes no part in the routine.
//!
//! What is about to expire is in no sum. It expires, or somebody touches it; and that is told to all,
//! of whom those who know that it is gone say so (`inbound`).
//!
//! One is due as well with a peer that has not heard from a third node what we heard a while ago: it may
//! be unable to, and what that one deleted must reach it before we let go of it.

use std::mem;
use std::time::Duration;

use super::config::Boot;
use super::event::{Effect, Line, LinkId};
use super::link::{Audit, Link};
use super::replica::Replica;
use super::scan::cutoff;
use super::wire::Frame;
use crate::clock::{Now, UnixSeconds};
use crate::store::{Digest, Digesting, Lanes};
use crate::version::Version;

const MISMATCHES: u8 = 2;

/// Between two comparisons of one audit.
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What may have been a coincidence is looked into after this long.
pub(super) const DOUBT: Duration = Duration::from_secs(1);

/// So often within the horizon it is looked who has not heard what we have.
const LOOKS: u32 = 8;

/// Without a write for this long, what was written is everywhere.
const QUIET: Duration = Duration::from_millis(500);

/// Sums in the making.
#[derive(Debug)]
pub(super) struct Sums {
    purpose: Purpose,
    cutoff: UnixSeconds,
    so_far: Digesting,
    /// Nothing was being written when they were begun.
    was_quiet: bool,
}

/// How much of whose streams we had applied at a moment.
#[derive(Debug)]
pub(super) struct Heard {
    at: Now,
    applied: Vec<(u8, Boot, Version)>,
}

impl Heard {
    pub(super) fn nothing(now: Now) -> Heard {
        Heard { at: now, applied: Vec::new() }
    }
}

/// What sums are for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The other side scans us: it is told our sums, and how many items we have.
    Answer { round: u32, items: u64 },
    /// We scan the other side: these are its sums.
    Compare { round: u32, items: u64, theirs: Digest },
    /// We ask for a comparison.
    Ask { round: u32 },
    /// The other side asks for one, and these are its sums.
    Check { round: u32, theirs: Digest },
}

impl Sums {
    /// Whether they are made because the other side scans us.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.purpose, Purpose::Answer { .. })
    }
}

impl Replica {
    /// Sums will be made for the link, a step at a time.
    pub(super) fn begin_sums(
        &self,
        link: &mut Link,
        purpose: Purpose,
        cutoff: UnixSeconds,
        now: Now,
    ) {
        let was_quiet = self.is_quiet(now);
        link.sums.push_back(Sums { purpose, cutoff, so_far: Digesting::default(), was_quiet });
    }

    /// Goes on with the link's sums. `false`: there are none.
    pub(super) fn sum_step(&mut self, link: &mut Link, now: Now) -> bool {
        let Some(mut sums) = link.sums.pop_front() else { return false };
        let moment = Now::from_unix_seconds(sums.cutoff.0);
        let Some(digest) = self.store.digest_step(&mut sums.so_far, moment) else {
            link.sums.push_front(sums);
            return true;
        };
        let is_quiet = sums.was_quiet && self.is_quiet(now);
        match sums.purpose {
            Purpose::Answer { round, items } => {
                let lanes = digest.lanes().to_vec();
                link.say(&Frame::Digests { round, items, lanes });
            }
            Purpose::Compare { round, items, theirs } => {
                self.plan_passes(link, round, items, digest.differing(&theirs));
            }
            Purpose::Ask { round } if is_quiet || link.audit.urgent => {
                let lanes = digest.lanes().to_vec();
                link.say(&Frame::Check { round, cutoff: sums.cutoff, lanes });
            }
            Purpose::Ask { .. } => {
                link.audit.waiting = false;
                link.audit.due = now.plus(QUIET);
            }
            Purpose::Check { round, theirs } => {
                let (quiet, differing) =
                    (is_quiet && !self.store.has_evicted(), digest.differing(&theirs));
                link.say(&Frame::Checked { round, quiet, differing });
            }
        }
        true
    }

    /// Asks for comparisons that are due.
    pub(super) fn audit(&mut self, now: Now) {
        if broken!(self, no_digest_repair) {
            return;
        }
        let may_routine = self.is_quiet(now);
        let is_due = |link: &Link| {
            let audit = &link.audit;
            let may = audit.urgent || may_routine;
            link.is_steady() && !audit.waiting && now >= audit.due && may
        };
        let due = self.met_links().filter(|link| is_due(link));
        let due: Vec<LinkId> = due.map(|link| link.id).collect();
        for id in due {
            let Some(mut link) = self.links.remove(&id) else { continue };
            if link.audit.urgent || !self.store.has_evicted() {
                link.audit.round += 1;
                link.audit.waiting = true;
                let purpose = Purpose::Ask { round: link.audit.round };
                let cutoff = cutoff(&link, now);
                self.begin_sums(&mut link, purpose, cutoff, now);
            } else {
                link.audit.due = now.plus(self.config.audit_every);
            }
            self.links.insert(id, link);
        }
    }

    /// Doubts who has not heard what we had heard when this was last looked at.
    pub(super) fn doubt_who_lags(&mut self, now: Now) {
        let pause = (self.config.horizon / LOOKS).max(AGAIN_AFTER);
        if now < self.heard.at.plus(pause) {
            return;
        }
        let told = self.met_links().filter_map(|link| {
            let node = link.met?.node;
            let (boot, version) = self.nodes.get(&node)?.applied?;
            Some((node, boot, version))
        });
        let applied = told.collect();
        let heard = mem::replace(&mut self.heard, Heard { at: now, applied });
        if broken!(self, laggards_undoubted) {
            return;
        }
        for link in self.links.values_mut() {
            let Some(met) = link.met else { continue };
            let has = |(node, boot, version): &(u8, Boot, Version)| {
                let is_its = |claim: &&(Boot, Version)| claim.0 == *boot && claim.1 >= *version;
                *node == met.node || link.claims.get(node).filter(is_its).is_some()
            };
            if !heard.applied.iter().all(has) {
                link.audit.doubt(now);
            }
        }
    }

    /// What the comparison that we asked for found.
    pub(super) fn checked(
        &mut self,
        link: &mut Link,
        round: u32,
        quiet: bool,
        differing: Lanes,
        now: Now,
    ) {
        let audit = &mut link.audit;
        if !audit.waiting || audit.round != round {
            return;
        }
        audit.waiting = false;
        if !(quiet || audit.urgent || differing.is_empty()) {
            // What was written just now may have crossed; who has evicted is never quiet.
            let is_first = audit.follows && !mem::replace(&mut audit.once_more, true);
            let longer = (self.config.audit_every / 10).max(AGAIN_AFTER);
            audit.due = now.plus(if is_first { DOUBT } else { longer });
            return;
        }
        audit.due = now.plus(AGAIN_AFTER);
        let suspects = audit.suspects.and(differing);
        audit.mismatches += u8::from(suspects == audit.suspects);
        audit.suspects = suspects;
        let differs = !suspects.is_empty();
        if differs {
            if audit.mismatches < MISMATCHES {
                return;
            }
            self.repair(link, now);
        }
        let Audit { round, again, once_more, .. } = link.audit;
        let follows = differs || once_more;
        link.audit = Audit { round, urgent: again, follows, ..Audit::new(now) };
        let pause = if again || follows { DOUBT } else { self.config.audit_every };
        link.audit.due = now.plus(pause);
    }

    /// Each side gives the other what it lacks.
    fn repair(&mut self, link: &mut Link, now: Now) {
        let node = link.met.map_or(0, |met| met.node);
        let expected = link.audit.urgent || link.audit.follows;
        self.totals.mismatch_repairs += u64::from(!expected);
        link.counts.scans_digest += 1;
        self.effects.push(Effect::Log(Line::Differs { node, expected }));
        self.begin_scan(link, false, now);
        link.say(&Frame::ScanRequest);
    }

    /// Whether nobody has written for a while, as far as we know.
    fn is_quiet(&self, now: Now) -> bool {
        let own_ms = self.log_last().unix_millis();
        let is_own_old = Now::from_unix_micros(own_ms.saturating_mul(1_000)).plus(QUIET) <= now;
        is_own_old && self.last_applied.plus(QUIET) <= now
    }
}
