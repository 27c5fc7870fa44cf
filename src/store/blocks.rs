//! A shard's large values: bytes in blocks of block segments.
//!
//! A value is a list of blocks in the large table, named by its *large id*; the item's slot in the
//! log holds that id. Who reads or builds a value *pins* it: a value that is removed while pinned
//! keeps its blocks until the last pin is gone, and they stay counted. Block 0 of each segment says
//! who owns the others, so that a sparse segment's blocks can be moved into the holes of others
//! and the segment given back.
//!
//! What is NOT here: finding room ([`super::room`]), and the handle by which readers hold a value
//! outside the lock ([`super::large`]).

use std::collections::TryReserveError;

use super::pool::{Pool, Purpose, SEGMENT, Segment};
use super::slot::narrow;

/// Bytes of a block.
pub(super) const BLOCK: usize = 1 << 10;

const BLOCKS_LOG2: u32 = (SEGMENT / BLOCK).ilog2();

/// Blocks of a segment that values can use: all but the one that says who owns them.
pub(super) const BLOCKS_A_SEGMENT: usize = SEGMENT / BLOCK - 1;

/// Bytes of block 0 for each block: large id and position in the value.
const OWNER: usize = 8;

/// The bit of block 0 in [`BlockSegment::taken`].
const OWNERS_TAKEN: u128 = 1;

const _: () = assert!(SEGMENT / BLOCK == u128::BITS as usize);
const _: () = assert!((BLOCKS_A_SEGMENT + 1) * OWNER <= BLOCK);

/// A block's name: segment number and block within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block(u32);

impl Block {
    fn new(segment: usize, index: u32) -> Block {
        Block(narrow(segment) << BLOCKS_LOG2 | index)
    }

    fn segment(self) -> usize {
        (self.0 >> BLOCKS_LOG2) as usize
    }

    fn index(self) -> u32 {
        self.0 & ((1 << BLOCKS_LOG2) - 1)
    }

    fn at(self) -> usize {
        self.index() as usize * BLOCK
    }
}

/// A value's entry in the large table.
#[derive(Debug, Default)]
struct Entry {
    blocks: Vec<Block>,
    /// A hash of the value, once it is built; for peers only.
    sum: u64,
    len: u32,
    pins: u32,
    /// No item has this value: it is being built, or was removed while pinned.
    detached: bool,
}

#[derive(Debug)]
struct BlockSegment {
    memory: Option<Segment>,
    /// A bit for each block.
    taken: u128,
    /// Where it is in [`Blocks::partial`], if it has free blocks.
    partial_at: usize,
}

/// A shard's large values.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    segments: Vec<BlockSegment>,
    /// Numbers without memory.
    vacant: Vec<usize>,
    /// Segments with free blocks.
    partial: Vec<usize>,
    entries: Vec<Entry>,
    vacant_entries: Vec<u32>,
    held: usize,
    free: usize,
    /// Blocks of pinned values: what no eviction can free.
    pinned: usize,
}

impl Blocks {
    /// How many segments are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// How many blocks are pinned, or will be when what is being built has come.
    pub(super) fn pinned(&self) -> usize {
        self.pinned
    }

    /// How many blocks could be taken without another segment.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Bytes of the blocks of the value `id`.
    pub(super) fn bytes(&self, id: u32) -> usize {
        self.entries[id as usize].blocks.len() * BLOCK
    }

    /// Adds a segment's blocks.
    pub(super) fn add(&mut self, segment: Segment) {
        let added = BlockSegment { memory: Some(segment), taken: OWNERS_TAKEN, partial_at: 0 };
        let number = if let Some(number) = self.vacant.pop() {
            self.segments[number] = added;
            number
        } else {
            self.segments.push(added);
            self.segments.len() - 1
        };
        self.add_partial(number);
        self.held += 1;
        self.free += BLOCKS_A_SEGMENT;
    }

    /// Takes every segment out.
    pub(super) fn clear(&mut self) -> Vec<Segment> {
        std::mem::take(self).segments.into_iter().filter_map(|segment| segment.memory).collect()
    }

    /// A detached value of `len` bytes, pinned once, without blocks yet.
    ///
    /// # Errors
    /// The list of its blocks cannot be allocated.
    pub(super) fn begin(&mut self, len: usize) -> Result<u32, TryReserveError> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(len.div_ceil(BLOCK))?;
        let entry = Entry { blocks, sum: 0, len: narrow(len), pins: 1, detached: true };
        let id = match self.vacant_entries.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.try_reserve(1)?;
                self.entries.push(entry);
                narrow(self.entries.len() - 1)
            }
        };
        self.pinned += len.div_ceil(BLOCK);
        Ok(id)
    }

    /// Blocks that [`Blocks::write`] of `len` bytes at `offset` would take.
    pub(super) fn wanted(&self, id: u32, offset: usize, len: usize) -> usize {
        (offset + len).div_ceil(BLOCK).saturating_sub(self.entries[id as usize].blocks.len())
    }

    /// Writes `bytes` at `offset` of a value being built, taking the blocks for it, which are
    /// free.
    pub(super) fn write(&mut self, id: u32, offset: usize, mut bytes: &[u8]) {
        for _ in 0..self.wanted(id, offset, bytes.len()) {
            let position = narrow(self.entries[id as usize].blocks.len());
            let block = self.take(id, position);
            self.entries[id as usize].blocks.push(block);
        }
        let mut at = offset;
        while !bytes.is_empty() {
            let block = self.entries[id as usize].blocks[at / BLOCK];
            let within = at % BLOCK;
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - within));
            let from = block.at() + within;
            self.memory_mut(block.segment())[from..from + now.len()].copy_from_slice(now);
            at += now.len();
            bytes = rest;
        }
    }

    /// Appends at most `max` bytes of the value from `offset` on to `out`; returns how many.
    pub(super) fn read(&self, id: u32, offset: usize, max: usize, out: &mut Vec<u8>) -> usize {
        let entry = &self.entries[id as usize];
        let end = (entry.len as usize).min(offset.saturating_add(max));
        let mut at = offset;
        while at < end {
            let block = entry.blocks[at / BLOCK];
            let within = at % BLOCK;
            let len = (end - at).min(BLOCK - within);
            let from = block.at() + within;
            out.extend_from_slice(&self.memory(block.segment())[from..from + len]);
            at += len;
        }
        end.saturating_sub(offset)
    }

    /// The value `id` has been written, and this is its hash.
    pub(super) fn seal(&mut self, id: u32, sum: u64) {
        self.entries[id as usize].sum = sum;
    }

    /// The hash of the value `id`.
    pub(super) fn sum(&self, id: u32) -> u64 {
        self.entries[id as usize].sum
    }

    /// A value that was built becomes an item's.
    pub(super) fn attach(&mut self, id: u32) {
        self.entries[id as usize].detached = false;
    }

    /// The item of the value is gone; so are its blocks, unless it is pinned.
    pub(super) fn detach(&mut self, id: u32, pool: &Pool) {
        self.entries[id as usize].detached = true;
        self.drop_unused(id, pool);
    }

    /// Holds the value as it is.
    pub(super) fn pin(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        if entry.pins == 0 {
            self.pinned += (entry.len as usize).div_ceil(BLOCK);
        }
        entry.pins += 1;
    }

    /// Lets go of a pin.
    pub(super) fn unpin(&mut self, id: u32, pool: &Pool) {
        let entry = &mut self.entries[id as usize];
        entry.pins -= 1;
        if entry.pins == 0 {
            self.pinned -= (entry.len as usize).div_ceil(BLOCK);
        }
        self.drop_unused(id, pool);
    }

    fn drop_unused(&mut self, id: u32, pool: &Pool) {
        let entry = &mut self.entries[id as usize];
        if entry.detached && entry.pins == 0 {
            let blocks = std::mem::take(entry).blocks;
            self.vacant_entries.push(id);
            for block in blocks {
                self.give_up(block, pool);
            }
        }
    }

    fn memory(&self, segment: usize) -> &[u8; SEGMENT] {
        match &self.segments[segment].memory {
            Some(memory) => memory,
            None => unreachable!("a block of a segment that was given back"),
        }
    }

    fn memory_mut(&mut self, segment: usize) -> &mut [u8; SEGMENT] {
        match &mut self.segments[segment].memory {
            Some(memory) => memory,
            None => unreachable!("a block of a segment that was given back"),
        }
    }

    /// Takes a free block for the value `id`.
    fn take(&mut self, id: u32, position: u32) -> Block {
        let Some(&number) = self.partial.last() else { unreachable!("the caller made room") };
        let taken = &mut self.segments[number].taken;
        let block = Block::new(number, taken.trailing_ones());
        *taken |= 1 << block.index();
        if *taken == u128::MAX {
            self.remove_partial(number);
        }
        self.free -= 1;
        let at = block.index() as usize * OWNER;
        let owner = &mut self.memory_mut(number)[at..at + OWNER];
        owner[..4].copy_from_slice(&id.to_le_bytes());
        owner[4..].copy_from_slice(&position.to_le_bytes());
        block
    }

    fn owner(&self, block: Block) -> (u32, u32) {
        let at = block.index() as usize * OWNER;
        let word = |at: usize| {
            let bytes = &self.memory(block.segment())[at..at + 4];
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        };
        (word(at), word(at + 4))
    }

    fn give_up(&mut self, block: Block, pool: &Pool) {
        let number = block.segment();
        if self.segments[number].taken == u128::MAX {
            self.add_partial(number);
        }
        let taken = &mut self.segments[number].taken;
        *taken &= !(1 << block.index());
        self.free += 1;
        if *taken == OWNERS_TAKEN {
            self.remove_partial(number);
            self.release(number, pool);
        }
    }

    fn add_partial(&mut self, number: usize) {
        self.segments[number].partial_at = self.partial.len();
        self.partial.push(number);
    }

    fn remove_partial(&mut self, number: usize) {
        let at = self.segments[number].partial_at;
        self.partial.swap_remove(at);
        if let Some(&moved) = self.partial.get(at) {
            self.segments[moved].partial_at = at;
        }
    }

    fn release(&mut self, number: usize, pool: &Pool) {
        if let Some(memory) = self.segments[number].memory.take() {
            self.segments[number].taken = OWNERS_TAKEN;
            self.vacant.push(number);
            self.held -= 1;
            self.free -= BLOCKS_A_SEGMENT;
            pool.give_back(memory, Purpose::Blocks);
        }
    }

    /// Moves the blocks of the emptiest segment into the holes of others and gives the segment
    /// back; at most a segment's bytes are copied. `false` if the holes do not suffice.
    pub(super) fn compact(&mut self, pool: &Pool) -> bool {
        let used = |number: usize| self.segments[number].taken.count_ones() as usize - 1;
        let Some(&source) = self.partial.iter().min_by_key(|&&number| used(number)) else {
            return false;
        };
        let holes_elsewhere = self.free - (BLOCKS_A_SEGMENT - used(source));
        if holes_elsewhere < used(source) {
            return false;
        }
        self.remove_partial(source);
        let mut left = self.segments[source].taken & !OWNERS_TAKEN;
        while left != 0 {
            let from = Block::new(source, left.trailing_zeros());
            left &= left - 1;
            self.move_block(from);
        }
        self.segments[source].taken = OWNERS_TAKEN;
        self.release(source, pool);
        true
    }

    /// Moves a block into a hole of another segment. Its segment is no longer among the partial.
    fn move_block(&mut self, from: Block) {
        let (id, position) = self.owner(from);
        let to = self.take(id, position);
        self.free += 1;
        let pair = [from.segment(), to.segment()];
        let Ok([source, target]) = self.segments.get_disjoint_mut(pair) else {
            unreachable!("the hole is in another segment")
        };
        let (Some(source), Some(target)) = (&source.memory, &mut target.memory) else {
            unreachable!("both segments are held")
        };
        target[to.at()..to.at() + BLOCK].copy_from_slice(&source[from.at()..from.at() + BLOCK]);
        self.entries[id as usize].blocks[position as usize] = to;
    }
}

#[cfg(any(test, fuzzing))]
impl Blocks {
    /// Checks that segments, blocks, owners and entries agree; returns the ids of values that
    /// items have.
    pub(super) fn check(&self) -> std::collections::BTreeSet<u32> {
        let mut seen = std::collections::BTreeSet::new();
        let mut attached = std::collections::BTreeSet::new();
        for (id, entry) in (0u32..).zip(&self.entries) {
            if self.vacant_entries.contains(&id) {
                assert!(entry.blocks.is_empty());
                continue;
            }
            if !entry.detached {
                attached.insert(id);
                assert_eq!(entry.blocks.len(), (entry.len as usize).div_ceil(BLOCK));
            }
            for (position, &block) in (0u32..).zip(&entry.blocks) {
                assert!(seen.insert(block.0), "a block belongs to one value");
                assert_eq!(self.owner(block), (id, position));
                assert!(self.segments[block.segment()].taken & (1 << block.index()) != 0);
            }
        }
        let held = || self.segments.iter().filter(|segment| segment.memory.is_some());
        let taken: usize = held().map(|segment| segment.taken.count_ones() as usize - 1).sum();
        assert_eq!(taken, seen.len(), "every block taken belongs to a value");
        assert_eq!(held().count(), self.held);
        assert_eq!(self.free, self.held * BLOCKS_A_SEGMENT - taken);
        for (number, segment) in self.segments.iter().enumerate() {
            let has_holes = segment.memory.is_some() && segment.taken != u128::MAX;
            assert_eq!(self.partial.contains(&number), has_holes);
            assert!(!has_holes || self.partial[segment.partial_at] == number);
            assert!(segment.memory.is_none() || segment.taken != OWNERS_TAKEN, "given back");
        }
        attached
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Claim;
    use super::*;

    struct Bench {
        blocks: Blocks,
        pool: Pool,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { blocks: Blocks::default(), pool: Pool::new(16 << 20, 1) }
        }

        fn build(&mut self, len: usize, fill: u8) -> u32 {
            let id = self.blocks.begin(len).unwrap();
            while self.blocks.free() < len.div_ceil(BLOCK) {
                let segment = self.pool.take(Purpose::Blocks, Claim::Common).unwrap();
                self.blocks.add(segment);
            }
            // In uneven pieces, as appended values are.
            for start in (0..len).step_by(1500) {
                let piece = vec![fill; 1500.min(len - start)];
                self.blocks.write(id, start, &piece);
            }
            self.blocks.attach(id);
            self.blocks.unpin(id, &self.pool);
            id
        }

        fn value(&self, id: u32) -> Vec<u8> {
            let mut out = Vec::new();
            while self.blocks.read(id, out.len(), 777, &mut out) > 0 {}
            out
        }
    }

    #[test]
    fn a_value_reads_back_in_pieces_of_any_size() {
        let mut bench = Bench::new();
        let id = bench.build(300_001, 7);
        assert_eq!(bench.value(id), vec![7; 300_001]);
        bench.blocks.check();
        bench.blocks.detach(id, &bench.pool);
        assert_eq!((bench.blocks.held(), bench.pool.usage().held), (0, 0));
    }

    #[test]
    fn a_pinned_value_outlives_its_item_by_its_last_pin() {
        let mut bench = Bench::new();
        let id = bench.build(10_000, 1);
        bench.blocks.pin(id);
        bench.blocks.pin(id);
        bench.blocks.detach(id, &bench.pool);
        let other = bench.build(10_000, 2);
        assert_eq!(bench.value(id), vec![1; 10_000]);
        bench.blocks.unpin(id, &bench.pool);
        assert_eq!(bench.value(id), vec![1; 10_000]);
        bench.blocks.unpin(id, &bench.pool);
        bench.blocks.check();
        bench.blocks.detach(other, &bench.pool);
        assert_eq!(bench.pool.usage().held, 0);
    }

    #[test]
    fn compacting_gives_segments_back_and_values_stay_whole() {
        let mut bench = Bench::new();
        let ids: Vec<u32> = (0..60).map(|n| bench.build(30_000, n)).collect();
        let before = bench.blocks.held();
        for &id in ids.iter().filter(|&&id| id % 3 != 0) {
            bench.blocks.detach(id, &bench.pool);
        }
        while bench.blocks.compact(&bench.pool) {
            bench.blocks.check();
        }
        assert!(bench.blocks.held() <= before / 3 + 1, "{} of {before}", bench.blocks.held());
        for (n, &id) in (0u8..).zip(&ids).filter(|&(_, &id)| id % 3 == 0) {
            assert_eq!(bench.value(id), vec![n; 30_000]);
            bench.blocks.detach(id, &bench.pool);
        }
        assert_eq!(bench.pool.usage().held, 0);
    }
}
