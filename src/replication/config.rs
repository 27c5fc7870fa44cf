//! What a replica is built from, with the defaults of REPLICATION's design.

use std::time::Duration;

/// A run of a process: random, so that no two runs of any node share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub u128);

/// What a [`Replica`](super::Replica) is built from.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Our node number, 1 to 254; the store's as well.
    pub node: u8,
    /// This run of the process.
    pub boot: Boot,
    /// Nodes with another cluster name are refused.
    pub cluster: String,
    /// Addresses to dial, numbered from 0.
    pub peers: Vec<String>,
    /// A peer that takes longer to acknowledge is waited for no longer.
    pub ack_timeout: Duration,
    /// How long to look for a node with data before serving without; `None` waits for ever.
    pub bootstrap_timeout: Option<Duration>,
    /// Clocks further apart are not linked.
    pub max_clock_skew: Duration,
    /// Stop serving after having stood still, until reconciled.
    pub self_fence: bool,
    /// How long a node that dialled us is remembered after it went.
    pub horizon: Duration,
    /// Between two audits of a quiet pair.
    pub audit_every: Duration,
    /// Bytes of records put into one send.
    pub batch_bytes: usize,
    /// Largest value that is accepted, key included.
    pub item_size_max: usize,
    /// Where jitter comes from.
    pub seed: u64,
}

impl ReplicaConfig {
    /// The defaults for the node `node` in its run `boot`.
    #[must_use]
    pub fn new(node: u8, boot: Boot, cluster: &str, peers: Vec<String>) -> ReplicaConfig {
        ReplicaConfig {
            node,
            boot,
            cluster: cluster.to_owned(),
            peers,
            ack_timeout: Duration::from_millis(50),
            bootstrap_timeout: Some(Duration::from_secs(10)),
            max_clock_skew: Duration::from_secs(60),
            self_fence: true,
            horizon: Duration::from_secs(3600),
            audit_every: Duration::from_secs(600),
            batch_bytes: 64 << 10,
            item_size_max: crate::limits::ITEM_SIZE_MAX_DEFAULT,
            seed: u64::from(node),
        }
    }
}
