//! What the server knows of its peers: how much of our log they have, and how they are.
//!
//! The replication thread writes here, worker threads and `stats` read. A worker that holds back a
//! reply hangs up a bell here and is rung when peers have come further.
//!
//! What is NOT here: the waiting itself ([`crate::net`]) and what is said to peers
//! ([`crate::replication`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use getrandom::Error as NoRandomness;
use parking_lot::Mutex;

use super::{Locks, Roster};
use crate::clock::Now;
use crate::limits::STANDSTILL_MAX;
use crate::replication::{NodeStatus, pause_noticed};
use crate::settings::{Ack, AckFallback, LockPolicy, Peering};
use crate::store::{KeyPatterns, Stability};
use crate::version::Version;

/// Upper bounds in microseconds of the buckets that waits are counted in; longer ones go into one
/// more.
pub const WAIT_BUCKETS_US: [u64; 12] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000];

/// Whether a reply may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// Not yet.
    Wait,
    /// As many peers as are to have it have it.
    Yes,
    /// No peer is in sync: there is nobody to wait for.
    Alone,
}

/// Whether clients may be answered from what we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// They may.
    Now,
    /// Soon: we stood still for a moment, and hear what we have missed.
    Soon,
    /// Not before we have begun anew.
    No,
}

/// How waits ended, since the start or the last `stats reset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Replies that were held back.
    pub waited: u64,
    /// Replies to writes that were sent without any peer having acknowledged them.
    pub fallbacks: u64,
    /// Writes refused, or their answers withdrawn, for want of an acknowledgement
    /// (`--ack-fallback error`).
    pub refused: u64,
    /// Microseconds of all waits together.
    pub micros: u64,
    /// Waits by length, by [`WAIT_BUCKETS_US`].
    pub buckets: [u64; WAIT_BUCKETS_US.len() + 1],
}

/// The peers, as the rest of the server sees them.
#[derive(Debug)]
pub struct Peers {
    ack: Ack,
    fallback: AckFallback,
    /// For how long the replication thread may be silent before clients wait for it.
    lease: Duration,
    /// How far every peer has come; shared with the store.
    pub stability: Arc<Stability>,
    /// Exclusive lock keys, where there are any.
    pub locks: Option<Locks>,
    /// Who is a peer.
    pub roster: Roster,
    node: AtomicU8,
    one: AtomicU64,
    all: AtomicU64,
    in_sync: AtomicUsize,
    /// Until when, in microseconds of Unix time, clients may be answered; 0: not now.
    serving_until: AtomicU64,
    /// Until when clients may wait to be answered.
    waiting_until: AtomicU64,
    bells: Mutex<Vec<Waker>>,
    status: Mutex<Option<Arc<NodeStatus>>>,
    waited: AtomicU64,
    fallbacks: AtomicU64,
    refused: AtomicU64,
    micros: AtomicU64,
    strangers_sent_away: AtomicU64,
    /// Peers waited for in vain before the statistics were reset.
    timeouts_before: AtomicU64,
    buckets: [AtomicU64; WAIT_BUCKETS_US.len() + 1],
}

impl Peers {
    /// Nobody is there yet. We are `node` for now, if the operator has not said who we are.
    #[must_use]
    pub fn new(peering: &Peering, node: u8) -> Peers {
        let node = if peering.node == 0 { node } else { peering.node };
        Peers {
            ack: peering.ack,
            fallback: peering.ack_fallback,
            lease: pause_noticed(peering.ack_timeout),
            stability: Arc::default(),
            locks: (peering.lock_policy == LockPolicy::Exclusive)
                .then(|| Locks::new(KeyPatterns::new(&peering.lock_keys))),
            roster: Roster::new(peering),
            node: AtomicU8::new(node),
            one: AtomicU64::new(0),
            all: AtomicU64::new(0),
            in_sync: AtomicUsize::new(0),
            serving_until: AtomicU64::new(0),
            waiting_until: AtomicU64::new(0),
            bells: Mutex::default(),
            status: Mutex::default(),
            waited: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            strangers_sent_away: AtomicU64::new(0),
            timeouts_before: AtomicU64::new(0),
            buckets: Default::default(),
        }
    }

    /// Our node number.
    #[must_use]
    pub fn node(&self) -> u8 {
        self.node.load(Ordering::Relaxed)
    }

    /// We have another number from now on.
    pub fn renumber(&self, node: u8) {
        self.node.store(node, Ordering::Relaxed);
    }

    /// Whether replies to writes wait for anybody at all.
    #[must_use]
    pub fn are_awaited(&self) -> bool {
        self.ack != Ack::Async
    }

    /// Whether writes are refused because nobody is there to take a copy.
    #[must_use]
    pub fn refuse_writes(&self) -> bool {
        self.fallback == AckFallback::Error
            && self.are_awaited()
            && self.in_sync.load(Ordering::SeqCst) == 0
    }

    /// Whether an answer is withdrawn whose write nobody has acknowledged in time.
    #[must_use]
    pub fn withhold_unacknowledged(&self) -> bool {
        self.fallback == AckFallback::Error
    }

    /// Whether a reply may be sent that tells of writes up to `version`.
    #[must_use]
    pub fn acknowledged(&self, version: Version) -> Acknowledged {
        if !self.are_awaited() || self.reached() >= version {
            Acknowledged::Yes
        } else if self.in_sync.load(Ordering::SeqCst) == 0 {
            Acknowledged::Alone
        } else {
            Acknowledged::Wait
        }
    }

    /// Up to where our log has been acknowledged, as `--ack` counts it.
    #[must_use]
    pub fn reached(&self) -> Version {
        let reached = if self.ack == Ack::All { &self.all } else { &self.one };
        Version(reached.load(Ordering::SeqCst))
    }

    /// Peers in sync.
    #[must_use]
    pub fn in_sync(&self) -> usize {
        self.in_sync.load(Ordering::SeqCst)
    }

    /// Notes how far peers have come, and rings every bell.
    pub fn acknowledge(&self, one: Version, all: Version, in_sync: usize) {
        self.one.store(one.0, Ordering::SeqCst);
        self.all.store(all.0, Ordering::SeqCst);
        self.in_sync.store(in_sync, Ordering::SeqCst);
        self.ring();
    }

    /// The replication thread lives, and says so much of clients. What it says holds for a while only:
    /// a node that stood still must find out first what it has missed, and a worker may be the first
    /// of its threads to go on.
    pub fn permit(&self, serving: Serving, now: Now) {
        let until = |is_so: bool, time| if is_so { now.plus(time).unix_micros() } else { 0 };
        let serving_until = until(serving == Serving::Now, self.lease);
        let waiting_until = until(serving != Serving::No, STANDSTILL_MAX);
        self.waiting_until.store(waiting_until, Ordering::SeqCst);
        let before = self.serving_until.swap(serving_until, Ordering::SeqCst);
        if before < now.unix_micros() && serving == Serving::Now {
            self.ring();
        }
    }

    /// Whether a client may be answered.
    #[must_use]
    pub fn serving(&self, now: Now) -> Serving {
        if now.unix_micros() <= self.serving_until.load(Ordering::SeqCst) {
            Serving::Now
        } else if now.unix_micros() <= self.waiting_until.load(Ordering::SeqCst) {
            Serving::Soon
        } else {
            Serving::No
        }
    }

    fn ring(&self) {
        self.bells.lock().iter().for_each(Waker::wake_by_ref);
    }

    /// Rings `bell` at every acknowledgement from here on, and when clients may be answered again.
    pub fn hang_up(&self, bell: Waker) {
        self.bells.lock().push(bell);
    }

    /// Counts a wait that has ended.
    pub fn count_wait(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        let bucket = WAIT_BUCKETS_US.partition_point(|&bound| bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a reply that was sent without an acknowledgement.
    pub fn count_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts writes that were refused, or whose answers were withdrawn.
    pub fn count_refused(&self, writes: u64) {
        self.refused.fetch_add(writes, Ordering::Relaxed);
    }

    /// Counts a connection of nobody known that was closed for want of room.
    pub fn count_stranger_sent_away(&self) {
        self.strangers_sent_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections of nobody known that were closed for want of room.
    #[must_use]
    pub fn strangers_sent_away(&self) -> u64 {
        self.strangers_sent_away.load(Ordering::Relaxed)
    }

    /// How waits ended so far.
    #[must_use]
    pub fn waits(&self) -> Waits {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Waits {
            waited: count(&self.waited),
            fallbacks: count(&self.fallbacks),
            refused: count(&self.refused),
            micros: count(&self.micros),
            buckets: self.buckets.each_ref().map(count),
        }
    }

    /// Counts waits, and peers that were waited for in vain, from zero.
    pub fn reset_waits(&self) {
        for counter in [&self.waited, &self.fallbacks, &self.refused, &self.micros] {
            counter.store(0, Ordering::Relaxed);
        }
        self.buckets.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        let timeouts = self.status().map_or(0, |status| status.ack_timeouts);
        self.timeouts_before.store(timeouts, Ordering::Relaxed);
    }

    /// Times a peer was waited for in vain.
    #[must_use]
    pub fn ack_timeouts(&self) -> u64 {
        let all = self.status().map_or(0, |status| status.ack_timeouts);
        all.saturating_sub(self.timeouts_before.load(Ordering::Relaxed))
    }

    /// Shows how the peers are.
    pub fn show(&self, status: NodeStatus) {
        *self.status.lock() = Some(Arc::new(status));
    }

    /// How the peers were a moment ago; `None` before anything was done about them.
    #[must_use]
    pub fn status(&self) -> Option<Arc<NodeStatus>> {
        self.status.lock().clone()
    }
}

/// A node number, 1 to 254.
///
/// # Errors
/// The system has no random bytes.
pub fn random_node() -> Result<u8, NoRandomness> {
    let random = getrandom::u32()?;
    Ok(u8::try_from(1 + random % 254).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(ack: Ack) -> Peers {
        Peers::new(&Peering { ack, ..Peering::default() }, 1)
    }

    #[test]
    fn a_reply_waits_for_as_many_as_the_operator_says_while_anybody_is_there() {
        let version = Version(1000);
        let cases = [
            (Ack::Async, (0, 0, 1), Acknowledged::Yes),
            (Ack::One, (999, 0, 1), Acknowledged::Wait),
            (Ack::One, (1000, 999, 2), Acknowledged::Yes),
            (Ack::One, (999, 999, 0), Acknowledged::Alone),
            (Ack::All, (1000, 999, 2), Acknowledged::Wait),
            (Ack::All, (1000, 1000, 2), Acknowledged::Yes),
            (Ack::All, (1000, 999, 0), Acknowledged::Alone),
        ];
        for (ack, (one, all, in_sync), expected) in cases {
            let peers = peers(ack);
            peers.acknowledge(Version(one), Version(all), in_sync);
            assert_eq!(peers.acknowledged(version), expected, "{ack:?} {one} {all} {in_sync}");
        }
    }

    #[test]
    fn clients_are_answered_only_as_long_as_the_replication_thread_has_said_so_lately() {
        let peers = peers(Ack::One);
        let noon = Now::from_unix_seconds(1_800_000_000);
        let later = |millis| noon.plus(Duration::from_millis(millis));
        assert_eq!(peers.serving(noon), Serving::No);
        peers.permit(Serving::Now, noon);
        let shown = [0, 200, 201, 2_000, 2_001].map(|millis| peers.serving(later(millis)));
        assert_eq!(shown, [Serving::Now, Serving::Now, Serving::Soon, Serving::Soon, Serving::No]);
        peers.permit(Serving::Soon, noon);
        let shown = [0, 2_000, 2_001].map(|millis| peers.serving(later(millis)));
        assert_eq!(shown, [Serving::Soon, Serving::Soon, Serving::No]);
        peers.permit(Serving::No, noon);
        assert_eq!(peers.serving(noon), Serving::No);
    }

    #[test]
    fn a_wait_is_counted_where_it_belongs() {
        let peers = peers(Ack::One);
        for micros in [50, 51, 1_000_000, 1_000_001] {
            peers.count_wait(Duration::from_micros(micros));
        }
        let waits = peers.waits();
        assert_eq!((waits.waited, waits.micros), (4, 2_000_102));
        assert_eq!(waits.buckets, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn a_number_of_its_own_is_one_that_a_node_may_have() {
        for _ in 0..2_000 {
            let node = random_node().unwrap();
            assert!((1..=254).contains(&node));
        }
        let operators = Peers::new(&Peering { node: 77, ..Peering::default() }, 5);
        assert_eq!(operators.node(), 77);
    }
}
