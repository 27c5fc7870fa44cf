//! Nodes and wires in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::clients::{Clerk, Clients};
use crate::clock::Now;
use crate::item::SizeClasses;
use crate::replication::config::{Boot, Broken};
use crate::replication::event::{Effect, Event, LinkId, PeerIndex, Reason, State};
use crate::replication::{Replica, ReplicaConfig};
use crate::settings::ACK_TIMEOUT;
use crate::store::{Replicated, Store, StoreConfig};
use crate::watch::Watch;

const TICK_US: u64 = 10_000;
const END_US: u64 = 5_000_000;
const LASTING_US: u64 = 1_200_000;

/// How late everything is on a slow wire.
const SLOW_US: u64 = 60_000;

/// Dice.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 77)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

/// What came of a history.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) won: u64,
    pub(super) refused: u64,
    pub(super) forwarded: u64,
    pub(super) retried: u64,
    pub(super) known_again: u64,
    pub(super) doubtful: u64,
    /// Times that nobody had the lock and nobody got it, for whatever reason.
    pub(super) stuck: u64,
    pub(super) kills: u64,
    pub(super) resets: u64,
    pub(super) freezes: u64,
    pub(super) longest_us: u64,
    pub(super) violation: Option<String>,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Outcome) {
        self.won += other.won;
        self.refused += other.refused;
        self.forwarded += other.forwarded;
        self.retried += other.retried;
        self.known_again += other.known_again;
        self.doubtful += other.doubtful;
        self.stuck += other.stuck;
        self.kills += other.kills;
        self.resets += other.resets;
        self.freezes += other.freezes;
        self.longest_us = self.longest_us.max(other.longest_us);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Tick { node: usize, life: u64 },
    Arrival { wire: u64, to: usize },
    Dialled { from: usize, life: u64, to: usize },
    Client(usize),
    Fault,
    Restart(usize),
    Thaw(usize),
}

/// A connection: what is on its way to each end, and whether that end has been told that it ended.
#[derive(Debug)]
struct Wire {
    ends: [usize; 2],
    coming: [VecDeque<Option<Vec<u8>>>; 2],
    last_us: [u64; 2],
    over: [bool; 2],
    since_us: u64,
}

pub(super) struct Node {
    pub(super) replica: Option<Replica>,
    pub(super) store: Option<Store>,
    pub(super) life: u64,
    pub(super) is_frozen: bool,
    /// What happened to it while it stood still.
    backlog: Vec<Happening>,
    /// Wires on which it has said something since it last heard that there is room.
    sent: BTreeSet<u64>,
    skew_us: u64,
}

pub(super) struct World {
    pub(super) now_us: u64,
    pub(super) dice: Dice,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Clients,
    pub(super) outcome: Outcome,
    pub(super) is_told: bool,
    broken: Broken,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    queued: u64,
    wires: BTreeMap<u64, Wire>,
    delay_us: u64,
    /// Which wires, by their ends, are slow for what one end says.
    pub(super) is_slow: fn([usize; 2], usize) -> bool,
    /// What one node says to another is late until then.
    late: (usize, usize, u64),
    /// For how long what a node has logged waits for more before it is sent; for nodes that start.
    pub(super) gather: Duration,
    /// For how long whoever writes waits for an acknowledgement; for nodes that start.
    pub(super) ack_timeout: Duration,
    /// Nothing happens by itself: a script says what clients do and which nodes die.
    is_scripted: bool,
    quiet_since: u64,
}

impl World {
    pub(super) fn new(seed: u64, broken: Broken) -> World {
        let mut dice = Dice::of(seed);
        let count = 2 + usize::try_from(dice.below(2)).unwrap_or(0);
        let mut world = World::quiet(dice, count, broken);
        for client in 0..world.clients.count() {
            let at_us = world.dice.below(20_000);
            world.later(at_us, Happening::Client(client));
        }
        let first_us = 200_000 + world.dice.below(300_000);
        world.later(first_us, Happening::Fault);
        world
    }

    /// So many nodes in a world in which only that happens that a script says.
    pub(super) fn scripted(seed: u64, nodes: usize, broken: Broken) -> World {
        World { is_scripted: true, ..World::quiet(Dice::of(seed), nodes, broken) }
    }

    /// Nodes that start.
    fn quiet(mut dice: Dice, count: usize, broken: Broken) -> World {
        let node = |dice: &mut Dice| Node {
            replica: None,
            store: None,
            life: 0,
            is_frozen: false,
            backlog: Vec::new(),
            sent: BTreeSet::new(),
            skew_us: dice.below(4) * 15_000,
        };
        let nodes = (0..count).map(|_| node(&mut dice)).collect();
        let delay_us = [100, 500, 3_000][usize::try_from(dice.below(3)).unwrap_or(0)];
        let mut world = World {
            now_us: 0,
            nodes,
            clients: Clients::new(count),
            outcome: Outcome::default(),
            is_told: false,
            broken,
            queue: BinaryHeap::new(),
            queued: 0,
            wires: BTreeMap::new(),
            delay_us,
            dice,
            is_slow: |_, _| false,
            late: (0, 0, 0),
            gather: Duration::ZERO,
            ack_timeout: ACK_TIMEOUT,
            is_scripted: false,
            quiet_since: 0,
        };
        (0..count).for_each(|node| world.start(node));
        world
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>9} {}", self.now_us, what());
        }
    }

    pub(super) fn later(&mut self, delay_us: u64, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse((self.now_us + delay_us, self.queued, happening)));
    }

    pub(super) fn clock(&self, node: usize) -> Now {
        let start = Now::from_unix_seconds(1_800_000_000);
        start.plus(Duration::from_micros(self.now_us + self.nodes[node].skew_us))
    }

    /// What happens next; `false` when it is over.
    pub(super) fn next(&mut self) -> bool {
        let Some(Reverse((at_us, _, happening))) = self.queue.pop() else { return false };
        let end_us = if self.is_scripted { 2 * END_US } else { END_US };
        if at_us > end_us || self.outcome.violation.is_some() {
            return false;
        }
        self.now_us = at_us;
        self.happen(happening);
        true
    }

    pub(super) fn play(mut self) -> Outcome {
        while self.next() {}
        for node in 0..self.nodes.len() {
            self.count(node);
        }
        self.outcome
    }

    fn happen(&mut self, happening: Happening) {
        let concerned = match &happening {
            Happening::Tick { node, .. } => Some(*node),
            Happening::Arrival { to, .. } => Some(*to),
            Happening::Dialled { from, .. } => Some(*from),
            _ => None,
        };
        if let Some(node) = concerned.filter(|node| self.nodes[*node].is_frozen) {
            self.nodes[node].backlog.push(happening);
            return;
        }
        match happening {
            Happening::Tick { node, life } => self.tick(node, life),
            Happening::Arrival { wire, to } => self.arrive(wire, to),
            Happening::Dialled { from, life, to } => self.dialled(from, life, to),
            Happening::Client(_) if self.is_scripted => {}
            Happening::Client(client) => self.client(client),
            Happening::Fault => self.fault(),
            Happening::Restart(node) => self.start(node),
            Happening::Thaw(node) => {
                self.tell(|| format!("n{node} thaws"));
                self.nodes[node].is_frozen = false;
                // Clients may be heard before peers are.
                self.clients_of_thawed(node);
                let backlog = std::mem::take(&mut self.nodes[node].backlog);
                backlog.into_iter().for_each(|happening| self.happen(happening));
            }
        }
    }

    fn tick(&mut self, node: usize, life: u64) {
        if self.nodes[node].life == life && self.nodes[node].replica.is_some() {
            for number in std::mem::take(&mut self.nodes[node].sent) {
                self.event(node, Event::Sendable { link: LinkId(number) });
            }
            self.event(node, Event::Tick);
            self.later(TICK_US, Happening::Tick { node, life });
        }
    }

    fn start(&mut self, node: usize) {
        self.tell(|| format!("n{node} starts"));
        self.nodes[node].life += 1;
        let life = self.nodes[node].life;
        let number = u8::try_from(node + 1).expect("few nodes");
        let boot = Boot((u128::from(life) << 64) + u128::from(number));
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let others = others.map(|other| format!("n{other}")).collect();
        let mut config = ReplicaConfig::new(number, boot, "sim", others);
        (config.seed, config.broken) = (self.dice.below(u64::MAX), self.broken);
        (config.gather, config.ack_timeout) = (self.gather, self.ack_timeout);
        let stability = Arc::default();
        let store = Store::new(StoreConfig {
            memory_limit: 8 << 20,
            item_size_max: 1 << 20,
            evictions: true,
            cas: true,
            shards: 1,
            node: number,
            classes: SizeClasses::new(48, 1.25),
            watch: Arc::new(Watch::default()),
            fixed_hash: true,
            replication: Some(Replicated {
                log_bytes: 1 << 16,
                stability: Arc::clone(&stability),
                ..Replicated::default()
            }),
        });
        let clerk = Box::new(Clerk { store: store.clone() });
        let replica = Replica::new(config, store.clone(), stability, self.clock(node));
        self.nodes[node].replica = Some(replica.with_locks(clerk));
        self.nodes[node].store = Some(store);
        self.later(self.dice_us(TICK_US), Happening::Tick { node, life });
    }

    fn dice_us(&self, most: u64) -> u64 {
        self.now_us.wrapping_mul(7_919) % most
    }

    /// Tells a replica of something, and does what it wants done.
    pub(super) fn event(&mut self, node: usize, event: Event<'_>) {
        let (now, mut effects) = (self.clock(node), Vec::new());
        let Some(replica) = &mut self.nodes[node].replica else { return };
        replica.handle(event, now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send { link, bytes } => self.send(node, link.0, Some(bytes)),
                Effect::Close { link, reason } => {
                    self.tell(|| format!("n{node} closes {}: {reason:?}", link.0));
                    self.send(node, link.0, None);
                    self.hang_up(node, link.0);
                }
                Effect::Dial { peer } => self.dial(node, peer),
                Effect::LockAnswer { id, answer } => self.answered(node, id, &answer),
                Effect::State(state) => self.tell(|| format!("n{node} is {state:?}")),
                Effect::Log(line) => self.tell(|| format!("n{node} says {line:?}")),
                Effect::Acknowledged { .. } => {}
            }
        }
    }

    fn dial(&mut self, from: usize, PeerIndex(to): PeerIndex) {
        // Everybody's addresses are those of the others.
        let to = to as usize + usize::from(to as usize >= from);
        let life = self.nodes[from].life;
        let delay_us = 1 + self.dice.below(2 * self.delay_us);
        self.later(delay_us, Happening::Dialled { from, life, to });
    }

    fn dialled(&mut self, from: usize, life: u64, to: usize) {
        let peer = PeerIndex(u32::try_from(to - usize::from(to > from)).unwrap_or(0));
        if self.nodes[from].life != life || self.nodes[from].replica.is_none() {
            return;
        }
        if self.nodes[to].is_frozen {
            return self.later(1_000, Happening::Dialled { from, life, to });
        }
        if self.nodes[to].replica.is_none() {
            return self.event(from, Event::DialFailed { peer, reason: Reason::NotThere });
        }
        self.queued += 1;
        let wire = self.queued;
        self.tell(|| format!("n{from} reaches n{to} by {wire}"));
        let coming = Default::default();
        let (last_us, over) = ([self.now_us; 2], [false; 2]);
        self.wires
            .insert(wire, Wire { ends: [from, to], coming, last_us, over, since_us: self.now_us });
        self.event(from, Event::Opened { link: LinkId(wire), dialled: Some(peer) });
        self.event(to, Event::Opened { link: LinkId(wire), dialled: None });
    }

    /// Bytes, or the end, on their way to the other end.
    fn send(&mut self, from: usize, number: u64, bytes: Option<Vec<u8>>) {
        let is_late = self.dice.below(300) == 0;
        let delay_us = 1 + self.dice.below(self.delay_us) + if is_late { 60_000 } else { 0 };
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let there = usize::from(wire.ends[0] == from);
        let (late_from, late_to, until_us) = self.late;
        let is_held = (late_from, late_to) == (from, wire.ends[there]) && self.now_us < until_us;
        let is_slow = is_held || (self.is_slow)(wire.ends, from);
        let delay_us = delay_us + if is_slow { SLOW_US } else { 0 };
        wire.coming[there].push_back(bytes);
        wire.last_us[there] = wire.last_us[there].max(self.now_us + delay_us);
        let (to, at_us) = (wire.ends[there], wire.last_us[there]);
        let delay_us = at_us - self.now_us;
        self.later(delay_us, Happening::Arrival { wire: number, to });
        self.nodes[from].sent.insert(number);
    }

    fn arrive(&mut self, number: u64, to: usize) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let here = usize::from(wire.ends[1] == to);
        if wire.over[here] {
            return;
        }
        let link = LinkId(number);
        match wire.coming[here].pop_front() {
            Some(Some(bytes)) => self.event(to, Event::Received { link, bytes: &bytes }),
            Some(None) => {
                self.hang_up(to, number);
                self.event(to, Event::Closed { link });
            }
            None => {}
        }
    }

    /// This end hears nothing more.
    fn hang_up(&mut self, node: usize, number: u64) {
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.over[usize::from(wire.ends[1] == node)] = true;
        }
    }

    /// What one end said and has not arrived is lost; both ends hear of the end.
    fn reset(&mut self, number: u64) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        let ends = wire.ends;
        for here in 0..2 {
            wire.coming[here].clear();
        }
        for (here, node) in ends.into_iter().enumerate() {
            let Some(wire) = self.wires.get_mut(&number) else { return };
            if !wire.over[here] {
                wire.coming[here].push_back(None);
                let delay_us = 1 + self.dice.below(self.delay_us);
                self.later(delay_us, Happening::Arrival { wire: number, to: node });
            }
        }
    }

    pub(super) fn break_connections(&mut self, node: usize) {
        self.tell(|| format!("n{node}: connections break"));
        self.outcome.resets += 1;
        let numbers: Vec<u64> = self.wires.keys().copied().collect();
        for number in numbers {
            if self.wires[&number].ends.contains(&node) {
                self.reset(number);
            }
        }
    }

    /// With how many nodes, itself included, a node that serves decides.
    pub(super) fn view(&self, node: usize) -> Option<usize> {
        let replica = self.nodes[node].replica.as_ref();
        let replica = replica.filter(|replica| replica.state() == State::Ready)?;
        replica.locks.as_ref().map(|locks| locks.status().nodes)
    }

    /// Whether every node serves and decides with all others.
    pub(super) fn is_whole(&self) -> bool {
        let all = self.nodes.len();
        (0..all).all(|node| self.view(node) == Some(all))
    }

    fn fault(&mut self) {
        let pause_us = 5_000 + self.dice.below(150_000);
        self.later(pause_us, Happening::Fault);
        if !self.is_whole() || self.nodes.iter().any(|node| node.is_frozen) {
            return;
        }
        let node = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap_or(0);
        // Connections that do not last are dialled again after a while only: as good as none.
        let all_last = self
            .wires
            .values()
            .all(|wire| wire.over != [false, false] || self.now_us > wire.since_us + LASTING_US);
        match self.dice.below(4) {
            0 => self.kill(node),
            3 => {
                let others = self.nodes.len() as u64 - 1;
                let to = usize::try_from(1 + self.dice.below(others)).unwrap_or(0);
                let to = (node + to) % self.nodes.len();
                self.tell(|| format!("what n{node} says to n{to} is late"));
                self.late = (node, to, self.now_us + self.dice.below(300_000));
            }
            1 if !all_last => {}
            1 => self.break_connections(node),
            _ => {
                self.tell(|| format!("n{node} stands still"));
                self.outcome.freezes += 1;
                self.nodes[node].is_frozen = true;
                let still_us = 1_000 + self.dice.below(250_000);
                self.later(still_us, Happening::Thaw(node));
            }
        }
    }

    fn count(&mut self, node: usize) {
        let Some(replica) = &self.nodes[node].replica else { return };
        let status = replica.locks.as_ref().map(|locks| locks.status()).unwrap_or_default();
        self.outcome.forwarded += status.forwarded;
        self.outcome.retried += status.retried;
        self.outcome.known_again += status.known_again;
        self.outcome.doubtful += status.doubtful;
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.die(node);
        let down_us = 5_000 + self.dice.below(300_000);
        self.later(down_us, Happening::Restart(node));
    }

    /// Kills a node that begins anew after so long.
    pub(super) fn kill_for(&mut self, node: usize, down_us: u64) {
        self.die(node);
        self.later(down_us, Happening::Restart(node));
    }

    fn die(&mut self, node: usize) {
        self.tell(|| format!("n{node} dies"));
        self.outcome.kills += 1;
        self.count(node);
        self.nodes[node].replica = None;
        self.nodes[node].store = None;
        let numbers: Vec<u64> = self.wires.keys().copied().collect();
        for number in numbers {
            let Some(wire) = self.wires.get(&number).filter(|wire| wire.ends.contains(&node))
            else {
                continue;
            };
            let there = usize::from(wire.ends[0] == node);
            let is_over = wire.over[there];
            self.hang_up(node, number);
            if !is_over {
                // What it said may still arrive, or not.
                if self.dice.below(2) == 0
                    && let Some(wire) = self.wires.get_mut(&number)
                {
                    let kept = self.dice.below(1 + wire.coming[there].len() as u64);
                    wire.coming[there].truncate(usize::try_from(kept).unwrap_or(0));
                }
                self.send(node, number, None);
            }
        }
        self.clients_of_dead(node);
    }

    /// Wires that nobody hears any more are forgotten.
    pub(super) fn forget_wires(&mut self) {
        if self.now_us > self.quiet_since + 500_000 {
            self.quiet_since = self.now_us;
            self.wires.retain(|_, wire| wire.over != [true, true]);
        }
    }
}
