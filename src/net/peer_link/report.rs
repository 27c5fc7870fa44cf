//! What the log says of peers: each change once, and the same complaint not again and again.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::clock::{Now, UnixSeconds};
use crate::replication::{Amount, Gives, Line, Reason, State};

/// Seconds for which the same complaint is not repeated.
const REPEAT_AFTER: u32 = 30;

/// Complaints remembered.
const REMEMBERED: usize = 256;

/// Complaints made lately: about whom, what, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    made: RefCell<BTreeMap<String, (String, UnixSeconds)>>,
}

impl Complaints {
    /// Whether to say `what` about `whom`: it is new, or was said long ago.
    pub(super) fn is_new(&self, whom: &str, what: &str, now: Now) -> bool {
        let (mut made, now) = (self.made.borrow_mut(), now.seconds());
        let said = made.get(whom);
        if said.is_some_and(|(said, at)| said == what && now.since(*at) < REPEAT_AFTER) {
            return false;
        }
        if made.len() >= REMEMBERED {
            made.clear();
        }
        made.insert(whom.to_owned(), (what.to_owned(), now));
        true
    }

    /// All is well with `whom`: the next complaint is new.
    pub(super) fn forget(&self, whom: &str) {
        self.made.borrow_mut().remove(whom);
    }
}

/// What operators do about a connection that was closed for `reason`.
pub(super) fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::Cluster => "it belongs to another cluster (--cluster differs)",
        Reason::Protocol => "it speaks another version of the protocol",
        Reason::NodeClash => "it has our node id (--node-id must differ on every node)",
        Reason::NodeTwice => "two peers have the same node id (--node-id must differ)",
        Reason::ClockSkew | Reason::ClockFarAhead => {
            "its clock and ours are too far apart (--max-clock-skew; does NTP run?)"
        }
        Reason::BadFrame | Reason::Oversize | Reason::OutOfPlace | Reason::Unintelligible => {
            "what it says is not understood"
        }
        Reason::HelloTimeout => "it did not introduce itself",
        Reason::Silent => "nothing was heard of it any more",
        Reason::Stalled => "we stood still for too long",
        Reason::LockPolicy => {
            "--lock-policy or --lock-keys differ: they must be the same on every node"
        }
        Reason::Refused => "it refused us; its log says why",
        Reason::Disowned => "it has removed this node; peers add there takes it back",
        Reason::Removed => "it is configured no longer",
        Reason::Myself | Reason::Duplicate | Reason::Goodbye | Reason::Lost => "",
    }
}

/// Whether an operator must do something about it.
pub(super) fn is_mistake(reason: Reason) -> bool {
    let is_no_refusal = matches!(reason, Reason::Removed | Reason::Silent | Reason::Stalled);
    !advice(reason).is_empty() && !is_no_refusal
}

/// Says that the node's state has changed.
pub(super) fn state(state: State) {
    match state {
        State::Loading => {
            tracing::warn!("clients are not served until we have what our peers have");
        }
        State::Ready => tracing::info!("clients are served"),
        // Said with the peers that it is about.
        State::Draining | State::Drained => {}
    }
}

/// Says what happened.
pub(super) fn line(line: &Line) {
    match *line {
        Line::Linked { node, gives: Gives::TheRest } => {
            tracing::info!(node, "peer linked: its stream goes on where it stopped");
        }
        Line::Linked { node, gives: Gives::Lacking(Amount { items: 0, .. }) } => {
            tracing::info!(node, "peer linked: it holds nothing that we could lack");
        }
        Line::Linked { node, gives: Gives::Lacking(Amount { items, .. }) } => {
            tracing::info!(node, items, "peer linked: it sends what we lack of its items");
        }
        // The connection's end was said with its address.
        Line::Unlinked { .. } => {}
        Line::InSync { node, in_sync: true } => tracing::info!(node, "peer in sync"),
        Line::InSync { node, in_sync: false } => {
            tracing::warn!(node, "peer too slow: writes are answered without waiting for it");
        }
        Line::Scanned { node, records } => {
            tracing::info!(node, records, "peer has been sent all that it lacked");
        }
        Line::Differs { node } => tracing::warn!(node, "peer has other data: being repaired"),
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
        Line::BootstrappedAlone => tracing::warn!(
            "no peer was found in time (--bootstrap-timeout): we serve alone, without what peers hold"
        ),
        Line::Skewed { node, millis } => {
            tracing::warn!(node, millis, "peer's clock and ours are apart; does NTP run?");
        }
    }
}
