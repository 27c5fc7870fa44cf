//! Keys that are asked for, told or scanned together: their memory is looked at before it is needed.
//!
//! With many items nearly every look-up waits for the memory of a bucket and then for that of an
//! item, each some hundred times as long as an instruction takes. A processor waits for many places at
//! the same time, but only as long as nothing stands between them that must come in order, and taking
//! a lock does. So before the items of a *group* are fetched one by one, each of their shards is
//! entered once: first all buckets are looked at, then all items. Nothing is decided by what is seen.
//!
//! What is NOT here: fetching, which finds what it would have found anyway ([`super::fetch`]).

use std::hint::black_box;

use super::Key;
use super::shard::Shard;
use super::shards::Store;
use super::slot::Handle;

/// Most keys of a group: enough to wait for all of them about as long as for one.
pub const GROUP_KEYS_MAX: usize = 64;

/// How far into an item is looked: the rest of a longer one the processor guesses by itself.
const LINES: usize = 4;

impl Store {
    /// Looks at what fetches of these keys will need: the first [`GROUP_KEYS_MAX`] of them.
    pub fn look_ahead(&self, keys: &[Key<'_>]) {
        let keys = &keys[..keys.len().min(GROUP_KEYS_MAX)];
        let mut lanes = [usize::MAX; GROUP_KEYS_MAX];
        for (lane, &key) in lanes.iter_mut().zip(keys) {
            *lane = self.lane_of(key);
        }
        let lanes = &lanes[..keys.len()];
        for (first, &lane) in lanes.iter().enumerate() {
            if !lanes[..first].contains(&lane) {
                let together = keys[first..].iter().zip(&lanes[first..]);
                let together = together.filter(|&(_, &other)| other == lane).map(|(&key, _)| key);
                self.lock(lane).look_at(together);
            }
        }
    }
}

impl Shard {
    fn look_at<'k>(&self, keys: impl Iterator<Item = Key<'k>> + Clone) {
        let buckets = keys.clone().map(|key| u32::from(self.index.glance(key.hash)));
        black_box(buckets.sum::<u32>());
        self.look_at_items(keys.filter_map(|key| self.index.likely(key.hash)));
    }

    /// Looks at the memory of some items.
    pub(super) fn look_at_items(&self, handles: impl Iterator<Item = Handle>) {
        black_box(handles.map(|handle| self.log.glance(handle, LINES)).sum::<u32>());
    }
}
