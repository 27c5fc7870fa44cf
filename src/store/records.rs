//! Telling a peer what we know: all records, or those of some lanes, in bounded steps.
//!
//! A scan is not a moment's picture. What is there all the while is met; what is changed meanwhile
//! by a client is in the log of mutations. Local keys are left out.
//!
//! What is NOT here: sums by lane ([`super::digests`]), and who is told ([`super::merge`] is the
//! other end).

use std::ops::Range;

use super::digests::{Lanes, digest_hash};
use super::record::{Record, record_of, record_of_floor};
use super::shard::Shard;
use super::shards::Store;
use super::slot::Handle;
use crate::clock::Now;
use crate::limits::{KEY_MAX, VALUE_CHUNK};
use crate::version::Version;

/// Most buckets looked into under one lock: some 800 items, which take about 0.1 ms.
pub(super) const BUCKETS_A_STEP: usize = 128;

/// Buckets whose items are met together: some 50.
const BUCKETS_A_GROUP: usize = 8;

/// Most floors looked at under one lock.
const FLOORS_A_STEP: usize = 1024;

/// Bytes of values summed under one lock, but for one group more: some 0.1 ms.
pub(super) const SUMMED_A_STEP: usize = 256 << 10;

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
    content: u32,
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
    /// What tells apart two values of one version: a hash of the value and of what belongs to it. 0
    /// for what is no value, and in a scan with values.
    pub content: u32,
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
            let Met { hash, record, content, .. } = *met;
            ScannedRecord { key, hash, record, content, value }
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

    fn push(&mut self, key: &[u8], hash: u64, record: Record, content: u32) {
        self.bytes.extend_from_slice(key);
        self.met.push(Met { hash, record, content, key_len: key.len(), value_len: None });
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
}

impl Shard {
    pub(super) fn is_told(&self, key: &[u8], version: Version) -> bool {
        let is_local = self.shared.peered.as_ref().is_none_or(|peered| peered.is_local(key));
        version > self.flushed && !is_local
    }

    /// The items in these buckets, whose memory has been looked at.
    pub(super) fn meet(&self, buckets: Range<usize>, items: &mut Vec<Handle>) {
        items.clear();
        items.extend(buckets.flat_map(|bucket| self.index.handles(bucket)));
        self.look_at_items(items.iter().copied());
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
        let (mut items, mut summed) = (Vec::new(), 0);
        for group in groups(first..end) {
            let is_enough = into.size() >= budget || summed >= SUMMED_A_STEP;
            if group.start > first && is_enough {
                return Stage::Items(group.start);
            }
            self.meet(group, &mut items);
            for &handle in &items {
                let (key, header) = (self.log.key(handle), self.log.header(handle));
                let hash = digest_hash(key);
                if !lanes.has(hash) || !self.is_told(key, header.version) {
                    continue;
                }
                let content = if values { 0 } else { self.content(handle, &header) };
                into.push(key, hash, record_of(&header), content);
                summed += if values { 0 } else { header.inline_len() };
                if values && header.value_len as usize <= VALUE_CHUNK {
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
                into.push(key, hash, record_of_floor(floor), 0);
            }
        }
        None
    }
}

/// Some buckets at a time.
pub(super) fn groups(buckets: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let starts = buckets.clone().step_by(BUCKETS_A_GROUP);
    starts.map(move |start| start..buckets.end.min(start + BUCKETS_A_GROUP))
}

const _: () = assert!(KEY_MAX < VALUE_CHUNK);
