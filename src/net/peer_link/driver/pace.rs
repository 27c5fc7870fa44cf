//! When the replica is told of time, and of what is logged.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, timeout_at};

use super::Driver;
use crate::replication::{Event, TICK};
use crate::store::MutationLog;
use crate::version::Version;

/// Ticks after which the peers' state is shown to `stats`: some 100 ms.
const SHOWN_EVERY: u32 = 10;

/// How long what is logged gathers at least before it is sent, where nobody waits for that, and how long as
/// a rule.
pub(super) const GATHER: Duration = Duration::from_millis(1);
const GATHER_EVERY: Duration = Duration::from_millis(2);

impl Driver {
    /// Tells of time.
    pub(super) async fn keep_time(self: Rc<Driver>) {
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            self.tick();
        }
    }

    /// Tells of time now; returns when to do so next.
    fn tick(self: &Rc<Driver>) -> Instant {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        self.follow_roster();
        self.tell(Event::Tick);
        if round.is_multiple_of(SHOWN_EVERY) {
            self.show();
        }
        Instant::now() + TICK
    }

    /// Tells of mutations as they are logged.
    pub(super) async fn hear_the_log(self: Rc<Driver>) {
        let Some(log) = self.server.store.mutations() else { return };
        loop {
            let seen = log.last();
            self.tell(Event::Logged);
            self.let_others_go_first();
            yield_now().await;
            while self.replica.borrow().is_held_back() {
                self.told.notified().await;
            }
            grown(log, seen).await;
        }
    }

    /// The same where nobody waits for it: tells of the first at once and after that no more often than
    /// [`GATHER_EVERY`]. Workers need not wake us meanwhile, and what has gathered goes together. Of time we
    /// tell on the same occasions: to be woken for it costs more than to be told of it.
    pub(super) async fn gather_the_log(self: Rc<Driver>) {
        let Some(log) = self.server.store.mutations() else { return self.keep_time().await };
        let mut next_tick = Instant::now();
        loop {
            let is_gathering = || self.replica.borrow().is_gathering();
            let seen = self.gather(log, &mut next_tick, is_gathering).await;
            while timeout_at(next_tick, grown(log, seen)).await.is_err() {
                next_tick = self.tick();
            }
        }
    }

    /// Tells of what is logged, and of time when it is due, until nothing has gathered since the last time;
    /// returns what was told of last.
    pub(super) async fn gather(
        self: &Rc<Driver>,
        log: &MutationLog,
        next_tick: &mut Instant,
        is_gathering: impl Fn() -> bool,
    ) -> Version {
        // The runtime wakes itself for a timer that is earlier than all others: of two that take turns
        // neither is.
        let first = Instant::now() + GATHER;
        let (mut one, mut other) = (every_other(first), every_other(first + GATHER_EVERY));
        loop {
            let seen = log.last();
            self.tell(Event::Logged);
            self.let_others_go_first();
            tokio::select! {
                _ = one.tick() => {}
                _ = other.tick() => {}
            }
            if Instant::now() >= *next_tick {
                *next_tick = self.tick();
            }
            if !is_gathering() {
                return seen;
            }
        }
    }
}

/// Every other time that what has gathered is told of.
fn every_other(first: Instant) -> Interval {
    let mut interval = interval_at(first, 2 * GATHER_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// Waits until there is an entry after `seen`.
async fn grown(log: &MutationLog, seen: Version) {
    poll_fn(|cx| match log.wake_after(seen, cx.waker()) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}
