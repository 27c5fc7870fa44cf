//! Deleting, and what the meta delete does instead: marking stale, and emptying.

use super::change::{Change, Put, Value};
use super::shards::Store;
use super::slot::Bits;
use super::{Delete, Key, Refusal};
use crate::clock::Now;
use crate::item::{Expiry, Found};

impl Store {
    /// Deletes an item, or marks it as the meta protocol asks. Returns the item as it was.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Exists`], or [`Refusal::NoMemory`].
    pub fn delete(&self, key: Key<'_>, delete: &Delete, now: Now) -> Result<Found, Refusal> {
        let deleted = self.with_room(self.lane_of(key), now, |shard| {
            let Ok(item) = shard.look_up(key, now) else {
                return Ok(Err(Refusal::NotFound));
            };
            if !shard.compares(delete.compare, &item.header) {
                return Ok(Err(Refusal::Exists));
            }
            let found = shard.found(&item.header, now);
            let change = if delete.clear_value {
                shard.ready(key, Some(&item), 0)?;
                let kept = item.header.bits.only(Bits::BINARY_KEY);
                Change::Put(Put {
                    key,
                    value: Value::Inline(&[]),
                    flags: 0,
                    expiry: delete.touch.unwrap_or(Expiry::NEVER),
                    bits: kept.with_if(Bits::STALE, delete.mark_stale),
                    version: delete.new_version,
                })
            } else if delete.mark_stale {
                Change::Mark {
                    expiry: delete.touch.unwrap_or(item.header.expiry),
                    bits: item.header.bits.with(Bits::STALE).without(Bits::TOKEN_SENT),
                    version: delete.new_version,
                }
            } else {
                Change::Remove
            };
            if !delete.mark_stale {
                shard.tally.class(found.class).delete_hits += 1;
            }
            shard.commit(Some(item), change, now);
            Ok(Ok(found))
        });
        deleted.unwrap_or(Err(Refusal::NoMemory))
    }
}
