//! What the operator chose about peers, and about what else only a session store has.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{FLOOR_BYTES_DEFAULT, MUTATION_LOG_BYTES_DEFAULT};

/// The port that nodes listen on for each other, as repcached's.
pub const REPLICATION_PORT: u16 = 11212;

/// What `--ack-timeout` is by default. TCP sends again after 200 ms what the network lost: a peer is not
/// to be given up for one lost packet, nor for a machine that stalls for a moment, because what is
/// answered without it is on one node only. And a client is not to wait for half a second: only one
/// answer in each connection waits as long as this, because then the peer is out of sync.
pub const ACK_TIMEOUT: Duration = Duration::from_millis(250);

/// A peer as the operator named it: an address or a name that stands for several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName {
    /// A host name or an address, without brackets.
    pub host: String,
    /// `None`: our own replication port, as with repcached.
    pub port: Option<u16>,
}

impl PeerName {
    /// A peer from `host`, `host:port`, `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<PeerName> {
        let peer = |host: &str, port| Some(PeerName { host: host.to_owned(), port });
        if text.parse::<IpAddr>().is_ok() {
            return peer(text, None);
        }
        if let Some(inside) = text.strip_prefix('[') {
            let (host, rest) = inside.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            return match rest.strip_prefix(':') {
                Some(port) => peer(host, Some(port_of(port)?)),
                None if rest.is_empty() => peer(host, None),
                None => None,
            };
        }
        match text.split_once(':') {
            Some((host, port)) => peer(host_name(host)?, Some(port_of(port)?)),
            None => peer(host_name(text)?, None),
        }
    }

    /// The address, when it is no name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether it certainly is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn host_name(text: &str) -> Option<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed);
    (is_name && !text.starts_with('-')).then_some(text)
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = self.host.contains(':') && self.port.is_some();
        match bracketed {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl PeerName {
    /// Whether both are one, where those without a port are found on `port`.
    #[must_use]
    pub fn is_same(&self, other: &PeerName, port: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(port) == other.port.unwrap_or(port)
    }
}

/// What an operator may do about peers of whom nobody knows who they are.
pub const PROOFS: &str = "with --peer-secret-file file, with --peer-tls-cert, -key and -ca, or with \
                          --peer-insecure on a network where everybody may read every session";

/// When a client's write is answered (`--ack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ack {
    /// At once.
    Async,
    /// When one peer that is in sync has applied it.
    #[default]
    One,
    /// When every peer that is in sync has applied it.
    All,
}

/// What a client is told when no peer has applied its write in time (`--ack-fallback`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AckFallback {
    /// What it would be told without peers.
    #[default]
    Async,
    /// `SERVER_ERROR replication timeout`: stored here, and perhaps nowhere else.
    Error,
}

/// Where a lock is held that a client takes (`--lock-policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LockPolicy {
    /// On the node where it was taken: for clients that take it on every node themselves.
    #[default]
    Local,
    /// As any key: on every node, and two clients may take it at once at two nodes.
    Replicated,
    /// On every node, and only one client can take it.
    Exclusive,
}

/// What a node does with its items when it was apart from a peer for so long that it cannot hear any
/// more what was deleted there (`--after-long-separation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AfterSeparation {
    /// Both keep what they have: what was deleted may come back.
    #[default]
    Merge,
    /// It forgets them and loads from its peers: what it took meanwhile is lost.
    Wipe,
}

/// The peers and what is agreed with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// There is a peer link: `--peer`, `--replication-port` or `--replication-listen` was given.
    pub enabled: bool,
    /// `--peer`, `-x`.
    pub peers: Vec<PeerName>,
    /// `--replication-port`, `-X port`.
    pub port: u16,
    /// `--replication-listen`, with the port.
    pub listen: Vec<SocketAddr>,
    /// `--node-id`; 0 = one that no peer has is chosen.
    pub node: u8,
    /// `--cluster`: only nodes of the same cluster talk.
    pub cluster: String,
    /// `--peer-secret-file`.
    pub secret_file: Option<PathBuf>,
    /// `--peer-tls-cert`, `--peer-tls-key` and `--peer-tls-ca`.
    pub tls: Option<PeerTls>,
    /// `--peer-insecure`: a peer on another machine although nobody has to prove who he is.
    pub insecure: bool,
    /// `--enable-peer-changes`: clients may add and remove peers.
    pub changeable: bool,
    /// `--ack`.
    pub ack: Ack,
    /// `--ack-timeout`.
    pub ack_timeout: Duration,
    /// `--ack-fallback`.
    pub ack_fallback: AckFallback,
    /// `--bootstrap-timeout`; `None` = wait for a peer, however long.
    pub bootstrap_timeout: Option<Duration>,
    /// `--replication-log`, in bytes.
    pub log_bytes: usize,
    /// `--tombstone-memory`, in bytes.
    pub tombstone_bytes: usize,
    /// `--tombstone-horizon`.
    pub tombstone_horizon: Duration,
    /// `--after-long-separation`.
    pub after_separation: AfterSeparation,
    /// `--max-clock-skew`.
    pub clock_skew_max: Duration,
    /// `--lock-policy`.
    pub lock_policy: LockPolicy,
    /// `--lock-keys`: patterns of the keys that are locks.
    pub lock_keys: Vec<String>,
    /// `--test-clock-offset-ms` (hidden; tests only): what is added to the machine's clock.
    pub test_clock_offset_ms: i64,
}

/// The certificate that a node shows its peers, and who must have signed theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    /// The certificate chain, in PEM.
    pub cert: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// Whoever shows a certificate signed by these is a peer.
    pub ca: PathBuf,
}

impl Peering {
    /// Why `peer` may not be talked with, if it may not; goes on after its name.
    #[must_use]
    pub fn unproven(&self, peer: &PeerName) -> Option<String> {
        let is_proven = self.insecure || self.secret_file.is_some() || self.tls.is_some();
        (!is_proven && !peer.is_loopback()).then(|| {
            format!(
                "is another machine, and nobody would have to prove who he is; allowed: {PROOFS}"
            )
        })
    }
}

impl Default for Peering {
    fn default() -> Peering {
        Peering {
            enabled: false,
            peers: Vec::new(),
            port: REPLICATION_PORT,
            listen: Vec::new(),
            node: 0,
            cluster: "twincached".to_owned(),
            secret_file: None,
            tls: None,
            insecure: false,
            changeable: false,
            ack: Ack::One,
            ack_timeout: ACK_TIMEOUT,
            ack_fallback: AckFallback::Async,
            bootstrap_timeout: Some(Duration::from_secs(10)),
            log_bytes: MUTATION_LOG_BYTES_DEFAULT,
            tombstone_bytes: FLOOR_BYTES_DEFAULT,
            tombstone_horizon: Duration::from_secs(3600),
            after_separation: AfterSeparation::Merge,
            clock_skew_max: Duration::from_secs(60),
            lock_policy: LockPolicy::Local,
            lock_keys: LOCK_KEYS.map(str::to_owned).to_vec(),
            test_clock_offset_ms: 0,
        }
    }
}

impl Peering {
    /// A number that two nodes have in common which treat lock keys alike.
    #[must_use]
    pub fn lock_agreement(&self) -> u64 {
        let mut keys: Vec<&str> = self.lock_keys.iter().map(String::as_str).collect();
        keys.sort_unstable();
        keys.dedup();
        let policy: &[u8] = match self.lock_policy {
            LockPolicy::Local => b"local",
            LockPolicy::Exclusive => b"exclusive",
            // Where lock keys are as all keys are, it does not matter which they are.
            LockPolicy::Replicated => return 0,
        };
        xxh3_64([policy, b"\n", keys.join("\n").as_bytes()].concat().as_slice())
    }
}

/// The keys of PHP's session locks: pecl memcache's `KEY.lock`, and php-memcached's `lock.SID` behind
/// whatever prefix, as long as that ends as prefixes do. A replicated lock would make a new session
/// wait for itself on the second server.
pub const LOCK_KEYS: [&str; 6] =
    ["*.lock", "lock.*", "*.lock.*", "*_lock.*", "*-lock.*", "*:lock.*"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("web2", "web2", None),
            ("web2.example.org:11300", "web2.example.org", Some(11300)),
            ("192.0.2.7", "192.0.2.7", None),
            ("192.0.2.7:1", "192.0.2.7", Some(1)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]:65535", "2001:db8::1", Some(65535)),
            ("[::1]", "::1", None),
        ] {
            let peer = PeerName::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((peer.host.as_str(), peer.port), (host, port), "{text}");
            assert_eq!(PeerName::parse(&peer.to_string()), Some(peer), "{text}");
        }
        for text in [
            "", ":1", "a:", "a:0", "a:65536", "a:+1", "a b", "[::1", "[::1]1", "[a]:1", "a:1:2",
            "-x",
        ] {
            assert_eq!(PeerName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, expected) in [
            ("localhost:1", true),
            ("127.0.0.9", true),
            ("[::1]:2", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("web1", false),
        ] {
            assert_eq!(PeerName::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
