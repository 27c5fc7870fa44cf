//! Whether the process works: every thread that serves clients counts its rounds, and one whose
//! count stands still is stuck.
//!
//! Nothing here reads a clock: a look is taken once in [`PACE`], and looks are counted. A process
//! that was stopped as a whole (SIGSTOP, a paused virtual machine) has missed its own looks as well,
//! and is healthy when it goes on.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often [`Health::look`] is to be called.
pub(super) const PACE: Duration = Duration::from_secs(1);

/// Looks at a count that has not moved before its thread is stuck. Threads count at least once a
/// second.
const STILL_MAX: u32 = 10;

/// A thread's count of rounds.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The thread, as `/healthz` names it.
    pub name: String,
    /// Moves at least once a second as long as the thread works.
    pub rounds: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Watched {
    heartbeat: Heartbeat,
    seen: u32,
    still: u32,
}

/// What is known of the threads.
#[derive(Debug)]
pub(super) struct Health(RefCell<Vec<Watched>>);

impl Health {
    pub(super) fn of(heartbeats: Vec<Heartbeat>) -> Health {
        let watched = heartbeats.into_iter().map(|heartbeat| {
            let seen = heartbeat.rounds.load(Ordering::Relaxed);
            Watched { heartbeat, seen, still: 0 }
        });
        Health(RefCell::new(watched.collect()))
    }

    /// Looks which counts have moved.
    pub(super) fn look(&self) {
        for watched in self.0.borrow_mut().iter_mut() {
            let now = watched.heartbeat.rounds.load(Ordering::Relaxed);
            let moved = now != std::mem::replace(&mut watched.seen, now);
            watched.still = if moved { 0 } else { watched.still.saturating_add(1) };
        }
    }

    /// What is wrong: the first thread that is stuck.
    pub(super) fn complaint(&self) -> Option<String> {
        let all = self.0.borrow();
        let stuck = all.iter().find(|watched| watched.still > STILL_MAX)?;
        let still = PACE * stuck.still;
        Some(format!("stuck: {} has not moved for {} s", stuck.heartbeat.name, still.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(name: &str) -> Heartbeat {
        Heartbeat { name: name.to_owned(), rounds: Arc::default() }
    }

    #[test]
    fn one_thread_that_stands_still_is_named_and_forgiven_when_it_moves() {
        let (main, worker) = (heartbeat("main"), heartbeat("worker-0"));
        let health = Health::of(vec![main.clone(), worker.clone()]);
        for _ in 0..STILL_MAX {
            main.rounds.fetch_add(1, Ordering::Relaxed);
            health.look();
            assert_eq!(health.complaint(), None);
        }
        health.look();
        assert_eq!(health.complaint().unwrap(), "stuck: worker-0 has not moved for 11 s");
        worker.rounds.fetch_add(1, Ordering::Relaxed);
        health.look();
        assert_eq!(health.complaint(), None);
    }

    #[test]
    fn who_is_not_looked_at_is_not_stuck() {
        let health = Health::of(vec![heartbeat("main")]);
        assert_eq!(health.complaint(), None);
        assert_eq!(Health::of(Vec::new()).complaint(), None);
    }
}
