//! Settings that steer nothing: memcached's machinery of slabs, LRU threads and external storage
//! does not exist here, but start-up lines mention it and `stats settings` shows it.

use std::path::PathBuf;

/// Options that have no meaning here, accepted so that an existing start-up line keeps working
/// and shown in `stats settings` as given.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one memcached flag")]
pub struct Shown {
    /// `-o hashpower`.
    pub hashpower_init: u32,
    /// `-o slab_reassign`.
    pub slab_reassign: bool,
    /// `-o slab_automove`.
    pub slab_automove: u32,
    /// `-o slab_automove_ratio`.
    pub slab_automove_ratio: f64,
    /// `-o slab_automove_window`.
    pub slab_automove_window: u32,
    /// `-o slab_chunk_max`, bytes.
    pub slab_chunk_max: usize,
    /// `-o lru_crawler`.
    pub lru_crawler: bool,
    /// `-o lru_crawler_sleep`, microseconds.
    pub lru_crawler_sleep: u32,
    /// `-o lru_crawler_tocrawl`.
    pub lru_crawler_tocrawl: u32,
    /// `-o tail_repair_time`, seconds.
    pub tail_repair_time: u32,
    /// `-o hash_algorithm`.
    pub hash_algorithm: String,
    /// `-o lru_maintainer`.
    pub lru_maintainer: bool,
    /// `!(-o no_modern)`.
    pub lru_segmented: bool,
    /// `-o hot_lru_pct`.
    pub hot_lru_pct: u32,
    /// `-o warm_lru_pct`.
    pub warm_lru_pct: u32,
    /// `-o hot_max_factor`.
    pub hot_max_factor: f64,
    /// `-o warm_max_factor`.
    pub warm_max_factor: f64,
    /// `-o temporary_ttl`, seconds; `None` = off.
    pub temporary_ttl: Option<u32>,
    /// `-o watcher_logbuf_size`, bytes.
    pub watcher_logbuf_size: usize,
    /// `-o worker_logbuf_size`, bytes.
    pub worker_logbuf_size: usize,
    /// `-o read_buf_mem_limit`, bytes.
    pub read_buf_mem_limit: usize,
    /// `-o drop_privileges`.
    pub drop_privileges: bool,
    /// `-e`.
    pub memory_file: Option<PathBuf>,
    /// `-N`.
    pub napi_ids: Option<u32>,
    /// `-o ext_*`.
    pub ext: Ext,
}

/// External storage (`-o ext_*`), which does not exist here: only shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Ext {
    /// `ext_item_size`, bytes.
    pub item_size: u32,
    /// `ext_item_age`, seconds.
    pub item_age: u32,
    /// `ext_low_ttl`, seconds.
    pub low_ttl: u32,
    /// `ext_recache_rate`.
    pub recache_rate: u32,
    /// `ext_wbuf_size`, bytes.
    pub wbuf_size: u64,
    /// `ext_compact_under`, pages.
    pub compact_under: u32,
    /// `ext_drop_under`, pages.
    pub drop_under: u32,
    /// `ext_max_sleep`, microseconds.
    pub max_sleep: u32,
    /// `ext_max_frag`.
    pub max_frag: f64,
    /// `slab_automove_freeratio`.
    pub automove_freeratio: f64,
    /// `ext_drop_unread`.
    pub drop_unread: bool,
}

impl Default for Shown {
    fn default() -> Shown {
        Shown {
            hashpower_init: 0,
            slab_reassign: true,
            slab_automove: 1,
            slab_automove_ratio: 0.8,
            slab_automove_window: 10,
            slab_chunk_max: 512 << 10,
            lru_crawler: true,
            lru_crawler_sleep: 100,
            lru_crawler_tocrawl: 0,
            tail_repair_time: 0,
            hash_algorithm: "murmur3".to_owned(),
            lru_maintainer: true,
            lru_segmented: true,
            hot_lru_pct: 20,
            warm_lru_pct: 40,
            hot_max_factor: 0.2,
            warm_max_factor: 2.0,
            temporary_ttl: None,
            watcher_logbuf_size: 256 << 10,
            worker_logbuf_size: 64 << 10,
            read_buf_mem_limit: 0,
            drop_privileges: false,
            memory_file: None,
            napi_ids: None,
            ext: Ext::default(),
        }
    }
}

impl Default for Ext {
    fn default() -> Ext {
        Ext {
            item_size: 512,
            item_age: u32::MAX,
            low_ttl: 0,
            recache_rate: 2000,
            wbuf_size: 4 << 20,
            compact_under: 0,
            drop_under: 0,
            max_sleep: 1_000_000,
            max_frag: 0.8,
            automove_freeratio: 0.01,
            drop_unread: false,
        }
    }
}
