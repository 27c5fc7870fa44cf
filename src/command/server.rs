//! What all sessions share: the store, the settings, the counters, and the list of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;

use super::Prefixes;
use crate::clock::{Clock, UnixSeconds};
use crate::item::SizeClasses;
use crate::settings::Settings;
use crate::stats::Totals;
use crate::store::{Store, StoreConfig};
use crate::watch::Watch;

/// What a connection came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// A unix socket.
    Unix,
}

/// A connection's state as `stats conns` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnState {
    /// `conn_listening`: a listener.
    Listening = 0,
    /// `conn_new_cmd`: between commands.
    NewCmd = 1,
    /// `conn_waiting`: waiting for bytes.
    Waiting = 2,
    /// `conn_read`: part of a command has arrived.
    Read = 3,
    /// `conn_nread`: part of a data block has arrived.
    Nread = 4,
    /// `conn_swallow`: a refused data block is being skipped.
    Swallow = 5,
    /// `conn_mwrite`: a reply is being sent.
    Mwrite = 6,
    /// `conn_watch`: a watcher.
    Watch = 7,
    /// `conn_closing`.
    Closing = 8,
}

/// One open connection or listener, as `stats conns` shows it.
#[derive(Debug)]
pub struct Connection {
    /// The file descriptor's number.
    pub fd: i32,
    /// `tcp:ip:port`, `tcp6:[ip]:port` or `unix:/path`.
    pub addr: String,
    /// Where it was accepted; `None` for a listener.
    pub listen_addr: Option<Arc<str>>,
    /// Over what.
    pub transport: Transport,
    state: AtomicU8,
    last_command: AtomicU32,
}

impl Connection {
    /// A connection that was opened in the second `now`.
    #[must_use]
    pub fn new(
        fd: i32,
        addr: String,
        listen_addr: Option<Arc<str>>,
        transport: Transport,
        state: ConnState,
        now: UnixSeconds,
    ) -> Connection {
        Connection {
            fd,
            addr,
            listen_addr,
            transport,
            state: AtomicU8::new(state as u8),
            last_command: AtomicU32::new(now.0),
        }
    }

    /// Notes the state for `stats conns`.
    pub fn set_state(&self, state: ConnState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The state's number, as in [`ConnState`].
    #[must_use]
    pub fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// Notes that a command began in the second `now`.
    pub fn command_began(&self, now: UnixSeconds) {
        self.last_command.store(now.0, Ordering::Relaxed);
    }

    /// When the last command began, or the connection was opened.
    #[must_use]
    pub fn last_command(&self) -> UnixSeconds {
        UnixSeconds(self.last_command.load(Ordering::Relaxed))
    }
}

/// What all sessions share.
#[derive(Debug)]
pub struct Server {
    /// The items.
    pub store: Store,
    /// The operator's choices.
    pub settings: Settings,
    /// The clock; `net` reads it once a batch.
    pub clock: Clock,
    /// All workers' counters.
    pub totals: Totals,
    /// The log stream.
    pub watch: Arc<Watch>,
    /// Open connections and listeners by file descriptor.
    pub connections: DashMap<i32, Arc<Connection>>,
    /// `-v` count, moved by `verbosity`.
    pub verbosity: AtomicU8,
    /// Whether connections are accepted (0/1 in stats), and how often and for how many
    /// microseconds accepting was switched off (`-o no_maxconns_fast`).
    pub accepting: AtomicU8,
    /// Counts by key prefix.
    pub prefixes: Prefixes,
    /// `listen_disabled_num`.
    pub listen_disabled_num: AtomicU64,
    /// `time_in_listen_disabled_us`.
    pub listen_disabled_us: AtomicU64,
}

/// Shards a worker thread: enough that two threads rarely want the same one.
const SHARDS_A_THREAD: usize = 16;

impl Server {
    /// A server with an empty store, as `settings` ask for.
    #[must_use]
    pub fn new(settings: Settings) -> Server {
        let watch = Arc::new(Watch::default());
        let store = Store::new(StoreConfig {
            memory_limit: settings.memory_limit,
            item_size_max: settings.item_size_max,
            evictions: settings.evictions,
            cas: settings.cas,
            shards: settings.threads.max(1).next_power_of_two() * SHARDS_A_THREAD,
            node: settings.node,
            classes: SizeClasses::new(settings.slab_min_size, settings.slab_growth_factor),
            watch: Arc::clone(&watch),
        });
        Server {
            store,
            clock: Clock::start(),
            totals: Totals::default(),
            watch,
            connections: DashMap::new(),
            prefixes: Prefixes::new(settings.prefix_delimiter, settings.detail_enabled),
            verbosity: AtomicU8::new(settings.verbosity),
            accepting: AtomicU8::new(1),
            listen_disabled_num: AtomicU64::new(0),
            listen_disabled_us: AtomicU64::new(0),
            settings,
        }
    }
}
