//! Whether the node may serve: LOADING, READY, DRAINING.
//!
//! A node that begins, or has stood still, is LOADING until it has what its peers have that serve; no
//! client may be answered from less. Where nobody is READY, as when all nodes are switched on
//! together, they become READY when all of them have met and exchanged what they have, at once if
//! that is nothing. A node that meets nobody serves alone after the bootstrap-timeout, and says so.

use std::time::Duration;

use super::event::{Effect, Line, LinkId, Reason, State};
use super::link::Link;
use super::replica::Replica;
use super::wire::Frame;
use crate::clock::Now;

/// A first attempt to meet everybody may take this long.
const MEETING_MAX: Duration = Duration::from_millis(1500);

/// After having stood still nobody is looked for longer than this.
const FENCED_MAX: Duration = Duration::from_secs(2);

/// How long handing over may take at the end.
const DRAIN_MAX: Duration = Duration::from_secs(10);

impl Replica {
    /// We may have missed what others know.
    pub(super) fn fence(&mut self, now: Now) {
        if self.state == State::Ready {
            let longest = self.config.bootstrap_timeout.map(|longest| longest.min(FENCED_MAX));
            self.loading = (now, longest);
            self.peers.values_mut().for_each(|peer| peer.tried = false);
            self.set_state(State::Loading, now);
        }
    }

    pub(super) fn drain(&mut self, now: Now) {
        if self.drain_until.is_none() {
            self.drain_until = Some(now.plus(DRAIN_MAX));
            let nodes = self.met_links().filter_map(|link| link.met.map(|met| met.node));
            self.handing_to = nodes.collect();
            self.set_state(State::Draining, now);
        }
    }

    pub(super) fn settle_state(&mut self, now: Now) {
        match self.state {
            State::Loading => self.end_loading(now),
            State::Draining => self.end_drain(now),
            State::Ready | State::Drained => {}
        }
    }

    fn end_loading(&mut self, now: Now) {
        if self.is_loaded(now) {
            self.since = self.since.max(self.latest());
            self.set_state(State::Ready, now);
        }
    }

    fn set_state(&mut self, state: State, now: Now) {
        self.state = state;
        self.effects.push(Effect::State(state));
        self.beat_soon(now);
    }

    fn is_loaded(&mut self, now: Now) -> bool {
        let (since, longest) = self.loading;
        let mut others = self.peers.values().filter(|peer| !peer.myself);
        let linked = |node: Option<u8>| node.is_some_and(|node| self.is_linked(node));
        let is_tried = others.all(|peer| peer.tried || linked(peer.node));
        if !is_tried && now < since.plus(MEETING_MAX) {
            return false;
        }
        let met = || self.links.values().filter(|link| link.met.is_some());
        let is_ready = |link: &&Link| link.met.is_some_and(|met| met.state != State::Loading);
        if met().any(|link| is_ready(&link)) {
            return met().filter(is_ready).all(Link::is_loaded);
        }
        if !met().all(Link::is_loaded) {
            return false;
        }
        let mut others = self.peers.values().filter(|peer| !peer.myself);
        let is_everybody = others.all(|peer| linked(peer.node)) && met().next().is_some();
        let is_late = longest.is_some_and(|longest| now >= since.plus(longest));
        let has_no_peers = self.peers.values().all(|peer| peer.myself);
        let is_alone = has_no_peers && now >= since.plus(MEETING_MAX);
        if is_late && met().next().is_none() && !self.totals.bootstrapped_alone {
            self.totals.bootstrapped_alone = true;
            self.effects.push(Effect::Log(Line::BootstrappedAlone));
        }
        is_everybody || is_late || is_alone
    }

    fn end_drain(&mut self, now: Now) {
        let last = self.log_last();
        let mut is_told = true;
        for link in self.links.values() {
            let Some(met) = link.met else { continue };
            if link.going.acked >= last {
                self.handing_to.remove(&met.node);
            } else {
                is_told = false;
            }
        }
        let is_over = is_told && self.handing_to.is_empty();
        if !is_over && self.drain_until.is_none_or(|until| now < until) {
            return;
        }
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            if let Some(link) = self.links.get_mut(&id).filter(|link| link.met.is_some()) {
                link.say(&Frame::Goodbye);
            }
            self.close(id, Reason::Goodbye, now);
        }
        self.state = State::Drained;
        self.effects.push(Effect::State(State::Drained));
    }

    pub(super) fn met_links(&self) -> impl Iterator<Item = &Link> {
        self.links.values().filter(|link| link.met.is_some())
    }
}
