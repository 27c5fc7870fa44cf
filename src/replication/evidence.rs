//! What everybody has applied, from which the store concludes which floors nobody needs.
//!
//! A floor (of a deleted or lost item) may go when no node can send us anything older any more. That
//! is so when every member has said, *on its present connection*, that it has applied the stream of
//! the floor's origin, in the origin's present run, as far as that, and so have we: whatever a
//! member sent before it knew better has arrived before it said so. A claim from an earlier
//! connection counts nothing: that peer may have restarted empty and been filled with old things.
//!
//! Nor does a claim count of who may have died since, unnoticed: what a member's next run is filled
//! with may be old. So claims are gathered, and count when every member has answered a heartbeat
//! that was sent after they were.
//!
//! Which versions are of a node's present run is not told by their number alone: with a clock that
//! was set back, a run may begin at versions that the one before had given, and told one of us. So
//! a run is *settled* first: when everybody has met everybody's present run, nothing more of an
//! earlier one can arrive anywhere, and what is later than all that anybody knows then is of the
//! present one. In heartbeats a node claims of itself the latest version that it knows.
//!
//! As long as one member is missing, nothing more becomes stable; what was stable stays so.

use super::config::Boot;
use super::event::State;
use super::link::Link;
use super::replica::Replica;
use crate::clock::Now;
use crate::version::Version;

/// What everybody claimed at a moment.
#[derive(Debug)]
pub(super) struct Gathered {
    at_us: u64,
    /// Node, start of its run, and how much of that everybody has applied.
    claims: Vec<(u8, Version, Version)>,
}

impl Replica {
    /// Tells the store what has become stable.
    pub(super) fn gather_evidence(&mut self, now: Now) {
        #[cfg(test)]
        if broken!(self, evidence_survives_the_link) {
            self.keep_claims();
        }
        self.settle_runs(now);
        let Some(members) = self.members(now) else { return };
        let links: Option<Vec<&Link>> = members.iter().map(|node| self.link_of(*node)).collect();
        let Some(links) = links.filter(|links| !links.is_empty()) else { return };
        let ours = links.iter().map(|link| link.going.acked).min().unwrap_or_default();
        if let Some(Gathered { at_us, .. }) = &self.gathered
            && !links.iter().all(|link| link.pulse.echoed_us > *at_us)
        {
            return;
        }
        for (node, since, upto) in self.gathered.iter().flat_map(|gathered| &gathered.claims) {
            self.stability.set(*node, *since, *upto);
        }
        let mut claims = Vec::new();
        // While we load, what we are given may be of an earlier run of ours.
        if self.state != State::Loading && self.is_settled {
            claims.push((self.config.node, self.since, ours));
        }
        for origin in &links {
            let Some(met) = origin.met else { continue };
            let known = self.nodes.get(&met.node).filter(|known| known.is_settled);
            let Some(known) = known else { continue };
            let applied = known.applied.filter(|(boot, _)| *boot == met.boot);
            let Some((_, mut upto)) = applied else { continue };
            if !broken!(self, stable_on_origins_peers_only) {
                for witness in links.iter().filter(|link| link.id != origin.id) {
                    let claim = witness.claims.get(&met.node);
                    let claim = claim.filter(|(boot, _)| *boot == met.boot);
                    upto = upto.min(claim.map(|(_, version)| *version).unwrap_or_default());
                }
            }
            if upto > known.since {
                claims.push((met.node, known.since, upto));
            }
        }
        self.gathered = Some(Gathered { at_us: now.unix_micros(), claims });
    }

    /// Settles the beginnings of runs that everybody has met.
    fn settle_runs(&mut self, now: Now) {
        let is_settled = self.is_settled && self.nodes.values().all(|known| known.is_settled);
        if is_settled {
            return;
        }
        let Some(latest) = self.latest_of_all(now) else { return };
        if !self.is_settled {
            (self.is_settled, self.since) = (true, self.since.max(latest));
        }
        let linked: Vec<u8> =
            self.met_links().filter_map(|link| link.met.map(|met| met.node)).collect();
        for node in linked {
            if let Some(known) = self.nodes.get_mut(&node).filter(|known| !known.is_settled) {
                (known.is_settled, known.since) = (true, known.since.max(latest));
            }
        }
    }

    /// The latest version that any member knows; `None` before everybody has met everybody.
    fn latest_of_all(&self, now: Now) -> Option<Version> {
        let members = self.members(now)?;
        let links: Vec<&Link> =
            members.iter().map(|node| self.link_of(*node)).collect::<Option<_>>()?;
        let mut runs: Vec<(u8, Boot)> =
            links.iter().filter_map(|link| link.met.map(|met| (met.node, met.boot))).collect();
        runs.push((self.config.node, self.config.boot));
        let mut latest = self.latest();
        if broken!(self, runs_unsettled) {
            return Some(Version(0));
        }
        for link in links {
            for (node, boot) in &runs {
                let claim = link.claims.get(node).filter(|(claimed, _)| claimed == boot);
                let (_, version) = claim?;
                if link.met.is_some_and(|met| met.node == *node) {
                    latest = latest.max(*version);
                }
            }
        }
        Some(latest)
    }

    pub(super) fn link_of(&self, node: u8) -> Option<&Link> {
        self.met_links().find(|link| link.met.is_some_and(|met| met.node == node))
    }

    /// Whether the node and we have accepted each other, once what was apart has been judged.
    #[cfg(test)]
    pub(super) fn is_mutual_with(&self, node: u8) -> bool {
        self.link_of(node).is_some_and(|link| link.is_mutual)
    }

    /// The rule broken: claims of earlier connections come back.
    #[cfg(test)]
    fn keep_claims(&mut self) {
        for link in self.links.values_mut() {
            let Some(met) = link.met else { continue };
            let kept = self.kept_claims.entry(met.node).or_default();
            for (node, claim) in &link.claims {
                kept.insert(*node, *claim);
            }
            link.claims.clone_from(kept);
        }
    }
}
