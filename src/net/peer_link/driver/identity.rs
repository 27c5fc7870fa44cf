//! What happens when somebody else has our node number.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::{Driver, replica};
use crate::command::random_node;
use crate::replication::{Event, State};

impl Driver {
    /// Somebody else has our node number.
    pub(super) fn settle_clash(self: &Rc<Driver>, addr: SocketAddr) {
        let is_loading = self.replica.borrow().state() == State::Loading;
        let is_ours_to_choose = self.server.settings.peering.node == 0;
        if !is_loading || *self.state.borrow() != State::Loading {
            return;
        }
        if is_ours_to_choose {
            if let Err(error) = self.begin_anew() {
                tracing::error!(%error, "no other node id could be chosen");
            }
            return;
        }
        let ours: Vec<String> =
            self.server.settings.peering.listen.iter().map(SocketAddr::to_string).collect();
        // The main thread has gone: the server stops already.
        let _ = self.refuse.send(format!(
            "--node-id was given {}, which is the id of the peer at {addr}; this node is at {}; \
             allowed: a number from 1 to 254 that no other node has, or none",
            self.peers.node(),
            ours.join(", "),
        ));
    }

    /// Takes another node number, which only a node may that has written nothing.
    fn begin_anew(self: &Rc<Driver>) -> io::Result<()> {
        let taken: Vec<u8> = {
            let status = self.replica.borrow().status(self.now());
            let known = status.peers.iter().filter_map(|peer| peer.node);
            known.chain([self.peers.node()]).collect()
        };
        let node = loop {
            let node = random_node()?;
            if !taken.contains(&node) {
                break node;
            }
        };
        tracing::info!(node, "a peer has the node id that we had chosen: we take another");
        if let Some(log) = self.server.store.mutations() {
            log.renumber(node);
        }
        self.peers.renumber(node);
        self.carriers.borrow_mut().clear();
        self.replica.replace(replica(&self.server, &self.peers)?);
        let all = self.names.borrow().all();
        for (peer, address) in all {
            self.tell(Event::PeerAdded { peer, address });
        }
        Ok(())
    }
}
