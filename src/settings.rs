//! What the operator chose: one plain value, made by [`crate::config`] after every check, read by
//! every floor. Names are memcached's long option names where it has them. Fields that a command
//! may change at run time (`verbosity`, `cache_memlimit`, `lru_crawler sleep` ...) live as atomics
//! in [`crate::command::Server`] or in the store; here is what they start from.

mod network;
mod peering;
mod shown;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use network::Network;
pub use peering::{
    ACK_TIMEOUT, Ack, AckFallback, AfterSeparation, LOCK_KEYS, LockPolicy, PROOFS, PeerName,
    PeerTls, Peering, REPLICATION_PORT,
};
pub use shown::{Ext, Shown};

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

/// Whether a listener speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ListenTls {
    /// As `-Z` says.
    #[default]
    Default,
    /// `notls:`, in clear although `-Z` is given.
    Off,
    /// `btls:`, without asking for a client certificate.
    Basic,
    /// `mtls:`, with a client certificate required.
    Mutual,
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
    /// `notls:`, `btls:`, `mtls:`.
    pub tls: ListenTls,
    /// Its name stands for several addresses (`*`, a host name). When the machine lacks the
    /// address family, it is skipped as long as another listener works.
    pub optional: bool,
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Listen {
        Listen {
            addr,
            protocol: BindingProtocol::Auto,
            tag: None,
            tls: ListenTls::Default,
            optional: false,
        }
    }
}

/// The operator's choices.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one memcached flag")]
pub struct Settings {
    /// `-l`, with `-p` as default port; empty with `-s` and with `-p 0`.
    pub listen: Vec<Listen>,
    /// The addresses of `-l` with `-U` as default port; empty while UDP is off.
    pub udp_listen: Vec<Listen>,
    /// `--udp-allow`: whom UDP answers in full, whatever the length.
    pub udp_allow: Vec<Network>,
    /// `--udp-rate`: datagrams heard in a second from one network that is not allowed; 0 = all.
    pub udp_rate: u32,
    /// `-p`, as `stats settings` shows it; 0 = no TCP, -1 = the kernel chooses.
    pub tcp_port: i32,
    /// `-U`, as `stats settings` shows it; 0 = off, -1 = the kernel chooses.
    pub udp_port: i32,
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
    /// `!--disable-io-uring`.
    pub io_uring: bool,
    /// `!-C`.
    pub cas: bool,
    /// `-b`.
    pub listen_backlog: u32,
    /// `-B`.
    pub protocol: BindingProtocol,
    /// `-S`.
    pub sasl: bool,
    /// `--sasl-pwdb` and `MEMCACHED_SASL_PWDB`: the users of `-S`.
    pub sasl_pwdb: Option<PathBuf>,
    /// `-Y`.
    pub auth_file: Option<PathBuf>,
    /// `--auth-allow-health-checks`: `version` and `mn` (binary: version and noop) are answered
    /// before the login.
    pub auth_allow_health_checks: bool,
    /// `-Z` and the `ssl_*` list.
    pub tls: Tls,
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
    /// Options given that change nothing here, by name: said once at `-v`.
    pub without_effect: Vec<String>,
    /// One line each, said at every start.
    pub warnings: Vec<String>,
    /// The peers (`--peer`) and what is agreed with them.
    pub peering: Peering,
    /// `--admin-listen`: where `/healthz`, `/readyz` and `/metrics` are served.
    pub admin_listen: Option<SocketAddr>,
}

/// `-Z` and its `-o ssl_*` options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `-Z`.
    pub enabled: bool,
    /// `ssl_chain_cert`.
    pub chain_cert: Option<PathBuf>,
    /// `ssl_key`; without it the key is in the chain file.
    pub key: Option<PathBuf>,
    /// `ssl_verify_mode`: 0 none, 1 request, 2 require, 3 once.
    pub verify_mode: u8,
    /// `ssl_keyformat`: 1 PEM, 2 DER.
    pub keyformat: u8,
    /// `ssl_ciphers`.
    pub ciphers: Option<String>,
    /// `ssl_ca_cert`.
    pub ca_cert: Option<PathBuf>,
    /// `ssl_wbuf_size`, bytes.
    pub wbuf_size: usize,
    /// `ssl_session_cache`.
    pub session_cache: bool,
    /// `ssl_kernel_tls`.
    pub kernel_tls: bool,
    /// `ssl_min_version`: 0 to 3 for TLS 1.0 to 1.3.
    pub min_version: u8,
}

impl Settings {
    /// Why the listeners deserve a warning: they are reachable from other machines and nobody
    /// has to log in. `None` when all is well.
    #[must_use]
    pub fn exposed(&self) -> Option<String> {
        if self.sasl || self.auth_file.is_some() {
            return None;
        }
        let listeners = self.listen.iter().chain(&self.udp_listen);
        let wide: Vec<String> = listeners
            .map(|listen| listen.addr)
            .filter(|addr| !addr.ip().to_canonical().is_loopback())
            .map(|addr| addr.to_string())
            .collect();
        (!wide.is_empty()).then(|| {
            format!(
                "listening on {} without authentication: whoever reaches it can read and change \
                 every session; keep it behind a firewall or use -l 127.0.0.1",
                wide.join(", ")
            )
        })
    }

    /// Why the admin port deserves a warning: it is reachable from other machines. `None` when all
    /// is well.
    #[must_use]
    pub fn admin_exposed(&self) -> Option<String> {
        let addr = self.admin_listen.filter(|addr| !addr.ip().to_canonical().is_loopback())?;
        Some(format!(
            "the admin port listens on {addr}: whoever reaches it can read the statistics, though no \
             session; keep it behind a firewall or use --admin-listen 127.0.0.1:{}",
            addr.port()
        ))
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: Vec::new(),
            udp_listen: Vec::new(),
            udp_allow: Network::LOOPBACK.to_vec(),
            udp_rate: 0,
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
            io_uring: true,
            cas: true,
            listen_backlog: 1024,
            protocol: BindingProtocol::Auto,
            sasl: false,
            sasl_pwdb: None,
            auth_file: None,
            auth_allow_health_checks: false,
            tls: Tls::default(),
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
            without_effect: Vec::new(),
            warnings: Vec::new(),
            peering: Peering::default(),
            admin_listen: None,
        }
    }
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            enabled: false,
            chain_cert: None,
            key: None,
            verify_mode: 0,
            keyformat: 1,
            ciphers: None,
            ca_cert: None,
            wbuf_size: 16 << 10,
            session_cache: false,
            kernel_tls: false,
            min_version: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening_on(addresses: &[&str]) -> Settings {
        let listen = addresses.iter().map(|a| Listen::from(a.parse::<SocketAddr>().unwrap()));
        Settings { listen: listen.collect(), ..Settings::default() }
    }

    #[test]
    fn only_an_address_that_others_can_reach_without_logging_in_is_exposed() {
        let loopback = ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
        assert_eq!(listening_on(&loopback).exposed(), None);
        assert_eq!(listening_on(&[]).exposed(), None);
        for wide in ["0.0.0.0:1", "[::]:1", "192.0.2.7:1", "[2001:db8::1]:1"] {
            let mut settings = listening_on(&["127.0.0.1:1", wide]);
            let warning = settings.exposed().unwrap();
            assert!(warning.contains(wide) && !warning.contains('\n'), "{warning}");
            assert!(!warning.contains("127.0.0.1:1 "), "{warning}");
            settings.auth_file = Some(PathBuf::from("users"));
            assert_eq!(settings.exposed(), None);
        }
    }

    #[test]
    fn only_an_admin_port_that_others_can_reach_is_exposed() {
        let on = |addr: &str| Settings { admin_listen: addr.parse().ok(), ..Settings::default() };
        assert_eq!(Settings::default().admin_exposed(), None);
        for loopback in ["127.0.0.1:9150", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(on(loopback).admin_listen.is_some());
            assert_eq!(on(loopback).admin_exposed(), None, "{loopback}");
        }
        for wide in ["0.0.0.0:9150", "[::]:9150", "192.0.2.7:9150", "[2001:db8::1]:9150"] {
            let settings = Settings { auth_file: Some(PathBuf::from("users")), ..on(wide) };
            let warning = settings.admin_exposed().unwrap();
            assert!(warning.contains(wide) && !warning.contains('\n'), "{warning}");
            assert!(warning.ends_with("--admin-listen 127.0.0.1:9150"), "{warning}");
        }
    }

    #[test]
    fn an_exposed_datagram_address_counts_too() {
        let udp_listen = vec![Listen::from("0.0.0.0:11211".parse::<SocketAddr>().unwrap())];
        assert!(Settings { udp_listen, ..Settings::default() }.exposed().is_some());
    }
}
