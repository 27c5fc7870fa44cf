//! Tests of the store as a whole. Each file begins with what it is about.

#![expect(clippy::unwrap_used, reason = "clippy does not see that these are tests")]
#![cfg_attr(not(test), allow(dead_code, reason = "fuzzing needs only what the model needs"))]

mod check;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod echoes;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod large;
#[cfg(test)]
mod lattice;
#[cfg(test)]
mod memory;
mod model;
mod model_ops;
#[cfg(test)]
mod replication;
#[cfg(test)]
mod replication_floors;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod together;

/// The store beside its model, for whoever has operations to run.
pub(crate) mod beside_model {
    pub(crate) use super::model::{Room, run};
    pub(crate) use super::model_ops::{Compare, KEYS, Op};
}

use std::sync::Arc;

#[cfg(test)]
use proptest::prelude::ProptestConfig;

use super::*;
use crate::clock::Now;
use crate::watch::Watch;

/// So many cases of a property, or as many as `PROPTEST_CASES` asks for.
#[cfg(test)]
fn cases(usual: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let is_asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if is_asked { config.cases } else { usual }, ..config }
}

/// A moment in 2027.
const START: u32 = 1_800_000_000;

fn at(seconds: u32) -> Now {
    Now::from_unix_seconds(START + seconds)
}

fn in_seconds(seconds: u32) -> Expiry {
    Expiry::at(UnixSeconds(START + seconds))
}

fn config(memory_limit: usize) -> StoreConfig {
    StoreConfig {
        memory_limit,
        item_size_max: 1 << 20,
        evictions: true,
        cas: true,
        shards: 64,
        node: 0,
        classes: SizeClasses::new(48, 1.25),
        watch: Arc::new(Watch::default()),
        replication: None,
        fixed_hash: false,
    }
}

fn store(memory_limit: usize) -> Store {
    Store::new(config(memory_limit))
}

/// What a get gives, large values read to the end.
fn get(store: &Store, key: &[u8], now: Now) -> Option<Vec<u8>> {
    fetch(store, key, &Fetch { value: true, ..Fetch::default() }, now).ok().map(|(_, value)| value)
}

fn fetch(store: &Store, key: &[u8], fetch: &Fetch, now: Now) -> Result<(Found, Vec<u8>), Miss> {
    let head = Head { context: &(), write: |_, found, out| out.extend(found.flags.to_be_bytes()) };
    let mut out = Vec::new();
    match store.fetch(store.key(key), fetch, now, &head, &mut out) {
        Fetched::Hit(found) => Ok((found, out.split_off(4))),
        Fetched::Large(found, value) => {
            assert_eq!(out.len(), 4, "only the head was appended");
            Ok((found, read_all(&value)))
        }
        Fetched::Miss(miss) => {
            assert!(out.is_empty());
            Err(miss)
        }
    }
}

fn read_all(value: &LargeValue) -> Vec<u8> {
    let mut out = Vec::new();
    while value.read(out.len(), 16 << 10, &mut out) > 0 {}
    assert_eq!(out.len(), value.len());
    out
}

fn hold(store: &Store, key: &[u8], now: Now) -> LargeValue {
    let head = Head { context: &(), write: |(), _, _| {} };
    let fetch = Fetch { value: true, ..Fetch::default() };
    match store.fetch(store.key(key), &fetch, now, &head, &mut Vec::new()) {
        Fetched::Large(_, value) => value,
        other => panic!("no large value: {other:?}"),
    }
}

fn set(store: &Store, key: &[u8], value: &[u8], now: Now) -> Result<Stored, Refusal> {
    set_until(store, key, value, Expiry::NEVER, now)
}

fn set_until(
    store: &Store,
    key: &[u8],
    value: &[u8],
    expiry: Expiry,
    now: Now,
) -> Result<Stored, Refusal> {
    store.write(store.key(key), &Write::new(Mode::Set, value, 0, expiry), now)
}

fn write(store: &Store, mode: Mode, key: &[u8], value: &[u8], now: Now) -> Result<Stored, Refusal> {
    store.write(store.key(key), &Write::new(mode, value, 0, Expiry::NEVER), now)
}

fn delete(store: &Store, key: &[u8], now: Now) -> Result<Found, Refusal> {
    store.delete(store.key(key), &Delete::default(), now)
}

/// Sweeps until nothing is due.
fn sweep(store: &Store, now: Now) {
    while store.sweep(now) == Sweep::More {}
}

fn all_keys(store: &Store, now: Now) -> Vec<Vec<u8>> {
    let (mut met, mut cursor) = (Vec::new(), Some(Cursor::default()));
    while let Some(from) = cursor {
        cursor = store.scan(from, 100, now, &mut met);
    }
    let mut keys: Vec<_> = met.into_iter().map(|item| item.key.into_vec()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// A value that tells which key and version it belongs to.
fn value_of(key: u32, version: u32, len: usize) -> Vec<u8> {
    let pattern = (u64::from(key) << 32 | u64::from(version)).to_be_bytes();
    pattern.iter().copied().cycle().take(len).collect()
}

/// A small generator of numbers for loads that need no shrinking (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap() % sides
    }
}
