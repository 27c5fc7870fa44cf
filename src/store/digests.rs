//! Sums over all that we hold, by *lane*, to be compared with a peer's.
//!
//! A lane is one of 256 parts of all keys, by a hash that is the same on every node. Two nodes that
//! compare the sums of their lanes know which parts of their data differ without listing them.
//!
//! Values past their expiry and floors come and go at each node's own time. They are told, because
//! they keep older values away, but they are not in the sums.
//!
//! Sums are of content, too, not of versions alone. A node that is started again, cut off from all
//! others and with its clock set back, may give versions that its earlier run gave: then two nodes
//! hold two values at one version, and nobody but a comparison of content would ever notice.
//!
//! What is NOT here: what is done about lanes that differ (`replication/scan`).

use xxhash_rust::xxh3;

use super::record::{Record, record_of};
use super::records::{BUCKETS_A_STEP, SUMMED_A_STEP, groups};
use super::shard::Shard;
use super::shards::Store;
use super::slot::{Handle, Header};
use crate::clock::Now;

/// Steps of one shard after another in a step of a digest, if none is longer than a step.
const DIGEST_LOCKS_A_STEP: usize = 8;

/// How many lanes there are.
const LANES: usize = 256;

/// A key's hash for lanes and lists: the same on every node, so it has no secret. Who chooses keys
/// can make lanes uneven, which makes lists longer than they need be, up to their limit; of keys that
/// he makes collide a repair may leave one out, and no others.
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

    fn add(&mut self, hash: u64, header: &Header, content: u32) {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&hash.to_le_bytes());
        bytes[8..16].copy_from_slice(&header.version.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&header.touched.0.to_le_bytes());
        bytes[24..].copy_from_slice(&content.to_le_bytes());
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

impl Store {
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

    /// Goes on with a digest, in a step that takes some 0.1 ms; `None` while it is not done.
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
                Some(bucket) => {
                    sums.bucket = bucket;
                    return None;
                }
                None => (sums.shard, sums.bucket) = (sums.shard + 1, 0),
            }
        }
        None
    }
}

impl Shard {
    /// Adds a step's items; returns where to go on.
    fn digest_items(&self, first: usize, now: Now, digest: &mut Digest) -> Option<usize> {
        let end = self.index.buckets().min(first + BUCKETS_A_STEP);
        let (mut items, mut summed) = (Vec::new(), 0);
        for group in groups(first..end) {
            if summed >= SUMMED_A_STEP {
                return Some(group.start);
            }
            self.meet(group, &mut items);
            for &handle in &items {
                let (key, header) = (self.log.key(handle), self.log.header(handle));
                if self.gone(handle, &header, now).is_none() && self.is_told(key, header.version) {
                    summed += header.inline_len();
                    digest.add(digest_hash(key), &header, self.content(handle, &header));
                }
            }
        }
        (end < self.index.buckets()).then_some(end)
    }

    /// A hash of all that an item holds, apart from its key and its versions.
    pub(super) fn content(&self, handle: Handle, header: &Header) -> u32 {
        #[cfg(test)]
        if self.shared.breaks(|broken| broken.content_uncompared) {
            return 0;
        }
        let value = match self.large_id(handle, header) {
            Some(id) => self.blocks.sum(id),
            None => xxh3::xxh3_64(self.log.inline(handle, header)),
        };
        let Record { expiry, flags, stale, binary_key, .. } = record_of(header);
        let mut bytes = [0; 18];
        bytes[..8].copy_from_slice(&value.to_le_bytes());
        bytes[8..12].copy_from_slice(&expiry.to_bits().to_le_bytes());
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..].copy_from_slice(&[u8::from(stale), u8::from(binary_key)]);
        let [a, b, c, d, ..] = xxh3::xxh3_64(&bytes).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}
