//! `stats replication`, and what repcached's monitors read in `stats`.

use super::{List, Server, yes_no};
use crate::clock::Now;
use crate::command::{Peers, WAIT_BUCKETS_US, Waits};
use crate::protocol::response::Stat;
use crate::replication::{LockStatus, NodeStatus, PeerStatus, State};

/// The release of repcached whose statistics these are.
const REPCACHED_VERSION: &str = "2.3.1";

/// Bytes of our log that stand for one item of repcached's queue, which has keys and no values, too.
const REPCACHED_ITEM: u64 = 128;

/// `stats replication`: the node, then each peer; nothing without peers. What is told of peers, and
/// `state` and `peers_in_sync`, is as the peer link last showed it: some 100 ms old at most.
pub(super) fn replication(server: &Server, now: Now) -> Vec<Stat> {
    let mut list = List::default();
    let Some(peers) = &server.peers else { return list.0 };
    let status = peers.status();
    node(server, peers, status.as_deref(), now, &mut list);
    waits(&peers.waits(), &mut list);
    if let Some(told) = status.as_ref().and_then(|status| status.locks) {
        locks(&told, &mut list);
    }
    let all = status.iter().flat_map(|status| status.peers.iter());
    for (number, status) in all.enumerate() {
        peer(number, status, &mut list);
    }
    list.0
}

fn node(server: &Server, peers: &Peers, status: Option<&NodeStatus>, now: Now, list: &mut List) {
    list.put("node", u64::from(peers.node()));
    list.put("cluster", server.settings.peering.cluster.clone());
    list.put("state", status.map_or("loading", |status| state(status.state)));
    list.put("peers_in_sync", status.map_or(0, |status| status.in_sync));
    list.put("peers_awaited", peers.in_sync());
    list.put("strangers_sent_away", peers.strangers_sent_away());
    if let Some(status) = status {
        list.put("bootstrapped_alone", u64::from(status.bootstrapped_alone));
        list.put("loading_items", status.loaded.items);
        list.put("loading_items_of", status.loaded_of.items);
        list.put("loading_bytes", status.loaded.bytes);
        list.put("loading_bytes_of", status.loaded_of.bytes);
        list.put("stalls", status.stalls);
        list.put("conflicts", status.conflicts);
        list.put("long_separations", status.long_separations);
        list.put("wipes", status.wipes);
        list.put("pauses", status.pauses);
        list.put("ack_timeouts", peers.ack_timeouts());
        list.put("digest_mismatch_repairs", status.digest_mismatch_repairs);
        list.put("records_refused", status.refused);
    }
    if let Some(log) = server.store.mutations() {
        let oldest =
            log.oldest().map_or(0, |oldest| now.unix_millis().saturating_sub(oldest.unix_millis()));
        list.put("log_last", log.last().0);
        list.put("log_bytes", log.bytes());
        list.put("log_oldest_ms", oldest);
    }
    let floors = server.store.floor_counters();
    list.put("tombstones", floors.deleted);
    list.put("lost_records", floors.lost);
    list.put("tombstone_bytes", floors.bytes);
    list.put("purged_unstable", floors.purged_unstable);
    list.put("records_superseded", floors.superseded);
}

fn waits(waits: &Waits, list: &mut List) {
    list.put("ack_waits", waits.waited);
    list.put("ack_wait_us", waits.micros);
    list.put("ack_fallbacks", waits.fallbacks);
    list.put("ack_refused", waits.refused);
    for (bound, count) in WAIT_BUCKETS_US.iter().zip(waits.buckets) {
        list.put(format!("ack_wait_le_{bound}us"), count);
    }
    let [.., longer] = waits.buckets;
    list.put("ack_wait_longer", longer);
}

fn locks(locks: &LockStatus, list: &mut List) {
    list.put("lock_home", u64::from(locks.home.unwrap_or(0)));
    list.put("lock_nodes", locks.nodes);
    list.put("lock_executed", locks.executed);
    list.put("lock_forwarded", locks.forwarded);
    list.put("lock_retried", locks.retried);
    list.put("lock_known_again", locks.known_again);
    list.put("lock_doubtful", locks.doubtful);
    list.put("lock_split", locks.split);
}

fn peer(number: usize, peer: &PeerStatus, list: &mut List) {
    let mut say = |name: &str, value: String| list.put(format!("peer{number}:{name}"), value);
    say("address", peer.address.clone().unwrap_or_else(|| "unknown".to_owned()));
    say("node", peer.node.unwrap_or(0).to_string());
    say("state", peer.state.to_owned());
    say("in_sync", yes_no(peer.in_sync).to_owned());
    say(
        "last_error",
        peer.last_error.map_or_else(|| "none".to_owned(), |reason| reason.to_string()),
    );
    say("clock_skew_ms", peer.clock_skew_ms.to_string());
    let mut put = |name: &str, value: u64| list.put(format!("peer{number}:{name}"), value);
    put("lag_ms", peer.lag_ms);
    put("lag_records", peer.lag_records);
    put("lag_bytes", peer.lag_bytes);
    put("behind_ms", peer.behind_ms);
    put("queued_bytes", peer.queued_bytes);
    put("sent_records", peer.sent_records);
    put("received_records", peer.received_records);
    put("sent_batches", peer.sent_batches);
    put("sent_bytes", peer.sent_bytes);
    put("received_bytes", peer.received_bytes);
    put("rtt_us", peer.rtt_us);
    put("resumes", peer.resumes);
    put("scans_boot", peer.scans_boot);
    put("scans_overrun", peer.scans_overrun);
    put("scans_digest", peer.scans_digest);
    put("needs", peer.needs);
    put("link_downs", peer.link_downs);
    put("protocol", u64::from(peer.agreed.version));
    put("features", peer.agreed.features);
}

/// The three names of repcached, with true values: `replication` is MASTER only while a peer is
/// linked, and what is free of the queue is what may still be logged before the log forgets what a peer
/// lacks, and it has to be scanned.
pub(super) fn repcached(server: &Server, list: &mut List) {
    let Some(peers) = &server.peers else { return };
    let status = peers.status();
    let all = || status.iter().flat_map(|status| status.peers.iter());
    let is_linked = all().any(|peer| matches!(peer.state, "scanning" | "streaming"));
    // Who was never met has to be scanned anyway.
    let met = all().filter(|peer| peer.node.is_some());
    let queued = met.map(|peer| peer.lag_bytes).max().unwrap_or(0);
    let room = server.settings.peering.log_bytes as u64;
    list.put("replication", if is_linked { "MASTER" } else { "none" });
    list.put("repcached_version", REPCACHED_VERSION);
    list.put("repcached_qi_free", room.saturating_sub(queued) / REPCACHED_ITEM);
}

fn state(state: State) -> &'static str {
    match state {
        State::Loading => "loading",
        State::Ready => "ready",
        State::Draining => "draining",
        State::Drained => "drained",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, value};
    use super::*;
    use crate::settings::Settings;
    use crate::version::Version;
    use std::time::Duration;

    fn with_peers() -> Server {
        let mut settings = Settings::default();
        settings.peering.enabled = true;
        let peers = Peers::new(&settings.peering, 7);
        Server::with_peers(settings, peers)
    }

    #[test]
    fn without_peers_there_is_nothing_to_tell() {
        let server = Server::new(Settings::default());
        assert!(lines(&server, "replication").is_empty());
        assert!(!lines(&server, "").iter().any(|line| line.starts_with("rep")));
    }

    #[test]
    fn a_node_tells_of_itself_before_it_has_met_anybody() {
        let server = with_peers();
        assert_eq!(value(&server, "replication", "node"), "7");
        assert_eq!(value(&server, "replication", "state"), "loading");
        assert_eq!(value(&server, "", "replication"), "none");
        assert_eq!(value(&server, "", "repcached_version"), REPCACHED_VERSION);
    }

    #[test]
    fn a_linked_peer_makes_a_master_and_has_its_own_lines() {
        let server = with_peers();
        let peers = server.peers.as_ref().unwrap();
        peers.acknowledge(Version(1), Version(1), 1);
        let peer = PeerStatus {
            address: Some("web2:11212".to_owned()),
            node: Some(9),
            state: "streaming",
            in_sync: true,
            lag_records: 3,
            ..PeerStatus::default()
        };
        peers.show(NodeStatus {
            state: State::Ready,
            peers: vec![peer],
            in_sync: 1,
            ..NodeStatus::default()
        });
        assert_eq!(value(&server, "", "replication"), "MASTER");
        assert_eq!(value(&server, "replication", "peer0:in_sync"), "yes");
        assert_eq!(value(&server, "replication", "peer0:address"), "web2:11212");
        assert_eq!(value(&server, "replication", "peer0:lag_records"), "3");
        assert_eq!(value(&server, "replication", "peers_in_sync"), "1");
        assert_eq!(value(&server, "replication", "peers_awaited"), "1");
    }

    #[test]
    fn what_is_free_of_repcacheds_queue_is_what_the_slowest_peer_that_was_met_leaves_of_the_log() {
        let server = with_peers();
        let room = server.settings.peering.log_bytes as u64;
        let lagging = |node, lag_bytes, state| PeerStatus {
            node,
            state,
            lag_bytes,
            queued_bytes: 1 << 20,
            ..PeerStatus::default()
        };
        let free = |lagging: &[PeerStatus]| {
            let shown = NodeStatus { peers: lagging.to_vec(), ..NodeStatus::default() };
            server.peers.as_ref().unwrap().show(shown);
            value(&server, "", "repcached_qi_free").parse::<u64>().unwrap()
        };
        let (quick, never_met) = (lagging(Some(2), 0, "streaming"), lagging(None, room, "down"));
        assert_eq!(free(&[quick.clone(), never_met.clone()]), room / 128);
        let away = lagging(Some(3), room / 2, "down");
        assert_eq!(free(&[quick, away, never_met]), room / 2 / 128);
        assert_eq!(free(&[lagging(Some(2), room + 1, "scanning")]), 0);
    }

    #[test]
    fn a_reset_counts_waits_from_zero() {
        let server = with_peers();
        let peers = server.peers.as_ref().unwrap();
        peers.count_wait(Duration::from_micros(70));
        peers.count_fallback();
        peers.count_refused(1);
        assert_eq!(value(&server, "replication", "ack_wait_us"), "70");
        super::super::tests::asked(&server, "reset");
        assert_eq!(peers.waits(), Waits::default());
        peers.show(NodeStatus { ack_timeouts: 5, ..NodeStatus::default() });
        assert_eq!(value(&server, "replication", "ack_timeouts"), "5");
        super::super::tests::asked(&server, "reset");
        peers.show(NodeStatus { ack_timeouts: 6, ..NodeStatus::default() });
        assert_eq!(value(&server, "replication", "ack_timeouts"), "1");
    }
}
