//! Telling a peer what we know: all records in bounded steps, or sums over them by *lane*.
//!
//! A lane is one of 256 parts of all keys, by a hash that is the same on every node. Two nodes that
//! compare the sums of their lanes know which parts of their data differ without listing them.
//!
//! Values past their expiry and floors come and go at each node's own time. They are told, because
//! they keep older values away, but they are not in the sums.
//!
//! A scan is not a moment's picture. What is there all the while is met; what is changed meanwhile
//! by a client is in the log of mutations. Local keys are left out.
//!
//! What is NOT here: who is told ([`super::merge`] is the other end).

use std::ops::Range;

use xxhash_rust::xxh3;

use super::record::{Record, record_of, record_of_floor};
use super::shard::Shard;
use super::shards::Store;
use super::slot::{Handle, Header};
use crate::clock::Now;
use crate::limits::{KEY_MAX, VALUE_CHUNK};
use crate::version::Version;

/// Most buckets looked into under one lock: some 800 items, which take about 0.2 ms.
const BUCKETS_A_STEP: usize = 128;

/// Buckets whose items are met together: some 50.
const BUCKETS_A_GROUP: usize = 8;

/// Most floors looked at under one lock.
const FLOORS_A_STEP: usize = 1024;

/// Steps of one shard after another in a step of a digest.
const DIGEST_LOCKS_A_STEP: usize = 2;

/// How many lanes there are.
const LANES: usize = 256;

/// A key's hash for lanes and lists: the same on every node.
#[must_use]
pub fn digest_hash(key: &[u8]) -> u64 {
    xxh3::xxh3_64(key)
}

/// The lane of a key with this [`digest_hash`].
fn lane(hash: u64) -> usize {
    usize::from(hash.to_be_bytes()[0])
}

/// A set of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes([u64; LANES / 64]);

impl Lanes {
    /// All keys.
    pub const ALL: Lanes = Lanes([u64::MAX; LANES / 64]);
    /// No keys.
    pub const NONE: Lanes = Lanes([0; LANES / 64]);

    /// The set with this stored form.
    #[must_use]
    pub fn from_bits(bits: [u64; 4]) -> Lanes {
        Lanes(bits)
    }

    /// The stored form: one bit a lane.
    #[must_use]
    pub fn to_bits(self) -> [u64; 4] {
        self.0
    }

    /// Whether the key with this [`digest_hash`] is in one of the lanes.
    #[must_use]
    pub fn has(&self, hash: u64) -> bool {
        let lane = lane(hash);
        self.0[lane / 64] & (1 << (lane % 64)) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Lanes::NONE
    }

    /// Lanes that are in both sets.
    #[must_use]
    pub fn and(self, other: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|n| self.0[n] & other.0[n]))
    }

    fn insert(&mut self, lane: usize) {
        self.0[lane / 64] |= 1 << (lane % 64);
    }
}

/// Sums over all values that are live at a moment, by lane: of each the exclusive or, and the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    lanes: Box<[(u64, u64)]>,
}

impl Digest {
    /// The digest with these sums; `None` unless there are 256.
    #[must_use]
    pub fn from_lanes(lanes: &[(u64, u64)]) -> Option<Digest> {
        (lanes.len() == LANES).then(|| Digest { lanes: lanes.into() })
    }

    /// The sums, by lane.
    #[must_use]
    pub fn lanes(&self) -> &[(u64, u64)] {
        &self.lanes
    }

    /// Lanes in which the two differ.
    #[must_use]
    pub fn differing(&self, other: &Digest) -> Lanes {
        let mut lanes = Lanes::NONE;
        for (lane, (ours, theirs)) in self.lanes.iter().zip(&other.lanes).enumerate() {
            if ours != theirs {
                lanes.insert(lane);
            }
        }
        lanes
    }

    fn add(&mut self, hash: u64, header: &Header) {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&hash.to_le_bytes());
        bytes[8..16].copy_from_slice(&header.version.0.to_le_bytes());
        bytes[16..].copy_from_slice(&header.touched.0.to_le_bytes());
        let one = xxh3::xxh3_64(&bytes);
        let (xor, sum) = &mut self.lanes[lane(hash)];
        *xor ^= one;
        *sum = sum.wrapping_add(one);
    }
}

impl Default for Digest {
    /// The digest of no items.
    fn default() -> Digest {
        Digest { lanes: vec![(0, 0); LANES].into() }
    }
}

/// A digest in the making. Start with [`Digesting::default`].
#[derive(Clone, Debug, Default)]
pub struct Digesting {
    digest: Digest,
    shard: usize,
    bucket: usize,
}

/// Where a scan goes on. Start with [`RecordCursor::default`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordCursor {
    shard: usize,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// From this bucket on.
    Items(usize),
    /// Of keys after this one.
    Floors(Vec<u8>),
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::Items(0)
    }
}

/// Records met by a scan. Scanning appends.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    met: Vec<Met>,
}

#[derive(Clone, Copy, Debug)]
struct Met {
    hash: u64,
    record: Record,
    key_len: usize,
    value_len: Option<usize>,
}

/// One record met by a scan.
#[derive(Clone, Copy, Debug)]
pub struct ScannedRecord<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its [`digest_hash`].
    pub hash: u64,
    /// What is known of it.
    pub record: Record,
    /// The value. Left out if the scan was without values, and if it is so long that it is to be
    /// asked for by [`Store::record`].
    pub value: Option<&'a [u8]>,
}

impl Records {
    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = ScannedRecord<'_>> {
        let mut rest = &self.bytes[..];
        self.met.iter().map(move |met| {
            let (key, after) = rest.split_at(met.key_len);
            let (value, after) = after.split_at(met.value_len.unwrap_or(0));
            rest = after;
            let value = met.value_len.map(|_| value);
            ScannedRecord { key, hash: met.hash, record: met.record, value }
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.met.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.met.is_empty()
    }

    /// Forgets them, to scan others.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.met.clear();
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.met.len() * size_of::<Met>()
    }

    fn push(&mut self, key: &[u8], hash: u64, record: Record) {
        self.bytes.extend_from_slice(key);
        self.met.push(Met { hash, record, key_len: key.len(), value_len: None });
    }

    /// Gives the record pushed last its value, which `append` appends.
    fn push_value(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        append(&mut self.bytes);
        if let Some(last) = self.met.last_mut() {
            last.value_len = Some(self.bytes.len() - before);
        }
    }
}

impl Store {
    /// Records of keys in `lanes` from `cursor` on, with their values, appended to `into` until
    /// that has about `budget` bytes; at least those of a few buckets. `None` at the end.
    pub fn scan_records(
        &self,
        cursor: &RecordCursor,
        lanes: Lanes,
        budget: usize,
        now: Now,
        into: &mut Records,
    ) -> Option<RecordCursor> {
        self.scan_as(true, cursor, lanes, budget, now, into)
    }

    /// As [`Store::scan_records`], without values.
    pub fn list_records(
        &self,
        cursor: &RecordCursor,
        lanes: Lanes,
        budget: usize,
        now: Now,
        into: &mut Records,
    ) -> Option<RecordCursor> {
        self.scan_as(false, cursor, lanes, budget, now, into)
    }

    fn scan_as(
        &self,
        values: bool,
        cursor: &RecordCursor,
        lanes: Lanes,
        budget: usize,
        now: Now,
        into: &mut Records,
    ) -> Option<RecordCursor> {
        let number = cursor.shard;
        if self.peered().is_none() || number >= self.shards() {
            return None;
        }
        let shard = self.enter(number, now);
        let next = match &cursor.stage {
            Stage::Items(from) => Some(shard.scan_items(*from, values, lanes, budget, into)),
            Stage::Floors(after) => shard.scan_floors(after, lanes, budget, into),
        };
        match next {
            Some(stage) => Some(RecordCursor { shard: number, stage }),
            None if number + 1 < self.shards() => {
                Some(RecordCursor { shard: number + 1, stage: Stage::default() })
            }
            None => None,
        }
    }

    /// Sums over all values that would be live at `now`: it may be a moment to come, so that two
    /// nodes leave out what is about to expire on one of them. No delayed flush fires for it.
    #[must_use]
    pub fn digest(&self, now: Now) -> Digest {
        let mut sums = Digesting::default();
        loop {
            if let Some(digest) = self.digest_step(&mut sums, now) {
                return digest;
            }
        }
    }

    /// Goes on with a digest, in a step that takes half a millisecond at most; `None` while it is not done.
    pub fn digest_step(&self, sums: &mut Digesting, now: Now) -> Option<Digest> {
        for _ in 0..DIGEST_LOCKS_A_STEP {
            if sums.shard >= self.shards() {
                return Some(std::mem::take(sums).digest);
            }
            let mut shard = self.lock(sums.shard);
            if let Some(peered) = self.peered() {
                shard.catch_up(peered.raised());
            }
            match shard.digest_items(sums.bucket, now, &mut sums.digest) {
                Some(bucket) => sums.bucket = bucket,
                None => (sums.shard, sums.bucket) = (sums.shard + 1, 0),
            }
        }
        None
    }
}

impl Shard {
    fn is_told(&self, key: &[u8], version: Version) -> bool {
        let is_local = self.shared.peered.as_ref().is_none_or(|peered| peered.is_local(key));
        version > self.flushed && !is_local
    }

    /// The items in these buckets, nothing but the headers and ends of keys of which are looked at:
    /// the processor then waits for the memory of all of them at the same time.
    fn meet(&self, buckets: Range<usize>, items: &mut Vec<Seen>) {
        items.clear();
        for bucket in buckets {
            items.extend(self.index.handles(bucket).map(|handle| {
                let key_ends_with = self.log.key(handle).last().copied();
                Seen { handle, header: self.log.header(handle), key_ends_with }
            }));
        }
    }

    fn scan_items(
        &self,
        first: usize,
        values: bool,
        lanes: Lanes,
        budget: usize,
        into: &mut Records,
    ) -> Stage {
        let end = self.index.buckets().min(first + BUCKETS_A_STEP);
        let mut items = Vec::new();
        for group in groups(first..end) {
            if group.start > first && into.size() >= budget {
                return Stage::Items(group.start);
            }
            self.meet(group, &mut items);
            for &Seen { handle, header, key_ends_with } in &items {
                let key = self.log.key(handle);
                debug_assert_eq!(key.last().copied(), key_ends_with);
                let hash = digest_hash(key);
                if !lanes.has(hash) || !self.is_told(key, header.version) {
                    continue;
                }
                into.push(key, hash, record_of(&header));
                let value_len = header.value_len as usize;
                if values && value_len <= VALUE_CHUNK {
                    into.push_value(|bytes| self.copy_short(handle, &header, bytes));
                }
            }
        }
        if end < self.index.buckets() { Stage::Items(end) } else { Stage::Floors(Vec::new()) }
    }

    fn scan_floors(
        &self,
        after: &[u8],
        lanes: Lanes,
        budget: usize,
        into: &mut Records,
    ) -> Option<Stage> {
        let mut last = after;
        for (n, (key, floor)) in self.floors.after(after).enumerate() {
            if n == FLOORS_A_STEP || (n > 0 && into.size() >= budget) {
                return Some(Stage::Floors(last.to_vec()));
            }
            last = key;
            let hash = digest_hash(key);
            if lanes.has(hash) && floor.version > self.flushed {
                into.push(key, hash, record_of_floor(floor));
            }
        }
        None
    }

    /// Adds a step's items; returns where to go on.
    fn digest_items(&self, first: usize, now: Now, digest: &mut Digest) -> Option<usize> {
        let end = self.index.buckets().min(first + BUCKETS_A_STEP);
        let mut items = Vec::new();
        for group in groups(first..end) {
            self.meet(group, &mut items);
            for &Seen { handle, header, .. } in &items {
                let key = self.log.key(handle);
                if self.gone(handle, &header, now).is_none() && self.is_told(key, header.version) {
                    digest.add(digest_hash(key), &header);
                }
            }
        }
        (end < self.index.buckets()).then_some(end)
    }
}

/// An item as far as it was looked at.
#[derive(Clone, Copy)]
struct Seen {
    handle: Handle,
    header: Header,
    key_ends_with: Option<u8>,
}

/// Some buckets at a time.
fn groups(buckets: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let starts = buckets.clone().step_by(BUCKETS_A_GROUP);
    starts.map(move |start| start..buckets.end.min(start + BUCKETS_A_GROUP))
}

const _: () = assert!(KEY_MAX < VALUE_CHUNK);
