//! Versions: what orders two writes of one key on any two nodes, and what clients see as the cas
//! unique.
//!
//! A version is a hybrid logical clock reading in 64 bits, most significant first:
//!
//! | bits | what |
//! |---|---|
//! | 1 | zero, so that clients with signed 64-bit integers can carry it |
//! | 41 | milliseconds since 2025-01-01T00:00:00Z (69 years) |
//! | 14 | counter within the millisecond; a full counter borrows from the next millisecond |
//! | 8 | node, 1 to 254 (0 = a node without peers) |
//!
//! Without peers there is one [`VersionClock`] a shard; a key lives in one shard, so (key, version)
//! is unique. With peers there is one a node, so that the order of versions is the order in which
//! the node's mutations are sent.

use crate::clock::Now;

const NODE_BITS: u32 = 8;
const COUNTER_BITS: u32 = 14;
const TICK: u64 = 1 << NODE_BITS;
const MILLIS_SHIFT: u32 = NODE_BITS + COUNTER_BITS;
/// 2025-01-01T00:00:00Z in milliseconds of Unix time.
const EPOCH_UNIX_MILLIS: u64 = 1_735_689_600_000;

/// The version of an item's value. `Version(0)` is older than every write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The oldest version that a write at `now` could have.
    #[must_use]
    pub fn floor_at(now: Now) -> Version {
        Version(now.unix_millis().saturating_sub(EPOCH_UNIX_MILLIS) << MILLIS_SHIFT)
    }

    /// The node that gave the version.
    #[must_use]
    pub fn node(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// When it was given, in milliseconds of Unix time, by a clock that may run ahead.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        (self.0 >> MILLIS_SHIFT) + EPOCH_UNIX_MILLIS
    }
}

/// Hands out versions that only grow, whatever the wall clock does.
#[derive(Clone, Debug)]
pub struct VersionClock {
    last: Version,
    node: u8,
}

impl VersionClock {
    /// A clock for the node `node` (0 = no peers).
    #[must_use]
    pub fn new(node: u8) -> VersionClock {
        VersionClock { last: Version(0), node }
    }

    /// The next version: after every version handed out or observed, and not before `now`.
    pub fn next(&mut self, now: Now) -> Version {
        let node = u64::from(self.node);
        let wall = Version::floor_at(now).0 | node;
        let after_last = ((self.last.0 & !(TICK - 1)) + TICK) | node;
        self.last = Version(wall.max(after_last));
        self.last
    }

    /// Every version handed out from here on is later than `seen`.
    pub fn observe(&mut self, seen: Version) {
        self.last = self.last.max(seen);
    }

    /// Versions from here on are of another node.
    pub fn renumber(&mut self, node: u8) {
        self.node = node;
    }

    /// The latest version handed out or observed.
    #[must_use]
    pub fn last(&self) -> Version {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_within_a_millisecond_and_when_the_clock_steps_back() {
        let mut clock = VersionClock::new(7);
        let noon = Now::from_unix_seconds(1_800_000_000);
        let mut last = clock.next(noon);
        for step in 0..40_000u32 {
            let now = if step % 2 == 0 { noon } else { Now::from_unix_seconds(1_700_000_000) };
            let next = clock.next(now);
            assert!(next > last);
            assert_eq!(next.0 & 0xff, 7, "the node stays in the low bits");
            last = next;
        }
    }

    #[test]
    fn a_version_is_later_than_any_version_observed() {
        let mut clock = VersionClock::new(1);
        let far_ahead = Version::floor_at(Now::from_unix_seconds(2_000_000_000));
        clock.observe(far_ahead);
        assert!(clock.next(Now::from_unix_seconds(1_800_000_000)) > far_ahead);
    }

    #[test]
    fn a_version_tells_its_node_and_its_moment() {
        let noon = Now::from_unix_micros(1_800_000_000_123_456);
        let version = VersionClock::new(254).next(noon);
        assert_eq!((version.node(), version.unix_millis()), (254, 1_800_000_000_123));
    }

    #[test]
    fn the_top_bit_stays_clear_for_69_years() {
        let mut clock = VersionClock::new(255);
        let in_2094 = Now::from_unix_micros((EPOCH_UNIX_MILLIS + (1 << 41) - 1) * 1_000);
        assert_eq!(clock.next(in_2094).0 >> 63, 0);
    }
}
