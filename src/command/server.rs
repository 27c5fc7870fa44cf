//! What all sessions share: the store, the settings, the counters, and the list of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::{Certificates, CloseReason, Locks, Peers, Prefixes, Refusals, Tuned};
use crate::clock::{Clock, Now, UnixSeconds};
use crate::credentials::Credentials;
use crate::item::SizeClasses;
use crate::readiness::Readiness;
use crate::settings::{LockPolicy, Peering, Settings};
use crate::stats::Totals;
use crate::store::{KeyPatterns, Replicated, Store, StoreConfig};
use crate::version::Version;
use crate::watch::{Remote, Watch};

/// What a connection came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// A unix socket.
    Unix,
    /// UDP over IPv4 or IPv6: one socket for all clients of a worker.
    Udp,
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

impl ConnState {
    const ALL: [ConnState; 9] = [
        ConnState::Listening,
        ConnState::NewCmd,
        ConnState::Waiting,
        ConnState::Read,
        ConnState::Nread,
        ConnState::Swallow,
        ConnState::Mwrite,
        ConnState::Watch,
        ConnState::Closing,
    ];

    /// Upstream's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConnState::Listening => "conn_listening",
            ConnState::NewCmd => "conn_new_cmd",
            ConnState::Waiting => "conn_waiting",
            ConnState::Read => "conn_read",
            ConnState::Nread => "conn_nread",
            ConnState::Swallow => "conn_swallow",
            ConnState::Mwrite => "conn_mwrite",
            ConnState::Watch => "conn_watch",
            ConnState::Closing => "conn_closing",
        }
    }
}

/// One open connection or listener, as `stats conns` shows it.
#[derive(Debug)]
pub struct Connection {
    /// The file descriptor's number.
    pub fd: i32,
    /// `tcp:ip:port`, `tcp6:[ip]:port`, `udp:ip:port`, `udp6:[ip]:port` or
    /// `unix:/path`.
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

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> ConnState {
        let number = usize::from(self.state.load(Ordering::Relaxed));
        ConnState::ALL.get(number).copied().unwrap_or(ConnState::Closing)
    }

    /// The client's end, as log lines show it.
    fn remote(&self) -> Remote<'_> {
        let tcp = self.addr.strip_prefix("tcp:").or_else(|| self.addr.strip_prefix("tcp6:"));
        let endpoint = tcp.and_then(|endpoint| endpoint.rsplit_once(':'));
        match (self.transport, endpoint) {
            (Transport::Tcp, Some((ip, port))) => Remote {
                ip: ip.trim_matches(['[', ']']),
                port: port.parse().unwrap_or(0),
                transport: "tcp",
                fd: self.fd,
            },
            _ => Remote { ip: "unix", port: 0, transport: "local", fd: self.fd },
        }
    }

    /// Where the client is; all clients of unix sockets are in one place.
    pub(super) fn host(&self) -> &str {
        self.remote().ip
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
    /// Who may log in (`-Y`, `-S`). When the settings demand a login and this is `None`, nobody
    /// may.
    pub credentials: Option<Credentials>,
    /// The TLS certificates (`-Z`).
    pub certificates: Option<Certificates>,
    /// The peers, when there may be any.
    pub peers: Option<Arc<Peers>>,
    /// Whether clients should come.
    pub readiness: Readiness,
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
    /// Who was refused what.
    pub refusals: Refusals,
    /// What operators changed at run time.
    pub tuned: Mutex<Tuned>,
    /// Connections that could not be accepted for want of file descriptors.
    pub accept_emfile: AtomicU64,
    /// `listen_disabled_num`.
    pub listen_disabled_num: AtomicU64,
    /// `time_in_listen_disabled_us`.
    pub listen_disabled_us: AtomicU64,
}

/// Shards a worker thread: enough that two threads rarely want the same one, and few enough that keys
/// asked for together share some.
const SHARDS_A_THREAD: usize = 4;

impl Server {
    /// A server with an empty store, as `settings` ask for, and without peers.
    #[must_use]
    pub fn new(settings: Settings) -> Server {
        Server::build(settings, None)
    }

    /// A server with an empty store that `peers` are to mirror.
    #[must_use]
    pub fn with_peers(settings: Settings, peers: Peers) -> Server {
        Server::build(settings, Some(Arc::new(peers)))
    }

    fn build(settings: Settings, peers: Option<Arc<Peers>>) -> Server {
        let watch = Arc::new(Watch::default());
        let replication = peers.as_ref().map(|peers| replicated(&settings.peering, peers));
        let store = Store::new(StoreConfig {
            memory_limit: settings.memory_limit,
            item_size_max: settings.item_size_max,
            evictions: settings.evictions,
            cas: settings.cas,
            shards: settings.threads.max(1).next_power_of_two() * SHARDS_A_THREAD,
            node: peers.as_ref().map_or(0, |peers| peers.node()),
            classes: SizeClasses::new(settings.slab_min_size, settings.slab_growth_factor),
            watch: Arc::clone(&watch),
            replication,
            fixed_hash: false,
        });
        Server {
            store,
            peers,
            clock: Clock::start_off_by(settings.peering.test_clock_offset_ms),
            totals: Totals::default(),
            credentials: None,
            certificates: None,
            readiness: Readiness::default(),
            watch,
            connections: DashMap::new(),
            tuned: Mutex::new(Tuned::from(&settings.shown)),
            accept_emfile: AtomicU64::new(0),
            refusals: Refusals::default(),
            prefixes: Prefixes::new(settings.prefix_delimiter, settings.detail_enabled),
            verbosity: AtomicU8::new(settings.verbosity),
            accepting: AtomicU8::new(1),
            listen_disabled_num: AtomicU64::new(0),
            listen_disabled_us: AtomicU64::new(0),
            settings,
        }
    }

    /// Exclusive lock keys, where there are any.
    pub(super) fn locks(&self) -> Option<&Locks> {
        self.peers.as_ref()?.locks.as_ref()
    }

    /// The cas unique as clients see it: 0 when the server runs without (`-C`).
    #[must_use]
    pub fn unique(&self, version: Version) -> u64 {
        if self.settings.cas { version.0 } else { 0 }
    }

    /// Logs that `connection` was accepted, for those who watch.
    pub fn log_opened(&self, connection: &Connection, now: Now) {
        self.watch.conn_new(&connection.remote(), now);
    }

    /// Logs that `connection` ended, for those who watch.
    pub fn log_closed(&self, connection: &Connection, reason: CloseReason, now: Now) {
        let reason = match reason {
            CloseReason::Error => "error",
            CloseReason::Normal => "normal",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::Shutdown => "shutdown",
        };
        self.watch.conn_close(&connection.remote(), reason, now);
    }
}

/// What the store keeps for `peers`.
fn replicated(peering: &Peering, peers: &Peers) -> Replicated {
    Replicated {
        log_bytes: peering.log_bytes,
        floor_bytes: peering.tombstone_bytes,
        horizon: u32::try_from(peering.tombstone_horizon.as_secs()).unwrap_or(u32::MAX),
        local_keys: match peering.lock_policy {
            LockPolicy::Local => KeyPatterns::new(&peering.lock_keys),
            LockPolicy::Replicated | LockPolicy::Exclusive => KeyPatterns::default(),
        },
        stability: Arc::clone(&peers.stability),
        #[cfg(test)]
        broken: crate::store::Broken::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Categories;

    fn connection(addr: &str, transport: Transport) -> Connection {
        let now = UnixSeconds(1_800_000_000);
        Connection::new(26, addr.to_owned(), None, transport, ConnState::NewCmd, now)
    }

    #[test]
    fn connections_are_logged_by_address_and_port_whatever_they_came_over() {
        let server = Server::new(Settings::default());
        let mut watcher = server.watch.subscribe(Categories::CONNEVENTS, 4096).expect("a place");
        let now = Now::from_unix_seconds(1_800_000_000);
        server.log_opened(&connection("tcp:192.0.2.1:4711", Transport::Tcp), now);
        let over_six = connection("tcp6:[2001:db8::1]:4712", Transport::Tcp);
        server.log_closed(&over_six, CloseReason::IdleTimeout, now);
        let unix = connection("unix:/run/a:b.sock", Transport::Unix);
        server.log_closed(&unix, CloseReason::Normal, now);
        let mut lines = Vec::new();
        watcher.drain(4096, &mut lines);
        let lines = String::from_utf8(lines).expect("ASCII");
        let wanted = [
            "type=conn_new rip=192.0.2.1 rport=4711 transport=tcp cfd=26",
            "type=conn_close rip=2001:db8::1 rport=4712 transport=tcp reason=idle_timeout cfd=26",
            "type=conn_close rip=unix rport=0 transport=local reason=normal cfd=26",
        ];
        for (line, wanted) in lines.lines().zip(wanted) {
            assert!(line.ends_with(wanted), "{line}");
        }
        assert_eq!(lines.lines().count(), wanted.len());
    }

    #[test]
    fn a_connection_shows_the_state_it_was_set_to() {
        let connection = connection("tcp:192.0.2.1:4711", Transport::Tcp);
        for state in ConnState::ALL {
            connection.set_state(state);
            assert_eq!(connection.state(), state);
        }
    }
}
