//! Standing still for a moment: too short to begin anew, but longer than peers may have waited for us.
//!
//! Picture somebody who nodded off in a meeting: before he answers a question he asks what he has
//! missed. Peers that gave us up have answered their clients without us, and what those changed lies
//! unread in our sockets, or is still to come. So clients wait until every peer has said, after we
//! woke, that we have heard everything; that takes one round trip. If a peer's connection ends
//! meanwhile, nobody can say that any more, and we begin anew.
//!
//! The time that we did not see is nobody's fault: what a peer said in it we have yet to read.
//!
//! What is NOT here: the longer kind ([`Replica::fence`]), and clients that wait ([`crate::net`]).

use std::time::Duration;

use super::event::State;
use super::link::Link;
use super::replica::Replica;
use crate::clock::Now;

/// Shorter pauses cost nobody anything as long as peers wait for acknowledgements.
const NOTICED: Duration = Duration::from_millis(200);

/// A peer that does not answer for this long may stand still itself: it is not waited for.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long a node may have stood still that answers its clients without asking its peers first.
#[must_use]
pub fn pause_noticed(ack_timeout: Duration) -> Duration {
    ack_timeout.min(NOTICED)
}

/// What follows from having stood still.
#[derive(Debug)]
pub(super) struct Pause {
    /// We were awake again, in microseconds.
    woke_us: u64,
    until: Now,
    /// Who may know more than we do.
    nodes: Vec<u8>,
}

impl Replica {
    /// Whether clients are to wait until our peers have said what we missed.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// We stood still for so long.
    pub(super) fn woke(&mut self, stood: Duration, now: Now) {
        for link in self.links.values_mut() {
            link.heard = link.heard.plus(stood).min(now);
            link.opened = link.opened.plus(stood).min(now);
            link.going
                .unacked
                .iter_mut()
                .for_each(|batch| batch.sent = batch.sent.plus(stood).min(now));
        }
        let serving = self.met_links().filter(|link| link.is_serving());
        let nodes: Vec<u8> = serving.filter_map(|link| Some(link.met?.node)).collect();
        if self.state == State::Loading || nodes.is_empty() {
            return;
        }
        self.totals.pauses += 1;
        self.pause = Some(Pause { woke_us: now.unix_micros(), until: now.plus(PAUSE_MAX), nodes });
        self.ask_all(now);
    }

    /// This node has been silent for so long that it stood still itself, and answered nobody.
    pub(super) fn ask_no_more(&mut self, node: u8) {
        if let Some(pause) = &mut self.pause {
            pause.nodes.retain(|asked| *asked != node);
        }
    }

    /// Ends the pause when every peer has been heard, or goes.
    pub(super) fn end_pause(&mut self, now: Now) {
        let Some(Pause { woke_us, until, nodes }) = &self.pause else { return };
        let is_open = |node: &&u8| self.links.values().any(|link| self.may_lead_to(link, **node));
        let is_heard = |node: &u8| self.link_of(*node).is_some_and(|link| link.is_level(*woke_us));
        if self.state == State::Loading || now >= *until || nodes.iter().all(is_heard) {
            self.pause = None;
        } else if nodes.iter().filter(is_open).count() < nodes.len() {
            self.pause = None;
            self.fence(now);
        }
    }
}

impl Link {
    /// Whether everything is here that they had when they heard what we sent at `since_us` or later.
    pub(super) fn is_level(&self, since_us: u64) -> bool {
        self.coming.level_us >= since_us
    }
}
