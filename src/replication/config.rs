//! What a replica is built from, with defaults.

use std::time::Duration;

use super::speech::Speech;

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
    /// Forget everything when it was away for longer than its peers remember what was deleted.
    pub wipes: bool,
    /// Between two audits of a quiet pair.
    pub audit_every: Duration,
    /// Bytes of records put into one send.
    pub batch_bytes: usize,
    /// Bytes of the log read for one batch.
    pub read_bytes: usize,
    /// After a batch, what is logged gathers for this long before the next is sent: for when nobody
    /// waits for acknowledgements.
    pub gather: Duration,
    /// Batches on their way to a peer in sync; what is logged meanwhile gathers until one of them is
    /// acknowledged.
    pub under_way_max: usize,
    /// Largest item that we hold, as the store counts it (`-I`). Larger ones are refused singly.
    pub item_size_max: usize,
    /// What we can say to peers, apart from what our settings require.
    pub speech: Speech,
    /// What must be set alike on all nodes: the policy for lock keys, and which they are, as a hash.
    pub policy: u64,
    /// Where jitter comes from.
    pub seed: u64,
    /// Rules to break, so that tests can show what they are for.
    #[cfg(test)]
    pub(crate) broken: Broken,
}

/// Rules that a test breaks.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Broken {
    /// A floor goes when its origin has told us.
    pub(crate) stable_on_origins_peers_only: bool,
    /// What a peer claimed on an earlier connection still counts.
    pub(crate) evidence_survives_the_link: bool,
    /// A run is taken to begin when we hear of it.
    pub(crate) runs_unsettled: bool,
    /// A touch of what we do not have is dropped.
    pub(crate) need_ignored: bool,
    /// The stream is acknowledged although a record that was asked for has not come.
    pub(crate) ack_past_need: bool,
    /// Nobody is told of a value that was thought lost.
    pub(crate) found_untold: bool,
    /// Who tells of a value is not told that it is gone.
    pub(crate) gone_untold: bool,
    /// News that others may not have are no reason to compare.
    pub(crate) no_doubts: bool,
    /// Nobody wonders about a peer that has not heard from a third node what we have.
    pub(crate) laggards_undoubted: bool,
    /// What a peer has let go of, and was given older values of, still counts as known there, and is not
    /// compared once more.
    pub(crate) forgotten_trusted: bool,
    /// Older values than what we have let go of come back and nobody compares.
    pub(crate) returns_undoubted: bool,
    /// A scan is said to be done before the stream has told what was logged meanwhile.
    pub(crate) scan_done_early: bool,
    /// Digests are never compared.
    pub(crate) no_digest_repair: bool,
    /// A position on an earlier run's stream is taken for one on the present run's.
    pub(crate) position_without_boot: bool,
    /// A lock home executes whether or not its peers see the same nodes.
    pub(crate) locks_without_agreement: bool,
    /// A view is taken over from a peer before what it decided in the last one has come.
    pub(crate) locks_before_the_stream: bool,
    /// A lock is granted before every node has it.
    pub(crate) locks_unconfirmed: bool,
    /// A request repeated at another home is not known again there.
    pub(crate) locks_without_notes: bool,
    /// A node that begins to serve thinks that it is alone when a connection ends just then.
    pub(crate) locks_between_connections: bool,
    /// A lock is let go by a request that was asked before it was taken.
    pub(crate) locks_ended_late: bool,
    /// A home that stood still decides before it has asked what it missed.
    pub(crate) locks_half_asleep: bool,
    /// A client has a lock when the nodes of its home's view have it, though others serve.
    pub(crate) locks_of_members_alone: bool,
    /// Who joins a view is not told what homes changed that are gone.
    pub(crate) locks_untold: bool,
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
            ack_timeout: crate::settings::ACK_TIMEOUT,
            bootstrap_timeout: Some(Duration::from_secs(10)),
            max_clock_skew: Duration::from_secs(60),
            self_fence: true,
            horizon: Duration::from_secs(3600),
            wipes: false,
            audit_every: Duration::from_secs(600),
            batch_bytes: 64 << 10,
            read_bytes: 32 << 10,
            gather: Duration::ZERO,
            under_way_max: 2,
            item_size_max: crate::limits::ITEM_SIZE_MAX_DEFAULT,
            speech: Speech::OURS,
            policy: 0,
            seed: u64::from(node),
            #[cfg(test)]
            broken: Broken::default(),
        }
    }
}
