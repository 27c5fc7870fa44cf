//! Operators at work: nodes that are removed while the others run, and added again, or for the first
//! time.
//!
//! What is promised, and so checked of every such history:
//!
//! - A node that was removed is no peer: nobody waits for it, and what it holds counts for nobody. A
//!   write that it alone had acknowledged lives at its writer, and there.
//! - Nothing is remembered for it. Added again with what it had, it is behind whoever removed it, as
//!   after a long separation: it is merged, which is told and may bring back what was deleted
//!   meanwhile, until the last list has it again; or it wipes, and nothing comes back. As long as one
//!   list has it and another has not, a node that is on both may die, and load from it what is deleted.
//! - Whatever it wrote while it was away is not lost when it is merged.
//! - Once all lists have all nodes, all hold the same.
//!
//! What is NOT here: when this is done ([`super::plan`]).

use std::collections::BTreeSet;

use super::cluster::address_of;
use super::plan::NodeIndex;
use super::settings::Setting;
use super::world::World;
use crate::replication::Event;
use crate::version::Version;

/// All others than `node`.
pub(super) fn others_than(node: NodeIndex, nodes: usize) -> impl Iterator<Item = NodeIndex> {
    (0..nodes).filter(move |&other| other != node)
}

/// Who stands in the list of `node` at first: who is to be added later does not.
pub(super) fn first_peers(setting: &Setting, node: NodeIndex) -> BTreeSet<NodeIndex> {
    let newest = setting.nodes - 1;
    let is_known = |other: &NodeIndex| node == newest || !setting.joins || *other != newest;
    others_than(node, setting.nodes).filter(is_known).collect()
}

impl World {
    /// `peers remove peer`, said to `node`, and its line of options changed.
    pub(super) fn remove(&mut self, node: NodeIndex, peer: NodeIndex) {
        if self.nodes[node].is_frozen || !self.nodes[node].peers.remove(&peer) {
            return;
        }
        if self.nodes[node].is_running() {
            let peer = self.peer_index(node, peer);
            self.tell(node, Event::PeerRemoved { peer, refused: true });
        }
    }

    /// `peers add peer`, said to `node`, and its line of options changed.
    pub(super) fn add(&mut self, node: NodeIndex, peer: NodeIndex) {
        if self.nodes[node].is_frozen || !self.nodes[node].peers.insert(peer) {
            return;
        }
        self.floors_went_unknown();
        if let Some(life) = self.nodes[node].running() {
            life.addresses.push(peer);
            let index = self.peer_index(node, peer);
            self.tell(node, Event::PeerAdded { peer: index, address: address_of(peer) });
        }
    }

    /// Two nodes are linked. A node that dials one that was told to remove it before they ever met, or
    /// has been restarted since, is not known again there: it is as if it had been added.
    pub(super) fn linked(&mut self, node: NodeIndex, peer: NodeIndex) {
        if !self.are_peers(node, peer) {
            self.floors_went_unknown();
        }
    }

    /// Until now floors may have gone that somebody who is a peer again does not know.
    fn floors_went_unknown(&mut self) {
        self.added_at = self.added_at.max(Version::floor_at(self.fastest()));
    }

    /// So they may while nodes run that are not on all lists.
    pub(super) fn look_at_lists(&mut self) {
        let runs = |node: &NodeIndex| self.nodes[*node].life.is_some();
        let running: Vec<NodeIndex> = (0..self.setting.nodes).filter(runs).collect();
        let is_peer_of_all = |&one: &NodeIndex| {
            running.iter().all(|&other| one == other || self.are_peers(one, other))
        };
        if !running.iter().all(is_peer_of_all) {
            self.floors_went_unknown();
        }
    }

    /// All lists have all nodes.
    pub(super) fn add_everybody(&mut self) {
        for node in 0..self.setting.nodes {
            for other in others_than(node, self.setting.nodes) {
                self.add(node, other);
            }
        }
    }

    /// Whether each stands in the other's list.
    pub(super) fn are_peers(&self, one: NodeIndex, other: NodeIndex) -> bool {
        self.nodes[one].peers.contains(&other) && self.nodes[other].peers.contains(&one)
    }
}
