//! Two nodes meet again that were apart for too long.
//!
//! What was deleted is remembered for a bounded time only. A node that was away for longer, and whose
//! peer's log does not reach back to where it left, cannot hear any more what was deleted there: it
//! is *behind*, and its items would bring deleted ones back. Both say in HELLO what they would need
//! to know of each other, so both come to the same judgement when they have heard each other's
//! `Start`, before a single record is sent:
//!
//! - A node that is to *merge* keeps what it has. That is told and counted, and no more.
//! - A node that is to *wipe* and is behind forgets everything and begins as if it had just been
//!   started. Of two that would both, the one stays that is in company; if both are, or none, the
//!   one that a client wrote to last.
//!
//! A node that was restarted is empty, and behind nobody.

use super::config::Boot;
use super::event::{Apart, Effect, Line, LinkId, Reason, State};
use super::link::{Link, Met};
use super::ready::Loading;
use super::replica::Replica;
use super::wire::Standing;
use crate::clock::Now;
use crate::store::MutationLog;
use crate::version::Version;

impl Replica {
    /// What a peer must know of us to judge.
    pub(super) fn standing(&self, now: Now) -> Standing {
        let company = self.links.values().filter(|link| link.has_lasted(now)).count();
        Standing {
            purged_to: self.store.floor_counters().purged_to,
            forgotten: self.log().map(MutationLog::forgotten).unwrap_or_default(),
            written: self.log_last(),
            company: u8::try_from(company).unwrap_or(u8::MAX),
            wipes: self.config.wipes,
        }
    }

    /// The other side has applied so much of our stream. Whether we are to forget everything.
    pub(super) fn judge(&mut self, link: &Link, applied: Option<Version>) -> bool {
        let Some(Met { node, boot, standing: theirs, .. }) = link.met else { return false };
        let ours = link.said;
        let we = is_behind(Some(link.coming.acked), &theirs);
        let they = is_behind(applied, &ours);
        if !we && !they {
            return false;
        }
        let yields =
            (ours.company, ours.written, self.config.boot) < (theirs.company, theirs.written, boot);
        let (would_we, would_they) = (we && ours.wipes, they && theirs.wipes);
        let outcome = match (would_we, would_they) {
            (true, true) if yields => Apart::WeWipe,
            (_, true) => Apart::TheyWipe,
            (true, false) => Apart::WeWipe,
            (false, false) => Apart::Merged,
        };
        self.totals.long_separations += 1;
        self.effects.push(Effect::Log(Line::Apart { node, outcome }));
        outcome == Apart::WeWipe && matches!(self.state, State::Ready | State::Loading)
    }

    /// Forgets everything, and begins as a process does that has just been started.
    pub(super) fn wipe(&mut self, now: Now) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.close(link, Reason::Wiped, now));
        let items = self.store.wipe(now);
        self.effects.push(Effect::Log(Line::Wiped { items }));
        let halves = [self.random(u64::MAX), self.random(u64::MAX)].map(u128::from);
        self.config.boot = Boot(halves[0] << 64 | halves[1]);
        for node in std::mem::take(&mut self.nodes).into_keys() {
            self.stability.forget(node);
        }
        self.stability.forget(self.config.node);
        self.gathered = None;
        self.since = self.latest();
        self.returned = self.since;
        self.totals.wipes += 1;
        for peer in self.peers.values_mut() {
            peer.tried = false;
            peer.next_dial = now;
        }
        self.loading = Loading::new(now, self.config.bootstrap_timeout);
        self.set_state(State::Loading, now);
    }
}

/// Whether a node that has applied so much of a stream cannot hear any more what was deleted at its
/// origin.
fn is_behind(applied: Option<Version>, of: &Standing) -> bool {
    let applied = applied.filter(|version| *version > Version(0));
    applied.is_some_and(|applied| applied < of.forgotten && applied < of.purged_to)
}
