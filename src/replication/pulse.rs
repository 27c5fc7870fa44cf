//! What happens because time passes: heartbeats, silence, dialling again, audits.
//!
//! An *audit* compares sums over all data with a peer. It is due when a connection begins or
//! another one ends (a third node may have told one of us what it did not tell the other), and
//! every ten minutes. Three mismatches one after the other mean repair: a scan in both directions.
//! The routine audit waits for a moment at which nothing is on its way, so that a repair it causes
//! is the alarm for a mistake of ours; after a fault a difference is no mistake and is not counted.

use std::time::Duration;

use super::event::{Effect, Line, LinkId, PeerIndex, Reason, State};
use super::link::Link;
use super::replica::Replica;
use super::scan::cutoff;
use super::wire::{Frame, Heartbeat, Verdict};
use crate::clock::{Now, UnixSeconds};
use crate::store::MutationLog;
use crate::version::Version;

const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// Without a word for this long a connection is dead; without HELLO it is not a peer's.
const SILENCE_MAX: Duration = Duration::from_secs(2);
const MISMATCHES: u8 = 3;
const BACKOFF_MIN_US: u64 = 50_000;
const BACKOFF_MAX_US: u64 = 1_000_000;
const SKEW_WARNED_US: u64 = 1_000_000;

impl Replica {
    pub(super) fn beat(&mut self, now: Now) {
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            let Some(mut link) = self.links.remove(&id) else { continue };
            if link.met.is_some() && now >= link.pulse.next {
                self.heartbeat(&mut link, now);
            }
            self.links.insert(id, link);
        }
    }

    /// Everybody is to hear of our state at once.
    pub(super) fn beat_soon(&mut self, now: Now) {
        self.links.values_mut().for_each(|link| link.pulse.next = now);
        self.beat(now);
    }

    fn heartbeat(&mut self, link: &mut Link, now: Now) {
        link.pulse.next = now.plus(HEARTBEAT_EVERY);
        let upto = link.going.cursor.filter(|_| !link.going.is_new);
        let upto = upto.and_then(|cursor| self.log().and_then(|log| log.upto(cursor, now)));
        if let Some(upto) = upto {
            link.sent_upto(upto, true, now);
        }
        let (sent_us, heard_us) = link.pulse.theirs;
        let applied = self.nodes.iter().filter_map(|(node, known)| {
            let (boot, version) = known.applied?;
            Some((*node, boot, version))
        });
        link.say(&Frame::Heartbeat(Heartbeat {
            sent_us: now.unix_micros(),
            echo: (sent_us, now.unix_micros().saturating_sub(heard_us)),
            state: self.state,
            in_sync: link.in_sync,
            upto,
            flushes: self.store.flushes(),
            applied: applied.collect(),
        }));
    }

    pub(super) fn take_heartbeat(
        &mut self,
        link: &mut Link,
        heartbeat: Heartbeat,
        now: Now,
    ) -> Result<(), Reason> {
        let now_us = now.unix_micros();
        link.pulse.theirs = (heartbeat.sent_us, now_us);
        let (ours_us, held_us) = heartbeat.echo;
        if ours_us > 0 {
            link.pulse.rtt_us = now_us.saturating_sub(ours_us).saturating_sub(held_us);
            let theirs_us = heartbeat.sent_us.saturating_add(link.pulse.rtt_us / 2);
            link.pulse.skew_us =
                i64::try_from(i128::from(theirs_us) - i128::from(now_us)).unwrap_or(i64::MAX);
            self.warn_of_skew(link)?;
        }
        Replica::hear_state(link, heartbeat.state);
        self.check_version(heartbeat.flushes.watermark, now)?;
        self.store.merge_flushes(&heartbeat.flushes);
        for (node, boot, version) in heartbeat.applied {
            link.claims.insert(node, (boot, version));
        }
        if let Some(version) = heartbeat.upto {
            self.take_upto(link, version, true, now)?;
        }
        Ok(())
    }

    fn warn_of_skew(&mut self, link: &mut Link) -> Result<(), Reason> {
        let skew_us = link.pulse.skew_us.unsigned_abs();
        if u128::from(skew_us) > self.config.max_clock_skew.as_micros() {
            return Err(Reason::ClockSkew);
        }
        if skew_us > SKEW_WARNED_US && !link.pulse.warned {
            link.pulse.warned = true;
            let node = link.met.map_or(0, |met| met.node);
            self.effects
                .push(Effect::Log(Line::Skewed { node, millis: link.pulse.skew_us / 1_000 }));
        }
        Ok(())
    }

    /// Closes connections on which nothing has been heard for too long.
    pub(super) fn find_silent(&mut self, now: Now) {
        let silent: Vec<(LinkId, bool)> = self
            .links
            .values()
            .map(|link| (link, link.met.is_some()))
            // A stranger has this long for its HELLO, however often it says a byte of it.
            .filter(|(link, is_met)| {
                let last = if *is_met { link.heard } else { link.opened };
                now > last.plus(SILENCE_MAX)
            })
            .map(|(link, is_met)| (link.id, is_met))
            .collect();
        for (id, is_met) in silent {
            let reason = if is_met { Reason::Silent } else { Reason::HelloTimeout };
            self.close(id, reason, now);
        }
    }

    /// Dials every address that leads to nobody we are connected with.
    pub(super) fn dial(&mut self, now: Now) {
        if self.state == State::Drained {
            return;
        }
        let is_due = |replica: &Replica, peer: &super::nodes::Peer| {
            !peer.myself
                && !peer.dialling
                && peer.open.is_none()
                && now >= peer.next_dial
                && !peer.node.is_some_and(|node| replica.is_linked(node))
        };
        let due = self.peers.iter().filter(|(_, peer)| is_due(self, peer));
        let due: Vec<PeerIndex> = due.map(|(index, _)| *index).collect();
        for index in due {
            if let Some(peer) = self.peers.get_mut(&index) {
                peer.dialling = true;
                self.effects.push(Effect::Dial { peer: index });
            }
        }
    }

    pub(super) fn dial_failed(&mut self, index: PeerIndex, now: Now) {
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.dialling = false;
            peer.tried = true;
        }
        self.back_off(index, now);
    }

    /// When the addresses that a lost connection belongs to are dialled again.
    pub(super) fn schedule_dial(&mut self, link: &Link, reason: Reason, now: Now) {
        let node = link.met.map(|met| met.node);
        let is_its = |(index, peer): (&PeerIndex, &super::nodes::Peer)| {
            let its = Some(*index) == link.dialled || (node.is_some() && peer.node == node);
            its.then_some(*index)
        };
        let its: Vec<PeerIndex> = self.peers.iter().filter_map(is_its).collect();
        for index in its {
            if node.is_some() && reason != Reason::Goodbye {
                let soon = Duration::from_micros(self.random(BACKOFF_MIN_US));
                if let Some(peer) = self.peers.get_mut(&index) {
                    peer.next_dial = now.plus(soon);
                }
            } else {
                self.back_off(index, now);
            }
        }
    }

    fn back_off(&mut self, index: PeerIndex, now: Now) {
        let jitter = self.random(1 << 20);
        if let Some(peer) = self.peers.get_mut(&index) {
            let whole_us = (BACKOFF_MIN_US << peer.fails.min(10)).min(BACKOFF_MAX_US);
            let half_us = whole_us / 2;
            let wait = Duration::from_micros(half_us + (half_us * jitter >> 20));
            peer.next_dial = now.plus(wait);
            peer.fails = peer.fails.saturating_add(1);
        }
    }

    /// Asks for comparisons that are due.
    pub(super) fn audit(&mut self, now: Now) {
        if broken!(self, no_digest_repair) {
            return;
        }
        let (last, every) = (self.log_last(), self.config.audit_every);
        let is_due = |link: &&Link| {
            let is_quiet = link.going.acked >= last && link.coming.acked >= link.coming.upto;
            let audit = &link.audit;
            link.is_steady() && !audit.waiting && now >= audit.due && (audit.urgent || is_quiet)
        };
        let due: Vec<LinkId> = self.links.values().filter(is_due).map(|link| link.id).collect();
        for id in due {
            let Some(mut link) = self.links.remove(&id) else { continue };
            let cutoff = cutoff(&link, now);
            link.audit.round += 1;
            link.audit.waiting = true;
            link.audit.due = now.plus(every);
            link.say(&Frame::Check {
                round: link.audit.round,
                cutoff,
                sum: self.digest(cutoff).sum(),
                applied: link.coming.acked,
            });
            self.links.insert(id, link);
        }
    }

    /// Compares the other side's sum with ours.
    pub(super) fn check_sums(
        &self,
        link: &mut Link,
        round: u32,
        cutoff: UnixSeconds,
        sum: u64,
        applied: Version,
    ) {
        let is_same = self.digest(cutoff).sum() == sum;
        let had_all = self.log().map(MutationLog::last).is_none_or(|last| applied >= last);
        let verdict = match (is_same, had_all) {
            (true, _) => Verdict::Same,
            (false, true) => Verdict::Differs,
            (false, false) => Verdict::Busy,
        };
        link.say(&Frame::Checked { round, verdict });
    }

    /// What the comparison that we asked for found.
    pub(super) fn checked(&mut self, link: &mut Link, round: u32, verdict: Verdict, now: Now) {
        if !link.audit.waiting || link.audit.round != round {
            return;
        }
        link.audit.waiting = false;
        link.audit.due = now.plus(HEARTBEAT_EVERY);
        match verdict {
            Verdict::Busy if !link.audit.urgent => return,
            Verdict::Differs | Verdict::Busy if link.audit.mismatches + 1 < MISMATCHES => {
                link.audit.mismatches += 1;
                return;
            }
            Verdict::Differs | Verdict::Busy => {
                let node = link.met.map_or(0, |met| met.node);
                if !link.audit.urgent {
                    self.totals.mismatch_repairs += 1;
                }
                link.counts.scans_digest += 1;
                self.effects.push(Effect::Log(Line::Differs { node }));
                self.begin_scan(link, false, now);
                link.say(&Frame::ScanRequest);
            }
            Verdict::Same => {}
        }
        link.audit.urgent = false;
        link.audit.mismatches = 0;
        link.audit.due = now.plus(self.config.audit_every);
    }
}
