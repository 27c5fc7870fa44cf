//! What the operator chose: one plain value, made by [`crate::config`] after every check, read by
//! every floor. Names are memcached's long option names where it has them. Fields that a command
//! may change at run time (`verbosity`, `cache_memlimit`, `lru_crawler sleep` ...) live as atomics
//! in [`crate::command::Server`] or in the store; here is what they start from.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Which protocol a listener speaks (`-B`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BindingProtocol {
    /// The connection's first byte decides.
    #[default]
    Auto,
    /// Text only.
    Ascii,
    /// Binary only.
    Binary,
}

/// One TCP address to listen on (`-l`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 lets the kernel choose.
    pub addr: SocketAddr,
    /// What it speaks.
    pub protocol: BindingProtocol,
    /// Shown in logs (`tag[name]:`).
    pub tag: Option<String>,
}

/// The operator's choices.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one memcached flag")]
pub struct Settings {
    /// `-l`, with `-p` as default port.
    pub listen: Vec<Listen>,
    /// `-p`, as `stats settings` shows it.
    pub tcp_port: u16,
    /// `-U`; 0 = off.
    pub udp_port: u16,
    /// The `-l` text as given, for `stats settings` (`inter`).
    pub inter: Option<String>,
    /// `-s`: when set, no TCP and no UDP.
    pub unix_socket: Option<PathBuf>,
    /// `-a`, permission bits of the unix socket.
    pub unix_mask: u32,
    /// `-A`.
    pub enable_shutdown: bool,
    /// `-m`, in bytes.
    pub memory_limit: usize,
    /// `!-M`.
    pub evictions: bool,
    /// `-c`.
    pub conn_limit: usize,
    /// `-t`.
    pub threads: usize,
    /// `-R`.
    pub max_reqs_per_event: u32,
    /// `!-C`.
    pub cas: bool,
    /// `-b`.
    pub listen_backlog: u32,
    /// `-B`.
    pub protocol: BindingProtocol,
    /// `-I`, in bytes as [`crate::item::size_of`] counts.
    pub item_size_max: usize,
    /// `!-F`.
    pub flush_enabled: bool,
    /// `!-X`.
    pub dump_enabled: bool,
    /// `!-W`.
    pub watch_enabled: bool,
    /// `-D`.
    pub prefix_delimiter: u8,
    /// `-D` was given: `stats detail` starts switched on.
    pub detail_enabled: bool,
    /// `-v` count.
    pub verbosity: u8,
    /// `-f`.
    pub slab_growth_factor: f64,
    /// `-n`.
    pub slab_min_size: usize,
    /// `-o maxconns_fast`.
    pub maxconns_fast: bool,
    /// `-o idle_timeout`, in seconds; 0 = off.
    pub idle_timeout: u32,
    /// `-o track_sizes`.
    pub track_sizes: bool,
    /// `-o` values that change nothing here but are shown in `stats settings`.
    pub shown: Shown,
    /// `-u` user to become.
    pub user: Option<String>,
    /// `-d`.
    pub daemon: bool,
    /// `-r`.
    pub enable_coredumps: bool,
    /// `-k`.
    pub lock_memory: bool,
    /// `-P`.
    pub pidfile: Option<PathBuf>,
    /// `MEMCACHED_PORT_FILENAME`.
    pub port_file: Option<PathBuf>,
    /// Accept `debugtime` (hidden option; tests only).
    pub test_clock: bool,
    /// Node number in the low bits of versions; 0 = no peers.
    pub node: u8,
}

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
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: Vec::new(),
            tcp_port: 11211,
            udp_port: 0,
            inter: None,
            unix_socket: None,
            unix_mask: 0o700,
            enable_shutdown: false,
            memory_limit: 64 << 20,
            evictions: true,
            conn_limit: 1024,
            threads: 4,
            max_reqs_per_event: 20,
            cas: true,
            listen_backlog: 1024,
            protocol: BindingProtocol::Auto,
            item_size_max: crate::limits::ITEM_SIZE_MAX_DEFAULT,
            flush_enabled: true,
            dump_enabled: true,
            watch_enabled: true,
            prefix_delimiter: b':',
            detail_enabled: false,
            verbosity: 0,
            slab_growth_factor: 1.25,
            slab_min_size: 48,
            maxconns_fast: true,
            idle_timeout: 0,
            track_sizes: false,
            shown: Shown::default(),
            user: None,
            daemon: false,
            enable_coredumps: false,
            lock_memory: false,
            pidfile: None,
            port_file: None,
            test_clock: false,
            node: 0,
        }
    }
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
        }
    }
}
