//! Walking over all items: by bucket of the index, shard after shard.
//!
//! While a walk goes on, a bucket that is split sends items to a later bucket only, and moving an
//! item within the log does not move it in the index: an item that is there all the time is met at
//! least once.

use super::shards::Store;
use super::{Cursor, Scanned};
use crate::clock::Now;

/// Most buckets looked into under one lock.
const BUCKETS_A_STEP: usize = 4096;

impl Store {
    /// Items from `cursor` on, about `limit` of them, appended to `into`. Items stored during the
    /// whole scan are met at least once; expired and flushed ones are left out. `None` at the end.
    pub fn scan(
        &self,
        cursor: Cursor,
        limit: usize,
        now: Now,
        into: &mut Vec<Scanned>,
    ) -> Option<Cursor> {
        let Cursor { shard: lane, bucket: first } = cursor;
        if lane >= self.shards() {
            return None;
        }
        let shard = self.enter(lane, now);
        let enough = into.len() + limit.max(1);
        let end = shard.index.buckets().min(first + BUCKETS_A_STEP);
        let mut bucket = first;
        while bucket < end && into.len() < enough {
            for handle in shard.index.handles(bucket) {
                let header = shard.log.header(handle);
                if shard.gone(handle, &header, now).is_none() {
                    let key = shard.log.key(handle).into();
                    into.push(Scanned { key, found: shard.found(&header, now) });
                }
            }
            bucket += 1;
        }
        if bucket < shard.index.buckets() {
            return Some(Cursor { shard: lane, bucket });
        }
        (lane + 1 < self.shards()).then_some(Cursor { shard: lane + 1, bucket: 0 })
    }
}
