//! A shard's index: which slot holds a key. Linear hashing over buckets of one cache line.
//!
//! ```text
//! | 10 tags, 2 bytes each | 10 handles, 4 bytes each | next bucket 4 |
//! ```
//!
//! A tag is 16 bits of the key's hash, so that a lookup reads the bucket's line and, nearly
//! always, only the right item's. A full bucket goes on in a spill bucket. The table grows by one
//! bucket at a time, splitting the next one in turn: no insertion ever pays for a whole table.
//! Between two doublings the buckets not yet split hold up to twice as many items as those that
//! are, so [`LOAD`] is kept at seven of ten. The index never shrinks.
//!
//! Table and spill buckets share segments, in chunks of [`CHUNK`] buckets; a directory says which
//! chunks make up the table. So a small shard's index is as well filled as a large one's.
//!
//! The bucket is chosen by the hash's low bits, the shard by its highest: they are independent.
//!
//! What is NOT here: keys. Callers say whether a handle is the one they want.

use super::ahead::fetch_soon;
use super::pool::{SEGMENT, Segment};
use super::slot::{Handle, narrow};

/// Bytes of a bucket: a cache line.
const BUCKET: usize = 64;

/// Items that one bucket holds.
const SLOTS: usize = 10;

/// Items a bucket, on average, at which the table grows.
const LOAD: usize = 7;

/// Most buckets split by one insertion: more than one, to catch up after a want of memory.
const SPLITS_AN_INSERT: usize = 2;

const HANDLES_AT: usize = 2 * SLOTS;
const NEXT_AT: usize = HANDLES_AT + 4 * SLOTS;
const BUCKETS_A_SEGMENT: usize = SEGMENT / BUCKET;

/// Buckets that the table or the spill takes at a time.
const CHUNK: usize = 64;

/// The table begins with one chunk.
const FIRST_BUCKETS: u32 = 1 << CHUNK.ilog2();

const _: () = assert!(NEXT_AT + 4 == BUCKET);
const _: () = assert!(SLOTS <= 3 * TAGS_A_WORD && CHUNK.is_power_of_two());

/// Where in the index an item was found. Valid until the index changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    bucket: u32,
    slot: u32,
}

/// A shard's index. Buckets are numbered through all segments; number 0 is the table's first, so
/// that as a link it means none.
#[derive(Debug)]
pub(super) struct Index {
    segments: Vec<Segment>,
    /// The first bucket of each chunk of the table.
    table: Vec<u32>,
    /// Buckets from here on were never used.
    fresh: u32,
    /// The rest of the spill's last chunk.
    spill: std::ops::Range<u32>,
    /// First of the spill buckets that were used and are free, chained by their links.
    spill_free: u32,
    /// How many buckets the table has, once it has any.
    buckets: u32,
    /// The bits of a hash that choose one of twice as many buckets as the table had at the last doubling.
    mask: u32,
    items: usize,
    /// Counts changes of any bucket.
    changes: u32,
    /// Items of the bucket being split; kept for its allocation.
    splitting: Vec<(u16, Handle)>,
}

fn tag_of(hash: u64) -> u16 {
    let [_, _, tag @ .., _, _, _, _] = hash.to_be_bytes();
    u16::from_be_bytes(tag)
}

fn tag(bucket: &[u8; BUCKET], slot: usize) -> u16 {
    u16::from_le_bytes([bucket[2 * slot], bucket[2 * slot + 1]])
}

/// Tags that are compared at a time.
const TAGS_A_WORD: usize = 4;

/// A word of tags that are 1.
const ONES: u64 = 0x0001_0001_0001_0001;

/// The slots with this tag, and now and then one more. All are compared before one is chosen: no
/// processor guesses which it will be.
fn tagged(bucket: &[u8; BUCKET], looked_for: u16) -> impl Iterator<Item = usize> {
    let pattern = ONES * u64::from(looked_for);
    // A tag whose difference is 0 borrows into its highest bit, and perhaps from the one above it.
    let same = |number: usize| {
        let differences = word_of_tags(bucket, number) ^ pattern;
        (differences.wrapping_sub(ONES) & !differences) >> 15 & ONES
    };
    // Word w's slot t is at bit 16 t + w.
    let mut slots = same(0) | same(1) << 1 | (same(2) & 0x0001_0001) << 2;
    std::iter::from_fn(move || {
        let bit = slots.trailing_zeros() as usize;
        slots &= slots.wrapping_sub(1);
        (bit < 64).then_some(bit % 16 * TAGS_A_WORD + bit / 16)
    })
}

fn word_of_tags(bucket: &[u8; BUCKET], number: usize) -> u64 {
    let (words, _) = bucket.as_chunks();
    u64::from_le_bytes(words[number])
}

fn word(bucket: &[u8; BUCKET], at: usize) -> u32 {
    u32::from_le_bytes([bucket[at], bucket[at + 1], bucket[at + 2], bucket[at + 3]])
}

fn set_word(bucket: &mut [u8; BUCKET], at: usize, word: u32) {
    bucket[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

fn handle(bucket: &[u8; BUCKET], slot: usize) -> Option<Handle> {
    Handle::from_bits(word(bucket, HANDLES_AT + 4 * slot))
}

impl Index {
    /// An index without memory. It takes items once it was given a segment.
    pub(super) fn new() -> Index {
        Index {
            segments: Vec::new(),
            table: Vec::new(),
            fresh: 0,
            spill: 0..0,
            spill_free: 0,
            buckets: FIRST_BUCKETS,
            mask: 2 * FIRST_BUCKETS - 1,
            items: 0,
            changes: 0,
            splitting: Vec::new(),
        }
    }

    /// How many items are in the index.
    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// How many buckets a walk over the index visits.
    pub(super) fn buckets(&self) -> usize {
        if self.table.is_empty() { 0 } else { self.buckets as usize }
    }

    /// Another number after every change: until then what was found is where it was.
    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    /// How many segments are held.
    pub(super) fn held(&self) -> usize {
        self.segments.len()
    }

    /// Takes every segment out.
    pub(super) fn clear(&mut self) -> Vec<Segment> {
        let changes = self.changes.wrapping_add(1);
        std::mem::replace(self, Index { changes, ..Index::new() }).segments
    }

    /// The number of the table's bucket `position`.
    fn bucket_at(&self, position: usize) -> u32 {
        self.table[position / CHUNK] | narrow(position % CHUNK)
    }

    /// The first bucket for a hash.
    fn home(&self, hash: u64) -> u32 {
        let [.., a, b, c, d] = hash.to_be_bytes();
        let low = u32::from_be_bytes([a, b, c, d]);
        let fine = low & self.mask;
        let position = if fine < self.buckets { fine } else { low & self.mask >> 1 };
        self.bucket_at(position as usize)
    }

    fn bucket(&self, number: u32) -> &[u8; BUCKET] {
        let number = number as usize;
        let (buckets, _) = self.segments[number / BUCKETS_A_SEGMENT].as_chunks::<BUCKET>();
        &buckets[number % BUCKETS_A_SEGMENT]
    }

    fn bucket_mut(&mut self, number: u32) -> &mut [u8; BUCKET] {
        self.changes = self.changes.wrapping_add(1);
        let number = number as usize;
        let (buckets, _) = self.segments[number / BUCKETS_A_SEGMENT].as_chunks_mut::<BUCKET>();
        &mut buckets[number % BUCKETS_A_SEGMENT]
    }

    /// The item with `hash` for which `wanted` holds.
    pub(super) fn find(
        &self,
        hash: u64,
        mut wanted: impl FnMut(Handle) -> bool,
    ) -> Option<(Place, Handle)> {
        if self.table.is_empty() {
            return None;
        }
        let looked_for = tag_of(hash);
        let mut number = self.home(hash);
        loop {
            let bucket = self.bucket(number);
            for slot in tagged(bucket, looked_for) {
                if let Some(handle) = handle(bucket, slot)
                    && wanted(handle)
                {
                    return Some((Place { bucket: number, slot: narrow(slot) }, handle));
                }
            }
            number = match word(bucket, NEXT_AT) {
                0 => return None,
                next => next,
            };
        }
    }

    /// Has the memory of the first bucket for `hash` fetched.
    pub(super) fn look_at(&self, hash: u64) {
        if !self.table.is_empty() {
            fetch_soon(&self.bucket(self.home(hash))[0]);
        }
    }

    /// Points a place at the slot its item has moved to.
    pub(super) fn repoint(&mut self, place: Place, to: Handle) {
        let at = HANDLES_AT + 4 * place.slot as usize;
        set_word(self.bucket_mut(place.bucket), at, to.to_bits());
    }

    /// Whether an item can be inserted without another segment.
    pub(super) fn can_insert(&self, hash: u64) -> bool {
        if self.table.is_empty() {
            return false;
        }
        let has_spill = self.spill_free != 0 || !self.spill.is_empty() || self.has_chunk();
        has_spill || self.chain(self.home(hash)).any(|number| self.vacancy(number).is_some())
    }

    fn has_chunk(&self) -> bool {
        (self.fresh as usize) < self.segments.len() * BUCKETS_A_SEGMENT
    }

    /// Whether the table wants to grow and lacks the segment for it.
    pub(super) fn wants_segment(&self) -> bool {
        self.is_crowded() && !self.can_split()
    }

    fn is_crowded(&self) -> bool {
        self.items >= self.buckets() * LOAD
    }

    fn can_split(&self) -> bool {
        self.buckets() < self.table.len() * CHUNK || self.has_chunk()
    }

    /// Adds a segment to grow into.
    pub(super) fn add(&mut self, segment: Segment) {
        self.segments.push(segment);
        if self.table.is_empty() {
            let first = self.take_chunk();
            self.table.push(first);
        }
    }

    /// The first bucket of a chunk never used, its buckets empty now.
    fn take_chunk(&mut self) -> u32 {
        let first = self.fresh;
        self.fresh += narrow(CHUNK);
        (first..self.fresh).for_each(|number| *self.bucket_mut(number) = [0; BUCKET]);
        first
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(first), |&number| {
            let next = word(self.bucket(number), NEXT_AT);
            (next != 0).then_some(next)
        })
    }

    fn vacancy(&self, number: u32) -> Option<usize> {
        let bucket = self.bucket(number);
        (0..SLOTS).find(|&slot| handle(bucket, slot).is_none())
    }

    /// Inserts an item, as [`Index::can_insert`] allowed, and grows the table if it is crowded.
    /// `hash_of` tells the hash of an item met on the way, and `look_at` has fetched what it needs for that.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        item: Handle,
        look_at: impl Fn(Handle),
        hash_of: impl Fn(Handle) -> u64,
    ) {
        self.place(self.home(hash), tag_of(hash), item);
        self.items += 1;
        for _ in 0..SPLITS_AN_INSERT {
            if self.is_crowded() && self.can_split() {
                self.split_next(&look_at, &hash_of);
            }
        }
    }

    fn place(&mut self, home: u32, tag: u16, item: Handle) {
        let mut number = home;
        let slot = loop {
            if let Some(slot) = self.vacancy(number) {
                break slot;
            }
            number = match word(self.bucket(number), NEXT_AT) {
                0 => self.append_spill(number),
                next => next,
            };
        };
        let bucket = self.bucket_mut(number);
        bucket[2 * slot..2 * slot + 2].copy_from_slice(&tag.to_le_bytes());
        set_word(bucket, HANDLES_AT + 4 * slot, item.to_bits());
    }

    fn append_spill(&mut self, last: u32) -> u32 {
        let number = if self.spill_free != 0 {
            let number = self.spill_free;
            self.spill_free = word(self.bucket(number), NEXT_AT);
            number
        } else {
            if self.spill.is_empty() {
                let first = self.take_chunk();
                self.spill = first..first + narrow(CHUNK);
            }
            let number = self.spill.start;
            self.spill.start += 1;
            number
        };
        *self.bucket_mut(number) = [0; BUCKET];
        set_word(self.bucket_mut(last), NEXT_AT, number);
        number
    }

    /// Splits the bucket whose turn it is: each of its items stays or goes to the new bucket. The
    /// spill buckets that this frees suffice for both.
    fn split_next(&mut self, look_at: impl Fn(Handle), hash_of: impl Fn(Handle) -> u64) {
        if self.buckets() == self.table.len() * CHUNK {
            let chunk = self.take_chunk();
            self.table.push(chunk);
        }
        let old = self.bucket_at((self.buckets & self.mask >> 1) as usize);
        let mut entries = std::mem::take(&mut self.splitting);
        let mut next = old;
        loop {
            let bucket = self.bucket(next);
            entries.extend(
                (0..SLOTS).filter_map(|slot| Some((tag(bucket, slot), handle(bucket, slot)?))),
            );
            let number = next;
            next = word(bucket, NEXT_AT);
            if number == old {
                *self.bucket_mut(old) = [0; BUCKET];
            } else {
                self.free_spill(number);
            }
            if next == 0 {
                break;
            }
        }
        self.buckets += 1;
        if self.buckets > self.mask {
            self.mask = 2 * self.mask + 1;
        }
        entries.iter().for_each(|&(_, handle)| look_at(handle));
        for (tag, handle) in entries.drain(..) {
            self.place(self.home(hash_of(handle)), tag, handle);
        }
        self.splitting = entries;
    }

    fn free_spill(&mut self, number: u32) {
        let next_free = self.spill_free;
        set_word(self.bucket_mut(number), NEXT_AT, next_free);
        self.spill_free = number;
    }

    /// Removes the item with `hash` at `place`. The last item of its chain takes the place, so
    /// that chains have no holes and no empty spill buckets.
    pub(super) fn remove(&mut self, hash: u64, place: Place) {
        let (mut before, mut last) = (None, self.home(hash));
        while let next @ 1.. = word(self.bucket(last), NEXT_AT) {
            before = Some(last);
            last = next;
        }
        let end = self.vacancy(last).unwrap_or(SLOTS) - 1;
        let bucket = self.bucket_mut(last);
        let (moved_tag, moved) = (tag(bucket, end), word(bucket, HANDLES_AT + 4 * end));
        bucket[2 * end..2 * end + 2].fill(0);
        set_word(bucket, HANDLES_AT + 4 * end, 0);
        let slot = place.slot as usize;
        if (place.bucket, slot) != (last, end) {
            let target = self.bucket_mut(place.bucket);
            target[2 * slot..2 * slot + 2].copy_from_slice(&moved_tag.to_le_bytes());
            set_word(target, HANDLES_AT + 4 * slot, moved);
        }
        self.items -= 1;
        if end == 0
            && let Some(before) = before
        {
            set_word(self.bucket_mut(before), NEXT_AT, 0);
            self.free_spill(last);
        }
    }

    /// The handles in the table's bucket `position` and its spill buckets.
    pub(super) fn handles(&self, position: usize) -> impl Iterator<Item = Handle> {
        self.chain(self.bucket_at(position)).flat_map(|number| {
            let bucket = self.bucket(number);
            (0..SLOTS).filter_map(|slot| handle(bucket, slot))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::pool::{Claim, Pool, Purpose};
    use super::super::slot::GRANULE;
    use super::*;

    /// A hash that spreads `n`, or puts everything in few buckets when `spread` is small.
    fn hash(n: u32, spread: u64) -> u64 {
        (u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) % spread)
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    fn item(n: u32) -> Handle {
        Handle::new(1 + n / 1000, (n % 1000) as usize * GRANULE)
    }

    fn number(handle: Handle) -> u32 {
        (handle.segment() - 1) * 1000 + narrow(handle.offset() / GRANULE)
    }

    fn feed(index: &mut Index, pool: &Pool, hash: u64) {
        while index.wants_segment() || !index.can_insert(hash) {
            index.add(pool.take(Purpose::Index, Claim::Common).unwrap());
        }
    }

    fn check(spread: u64, count: u32) {
        let pool = Pool::new(64 << 20, 1);
        let mut index = Index::new();
        let mut model = HashMap::new();
        for n in 0..count {
            feed(&mut index, &pool, hash(n, spread));
            index.insert(hash(n, spread), item(n), |_| (), |handle| hash(number(handle), spread));
            model.insert(n, ());
            if n % 3 == 0 {
                let gone = n / 2;
                let found = index.find(hash(gone, spread), |handle| handle == item(gone));
                assert_eq!(found.is_some(), model.remove(&gone).is_some());
                if let Some((place, _)) = found {
                    index.remove(hash(gone, spread), place);
                }
            }
        }
        assert_eq!(index.items(), model.len());
        for &n in model.keys() {
            assert!(index.find(hash(n, spread), |handle| handle == item(n)).is_some());
        }
        let met: usize = (0..index.buckets()).map(|bucket| index.handles(bucket).count()).sum();
        assert_eq!(met, model.len(), "a walk meets each item once");
        for segment in index.clear() {
            pool.give_back(segment, Purpose::Index);
        }
    }

    #[test]
    fn every_item_inserted_and_not_removed_is_found_while_the_table_grows() {
        check(u64::MAX, 200_000);
    }

    #[test]
    fn colliding_hashes_make_chains_and_lose_nothing() {
        check(7, 2_000);
    }

    #[test]
    fn chains_stay_short_at_every_size() {
        let pool = Pool::new(64 << 20, 1);
        let mut index = Index::new();
        for n in 0..100_000 {
            feed(&mut index, &pool, hash(n, u64::MAX));
            index.insert(
                hash(n, u64::MAX),
                item(n),
                |_| (),
                |handle| hash(number(handle), u64::MAX),
            );
            if n % 5_000 == 0 {
                let longest = (0..index.buckets())
                    .map(|home| index.chain(index.bucket_at(home)).count())
                    .max();
                assert!(longest <= Some(6), "{longest:?} buckets at {n} items");
            }
        }
        for segment in index.clear() {
            pool.give_back(segment, Purpose::Index);
        }
    }
}
