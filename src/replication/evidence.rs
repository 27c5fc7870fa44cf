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
//! As long as one member is missing, nothing more becomes stable; what was stable stays so.

use super::event::State;
use super::link::Link;
use super::replica::Replica;
use crate::clock::Now;

impl Replica {
    /// Tells the store what has become stable.
    pub(super) fn gather_evidence(&mut self, now: Now) {
        #[cfg(test)]
        if broken!(self, evidence_survives_the_link) {
            self.keep_claims();
        }
        let Some(members) = self.members(now) else { return };
        let links: Option<Vec<&Link>> = members.iter().map(|node| self.link_of(*node)).collect();
        let Some(links) = links.filter(|links| !links.is_empty()) else { return };
        let ours = links.iter().map(|link| link.going.acked).min().unwrap_or_default();
        if let Some((gathered_us, _)) = &self.gathered
            && !links.iter().all(|link| link.pulse.echoed_us > *gathered_us)
        {
            return;
        }
        for (node, since, upto) in self.gathered.iter().flat_map(|(_, claims)| claims) {
            self.stability.set(*node, *since, *upto);
        }
        let mut claims = Vec::new();
        // While we load, what we are given may be of an earlier run of ours.
        if self.state != State::Loading {
            claims.push((self.config.node, self.since, ours));
        }
        for origin in &links {
            let Some(met) = origin.met else { continue };
            let Some(known) = self.nodes.get(&met.node) else { continue };
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
        self.gathered = Some((now.unix_micros(), claims));
    }

    pub(super) fn link_of(&self, node: u8) -> Option<&Link> {
        self.met_links().find(|link| link.met.is_some_and(|met| met.node == node))
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
