//! The step function.

use std::sync::Arc;

use super::config::ReplicaConfig;
use super::event::{Effect, Event, State};
use crate::clock::Now;
use crate::store::{Stability, Store};

/// A node's side of replication: events in, effects out.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    store: Store,
    stability: Arc<Stability>,
    state: State,
}

impl Replica {
    /// A replica of `store`, which must have been built with replication and with this
    /// `stability`; it is LOADING.
    #[must_use]
    pub fn new(
        config: ReplicaConfig,
        store: Store,
        stability: Arc<Stability>,
        now: Now,
    ) -> Replica {
        let _ = now;
        Replica { config, store, stability, state: State::Loading }
    }

    /// Takes one event and appends what is to be done.
    pub fn handle(&mut self, event: Event<'_>, now: Now, effects: &mut Vec<Effect>) {
        let _ = (event, now, effects, &self.config, &self.store, &self.stability);
    }

    /// Whether the node may serve.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }
}

#[cfg(test)]
impl Replica {
    /// Temporary.
    pub fn status(&self, _now: Now) -> super::status::NodeStatus {
        super::status::NodeStatus { state: self.state, peers: vec![], in_sync: 0, log_last: crate::version::Version(0), applied_superseded: 0, refused: 0, digest_mismatch_repairs: 0, ack_timeouts: 0, bootstrapped_alone: false, stalls: 0 }
    }
}
