//! The only reader of the machine's clock.
//!
//! Time flows through the house as an argument, [`Now`]. It is Unix time at start-up plus the
//! monotonic clock since, so a step of the wall clock expires nothing and immortalises nothing
//! (memcached does the same). `debugtime` moves it when the server was started for testing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in whole Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u32);

impl UnixSeconds {
    /// Seconds from `earlier` to `self`, 0 when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: UnixSeconds) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The moment at which a batch of requests is executed: microseconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    unix_us: u64,
}

impl Now {
    /// The moment `unix_us` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_micros(unix_us: u64) -> Now {
        Now { unix_us }
    }

    /// The start of the Unix second `seconds`; for tests.
    #[must_use]
    pub const fn from_unix_seconds(seconds: u32) -> Now {
        Now { unix_us: seconds as u64 * 1_000_000 }
    }

    /// Whole seconds. memcached's clock ticks once a second, and expiry is decided by this.
    #[must_use]
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds(u32::try_from(self.unix_us / 1_000_000).unwrap_or(u32::MAX))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        self.unix_us / 1_000
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn unix_micros(self) -> u64 {
        self.unix_us
    }

    /// This moment and `later`.
    #[must_use]
    pub fn plus(self, later: Duration) -> Now {
        Now { unix_us: self.unix_us + u64::try_from(later.as_micros()).unwrap_or(u64::MAX / 2) }
    }
}

/// The machine's clock, read once a batch.
#[derive(Debug)]
pub struct Clock {
    started: Now,
    monotonic_start: Instant,
    /// Microseconds added by `debugtime +N`.
    moved_us: AtomicI64,
    /// The `Now` at which `debugtime p` stopped the clock, or -1.
    paused_at_us: AtomicI64,
}

impl Clock {
    /// Starts the clock at the machine's wall time.
    #[must_use]
    pub fn start() -> Clock {
        Clock::start_off_by(0)
    }

    /// Starts the clock `millis` milliseconds off the machine's wall time (tests only).
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this room is the reader of the clock")]
    pub fn start_off_by(millis: i64) -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_us = u64::try_from(unix.as_micros()).unwrap_or(0);
        let off_us = millis.saturating_mul(1_000);
        Clock {
            started: Now::from_unix_micros(unix_us.saturating_add_signed(off_us)),
            monotonic_start: Instant::now(),
            moved_us: AtomicI64::new(0),
            paused_at_us: AtomicI64::new(-1),
        }
    }

    /// The moment the server started; absolute exptimes at or before it are in the past.
    #[must_use]
    pub fn started(&self) -> Now {
        self.started
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Now {
        self.as_moved(self.unmoved())
    }

    /// What [`Clock::now`] was when [`Clock::unmoved`] was `unmoved`.
    #[must_use]
    pub fn as_moved(&self, unmoved: Now) -> Now {
        match u64::try_from(self.paused_at_us.load(Ordering::Relaxed)) {
            Ok(paused_at) => Now::from_unix_micros(paused_at),
            Err(_) => {
                let moved_us = self.moved_us.load(Ordering::Relaxed);
                Now::from_unix_micros(unmoved.unix_us.saturating_add_signed(moved_us))
            }
        }
    }

    /// The same, whatever `debugtime` has done: by this is judged who stands still.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this room is the reader of the clock")]
    pub fn unmoved(&self) -> Now {
        let elapsed = Instant::now().duration_since(self.monotonic_start);
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(0);
        Now::from_unix_micros(self.started.unix_us.saturating_add(elapsed_us))
    }

    /// Moves the clock by `seconds` (`debugtime +N`; tests only).
    pub fn move_by(&self, seconds: i64) {
        let micros = seconds.saturating_mul(1_000_000);
        if self.paused_at_us.load(Ordering::Relaxed) >= 0 {
            self.paused_at_us.fetch_add(micros, Ordering::Relaxed);
        }
        self.moved_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Stops the clock (`debugtime p`; tests only).
    pub fn pause(&self) {
        let now = i64::try_from(self.now().unix_us).unwrap_or(i64::MAX);
        self.paused_at_us.store(now, Ordering::Relaxed);
    }

    /// Lets a stopped clock run on from where the machine's clock is (`debugtime r`; tests only).
    pub fn resume(&self) {
        self.paused_at_us.store(-1, Ordering::Relaxed);
    }
}
