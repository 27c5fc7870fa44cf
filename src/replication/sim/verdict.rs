//! Playing a history to its end, and what must hold then.
//!
//! All faults end; the nodes are given time to tell each other everything; then all hold the same,
//! and it is what was written last.
//!
//! What the checker excuses, and why that is right:
//!
//! - *A node that becomes ready may lack what peers have had for less than 2.2 s.* A connection survives
//!   2 s of silence: for so long its other end may be dead or cut off unnoticed, and what it said last
//!   is all that can be known of it. Whoever waited for longer would wait for dead nodes at each start.
//! - *A value past its expiry by the fastest clock may be on some nodes and not on others.* It is in no
//!   sum, so nobody compares it; who has a slower clock serves it until its own clock agrees, which
//!   is what is promised of expiry, and it can be told to nobody for whom it is over.
//! - *What was written after a key had gone has not returned,* even at a lower version: its writer's
//!   clock was set back while it was alone. Only what is gone by this node's own record is excused so;
//!   a live value that is replaced by an older one never is.
//! - *Two touches of one version may differ* until all have met, as two values may: a run with its
//!   clock set back can give both again. All end with the later expiry (a trap shows that they do).
//! - *Older values may return where floors were purged,* up to the version that was said to be, and
//!   with a node that was added again ([`super::members`]); never where nodes wipe, where instead a
//!   wiped node counts as one that was killed. A live value is never lost by either.
//! - *With room for one floor, or for a few where members change, nodes may differ until the routine
//!   comparison,* where nothing tells them to compare before: a touch lets a value expire before it is told,
//!   and is forgotten at once; its writer has nothing then, and others have the value as it was before. That
//!   such differences are few, and most are found within seconds, traps show; that all are in the end, these
//!   settings do.
//! - *Where floors have little room and a node evicts, an older value that comes back may stay where it
//!   came back to:* on a node that has let go of a floor as late as that value's end. Somebody who has not
//!   heard of the end yet gives it the value, and hears of the end right after; a third node, which knew of
//!   it all the time, has no reason to compare. Who has evicted nothing takes such a value for news, and all
//!   compare. To who has evicted, each repair brings back what it had no room for: that is no news, and
//!   would it have all compare, the next repair would bring the same, again and again. So what is excused
//!   has come to an end, whoever holds it has forgotten ends as late, and one of the two that differ has
//!   evicted: two that have not compare, by the routine at last. Traps show that it happens, and that
//!   it does not where nobody has evicted.
//!
//! That nothing comes back where nodes wipe is promised, and so checked, of any two nodes; and of three
//! of which one is cut off from both others, and meets both again before it is cut off once more. It is
//! not of a node that was given all by one of the others, had not met the other yet, and is cut off
//! again for longer than deletes are remembered: what that one wrote meanwhile it has not heard, and
//! nobody can tell from its stream. That only some nodes reach each other is made good by comparing
//! within a quarter of that time (a trap shows it), but no histories are played of it where nodes wipe.
//! Nor are any of nodes that wipe and have room for a few floors only: one that is let go of between
//! HELLO and the end of the scan may be missed, and an older value return.
//!
//! What is NOT here: what must hold all the time ([`super::audit`]).

use super::ablations::Ablation;
use super::clients::{Seen, is_live};
use super::cluster::Node;
use super::ledger::{Written, includes, joined};
use super::plan::{Action, What, plan};
use super::settings::Setting;
use super::world::{Happening, World};
use crate::clock::Now;
use crate::replication::State;
use crate::store::{Kind, Record, Store};
use crate::version::Version;

/// Milliseconds after the last fault in which all nodes must become alike for good.
const CONVERGENCE: u64 = 8_000;

/// Milliseconds within which a routine comparison comes, and repairs.
const ROUTINE: u64 = 610_000;

/// Milliseconds for which they must then stay alike.
const AFTERWARDS: u64 = 700;

/// How a history went.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) violation: Option<String>,
    pub(super) operations: u64,
    pub(super) acknowledged: usize,
    pub(super) trace_hash: u64,
    pub(super) lines: Vec<String>,
}

/// Plays the history `seed`.
pub(super) fn play(setting: &Setting, seed: u64, ablation: Ablation) -> Outcome {
    let setting = ablation.adapt(*setting);
    play_plan(&setting, seed, ablation, &plan(&setting, seed), false)
}

/// Plays `actions` on a network with the delays of `seed`.
pub(super) fn play_plan(
    setting: &Setting,
    seed: u64,
    ablation: Ablation,
    actions: &[Action],
    told: bool,
) -> Outcome {
    let mut world = World::new(setting, seed, ablation, told);
    for action in actions {
        world.at(action.at * 1_000, Happening::Planned(action.what));
    }
    let end = actions.iter().map(|action| action.at).max().unwrap_or(0);
    world.run_until(end * 1_000);
    settle(&mut world);
    outcome(world)
}

fn outcome(world: World) -> Outcome {
    Outcome {
        violation: world.violation,
        operations: world.ledger.operations,
        acknowledged: world.ledger.acknowledged.len(),
        trace_hash: world.trace.hash(),
        lines: world.trace.into_lines(),
    }
}

/// Ends all faults, and checks.
pub(super) fn settle(world: &mut World) {
    world.heal();
    let longer = if world.setting.waits_for_routine { ROUTINE } else { 0 };
    let end = world.now_us + (CONVERGENCE + longer) * 1_000;
    world.run_until(world.now_us + 500_000);
    let mut alike_since = None;
    while world.violation.is_none() {
        match world.difference() {
            Some(difference) if world.now_us >= end => world.violate(difference),
            // What was told last may unsettle what is alike, and so may a flush that was to come.
            Some(_) => alike_since = None,
            None => {
                let since = *alike_since.get_or_insert(world.now_us);
                if world.now_us >= since + AFTERWARDS * 1_000 {
                    break;
                }
            }
        }
        world.run_until(world.now_us + 200_000);
    }
    if world.violation.is_some() {
        return;
    }
    world.audit();
    world.check_acknowledged_survived();
    world.check_repairs();
}

impl World {
    /// What is not alike yet.
    fn difference(&mut self) -> Option<String> {
        self.audit();
        for (index, node) in self.nodes.iter().enumerate() {
            let state = node.life.as_ref().map(|life| life.state);
            if state != Some(State::Ready) {
                return Some(format!("R15: n{index} is {state:?}"));
            }
        }
        // Whoever meets later may still unsettle what is alike: by what it had forgotten.
        for one in 0..self.nodes.len() {
            if let Some(other) = (0..one).find(|&other| self.are_meeting(one, other)) {
                return Some(format!("R15: n{one} and n{other} have not met"));
            }
        }
        let flushes: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| Some(node.life.as_ref()?.store.flushes()))
            .collect();
        if flushes.iter().any(|other| other.watermark != flushes[0].watermark) {
            return Some(format!("R8: watermarks differ: {flushes:?}"));
        }
        (0..self.setting.keys).find_map(|key| self.key_difference(key))
    }

    fn clocks(&self) -> impl Iterator<Item = Now> {
        (0..self.nodes.len()).map(|node| self.now_of(node))
    }

    fn key_difference(&self, key: usize) -> Option<String> {
        let seen: Vec<Seen> = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(node, it)| {
                Some(Seen::on(&it.life.as_ref()?.store, key, self.now_of(node)))
            })
            .collect();
        // By the fastest clock; a second later it is so by all.
        let lives_everywhere = |record: &&Record| self.clocks().all(|now| is_live(record, now));
        let records = seen.iter().filter_map(|seen| seen.record);
        let greatest = records.reduce(|one, other| joined(&one, &other))?;
        if greatest.kind == Kind::Value && !lives_everywhere(&&greatest) {
            return None;
        }
        for (node, at) in seen.iter().enumerate() {
            let alike = match (greatest.kind, at.record) {
                (Kind::Value, Some(record)) if record.kind == Kind::Value => {
                    record == greatest && at.value == self.value_of_greatest(&seen, &greatest)
                }
                (Kind::Value, _) => {
                    let is_held = |other: &usize| {
                        seen[*other].record.is_some_and(|record| record.kind == Kind::Value)
                    };
                    self.has_evicted(node, key, greatest.version)
                        || (0..seen.len())
                            .filter(is_held)
                            .all(|holder| self.may_stay(key, &greatest, holder, node))
                }
                // A value that has expired by any clock is in no sum. Who has not heard that it is
                // gone before may have it until it has expired by its own clock.
                (_, record) => record.is_none_or(|record| {
                    let is_live = |record: &Record| {
                        record.kind == Kind::Value
                            && !record.expiry.is_past(self.fastest().seconds())
                    };
                    let lacks = |other: &usize| !seen[*other].record.as_ref().is_some_and(is_live);
                    !is_live(&record)
                        || (0..seen.len())
                            .filter(lacks)
                            .all(|other| self.may_stay(key, &record, node, other))
                }),
            };
            if !alike {
                let records: Vec<_> = seen.iter().map(|seen| seen.record).collect();
                return Some(format!("R1: k{key} differs on n{node}: {records:?}"));
            }
        }
        None
    }

    fn value_of_greatest<'s>(&self, seen: &'s [Seen], greatest: &Record) -> &'s [u8] {
        let found = seen.iter().find(|seen| seen.record.as_ref() == Some(greatest));
        found.map_or(&[], |seen| &seen.value)
    }

    /// Whether a value that has an end may stay on the holder, which has forgotten ends as late, while the
    /// other has none: one of them has evicted, so that they do not compare.
    fn may_stay(&self, key: usize, value: &Record, holder: usize, other: usize) -> bool {
        let evictions = self.setting.evictions > 0;
        let end = self.ledger.ended(key, value, evictions, self.fastest());
        let has_evicted = |node| self.store(node).is_some_and(Store::has_evicted);
        let has_forgotten = |end| self.store(holder).is_some_and(|store| store.has_forgotten(end));
        self.setting.floors < Setting::BASE.floors
            && end.is_some_and(has_forgotten)
            && (has_evicted(holder) || has_evicted(other))
    }

    fn store(&self, node: usize) -> Option<&Store> {
        self.nodes[node].life.as_ref().map(|life| &life.store)
    }

    fn has_evicted(&self, node: usize, key: usize, version: Version) -> bool {
        self.nodes[node].life.as_ref().is_some_and(|life| life.held[key].has_evicted(version))
    }

    /// R3, the plain way: with one kill at most, what one peer had acknowledged is there.
    fn check_acknowledged_survived(&mut self) {
        if self.kills > 1 {
            return;
        }
        for acknowledged in self.ledger.acknowledged.clone() {
            let Written::Record { key, record } = acknowledged.written else { continue };
            // By the fastest clock there was: one that has been set back may have let it expire before.
            if acknowledged.kills_before > 0 || !is_live(&record, self.fastest()) {
                continue;
            }
            let Record { version, touched, .. } = record;
            if self.ledger.may_have_expired(key, version, touched, self.fastest()) {
                continue;
            }
            let gone = self.ledger.ceased(key, version, false, self.fastest());
            if gone.is_some_and(|gone| self.may_be_back_after(gone)) {
                continue;
            }
            let survives = (0..self.nodes.len()).any(|node| {
                let Some(life) = &self.nodes[node].life else { return false };
                let held = life.held[key];
                held.greatest.is_some_and(|held| includes(&held, &record))
                    || held.has_evicted(version)
                    || life.store.flushes().watermark >= version
            });
            let origin = acknowledged.origin;
            if !survives && self.setting.evictions == 0 {
                self.violate(format!(
                    "R3: {record:?} of k{key}, acknowledged by n{origin}, is lost"
                ));
            }
        }
    }

    /// R24: nothing was repaired where nothing broke.
    fn check_repairs(&mut self) {
        let repairs_of = |node: &Node| {
            let now = node.clock(self.now_us);
            node.life.as_ref().map_or(0, |life| life.replica.status(now).digest_mismatch_repairs)
        };
        let repairs = self.repairs + self.nodes.iter().map(repairs_of).sum::<u64>();
        if repairs > 0 && self.setting.is_fault_free() {
            self.violate(format!("R24: {repairs} repairs, and nothing broke"));
        }
    }
}

/// The shortest list of actions found that still breaks a rule: chunks are left out while it does.
pub(super) fn shrink(setting: &Setting, seed: u64, ablation: Ablation) -> Vec<Action> {
    let mut actions = plan(setting, seed);
    let mut chunk = actions.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < actions.len() {
            let mut fewer = actions.clone();
            fewer.drain(at..(at + chunk).min(actions.len()));
            if play_plan(setting, seed, ablation, &fewer, false).violation.is_some() {
                actions = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    actions
}

/// A failure told so that it can be read and played again.
pub(super) fn tell(setting: &Setting, seed: u64, ablation: Ablation) -> String {
    let setting = &ablation.adapt(*setting);
    let actions = shrink(setting, seed, ablation);
    let outcome = play_plan(setting, seed, ablation, &actions, true);
    let clients =
        actions.iter().filter(|action| matches!(action.what, What::Client { .. })).count();
    format!(
        "SIM_SEED={seed} ({}), {ablation:?}: {}\n{} actions left, {clients} by clients:\n{}\n",
        setting.name,
        outcome.violation.unwrap_or_else(|| "no violation when played again".to_owned()),
        actions.len(),
        outcome.lines.join("\n"),
    )
}
