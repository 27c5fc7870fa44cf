//! A first body for the store: one locked map. It keeps the contract of the public methods, not
//! the memory bounds; the real rooms replace it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Arithmetic, ClassCounters, Counted, Cursor, Delete, Fetch, Fetched, FlushAt, Head, Key,
    LimitRefused, Miss, Mode, Refusal, Scanned, StoreConfig, StoreCounters, Stored, Sweep, Write,
};
use crate::clock::{Now, UnixSeconds};
use crate::item::{Expiry, Found, size_of};
use crate::version::{Version, VersionClock};

#[derive(Clone, Debug)]
struct Item {
    value: Vec<u8>,
    flags: u32,
    version: Version,
    expiry: Expiry,
    last_access: UnixSeconds,
    fetched: bool,
    stale: bool,
    token_sent: bool,
    binary_key: bool,
}

#[derive(Debug)]
struct Inner {
    items: BTreeMap<Box<[u8]>, Item>,
    clock: VersionClock,
    flushed: Version,
    flush_at: Option<FlushAt>,
    counters: StoreCounters,
    memory_limit: usize,
}

/// The store. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Store {
    config: Arc<StoreConfig>,
    inner: Arc<Mutex<Inner>>,
}

/// A value held while it is sent piece by piece.
#[derive(Debug)]
pub struct LargeValue {
    value: Vec<u8>,
}

impl LargeValue {
    /// Length of the value in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether the value is empty (it never is).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Appends at most `max` bytes from `offset` on to `out`; returns how many.
    pub fn read(&self, offset: usize, max: usize, out: &mut Vec<u8>) -> usize {
        let end = self.value.len().min(offset + max);
        out.extend_from_slice(&self.value[offset..end]);
        end - offset
    }
}

impl Item {
    fn found(&self, key: &[u8], config: &StoreConfig, now: Now) -> Found {
        let size = size_of(key.len(), self.value.len(), self.flags, config.cas);
        Found {
            flags: self.flags,
            version: self.version,
            expiry: self.expiry,
            value_len: self.value.len(),
            idle: now.seconds().since(self.last_access),
            fetched: self.fetched,
            stale: self.stale,
            won: false,
            token_sent: self.token_sent,
            binary_key: self.binary_key,
            vivified: false,
            size,
            class: config.classes.class_of(size),
        }
    }
}

impl Inner {
    fn settle(&mut self, key: &[u8], now: Now) -> Option<Miss> {
        if let Some(at) = self.flush_at
            && at <= now.seconds()
        {
            self.flush_at = None;
            self.flushed = self.flushed.max(Version::floor_at(Now::from_unix_seconds(at.0)));
            self.clock.observe(self.flushed);
        }
        let item = self.items.get(key)?;
        let miss = if item.version <= self.flushed {
            Miss::Flushed
        } else if item.expiry.is_past(now.seconds()) {
            Miss::Expired
        } else {
            return None;
        };
        self.items.remove(key);
        Some(miss)
    }
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(config: StoreConfig) -> Store {
        let inner = Inner {
            items: BTreeMap::new(),
            clock: VersionClock::new(config.node),
            flushed: Version(0),
            flush_at: None,
            counters: StoreCounters::default(),
            memory_limit: config.memory_limit,
        };
        Store { config: Arc::new(config), inner: Arc::new(Mutex::new(inner)) }
    }

    /// A key with its hash.
    #[must_use]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key { bytes, hash: 0 }
    }

    /// Reads an item, appending the reply's head and the value to `out` on a hit.
    pub fn fetch<C: ?Sized>(
        &self,
        key: Key<'_>,
        fetch: &Fetch,
        now: Now,
        head: &Head<'_, C>,
        out: &mut Vec<u8>,
    ) -> Fetched {
        let _ = key.hash;
        let mut inner = self.inner.lock();
        let miss = inner.settle(key.bytes, now).unwrap_or(Miss::NotFound);
        let Some(item) = inner.items.get_mut(key.bytes) else {
            return Fetched::Miss(miss);
        };
        if let Some(expiry) = fetch.touch {
            item.expiry = expiry;
        }
        let found = item.found(key.bytes, &self.config, now);
        if !fetch.no_bump {
            item.fetched = true;
            item.last_access = now.seconds();
        }
        (head.write)(head.context, &found, out);
        if fetch.value {
            out.extend_from_slice(&item.value);
        }
        Fetched::Hit(found)
    }

    /// A storage command.
    ///
    /// # Errors
    /// Why nothing was stored.
    pub fn write(&self, key: Key<'_>, write: &Write<'_>, now: Now) -> Result<Stored, Refusal> {
        let mut inner = self.inner.lock();
        inner.settle(key.bytes, now);
        let old = inner.items.get(key.bytes).cloned();
        if write.compare.is_some() {
            let old = old.as_ref().ok_or(Refusal::NotFound)?;
            if write.compare != Some(old.version) {
                return Err(Refusal::Exists);
            }
        }
        let (value, flags, expiry) = match (write.mode, old) {
            (Mode::Set, _) | (Mode::Add, None) | (Mode::Replace, Some(_)) => {
                (write.value.to_vec(), write.flags, write.expiry)
            }
            (Mode::Append, Some(old)) => {
                ([&old.value, write.value].concat(), old.flags, old.expiry)
            }
            (Mode::Prepend, Some(old)) => {
                ([write.value, &old.value].concat(), old.flags, old.expiry)
            }
            _ => return Err(Refusal::NotStored),
        };
        if size_of(key.bytes.len(), value.len(), flags, self.config.cas) > self.config.item_size_max
        {
            return match write.mode {
                Mode::Append | Mode::Prepend => Err(Refusal::NotStored),
                _ => {
                    inner.items.remove(key.bytes);
                    Err(Refusal::TooLarge)
                }
            };
        }
        let version = inner.clock.next(now);
        let item = Item {
            value,
            flags,
            version,
            expiry,
            last_access: now.seconds(),
            fetched: false,
            stale: false,
            token_sent: false,
            binary_key: write.binary_key,
        };
        let found = item.found(key.bytes, &self.config, now);
        inner.items.insert(key.bytes.into(), item);
        inner.counters.total_items += 1;
        Ok(Stored { version, value_len: found.value_len, size: found.size, class: found.class })
    }

    /// Removes an item that a refused write must not leave behind (a `set` whose value is too
    /// large to be received). Not counted as a delete.
    pub fn discard(&self, key: Key<'_>, now: Now) {
        let mut inner = self.inner.lock();
        inner.settle(key.bytes, now);
        inner.items.remove(key.bytes);
    }

    /// Deletes an item, or marks it as the meta protocol asks.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Exists`], or [`Refusal::NoMemory`].
    pub fn delete(&self, key: Key<'_>, delete: &Delete, now: Now) -> Result<Found, Refusal> {
        let mut inner = self.inner.lock();
        inner.settle(key.bytes, now);
        let item = inner.items.get(key.bytes).ok_or(Refusal::NotFound)?;
        if delete.compare.is_some_and(|version| version != item.version) {
            return Err(Refusal::Exists);
        }
        let found = item.found(key.bytes, &self.config, now);
        inner.items.remove(key.bytes);
        Ok(found)
    }

    /// Counts an item's number up or down.
    ///
    /// # Errors
    /// Why the number did not change.
    pub fn arithmetic(
        &self,
        key: Key<'_>,
        arithmetic: &Arithmetic,
        now: Now,
    ) -> Result<Counted, Refusal> {
        let mut inner = self.inner.lock();
        inner.settle(key.bytes, now);
        let version = inner.clock.next(now);
        if !inner.items.contains_key(key.bytes)
            && let Some((number, expiry)) = arithmetic.initial
        {
            let item = Item {
                value: number.to_string().into_bytes(),
                flags: 0,
                version,
                expiry,
                last_access: now.seconds(),
                fetched: false,
                stale: false,
                token_sent: false,
                binary_key: false,
            };
            let found = item.found(key.bytes, &self.config, now);
            inner.items.insert(key.bytes.into(), item);
            return Ok(Counted { number, found: Found { vivified: true, ..found } });
        }
        let item = inner.items.get_mut(key.bytes).ok_or(Refusal::NotFound)?;
        if arithmetic.compare.is_some_and(|unique| unique != item.version) {
            return Err(Refusal::Exists);
        }
        let text = std::str::from_utf8(&item.value).map_err(|_| Refusal::NotANumber)?;
        let old: u64 = text.trim().parse().map_err(|_| Refusal::NotANumber)?;
        let number = if arithmetic.up {
            old.wrapping_add(arithmetic.delta)
        } else {
            old.saturating_sub(arithmetic.delta)
        };
        item.value = format!("{number:<width$}", width = item.value.len()).into_bytes();
        item.version = version;
        Ok(Counted { number, found: item.found(key.bytes, &self.config, now) })
    }

    /// Makes every item stored before this call invisible.
    pub fn flush_all(&self, now: Now) {
        let mut inner = self.inner.lock();
        inner.flush_at = None;
        inner.flushed = inner.clock.next(now);
    }

    /// Makes every item stored before the second `at` invisible once that second is reached;
    /// replaces a pending flush.
    pub fn flush_all_at(&self, at: FlushAt) {
        self.inner.lock().flush_at = Some(at);
    }

    /// Items from `cursor` on, about `limit` of them, appended to `into`. Items stored during the
    /// whole scan are met at least once; expired and flushed ones are left out. `None` at the end.
    pub fn scan(
        &self,
        cursor: Cursor,
        limit: usize,
        now: Now,
        into: &mut Vec<Scanned>,
    ) -> Option<Cursor> {
        let inner = self.inner.lock();
        let live =
            |item: &Item| !item.expiry.is_past(now.seconds()) && item.version > inner.flushed;
        into.extend(inner.items.iter().skip(cursor.bucket).take(limit).filter_map(
            |(key, item)| {
                live(item).then(|| Scanned {
                    key: key.clone(),
                    found: item.found(key, &self.config, now),
                })
            },
        ));
        let next = cursor.bucket + limit;
        (next < inner.items.len()).then_some(Cursor { shard: 0, bucket: next })
    }

    /// Gives back memory of expired and flushed items, in a bounded step.
    pub fn sweep(&self, now: Now) -> Sweep {
        let mut inner = self.inner.lock();
        inner.items.retain(|_, item| !item.expiry.is_past(now.seconds()));
        Sweep::Idle
    }

    /// The memory limit in bytes.
    #[must_use]
    pub fn memory_limit(&self) -> usize {
        self.inner.lock().memory_limit
    }

    /// Changes the memory limit; a lower one evicts down to it.
    ///
    /// # Errors
    /// The limit cannot hold the store's own parts and one item of the largest size.
    pub fn set_memory_limit(&self, bytes: usize) -> Result<(), LimitRefused> {
        self.inner.lock().memory_limit = bytes;
        Ok(())
    }

    /// The store's counters.
    #[must_use]
    pub fn counters(&self) -> StoreCounters {
        let inner = self.inner.lock();
        StoreCounters { curr_items: inner.items.len() as u64, ..inner.counters }
    }

    /// Counters of each class that has or had items, by class number.
    #[must_use]
    pub fn classes(&self, now: Now) -> Vec<(u8, ClassCounters)> {
        let _ = now;
        Vec::new()
    }

    /// Items by size rounded up to 32 bytes, ascending (`stats sizes`); walks every item.
    #[must_use]
    pub fn sizes(&self) -> Vec<(usize, u64)> {
        Vec::new()
    }

    /// Starts the counters from zero; gauges stay.
    pub fn reset_counters(&self) {
        self.inner.lock().counters = StoreCounters::default();
    }
}
