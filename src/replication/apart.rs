//! Two nodes meet again that were apart for too long.
//!
//! What was deleted is remembered for a bounded time only. A node that was away for longer, so that
//! its peer has let go of something later than what it has heard from there, is *behind*: its items
//! would bring deleted ones back. That the peer's log reaches back does not help: what the node tells
//! may arrive before it has heard, and the log does not tell what a third node deleted. Both say in
//! HELLO what they would need to know of each other, so both come to the same judgement when they have
//! heard each other's `Start`, before a single record is sent:
//!
//! - A node that is to *merge* keeps what it has. That is told and counted, and no more, but that what
//!   either has let go of counts as known to nobody: floors of it are kept as long as any.
//! - A node that is to *wipe* and is behind forgets everything and begins as if it had just been
//!   started. Where both are to, the one stays that is in company, even if it is the one that is
//!   behind: its company would be, too, and each would load from the others what is gone. If both
//!   are in company, or none, and both are behind, the one stays that a client wrote to last.
//!
//! A node that was restarted is empty, and behind nobody, until it has served alone for so long that
//! what was written to it may be older than something that was let go of. Who has been given only a
//! part of what there is has that, and is behind whoever has let go of anything since.

use super::audit::DOUBT;
use super::config::Boot;
use super::event::{Apart, Effect, Line, LinkId, Reason, State};
use super::link::{Link, Met};
use super::ready::Loading;
use super::replica::Replica;
use super::wire::Standing;
use crate::clock::Now;
use crate::version::Version;

impl Replica {
    /// What a peer must know of us to judge.
    pub(super) fn standing(&self, now: Now) -> Standing {
        let company = self.nodes.values().filter(|known| known.is_company(now)).count();
        let floors = self.store.floor_counters();
        // What it deleted itself the other of a pair knows. Whoever is met next may be a third.
        let unmet = self.peers.values().filter(|peer| !peer.myself && peer.node.is_none()).count();
        let is_pair = self.nodes.len() + unmet <= 1;
        let streams = self.nodes.values().filter_map(|known| known.applied.as_ref());
        let heard = streams.chain(self.parted.values()).map(|(_, version)| *version);
        // Cut off while it was given what there is, a node knows of nothing that came after.
        let given = Version(u64::from(self.is_given));
        // Who was given nothing may have been written to, which may be long ago.
        let is_written = !self.is_given && self.log_last() > self.began;
        let least = if is_written { self.began } else { given };
        Standing {
            heard: heard.max().unwrap_or_default().max(least),
            purged_to: if is_pair { floors.purged_own_to } else { floors.purged_to },
            written: self.log_last(),
            company: u8::try_from(company).unwrap_or(u8::MAX),
            wipes: self.config.wipes,
        }
    }

    /// What was said to be remembered is, until all of it has been told, and what third nodes told us
    /// has been compared.
    pub(super) fn hold_floors(&self) {
        let is_owed = |link: &Link| !link.is_steady() || link.audit.urgent;
        self.store.hold_floors(self.links.values().any(|link| is_owed(link)));
    }

    /// The other side has applied so much of our stream. Whether we are to forget everything.
    pub(super) fn judge(&mut self, link: &mut Link, applied: Option<Version>, now: Now) -> bool {
        let Some(Met { node, boot, standing: theirs, .. }) = link.met else { return false };
        let ours = link.said;
        // Of a run that a node has not met it has heard from others what that knew when it began.
        let we = is_behind(link.coming.acked, &ours, &theirs);
        let they = is_behind(applied.unwrap_or_default(), &theirs, &ours);
        if !we && !they {
            return false;
        }
        let yields =
            (ours.company, ours.written, self.config.boot) < (theirs.company, theirs.written, boot);
        // A company is not to begin anew because of one that was alone.
        let by_company = ours.wipes && theirs.wipes && ours.company != theirs.company;
        let (would_we, would_they) =
            ((we || by_company) && ours.wipes, (they || by_company) && theirs.wipes);
        let outcome = match (would_we, would_they) {
            (true, true) if yields => Apart::WeWipe,
            (_, true) => Apart::TheyWipe,
            (true, false) => Apart::WeWipe,
            (false, false) => Apart::Merged,
        };
        self.totals.long_separations += 1;
        self.effects.push(Effect::Log(Line::Apart { node, outcome }));
        // What comes back to one of us may be gone for others, who have no reason to compare.
        self.links.values_mut().for_each(|link| link.audit.doubt(now.plus(DOUBT)));
        if !broken!(self, forgotten_trusted) {
            link.audit.doubt(now.plus(DOUBT));
            if outcome == Apart::Merged {
                // Who is behind may give what is older to who has let go of that, and each tells the other.
                self.store.doubt_floors(ours.purged_to.max(theirs.purged_to));
            }
        }
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
        self.sought.clear();
        self.is_given = false;
        self.began = Version::floor_at(now).max(self.latest());
        self.parted.clear();
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

/// Whether a node that has applied so much of a stream cannot hear in time what its origin knew. One
/// that has never heard of anything is empty.
fn is_behind(applied: Version, who: &Standing, origin: &Standing) -> bool {
    let knows = if applied > Version(0) { applied } else { who.heard };
    Version(0) < knows && knows < origin.purged_to
}
