//! What happens because time passes: heartbeats, silence, dialling again.
//!
//! A heartbeat says that we live, and on the way everything that is cheap to repeat: our state, the
//! end of our stream, how far we have come on everybody's, and what has been flushed.

use std::time::Duration;

use super::event::{Effect, Line, LinkId, PeerIndex, Reason, State};
use super::link::{Batch, Link};
use super::replica::Replica;
use super::wire::{Frame, Heartbeat};
use crate::clock::Now;

const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// Without a word for this long a connection is dead; without HELLO it is not a peer's.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(2);
const BACKOFF_MIN_US: u64 = 50_000;
const BACKOFF_MAX_US: u64 = 1_000_000;
const SKEW_WARNED_US: u64 = 1_000_000;

impl Replica {
    pub(super) fn beat(&mut self, now: Now) {
        let due = self.met_links().filter(|link| now >= link.pulse.next);
        let ids: Vec<LinkId> = due.map(|link| link.id).collect();
        for id in ids {
            let Some(mut link) = self.links.remove(&id) else { continue };
            self.heartbeat(&mut link, false, now);
            self.links.insert(id, link);
        }
    }

    /// Everybody is to say at once what they have.
    pub(super) fn ask_all(&mut self, now: Now) {
        let met: Vec<LinkId> = self.met_links().map(|link| link.id).collect();
        for id in met {
            let Some(mut link) = self.links.remove(&id) else { continue };
            self.heartbeat(&mut link, true, now);
            self.links.insert(id, link);
        }
    }

    /// Everybody is to hear of our state at once.
    pub(super) fn beat_soon(&mut self, now: Now) {
        self.links.values_mut().for_each(|link| link.pulse.next = now);
        self.beat(now);
    }

    fn heartbeat(&mut self, link: &mut Link, asks: bool, now: Now) {
        link.pulse.next = now.plus(HEARTBEAT_EVERY);
        let upto = link.going.cursor.filter(|_| !link.going.must_tell);
        let upto = upto.and_then(|cursor| self.log().and_then(|log| log.upto(cursor, now)));
        if let Some(upto) = upto {
            link.sent_upto(Batch { upto, sent: now, caught_up: true, has_writes: false });
        }
        let (sent_us, heard_us) = link.pulse.theirs;
        let applied = self.nodes.iter().filter_map(|(node, known)| {
            let (boot, version) = known.applied?;
            Some((*node, boot, version))
        });
        // Of our own stream we have everything that we know.
        let own = (self.config.node, self.config.boot, self.latest());
        link.say(&Frame::Heartbeat(Heartbeat {
            sent_us: now.unix_micros(),
            echo: (sent_us, now.unix_micros().saturating_sub(heard_us)),
            state: self.state,
            in_sync: link.is_awaited,
            upto,
            flushes: self.store.flushes(),
            applied: applied.chain([own]).collect(),
            asks,
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
        link.pulse.echoed_us = ours_us;
        if ours_us > 0 {
            link.pulse.rtt_us = now_us.saturating_sub(ours_us).saturating_sub(held_us);
            let theirs_us = heartbeat.sent_us.saturating_add(link.pulse.rtt_us / 2);
            link.pulse.skew_us =
                i64::try_from(i128::from(theirs_us) - i128::from(now_us)).unwrap_or(i64::MAX);
            self.warn_of_skew(link)?;
        }
        Replica::hear_state(link, heartbeat.state);
        self.check_flushes(&heartbeat.flushes, now)?;
        self.store.merge_flushes(&heartbeat.flushes);
        for (node, boot, version) in heartbeat.applied {
            link.claims.insert(node, (boot, version));
        }
        link.coming.waits_for_us = heartbeat.in_sync;
        link.coming.waited_for_us &= heartbeat.in_sync;
        if let Some(version) = heartbeat.upto {
            link.coming.is_awaited = true;
            self.take_upto(link, version, true, now)?;
        }
        if heartbeat.asks {
            self.heartbeat(link, false, now);
        }
        Ok(())
    }

    fn warn_of_skew(&mut self, link: &mut Link) -> Result<(), Reason> {
        let skew_us = link.pulse.skew_us.unsigned_abs();
        if u128::from(skew_us) > self.config.max_clock_skew.as_micros() {
            return Err(Reason::ClockSkew(skew_us / 1_000_000));
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
        let fills_stranger = self.fills_stranger();
        let is_due = |replica: &Replica, peer: &super::nodes::Peer| {
            let may_be_theirs = fills_stranger && peer.node.is_none();
            !peer.myself
                && !peer.dialling
                && peer.open.is_none()
                && now >= peer.next_dial
                && !may_be_theirs
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

    /// Whether we serve and fill a node of which we do not know the address. One at which we have met
    /// nobody may turn out to be its own, and a connection that took the place of the one that it
    /// dialled would begin with what it lacks once more, which takes longer than all of it.
    fn fills_stranger(&self) -> bool {
        let is_filled = |link: &Link| {
            let is_loading = link.met.is_some_and(|met| met.state == State::Loading);
            link.dialled.is_none() && (is_loading || link.going.scan.is_some())
        };
        let mut filled = self.met_links().filter(|link| is_filled(link)).filter_map(|l| l.met);
        self.state == State::Ready && filled.any(|met| !self.has_address(met.node))
    }

    pub(super) fn dial_failed(&mut self, index: PeerIndex, reason: Reason, now: Now) {
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.last_error = Some(reason);
            peer.dialling = false;
            peer.tried = true;
        }
        self.lock_peer_undialled(index);
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
        let has_lasted = link.has_lasted(now);
        for index in its {
            if has_lasted && reason != Reason::Goodbye {
                let soon = Duration::from_micros(self.random(BACKOFF_MIN_US));
                if let Some(peer) = self.peers.get_mut(&index) {
                    peer.next_dial = now.plus(soon);
                    peer.fails = 0;
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
            let wait = Duration::from_micros(half_us + ((half_us * jitter) >> 20));
            peer.next_dial = now.plus(wait);
            peer.fails = peer.fails.saturating_add(1);
        }
    }
}
