//! Introductions: who may talk, and which of two connections of a pair stays.
//!
//! Both sides say HELLO at once, and nothing else before they have heard the other's. Whoever is
//! accepted is told how much of its stream we have (`Start`); with that it begins to send.
//!
//! Both sides of a pair dial, so there may be two connections. Both ends see who dialled each and
//! come to the same choice: the one that the lower boot dialled stays, and of two that the same
//! side dialled, the later.

use std::cmp::Reverse;

use super::event::{Effect, Gives, Line, LinkId, PeerIndex, Reason, State};
use super::link::{LASTING, Link, Met};
use super::nodes::{Counts, Node};
use super::replica::Replica;
use super::speech::{Agreed, LOCKS, Speech};
use super::wire::{Frame, Hello, body_max};
use crate::clock::Now;
use crate::store::Flushes;
use crate::version::Version;

/// Largest item that any node can be configured to hold.
const ITEM_MAX: u32 = 1 << 30;

impl Replica {
    pub(super) fn opened(&mut self, id: LinkId, dialled: Option<PeerIndex>, now: Now) {
        let mut serial = 0;
        if let Some(index) = dialled {
            let Some(peer) = self.peers.get_mut(&index) else {
                return self.effects.push(Effect::Close { link: id, reason: Reason::Removed });
            };
            peer.dialling = false;
            peer.open = Some(id);
        }
        if dialled.is_some() {
            self.serials += 1;
            serial = self.serials;
        }
        let mut link = Link::new(id, dialled, serial, now);
        // What goes from now on would be unsaid.
        self.store.hold_floors(true);
        link.said = self.standing(now);
        link.say(&Frame::Hello(Hello {
            speech: self.speech(),
            policy: self.config.policy,
            cluster: &self.config.cluster,
            node: self.config.node,
            boot: self.config.boot,
            serial,
            clock_us: now.unix_micros(),
            latest: self.latest(),
            item_size_max: u32::try_from(self.config.item_size_max).unwrap_or(u32::MAX),
            state: self.state,
            flushes: self.store.flushes(),
            standing: link.said,
        }));
        self.links.insert(id, Box::new(link));
    }

    /// The other side says who it is.
    pub(super) fn greet(
        &mut self,
        link: &mut Link,
        hello: &Hello<'_>,
        now: Now,
    ) -> Result<(), Reason> {
        let agreed = match self.check(link, hello, now) {
            Ok(agreed) => agreed,
            Err(reason) => return Err(self.turn_down(link, reason)),
        };
        if let Some(log) = self.log() {
            log.observe(hello.latest);
        }
        self.store.merge_flushes(&hello.flushes);
        if let Some(peer) = link.dialled.and_then(|peer| self.peers.get_mut(&peer)) {
            self.removed.remove(&hello.node);
            peer.node = Some(hello.node);
            peer.last_error = None;
        }
        let dialler = if link.dialled.is_some() { self.config.boot } else { hello.boot };
        let met = Met {
            node: hello.node,
            boot: hello.boot,
            precedence: (dialler, Reverse(link.serial.max(hello.serial))),
            state: hello.state,
            body_max: body_max(hello.item_size_max.min(ITEM_MAX) as usize),
            standing: hello.standing,
            agreed,
        };
        self.settle_pair(&met, now)?;
        self.know(&met, now);
        link.met = Some(met);
        link.audit.due = now;
        let applied = self.resume_position(&met);
        link.coming.acked = applied.unwrap_or_default();
        link.say(&Frame::Start { applied });
        Ok(())
    }

    /// The other side has accepted us, too, and says how it goes on.
    pub(super) fn linked(&mut self, link: &mut Link, gives: Gives, now: Now) {
        if let Some(met) = link.met.filter(|_| !link.is_mutual) {
            link.is_mutual = true;
            let its = self.peers.values_mut().filter(|peer| peer.node == Some(met.node));
            its.for_each(|peer| peer.last_error = None);
            self.effects.push(Effect::Log(Line::Linked { node: met.node, gives }));
            self.seek_again(link, now);
        }
    }

    /// Who introduces himself so is no peer: he is told why.
    fn turn_down(&mut self, link: &mut Link, reason: Reason) -> Reason {
        if let Some(peer) = link.dialled.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.myself |= reason == Reason::Myself;
        }
        link.say(&Frame::Error { code: reason.number() });
        reason
    }

    /// What we can say, and what our settings require of peers.
    fn speech(&self) -> Speech {
        let required = if self.locks.is_some() { LOCKS } else { 0 };
        Speech { required: self.config.speech.required | required, ..self.config.speech }
    }

    fn check(&self, link: &Link, hello: &Hello<'_>, now: Now) -> Result<Agreed, Reason> {
        if hello.boot == self.config.boot {
            return Err(Reason::Myself);
        }
        if link.dialled.is_none() && self.removed.contains_key(&hello.node) {
            return Err(Reason::Removed);
        }
        if hello.cluster != self.config.cluster {
            return Err(Reason::Cluster);
        }
        let agreed = self.speech().agree(hello.speech)?;
        if hello.node == self.config.node {
            return Err(Reason::NodeClash);
        }
        if hello.policy != self.config.policy {
            return Err(Reason::LockPolicy);
        }
        let apart = hello.clock_us.abs_diff(now.unix_micros());
        if u128::from(apart) > self.config.max_clock_skew.as_micros() {
            return Err(Reason::ClockSkew(apart / 1_000_000));
        }
        self.check_version(hello.latest, now)?;
        self.check_flushes(&hello.flushes, now)?;
        let is_other = |met: Met| met.node == hello.node && met.boot != hello.boot;
        if self.links.values().any(|link| link.met.is_some_and(is_other)) {
            return Err(Reason::NodeTwice);
        }
        Ok(agreed)
    }

    /// One insane clock must not use up the versions of all.
    pub(super) fn check_version(&self, version: Version, now: Now) -> Result<(), Reason> {
        let latest = now.plus(self.config.max_clock_skew).unix_millis();
        if version.unix_millis() > latest && version > Version(0) {
            let ahead = version.unix_millis().saturating_sub(now.unix_millis());
            return Err(Reason::ClockFarAhead(ahead / 1_000));
        }
        Ok(())
    }

    pub(super) fn check_flushes(&self, flushes: &Flushes, now: Now) -> Result<(), Reason> {
        let pending = flushes.pending.as_ref().map(|pending| pending.version);
        self.check_version(flushes.watermark.max(pending.unwrap_or_default()), now)
    }

    /// Closes whichever of two connections of the pair does not stay.
    fn settle_pair(&mut self, met: &Met, now: Now) -> Result<(), Reason> {
        let is_same = |other: &Met| other.node == met.node && other.boot == met.boot;
        let mut others = self.links.values().filter_map(|link| Some((link.id, link.met?)));
        let Some((id, other)) = others.find(|(_, other)| is_same(other)) else { return Ok(()) };
        if other.precedence <= met.precedence {
            return Err(Reason::Duplicate);
        }
        self.close(id, Reason::Duplicate, now);
        Ok(())
    }

    /// Remembers the node, and from which version on its versions are of this run.
    fn know(&mut self, met: &Met, now: Now) {
        let since = self.latest();
        let node = self.nodes.entry(met.node).or_insert_with(|| Node {
            boot: met.boot,
            since,
            is_settled: false,
            applied: self.parted.remove(&met.node),
            acked: Version(0),
            owes_since: None,
            gone: None,
            together_since: None,
            expected_until: None,
            counts: Counts::default(),
        });
        let was_away = node.gone.take().is_some_and(|gone| now > gone.plus(LASTING));
        if was_away || node.boot != met.boot {
            node.together_since = None;
        }
        node.together_since.get_or_insert(now);
        if node.boot != met.boot {
            node.boot = met.boot;
            node.since = since;
            node.acked = Version(0);
            node.is_settled = false;
            self.stability.forget(met.node);
        }
    }

    /// Where the stream of this run may go on.
    fn resume_position(&self, met: &Met) -> Option<Version> {
        let (boot, version) = self.nodes.get(&met.node)?.applied?;
        let is_this_run = boot == met.boot || broken!(self, position_without_boot);
        is_this_run.then_some(version)
    }

    /// The other side says where our stream is to start.
    pub(super) fn start(&mut self, link: &mut Link, applied: Option<Version>, now: Now) {
        if self.judge(link, applied, now) {
            self.wiping = true;
            return;
        }
        let is_held = |version: Version| {
            self.log().is_some_and(|log| version >= log.forgotten()) && version <= self.latest()
        };
        link.going.must_tell = true;
        link.going.started = applied.unwrap_or_default();
        match applied {
            Some(version) if is_held(version) => {
                link.going.cursor = Some(version);
                link.going.acked = version;
                link.counts.resumes += 1;
                link.say(&Frame::Resume { from: version });
            }
            Some(version) => {
                link.going.acked = version;
                link.counts.scans_overrun += 1;
                self.begin_scan(link, true, now);
            }
            None => {
                link.counts.scans_boot += 1;
                self.begin_scan(link, true, now);
            }
        }
        self.settle_debt(link, now);
    }

    /// The other side's state has been heard.
    pub(super) fn hear_state(link: &mut Link, state: State) {
        if let Some(met) = &mut link.met {
            met.state = state;
        }
    }
}
