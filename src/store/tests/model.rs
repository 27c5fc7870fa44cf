//! The store against a model: a map with memcached's rules and no bounds.
//!
//! Random commands, moments, flushes and value sizes run on both. Where the store evicts, a key of
//! the model may be missing from the store, never the other way round, and never with another
//! value.

use std::collections::BTreeMap;

use super::super::slot::{HEADER, HEADER_TOUCHED, SLOT_MAX, slot_len};
use super::model_ops::{Compare, KEYS, Op};
use super::*;

#[derive(Clone, Debug)]
struct Item {
    value: Vec<u8>,
    flags: u32,
    expiry: Expiry,
    version: Version,
    last_access: u32,
    fetched: bool,
    stale: bool,
    token_sent: bool,
}

/// The store under test and the model beside it.
struct Bench {
    store: Store,
    config: StoreConfig,
    items: BTreeMap<u8, Item>,
    flush_at: Option<u32>,
    now: Now,
    held: Vec<(LargeValue, Vec<u8>)>,
}

fn key_of(key: u8) -> Vec<u8> {
    // Lengths from 2 to 250.
    format!("k{key}").into_bytes().repeat(1 + usize::from(key) * 3)[..]
        .iter()
        .copied()
        .take(250)
        .collect()
}

impl Bench {
    fn new(config: StoreConfig) -> Bench {
        Bench {
            store: Store::new(config.clone()),
            config,
            items: BTreeMap::new(),
            flush_at: None,
            now: at(0),
            held: Vec::new(),
        }
    }

    fn is_scarce(&self) -> bool {
        self.config.memory_limit < 8 << 20
    }

    /// Whether a write may find no room.
    fn may_refuse(&self) -> bool {
        self.is_scarce() && (!self.held.is_empty() || !self.config.evictions)
    }

    fn expiry(&self, ttl: u8) -> Expiry {
        match ttl {
            0 => Expiry::NEVER,
            ttl => Expiry::at(UnixSeconds(self.now.seconds().0 + u32::from(ttl))),
        }
    }

    /// Brings the model to the present.
    fn present(&mut self) {
        let second = self.now.seconds();
        if self.flush_at.is_some_and(|at| at <= second.0) {
            self.flush_at = None;
            self.items.clear();
        }
        self.items.retain(|_, item| !item.expiry.is_past(second));
    }

    /// Takes the key out of the model if the store has evicted it.
    fn settle(&mut self, key: u8) {
        self.present();
        let look = Fetch { no_bump: true, ..Fetch::default() };
        if fetch(&self.store, &key_of(key), &look, self.now).is_err()
            && self.items.contains_key(&key)
        {
            assert!(self.is_scarce() && self.config.evictions, "nothing is evicted without need");
            self.items.remove(&key);
        }
    }

    fn compare(&self, key: u8, compare: Compare) -> Option<Version> {
        let version = self.items.get(&key).map_or(Version(7), |item| item.version);
        match compare {
            Compare::Nothing => None,
            Compare::Current => Some(version),
            Compare::Older => Some(Version(version.0 - 1)),
            Compare::Newer => Some(Version(version.0 + 1)),
        }
    }

    fn size(&self, key: u8, value_len: usize, flags: u32) -> usize {
        crate::item::size_of(key_of(key).len(), value_len, flags, self.config.cas)
    }

    fn run(&mut self, op: &Op) {
        self.present();
        match *op {
            Op::Write { key, mode, len, fill, ttl, compare, invalidate } => {
                let value = vec![fill; len];
                let write = Write {
                    compare: self.compare_settled(key, compare),
                    invalidate,
                    ..Write::new(mode, &value, u32::from(fill), self.expiry(ttl))
                };
                self.write(key, &write);
            }
            Op::SetNumber { key, number, ttl } => {
                self.settle(key);
                let text = number.to_string();
                self.write(key, &Write::new(Mode::Set, text.as_bytes(), 0, self.expiry(ttl)));
            }
            Op::Get { key, touch, no_bump, recache, below } => {
                let fetch = Fetch {
                    value: true,
                    no_bump,
                    touch: touch.map(|ttl| self.expiry(ttl)),
                    recache,
                    recache_below: below.map(u32::from),
                    ..Fetch::default()
                };
                self.get(key, &fetch);
            }
            Op::Vivify { key, ttl } => self.vivify(key, ttl),
            Op::Delete { key, stale, clear, compare } => {
                let delete = Delete {
                    compare: self.compare_settled(key, compare),
                    mark_stale: stale,
                    clear_value: clear,
                    ..Delete::default()
                };
                self.delete(key, &delete);
            }
            Op::Count { key, delta, up, initial, compare } => {
                let arithmetic = Arithmetic {
                    delta,
                    up,
                    initial: initial.map(|ttl| (delta, self.expiry(ttl))),
                    compare: self.compare_settled(key, compare),
                    ..Arithmetic::default()
                };
                self.count(key, &arithmetic);
            }
            Op::Flush => {
                self.store.flush_all(self.now);
                self.items.clear();
                self.flush_at = None;
            }
            Op::FlushAt { after } => {
                let at = self.now.seconds().0 + 1 + u32::from(after);
                self.store.flush_all_at(UnixSeconds(at), self.now);
                self.flush_at = Some(at);
            }
            Op::Step { seconds } => {
                self.now = self.now.plus(std::time::Duration::from_secs(seconds.into()));
            }
            Op::Sweep => sweep(&self.store, self.now),
            Op::Hold { key } => {
                self.settle(key);
                if let Some(item) = self.items.get_mut(&key)
                    && item.value.len() > crate::limits::VALUE_CHUNK
                {
                    item.fetched = true;
                    item.last_access = self.now.seconds().0;
                    let value = hold(&self.store, &key_of(key), self.now);
                    self.held.push((value, item.value.clone()));
                }
            }
            Op::LetGo => {
                self.held.pop();
            }
        }
    }

    fn compare_settled(&mut self, key: u8, compare: Compare) -> Option<Version> {
        self.settle(key);
        self.compare(key, compare)
    }

    fn write(&mut self, key: u8, write: &Write<'_>) {
        let result = self.store.write(self.store.key(&key_of(key)), write, self.now);
        if matches!(result, Err(Refusal::NoMemory)) {
            assert!(self.may_refuse());
            if write.mode == Mode::Set && write.compare.is_none() {
                self.items.remove(&key);
            }
            return;
        }
        let expected = self.model_write(key, write);
        let (mut item, old_survives) = match (expected, result) {
            (Ok(item), Ok(stored)) => {
                assert_eq!(stored.value_len, item.value.len());
                assert_eq!(stored.size, self.size(key, item.value.len(), item.flags));
                (Some(Item { version: stored.version, ..item }), false)
            }
            (Err(refusal), Err(met)) => {
                assert_eq!(refusal, met);
                (None, true)
            }
            (Ok(_), Err(Refusal::NotStored)) if self.may_refuse() => (None, true),
            // An item that making room for this write evicted.
            (Ok(_), Err(Refusal::NotFound | Refusal::NotStored)) if self.is_scarce() => {
                (None, false)
            }
            other => panic!("{other:?}"),
        };
        if let Some(item) = item.take() {
            self.items.insert(key, item);
        } else if !old_survives {
            self.items.remove(&key);
        }
    }

    fn model_write(&mut self, key: u8, write: &Write<'_>) -> Result<Item, Refusal> {
        if self.size(key, write.value.len(), write.flags) > self.config.item_size_max {
            if write.mode == Mode::Set && write.compare.is_none() {
                self.items.remove(&key);
            }
            return Err(Refusal::TooLarge);
        }
        let fresh = Item {
            value: write.value.to_vec(),
            flags: write.flags,
            expiry: write.expiry,
            version: Version(0),
            last_access: self.now.seconds().0,
            fetched: false,
            stale: false,
            token_sent: false,
        };
        let second = self.now.seconds().0;
        let Some(old) = self.items.get_mut(&key) else {
            return match (write.mode, write.compare) {
                (Mode::Add, _) | (Mode::Set, None) => Ok(fresh),
                (Mode::Set | Mode::Replace, Some(_)) => Err(Refusal::NotFound),
                _ => Err(Refusal::NotStored),
            };
        };
        if write.mode == Mode::Add {
            old.last_access = second;
            return Err(Refusal::NotStored);
        }
        let joins = matches!(write.mode, Mode::Append | Mode::Prepend);
        if let Some(compare) = write.compare
            && compare != old.version
        {
            if joins || !write.invalidate || compare > old.version {
                return Err(Refusal::Exists);
            }
            let (expiry, token_sent) = (old.expiry, old.token_sent);
            return Ok(Item { expiry, token_sent, stale: true, ..fresh });
        }
        let value = match write.mode {
            Mode::Append => [&old.value, write.value].concat(),
            Mode::Prepend => [write.value, &old.value].concat(),
            _ => return Ok(fresh),
        };
        let (flags, expiry) = (old.flags, old.expiry);
        if self.size(key, value.len(), flags) > self.config.item_size_max {
            return Err(Refusal::NotStored);
        }
        Ok(Item { value, flags, expiry, ..fresh })
    }

    fn get(&mut self, key: u8, plan: &Fetch) {
        self.settle(key);
        let result = fetch(&self.store, &key_of(key), plan, self.now);
        let second = self.now.seconds();
        let Some(item) = self.items.get_mut(&key) else {
            assert!(result.is_err());
            return;
        };
        let (found, value) = result.unwrap();
        assert!(value == item.value, "key {key} has another value");
        assert_eq!(found.version, item.version);
        assert_eq!(found.flags, item.flags);
        assert_eq!(found.fetched, item.fetched);
        assert_eq!(found.idle, second.0 - item.last_access);
        assert_eq!((found.stale, found.token_sent), (item.stale, item.token_sent));
        let is_short =
            plan.recache_below.is_some_and(|r| item.expiry.ttl(second).is_some_and(|ttl| ttl < r));
        let asks = plan.recache || plan.recache_below.is_some();
        assert_eq!(found.won, asks && (item.stale || is_short) && !item.token_sent);
        item.token_sent |= found.won;
        item.expiry = plan.touch.unwrap_or(item.expiry);
        assert_eq!(found.expiry, item.expiry);
        if !plan.no_bump {
            item.fetched = true;
            item.last_access = second.0;
        }
    }

    fn vivify(&mut self, key: u8, ttl: u8) {
        self.settle(key);
        let expiry = self.expiry(ttl);
        let plan = Fetch { value: true, vivify: Some(expiry), ..Fetch::default() };
        let result = fetch(&self.store, &key_of(key), &plan, self.now);
        let second = self.now.seconds().0;
        if let Some(item) = self.items.get_mut(&key) {
            assert!(result.unwrap().1 == item.value);
            item.fetched = true;
            item.last_access = second;
        } else if let Ok((found, value)) = result {
            assert!(found.won && found.vivified && !found.token_sent && value.is_empty());
            let item = Item {
                value,
                flags: 0,
                expiry,
                version: found.version,
                last_access: second,
                fetched: true,
                stale: false,
                token_sent: true,
            };
            self.items.insert(key, item);
        } else {
            assert!(self.may_refuse(), "there is room for an empty item");
        }
    }

    fn delete(&mut self, key: u8, delete: &Delete) {
        let result = self.store.delete(self.store.key(&key_of(key)), delete, self.now);
        let Some(item) = self.items.get_mut(&key) else {
            assert_eq!(result, Err(Refusal::NotFound));
            return;
        };
        if delete.compare.is_some_and(|compare| compare != item.version) {
            assert_eq!(result, Err(Refusal::Exists));
            return;
        }
        match result {
            Ok(found) => assert_eq!(found.version, item.version),
            Err(Refusal::NoMemory) => return,
            other => panic!("{other:?}"),
        }
        if !delete.clear_value && !delete.mark_stale {
            self.items.remove(&key);
            return;
        }
        let look = Fetch { no_bump: true, ..Fetch::default() };
        let (found, _) = fetch(&self.store, &key_of(key), &look, self.now).unwrap();
        assert!(found.version > item.version);
        item.version = found.version;
        if delete.clear_value {
            item.value.clear();
            item.flags = 0;
            item.expiry = Expiry::NEVER;
            item.fetched = false;
            item.stale = false;
            item.last_access = self.now.seconds().0;
        }
        item.stale |= delete.mark_stale;
        item.token_sent = false;
    }

    fn count(&mut self, key: u8, arithmetic: &Arithmetic) {
        let result = self.store.arithmetic(self.store.key(&key_of(key)), arithmetic, self.now);
        let second = self.now.seconds().0;
        let Some(item) = self.items.get_mut(&key) else {
            match (result, arithmetic.initial) {
                (Ok(counted), Some((number, expiry))) => {
                    assert!(counted.found.vivified);
                    assert_eq!(counted.number, number);
                    let item = Item {
                        value: number.to_string().into_bytes(),
                        flags: 0,
                        expiry,
                        version: counted.found.version,
                        last_access: second,
                        fetched: false,
                        stale: false,
                        token_sent: false,
                    };
                    self.items.insert(key, item);
                }
                (Err(Refusal::NotFound), None) => {}
                (Err(Refusal::NoMemory), Some(_)) if self.may_refuse() => {}
                other => panic!("{other:?}"),
            }
            return;
        };
        // Bytes, not text: what follows the first word need not be UTF-8.
        let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
        let number = (item.value.split(is_space).find(|word| !word.is_empty()))
            .and_then(|word| str::from_utf8(word).ok()?.parse::<u64>().ok());
        let header = if self.config.replication.is_some() { HEADER_TOUCHED } else { HEADER };
        let is_large = slot_len(header, key_of(key).len(), item.value.len()) > SLOT_MAX;
        if item.value.is_empty() || is_large {
            assert_eq!(result, Err(Refusal::NotANumber));
            return;
        }
        if arithmetic.compare.is_some_and(|compare| compare != item.version) {
            assert_eq!(result, Err(Refusal::Exists));
            return;
        }
        let Some(number) = number else {
            assert_eq!(result, Err(Refusal::NotANumber));
            return;
        };
        let next = if arithmetic.up {
            number.wrapping_add(arithmetic.delta)
        } else {
            number.saturating_sub(arithmetic.delta)
        };
        if result == Err(Refusal::NoMemory) {
            assert!(self.may_refuse());
            return;
        }
        let counted = result.unwrap();
        assert_eq!(counted.number, next);
        assert!(counted.found.version > item.version);
        item.version = counted.found.version;
        item.value = format!("{next:<width$}", width = item.value.len()).into_bytes();
        item.last_access = second;
    }

    /// Compares everything.
    fn check(&mut self) {
        self.store.check();
        for (value, expected) in &self.held {
            assert!(read_all(value) == *expected, "a held value stays as it was");
        }
        for key in 0..KEYS {
            self.settle(key);
        }
        let mut keys: Vec<_> = self.items.keys().map(|&key| key_of(key)).collect();
        keys.sort_unstable();
        assert_eq!(all_keys(&self.store, self.now), keys);
        for (&key, item) in &self.items {
            let look = Fetch { value: true, no_bump: true, ..Fetch::default() };
            let (_, value) = fetch(&self.store, &key_of(key), &look, self.now).unwrap();
            assert!(value == item.value);
        }
    }
}

/// How much memory a store has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// More than enough.
    Ample,
    /// More than enough, for a node with peers.
    AmpleWithPeers,
    /// Too little: items are evicted.
    Scarce,
    /// Too little, and nothing may be evicted.
    ScarceWithoutEvictions,
}

impl Room {
    fn config(self) -> StoreConfig {
        let scarce = StoreConfig { item_size_max: 400_000, ..config(2 << 20) };
        match self {
            Room::Ample => config(32 << 20),
            Room::AmpleWithPeers => StoreConfig {
                node: 7,
                replication: Some(Replicated::default()),
                ..config(32 << 20)
            },
            Room::Scarce => scarce,
            Room::ScarceWithoutEvictions => StoreConfig { evictions: false, ..scarce },
        }
    }
}

/// Runs operations on a store and on the model, and compares.
pub(crate) fn run(room: Room, ops: &[Op]) {
    let mut bench = Bench::new(room.config());
    for (number, op) in ops.iter().enumerate() {
        bench.run(op);
        bench.store.check();
        if number % 16 == 0 {
            bench.check();
        }
    }
    bench.check();
    bench.held.clear();
    bench.store.flush_all(bench.now);
    sweep(&bench.store, bench.now);
    bench.store.check();
    assert_eq!((bench.store.counters().bytes, bench.store.counters().curr_items), (0, 0));
}

#[cfg(test)]
mod generated {
    use proptest::prelude::*;

    use super::super::cases;
    use super::super::model_ops::ops;
    use super::{Room, run};

    proptest! {
        #![proptest_config(cases(32))]

        #[test]
        fn with_room_to_spare_the_store_does_what_the_model_does(
            ops in prop::collection::vec(ops(), 1..200)
        ) {
            run(Room::Ample, &ops);
        }

        #[test]
        fn with_peers_the_store_does_what_the_model_does(
            ops in prop::collection::vec(ops(), 1..200)
        ) {
            run(Room::AmpleWithPeers, &ops);
        }

        #[test]
        fn short_of_memory_the_store_forgets_items_but_never_tells_a_wrong_value(
            ops in prop::collection::vec(ops(), 1..300)
        ) {
            run(Room::Scarce, &ops);
        }

        #[test]
        fn without_evictions_the_store_forgets_nothing_that_it_stored(
            ops in prop::collection::vec(ops(), 1..300)
        ) {
            run(Room::ScarceWithoutEvictions, &ops);
        }
    }
}
