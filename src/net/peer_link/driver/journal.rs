//! What is written into the log of what the replica says, and by which name peers appear there.

use super::super::report;
use super::Driver;
use crate::replication::{Line, LinkId, Reason};

impl Driver {
    pub(super) fn log(&self, line: &Line) {
        let (said, now) = (*line, self.now());
        let peer = line.node().map(|node| self.label(node)).unwrap_or_default();
        match said {
            Line::Linked { node, .. } => {
                self.changes.tell(node, "linked", true, now, move |_| report::line(&said, &peer));
            }
            Line::InSync { node, in_sync } => {
                let say = move |again| report::in_sync(&peer, node, in_sync, again);
                self.changes.tell(node, "in sync", in_sync, now, say);
            }
            Line::Unlinked { link, node, reason } => self.log_end(link, node, &peer, reason),
            _ => report::line(line, &peer),
        }
    }

    /// Says why a connection has ended, if that is worth a line.
    fn log_end(&self, link: LinkId, node: u8, peer: &str, reason: Reason) {
        let now = self.now();
        let addr = self.ended.get().filter(|(ended, _)| *ended == link).map(|(_, addr)| addr);
        let Some(addr) = addr else { return };
        let (name, advice) = (reason.to_string(), report::advice(reason));
        let node = (node != 0).then_some(node);
        if report::is_mistake(reason) {
            if self.complaints.is_new(&addr.ip().to_string(), &name, now) {
                tracing::error!(%addr, peer, node, "peer refused ({name}): {advice}");
            }
        } else if let Some(node) = node.filter(|_| reason != Reason::Duplicate) {
            let peer = peer.to_owned();
            self.changes.tell(node, "linked", false, now, move |_| {
                tracing::info!(%addr, %peer, node, "peer unlinked ({name})");
            });
        } else if reason == Reason::Removed && self.complaints.is_new(&addr.to_string(), &name, now)
        {
            tracing::info!(%addr, "a node that was removed wants to be a peer: refused");
        }
    }

    /// What people call a node: the address that leads to it, or where it dialled us from.
    fn label(&self, node: u8) -> String {
        let replica = self.replica.borrow();
        if let Some(address) = replica.address_of(node) {
            return address.to_owned();
        }
        let carriers = self.carriers.borrow();
        let carrier = replica.link_with(node).and_then(|link| carriers.get(&link));
        carrier.map_or_else(|| "unknown".to_owned(), |carrier| carrier.addr.ip().to_string())
    }
}
