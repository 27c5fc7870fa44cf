//! What a replica is told, and what it answers.
//!
//! The driver (a thread with sockets, or a simulation) owns connections and names them by
//! [`LinkId`]; configured addresses are named by [`PeerIndex`], in the order of
//! [`ReplicaConfig::peers`](super::ReplicaConfig), later ones by a number the driver picks.

use std::fmt;

use crate::version::Version;

/// A connection, named by the driver; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A configured peer address; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub u32);

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A connection is open and authenticated; `dialled` says for which [`Effect::Dial`], `None`
    /// that the other side dialled.
    Opened {
        /// The connection.
        link: LinkId,
        /// The address dialled.
        dialled: Option<PeerIndex>,
    },
    /// Bytes came in.
    Received {
        /// The connection.
        link: LinkId,
        /// Any piece of the stream.
        bytes: &'a [u8],
    },
    /// The connection is gone. Not told after [`Effect::Close`].
    Closed {
        /// The connection.
        link: LinkId,
    },
    /// An [`Effect::Dial`] led to no authenticated connection.
    DialFailed {
        /// The address dialled.
        peer: PeerIndex,
        /// Why, as operators see it.
        reason: Reason,
    },
    /// The mutation log has grown.
    Logged,
    /// All bytes of this connection's [`Effect::Send`]s have been written to its socket.
    Sendable {
        /// The connection.
        link: LinkId,
    },
    /// Nobody waits for anything just now: a piece of what takes long may be done.
    Leisure,
    /// Time has passed; at least every [`super::TICK`].
    Tick,
    /// A peer address is configured at run time.
    PeerAdded {
        /// A number not used before.
        peer: PeerIndex,
        /// As people know it.
        address: String,
    },
    /// A peer address is configured no longer.
    PeerRemoved {
        /// Its number.
        peer: PeerIndex,
        /// Its node is refused, should it dial us, until an address leads to it again.
        refused: bool,
    },
    /// A node that no address leads to is waited for no longer, forgotten, and refused, should it
    /// dial us, until an address leads to it.
    NodeForgotten {
        /// Its node number.
        node: u8,
    },
    /// Hand everything over: the node is to stop. Answered by `State(Drained)` in due time.
    Drain,
    /// A client asks to change an exclusive lock key. Answered by [`Effect::LockAnswer`], unless the
    /// node may not serve any more.
    LockAsked {
        /// A number not used before in this run.
        id: u64,
        /// Which key.
        key: &'a [u8],
        /// The whole request, as it came.
        request: &'a [u8],
    },
}

/// What a replica wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write these bytes to the connection.
    Send {
        /// The connection.
        link: LinkId,
        /// Whole frames.
        bytes: Vec<u8>,
    },
    /// Write what has been sent, as far as it goes without waiting, then close.
    Close {
        /// The connection.
        link: LinkId,
        /// Why, for the log.
        reason: Reason,
    },
    /// Open a connection to this address: [`Event::Opened`] or [`Event::DialFailed`] follows.
    Dial {
        /// The address.
        peer: PeerIndex,
    },
    /// How much of our own log peers have applied. Versions only grow.
    Acknowledged {
        /// At least one peer has applied everything up to here.
        one: Version,
        /// Every peer in sync has. Without any, as `one`.
        all: Version,
        /// Peers in sync now. With 0 nobody is to wait.
        in_sync: usize,
    },
    /// The node's state changed.
    State(State),
    /// What a client's request for an exclusive lock key came to.
    LockAnswer {
        /// Its number.
        id: u64,
        /// The whole answer, as the client is to have it.
        answer: Vec<u8>,
    },
    /// Something to tell the operator.
    Log(Line),
}

/// Whether the node may serve clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not yet, or not any more: it may lack what its peers hold. No client connections.
    #[default]
    Loading,
    /// It has what its peers have, or found none in time.
    Ready,
    /// It is stopping: its peers are being told the rest. No new writes.
    Draining,
    /// It may go.
    Drained,
}

/// Why a connection was closed or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The bytes are no frames of ours.
    BadFrame,
    /// A frame longer than allowed.
    Oversize,
    /// A frame before HELLO, or a second HELLO.
    OutOfPlace,
    /// A frame whose meaning must be known, and is not.
    Unintelligible,
    /// No protocol version that both speak.
    Protocol,
    /// Another cluster's name.
    Cluster,
    /// The other node has our node number.
    NodeClash,
    /// A second process with the node number of one that is connected.
    NodeTwice,
    /// We dialled ourselves.
    Myself,
    /// Its clock differs by so many whole seconds, more than allowed.
    ClockSkew(u64),
    /// It sent a version so many whole seconds in the future, more than allowed.
    ClockFarAhead(u64),
    /// No HELLO within its time.
    HelloTimeout,
    /// Nothing heard for too long.
    Silent,
    /// Another connection of the same pair stays.
    Duplicate,
    /// The other side said goodbye.
    Goodbye,
    /// The other side closed the connection, or it broke.
    Lost,
    /// We stood still for too long and begin anew.
    Stalled,
    /// The peer is configured no longer.
    Removed,
    /// The other side refused us, for the reason that has this number.
    Refused(u8),
    /// It has another policy for lock keys, or other patterns for them.
    LockPolicy,
    /// Nobody answers at its address.
    Unreachable,
    /// Its machine answers that nobody listens there: it has ended, and has forgotten everything.
    NotThere,
    /// Its name leads to no address.
    NotFound,
    /// Who answers has not proven to be a peer, or takes us for none.
    NotIntroduced,
    /// We have forgotten everything and begin anew.
    Wiped,
    /// Peers of the other side's are chosen by its operator, and we are none.
    Disowned,
    /// It requires the feature of this number, which we do not know.
    UnknownFeature(u8),
    /// It does not know the feature of this number, which we require.
    LacksFeature(u8),
    /// The connection ended in the middle of its first frame.
    CutOff,
}

impl Reason {
    /// The name that logs and `stats replication` show.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::BadFrame => "bad_frame",
            Reason::Oversize => "oversize_frame",
            Reason::OutOfPlace => "frame_out_of_place",
            Reason::Unintelligible => "unknown_frame",
            Reason::Protocol => "protocol_version",
            Reason::Cluster => "cluster_name",
            Reason::NodeClash => "node_id_is_ours",
            Reason::NodeTwice => "node_id_twice",
            Reason::Myself => "dialled_myself",
            Reason::ClockSkew(_) => "clock_skew",
            Reason::ClockFarAhead(_) => "clock_far_ahead",
            Reason::HelloTimeout => "hello_timeout",
            Reason::Silent => "silent",
            Reason::Duplicate => "duplicate_connection",
            Reason::Goodbye => "goodbye",
            Reason::Lost => "connection_lost",
            Reason::Stalled => "stalled",
            Reason::Removed => "removed",
            Reason::Refused(_) => "refused_by_peer",
            Reason::LockPolicy => "lock_policy",
            Reason::Unreachable => "unreachable",
            Reason::NotThere => "connection_refused",
            Reason::NotFound => "name_not_found",
            Reason::NotIntroduced => "not_authenticated",
            Reason::Wiped => "wiped",
            Reason::Disowned => "removed_by_peer",
            Reason::UnknownFeature(_) => "unknown_feature",
            Reason::LacksFeature(_) => "lacks_feature",
            Reason::CutOff => "first_frame_cut_off",
        }
    }

    /// All of them in the order of their numbers on the wire: a new one comes last, and none is taken
    /// out.
    const NUMBERED: [Reason; 29] = [
        Reason::BadFrame,
        Reason::Oversize,
        Reason::OutOfPlace,
        Reason::Unintelligible,
        Reason::Protocol,
        Reason::Cluster,
        Reason::NodeClash,
        Reason::NodeTwice,
        Reason::Myself,
        Reason::ClockSkew(0),
        Reason::ClockFarAhead(0),
        Reason::HelloTimeout,
        Reason::Silent,
        Reason::Duplicate,
        Reason::Goodbye,
        Reason::Lost,
        Reason::Stalled,
        Reason::Removed,
        Reason::Refused(0),
        Reason::LockPolicy,
        Reason::Unreachable,
        Reason::NotFound,
        Reason::NotIntroduced,
        Reason::Wiped,
        Reason::Disowned,
        Reason::UnknownFeature(0),
        Reason::LacksFeature(0),
        Reason::NotThere,
        Reason::CutOff,
    ];

    /// Its number on the wire.
    pub(super) fn number(self) -> u8 {
        let is_it = |other: &Reason| other.name() == self.name();
        let place = Reason::NUMBERED.iter().position(is_it);
        place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Reason {
    /// With what it is about, behind a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Reason::Refused(number) => match Reason::NUMBERED.get(usize::from(*number)) {
                Some(theirs) => write!(f, ":{}", theirs.name()),
                // A later release may have others.
                None => write!(f, ":{number}"),
            },
            Reason::UnknownFeature(number) | Reason::LacksFeature(number) => write!(f, ":{number}"),
            Reason::ClockSkew(seconds) | Reason::ClockFarAhead(seconds) => {
                write!(f, ":{seconds}_s")
            }
            _ => Ok(()),
        }
    }
}

/// How a peer that has just been linked gives us what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Its stream goes on where it stopped.
    TheRest,
    /// It compares what it holds with what we hold, and sends what we lack.
    Lacking(Amount),
}

/// What becomes of two nodes that were apart for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// Both keep what they have.
    Merged,
    /// We forget what we have.
    WeWipe,
    /// The other one forgets what it has.
    TheyWipe,
}

/// Items, and their bytes as memcached counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    /// How many items.
    pub items: u64,
    /// Their bytes, with keys and headers.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, other: Amount) {
        self.items += other.items;
        self.bytes += other.bytes;
    }
}

impl Line {
    /// The node that it is about.
    #[must_use]
    pub fn node(&self) -> Option<u8> {
        match *self {
            Line::Linked { node, .. }
            | Line::Unlinked { node, .. }
            | Line::InSync { node, .. }
            | Line::Scanned { node, .. }
            | Line::Differs { node, .. }
            | Line::Apart { node, .. }
            | Line::Skewed { node, .. } => Some(node).filter(|node| *node != 0),
            Line::Draining { .. }
            | Line::Drained { .. }
            | Line::Loading { .. }
            | Line::Loaded { .. }
            | Line::Stalled { .. }
            | Line::Wiped { .. }
            | Line::BootstrappedAlone => None,
        }
    }
}

/// A line for the log. Node 0 = not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A peer is linked: both sides have accepted each other.
    Linked {
        /// Its node number.
        node: u8,
        /// How we get what it has.
        gives: Gives,
    },
    /// A connection ended.
    Unlinked {
        /// The connection.
        link: LinkId,
        /// Its node number.
        node: u8,
        /// Why.
        reason: Reason,
    },
    /// A peer has entered (or left) the set that acknowledgements wait for.
    InSync {
        /// Its node number.
        node: u8,
        /// Entered.
        in_sync: bool,
    },
    /// We sent a peer all that it lacked.
    Scanned {
        /// Its node number.
        node: u8,
        /// Records sent.
        records: u64,
    },
    /// Two nodes in sync were found to differ and are being repaired.
    Differs {
        /// The other's node number.
        node: u8,
        /// One of them may not have been told all, or clients wrote meanwhile.
        expected: bool,
    },
    /// We are to stop, and hand everything over.
    Draining {
        /// Peers that are linked.
        peers: usize,
    },
    /// Handing over is at its end. Not said where nobody was linked.
    Drained {
        /// Everybody who was linked has everything.
        all: bool,
    },
    /// So much has come of what we lack.
    Loading {
        /// What came so far.
        got: Amount,
        /// What the peer that has most said it has.
        of: Amount,
    },
    /// We have what our peers have.
    Loaded {
        /// What came.
        got: Amount,
        /// How long it took.
        millis: u64,
    },
    /// We stood still for this many milliseconds.
    Stalled {
        /// How long.
        millis: u64,
    },
    /// A peer is back after so long that what was deleted meanwhile is not known any more.
    Apart {
        /// Its node number.
        node: u8,
        /// What follows.
        outcome: Apart,
    },
    /// We have forgotten everything.
    Wiped {
        /// How many items that were.
        items: u64,
    },
    /// Nobody was there to load from: what peers hold may be missing here.
    BootstrappedAlone,
    /// A peer's clock is off by this many milliseconds, more than warned about.
    Skewed {
        /// Its node number.
        node: u8,
        /// Theirs minus ours.
        millis: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_number_and_no_release_changes_it() {
        let numbers = Reason::NUMBERED.map(Reason::number);
        assert!(numbers.into_iter().eq(0..29));
        let known = [Reason::BadFrame, Reason::Removed, Reason::Disowned, Reason::LacksFeature(9)];
        assert_eq!(known.map(Reason::number), [0, 17, 24, 26]);
        assert_eq!(Reason::CutOff.number(), 28);
    }

    #[test]
    fn a_refusal_says_why_the_other_side_refuses_even_if_it_is_of_a_later_release() {
        let refused = |number| Reason::Refused(number).to_string();
        assert_eq!(refused(Reason::NodeTwice.number()), "refused_by_peer:node_id_twice");
        assert_eq!(refused(200), "refused_by_peer:200");
        assert_eq!(Reason::UnknownFeature(40).to_string(), "unknown_feature:40");
        assert_eq!(Reason::Lost.to_string(), "connection_lost");
    }
}
