//! What all sessions share: the store, the settings, the counters, and the list of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;

use crate::clock::{Clock, UnixSeconds};
use crate::settings::Settings;
use crate::stats::Totals;
use crate::store::Store;
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
    /// `listen_disabled_num`.
    pub listen_disabled_num: AtomicU64,
    /// `time_in_listen_disabled_us`.
    pub listen_disabled_us: AtomicU64,
}
