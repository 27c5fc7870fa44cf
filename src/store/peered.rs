//! What the shards of a store with peers share: log, flushes, and the counts of what was forgotten.
//!
//! With peers, a flush is a *watermark*: what has a version up to it is dead, on every node and in
//! whatever order it arrives. Shards take notice of it when they are next used. A delayed flush is
//! a note that the last one written replaces; the node whose clock first reaches its second raises
//! the watermark to that second, and by that decides for all.
//!
//! What is NOT here: floors themselves, which shards keep ([`super::floors`]).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::change::{Cause, Change};
use super::floors::Floors;
use super::mutations::{Carried, Mutation, MutationLog};
use super::replicated::Replicated;
use super::shard::Shard;
use super::shards::{Locked, Store};
use super::{FlushAt, Key};
use crate::clock::{Now, UnixSeconds};
use crate::version::Version;

/// A flush that fires at a second to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingFlush {
    /// The version of the command: the latest one counts.
    pub version: Version,
    /// When it fires.
    pub at: FlushAt,
}

/// What is flushed, and what will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushes {
    /// Everything up to this version is dead.
    pub watermark: Version,
    /// The flush to come, if the watermark has not passed it.
    pub pending: Option<PendingFlush>,
}

/// Floors that are kept, and those that were let go too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloorCounters {
    /// Deleted items remembered.
    pub deleted: u64,
    /// Expired, evicted and refused items remembered.
    pub lost: u64,
    /// Bytes that both take.
    pub bytes: u64,
    /// Floors let go before every peer knew of them.
    pub purged_unstable: u64,
    /// The latest version among those: what is older may come back.
    pub purged_to: Version,
    /// The latest among those that this node gave.
    pub purged_own_to: Version,
    /// Records from peers that what we have supersedes.
    pub superseded: u64,
}

/// No flush is pending.
const NEVER: u32 = u32::MAX;

/// What the shards of a store with peers share.
#[derive(Debug)]
pub(super) struct Peered {
    node: u8,
    pub(super) log: MutationLog,
    pub(super) config: Replicated,
    pub(super) floor_bytes_a_shard: usize,
    pub(super) superseded: AtomicU64,
    has_evicted: AtomicBool,
    /// As `Flushes::watermark`.
    watermark: AtomicU64,
    /// When the pending flush fires.
    flush_at: AtomicU32,
    pending: Mutex<Option<PendingFlush>>,
    purged_unstable: AtomicU64,
    purged_to: AtomicU64,
    purged_own_to: AtomicU64,
    /// A peer has let go of floors up to here: that it once applied what they tell of says nothing.
    forgotten_to: AtomicU64,
    /// Floors are kept whatever their age.
    holds_floors: AtomicBool,
}

impl Peered {
    pub(super) fn new(config: Replicated, node: u8, shards: usize) -> Peered {
        let log = MutationLog::new(node, config.log_bytes);
        #[cfg(test)]
        let log = log.deaf(config.broken.no_observing);
        Peered {
            node,
            log,
            floor_bytes_a_shard: config.floor_bytes / shards,
            config,
            superseded: AtomicU64::new(0),
            has_evicted: AtomicBool::new(false),
            watermark: AtomicU64::new(0),
            flush_at: AtomicU32::new(NEVER),
            pending: Mutex::new(None),
            purged_unstable: AtomicU64::new(0),
            purged_to: AtomicU64::new(0),
            purged_own_to: AtomicU64::new(0),
            forgotten_to: AtomicU64::new(0),
            holds_floors: AtomicBool::new(false),
        }
    }

    /// Whether `key` stays on this node.
    pub(super) fn is_local(&self, key: &[u8]) -> bool {
        self.config.local_keys.has(key)
    }

    /// Whether clients may write to several nodes what these tell each other: where they do, their
    /// locks must stay where they are taken.
    pub(super) fn clients_mirror(&self) -> bool {
        !self.config.local_keys.is_empty()
    }

    /// The version of a client's change, which is logged unless the key stays here.
    pub(super) fn version(
        &self,
        mutation: Mutation,
        key: &[u8],
        carried: Option<Carried<'_>>,
        now: Now,
    ) -> Version {
        if self.is_local(key) {
            self.log.stamp(now)
        } else {
            self.log.append_with(mutation, key, carried, now)
        }
    }

    /// A live item was evicted.
    pub(super) fn note_eviction(&self) {
        // All shards read it, few write it.
        if !self.has_evicted.load(Ordering::Relaxed) {
            self.has_evicted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a floor that was born then is too old to be kept for a peer that may not know of it.
    pub(super) fn is_too_old(&self, born: UnixSeconds, second: UnixSeconds) -> bool {
        second.since(born) >= self.config.horizon && !self.holds_floors.load(Ordering::Relaxed)
    }

    /// Whether every peer has applied this, and none has let go of it since.
    pub(super) fn is_known_by_all(&self, version: Version) -> bool {
        version.0 > self.forgotten_to.load(Ordering::Relaxed)
            && self.config.stability.covers(version)
    }

    /// A floor was let go that a peer may not know of.
    pub(super) fn note_purge(&self, version: Version) {
        #[cfg(test)]
        if self.config.broken.purges_unsaid {
            return;
        }
        self.purged_unstable.fetch_add(1, Ordering::Relaxed);
        self.purged_to.fetch_max(version.0, Ordering::Relaxed);
        if version.node() == self.node {
            self.purged_own_to.fetch_max(version.0, Ordering::Relaxed);
        }
    }

    /// Everything up to this version is dead at `second`.
    pub(super) fn watermark(&self, second: UnixSeconds) -> Version {
        if self.flush_at.load(Ordering::Relaxed) <= second.0 {
            let pending = self.pending.lock();
            if let Some(due) = pending.filter(|pending| pending.at <= second) {
                self.raise(fired_at(due.at), pending.as_ref());
            }
        }
        self.raised()
    }

    /// Everything up to this version is dead already.
    pub(super) fn raised(&self) -> Version {
        Version(self.watermark.load(Ordering::Acquire))
    }

    /// Raises the watermark; `false` if it was there. The caller holds the lock of what is pending.
    fn raise(&self, watermark: Version, pending: Option<&PendingFlush>) -> bool {
        self.log.observe(watermark);
        let before = Version(self.watermark.fetch_max(watermark.0, Ordering::AcqRel));
        let is_raised = watermark > before;
        let watermark = watermark.max(before);
        let is_to_come = |pending: &&PendingFlush| {
            pending.version > watermark && fired_at(pending.at) > watermark
        };
        let flush_at = pending.filter(is_to_come).map_or(NEVER, |pending| pending.at.0);
        self.flush_at.store(flush_at, Ordering::Relaxed);
        is_raised
    }

    fn flushes(&self) -> Flushes {
        let pending = self.pending.lock();
        let is_to_come = self.flush_at.load(Ordering::Relaxed) != NEVER;
        Flushes { watermark: self.raised(), pending: pending.filter(|_| is_to_come) }
    }

    /// `true` if the watermark is theirs now.
    fn merge_flushes(&self, theirs: &Flushes) -> bool {
        let mut pending = self.pending.lock();
        if let Some(theirs) = theirs.pending {
            self.log.observe(theirs.version);
            if pending.is_none_or(|ours| ours.version < theirs.version) {
                *pending = Some(theirs);
            }
        }
        self.raise(theirs.watermark, pending.as_ref())
    }
}

/// The watermark of a flush that fires at `at`: everything written before that second.
fn fired_at(at: FlushAt) -> Version {
    Version::floor_at(Now::from_unix_seconds(at.0))
}

impl Shard {
    fn wipe(&mut self, peered: &Peered, now: Now) -> u64 {
        let numbers: Vec<u32> = self.log.segments().map(|(number, _)| number).collect();
        let mut wiped = 0;
        for number in numbers {
            let mut offset = 0;
            while let Some((handle, header)) = self.log.next_live(number, offset) {
                offset = handle.offset() + header.slot_len();
                if !peered.is_local(self.log.key(handle)) {
                    let item = self.item_at(handle, header);
                    self.commit(Some(item), Change::Remove(Cause::Wiped), now);
                    wiped += 1;
                }
            }
        }
        self.floors = Floors::default();
        wiped
    }
}

impl Store {
    /// What clients changed, for their peers; `None` without peers.
    #[must_use]
    pub fn mutations(&self) -> Option<&MutationLog> {
        self.peered().map(|peered| &peered.log)
    }

    /// With peers: makes everything invisible that has a version by now. All shards at once, so
    /// that no command sees an item that is older than the flush and gives it a later version.
    /// Nobody who holds a shard waits for another, so that this may wait for them all.
    pub(super) fn flush_peered(&self, peered: &Peered, now: Now) {
        let mut shards: Vec<Locked<'_>> = (0..self.shards()).map(|lane| self.lock(lane)).collect();
        let pending = peered.pending.lock();
        let watermark = peered.log.append(Mutation::Flush, &[], now);
        peered.raise(watermark, pending.as_ref());
        for shard in &mut shards {
            shard.flush_to(watermark);
        }
    }

    /// With peers: as [`Store::flush_all_at`].
    pub(super) fn flush_peered_at(&self, peered: &Peered, at: FlushAt, now: Now) {
        peered.watermark(now.seconds());
        let mut pending = peered.pending.lock();
        let version = peered.log.append(Mutation::Flush, &[], now);
        *pending = Some(PendingFlush { version, at });
        peered.raise(Version(0), pending.as_ref());
    }

    /// What is flushed and what will be, for peers.
    #[must_use]
    pub fn flushes(&self) -> Flushes {
        self.peered().map(Peered::flushes).unwrap_or_default()
    }

    /// What a peer says is flushed and will be.
    pub fn merge_flushes(&self, theirs: &Flushes) {
        let Some(peered) = self.peered() else { return };
        if !peered.merge_flushes(theirs) {
            return;
        }
        for lane in 0..self.shards() {
            self.lock(lane).catch_up(theirs.watermark);
        }
    }

    /// Lets floors go that are not needed any more, in a bounded step for each shard.
    pub fn purge_floors(&self, now: Now) {
        const FLOORS_A_STEP: usize = 1024;
        let Some(peered) = self.peered() else { return };
        for lane in 0..self.shards() {
            self.lock(lane).floors.visit(FLOORS_A_STEP, peered, now.seconds());
        }
    }

    /// Forgets all that is mirrored, as if it had never been here: nothing is logged, and nothing is
    /// remembered of it. Keys that stay on this node stay. Returns how many items went.
    pub fn wipe(&self, now: Now) -> u64 {
        let Some(peered) = self.peered() else { return 0 };
        peered.purged_to.store(0, Ordering::Relaxed);
        peered.purged_own_to.store(0, Ordering::Relaxed);
        peered.forgotten_to.store(0, Ordering::Relaxed);
        (0..self.shards()).map(|lane| self.lock(lane).wipe(peered, now)).sum()
    }

    /// Whether a live item has ever been evicted: peers may rightfully hold what is not here. No reset
    /// of the counters changes that.
    #[must_use]
    pub fn has_evicted(&self) -> bool {
        self.peered().is_some_and(|peered| peered.has_evicted.load(Ordering::Relaxed))
    }

    /// Whether a floor above this version may have been let go of before every peer knew.
    #[must_use]
    pub fn has_forgotten(&self, version: Version) -> bool {
        self.peered().is_some_and(|peered| version.0 <= peered.purged_to.load(Ordering::Relaxed))
    }

    /// Who told us all it knew had let go of floors that were as late.
    pub fn note_purged_elsewhere(&self, purged_to: Version) {
        if let Some(peered) = self.peered() {
            peered.purged_to.fetch_max(purged_to.0, Ordering::Relaxed);
        }
    }

    /// A peer has let go of floors up to this version, and may have been given what is older since: ours
    /// are kept for it as long as any.
    pub fn doubt_floors(&self, forgotten_to: Version) {
        if let Some(peered) = self.peered() {
            peered.forgotten_to.fetch_max(forgotten_to.0, Ordering::Relaxed);
        }
    }

    /// Whether floors are kept for the time being, however old they are.
    pub fn hold_floors(&self, holds: bool) {
        if let Some(peered) = self.peered() {
            peered.holds_floors.store(holds, Ordering::Relaxed);
        }
    }

    /// Floors are kept no longer for somebody who knows less than we do.
    pub fn note_parting(&self) {
        let Some(peered) = self.peered() else { return };
        let known = peered.log.latest().0 + 1;
        peered.purged_to.fetch_max(known, Ordering::Relaxed);
        peered.purged_own_to.fetch_max(known, Ordering::Relaxed);
    }

    /// Floors that are kept, and those that were let go too early.
    #[must_use]
    pub fn floor_counters(&self) -> FloorCounters {
        let Some(peered) = self.peered() else { return FloorCounters::default() };
        let mut counters = FloorCounters {
            purged_unstable: peered.purged_unstable.load(Ordering::Relaxed),
            purged_to: Version(peered.purged_to.load(Ordering::Relaxed)),
            purged_own_to: Version(peered.purged_own_to.load(Ordering::Relaxed)),
            superseded: peered.superseded.load(Ordering::Relaxed),
            ..FloorCounters::default()
        };
        for lane in 0..self.shards() {
            let shard = self.lock(lane);
            let (deleted, lost) = shard.floors.counts();
            counters.deleted += deleted as u64;
            counters.lost += lost as u64;
            counters.bytes += shard.floors.bytes() as u64;
        }
        counters
    }

    /// Whether a key stays on this node: by pattern, or because there are no peers.
    #[must_use]
    pub fn is_local(&self, key: Key<'_>) -> bool {
        self.peered().is_none_or(|peered| peered.is_local(key.bytes))
    }
}
