//! The world in which a history happens: a queue of happenings in virtual time, and what they do
//! to nodes and wires.
//!
//! Nothing here reads a clock or waits. The next happening is taken from the queue, time jumps to
//! it, and what the replicas want done becomes later happenings.
//!
//! What is NOT here: what clients do ([`super::clients`]) and what must hold ([`super::audit`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ablations::Ablation;
use super::cluster::{Life, Node, Nursery, TICK_US, clock_at};
use super::ledger::{Held, Ledger};
use super::members::{first_peers, others_than};
use super::network::{Network, Wire};
use super::plan::{NodeIndex, What};
use super::rng::Rng;
use super::settings::Setting;
use super::trace::Trace;
use super::wiring::wire_of;
use crate::clock::Now;
use crate::replication::{Effect, Event, Line, LinkId, PeerIndex, Reason, State};
use crate::version::Version;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Planned(What),
    Tick {
        node: NodeIndex,
        life: u64,
    },
    Arrival {
        wire: Wire,
        node: NodeIndex,
    },
    /// A dial has been answered, or not.
    Answer {
        node: NodeIndex,
        life: u64,
        peer: PeerIndex,
        since: u64,
    },
    NoAnswer {
        node: NodeIndex,
        life: u64,
        peer: PeerIndex,
        why: Reason,
    },
    Writable {
        wire: Wire,
        node: NodeIndex,
    },
    Audit,
}

pub(super) struct World {
    pub(super) setting: Setting,
    pub(super) now_us: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    queued: u64,
    pub(super) network: Network,
    pub(super) nodes: Vec<Node>,
    /// How far the fastest clock is ahead; clocks are only ever set back.
    fastest_us: i64,
    pub(super) ledger: Ledger,
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) nursery: Nursery,
    pub(super) kills: u64,
    /// The latest floor that lives which are over let go before every peer knew, and said so.
    pub(super) purged_to: Version,
    /// What was gone by then may be back with a node that was added again.
    pub(super) added_at: Version,
    pub(super) repairs: u64,
    /// The first rule found broken.
    pub(super) violation: Option<String>,
    /// For each wire whether the end (dialler, dialled) waits to be writable.
    pub(super) waiting: Vec<[bool; 2]>,
    effects: Vec<Effect>,
}

impl World {
    pub(super) fn new(setting: &Setting, seed: u64, ablation: Ablation, told: bool) -> World {
        let mut rng = Rng::branch(seed, 2);
        let skew_us = |rng: &mut Rng| {
            let most = i64::try_from(setting.skew * 1_000).unwrap_or(0);
            i64::try_from(rng.below(2 * setting.skew * 1_000 + 1)).unwrap_or(0) - most
        };
        let nodes: Vec<Node> = (0..setting.nodes)
            .map(|node| Node {
                peers: first_peers(setting, node),
                life: None,
                is_frozen: false,
                is_dark: false,
                skew_us: skew_us(&mut rng),
            })
            .collect();
        let mut world = World {
            setting: *setting,
            now_us: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            network: Network::new(setting.nodes, setting.delay, Rng::branch(seed, 3)),
            fastest_us: nodes.iter().map(|node| node.skew_us).max().unwrap_or(0),
            nodes,
            ledger: Ledger::default(),
            rng,
            trace: Trace::new(told),
            nursery: Nursery::new(seed, ablation),
            kills: 0,
            purged_to: Version(0),
            added_at: Version(0),
            repairs: 0,
            violation: None,
            waiting: Vec::new(),
            effects: Vec::new(),
        };
        for node in 0..setting.nodes - usize::from(setting.joins) {
            world.start(node);
        }
        world.later(50_000, Happening::Audit);
        world
    }

    /// Something happens `delay_us` from now.
    pub(super) fn later(&mut self, delay_us: u64, happening: Happening) {
        self.at(self.now_us + delay_us, happening);
    }

    /// Something happens at `time_us`; what is put in first happens first.
    pub(super) fn at(&mut self, time_us: u64, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse((time_us, self.queued, happening)));
    }

    /// Lets time pass until `time_us`, or until a rule is broken.
    pub(super) fn run_until(&mut self, time_us: u64) {
        while self.violation.is_none() {
            match self.queue.peek() {
                Some(Reverse((at, _, _))) if *at <= time_us => {}
                _ => break,
            }
            if let Some(Reverse((at, _, happening))) = self.queue.pop() {
                self.now_us = at;
                self.happen(happening);
            }
        }
        self.now_us = self.now_us.max(time_us);
    }

    pub(super) fn now_of(&self, node: NodeIndex) -> Now {
        self.nodes[node].clock(self.now_us)
    }

    /// The latest that any clock has shown.
    pub(super) fn fastest(&self) -> Now {
        clock_at(self.now_us, self.fastest_us)
    }

    pub(super) fn violate(&mut self, what: String) {
        self.trace.tell(self.now_us, || format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Planned(what) => self.planned(what),
            Happening::Tick { node, life } => {
                if self.is_alive(node, life) {
                    self.later(TICK_US, Happening::Tick { node, life });
                    self.tell(node, Event::Tick);
                }
            }
            Happening::Arrival { wire, node } => self.arrival(wire, node),
            Happening::Answer { node, life, peer, since } => self.answer(node, life, peer, since),
            Happening::NoAnswer { node, life, peer, why: reason } => {
                if self.nodes[node].is_frozen {
                    self.later(TICK_US, happening);
                } else if self.is_alive(node, life) {
                    self.tell(node, Event::DialFailed { peer, reason });
                }
            }
            Happening::Writable { wire, node } => {
                if self.nodes[node].is_frozen {
                    self.later(TICK_US, happening);
                } else if self.network.is_open(wire, node) {
                    self.tell(node, Event::Sendable { link: LinkId(wire as u64) });
                }
            }
            Happening::Audit => {
                self.audit();
                self.later(100_000, Happening::Audit);
            }
        }
    }

    fn planned(&mut self, what: What) {
        if !matches!(what, What::Client { .. }) {
            self.trace.tell(self.now_us, || format!("{what:?}"));
        }
        match what {
            What::Client { node, key, op } => self.client(node, key, op),
            What::Cut { from, to } => self.network.set_cut(from, to, true),
            What::CutOff { node } => self.cut_off(node, true),
            What::Rejoin { node } => self.cut_off(node, false),
            What::Heal { from, to } => {
                self.network.set_cut(from, to, false);
                self.look_at_wires(to);
            }
            What::Reset { one, other } => self.reset(one, other),
            What::Kill { node, quietly } => self.kill(node, quietly),
            What::Start { node } => self.start(node),
            What::Step { node, back } => {
                if self.nodes[node].life.is_none() {
                    self.nodes[node].skew_us -= i64::try_from(back * 1_000).unwrap_or(0);
                }
            }
            What::Freeze { node } => self.nodes[node].is_frozen = true,
            What::Thaw { node } => self.thaw(node),
            What::Remove { node, peer } => self.remove(node, peer),
            What::Add { node, peer } => self.add(node, peer),
            What::Evict { node, key } => self.evict(node, key),
            What::Hearsay { from, to } => self.hearsay(from, to),
        }
    }

    fn cut_off(&mut self, node: NodeIndex, cut: bool) {
        for other in others_than(node, self.setting.nodes) {
            self.network.set_cut(node, other, cut);
            self.network.set_cut(other, node, cut);
            self.look_at_wires(other);
        }
        self.look_at_wires(node);
    }

    pub(super) fn is_alive(&self, node: NodeIndex, life: u64) -> bool {
        self.nodes[node].life.as_ref().is_some_and(|now| now.serial == life)
    }

    /// Tells a node's replica, and does what it wants done; whoever is busy has leisure afterwards.
    pub(super) fn tell(&mut self, node: NodeIndex, event: Event<'_>) {
        self.tell_once(node, event);
        if self.nodes[node].running().is_some_and(|life| life.replica.is_busy()) {
            self.tell_once(node, Event::Leisure);
        }
    }

    fn tell_once(&mut self, node: NodeIndex, event: Event<'_>) {
        let now = self.now_of(node);
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(life) = self.nodes[node].running() {
            life.is_dirty |= matches!(event, Event::Received { .. });
            life.replica.handle(event, now, &mut effects);
        }
        for effect in effects.drain(..) {
            self.effect(node, effect);
        }
        self.effects = effects;
    }

    fn effect(&mut self, node: NodeIndex, effect: Effect) {
        match effect {
            Effect::Send { link, bytes } => self.send(node, wire_of(link), bytes),
            Effect::Close { link, reason } => {
                self.trace.tell(self.now_us, || format!("n{node} closes {}: {reason:?}", link.0));
                self.close(node, wire_of(link));
            }
            Effect::Dial { peer } => self.dial(node, peer),
            Effect::Acknowledged { one, all, in_sync } => {
                self.trace.fold(one.0 ^ all.0.rotate_left(7));
                self.acknowledged(node, one, all, in_sync);
            }
            Effect::State(state) => self.entered(node, state),
            Effect::LockAnswer { .. } => panic!("no history has exclusive locks"),
            Effect::Log(line) => self.said(node, &line),
        }
    }

    fn said(&mut self, node: NodeIndex, line: &Line) {
        self.trace.tell(self.now_us, || format!("n{node} says {line:?}"));
        if let (Line::BootstrappedAlone, Some(life)) = (line, &mut self.nodes[node].life) {
            life.is_alone = true;
        }
        if let Line::Linked { node: peer, .. } = line {
            self.linked(node, NodeIndex::from(*peer) - 1);
        }
        if matches!(line, Line::Wiped { .. }) && self.setting.wipes {
            self.wiped(node);
        }
    }

    /// Its memory is lost as if it had been killed, and so are those who waited for answers.
    fn wiped(&mut self, node: NodeIndex) {
        let Some(life) = &mut self.nodes[node].life else { return };
        life.held.fill(Held::default());
        life.unacknowledged.clear();
        self.kills += 1;
    }

    pub(super) fn kill(&mut self, node: NodeIndex, quietly: bool) {
        self.look_at_lists();
        let Some(life) = self.nodes[node].life.take() else { return };
        self.bury(&life, self.now_of(node));
        self.kills += 1;
        self.nodes[node].is_frozen = false;
        self.nodes[node].is_dark = quietly;
        for wire in self.network.open_at(node) {
            if quietly {
                self.network.vanish(wire, node);
            } else {
                self.close(node, wire);
            }
        }
    }

    /// What a life has counted is not forgotten with it.
    fn bury(&mut self, life: &Life, now: Now) {
        self.purged_to = self.purged_to.max(life.store.floor_counters().purged_to);
        self.repairs += life.replica.status(now).digest_mismatch_repairs;
    }

    pub(super) fn start(&mut self, node: NodeIndex) {
        if self.nodes[node].life.is_some() {
            return;
        }
        let now = self.now_of(node);
        let addresses = self.nodes[node].peers.iter().copied().collect();
        let life = self.nursery.start(&self.setting, node, addresses, now);
        let serial = life.serial;
        self.nodes[node].life = Some(life);
        self.nodes[node].is_dark = false;
        let first = self.rng.below(TICK_US);
        self.later(first, Happening::Tick { node, life: serial });
    }

    pub(super) fn thaw(&mut self, node: NodeIndex) {
        if std::mem::replace(&mut self.nodes[node].is_frozen, false) {
            self.look_at_wires(node);
        }
    }

    fn entered(&mut self, node: NodeIndex, state: State) {
        self.trace.tell(self.now_us, || format!("n{node} is {state:?}"));
        if let Some(life) = &mut self.nodes[node].life {
            life.state = state;
        }
        if state == State::Ready {
            self.check_readiness(node);
        }
    }

    /// All faults end.
    pub(super) fn heal(&mut self) {
        self.trace.tell(self.now_us, || "all faults end".to_owned());
        let nodes = 0..self.setting.nodes;
        for (from, to) in nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to))) {
            self.network.set_cut(from, to, false);
        }
        for node in nodes {
            self.start(node);
            self.nodes[node].is_frozen = false;
            self.look_at_wires(node);
        }
        self.add_everybody();
    }
}
