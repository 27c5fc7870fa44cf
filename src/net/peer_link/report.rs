//! What the log says of peers.

use crate::replication::{Amount, Apart, Gives, Line, Reason, State};

/// What operators do about a connection that was closed for `reason`.
pub(super) fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::Cluster => "it belongs to another cluster (--cluster differs)",
        Reason::Protocol => "it speaks another version of the protocol",
        Reason::NodeClash => "it has our node id (--node-id must differ on every node)",
        Reason::NodeTwice => "two peers have the same node id (--node-id must differ)",
        Reason::ClockSkew(_) | Reason::ClockFarAhead(_) => {
            "its clock and ours are too far apart (--max-clock-skew; does NTP run?)"
        }
        Reason::BadFrame | Reason::Oversize | Reason::OutOfPlace | Reason::Unintelligible => {
            "what it says is not understood"
        }
        Reason::HelloTimeout => "it did not introduce itself",
        Reason::CutOff => "it ended the connection while it introduced itself",
        Reason::Silent => "nothing was heard of it any more",
        Reason::Stalled => "we stood still for too long",
        Reason::LockPolicy => {
            "--lock-policy or --lock-keys differ: they must be the same on every node"
        }
        Reason::Refused(_) => "it refused us for that reason; its log says more",
        Reason::UnknownFeature(_) => {
            "it requires the feature of that number, which this release does not know"
        }
        Reason::LacksFeature(_) => {
            "it does not know the feature of that number, which this node requires"
        }
        Reason::Disowned => "it has removed this node; peers add there takes it back",
        Reason::Wiped => "we have forgotten everything and begin anew",
        Reason::Removed => "it is configured no longer",
        Reason::Unreachable | Reason::NotThere | Reason::NotFound | Reason::NotIntroduced => {
            "no connection"
        }
        Reason::Myself | Reason::Duplicate | Reason::Goodbye | Reason::Lost => "",
    }
}

/// Whether an operator must do something about it.
pub(super) fn is_mistake(reason: Reason) -> bool {
    let is_no_refusal =
        matches!(reason, Reason::Removed | Reason::Silent | Reason::Stalled | Reason::Wiped);
    !advice(reason).is_empty() && !is_no_refusal
}

/// Says that the node's state has changed; `again`: it has been said that clients are not served.
pub(super) fn state(state: State, again: bool) {
    match state {
        State::Loading => {
            tracing::warn!("clients are not served until we have what our peers have");
        }
        State::Ready if again => tracing::warn!("clients are served again"),
        State::Ready => tracing::info!("clients are served"),
        // Said with the peers that it is about.
        State::Draining | State::Drained => {}
    }
}

/// Says whether a peer keeps up; `again`: not for the first time.
pub(super) fn in_sync(peer: &str, node: u8, in_sync: bool, again: bool) {
    match in_sync {
        true if again => tracing::warn!(%peer, node, "peer in sync again: writes wait for it"),
        true => tracing::info!(%peer, node, "peer in sync"),
        false => {
            tracing::warn!(%peer, node, "peer too slow: writes are answered without waiting for it");
        }
    }
}

/// Says what happened; `peer` is what people call the node that it is about.
pub(super) fn line(line: &Line, peer: &str) {
    match *line {
        Line::Linked { node, gives: Gives::TheRest } => {
            tracing::info!(%peer, node, "peer linked: its stream goes on where it stopped");
        }
        Line::Linked { node, gives: Gives::Lacking(Amount { items: 0, .. }) } => {
            tracing::info!(%peer, node, "peer linked: it holds nothing that we could lack");
        }
        Line::Linked { node, gives: Gives::Lacking(Amount { items, .. }) } => {
            tracing::info!(%peer, node, items, "peer linked: it sends what we lack of its items");
        }
        // Said with more than the line knows.
        Line::Unlinked { .. } | Line::InSync { .. } => {}
        Line::Scanned { node, records } => {
            tracing::info!(%peer, node, records, "peer has been sent all that it lacked");
        }
        Line::Differs { node, expected: false } => {
            tracing::warn!(%peer, node, "peer has other data: being repaired")
        }
        Line::Differs { node, expected: true } => {
            tracing::info!(%peer, node, "each node tells the other what it may lack")
        }
        Line::Draining { peers: 0 } => {
            tracing::info!("stopping: no peer is linked that could be handed anything");
        }
        Line::Draining { peers } => tracing::info!(peers, "stopping: our peers are told the rest"),
        Line::Drained { all: true } => tracing::info!("every linked peer has all that we have"),
        Line::Drained { all: false } => {
            tracing::warn!("not every peer could be told everything before we stop");
        }
        Line::Stalled { millis } => {
            tracing::warn!(millis, "we stood still for too long and ask our peers anew");
        }
        Line::Apart { node, outcome } => apart(peer, node, outcome),
        Line::Wiped { items } => tracing::warn!(items, "all items were forgotten"),
        Line::Loading { got, of } => tracing::info!(
            "loading: {} of {} items, {} of {} MB",
            got.items,
            of.items,
            megabytes(got),
            megabytes(of)
        ),
        Line::Loaded { got, millis } => {
            tracing::info!(
                millis,
                "loaded what peers have: {} items, {} MB came",
                got.items,
                megabytes(got)
            );
        }
        Line::BootstrappedAlone => tracing::warn!(
            "no peer was linked in time (--bootstrap-timeout): we serve alone, without what peers hold"
        ),
        Line::Skewed { node, millis } => {
            tracing::warn!(%peer, node, millis, "peer's clock and ours are apart; does NTP run?");
        }
    }
}

/// Rounded up.
fn megabytes(amount: Amount) -> u64 {
    amount.bytes.div_ceil(1_000_000)
}

fn apart(peer: &str, node: u8, outcome: Apart) {
    const LONG: &str = "peer was away for longer than deleted items are remembered";
    match outcome {
        Apart::Merged => tracing::warn!(
            %peer,
            node,
            "{LONG}: they may come back (--after-long-separation, --tombstone-horizon, -memory)"
        ),
        Apart::WeWipe => tracing::warn!(
            %peer,
            node,
            "{LONG}: we forget what we have and load from our peers (--after-long-separation wipe)"
        ),
        Apart::TheyWipe => tracing::info!(%peer, node, "{LONG}: it forgets what it has"),
    }
}
