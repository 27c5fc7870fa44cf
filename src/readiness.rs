//! Whether clients should come to this node: one shared word, set by whoever starts, loads or stops
//! the server, read by the admin port and by the statistics.
//!
//! A balancer asks for this; whether the process works at all is another question, which the admin
//! port answers from the threads' heartbeats.

use std::sync::atomic::{AtomicU8, Ordering};

/// What the node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The listeners are not open yet.
    Starting = 0,
    /// It lacks items that its peers have.
    Loading = 1,
    /// It serves.
    Ready = 2,
    /// It stops. Nothing comes after this.
    Draining = 3,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Starting, Phase::Loading, Phase::Ready, Phase::Draining];

    /// Why clients should not come; `None` when they should.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Phase::Starting => Some("starting: the listeners are not open yet"),
            Phase::Loading => Some("loading: peers have items that this node lacks"),
            Phase::Ready => None,
            Phase::Draining => Some("draining: the server stops"),
        }
    }
}

/// The phase that all threads see.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Moves to `phase`, unless the server is draining already.
    pub fn set(&self, phase: Phase) {
        let unless_draining = |now| (now != Phase::Draining as u8).then_some(phase as u8);
        // An Err is the draining that stays.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, unless_draining);
    }

    /// Where the server is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let number = usize::from(self.0.load(Ordering::Acquire));
        Phase::ALL.get(number).copied().unwrap_or(Phase::Draining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_load_again_but_never_comes_back_from_draining() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        let way = [Phase::Loading, Phase::Ready, Phase::Loading, Phase::Ready, Phase::Draining];
        for phase in way {
            readiness.set(phase);
            assert_eq!(readiness.phase(), phase);
        }
        for phase in Phase::ALL {
            readiness.set(phase);
            assert_eq!(readiness.phase(), Phase::Draining);
        }
    }

    #[test]
    fn only_a_ready_node_has_no_reason_to_stay_away() {
        let reasons = Phase::ALL.map(Phase::reason);
        assert_eq!(reasons.map(|reason| reason.is_none()), [false, false, true, false]);
        assert!(reasons.iter().flatten().all(|reason| !reason.contains('\n')));
    }
}
