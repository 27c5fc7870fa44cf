//! Answers that tell of changes, until peers have them: where each stands in a reply, so that it
//! can be replaced if the operator wants to hear that no peer has acknowledged it in time.
//!
//! What is NOT here: the waiting ([`crate::net`]), and whether there is any ([`super::Session`]).

use std::ops::Range;

use super::speech::Manner;
use crate::protocol::response::Reject;
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
