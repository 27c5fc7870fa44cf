//! Reading: get, touch, gat, and what the meta get does besides.
//!
//! A value of at most [`VALUE_CHUNK`] bytes is copied out under the lock; a longer one is pinned
//! and read in pieces ([`LargeValue`]).

use super::change::{Change, Item, Put, Stamp, Value};
use super::large::LargeValue;
use super::shard::Shard;
use super::shards::Store;
use super::slot::{Bits, Handle, Header};
use super::{Fetch, Fetched, Head, Key};
use crate::clock::Now;
use crate::item::{Expiry, Found};
use crate::limits::VALUE_CHUNK;

impl Store {
    /// Reads an item, appending the reply's head and the value to `out` on a hit.
    pub fn fetch<C: ?Sized>(
        &self,
        key: Key<'_>,
        fetch: &Fetch,
        now: Now,
        head: &Head<'_, C>,
        out: &mut Vec<u8>,
    ) -> Fetched {
        let lane = self.lane_of(key);
        loop {
            let mut shard = self.enter(lane, now);
            match shard.look_up(key, now) {
                Ok(mut item) => {
                    let found = shard.access(&mut item, fetch, now);
                    (head.write)(head.context, &found, out);
                    let is_wanted = fetch.value
                        && fetch.unless_version.is_none_or(|version| version != found.version);
                    let pinned = if is_wanted { shard.copy_or_pin(&item, out) } else { None };
                    drop(shard);
                    return match pinned {
                        None => Fetched::Hit(found),
                        Some(id) => {
                            let len = found.value_len;
                            Fetched::Large(found, LargeValue::adopt(self.clone(), lane, id, len))
                        }
                    };
                }
                Err(miss) => {
                    drop(shard);
                    match fetch.vivify.map(|expiry| self.vivify(key, fetch, expiry, now)) {
                        None | Some(Vivified::NoMemory) => return Fetched::Miss(miss),
                        Some(Vivified::Exists) => {}
                        Some(Vivified::Created(found)) => {
                            (head.write)(head.context, &found, out);
                            return Fetched::Hit(found);
                        }
                    }
                }
            }
        }
    }

    /// Creates an empty item that the reader is to fill.
    fn vivify(&self, key: Key<'_>, fetch: &Fetch, expiry: Expiry, now: Now) -> Vivified {
        let created = self.with_room(self.lane_of(key), now, |shard| {
            if shard.look_up(key, now).is_ok() {
                return Ok(Vivified::Exists);
            }
            shard.ready(key, None, 0)?;
            let bits = Bits::TOKEN_SENT
                .with_if(Bits::BINARY_KEY, fetch.binary_key)
                .with_if(Bits::FETCHED, !fetch.no_bump);
            let put = Put {
                key,
                value: Value::Inline(&[]),
                flags: 0,
                expiry,
                bits,
                stamp: Stamp::by_client(fetch.new_version),
            };
            let header = shard.commit(None, Change::Put(put), now);
            shard.tally.total_items += 1;
            Ok(header.map_or(Vivified::NoMemory, |header| {
                let found = Found {
                    won: true,
                    token_sent: false,
                    fetched: false,
                    vivified: true,
                    ..shard.found(&header, now)
                };
                shard.count_access(&found, fetch);
                Vivified::Created(found)
            }))
        });
        created.unwrap_or(Vivified::NoMemory)
    }
}

enum Vivified {
    Created(Found),
    Exists,
    NoMemory,
}

impl Shard {
    /// What a reader gets to know of the item, and what the access leaves on it.
    fn access(&mut self, item: &mut Item, fetch: &Fetch, now: Now) -> Found {
        let mut found = self.found(&item.header, now);
        let is_short = fetch.recache_below.is_some_and(|seconds| {
            let expiry = fetch.touch.filter(|_| fetch.touch_first).unwrap_or(found.expiry);
            expiry.ttl(now.seconds()).is_some_and(|ttl| ttl < seconds)
        });
        let recaches = fetch.recache || fetch.recache_below.is_some();
        found.won = recaches && (found.stale || is_short) && !found.token_sent;
        if let Some(expiry) = fetch.touch {
            found.expiry = expiry;
            if let Some(header) =
                self.commit(Some(*item), Change::Touch { expiry, touched: None }, now)
            {
                item.header = header;
            }
        }
        self.count_access(&found, fetch);
        let bits = Bits::default().with_if(Bits::TOKEN_SENT, found.won);
        if !fetch.no_bump {
            let bits = bits.with(Bits::FETCHED.with(Bits::REFERENCED));
            self.note_access(item.handle, &mut item.header, bits, now);
        } else if found.won {
            self.note_token(item);
        }
        found
    }

    fn count_access(&mut self, found: &Found, fetch: &Fetch) {
        if fetch.touch.is_some() {
            self.tally.class(found.class).touch_hits += 1;
        }
    }

    /// Appends the value to `out`, or pins it and returns its large id if it is too long.
    pub(super) fn copy_or_pin(&mut self, item: &Item, out: &mut Vec<u8>) -> Option<u32> {
        match self.large_id(item.handle, &item.header) {
            Some(id) if item.header.value_len as usize > VALUE_CHUNK => {
                self.blocks.pin(id);
                Some(id)
            }
            _ => {
                self.copy_short(item.handle, &item.header, out);
                None
            }
        }
    }

    /// Appends a value of at most [`VALUE_CHUNK`] bytes to `out`.
    pub(super) fn copy_short(&self, handle: Handle, header: &Header, out: &mut Vec<u8>) {
        match self.large_id(handle, header) {
            Some(id) => {
                self.blocks.read(id, 0, VALUE_CHUNK, out);
            }
            None => out.extend_from_slice(self.log.inline(handle, header)),
        }
    }
}
