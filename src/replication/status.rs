//! What operators see of a replica: one value, from which statistics and metrics are both made.
//!
//! The *lag* of a peer is the age of our oldest write that it has not acknowledged: what would be lost
//! with us. The log tells it, by the clock of versions, which a peer may have put ahead, and as far as
//! it reaches. So when something was sent in vain, or logged with nobody to send it to, counts as well,
//! until the peer acknowledges anything.

use super::event::{Amount, LinkId, PeerIndex, Reason, State};
use super::link::Link;
use super::locks::LockStatus;
use super::nodes::Peer;
use super::replica::Replica;
use super::speech::Agreed;
use crate::clock::Now;
use crate::version::Version;

/// The whole node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// Whether it serves.
    pub state: State,
    /// One for every address or node known, in the order of addresses, then of nodes.
    pub peers: Vec<PeerStatus>,
    /// Peers that acknowledgements wait for.
    pub in_sync: usize,
    /// The last version logged.
    pub log_last: Version,
    /// Records that came from peers and were older than what was held.
    pub applied_superseded: u64,
    /// Records that came from peers and could not be held (too large, no room).
    pub refused: u64,
    /// Reconciliations because an audit of two nodes in sync found a difference.
    pub digest_mismatch_repairs: u64,
    /// Times a peer left the set in sync because it was slower than the ack-timeout.
    pub ack_timeouts: u64,
    /// It began to serve without having found a node to load from.
    pub bootstrapped_alone: bool,
    /// Times it stood still for too long.
    pub stalls: u64,
    /// Exclusive locks, where there are any.
    pub locks: Option<LockStatus>,
    /// Writes made here that lost to a peer's, which was made without knowledge of them.
    pub conflicts: u64,
    /// What has come since the latest loading began.
    pub loaded: Amount,
    /// What the peer that has most said then that it has.
    pub loaded_of: Amount,
    /// Peers that came back after so long that what was deleted meanwhile is not known any more.
    pub long_separations: u64,
    /// Times it forgot everything for that reason.
    pub wipes: u64,
    /// Times it stood still for a moment, and asked its peers before it answered anybody.
    pub pauses: u64,
}

/// One peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Configured address; `None` for a node that dialled us.
    pub address: Option<String>,
    /// Its node number, once it has been met.
    pub node: Option<u8>,
    /// `dialling`, `hello`, `scanning`, `streaming`, `down` or `myself`.
    pub state: &'static str,
    /// Acknowledgements wait for it.
    pub in_sync: bool,
    /// Age in milliseconds of our oldest write that it has not acknowledged; 0 without one.
    pub lag_ms: u64,
    /// Our writes that it has not acknowledged, as far as the log reaches.
    pub lag_records: u64,
    /// Bytes that those take in the log, which has keys and no values.
    pub lag_bytes: u64,
    /// Milliseconds from the latest applied position on its stream to now.
    pub behind_ms: u64,
    /// Bytes handed over for sending and not yet written.
    pub queued_bytes: u64,
    /// Records (touches included) sent.
    pub sent_records: u64,
    /// Records (touches included) received.
    pub received_records: u64,
    /// Batches sent.
    pub sent_batches: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Round trip in microseconds.
    pub rtt_us: u64,
    /// Its clock minus ours in milliseconds.
    pub clock_skew_ms: i64,
    /// Links that went on where the last one stopped.
    pub resumes: u64,
    /// Scans begun because it was new or had restarted.
    pub scans_boot: u64,
    /// Scans begun because the log no longer held what it lacked.
    pub scans_overrun: u64,
    /// Scans begun because digests differed.
    pub scans_digest: u64,
    /// Records asked for because a touch came without them.
    pub needs: u64,
    /// Links that ended.
    pub link_downs: u64,
    /// What can be said to it, while it is linked.
    pub agreed: Agreed,
    /// Why the last one ended.
    pub last_error: Option<Reason>,
}

impl Replica {
    /// The address that leads to the node, as people know it.
    #[must_use]
    pub fn address_of(&self, node: u8) -> Option<&str> {
        let mut peers = self.peers.values();
        peers.find(|peer| peer.node == Some(node)).map(|peer| &*peer.address)
    }

    /// The connection with the node.
    #[must_use]
    pub fn link_with(&self, node: u8) -> Option<LinkId> {
        self.link_of(node).map(|link| link.id)
    }

    /// What people call a configured peer.
    #[must_use]
    pub fn address(&self, peer: PeerIndex) -> Option<&str> {
        self.peers.get(&peer).map(|peer| &*peer.address)
    }

    /// The replica as operators see it.
    #[must_use]
    pub fn status(&self, now: Now) -> NodeStatus {
        let of_address = self.peers.iter().map(|(index, peer)| {
            // One that was dialled before and is not introduced may still be open beside it.
            let its = peer.node.and_then(|node| self.link_of(node));
            let dialled = || self.links.values().find(|link| link.dialled == Some(*index));
            let link = its.or_else(|| dialled().map(|link| &**link));
            self.peer_status(Some((index, peer)), peer.node, link, now)
        });
        let strangers = self
            .nodes
            .keys()
            .filter(|node| !self.has_address(**node))
            .map(|node| self.peer_status(None, Some(*node), self.link_of(*node), now));
        let in_sync = self.links.values().filter(|link| link.in_sync).count();
        let (loaded, loaded_of) = self.loaded();
        NodeStatus {
            state: self.state,
            peers: of_address.chain(strangers).collect(),
            in_sync,
            log_last: self.log_last(),
            applied_superseded: self.store.floor_counters().superseded,
            refused: self.totals.refused,
            digest_mismatch_repairs: self.totals.mismatch_repairs,
            ack_timeouts: self.totals.ack_timeouts,
            bootstrapped_alone: self.totals.bootstrapped_alone,
            stalls: self.totals.stalls,
            locks: self.locks.as_ref().map(|locks| locks.status()),
            conflicts: self.totals.conflicts,
            loaded,
            loaded_of,
            long_separations: self.totals.long_separations,
            wipes: self.totals.wipes,
            pauses: self.totals.pauses,
        }
    }

    fn peer_status(
        &self,
        address: Option<(&PeerIndex, &Peer)>,
        node: Option<u8>,
        link: Option<&Link>,
        now: Now,
    ) -> PeerStatus {
        let known = node.and_then(|node| self.nodes.get(&node));
        let mut counts = known.map(|known| known.counts).unwrap_or_default();
        counts.add(&link.map(|link| link.counts).unwrap_or_default());
        let peer = address.map(|(_, peer)| peer);
        let is_myself = peer.is_some_and(|peer| peer.myself);
        // An address's error is later than its node's: it is forgotten when they are linked.
        let is_error = |reason: &Reason| *reason != Reason::Duplicate;
        let last_error = peer.and_then(|peer| peer.last_error).filter(is_error);
        let last_error = last_error.or(counts.last_error);
        let met = link.filter(|link| link.met.is_some());
        let acked = met.map(|link| link.going.acked).max(known.map(|known| known.acked));
        let behind =
            self.log().filter(|_| !is_myself).map(|log| log.after(acked.unwrap_or_default()));
        let behind = behind.unwrap_or_default();
        let owes_since = [met.and_then(Link::owes_since), known.and_then(|known| known.owes_since)];
        let owes_since = owes_since.into_iter().flatten().map(Now::unix_millis);
        let lag_ms = behind.first.map_or(0, |first| {
            let oldest = owes_since.fold(first.unix_millis(), u64::min);
            now.unix_millis().saturating_sub(oldest)
        });
        PeerStatus {
            address: peer.map(|peer| peer.address.clone()),
            node: if is_myself { Some(self.config.node) } else { node },
            state: state_of(peer, link),
            in_sync: link.is_some_and(|link| link.in_sync),
            lag_ms,
            lag_records: behind.entries,
            lag_bytes: behind.bytes,
            behind_ms: link.map_or(0, |link| {
                now.unix_millis().saturating_sub(link.coming.acked.unix_millis())
            }),
            queued_bytes: link.map_or(0, |link| link.queued as u64),
            sent_records: counts.sent_records,
            received_records: counts.received_records,
            sent_batches: counts.sent_batches,
            sent_bytes: counts.sent_bytes,
            received_bytes: counts.received_bytes,
            rtt_us: link.map_or(0, |link| link.pulse.rtt_us),
            clock_skew_ms: link.map_or(0, |link| link.pulse.skew_us / 1_000),
            resumes: counts.resumes,
            scans_boot: counts.scans_boot,
            scans_overrun: counts.scans_overrun,
            scans_digest: counts.scans_digest,
            needs: counts.needs,
            link_downs: counts.link_downs,
            agreed: link.and_then(|link| link.met).map(|met| met.agreed).unwrap_or_default(),
            last_error: last_error.filter(|_| !is_myself),
        }
    }

    /// Notes who is to be sent what was logged while he is away.
    pub(super) fn note_debts(&mut self, now: Now) {
        let last = self.log_last();
        for node in self.nodes.values_mut().filter(|node| node.gone.is_some() && node.acked < last)
        {
            node.owes_since.get_or_insert(now);
        }
    }

    /// A peer has said where our stream is to start.
    pub(super) fn settle_debt(&mut self, link: &Link, now: Now) {
        if link.going.acked >= self.log_last() {
            self.forgive(link);
        } else if let Some(known) = link.met.and_then(|met| self.nodes.get_mut(&met.node)) {
            known.owes_since.get_or_insert(now);
        }
    }

    /// A peer has acknowledged something: what it still owes is later.
    pub(super) fn forgive(&mut self, link: &Link) {
        if let Some(known) = link.met.and_then(|met| self.nodes.get_mut(&met.node)) {
            known.owes_since = None;
        }
    }
}

fn state_of(peer: Option<&Peer>, link: Option<&Link>) -> &'static str {
    match link {
        _ if peer.is_some_and(|peer| peer.myself) => "myself",
        None if peer.is_some_and(|peer| peer.dialling) => "dialling",
        None => "down",
        Some(link) if link.met.is_none() => "hello",
        Some(link) if link.is_steady() => "streaming",
        Some(_) => "scanning",
    }
}
