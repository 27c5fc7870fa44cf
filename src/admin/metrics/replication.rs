//! Replication's families, from `stats replication`: the node under `twincached_replication_`, its
//! peers under `twincached_peer_` with the label `peer`, the address that the operator gave.
//!
//! Times are in seconds, whatever the statistic's unit. Without peers there is none of them. A
//! node's own address among its peers is left out: it is never in sync, and would set off alarms.
//! So is `log_last`, a position that says nothing by itself.

use std::collections::BTreeMap;

use super::family::{Exposition, Family, Kind, Row, counter, gauge};
use super::{Classes, Lists, Stats};

const MILLIS: f64 = 1e3;
const MICROS: f64 = 1e6;

const NODE: &[Row] = &[
    gauge(
        "peers_in_sync",
        "twincached_replication_peers_in_sync",
        "Peers that have everything and acknowledge writes.",
    ),
    gauge(
        "peers_awaited",
        "twincached_replication_peers_awaited",
        "Peers that acknowledgements are counted from now.",
    ),
    gauge(
        "bootstrapped_alone",
        "twincached_replication_bootstrapped_alone",
        "1 when it began to serve without having found a node to load from.",
    ),
    gauge(
        "loading_items",
        "twincached_replication_loading_items",
        "Items that came since the latest loading began.",
    ),
    gauge(
        "loading_items_of",
        "twincached_replication_loading_items_expected",
        "Items of the peer that had most when the latest loading began.",
    ),
    gauge(
        "loading_bytes",
        "twincached_replication_loading_bytes",
        "Bytes of the items that came since the latest loading began.",
    ),
    gauge(
        "loading_bytes_of",
        "twincached_replication_loading_bytes_expected",
        "Bytes of the items of the peer that had most when the latest loading began.",
    ),
    counter(
        "conflicts",
        "twincached_replication_conflicts_total",
        "Writes made here that lost to a peer's, which was made without knowledge of them.",
    ),
    counter(
        "long_separations",
        "twincached_replication_long_separations_total",
        "Peers back after so long that what was deleted meanwhile is not known any more.",
    ),
    counter(
        "wipes",
        "twincached_replication_wipes_total",
        "Times it forgot everything after a long separation (--after-long-separation wipe).",
    ),
    counter("stalls", "twincached_replication_stalls_total", "Times it stood still for too long."),
    counter(
        "pauses",
        "twincached_replication_pauses_total",
        "Times it stood still for a moment, and asked its peers before it went on.",
    ),
    counter(
        "ack_timeouts",
        "twincached_replication_ack_timeouts_total",
        "Times a peer was out of sync for being slower than --ack-timeout.",
    ),
    counter(
        "ack_fallbacks",
        "twincached_replication_ack_fallbacks_total",
        "Writes answered without any peer having acknowledged them.",
    ),
    counter(
        "ack_refused",
        "twincached_replication_ack_refused_total",
        "Writes refused for want of an acknowledgement (--ack-fallback error).",
    ),
    counter(
        "digest_mismatch_repairs",
        "twincached_replication_digest_mismatch_repairs_total",
        "Repairs because two nodes in sync were found to differ.",
    ),
    counter(
        "records_refused",
        "twincached_replication_records_refused_total",
        "Records of peers that could not be held.",
    ),
    counter(
        "records_superseded",
        "twincached_replication_records_superseded_total",
        "Records of peers that were older than what was held.",
    ),
    counter(
        "strangers_sent_away",
        "twincached_replication_strangers_sent_away_total",
        "Connections to the port for peers that said nothing and had to go for others.",
    ),
    gauge("log_bytes", "twincached_replication_log_bytes", "Bytes of the log for peers."),
    gauge(
        "log_oldest_ms",
        "twincached_replication_log_oldest_seconds",
        "Age of the oldest write in the log: a peer away for longer is scanned.",
    )
    .of_parts(MILLIS),
    gauge(
        "tombstone_bytes",
        "twincached_replication_floor_bytes",
        "Bytes of the records of items that are gone.",
    ),
    counter(
        "purged_unstable",
        "twincached_replication_purged_unstable_total",
        "Records of items that are gone given up before every peer knew of them.",
    ),
];

/// With `--lock-policy exclusive` only.
const LOCKS: &[Row] = &[
    gauge(
        "lock_home",
        "twincached_replication_lock_home",
        "The node that decides about locks; 0 while it does not serve.",
    ),
    gauge(
        "lock_nodes",
        "twincached_replication_lock_nodes",
        "Nodes that have to agree about a lock, this one included.",
    ),
    counter(
        "lock_executed",
        "twincached_replication_lock_executed_total",
        "Requests for locks that it decided.",
    ),
    counter(
        "lock_forwarded",
        "twincached_replication_lock_forwarded_total",
        "Requests of its clients for locks that another node was asked to decide.",
    ),
    counter(
        "lock_retried",
        "twincached_replication_lock_retried_total",
        "Times a request for a lock was asked again: who decided was gone or not sure.",
    ),
    counter(
        "lock_known_again",
        "twincached_replication_lock_known_again_total",
        "Requests for locks that a node had decided which died, and that were known here.",
    ),
    counter(
        "lock_doubtful",
        "twincached_replication_lock_doubtful_total",
        "Requests for locks decided here about which others may have decided meanwhile.",
    ),
    counter(
        "lock_split",
        "twincached_replication_lock_split_total",
        "Requests for locks decided while a node was missing that may have decided the same.",
    ),
];

const PEER: &[Row] = &[
    gauge("in_sync", "twincached_peer_in_sync", "1 while it has everything."),
    gauge(
        "lag_ms",
        "twincached_peer_lag_seconds",
        "Age of our oldest write that it has not acknowledged, whether it is there or gone.",
    )
    .of_parts(MILLIS),
    gauge(
        "lag_records",
        "twincached_peer_lag_records",
        "Our writes that it has not acknowledged, as far as the log reaches.",
    ),
    gauge(
        "lag_bytes",
        "twincached_peer_lag_bytes",
        "Bytes that those take in the log, which has keys and no values.",
    ),
    gauge(
        "behind_ms",
        "twincached_peer_behind_seconds",
        "Age of the latest position of its that was applied here.",
    )
    .of_parts(MILLIS),
    gauge("queued_bytes", "twincached_peer_queued_bytes", "Bytes that wait to be sent to it."),
    gauge(
        "protocol",
        "twincached_peer_protocol",
        "Version of the protocol spoken; 0 without a link.",
    ),
    counter("sent_records", "twincached_peer_sent_records_total", "Records sent to it."),
    counter("received_records", "twincached_peer_received_records_total", "Records it sent."),
    counter("sent_batches", "twincached_peer_sent_batches_total", "Batches sent to it."),
    counter("sent_bytes", "twincached_peer_sent_bytes_total", "Bytes sent to it."),
    counter("received_bytes", "twincached_peer_received_bytes_total", "Bytes it sent."),
    gauge("rtt_us", "twincached_peer_rtt_seconds", "Round trip to it.").of_parts(MICROS),
    gauge("clock_skew_ms", "twincached_peer_clock_skew_seconds", "Its clock minus ours.")
        .of_parts(MILLIS),
    counter(
        "resumes",
        "twincached_peer_resumes_total",
        "Links that went on where the one before had ended.",
    ),
    counter(
        "needs",
        "twincached_peer_needs_total",
        "Records asked for because a touch came without them.",
    ),
    counter("link_downs", "twincached_peer_link_downs_total", "Links that ended."),
];

/// Statistics by what they are of: what is gone.
const FLOORS: [(&str, &str); 2] = [("tombstones", "tombstone"), ("lost_records", "lost")];

/// The same: why everything had to be compared.
const SCANS: [(&str, &str); 3] =
    [("scans_boot", "boot"), ("scans_overrun", "overrun"), ("scans_digest", "digest")];

/// Peers by the name that their label shows. A peer that dialled us has no address, and whoever is
/// given twice is one.
pub(super) fn named(numbered: Classes) -> BTreeMap<String, Stats> {
    let mut peers = BTreeMap::new();
    for stats in numbered.into_values() {
        let name = match (stats.text("state"), stats.text("address")) {
            (Some("myself"), _) => continue,
            (_, Some(address)) if address != "unknown" => address.to_owned(),
            _ => format!("node{}", stats.text("node").unwrap_or_default()),
        };
        peers.entry(name).or_insert(stats);
    }
    peers
}

/// The node among its peers.
pub(super) fn node(lists: &Lists, exposition: &mut Exposition) {
    let stats = &lists.replication;
    if let (Some(cluster), Some(state)) = (stats.text("cluster"), stats.text("state")) {
        let mut family = Family::new(
            Kind::Gauge,
            "twincached_replication_state",
            "1 under the node's state: loading, ready, draining or drained.",
        );
        family.put(&[("cluster", cluster), ("state", state)], Some(1.0));
        exposition.add(family);
    }
    exposition.add_rows(NODE, stats);
    exposition.add_rows(LOCKS, stats);
    let mut floors = Family::new(
        Kind::Gauge,
        "twincached_replication_floors",
        "Records of items that are gone: deleted, or expired, evicted and refused.",
    );
    for (stat, kind) in FLOORS {
        floors.put(&[("kind", kind)], stats.number(stat));
    }
    exposition.add(floors);
    if let Some(waits) = stats.distribution("ack_wait") {
        exposition.add_histogram(
            "twincached_replication_ack_wait_seconds",
            "How long replies were held back until a peer had acknowledged the write.",
            waits,
        );
    }
}

/// Each peer.
pub(super) fn peers(lists: &Lists, exposition: &mut Exposition) {
    let mut info = Family::new(
        Kind::Gauge,
        "twincached_peer_info",
        "1 under the peer's number, its link's state, and why the last link ended.",
    );
    let mut scans = Family::new(
        Kind::Counter,
        "twincached_peer_scans_total",
        "Times everything was compared: it was new, away for too long, or found to differ.",
    );
    for (peer, stats) in &lists.peers {
        let label = |name| (name, stats.text(name).unwrap_or_default());
        let labels = [("peer", peer.as_str()), label("node"), label("state"), label("last_error")];
        info.put(&labels, Some(1.0));
        for (stat, reason) in SCANS {
            scans.put(&[("peer", peer), ("reason", reason)], stats.number(stat));
        }
    }
    exposition.add(info);
    exposition.add_rows_by("peer", PEER, &lists.peers);
    exposition.add(scans);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::tests::{interface, samples};
    use super::*;
    use crate::command::{Peers, Server};
    use crate::replication::{Agreed, LockStatus, NodeStatus, PeerStatus, Reason, State};
    use crate::settings::Settings;
    use crate::version::Version;

    fn peer(address: Option<&str>, node: u8, state: &'static str) -> PeerStatus {
        PeerStatus {
            address: address.map(str::to_owned),
            node: Some(node),
            state,
            in_sync: state == "streaming",
            lag_ms: 1_250,
            lag_records: 17,
            lag_bytes: 18,
            behind_ms: 20,
            queued_bytes: 3,
            sent_records: 4,
            received_records: 5,
            sent_batches: 6,
            sent_bytes: 7,
            received_bytes: 8,
            rtt_us: 90,
            clock_skew_ms: -1_500,
            resumes: 11,
            scans_boot: 12,
            scans_overrun: 13,
            scans_digest: 14,
            needs: 15,
            link_downs: 16,
            agreed: Agreed { version: 1, features: 1 },
            last_error: Some(Reason::Lost),
        }
    }

    fn with_peers(peers: Vec<PeerStatus>) -> Server {
        with_locks(peers, None)
    }

    fn with_locks(peers: Vec<PeerStatus>, locks: Option<LockStatus>) -> Server {
        let mut settings = Settings::default();
        settings.peering.enabled = true;
        let all = Peers::new(&settings.peering, 7);
        all.show(NodeStatus {
            state: State::Ready,
            in_sync: peers.iter().filter(|peer| peer.in_sync).count(),
            peers,
            log_last: Version(1),
            refused: 21,
            digest_mismatch_repairs: 22,
            ack_timeouts: 23,
            bootstrapped_alone: true,
            stalls: 24,
            pauses: 25,
            conflicts: 26,
            locks,
            ..NodeStatus::default()
        });
        Server::with_peers(settings, all)
    }

    #[test]
    fn without_peers_no_family_of_replication_appears() {
        let server = Server::new(Settings::default());
        for prefix in ["twincached_replication", "twincached_peer"] {
            assert!(interface(&server, prefix).is_empty(), "{prefix}");
            let shown = interface(&with_peers(vec![peer(None, 1, "streaming")]), prefix);
            assert!(!shown.is_empty(), "{prefix}");
        }
    }

    #[test]
    fn a_node_that_loads_says_so_before_it_has_met_anybody() {
        let mut settings = Settings::default();
        settings.peering.enabled = true;
        let peers = Peers::new(&settings.peering, 7);
        let shown = samples(&Server::with_peers(settings, peers));
        let state = |series: &&String| series.starts_with("twincached_replication_state{");
        let states: Vec<&String> = shown.keys().filter(state).collect();
        assert!(states.len() == 1 && states[0].ends_with(",state=\"loading\"}"), "{states:?}");
        assert!(!shown.keys().any(|series| series.starts_with("twincached_peer_")));
    }

    #[test]
    fn nothing_of_stats_replication_is_left_out() {
        let peers = vec![peer(Some("web2:11212"), 9, "streaming")];
        let lists = Lists::of(&with_locks(peers, Some(LockStatus::default())));
        let rows = |rows: &[Row]| rows.iter().map(|row| row.stat).collect::<BTreeSet<&str>>();
        let listed = |stats: &Stats| stats.0.keys().cloned().collect::<BTreeSet<String>>();
        let all = |mut rows: BTreeSet<&'static str>, others: &[&'static str]| {
            rows.extend(others);
            rows.into_iter().map(str::to_owned).collect::<BTreeSet<String>>()
        };

        let mut node = listed(&lists.replication);
        node.retain(|stat| !stat.starts_with("ack_wait_le_"));
        let floors = FLOORS.map(|(stat, _)| stat);
        let waits = ["ack_waits", "ack_wait_us", "ack_wait_longer"];
        // `node` is `twincached_node`, and `log_last` is left out.
        let said = ["node", "log_last", "cluster", "state"];
        let all_rows = &rows(NODE) | &rows(LOCKS);
        assert_eq!(node, all(all_rows, &[&floors[..], &waits, &said].concat()));

        let scans = SCANS.map(|(stat, _)| stat);
        // `features` are bits.
        let labels = ["address", "node", "state", "last_error", "features"];
        let peer = listed(&lists.peers["web2:11212"]);
        assert_eq!(peer, all(rows(PEER), &[&scans[..], &labels].concat()));
    }

    #[test]
    fn times_are_in_seconds_and_a_peer_is_known_by_its_address_or_its_number() {
        let server = with_peers(vec![
            peer(Some("web1:11212"), 7, "myself"),
            peer(Some("web2:11212"), 9, "streaming"),
            peer(Some("web2:11212"), 9, "streaming"),
            peer(None, 3, "scanning"),
        ]);
        let shown = samples(&server);
        for (series, wanted) in [
            ("peer_in_sync{peer=\"web2:11212\"}", 1.0),
            ("peer_in_sync{peer=\"node3\"}", 0.0),
            ("peer_lag_seconds{peer=\"web2:11212\"}", 1.25),
            ("peer_behind_seconds{peer=\"web2:11212\"}", 0.02),
            ("peer_rtt_seconds{peer=\"web2:11212\"}", 0.000_09),
            ("peer_clock_skew_seconds{peer=\"web2:11212\"}", -1.5),
            ("peer_scans_total{peer=\"node3\",reason=\"overrun\"}", 13.0),
            ("peer_link_downs_total{peer=\"node3\"}", 16.0),
            ("replication_records_refused_total", 21.0),
            ("replication_stalls_total", 24.0),
            ("replication_pauses_total", 25.0),
            ("replication_bootstrapped_alone", 1.0),
        ] {
            let found = shown.get(&format!("twincached_{series}"));
            assert_eq!(found.map(|value| value.to_bits()), Some(f64::to_bits(wanted)), "{series}");
        }
        let info =
            "peer=\"web2:11212\",node=\"9\",state=\"streaming\",last_error=\"connection_lost\"";
        assert!(shown.contains_key(&format!("twincached_peer_info{{{info}}}")), "{shown:?}");
        assert!(!shown.keys().any(|series| series.contains("web1")), "a node is no peer of itself");
    }

    #[test]
    fn locks_are_shown_where_they_are_exclusive_and_nowhere_else() {
        let told = LockStatus {
            home: Some(3),
            nodes: 2,
            executed: 31,
            forwarded: 32,
            retried: 33,
            known_again: 34,
            doubtful: 35,
            split: 36,
        };
        let shown = samples(&with_locks(Vec::new(), Some(told)));
        for (series, wanted) in [
            ("home", 3.0),
            ("nodes", 2.0),
            ("executed_total", 31.0),
            ("forwarded_total", 32.0),
            ("retried_total", 33.0),
            ("known_again_total", 34.0),
            ("doubtful_total", 35.0),
            ("split_total", 36.0),
        ] {
            let found = shown.get(&format!("twincached_replication_lock_{series}"));
            assert_eq!(found.map(|value| value.to_bits()), Some(f64::to_bits(wanted)), "{series}");
        }
        let nobody = LockStatus { home: None, ..told };
        let shown = samples(&with_locks(Vec::new(), Some(nobody)));
        assert_eq!(shown["twincached_replication_lock_home"].to_bits(), 0_f64.to_bits());
        let shown = samples(&with_peers(Vec::new()));
        assert!(!shown.keys().any(|series| series.contains("_lock_")), "{shown:?}");
    }

    #[test]
    fn a_wait_is_counted_in_every_bucket_that_is_as_long_as_it_and_in_all() {
        let server = with_peers(Vec::new());
        let peers = server.peers.as_ref().unwrap();
        for micros in [40, 50, 51, 2_000_000] {
            peers.count_wait(Duration::from_micros(micros));
        }
        let shown = samples(&server);
        let name = "twincached_replication_ack_wait_seconds";
        let bucket = |le: &str| shown[&format!("{name}_bucket{{le=\"{le}\"}}")];
        let found = ["0.00005", "0.0001", "1", "+Inf"].map(bucket).map(f64::to_bits);
        assert_eq!(found, [2.0, 3.0, 3.0, 4.0].map(f64::to_bits));
        assert_eq!(shown[&format!("{name}_count")].to_bits(), 4_f64.to_bits());
        assert_eq!(shown[&format!("{name}_sum")].to_bits(), 2.000_141_f64.to_bits());
        let buckets = shown.keys().filter(|series| series.starts_with(&format!("{name}_bucket")));
        assert_eq!(buckets.count(), crate::command::WAIT_BUCKETS_US.len() + 1);
    }

    #[test]
    fn counts_of_replication_end_in_total_and_times_in_seconds() {
        let peers = vec![peer(Some("web2:11212"), 9, "streaming")];
        let server = with_locks(peers, Some(LockStatus::default()));
        for family in interface(&server, "twincached_") {
            let mut words = family.split(' ');
            let (name, kind) = (words.next().unwrap(), words.next().unwrap());
            assert_eq!(name.ends_with("_total"), kind == "counter", "{family}");
            assert!(!name.ends_with("_ms") && !name.ends_with("_us"), "{family}");
        }
    }
}
