//! The step function: an event comes in, every link says what it can, and what follows for the
//! node as a whole is drawn at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::audit::Heard;
use super::config::{Boot, ReplicaConfig};
use super::event::{Effect, Event, Line, LinkId, PeerIndex, Reason, State};
use super::evidence::Gathered;
use super::inbound::ask_for_scan;
use super::link::{LASTING, Link};
use super::locks::{Execute, Locks};
use super::nodes::{Node, Peer};
use super::pause::{Pause, pause_noticed};
use super::ready::Loading;
use super::stream::{self, Scratch};
use crate::clock::Now;
use crate::limits::STANDSTILL_MAX;
use crate::store::{MutationLog, Stability, Store};
use crate::version::Version;

/// Turns of a link in one step, so that one event stays short.
const TURNS: u32 = 64;

/// A node's side of replication: events in, effects out.
#[derive(Debug)]
pub struct Replica {
    pub(super) config: ReplicaConfig,
    pub(super) store: Store,
    pub(super) stability: Arc<Stability>,
    pub(super) state: State,
    pub(super) peers: BTreeMap<PeerIndex, Peer>,
    pub(super) nodes: BTreeMap<u8, Node>,
    /// Nodes that an operator removed, and with which address: they may not dial us.
    pub(super) removed: BTreeMap<u8, String>,
    /// How much of whose stream we had applied when it ceased to be a member.
    pub(super) parted: BTreeMap<u8, (Boot, Version)>,
    pub(super) links: BTreeMap<LinkId, Box<Link>>,
    /// Effects of this step.
    pub(super) effects: Vec<Effect>,
    /// Our own versions later than this are of this run, once it is settled.
    pub(super) since: Version,
    /// The latest of our own versions that others had and we had not: of an earlier run, as a rule.
    pub(super) returned: Version,
    pub(super) is_settled: bool,
    pub(super) serials: u64,
    pub(super) random: u64,
    pub(super) loading: Loading,
    /// Everything is to be forgotten at the end of this step.
    pub(super) wiping: bool,
    pub(super) drain_until: Option<Now>,
    pub(super) pause: Option<Pause>,
    /// Nodes that may still lack something when we stop.
    pub(super) handing_to: BTreeSet<u8>,
    /// How many they were when we began to stop.
    pub(super) handing: usize,
    pub(super) last_event: Now,
    pub(super) next_purge: Now,
    /// Something of what we have is from peers.
    pub(super) is_given: bool,
    /// With nothing: whatever is written here is later.
    pub(super) began: Version,
    /// When a peer's record came last.
    pub(super) last_applied: Now,
    pub(super) acknowledged: (Version, Version, usize),
    /// Keys that we were asked for and had nothing of, and what was asked for.
    pub(super) wanted: BTreeMap<Vec<u8>, Version>,
    /// Losses that we were told of and have asked others about: key, and what is lost.
    pub(super) sought: BTreeMap<Vec<u8>, Version>,
    /// What we had heard a while ago.
    pub(super) heard: Heard,
    /// Claims that do not count yet.
    pub(super) gathered: Option<Gathered>,
    pub(super) totals: Totals,
    /// Exclusive locks, where there are any.
    pub(super) locks: Option<Box<Locks>>,
    pub(super) scratch: Scratch,
    /// Claims of connections that have ended.
    #[cfg(test)]
    pub(super) kept_claims: BTreeMap<u8, BTreeMap<u8, (super::Boot, Version)>>,
}

/// What is counted of the node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) refused: u64,
    pub(super) mismatch_repairs: u64,
    pub(super) ack_timeouts: u64,
    pub(super) stalls: u64,
    pub(super) pauses: u64,
    pub(super) bootstrapped_alone: bool,
    pub(super) conflicts: u64,
    pub(super) long_separations: u64,
    pub(super) wipes: u64,
}

impl Replica {
    /// A replica of `store`, which must have been built with replication and with this
    /// `stability`; it is LOADING.
    #[must_use]
    pub fn new(
        config: ReplicaConfig,
        store: Store,
        stability: Arc<Stability>,
        now: Now,
    ) -> Replica {
        if let Some(log) = store.mutations() {
            log.frame_with(stream::frame);
        }
        let addresses = (0..).map(PeerIndex).zip(&config.peers);
        let peers = addresses.map(|(peer, address)| (peer, Peer::new(address.clone(), now)));
        Replica {
            peers: peers.collect(),
            since: store.mutations().map(MutationLog::latest).unwrap_or_default(),
            returned: Version(0),
            is_settled: false,
            state: State::Loading,
            nodes: BTreeMap::new(),
            removed: BTreeMap::new(),
            parted: BTreeMap::new(),
            links: BTreeMap::new(),
            effects: Vec::new(),
            serials: 0,
            random: config.seed,
            loading: Loading::new(now, config.bootstrap_timeout),
            wiping: false,
            drain_until: None,
            pause: None,
            handing_to: BTreeSet::new(),
            handing: 0,
            last_event: now,
            next_purge: now,
            is_given: false,
            began: Version::floor_at(now),
            last_applied: now,
            acknowledged: (Version(0), Version(0), 0),
            wanted: BTreeMap::new(),
            sought: BTreeMap::new(),
            heard: Heard::nothing(now),
            gathered: None,
            totals: Totals::default(),
            locks: None,
            scratch: Scratch::default(),
            #[cfg(test)]
            kept_claims: BTreeMap::new(),
            config,
            store,
            stability,
        }
    }

    /// The same with exclusive locks, whose requests `executor` executes in `store`.
    #[must_use]
    pub fn with_locks(self, executor: Box<dyn Execute>) -> Replica {
        let locks = Locks::new(executor, self.config.ack_timeout);
        Replica { locks: Some(Box::new(locks)), ..self }
    }

    /// Takes one event and appends what is to be done.
    pub fn handle(&mut self, event: Event<'_>, now: Now, effects: &mut Vec<Effect>) {
        self.notice_standing(now);
        self.hold_floors();
        self.last_event = self.last_event.max(now);
        let at_leisure = matches!(event, Event::Leisure | Event::Tick);
        match event {
            Event::Opened { link, dialled } => self.opened(link, dialled, now),
            Event::Received { link, bytes } => self.received(link, bytes, now),
            Event::Closed { link } => {
                let reason = self.links.get(&link).map_or(Reason::Lost, |link| link.why_lost());
                self.drop_link(link, reason, now);
            }
            Event::DialFailed { peer, reason } => self.dial_failed(peer, reason, now),
            Event::Sendable { link } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.queued = 0;
                }
            }
            Event::Logged | Event::Leisure => {}
            Event::Tick => self.tick(now),
            Event::PeerAdded { peer, address } => self.add_peer(peer, address, now),
            Event::PeerRemoved { peer, refused } => self.remove_peer(peer, refused, now),
            Event::NodeForgotten { node } => self.forget_node(node, now),
            Event::Drain => self.drain(now),
            Event::LockAsked { id, key, request } => self.ask_lock(id, key, request, now),
        }
        if mem::take(&mut self.wiping) {
            self.wipe(now);
        }
        self.settle_locks(now);
        self.pump(at_leisure, now);
        self.settle_state(now);
        self.end_pause(now);
        self.acknowledge(now);
        self.hand_out();
        effects.append(&mut self.effects);
    }

    /// Whether the node may serve.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether there is more to be done at once: a driver then tells of leisure as soon as there is any.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.links.values().any(|link| link.is_busy())
    }

    /// Whether a scan goes on, in either direction, or a comparison: there is work for a long time, and
    /// nobody waits for any one piece of it.
    #[must_use]
    pub fn is_at_length(&self) -> bool {
        self.is_scanning() || self.links.values().any(|link| !link.sums.is_empty())
    }

    /// Whether a scan goes on, in either direction.
    #[must_use]
    pub fn is_scanning(&self) -> bool {
        self.links.values().any(|link| link.going.scan.is_some() || link.coming.scanning)
    }

    /// Whether somebody does not serve yet, we or a peer, and so is in a hurry.
    #[must_use]
    pub fn is_anybody_loading(&self) -> bool {
        self.state == State::Loading || self.met_links().any(|link| !link.is_serving())
    }

    /// Whether something is logged that a peer could be told, but for the time in which it gathers.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        let last = self.log_last();
        self.links.values().any(|link| link.lags_behind(last) && link.has_room())
    }

    /// Whether all that is logged and not sent has to wait: for an acknowledgement, or for room.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        let last = self.log_last();
        let mut behind = self.links.values().filter(|link| link.lags_behind(last)).peekable();
        let is_held = |link: &Link| !link.has_room() || link.is_awaiting(self.config.under_way_max);
        behind.peek().is_some() && behind.all(|link| is_held(link))
    }

    /// Gives back the room of what was to be sent on a connection.
    pub fn recycle(&mut self, link: LinkId, mut room: Vec<u8>) {
        room.clear();
        let link = self.links.get_mut(&link).filter(|link| link.out.is_empty());
        if let Some(link) = link.filter(|link| link.out.capacity() < room.capacity()) {
            link.out = room;
        }
    }

    /// The log of our own mutations; without one there is nothing to replicate.
    pub(super) fn log(&self) -> Option<&MutationLog> {
        self.store.mutations()
    }

    /// The version of our last mutation.
    pub(super) fn log_last(&self) -> Version {
        self.log().map(MutationLog::last).unwrap_or_default()
    }

    /// The latest version known here.
    pub(super) fn latest(&self) -> Version {
        self.log().map(MutationLog::latest).unwrap_or_default()
    }

    /// Time has passed.
    fn tick(&mut self, now: Now) {
        if now >= self.next_purge {
            self.next_purge = now.plus(Duration::from_millis(100));
            self.store.purge_floors(now);
            self.gather_evidence(now);
        }
        self.find_silent(now);
        self.find_slow(now);
        self.note_debts(now);
        self.say_all_applied(now);
        self.beat(now);
        self.doubt_who_lags(now);
        self.audit(now);
        self.dial(now);
        self.tell_of_loading(now);
    }

    /// Lets every link say what it has to say, in turns, as far as there is room. What takes long goes on
    /// at leisure only, by a step of some 0.1 ms: an acknowledgement that clients wait for is in many an
    /// event, and must not wait for that.
    fn pump(&mut self, at_leisure: bool, now: Now) {
        let last = self.log_last();
        let talkative = self.links.values().filter(|link| link.has_to_say(last));
        let ids: Vec<LinkId> = talkative.map(|link| link.id).collect();
        for id in ids {
            let Some(mut link) = self.links.remove(&id) else { continue };
            let mut turns = 0;
            while link.has_room() && turns < TURNS {
                let streamed = self.stream_batch(&mut link, now);
                let answered = self.answer_need(&mut link, now);
                if !(streamed || answered) {
                    break;
                }
                turns += 1;
            }
            self.end_scan(&mut link);
            if at_leisure {
                self.go_on(&mut link, now);
            }
            self.links.insert(id, link);
        }
        self.scratch.forget_read();
    }

    /// Goes on with the first thing that takes long.
    fn go_on(&mut self, link: &mut Link, now: Now) {
        let summed = self.sum_step(link, now);
        if !summed && link.has_room_to_scan() && !self.list_step(link, now) {
            self.scan_step(link, now);
        }
    }

    /// What the links said becomes effects.
    fn hand_out(&mut self) {
        for link in self.links.values_mut().filter(|link| !link.out.is_empty()) {
            let bytes = mem::take(&mut link.out);
            link.queued += bytes.len();
            link.counts.sent_bytes += bytes.len() as u64;
            self.effects.push(Effect::Send { link: link.id, bytes });
        }
    }

    /// Closes a connection, with what it has been told before.
    pub(super) fn close(&mut self, id: LinkId, reason: Reason, now: Now) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let bytes = mem::take(&mut link.out);
        if !bytes.is_empty() {
            self.effects.push(Effect::Send { link: id, bytes });
        }
        self.effects.push(Effect::Close { link: id, reason });
        self.drop_link(id, reason, now);
    }

    /// A connection is gone, and with it all that was known by it alone.
    fn drop_link(&mut self, id: LinkId, reason: Reason, now: Now) {
        let Some(link) = self.links.remove(&id) else { return };
        self.gathered = None;
        if let Some(peer) = link.dialled.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.open = None;
            peer.tried = true;
            peer.last_error = Some(reason);
        }
        let node = link.met.map_or(0, |met| met.node);
        self.effects.push(Effect::Log(Line::Unlinked { link: id, node, reason }));
        let last = self.log_last();
        if let Some(known) = self.nodes.get_mut(&node) {
            known.counts.add(&link.counts);
            let owes = link.owes_since().filter(|_| link.going.acked < last);
            known.owes_since = known.owes_since.or(owes);
        }
        if link.in_sync && matches!(reason, Reason::Lost | Reason::Duplicate) {
            self.expect_return(node, now);
        }
        self.schedule_dial(&link, reason, now);
        if link.met.is_none() || reason == Reason::Duplicate {
            return;
        }
        if reason == Reason::Silent {
            self.ask_no_more(node);
        }
        if matches!(reason, Reason::Goodbye | Reason::Removed) {
            self.handing_to.remove(&node);
        }
        if let Some(known) = self.nodes.get_mut(&node) {
            known.gone = Some(now);
            if reason != Reason::Lost || now > link.heard.plus(LASTING) {
                known.together_since = None;
            }
            known.acked = known.acked.max(link.going.acked);
            known.counts.link_downs += 1;
            known.counts.last_error = Some(reason);
        }
        // It may have told some of us what it did not tell others.
        for other in self.links.values_mut() {
            other.audit.doubt(now);
            // Before we may serve, others tell us what it told them.
            if self.state == State::Loading && other.met.is_some() {
                ask_for_scan(other);
            }
        }
    }

    /// Whether we stood still since the last event, and for how long.
    fn notice_standing(&mut self, now: Now) {
        let stood_us = now.unix_micros().saturating_sub(self.last_event.unix_micros());
        let stood = Duration::from_micros(stood_us);
        if self.config.self_fence && stood > STANDSTILL_MAX {
            self.stalled(now);
        } else if self.config.self_fence && stood > pause_noticed(self.config.ack_timeout) {
            self.woke(stood, now);
        }
    }

    /// We stood still: others have gone on without us.
    fn stalled(&mut self, now: Now) {
        let millis = now.unix_millis() - self.last_event.unix_millis();
        self.totals.stalls += 1;
        self.effects.push(Effect::Log(Line::Stalled { millis }));
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(id, Reason::Stalled, now));
        self.fence(now);
    }

    /// A number below `below`, from the seed.
    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }
}
