//! What operators see of a replica: one value, from which statistics and metrics are both made.

use super::event::{Reason, State};
use crate::version::Version;

/// The whole node.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Configured address; `None` for a node that dialled us.
    pub address: Option<String>,
    /// Its node number, once it has been met.
    pub node: Option<u8>,
    /// `dialling`, `hello`, `scanning`, `streaming`, `down` or `myself`.
    pub state: &'static str,
    /// Acknowledgements wait for it.
    pub in_sync: bool,
    /// Milliseconds from its latest acknowledged position to now; 0 when nothing is outstanding.
    pub lag_ms: u64,
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
    /// Why the last one ended.
    pub last_error: Option<Reason>,
}
