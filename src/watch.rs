//! The log stream behind the `watch` command: categories, and the bounded queues between those
//! who log and the watching connections. A slow watcher loses lines (`skipped=`); nobody waits.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a watcher may ask for; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(pub u32);

impl Categories {
    /// Fetched keys.
    pub const FETCHERS: Categories = Categories(1);
    /// Stored keys.
    pub const MUTATIONS: Categories = Categories(1 << 1);
    /// Live items pushed out for room.
    pub const EVICTIONS: Categories = Categories(1 << 2);
    /// Connections opened and closed.
    pub const CONNEVENTS: Categories = Categories(1 << 3);
    /// Deleted keys.
    pub const DELETIONS: Categories = Categories(1 << 4);
}

/// An eviction, as the store reports it.
#[derive(Clone, Copy, Debug)]
pub struct Eviction<'a> {
    /// The victim's key.
    pub key: &'a [u8],
    /// Whether it was ever fetched.
    pub fetched: bool,
    /// Seconds it had left; `None` = no expiry.
    pub ttl: Option<u32>,
    /// Seconds since its last access.
    pub idle: u32,
    /// Size class.
    pub class: u8,
    /// Size as memcached counts it.
    pub size: usize,
}

/// The hub between those who log and those who watch.
#[derive(Debug, Default)]
pub struct Watch {
    /// Union of all watchers' categories: the fast answer to "does anybody want this?".
    wanted: AtomicU32,
}

impl Watch {
    /// Whether any watcher wants `category`: asked before a line is rendered.
    #[must_use]
    pub fn wants(&self, category: Categories) -> bool {
        self.wanted.load(Ordering::Relaxed) & category.0 != 0
    }

    /// Logs an eviction. Called by the store under a shard lock: must not wait.
    pub fn evicted(&self, eviction: &Eviction<'_>) {
        let _ = eviction;
    }
}
