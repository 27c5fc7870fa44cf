//! What outlives a connection: configured addresses, and the nodes that have been met.
//!
//! An address is all that an operator gives; which node lives there is known once it has said
//! HELLO. Two addresses may turn out to be one node, one may be ourselves, and a node may dial us
//! that no address leads to. Whoever is meant to hold our data is a *member*: every node that an
//! address leads to, and for a time every node that dialled us.

use super::config::Boot;
use super::event::{LinkId, Reason};
use super::link::LASTING;
use super::replica::Replica;
use super::wire::Frame;
use crate::clock::Now;
use crate::version::Version;

/// A configured address.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: String,
    /// The node last met there.
    pub(super) node: Option<u8>,
    /// It is our own.
    pub(super) myself: bool,
    pub(super) dialling: bool,
    /// The connection we dialled.
    pub(super) open: Option<LinkId>,
    pub(super) next_dial: Now,
    pub(super) fails: u32,
    /// A first attempt to meet it has come to an end.
    pub(super) tried: bool,
    pub(super) last_error: Option<Reason>,
}

impl Peer {
    pub(super) fn new(address: String, now: Now) -> Peer {
        Peer {
            address,
            node: None,
            myself: false,
            dialling: false,
            open: None,
            next_dial: now,
            fails: 0,
            tried: false,
            last_error: None,
        }
    }
}

/// A node that has been met.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its run when we last met it.
    pub(super) boot: Boot,
    /// What is later than this and has its number is of that run, once this is settled.
    pub(super) since: Version,
    /// Everybody has met that run, and nobody knew of anything later from an earlier one.
    pub(super) is_settled: bool,
    /// How much of a run's stream we have applied without a hole. Run and position are one thing.
    pub(super) applied: Option<(Boot, Version)>,
    /// How much of our stream it had applied when its last connection ended.
    pub(super) acked: Version,
    /// Since when at the latest it has owed us the acknowledgement of something that was sent on an
    /// earlier connection, or logged while there was none.
    pub(super) owes_since: Option<Now>,
    /// When its last connection ended; `None` while there is one.
    pub(super) gone: Option<Now>,
    /// Since when it has been with us, connections that replace each other counted as one.
    pub(super) together_since: Option<Now>,
    /// Its connection ended while it was in sync: until then it is still waited for, as long as there
    /// is another that may be its next.
    pub(super) expected_until: Option<Now>,
    pub(super) counts: Counts,
}

impl Node {
    /// Whether it is with us, and not just now.
    pub(super) fn is_company(&self, now: Now) -> bool {
        let is_here = self.gone.is_none_or(|gone| now <= gone.plus(LASTING));
        is_here && self.together_since.is_some_and(|since| now > since.plus(LASTING))
    }
}

/// What is counted of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent_records: u64,
    pub(super) received_records: u64,
    pub(super) sent_batches: u64,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) resumes: u64,
    pub(super) scans_boot: u64,
    pub(super) scans_overrun: u64,
    pub(super) scans_digest: u64,
    pub(super) needs: u64,
    pub(super) link_downs: u64,
    pub(super) last_error: Option<Reason>,
}

impl Counts {
    /// Adds what was counted on a connection.
    pub(super) fn add(&mut self, other: &Counts) {
        self.sent_records += other.sent_records;
        self.received_records += other.received_records;
        self.sent_batches += other.sent_batches;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.resumes += other.resumes;
        self.scans_boot += other.scans_boot;
        self.scans_overrun += other.scans_overrun;
        self.scans_digest += other.scans_digest;
        self.needs += other.needs;
        self.link_downs += other.link_downs;
        self.last_error = other.last_error.or(self.last_error);
    }
}

impl Replica {
    /// Nodes that are meant to hold our data; `None` when there is one that we have never met.
    pub(super) fn members(&self, now: Now) -> Option<Vec<u8>> {
        let mut members = Vec::new();
        for peer in self.peers.values().filter(|peer| !peer.myself) {
            members.push(peer.node?);
        }
        let is_recent =
            |gone: Option<Now>| gone.is_none_or(|at| now < at.plus(self.config.horizon));
        members.extend(self.nodes.iter().filter(|(_, node)| is_recent(node.gone)).map(|(n, _)| *n));
        members.sort_unstable();
        members.dedup();
        Some(members)
    }

    /// Whether the node is connected and introduced.
    pub(super) fn is_linked(&self, node: u8) -> bool {
        self.links.values().any(|link| link.met.is_some_and(|met| met.node == node))
    }

    /// An address is configured, perhaps again: then whoever was removed with it may dial us.
    pub(super) fn add_peer(&mut self, peer: super::PeerIndex, address: String, now: Now) {
        self.removed.retain(|_, removed| *removed != address);
        self.peers.entry(peer).or_insert_with(|| Peer::new(address, now));
    }

    /// An address is configured no longer; so is its node, unless another address leads there.
    pub(super) fn remove_peer(&mut self, peer: super::PeerIndex, refused: bool, now: Now) {
        let Some(gone) = self.peers.remove(&peer) else { return };
        match gone.node {
            Some(node) if self.has_address(node) => {}
            Some(node) => {
                if refused {
                    self.removed.insert(node, gone.address);
                }
                self.part_with(node, now);
            }
            None => gone.open.into_iter().for_each(|link| self.disown(link, now)),
        }
    }

    /// A node that no address leads to will not come back, or shall not.
    pub(super) fn forget_node(&mut self, node: u8, now: Now) {
        if !self.has_address(node) {
            self.removed.insert(node, String::new());
            self.part_with(node, now);
        }
    }

    pub(super) fn has_address(&self, node: u8) -> bool {
        self.peers.values().any(|peer| peer.node == Some(node))
    }

    fn part_with(&mut self, node: u8, now: Now) {
        let its = self.met_links().filter(|link| link.met.is_some_and(|met| met.node == node));
        let its: Vec<LinkId> = its.map(|link| link.id).collect();
        its.into_iter().for_each(|link| self.disown(link, now));
        if let Some(applied) = self.nodes.remove(&node).and_then(|known| known.applied) {
            self.parted.insert(node, applied);
        }
        self.stability.forget(node);
        // From now on nothing is remembered for it: should it come back, it is behind.
        self.store.note_parting();
    }

    /// Ends a connection that the operator does not want, and says so.
    fn disown(&mut self, link: LinkId, now: Now) {
        if let Some(link) = self.links.get_mut(&link) {
            link.say(&Frame::Error { code: Reason::Removed.number() });
        }
        self.close(link, Reason::Removed, now);
    }
}
