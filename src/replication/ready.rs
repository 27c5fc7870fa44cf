//! Whether the node may serve: LOADING, READY, DRAINING.
//!
//! A node that begins, or has stood still, is LOADING until it has what its peers have that serve; no
//! client may be answered from less. Where nobody is READY, as when all nodes are switched on
//! together, they become READY when all of them have met and exchanged what they have, at once if
//! that is nothing. A node that meets nobody serves alone after the bootstrap-timeout, and says so.
//!
//! To have a peer's stream is not to have what it has: a third node may have told it something and
//! died, or cannot reach us. So a peer's stream alone is enough only if everybody's goes on where
//! it was; else the peer scans us. If somebody is missing, it does so after we have looked for
//! everybody: whoever comes later tells us himself. That a connection is open says nothing about its
//! other end: whom we were connected with before we stood still must have been heard since.
//!
//! Whoever has stood still looks for others no longer than it takes to hear from their machines that they
//! are not there: they have forgotten everything. A node that begins waits for them, for they may begin
//! with it.
//!
//! Nor is it enough to have everything: as long as peers do not wait for us, they go on to answer clients
//! who may ask us next. So whoever has everything waits to be waited for, but not for long; and for so
//! long it gives whoever is connected, but not introduced, the time to say who it is and what it has.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::Boot;
use super::event::{Amount, Effect, Line, LinkId, Reason, State};
use super::inbound::ask_for_scan;
use super::link::{Link, Met};
use super::nodes::Peer;
use super::pulse::SILENCE_MAX;
use super::replica::Replica;
use super::wire::Frame;
use crate::clock::Now;

/// A first attempt to meet everybody may take this long.
const MEETING_MAX: Duration = Duration::from_millis(1500);

/// Who begins anew before it is missed is taken for a second node with its number, until the last run has
/// been silent for too long. So long it may take to be let in.
const TAKEN_FOR_ANOTHER_MAX: Duration = Duration::from_secs(3);

/// After having stood still nobody is looked for longer than this.
const FENCED_MAX: Duration = Duration::from_secs(2);

/// Who has everything waits for so long to be waited for, and to be met.
const SHARED_MAX: Duration = Duration::from_secs(1);

/// Between two lines that tell how loading goes.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How long handing over may take at the end.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How loading goes.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    since: Now,
    /// For how long we look for others at most.
    longest: Option<Duration>,
    /// When a first attempt to meet everybody had come to an end.
    met: Option<Now>,
    /// When all that serve had told us what they have.
    told: Option<Now>,
    /// After having stood still: whose streams we knew, in which runs. What an earlier run told
    /// others meanwhile is not in the stream of the next.
    knew: Option<BTreeMap<u8, Boot>>,
    /// What scans that have ended brought.
    got: Amount,
    /// What the peer that has most said it has.
    of: Amount,
    /// When to tell how it goes.
    next_line: Now,
}

impl Loading {
    pub(super) fn new(since: Now, longest: Option<Duration>) -> Loading {
        Loading {
            since,
            longest,
            met: None,
            told: None,
            knew: None,
            got: Amount::default(),
            of: Amount::default(),
            next_line: since.plus(TELL_EVERY),
        }
    }
}

impl Replica {
    /// We may have missed what others know.
    pub(super) fn fence(&mut self, now: Now) {
        if self.state == State::Ready {
            let longest = self.config.bootstrap_timeout.map(|longest| longest.min(FENCED_MAX));
            let knew = self.nodes.iter().map(|(node, known)| (*node, known.boot)).collect();
            self.loading = Loading { knew: Some(knew), ..Loading::new(now, longest) };
            self.peers.values_mut().for_each(|peer| peer.tried = false);
            self.set_state(State::Loading, now);
            self.ask_all(now);
        }
    }

    pub(super) fn drain(&mut self, now: Now) {
        if self.drain_until.is_none() {
            self.drain_until = Some(now.plus(DRAIN_MAX));
            let nodes = self.met_links().filter_map(|link| link.met.map(|met| met.node));
            self.handing_to = nodes.collect();
            self.handing = self.handing_to.len();
            self.effects.push(Effect::Log(Line::Draining { peers: self.handing }));
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
            let got = self.loaded().0;
            if got.items > 0 {
                let millis = now.unix_millis().saturating_sub(self.loading.since.unix_millis());
                self.effects.push(Effect::Log(Line::Loaded { got, millis }));
            }
            self.set_state(State::Ready, now);
        }
    }

    /// What has come since the latest loading began, and what the peer that has most said it has.
    pub(super) fn loaded(&self) -> (Amount, Amount) {
        let Loading { mut got, mut of, .. } = self.loading;
        if self.state == State::Loading {
            for link in self.links.values().filter(|link| link.coming.scanning) {
                got.add(link.coming.got);
                of = of.max(link.coming.holds);
            }
        }
        (got, of)
    }

    /// A peer has sent us all that we lacked.
    pub(super) fn count_loaded(&mut self, link: &Link) {
        if self.state == State::Loading {
            self.loading.got.add(link.coming.got);
            self.loading.of = self.loading.of.max(link.coming.holds);
        }
    }

    /// Says now and then how loading goes, if it goes.
    pub(super) fn tell_of_loading(&mut self, now: Now) {
        if self.state == State::Loading && now >= self.loading.next_line {
            self.loading.next_line = now.plus(TELL_EVERY);
            let (got, of) = self.loaded();
            if of.items > 0 {
                self.effects.push(Effect::Log(Line::Loading { got, of }));
            }
        }
    }

    pub(super) fn set_state(&mut self, state: State, now: Now) {
        self.state = state;
        self.effects.push(Effect::State(state));
        self.beat_soon(now);
    }

    fn is_loaded(&mut self, now: Now) -> bool {
        let Loading { since, longest, .. } = self.loading;
        let linked = |peer: &Peer| peer.node.is_some_and(|node| self.is_linked(node));
        let has_stood_still = self.loading.knew.is_some();
        let is_gone = |peer: &Peer| {
            has_stood_still && peer.tried && peer.last_error == Some(Reason::NotThere)
        };
        let others = || self.peers.values().filter(|peer| !peer.myself);
        let is_tried = others().all(|peer| peer.tried || linked(peer));
        let twice = Some(Reason::Refused(Reason::NodeTwice.number()));
        let is_taken_for_another = others().any(|peer| peer.last_error == twice && !linked(peer));
        if (!is_tried && now < since.plus(MEETING_MAX))
            || (is_taken_for_another && now < since.plus(TAKEN_FOR_ANOTHER_MAX))
        {
            return false;
        }
        let is_anybody = self.met_links().next().is_some() || others().any(is_gone);
        let is_everybody = is_anybody && others().all(|peer| linked(peer) || is_gone(peer));
        self.loading.met.get_or_insert(now);
        if self.met_links().any(Link::is_serving) {
            let is_heard = |link: &Link| link.opened > since || link.is_level(since.unix_micros());
            let has_told = |link: &Link| link.is_loaded() && is_heard(link);
            let is_all = self.met_links().all(|link| !link.is_serving() || has_told(link));
            let is_told = is_all && !self.asks_again(now);
            // Whoever comes later, and tells us more, is waited for as well.
            self.loading.told = self.loading.told.filter(|_| is_told);
            return is_told && self.is_shared(now);
        }
        if !self.met_links().all(Link::is_loaded) {
            return false;
        }
        let is_over = |longest: Duration| {
            let until = since.plus(longest);
            now >= until && (!self.is_meeting() || now >= until.plus(SILENCE_MAX))
        };
        let is_late = longest.is_some_and(is_over);
        let has_no_peers = self.peers.values().all(|peer| peer.myself);
        let is_alone = has_no_peers && now >= since.plus(MEETING_MAX);
        if is_late && self.met_links().next().is_none() && !self.totals.bootstrapped_alone {
            self.totals.bootstrapped_alone = true;
            self.effects.push(Effect::Log(Line::BootstrappedAlone));
        }
        is_everybody || is_late || is_alone
    }

    /// Whether we and those who serve wait for each other: otherwise they may go on to answer clients
    /// who find the answer unknown here, and the other way round. Whom we are too slow for does not wait
    /// for us in any case.
    fn is_shared(&mut self, now: Now) -> bool {
        let until = self.loading.told.get_or_insert(now).plus(SHARED_MAX);
        let are_shared = || self.met_links().filter(|link| link.is_serving()).all(Link::is_shared);
        now >= until || (!self.is_meeting() && are_shared())
    }

    /// Whether somebody is connected and not introduced.
    fn is_meeting(&self) -> bool {
        self.links.values().any(|link| link.met.is_none())
    }

    /// Asks peers that serve for a scan, where what we have from them is not all they have.
    fn asks_again(&mut self, now: Now) -> bool {
        let members = self.members(now);
        let are = |is: &dyn Fn(&Link) -> bool| {
            let all =
                |members: &Vec<u8>| members.iter().all(|node| self.link_of(*node).is_some_and(is));
            members.as_ref().is_some_and(all)
        };
        // Who begins knew nobody: what third nodes told a peer between two connections is in neither.
        let knew = self.loading.knew.as_ref();
        let is_known = |met: Met| knew.is_some_and(|knew| knew.get(&met.node) == Some(&met.boot));
        if are(&|link| link.is_resumed() && link.met.is_some_and(is_known)) {
            return false;
        }
        let looked = self.loading.met.filter(|_| !are(&|_| true));
        let mut asks = false;
        for link in self.links.values_mut().filter(|link| link.is_serving()) {
            let is_late = |scanned: Now| looked.is_none_or(|looked| scanned >= looked);
            if !link.coming.scanned.is_some_and(is_late) {
                ask_for_scan(link);
                asks = true;
            }
        }
        asks
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
        if self.handing > 0 {
            self.effects.push(Effect::Log(Line::Drained { all: is_over }));
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
        self.links.values().map(|link| &**link).filter(|link| link.met.is_some())
    }
}
