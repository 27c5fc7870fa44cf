//! Who is a peer while the node runs: what operators change, and what names stand for by now.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::names::{Change, look_up};
use super::Driver;
use crate::command::Change as Wanted;
use crate::replication::{Event, PeerIndex};

/// How often names are looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);

impl Driver {
    /// Takes in what operators have changed.
    pub(super) fn follow_roster(self: &Rc<Driver>) {
        let changes = self.peers.roster.take_changes();
        if changes.is_empty() {
            return;
        }
        let port = self.server.settings.peering.port;
        for change in changes {
            match change {
                Wanted::Added(name) => {
                    let added = self.names.borrow_mut().add(name, port);
                    self.tell_change(added);
                }
                Wanted::Removed(name) => {
                    let removed = self.names.borrow_mut().remove(&name, port);
                    for peer in removed {
                        self.say_removed(peer);
                        self.tell(Event::PeerRemoved { peer, refused: true });
                    }
                }
                Wanted::Forgotten(node) => self.tell(Event::NodeForgotten { node }),
            }
        }
        self.show();
    }

    fn tell_change(self: &Rc<Driver>, change: Change) {
        self.tell(match change {
            Change::Added(peer, address) => {
                tracing::info!("{address} is a peer");
                Event::PeerAdded { peer, address }
            }
            Change::Removed(peer) => {
                self.say_removed(peer);
                Event::PeerRemoved { peer, refused: false }
            }
        });
    }

    fn say_removed(&self, peer: PeerIndex) {
        if let Some(address) = self.replica.borrow().address(peer) {
            tracing::info!("{address} is a peer no longer");
        }
    }

    /// Finds out which addresses the name stands for that `peer` belongs to.
    pub(super) async fn look_up(self: &Rc<Driver>, peer: PeerIndex) -> Result<(), String> {
        let target = self.names.borrow().target(peer);
        let Some((host, port)) = target else { return Ok(()) };
        let found = look_up(&host, port).await.map_err(|error| format!("{host}: {error}"))?;
        let changes = self.names.borrow_mut().resolved(peer, &found);
        for change in changes {
            self.tell_change(change);
        }
        Ok(())
    }

    pub(super) async fn look_up_again(self: Rc<Driver>) {
        loop {
            sleep(LOOK_UP_EVERY).await;
            let peers = self.names.borrow().changeable();
            for peer in peers {
                if let Err(why) = self.look_up(peer).await {
                    tracing::debug!("a peer's name cannot be looked up: {why}");
                }
            }
        }
    }
}
