//! What must hold at every moment, looked at often: a life never goes back.
//!
//! For each key a life remembers the greatest record that it ever held, by the order of merging.
//! From then on nothing older may be visible there, and a value may be gone only for a reason: it
//! has expired by that node's clock, was flushed, or was evicted there. From this and from all
//! nodes agreeing in the end follows that no write is lost or comes back while its holder lives.
//!
//! What is NOT here: whether all agree in the end ([`super::verdict`]).

use super::clients::{Seen, is_live};
use super::cluster::{Life, key_name, number_of};
use super::ledger::{Acknowledged, Held, Unacknowledged, Written, includes, joined, rank};
use super::plan::NodeIndex;
use super::world::World;
use crate::clock::Now;
use crate::replication::State;
use crate::store::{Kind, MutationLog, Record};
use crate::version::Version;

/// What a peer must have held for so long that a node that becomes ready must have it, too: what a
/// connection told last may be as old as the silence that a connection survives.
const SETTLED_US: u64 = 2_200_000;

/// What is known of a value that has expired, when it is not held any more.
fn gone(known: &Record) -> Record {
    if known.kind == Kind::Value { known.gone() } else { *known }
}

impl World {
    pub(super) fn audit(&mut self) {
        self.look_at_lists();
        for node in 0..self.nodes.len() {
            let now = self.now_of(node);
            if let Some(life) = self.nodes[node].running() {
                // As the server's own background does.
                life.store.sweep(now);
            }
            if self.nodes[node].running().is_some_and(|life| std::mem::take(&mut life.is_dirty)) {
                self.look(node);
            }
        }
    }

    /// Looks at one key of a node.
    pub(super) fn look_at_key(&mut self, node: NodeIndex, key: usize) {
        let now = self.now_of(node);
        let Some(life) = &self.nodes[node].life else { return };
        let store = &life.store;
        let (seen, watermark) = (Seen::on(store, key, now), store.flushes().watermark);
        self.look_at(node, key, &seen, watermark);
    }

    /// Looks at all keys of a node.
    pub(super) fn look(&mut self, node: NodeIndex) {
        let now = self.now_of(node);
        let Some(life) = &self.nodes[node].life else { return };
        let store = life.store.clone();
        for key in 0..self.setting.keys {
            let seen = Seen::on(&store, key, now);
            // A delayed flush fires when the store is looked at.
            self.look_at(node, key, &seen, store.flushes().watermark);
        }
        let watermark = store.flushes().watermark;
        if !self.ledger.has_flush(watermark) {
            self.violate(format!("R8: n{node} flushed to {watermark:?}, which nobody asked for"));
        }
    }

    fn look_at(&mut self, node: NodeIndex, key: usize, seen: &Seen, watermark: Version) {
        let now = self.now_of(node);
        let since = self.now_us;
        let Some(life) = &mut self.nodes[node].life else { return };
        let held = &mut life.held[key];
        let mut known = held.greatest;
        // Expired, then touched by who still had it.
        if seen.record.is_some_and(|record| record.kind == Kind::Lost) {
            known = known.map(|known| if is_live(&known, now) { known } else { gone(&known) });
        }
        let was_lost = known.is_some_and(|known| known.kind == Kind::Lost);
        // Of two values or touches of one version either may be the greater.
        let is_other = |known: &Record, record: &Record| {
            rank(known) == rank(record) && self.ledger.is_given_twice(key, record)
        };
        if let Some(record) = &seen.record
            && known.is_none_or(|known| !includes(&known, record) || is_other(&known, record))
        {
            held.greatest = Some(known.map_or(*record, |known| joined(&known, record)));
            held.since = since;
            life.latest = life.latest.max(record.version).max(record.touched);
            self.trace.tell(self.now_us, || format!("n{node} k{key} holds {record:?}"));
            let objection = self.ledger.objection(key, record, &seen.value);
            if let Some(objection) = objection {
                self.violate(format!("n{node} k{key} holds {record:?}: {objection}"));
            }
            if known.is_none_or(|known| includes(record, &known)) {
                return;
            }
        }
        let held = self.held(node, key);
        let Some(greatest) = held.greatest else { return };
        let is_excused = held.has_evicted(greatest.version);
        if seen.record == Some(greatest) {
            return;
        }
        let Record { version, mut touched, .. } = greatest;
        if self.ledger.is_given_twice(key, &greatest) {
            // The other may have let it expire.
            touched = Version(0);
        }
        if seen.live(now).is_none() && self.ledger.may_have_expired(key, version, touched, now) {
            // Touched, and expired before anybody looked.
            return;
        }
        let visible = seen.live(now).copied();
        let broken = match visible {
            // It was never there: what is taken together is the loss of what a touch let expire by another
            // clock, and the value without that touch, which may return where the loss is forgotten.
            Some(later) if was_lost && self.may_be_back_after(version.max(greatest.touched)) => {
                if let Some(life) = &mut self.nodes[node].life {
                    life.held[key].greatest = Some(later);
                }
                false
            }
            // Its writer's clock was set back while it was alone. What was gone before it was
            // written has not returned.
            Some(later)
                if !is_live(&greatest, now)
                    && self.ledger.is_written_after(key, later.version, held.since) =>
            {
                if let Some(life) = &mut self.nodes[node].life {
                    life.held[key].greatest = Some(later);
                }
                false
            }
            Some(_) => {
                let is_there = is_live(&greatest, now) && !is_excused;
                let gone = if is_there {
                    self.ceased(node, key, greatest.version)
                } else {
                    Some(greatest.version)
                };
                gone.is_none_or(|version| !self.may_be_back_after(version))
            }
            None => {
                let is_flushed = self.is_flushed(node, greatest.version, watermark);
                let is_lost = is_live(&greatest, now) && !is_flushed && !is_excused;
                let ceased = self.ceased(node, key, greatest.version).filter(|_| is_lost);
                if let (Some(version), Some(life)) = (ceased, &mut self.nodes[node].life) {
                    // What is older than that must not come back all the same.
                    life.held[key].greatest = Some(Record::lost(version, version));
                }
                is_lost && ceased.is_none()
            }
        };
        if broken {
            let now_held = seen.record;
            self.violate(format!("R2/R5: n{node} k{key} held {greatest:?}, now {now_held:?}"));
        }
    }

    /// Whether it is flushed there, or elsewhere by a clock that is ahead: then it is told as lost, and that
    /// may be forgotten.
    fn is_flushed(&self, node: NodeIndex, version: Version, watermark: Version) -> bool {
        let lives = || self.nodes.iter().filter_map(|node| node.life.as_ref());
        let life = self.nodes[node].life.as_ref();
        version <= watermark
            || (life.is_some_and(|life| life.store.has_forgotten(version))
                && lives().any(|life| version <= life.store.flushes().watermark))
    }

    fn held(&self, node: NodeIndex, key: usize) -> Held {
        self.nodes[node].life.as_ref().map(|life| life.held[key]).unwrap_or_default()
    }

    /// The version at which the key ceased to have a value after `after`, if the node may have
    /// heard of it: that it was deleted since, and so everywhere that it is remembered nowhere.
    fn ceased(&self, node: NodeIndex, key: usize, after: Version) -> Option<Version> {
        let life = self.nodes[node].life.as_ref()?;
        let latest = life.store.mutations().map(MutationLog::latest).unwrap_or_default();
        let evictions = self.setting.evictions > 0;
        let ceased = self.ledger.ceased(key, after, evictions, self.fastest());
        ceased.filter(|version| *version <= latest)
    }

    /// R6: older values than one that was gone may return where a node has let go of a floor that
    /// was as late, and said so; but not where nodes wipe.
    pub(super) fn may_be_back_after(&self, gone: Version) -> bool {
        if self.setting.wipes || self.nursery.ablation.excuses_nothing() {
            return false;
        }
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        let purged_to = lives.map(|life| life.store.floor_counters().purged_to).max();
        gone <= self.purged_to.max(purged_to.unwrap_or_default()).max(self.added_at)
    }

    pub(super) fn evict(&mut self, node: NodeIndex, key: usize) {
        let now = self.now_of(node);
        if !self.nodes[node].is_running() {
            return;
        }
        self.look_at_key(node, key);
        let Some(life) = &mut self.nodes[node].life else { return };
        let seen = Seen::on(&life.store, key, now);
        if let Some(record) = seen.record
            && life.store.evict_for_test(&key_name(key), now)
        {
            let [_, latest] = life.held[key].evicted;
            life.held[key].evicted = [record.version, latest.max(record.version)];
        }
    }

    /// R11: what arrives twice, in another order, or besides what is said on a connection, changes
    /// nothing that must hold. Left out is an older value of what may be gone and forgotten: that comes by
    /// connections only, where whoever takes it in has the others compare, and nothing else makes good for
    /// it before the next routine.
    pub(super) fn hearsay(&mut self, from: NodeIndex, to: NodeIndex) {
        // Who is to wipe says nothing before it has; nor does anything say it for him. Who takes himself for
        // empty is behind nobody: only a connection can give him something.
        let now = self.now_of(to);
        let is_empty = |life: &Life| life.replica.standing(now).heard == Version(0);
        let hears_first = self.nodes[to].life.as_ref().is_some_and(is_empty);
        if self.setting.wipes && (hears_first || self.are_meeting(from, to)) {
            return;
        }
        let are_running = self.nodes[from].is_running() && self.nodes[to].is_running();
        // Else nobody would notice when `from` cannot tell others any more.
        if !are_running || !self.is_linked(from, to) || !self.are_peers(from, to) {
            return;
        }
        let theirs = self.now_of(from);
        let first = self.rng.index(self.setting.keys);
        for step in 0..2 * self.setting.keys {
            let key = (first + 5 * step) % self.setting.keys;
            let (Some(teller), Some(hearer)) = (&self.nodes[from].life, &self.nodes[to].life)
            else {
                return;
            };
            let told = Seen::on(&teller.store, key, theirs);
            let may_return = |record: &Record| {
                record.kind == Kind::Value && hearer.store.has_forgotten(record.version)
            };
            // Who hears of a loss from a peer asks others; nobody asks here.
            let is_heard = |record: &Record| record.kind != Kind::Lost && !may_return(record);
            if let Some(record) = told.record.filter(is_heard) {
                hearer.store.merge(&key_name(key), &record, &told.value, now);
            }
            self.look_at_key(to, key);
        }
    }

    /// A node says what its peers have applied.
    pub(super) fn acknowledged(
        &mut self,
        node: NodeIndex,
        one: Version,
        all: Version,
        in_sync: usize,
    ) {
        let Some(life) = &mut self.nodes[node].life else { return };
        let mut waiting = std::mem::take(&mut life.unacknowledged);
        for write in &mut waiting {
            if !write.by_one && write.position <= one {
                write.by_one = true;
                let what = write.written;
                self.trace.tell(self.now_us, || {
                    format!("n{node} acknowledged {what:?}, {in_sync} in sync")
                });
                self.check_acknowledged(node, write, 1);
                let (written, kills_before) = (write.written, self.kills);
                self.ledger.acknowledged.push(Acknowledged { origin: node, written, kills_before });
            }
            if in_sync > 0 && write.position <= all {
                self.check_acknowledged(node, write, in_sync);
            }
        }
        waiting.retain(|write| write.position > all || write.position > one);
        if let Some(life) = &mut self.nodes[node].life {
            life.unacknowledged = waiting;
        }
    }

    /// R3: at least `peers` others have it in memory.
    fn check_acknowledged(&mut self, origin: NodeIndex, write: &Unacknowledged, peers: usize) {
        let written = &write.written;
        let mut holders = 0;
        for node in (0..self.nodes.len()).filter(|&node| node != origin) {
            if self.nodes[node].life.is_some() {
                if let Written::Record { key, .. } = *written {
                    self.look_at_key(node, key);
                }
                holders += usize::from(self.covers(node, origin, written));
            }
        }
        // A peer may have been killed after it answered.
        let kills = usize::try_from(self.kills - write.kills_before).unwrap_or(usize::MAX);
        if holders + kills.min(peers) < peers {
            self.violate(format!("R3: n{origin} says {peers} have {written:?}: {holders} have"));
        }
    }

    /// Whether `node` has what was written, or what supersedes it, or a reason not to.
    fn covers(&self, node: NodeIndex, origin: NodeIndex, written: &Written) -> bool {
        let now = self.now_of(node);
        let origin_now = self.now_of(origin);
        let (Some(life), &Written::Record { key, record }) = (&self.nodes[node].life, written)
        else {
            let Written::Flush { watermark } = *written else { return false };
            let life = self.nodes[node].life.as_ref();
            return life.is_some_and(|life| life.store.flushes().watermark >= watermark);
        };
        let held = life.held[key];
        let greatest = held.greatest.unwrap_or(Record::lost(Version(0), Version(0)));
        // The origin could not send what it did not have any more: it told of the loss. By then it may have
        // let go of what it knew of that, and have what is older.
        let is_lost = !is_live(&record, origin_now)
            || !is_live(&record, now)
            || self.ledger.may_have_expired(key, record.version, record.touched, origin_now)
            || self.nodes[origin].life.as_ref().is_some_and(|life| {
                life.held[key].has_evicted(record.version)
                    || life.store.flushes().watermark >= record.version
            });
        let is_same = greatest.version == record.version && greatest.touched >= record.touched;
        // By the origin's clock, it may have been gone before it was told, and been written anew there
        // since: that takes the loss's place at the origin before the peer has heard of it.
        let is_past = |clock: Now| greatest.expiry.is_past(clock.seconds());
        let has_expired = is_same && (is_past(now) || is_past(origin_now));
        let has_nothing = Seen::on(&life.store, key, now).record.is_none();
        let gone = if record.kind == Kind::Deleted || is_lost {
            Some(record.version)
        } else {
            self.ceased(origin, key, record.version)
        };
        let is_purged = gone.is_some_and(|gone| self.may_be_back_after(gone));
        includes(&greatest, &record)
            || life.store.flushes().watermark >= record.version
            || held.has_evicted(record.version)
            || has_expired
            || is_purged
            || ((record.kind == Kind::Deleted || is_lost) && greatest.version >= record.version)
            || (has_nothing
                && (record.kind == Kind::Deleted
                    || is_lost
                    || self.ceased(node, key, record.version).is_some()))
    }

    /// R14: a node that becomes ready lacks nothing that all ready peers have had for a while.
    pub(super) fn check_readiness(&mut self, node: NodeIndex) {
        if self.nodes[node].running().is_some_and(|life| std::mem::take(&mut life.is_alone)) {
            return;
        }
        let now = self.now_of(node);
        let is_peer = |other: &NodeIndex| {
            let peer = &self.nodes[*other];
            let is_ready = peer.life.as_ref().is_some_and(|life| life.state == State::Ready);
            let is_cut = self.network.is_cut(*other, node) || self.network.is_cut(node, *other);
            let is_linked = self.are_peers(*other, node) && self.is_linked(*other, node);
            *other != node && is_ready && !peer.is_frozen && !is_cut && is_linked
        };
        let peers: Vec<NodeIndex> = (0..self.nodes.len()).filter(is_peer).collect();
        self.look(node);
        for key in 0..self.setting.keys {
            let settled = |&peer: &NodeIndex| -> Option<Record> {
                let life = self.nodes[peer].life.as_ref()?;
                let held = life.held[key];
                let is_settled = held.since + SETTLED_US < self.now_us;
                let greatest = held.greatest.filter(|_| is_settled)?;
                let flushed = life.store.flushes().watermark;
                let safe = is_live(&greatest, now) && is_live(&greatest, self.now_of(peer));
                // What it had a touch may have let expire unseen; what it had evicted it may have again.
                let has_it = Seen::on(&life.store, key, self.now_of(peer)).record == Some(greatest)
                    && !held.has_evicted(greatest.version);
                (safe && has_it && greatest.version > flushed).then_some(greatest)
            };
            let all: Option<Vec<Record>> = peers.iter().map(settled).collect();
            let Some(least) = all.and_then(|all| all.into_iter().min_by_key(rank)) else {
                continue;
            };
            let Some(life) = &self.nodes[node].life else { return };
            let held = life.held[key];
            let has = held.greatest.is_some_and(|held| {
                // A later touch may have let it expire.
                includes(&held, &least)
                    || (held.version == least.version && held.touched > least.touched)
            }) || life.store.flushes().watermark >= least.version;
            if !has {
                let greatest = held.greatest;
                self.violate(format!(
                    "R14: n{node} ready with {greatest:?} for k{key}, peers have {least:?}"
                ));
            }
        }
    }

    /// Whether either has not accepted the other yet on the connection that they have.
    pub(super) fn are_meeting(&self, one: NodeIndex, other: NodeIndex) -> bool {
        let has_met = |node: NodeIndex, peer: NodeIndex| {
            let life = self.nodes[node].life.as_ref();
            life.is_some_and(|life| life.replica.is_mutual_with(number_of(peer)))
        };
        !(has_met(one, other) && has_met(other, one))
    }

    fn is_linked(&self, one: NodeIndex, other: NodeIndex) -> bool {
        let wires = self.network.between(one, other);
        wires
            .iter()
            .any(|&wire| self.network.is_open(wire, one) && self.network.is_open(wire, other))
    }
}
