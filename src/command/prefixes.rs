//! Counts by key prefix (`stats detail`): what comes before the first `-D` delimiter of a key.
//!
//! Keys without the delimiter are not counted. Prefixes are capped at
//! [`PREFIXES_MAX`]: later ones are not counted, so that clients cannot grow the table without
//! end. Rendering is not here.

use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;

use crate::limits::PREFIXES_MAX;

/// What was counted for one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixCounts {
    /// Keys asked for.
    pub get: u64,
    /// Of those, found.
    pub hit: u64,
    /// Storage commands.
    pub set: u64,
    /// Deletes, whether or not there was an item.
    pub del: u64,
}

/// The counts of all prefixes, and whether they are kept.
#[derive(Debug)]
pub struct Prefixes {
    enabled: AtomicBool,
    delimiter: u8,
    counts: DashMap<Box<[u8]>, PrefixCounts>,
}

impl Prefixes {
    /// No prefixes yet; counting is on when `enabled`.
    #[must_use]
    pub fn new(delimiter: u8, enabled: bool) -> Prefixes {
        Prefixes { enabled: AtomicBool::new(enabled), delimiter, counts: DashMap::new() }
    }

    /// Whether counting is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Switches counting on or off; what was counted stays.
    pub fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Forgets every prefix (`stats reset`).
    pub fn reset(&self) {
        self.counts.clear();
    }

    /// Every prefix and its counts, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(Box<[u8]>, PrefixCounts)> {
        self.counts.iter().map(|entry| (entry.key().clone(), *entry.value())).collect()
    }

    /// Counts a key asked for, and whether it was found.
    pub fn count_get(&self, key: &[u8], hit: bool) {
        self.count(key, |counts| {
            counts.get += 1;
            counts.hit += u64::from(hit);
        });
    }

    /// Counts a storage command.
    pub fn count_set(&self, key: &[u8]) {
        self.count(key, |counts| counts.set += 1);
    }

    /// Counts a delete.
    pub fn count_delete(&self, key: &[u8]) {
        self.count(key, |counts| counts.del += 1);
    }

    fn count(&self, key: &[u8], add: impl FnOnce(&mut PrefixCounts)) {
        if !self.is_enabled() {
            return;
        }
        let Some(end) = memchr::memchr(self.delimiter, key) else { return };
        let prefix = &key[..end];
        if let Some(mut counts) = self.counts.get_mut(prefix) {
            add(&mut counts);
        } else if self.counts.len() < PREFIXES_MAX {
            add(&mut self.counts.entry(prefix.into()).or_default());
        }
    }
}
