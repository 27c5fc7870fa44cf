//! The rules, each taken away in turn: the checker must notice.
//!
//! What is NOT here: the rules themselves. Store and core have a switch at each, in tests only.

use crate::replication::ReplicaConfig;
use crate::store::Replicated;

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ablation {
    /// Nothing: the design as it is.
    None,
    /// Nothing is remembered of what goes.
    NoFloors,
    /// Nothing is remembered of what expires or is evicted.
    NoLostFloors,
    /// A touch gives the value a new version.
    TouchWrites,
    /// Clocks take no notice of versions that arrive.
    NoObserving,
    /// Records replace newer ones.
    OldestWins,
}

impl Ablation {
    pub(super) fn apply(self, store: &mut Replicated, _core: &mut ReplicaConfig) {
        let broken = &mut store.broken;
        match self {
            Ablation::None => {}
            Ablation::NoFloors => broken.no_floors = true,
            Ablation::NoLostFloors => broken.no_lost_floors = true,
            Ablation::TouchWrites => broken.touch_writes = true,
            Ablation::NoObserving => broken.no_observing = true,
            Ablation::OldestWins => broken.oldest_wins = true,
        }
    }
}
