//! What must hold of every store at every moment when no lock is held.

use std::collections::{BTreeSet, HashSet};

use super::super::pool::{Purpose, SEGMENT};
use super::super::shard::Shard;
use super::Store;

impl Store {
    /// Panics if index, log, blocks, counters and pool disagree, or the limit is exceeded.
    pub(super) fn check(&self) {
        let mut held = 0;
        for lane in 0..self.shards() {
            let shard = self.lock(lane);
            held += shard.check();
        }
        let usage = self.usage();
        assert_eq!(usage.held, held, "the pool knows what shards hold");
        assert!(usage.held <= usage.limit, "{} of {}", usage.held, usage.limit);
    }
}

impl Shard {
    fn check(&self) -> usize {
        let mut large = BTreeSet::new();
        let mut handles = HashSet::new();
        let mut bytes = 0;
        let (mut live_sum, mut dead_sum) = (0, 0);
        for (number, about) in self.log.segments() {
            let (mut offset, mut live) = (0, 0);
            while let Some((handle, header)) = self.log.next_live(number, offset) {
                offset = handle.offset() + header.slot_len();
                live += header.slot_len();
                assert!(header.needed_len() <= header.slot_len());
                assert!(header.expiry.second().is_none_or(|at| at.0 >= about.min_expiry));
                assert!(header.expiry.second().is_none_or(|at| at.0 >= self.due_at));
                bytes += self.bytes_of(handle, &header);
                large.extend(self.large_id(handle, &header));
                handles.insert(handle.to_bits());
                let found = self.item_at(handle, header);
                assert_eq!(found.handle, handle);
            }
            assert!(offset <= about.tail as usize && about.tail as usize <= SEGMENT);
            assert_eq!(live, about.live as usize);
            assert!(live > 0 || self.log.is_open(number), "an empty segment is given back");
            live_sum += live;
            dead_sum += about.dead() as usize;
        }
        assert_eq!((live_sum, dead_sum), (self.log.live(), self.log.dead()));
        assert_eq!(self.log.segments().count(), self.log.held());
        let indexed: Vec<u32> = (0..self.index.buckets())
            .flat_map(|bucket| self.index.handles(bucket).map(|handle| handle.to_bits()))
            .collect();
        let indexed_keys: HashSet<&[u8]> = (0..self.index.buckets())
            .flat_map(|bucket| self.index.handles(bucket).map(|handle| self.log.key(handle)))
            .collect();
        assert_eq!(indexed.len(), handles.len());
        assert_eq!(indexed.len(), self.index.items());
        assert!(indexed.iter().all(|handle| handles.contains(handle)));
        assert_eq!(self.blocks.check(), large, "each large value is one item's");
        assert_eq!(self.tally.bytes, bytes, "bytes are counted to the byte");
        assert_eq!(self.tally.items(), handles.len() as u64);
        for (key, _) in self.floors.after(&[]) {
            assert!(!indexed_keys.contains(key), "a key has an item or a floor, never both");
        }
        self.floors.check();
        self.log.held() * Purpose::Log.cost()
            + self.index.held() * Purpose::Index.cost()
            + self.blocks.held() * Purpose::Blocks.cost()
    }
}
