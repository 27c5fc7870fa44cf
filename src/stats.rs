//! Counters: one [`WorkerCounters`] a worker thread, added up when somebody asks.
//!
//! A counter has one writer, so counting is a load and a store without a locked instruction.
//! `stats reset` cannot write another thread's counters: [`Totals`] remembers what had been
//! counted then and subtracts it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::item::CLASSES_MAX;

/// A counter with one writing thread and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// What has been counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something for each size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByClass<T>([T; CLASSES_MAX + 1]);

impl<T: Default> Default for ByClass<T> {
    fn default() -> ByClass<T> {
        ByClass(std::array::from_fn(|_| T::default()))
    }
}

impl<T> ByClass<T> {
    /// That of a class, by its number: at most [`CLASSES_MAX`].
    #[must_use]
    pub fn of(&self, class: u8) -> &T {
        &self.0[usize::from(class)]
    }

    /// All, by the classes' numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one worker thread counted; field names are upstream's stats names.
        #[derive(Debug, Default)]
        pub struct WorkerCounters {
            $($(#[$doc])* pub $name: Counter,)*
            /// Items that were read, as `get_hits`: here and not where they lie, which is memory of all threads.
            pub class_hits: ByClass<Counter>,
        }

        /// The sum over all worker threads since the start or the last reset.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
            /// `get_hits` by size class.
            pub class_hits: ByClass<u64>,
        }

        impl Counts {
            /// Every count under its name, in the order of the fields. Down to `auth_errors` that
            /// is the order of upstream's `stats`.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            fn add(&mut self, worker: &WorkerCounters) {
                $(self.$name = self.$name.wrapping_add(worker.$name.count());)*
                for (sum, hits) in self.class_hits.0.iter_mut().zip(worker.class_hits.iter()) {
                    *sum = sum.wrapping_add(hits.count());
                }
            }

            fn minus(self, earlier: &Counts) -> Counts {
                let mut class_hits = self.class_hits;
                for (hits, earlier) in class_hits.0.iter_mut().zip(earlier.class_hits.iter()) {
                    *hits = hits.wrapping_sub(*earlier);
                }
                Counts { $($name: self.$name.wrapping_sub(earlier.$name),)* class_hits }
            }
        }
    };
}

counters! {
    /// Keys asked for by get and gets (and mg without T).
    cmd_get,
    /// Storage commands.
    cmd_set,
    /// `flush_all`, refused ones included.
    cmd_flush,
    /// touch, gat, and mg with T.
    cmd_touch,
    /// Meta commands.
    cmd_meta,
    /// Keys found.
    get_hits,
    /// Keys not found.
    get_misses,
    /// Misses because the item had expired.
    get_expired,
    /// Misses because the item had been flushed.
    get_flushed,
    /// delete without an item.
    delete_misses,
    /// delete of an item.
    delete_hits,
    /// incr without an item.
    incr_misses,
    /// incr of an item.
    incr_hits,
    /// decr without an item.
    decr_misses,
    /// decr of an item.
    decr_hits,
    /// cas without an item.
    cas_misses,
    /// cas with the item's unique.
    cas_hits,
    /// cas with another unique.
    cas_badval,
    /// touch or gat of an item.
    touch_hits,
    /// touch or gat without an item.
    touch_misses,
    /// Values refused for their size.
    store_too_large,
    /// Values refused for want of memory.
    store_no_memory,
    /// Authentication attempts.
    auth_cmds,
    /// Authentication attempts that failed.
    auth_errors,
    /// Connections closed by `idle_timeout`.
    idle_kicks,
    /// Bytes received.
    bytes_read,
    /// Bytes sent.
    bytes_written,
    /// Times `-R` made a connection yield.
    conn_yields,
    /// Connections accepted.
    total_connections,
    /// Connections refused over `-c`.
    rejected_connections,
    /// TLS handshakes that failed.
    ssl_handshake_errors,
    /// TLS handshakes that resumed no earlier session.
    ssl_new_sessions,
    /// TLS connections broken off by bytes that are no TLS.
    ssl_proto_errors,
    /// Datagrams received.
    udp_datagrams,
    /// Datagrams that held no request, or half a one.
    udp_dropped,
    /// Answers that were too long for the source that UDP had to send them to.
    udp_replies_refused,
    /// Datagrams over `--udp-rate`, which were not heard.
    udp_rate_limited,
    /// Reads and writes of clients' sockets that were made with others in one system call.
    batched_transfers,
    /// Rounds before which a worker near its limit rested for a moment, in which more clients could come.
    moderated_rounds,
    /// Requests that panicked: a bug of ours; the connection was closed.
    panics,
    /// Microseconds of all turns that were timed: one in some.
    turn_us,
    /// Turns that took at most 10 us and longer than the bound before.
    turn_le_10us,
    /// Turns that took at most 20 us and longer than the bound before.
    turn_le_20us,
    /// Turns that took at most 50 us and longer than the bound before.
    turn_le_50us,
    /// Turns that took at most 100 us and longer than the bound before.
    turn_le_100us,
    /// Turns that took at most 200 us and longer than the bound before.
    turn_le_200us,
    /// Turns that took at most 500 us and longer than the bound before.
    turn_le_500us,
    /// Turns that took at most 1 ms and longer than the bound before.
    turn_le_1000us,
    /// Turns that took at most 10 ms and longer than the bound before.
    turn_le_10000us,
    /// Turns that took at most 100 ms and longer than the bound before.
    turn_le_100000us,
    /// Turns that took at most a second and longer than the bound before.
    turn_le_1000000us,
    /// Turns that took longer than all of these.
    turn_longer,
}

impl WorkerCounters {
    /// A turn was timed.
    pub fn count_turn(&self, micros: u64) {
        self.turn_us.add(micros);
        let within = match micros {
            ..=10 => &self.turn_le_10us,
            11..=20 => &self.turn_le_20us,
            21..=50 => &self.turn_le_50us,
            51..=100 => &self.turn_le_100us,
            101..=200 => &self.turn_le_200us,
            201..=500 => &self.turn_le_500us,
            501..=1_000 => &self.turn_le_1000us,
            1_001..=10_000 => &self.turn_le_10000us,
            10_001..=100_000 => &self.turn_le_100000us,
            100_001..=1_000_000 => &self.turn_le_1000000us,
            _ => &self.turn_longer,
        };
        within.bump();
    }
}

/// All workers' counters and what they were at the last reset.
#[derive(Debug, Default)]
pub struct Totals {
    workers: Mutex<Vec<std::sync::Arc<WorkerCounters>>>,
    at_reset: Mutex<Counts>,
}

impl Totals {
    /// A new worker's counters.
    #[must_use]
    pub fn register(&self) -> std::sync::Arc<WorkerCounters> {
        let counters = std::sync::Arc::new(WorkerCounters::default());
        self.workers.lock().push(std::sync::Arc::clone(&counters));
        counters
    }

    fn absolute(&self) -> Counts {
        let mut sum = Counts::default();
        for worker in self.workers.lock().iter() {
            sum.add(worker);
        }
        sum
    }

    /// The sums since the last reset.
    #[must_use]
    pub fn counts(&self) -> Counts {
        // First of all: else another reset could come behind the sums.
        let at_reset = self.at_reset.lock();
        self.absolute().minus(&at_reset)
    }

    /// Starts counting from zero.
    pub fn reset(&self) {
        let mut at_reset = self.at_reset.lock();
        *at_reset = self.absolute();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn a_reset_starts_from_zero_and_loses_no_later_count() {
        let totals = Totals::default();
        let (one, other) = (totals.register(), totals.register());
        one.cmd_get.add(3);
        one.class_hits.of(1).add(3);
        other.class_hits.of(1).bump();
        other.cmd_get.bump();
        assert_eq!(totals.counts().cmd_get, 4);
        assert_eq!(totals.counts().class_hits.of(1), &4);
        totals.reset();
        assert_eq!(totals.counts(), Counts::default());
        other.cmd_get.bump();
        assert_eq!(totals.counts().cmd_get, 1);
    }

    #[test]
    fn counts_that_are_read_while_they_are_reset_are_small() {
        let totals = Totals::default();
        let worker = totals.register();
        let is_read = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_read.load(Ordering::Relaxed) {
                    worker.cmd_get.bump();
                    totals.reset();
                }
            });
            let greatest = (0..100_000).map(|_| totals.counts().cmd_get).max();
            is_read.store(true, Ordering::Relaxed);
            assert!(greatest.is_some_and(|greatest| greatest <= 1), "{greatest:?}");
        });
    }

    #[test]
    fn every_count_is_named_once() {
        let counts = Counts { cmd_get: 7, panics: 9, ..Counts::default() };
        let named: Vec<_> = counts.named().collect();
        assert_eq!(named.first(), Some(&("cmd_get", 7)));
        assert!(named.contains(&("panics", 9)));
        let mut names: Vec<_> = named.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), named.len());
    }

    #[test]
    fn a_turn_is_counted_under_the_least_bound_that_it_does_not_exceed() {
        let turned = |micros| {
            let totals = Totals::default();
            totals.register().count_turn(micros);
            let named = totals.counts().named().filter(|&(_, count)| count > 0);
            named.filter(|(name, _)| *name != "turn_us").collect::<Vec<_>>()
        };
        for micros in [10_u32, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000, 1_000_000] {
            let name = format!("turn_le_{micros}us");
            assert_eq!(turned(u64::from(micros)), [(name.as_str(), 1)]);
            assert_ne!(turned(u64::from(micros) + 1), [(name.as_str(), 1)]);
        }
        assert_eq!(turned(1_000_001), [("turn_longer", 1)]);
    }
}
