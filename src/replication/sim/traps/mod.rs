//! Situations in which earlier designs lost or brought back data, step by step.
//!
//! Each is a script for a few nodes, played on many networks: it must come out well on all of them
//! as the design is, and badly on at least one without the rule that it is about. What every
//! history is held against is held against these, too.
//!
//! | file | what |
//! |---|---|
//! | `values` | what becomes of a value, a touch, a delete: nodes die, stand still, are cut off for a moment |
//! | `absences` | nodes that were away for longer than deletes are remembered, and ones that were removed |
//!
//! What is NOT here: situations found by dice ([`super::plan`]).

mod absences;
mod values;

use super::ablations::Ablation;
use super::plan::{Action, NodeIndex, Op, Ttl, What};
use super::settings::{SETTINGS, Setting};
use super::verdict::play_plan;

/// Networks that a script is played on.
const NETWORKS: u64 = 100;

const K: usize = 0;

struct Script {
    setting: Setting,
    actions: Vec<Action>,
    networks: u64,
}

impl Script {
    /// A script with logs of `ring` entries.
    pub(super) fn new(ring: usize) -> Script {
        let setting = Setting { name: "trap", ring, ..SETTINGS[0] };
        Script { setting, actions: Vec::new(), networks: NETWORKS }
    }

    pub(super) fn at(mut self, at: u64, what: What) -> Script {
        self.actions.push(Action { at, what });
        self
    }

    pub(super) fn op(self, at: u64, node: NodeIndex, key: usize, op: Op) -> Script {
        self.at(at, What::Client { node, key, op })
    }

    pub(super) fn set(self, at: u64, node: NodeIndex, ttl: Ttl) -> Script {
        self.op(at, node, K, Op::Set { ttl })
    }

    pub(super) fn touch(self, at: u64, node: NodeIndex, ttl: Ttl) -> Script {
        self.op(at, node, K, Op::Touch { ttl })
    }

    /// Both directions between the two are cut for a time.
    pub(super) fn apart(self, one: NodeIndex, other: NodeIndex, from: u64, until: u64) -> Script {
        self.at(from, What::Cut { from: one, to: other })
            .at(from, What::Cut { from: other, to: one })
            .at(until, What::Heal { from: one, to: other })
            .at(until, What::Heal { from: other, to: one })
    }

    /// `node` is cut off from both others.
    pub(super) fn alone(self, node: NodeIndex, from: u64, until: u64) -> Script {
        self.apart(node, (node + 1) % 3, from, until).apart(node, (node + 2) % 3, from, until)
    }

    /// Writes of other keys, so that logs forget what is before.
    pub(super) fn chatter(mut self, at: u64, node: NodeIndex) -> Script {
        for key in 1..6 {
            self = self.op(at + key as u64, node, key, Op::Set { ttl: Ttl::Never });
        }
        self
    }

    pub(super) fn dies(self, node: NodeIndex, at: u64) -> Script {
        self.at(at, What::Kill { node, quietly: false })
    }

    pub(super) fn starts(self, node: NodeIndex, at: u64) -> Script {
        self.at(at, What::Start { node })
    }

    fn violations(&self, ablation: Ablation) -> Vec<String> {
        let mut actions = self.actions.clone();
        actions.sort_by_key(|action| action.at);
        let play = |seed, told| play_plan(&self.setting, seed, ablation, &actions, told);
        let broken = (0..self.networks).filter(|&seed| play(seed, false).violation.is_some());
        broken
            .map(|seed| format!("network {seed}:\n{}", play(seed, true).lines.join("\n")))
            .collect()
    }

    pub(super) fn ends_well(&self) {
        let violations = self.violations(Ablation::None);
        assert!(violations.is_empty(), "{} times; {}", violations.len(), violations[0]);
    }

    pub(super) fn needs_the_rule_that_is_without(&self, ablation: Ablation) {
        self.ends_well();
        let missed = self.violations(ablation).len();
        println!("    without {ablation:?}: {missed} of {} networks broke a rule", self.networks);
        assert!(missed > 0, "{ablation:?} makes no difference");
    }
}
