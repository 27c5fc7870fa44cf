//! The options about peers, and what they demand of each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Refusal;
use super::options::{Opt, Takes};
use super::values::{mebibytes, number, one_of, put, some, yes};
use crate::limits::{CLUSTER_MAX, KEY_MAX, PEERS_MAX};
use crate::settings::{
    Ack, AckFallback, AfterSeparation, LockPolicy, PROOFS, PeerName, PeerTls, Peering, Settings,
};

/// What the options about peers say before they have been looked at together.
#[derive(Debug, Default)]
pub(super) struct PeerDraft {
    listen: Vec<Listen>,
    port_given: bool,
    tls_cert: Option<std::path::PathBuf>,
    tls_key: Option<std::path::PathBuf>,
    tls_ca: Option<std::path::PathBuf>,
}

impl PeerDraft {
    /// A stronger source names the addresses.
    pub(super) fn clear_listen(&mut self) {
        self.listen.clear();
    }
}

/// An address to listen on for peers.
#[derive(Clone, Copy, Debug)]
struct Listen {
    ip: IpAddr,
    port: Option<u16>,
}

impl Listen {
    fn parse(text: &str) -> Option<Listen> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Some(Listen { ip: addr.ip(), port: Some(addr.port()) });
        }
        let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        Some(Listen { ip: inside.unwrap_or(text).parse().ok()?, port: None })
    }
}

fn seconds(text: &str, most: u64) -> Option<Duration> {
    number(text, 1..=most).map(Duration::from_secs)
}

pub(super) static PEER_OPTIONS: &[Opt] = &[
    Opt::value(
        "peer",
        Takes::List("host"),
        "",
        "host, host:port, or [IPv6]:port",
        "a node to mirror every write to, with commas or several times; a name may stand for \
         several addresses, and for this node itself, so that one list serves all nodes",
        |d, v| {
            if !v.is_empty() {
                d.settings.peering.peers.push(PeerName::parse(v)?);
            }
            Some(())
        },
    )
    .short('x'),
    Opt::value(
        "replication-port",
        Takes::Value("num"),
        "11212",
        "1 to 65535",
        "TCP port on which peers find this node, and where they are expected; also -X num",
        |d, v| {
            d.peers.port_given = true;
            put(&mut d.settings.peering.port, number(v, 1..=65535))
        },
    ),
    Opt::value(
        "replication-listen",
        Takes::List("addr"),
        "",
        "an address, or address:port",
        "addresses on which peers find this node; all of them if none is given, or loopback's when \
         every peer is there",
        |d, v| {
            if !v.is_empty() {
                d.peers.listen.push(Listen::parse(v)?);
            }
            Some(())
        },
    ),
    Opt::file(
        "peer-secret-file",
        "a path",
        "peers must prove that they know what is in this file, and so does this node; read again at \
         SIGHUP",
        |d, v| put(&mut d.settings.peering.secret_file, some(v)),
    ),
    Opt::file(
        "peer-tls-cert",
        "a path, with --peer-tls-key and --peer-tls-ca",
        "speak TLS with peers and show them this certificate (PEM)",
        |d, v| put(&mut d.peers.tls_cert, some(v)),
    ),
    Opt::file(
        "peer-tls-key",
        "a path, with --peer-tls-cert and --peer-tls-ca",
        "the key of --peer-tls-cert (PEM)",
        |d, v| put(&mut d.peers.tls_key, some(v)),
    ),
    Opt::file(
        "peer-tls-ca",
        "a path, with --peer-tls-cert and --peer-tls-key",
        "whoever shows a certificate signed by one of these is a peer (PEM)",
        |d, v| put(&mut d.peers.tls_ca, some(v)),
    ),
    Opt::flag(
        "peer-insecure",
        "talk with peers on other machines although nobody has to prove who he is: whoever reaches the \
         replication port can read and change every session",
        |d, v| put(&mut d.settings.peering.insecure, yes(v)),
    ),
    Opt::flag(
        "enable-peer-changes",
        "let clients add and remove peers of this node with the peers command",
        |d, v| put(&mut d.settings.peering.changeable, yes(v)),
    ),
    Opt::value(
        "node-id",
        Takes::Value("num"),
        "0",
        "0 to 254",
        "this node's number among its peers; 0 chooses one that nobody has",
        |d, v| put(&mut d.settings.peering.node, number(v, 0..=254)),
    ),
    Opt::value(
        "cluster",
        Takes::Value("name"),
        "twincached",
        "a name of up to 64 bytes, without spaces",
        "only nodes of the same cluster talk with each other",
        |d, v| {
            let is_name =
                (1..=CLUSTER_MAX).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_graphic());
            put(&mut d.settings.peering.cluster, is_name.then(|| v.to_owned()))
        },
    ),
    Opt::value(
        "ack",
        Takes::Value("mode"),
        "one",
        "async, one or all",
        "answer a write at once (async), when one peer that is in sync has it, or when all of them have",
        |d, v| {
            let known = [("async", Ack::Async), ("one", Ack::One), ("all", Ack::All)];
            put(&mut d.settings.peering.ack, one_of(v, known))
        },
    ),
    Opt::value(
        "ack-timeout",
        Takes::Value("ms"),
        "250",
        "20 to 60000 milliseconds; less would be no longer than the peer link's own pauses",
        "longest wait in milliseconds for a peer; one that keeps a client waiting longer is out of sync \
         until it has caught up; at least 20",
        |d, v| {
            let millis = number(v, 20..=60_000).map(Duration::from_millis);
            put(&mut d.settings.peering.ack_timeout, millis)
        },
    ),
    Opt::value(
        "ack-fallback",
        Takes::Value("mode"),
        "async",
        "async or error",
        "when no peer had a write in time: answer as without peers (async), or SERVER_ERROR (error)",
        |d, v| {
            let known = [("async", AckFallback::Async), ("error", AckFallback::Error)];
            put(&mut d.settings.peering.ack_fallback, one_of(v, known))
        },
    ),
    Opt::value(
        "bootstrap-timeout",
        Takes::Value("s"),
        "10",
        "1 to 86400 seconds, or wait",
        "serve alone when no peer has been reached for so long; wait never does",
        |d, v| {
            let timeout = match v {
                "wait" => None,
                _ => Some(seconds(v, 86_400)?),
            };
            put(&mut d.settings.peering.bootstrap_timeout, Some(timeout))
        },
    ),
    Opt::value(
        "replication-log",
        Takes::Value("MiB"),
        "64",
        "1 to 65536 MiB, or GiB with a g",
        "memory for the keys of the latest writes: how long a peer may be away and still go on where it was",
        |d, v| put(&mut d.settings.peering.log_bytes, mebibytes(v, 1..=65_536)),
    ),
    Opt::value(
        "tombstone-memory",
        Takes::Value("MiB"),
        "16",
        "1 to 65536 MiB, or GiB with a g",
        "memory for remembering what was deleted, until every peer knows",
        |d, v| put(&mut d.settings.peering.tombstone_bytes, mebibytes(v, 1..=65_536)),
    ),
    Opt::value(
        "tombstone-horizon",
        Takes::Value("s"),
        "3600",
        "1 to 2592000 seconds",
        "longest time to remember what was deleted while a peer is away",
        |d, v| put(&mut d.settings.peering.tombstone_horizon, seconds(v, 2_592_000)),
    ),
    Opt::value(
        "after-long-separation",
        Takes::Value("what"),
        "merge",
        "merge or wipe",
        "when this node was away for longer than its peers remember what was deleted: keep what it has, \
         so that deleted items may come back (merge), or forget it and load from them (wipe)",
        |d, v| {
            let known = [("merge", AfterSeparation::Merge), ("wipe", AfterSeparation::Wipe)];
            put(&mut d.settings.peering.after_separation, one_of(v, known))
        },
    ),
    Opt::value(
        "max-clock-skew",
        Takes::Value("s"),
        "60",
        "1 to 3600 seconds",
        "refuse peers whose clock is further off",
        |d, v| put(&mut d.settings.peering.clock_skew_max, seconds(v, 3600)),
    ),
    Opt::value(
        "lock-policy",
        Takes::Value("mode"),
        "local",
        "local, replicated or exclusive",
        "a lock that a client takes stays on that node (local), is mirrored as any key (replicated), or \
         is taken on all nodes, by one client only (exclusive); the same on every node",
        |d, v| {
            let policy = match v {
                "local" => LockPolicy::Local,
                "replicated" => LockPolicy::Replicated,
                "exclusive" => LockPolicy::Exclusive,
                _ => return None,
            };
            put(&mut d.settings.peering.lock_policy, Some(policy))
        },
    ),
    Opt::value(
        "lock-keys",
        Takes::List("pattern"),
        "*.lock,lock.*,*.lock.*,*_lock.*,*-lock.*,*:lock.*",
        "patterns of 1 to 250 bytes, * for any bytes",
        "keys that are locks, with commas or several times; PHP's session locks if not given; the \
         same on every node",
        |d, v| {
            if !v.is_empty() {
                d.settings.peering.lock_keys.push((v.len() <= KEY_MAX).then(|| v.to_owned())?);
            }
            Some(())
        },
    ),
    Opt::value(
        "admin-listen",
        Takes::Value("addr"),
        "",
        "address:port, as 127.0.0.1:9150",
        "serve /healthz, /readyz and /metrics over HTTP on this address",
        |d, v| put(&mut d.settings.admin_listen, v.parse().ok().map(Some)),
    ),
    Opt::value(
        "test-clock-offset-ms",
        Takes::Value("ms"),
        "0",
        "a number of milliseconds",
        "move the clock",
        |d, v| put(&mut d.settings.peering.test_clock_offset_ms, v.parse().ok()),
    )
    .hidden(),
];

/// Settles what the options about peers leave open.
pub(super) fn finish(settings: &mut Settings, draft: PeerDraft) -> Result<(), Refusal> {
    let peering = &mut settings.peering;
    peering.enabled = !peering.peers.is_empty() || draft.port_given || !draft.listen.is_empty();
    if peering.peers.len() > PEERS_MAX {
        return Err(Refusal::usage(format!(
            "-x (--peer) was given {} peers; allowed: at most {PEERS_MAX}",
            peering.peers.len()
        )));
    }
    peering.tls = match (draft.tls_cert, draft.tls_key, draft.tls_ca) {
        (Some(cert), Some(key), Some(ca)) => Some(PeerTls { cert, key, ca }),
        (None, None, None) => None,
        _ => {
            return Err(Refusal::usage(
                "--peer-tls-cert, --peer-tls-key and --peer-tls-ca go together; allowed: all of \
                 them or none"
                    .to_owned(),
            ));
        }
    };
    if peering.enabled {
        peering.listen = addresses(peering, &draft.listen);
        proof(peering)?;
        memory(settings)?;
    } else {
        let test_clock_offset_ms = peering.test_clock_offset_ms;
        if *peering != (Peering { test_clock_offset_ms, ..Peering::default() }) {
            settings.warnings.push(
                "options about peers are without effect: no -x (--peer) was given, and no \
                 --replication-port"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn addresses(peering: &Peering, given: &[Listen]) -> Vec<SocketAddr> {
    if !given.is_empty() {
        let addr =
            |listen: &Listen| SocketAddr::new(listen.ip, listen.port.unwrap_or(peering.port));
        return given.iter().map(addr).collect();
    }
    let all_here = !peering.peers.is_empty() && peering.peers.iter().all(PeerName::is_loopback);
    let ip = if all_here { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    vec![SocketAddr::new(ip.into(), peering.port)]
}

/// Nobody may read or write sessions through the replication port without a proof.
fn proof(peering: &Peering) -> Result<(), Refusal> {
    if peering.insecure || peering.secret_file.is_some() || peering.tls.is_some() {
        return Ok(());
    }
    for peer in &peering.peers {
        if let Some(why) = peering.unproven(peer) {
            return Err(Refusal::usage(format!("-x {peer} (--peer) {why}")));
        }
    }
    let wide = peering.listen.iter().find(|addr| !addr.ip().to_canonical().is_loopback());
    if let Some(addr) = wide {
        return Err(Refusal::usage(format!(
            "peers are expected on {addr} (--replication-listen), and nobody would have to prove \
             who he is; allowed: {PROOFS}"
        )));
    }
    Ok(())
}

/// What is remembered of deleted keys counts beside the items: it must not dwarf them unseen.
fn memory(settings: &mut Settings) -> Result<(), Refusal> {
    let peering = &settings.peering;
    let beside = peering.log_bytes + peering.tombstone_bytes;
    if beside > settings.memory_limit.saturating_mul(4) {
        settings.warnings.push(format!(
            "--replication-log and --tombstone-memory may take {} MiB beside the {} MiB of -m",
            beside >> 20,
            settings.memory_limit >> 20
        ));
    }
    if !settings.cas {
        return Err(Refusal::usage(
            "-C (--disable-cas) and -x (--peer) exclude each other: versions decide which of two \
             writes is later; allowed: one of them"
                .to_owned(),
        ));
    }
    Ok(())
}
