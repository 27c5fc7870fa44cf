//! Answers that tell of changes, until peers have them: where each stands in a reply, so that it
//! can be replaced if the operator wants to hear that no peer has acknowledged it in time.
//!
//! What is NOT here: the waiting ([`crate::net`]).

use std::ops::Range;

use super::{Next, Session, Turn};
use crate::clock::Now;
use crate::protocol::Manner;
use crate::protocol::request::Request;
use crate::protocol::response::Reject;
use crate::store::{Key, MutationLog};
use crate::version::Version;

/// Answers within one reply that tell of changes.
#[derive(Debug, Default)]
pub struct Pledges(Vec<Pledge>);

#[derive(Debug)]
struct Pledge {
    at: Range<usize>,
    version: Version,
    manner: Manner,
}

impl Pledges {
    /// The answer that stands `at` these bytes tells of a change of this version.
    pub(super) fn note(&mut self, at: Range<usize>, version: Version, manner: Manner) {
        self.0.push(Pledge { at, version, manner });
    }

    /// Where the last answer ends that has been replaced, were `reply` [rewritten](Self::rewrite).
    pub(super) fn last_broken(&self, reached: Version) -> Option<usize> {
        self.broken(reached).last().map(|pledge| pledge.at.end)
    }

    /// `reply` with refusals in place of what tells of changes after `reached`, and how many.
    #[must_use]
    pub fn rewrite(&self, reply: &[u8], reached: Version) -> (Vec<u8>, u64) {
        let (mut rewritten, mut copied, mut count) = (Vec::new(), 0, 0);
        for Pledge { at, manner, .. } in self.broken(reached) {
            rewritten.extend_from_slice(&reply[copied..at.start]);
            manner.write(&Reject::NotReplicated.into(), &mut rewritten);
            copied = at.end;
            count += 1;
        }
        rewritten.extend_from_slice(&reply[copied..]);
        (rewritten, count)
    }

    fn broken(&self, reached: Version) -> impl Iterator<Item = &Pledge> {
        self.0.iter().filter(move |pledge| pledge.version > reached)
    }
}

impl Session {
    /// Executes `request` and writes its answer; returns what comes next, if that is not the
    /// next request. A change of which nothing was said is nothing to wait for, until the client
    /// asks by a no-op whether all is done.
    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
        manner: Manner,
        ahead: Option<&Key<'_>>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Option<Next> {
        if self.server.peers.is_none() || self.is_clerk {
            return self.execute(request, manner, ahead, now, out);
        }
        let (start, before) = (out.len(), MutationLog::logged_here());
        if matches!(request, Request::Noop | Request::MetaNoop) {
            MutationLog::remember_logged_here(std::mem::take(&mut self.unsaid));
        }
        let next = self.execute(request, manner, ahead, now, out);
        let logged = MutationLog::logged_here();
        if logged > before && out.len() == start {
            MutationLog::forget_logged_here(before);
            self.unsaid = logged;
        } else if logged > before
            && self.server.peers.as_ref().is_some_and(|peers| peers.withhold_unacknowledged())
        {
            self.pledges.note(start..out.len(), logged, manner);
        }
        next
    }

    /// What the answers written since this was last called tell of.
    pub fn take_pledges(&mut self) -> Pledges {
        std::mem::take(&mut self.pledges)
    }

    /// No peer has acknowledged in time what `pledges` say of `reply`, the last one: what is answered
    /// instead, and what comes after it in place of `next`.
    pub fn withdraw(&mut self, pledges: &Pledges, reply: &[u8], next: Next) -> (Vec<u8>, Next) {
        let Some(peers) = &self.server.peers else { return (reply.to_vec(), next) };
        let reached = peers.reached();
        let (instead, count) = pledges.rewrite(reply, reached);
        peers.count_refused(count);
        // The rest of an answer whose beginning is withdrawn.
        if next == Next::Resume && pledges.last_broken(reached) == Some(reply.len()) {
            self.turn = Turn::Client;
            return (instead, Next::Yield);
        }
        (instead, next)
    }
}
