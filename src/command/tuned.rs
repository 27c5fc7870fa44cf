//! What operators may change while the server runs (`slabs`, `lru`, `lru_crawler`) and what
//! `stats settings` shows of it.
//!
//! None of it moves our store: it has no slabs to reassign, one LRU order, and takes expired items
//! back by itself. The commands are obeyed as far as a client can see. What does have an effect
//! lives where it works: the memory limit in the store, verbosity in [`super::Server`], counting by
//! prefix in [`super::Prefixes`].

use crate::settings::Shown;

/// The numbers and switches as they stand now.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// `lru_crawler enable|disable`.
    pub lru_crawler: bool,
    /// `lru_crawler sleep`, microseconds.
    pub lru_crawler_sleep: u64,
    /// `lru_crawler tocrawl`, items.
    pub lru_crawler_tocrawl: u64,
    /// Crawls and dumps begun.
    pub lru_crawler_starts: u64,
    /// `slabs automove`: 0, 1 or 2.
    pub slab_automove: u64,
    /// `slabs automove ratio`.
    pub slab_automove_ratio: f64,
    /// `slabs automove freeratio`.
    pub slab_automove_freeratio: f64,
    /// `slabs automove window`: 3 to 1800.
    pub slab_automove_window: u64,
    /// `lru mode segmented`.
    pub lru_segmented: bool,
    /// `lru tune`, percent.
    pub hot_lru_pct: u64,
    /// `lru tune`, percent; with the hot ones at most 80.
    pub warm_lru_pct: u64,
    /// `lru tune`, above 0.
    pub hot_max_factor: f64,
    /// `lru tune`, above 0.
    pub warm_max_factor: f64,
    /// `lru temp_ttl` was set and is not negative.
    pub temp_lru: bool,
    /// `lru temp_ttl`, seconds.
    pub temporary_ttl: u64,
}

/// What `temporary_ttl` shows before anyone sets it.
const TEMPORARY_TTL_DEFAULT: u32 = 61;

impl From<&Shown> for Tuned {
    fn from(shown: &Shown) -> Tuned {
        Tuned {
            lru_crawler: shown.lru_crawler,
            lru_crawler_sleep: u64::from(shown.lru_crawler_sleep),
            lru_crawler_tocrawl: u64::from(shown.lru_crawler_tocrawl),
            lru_crawler_starts: 0,
            slab_automove: u64::from(shown.slab_automove),
            slab_automove_ratio: shown.slab_automove_ratio,
            slab_automove_freeratio: shown.ext.automove_freeratio,
            slab_automove_window: u64::from(shown.slab_automove_window),
            lru_segmented: shown.lru_segmented && shown.lru_maintainer,
            hot_lru_pct: u64::from(shown.hot_lru_pct),
            warm_lru_pct: u64::from(shown.warm_lru_pct),
            hot_max_factor: shown.hot_max_factor,
            warm_max_factor: shown.warm_max_factor,
            temp_lru: shown.temporary_ttl.is_some(),
            temporary_ttl: u64::from(shown.temporary_ttl.unwrap_or(TEMPORARY_TTL_DEFAULT)),
        }
    }
}
