//! Each rule of the replica on two or three real stores, with wires that deliver at once unless a
//! test cuts them. Faults in every order are the simulation's business.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Now;
use crate::item::{Expiry, SizeClasses};
use crate::store::{
    Delete, Fetch, Fetched, Head, Mode, Replicated, Stability, Store, StoreConfig, Write,
};
use crate::watch::Watch;

mod acks;
mod apart;
mod heal;
mod membership;
mod pairs;
mod pauses;
mod start;
mod stream;
mod told;
mod upgrades;

pub(super) const NOON: Now = Now::from_unix_seconds(1_800_000_000);

/// One node: a replica, its store, and what it said to its driver.
pub(super) struct Host {
    pub(super) replica: Replica,
    pub(super) store: Store,
    pub(super) lines: Vec<Line>,
    pub(super) closed: Vec<Reason>,
    pub(super) acknowledged: (crate::version::Version, crate::version::Version, usize),
    /// The fewest peers that it waited for since somebody last looked.
    pub(super) fewest: usize,
    /// Where its addresses lead.
    pub(super) leads: Vec<usize>,
    /// It stands still.
    pub(super) frozen: bool,
    pub(super) up: bool,
    /// To requests for lock keys.
    pub(super) answers: Vec<(u64, Vec<u8>)>,
    runs: u128,
}

/// Nodes and the wires between them.
pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) now: Now,
    /// Each link's two ends.
    pub(super) wires: BTreeMap<LinkId, (usize, usize)>,
    /// Pairs that cannot talk.
    pub(super) cut: Vec<(usize, usize)>,
    /// Who says on which wire what does not arrive yet.
    pub(super) stuck: Vec<(usize, LinkId)>,
    /// Bytes on their way: from, link, bytes.
    flying: VecDeque<(usize, LinkId, Vec<u8>)>,
    next_link: u64,
    pub(super) log_bytes: usize,
    /// Room for floors.
    pub(super) floor_bytes: usize,
    pub(super) tune: fn(&mut ReplicaConfig),
}

fn store(node: u8, item_size_max: usize, replicated: Replicated) -> Store {
    Store::new(StoreConfig {
        memory_limit: 8 << 20,
        item_size_max,
        evictions: true,
        cas: true,
        shards: 1,
        node,
        classes: SizeClasses::new(48, 1.25),
        watch: Arc::new(Watch::default()),
        fixed_hash: true,
        replication: Some(replicated),
    })
}

impl World {
    /// `count` nodes that all know all addresses, their own included.
    pub(super) fn new(count: usize) -> World {
        World::tuned(count, 1 << 20, |_| {})
    }

    pub(super) fn tuned(count: usize, log_bytes: usize, tune: fn(&mut ReplicaConfig)) -> World {
        let mut world = World {
            hosts: Vec::new(),
            now: NOON,
            wires: BTreeMap::new(),
            cut: Vec::new(),
            stuck: Vec::new(),
            flying: VecDeque::new(),
            next_link: 1,
            log_bytes,
            floor_bytes: Replicated::default().floor_bytes,
            tune,
        };
        for number in 0..count {
            let host = world.host(number, (0..count).collect(), 1);
            world.hosts.push(host);
        }
        world
    }

    fn host(&self, number: usize, leads: Vec<usize>, run: u128) -> Host {
        let node = u8::try_from(number + 1).unwrap();
        let stability: Arc<Stability> = Arc::default();
        let boot = Boot((run << 64) + u128::from(node));
        let peers = leads.iter().map(|lead| format!("node-{lead}")).collect();
        let mut config = ReplicaConfig::new(node, boot, "test", peers);
        (self.tune)(&mut config);
        let replicated = Replicated {
            log_bytes: self.log_bytes,
            floor_bytes: self.floor_bytes,
            stability: Arc::clone(&stability),
            ..Replicated::default()
        };
        let store = store(node, config.item_size_max, replicated);
        Host {
            replica: Replica::new(config, store.clone(), stability, self.now),
            store,
            lines: Vec::new(),
            closed: Vec::new(),
            acknowledged: Default::default(),
            fewest: 0,
            leads,
            frozen: false,
            up: true,
            answers: Vec::new(),
            runs: run,
        }
    }

    /// Kills a node: its memory is gone, its connections are reset.
    pub(super) fn kill(&mut self, number: usize) {
        self.hosts[number].up = false;
        self.reset(|ends| ends.0 == number || ends.1 == number);
    }

    pub(super) fn restart(&mut self, number: usize) {
        let host = self.host(number, self.hosts[number].leads.clone(), self.hosts[number].runs + 1);
        self.hosts[number] = host;
    }

    /// Resets connections.
    pub(super) fn reset(&mut self, is_hit: impl Fn((usize, usize)) -> bool) {
        let hit: Vec<_> = self.wires.iter().filter(|(_, ends)| is_hit(**ends)).collect();
        let hit: Vec<(LinkId, (usize, usize))> = hit.into_iter().map(|(l, e)| (*l, *e)).collect();
        for (link, (a, b)) in hit {
            self.wires.remove(&link);
            self.tell(a, Event::Closed { link });
            self.tell(b, Event::Closed { link });
        }
    }

    pub(super) fn tell(&mut self, number: usize, event: Event<'_>) {
        if !self.hosts[number].up || self.hosts[number].frozen {
            return;
        }
        let mut effects = Vec::new();
        self.hosts[number].replica.handle(event, self.now, &mut effects);
        for effect in effects {
            self.carry_out(number, effect);
        }
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        match effect {
            Effect::Send { link, bytes } => self.flying.push_back((number, link, bytes)),
            Effect::Close { link, reason } => {
                self.hosts[number].closed.push(reason);
                self.deliver();
                if let Some((a, b)) = self.wires.remove(&link) {
                    let other = if a == number { b } else { a };
                    self.tell(other, Event::Closed { link });
                }
            }
            Effect::Dial { peer } => {
                let to = self.hosts[number].leads[peer.0 as usize];
                if !self.hosts[to].up || self.is_cut(number, to) {
                    let is_there = self.is_cut(number, to);
                    let reason = if is_there { Reason::Unreachable } else { Reason::NotThere };
                    self.tell(number, Event::DialFailed { peer, reason });
                    return;
                }
                self.connect(number, to, peer);
            }
            Effect::Acknowledged { one, all, in_sync } => {
                self.hosts[number].acknowledged = (one, all, in_sync);
                self.hosts[number].fewest = self.hosts[number].fewest.min(in_sync);
            }
            Effect::LockAnswer { id, answer } => self.hosts[number].answers.push((id, answer)),
            Effect::State(_) => {}
            Effect::Log(line) => self.hosts[number].lines.push(line),
        }
    }

    /// Opens a connection that `from` dials, beside those that there are.
    pub(super) fn connect(&mut self, from: usize, to: usize, peer: PeerIndex) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 2;
        // A node that dials itself has two ends of one wire.
        let far = if to == from { LinkId(link.0 + 1) } else { link };
        self.wires.insert(link, (from, to));
        if far != link {
            self.wires.insert(far, (from, to));
        }
        self.tell(from, Event::Opened { link, dialled: Some(peer) });
        self.tell(to, Event::Opened { link: far, dialled: None });
        link
    }

    pub(super) fn deliver(&mut self) {
        while self.deliver_next() {}
    }

    /// Delivers what was said first, of what may arrive; where there is nothing, nodes have leisure.
    /// `false`: nobody has anything to do.
    pub(super) fn deliver_next(&mut self) -> bool {
        let is_free = |(from, link, _): &(usize, LinkId, Vec<u8>)| {
            let ends = self.wires.get(link);
            let to = ends.map(|(a, b)| if a == from { *b } else { *a });
            let is_read = to.is_none_or(|to| !self.hosts[to].frozen);
            is_read && !self.stuck.contains(&(*from, *link))
        };
        let Some(next) = self.flying.iter().position(is_free) else {
            return self.have_leisure();
        };
        let Some((from, link, bytes)) = self.flying.remove(next) else { return false };
        let Some((a, b)) = self.wires.get(&link).copied() else { return true };
        let to = if a == from { b } else { a };
        // The far end of a wire to oneself has the next or the previous number.
        let at = match (a == b, link.0 % 2) {
            (false, _) => link,
            (true, 1) => LinkId(link.0 + 1),
            (true, _) => LinkId(link.0 - 1),
        };
        if !self.is_cut(from, to) {
            self.tell(to, Event::Received { link: at, bytes: &bytes });
            self.tell(from, Event::Sendable { link });
        }
        true
    }

    fn have_leisure(&mut self) -> bool {
        let is_busy = |host: &Host| host.up && !host.frozen && host.replica.is_busy();
        let busy: Vec<usize> =
            (0..self.hosts.len()).filter(|number| is_busy(&self.hosts[*number])).collect();
        busy.iter().for_each(|number| self.tell(*number, Event::Leisure));
        !busy.is_empty()
    }

    /// Lets time pass in steps of a tick.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while self.now < until {
            self.now = self.now.plus(TICK);
            for number in 0..self.hosts.len() {
                self.tell(number, Event::Tick);
            }
            self.deliver();
        }
    }

    /// Lets time pass until something holds; panics after `longest`.
    pub(super) fn run_until(
        &mut self,
        longest: Duration,
        what: &str,
        holds: impl Fn(&World) -> bool,
    ) {
        let until = self.now.plus(longest);
        while !holds(self) {
            assert!(self.now < until, "not within {longest:?}: {what}");
            self.run(TICK);
        }
    }

    pub(super) fn all_ready(&self) -> bool {
        self.hosts.iter().all(|host| !host.up || host.replica.state() == State::Ready)
    }

    pub(super) fn all_in_sync(&self) -> bool {
        let others = self.hosts.iter().filter(|host| host.up).count() - 1;
        let in_sync = |host: &Host| host.replica.status(self.now).in_sync;
        self.hosts.iter().all(|host| !host.up || in_sync(host) == others)
    }

    /// Nodes that are READY and in sync.
    pub(super) fn settled(count: usize) -> World {
        World::settled_as(World::new(count))
    }

    pub(super) fn settled_as(mut world: World) -> World {
        world.run_until(Duration::from_secs(2), "all ready", World::all_ready);
        world.run_until(Duration::from_secs(2), "all in sync", World::all_in_sync);
        world
    }

    pub(super) fn set(&mut self, number: usize, key: &str, value: &str) {
        self.set_until(number, key, value, Expiry::NEVER);
    }

    pub(super) fn set_until(&mut self, number: usize, key: &str, value: &str, expiry: Expiry) {
        self.log(number, key, value, expiry);
        self.deliver();
    }

    /// Sets a key of which nobody hears yet.
    pub(super) fn log(&mut self, number: usize, key: &str, value: &str, expiry: Expiry) {
        let store = self.hosts[number].store.clone();
        let write = Write::new(Mode::Set, value.as_bytes(), 0, expiry);
        store.write(store.key(key.as_bytes()), &write, self.now).unwrap();
        self.tell(number, Event::Logged);
    }

    pub(super) fn delete(&mut self, number: usize, key: &str) {
        let store = self.hosts[number].store.clone();
        store.delete(store.key(key.as_bytes()), &Delete::default(), self.now).unwrap();
        self.tell(number, Event::Logged);
        self.deliver();
    }

    pub(super) fn get(&self, number: usize, key: &str) -> Option<String> {
        let store = &self.hosts[number].store;
        let fetch = Fetch { value: true, ..Fetch::default() };
        let head = Head { context: &(), write: |(), _, _| {} };
        let mut value = Vec::new();
        match store.fetch(store.key(key.as_bytes()), &fetch, self.now, &head, &mut value) {
            Fetched::Hit(_) => Some(String::from_utf8(value).unwrap()),
            Fetched::Large(..) => panic!("no test has a large value"),
            Fetched::Miss(_) => None,
        }
    }

    pub(super) fn everywhere(&self, key: &str) -> Vec<Option<String>> {
        (0..self.hosts.len()).filter(|n| self.hosts[*n].up).map(|n| self.get(n, key)).collect()
    }
}
