//! What the world does with wires: bytes put in and taken out, dials and their answers, ends closed.
//!
//! What is NOT here: the wires themselves ([`super::network`]).

use super::network::{Arrival, Out, Wire};
use super::plan::NodeIndex;
use super::world::{Happening, World};
use crate::replication::{Event, LinkId, PeerIndex, Reason};

/// What a dial that nobody answers takes.
const DIAL_TIMEOUT_US: u64 = 1_000_000;

/// Bytes that a socket takes before it makes its owner wait.
const SOCKET: usize = 4_096;

impl World {
    pub(super) fn send(&mut self, node: NodeIndex, wire: Wire, bytes: Vec<u8>) {
        self.trace.fold(self.now_us ^ (wire as u64) << 48);
        self.trace.fold_bytes(&bytes);
        let other = self.network.other(wire, node);
        let is_known = self.nodes[other].is_running();
        let Some(due) = self.network.send(wire, node, bytes, self.now_us) else { return };
        self.at(due, Happening::Arrival { wire, node: other });
        if !self.network.is_open(wire, other) && is_known && !self.network.is_cut(node, other) {
            // Its machine knows nothing of this connection, and says so.
            if let Some(due) = self.network.refuse(wire, node, self.now_us) {
                self.at(due, Happening::Arrival { wire, node });
            }
        }
        if self.network.unsent(wire, node) <= SOCKET {
            self.later(20, Happening::Writable { wire, node });
        } else {
            let end = self.network.end(wire, node);
            self.waiting[wire][end] = true;
        }
    }

    pub(super) fn close(&mut self, node: NodeIndex, wire: Wire) {
        let other = self.network.other(wire, node);
        if let Some(due) = self.network.close(wire, node, self.now_us) {
            self.at(due, Happening::Arrival { wire, node: other });
        }
    }

    pub(super) fn arrival(&mut self, wire: Wire, node: NodeIndex) {
        if !self.nodes[node].is_running() {
            return;
        }
        let link = LinkId(wire as u64);
        match self.network.arrive(wire, node, self.now_us) {
            Arrival::Nothing => {}
            Arrival::At(due) => self.at(due, Happening::Arrival { wire, node }),
            Arrival::Now(Out::End) => self.tell(node, Event::Closed { link }),
            Arrival::Now(Out::Bytes(bytes)) => {
                self.tell(node, Event::Received { link, bytes: &bytes });
                self.later(1, Happening::Arrival { wire, node });
                self.drained(wire, self.network.other(wire, node));
            }
        }
    }

    /// The socket at `node` may have room again.
    pub(super) fn drained(&mut self, wire: Wire, node: NodeIndex) {
        let end = self.network.end(wire, node);
        if self.waiting[wire][end] && self.network.unsent(wire, node) <= SOCKET {
            self.waiting[wire][end] = false;
            self.later(20, Happening::Writable { wire, node });
        }
    }

    pub(super) fn peer_index(&self, node: NodeIndex, peer: NodeIndex) -> PeerIndex {
        let addresses = self.nodes[node].life.as_ref().map(|life| &life.addresses[..]);
        let at = addresses.unwrap_or_default().iter().rposition(|other| *other == peer);
        PeerIndex(u32::try_from(at.unwrap_or(0)).unwrap_or(0))
    }

    /// Who is meant by a number that the replica at `node` uses.
    fn addressed(&self, node: NodeIndex, peer: PeerIndex) -> Option<NodeIndex> {
        let life = self.nodes[node].life.as_ref()?;
        life.addresses.get(peer.0 as usize).copied()
    }

    pub(super) fn dial(&mut self, node: NodeIndex, peer: PeerIndex) {
        let Some(life) = self.nodes[node].life.as_ref().map(|life| life.serial) else { return };
        let delay = self.network.delay() + self.network.delay();
        let since = self.now_us;
        self.later(delay, Happening::Answer { node, life, peer, since });
    }

    pub(super) fn answer(&mut self, node: NodeIndex, life: u64, dialled: PeerIndex, since: u64) {
        if !self.is_alive(node, life) {
            return;
        }
        let no_answer = |why| Happening::NoAnswer { node, life, peer: dialled, why };
        let Some(peer) = self.addressed(node, dialled) else { return };
        let is_cut = self.network.is_cut(node, peer) || self.network.is_cut(peer, node);
        let silent = is_cut || self.nodes[peer].is_frozen || self.nodes[peer].is_dark;
        if silent || self.nodes[node].is_frozen {
            self.at((since + DIAL_TIMEOUT_US).max(self.now_us), no_answer(Reason::Unreachable));
        } else if self.nodes[peer].life.is_none() {
            self.later(0, no_answer(Reason::NotThere));
        } else {
            let wire = self.network.connect(node, peer);
            self.waiting.push([false, false]);
            let link = LinkId(wire as u64);
            self.trace.tell(self.now_us, || format!("n{node} dialled n{peer}: {wire}"));
            self.tell(peer, Event::Opened { link, dialled: None });
            if self.network.is_open(wire, node) {
                self.tell(node, Event::Opened { link, dialled: Some(dialled) });
            }
        }
    }

    /// Looks for what has arrived at `node` while nothing could.
    pub(super) fn look_at_wires(&mut self, node: NodeIndex) {
        for wire in self.network.open_at(node) {
            self.later(0, Happening::Arrival { wire, node });
        }
    }

    pub(super) fn reset(&mut self, one: NodeIndex, other: NodeIndex) {
        for wire in self.network.between(one, other) {
            for node in [one, other] {
                if self.network.is_open(wire, node)
                    && let Some(due) = self.network.refuse(wire, node, self.now_us)
                {
                    self.at(due, Happening::Arrival { wire, node });
                }
            }
        }
    }
}

pub(super) fn wire_of(link: LinkId) -> Wire {
    usize::try_from(link.0).unwrap_or(usize::MAX)
}
