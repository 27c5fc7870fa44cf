//! What histories are like: how many nodes, how much room, how often what breaks.
//!
//! What is NOT here: what is made of it in one history ([`super::plan`]).

/// What a history is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) nodes: usize,
    pub(super) keys: usize,
    pub(super) operations: u64,
    /// Virtual milliseconds in which operations and faults happen.
    pub(super) span: u64,
    /// Clocks are up to this many milliseconds off, either way.
    pub(super) skew: u64,
    /// Longest delay of a link in milliseconds.
    pub(super) delay: u64,
    /// Milliseconds for which what is logged gathers before it is sent.
    pub(super) gather: u64,
    /// Entries that are read for one batch.
    pub(super) batch: usize,
    /// Entries that a log has room for.
    pub(super) ring: usize,
    /// Floors that a node has room for.
    pub(super) floors: usize,
    /// Floors have so little room that nodes may differ until the routine comparison.
    pub(super) waits_for_routine: bool,
    /// Seconds after which floors go whatever is known.
    pub(super) horizon: u32,
    /// Who was away for longer forgets what it has.
    pub(super) wipes: bool,
    pub(super) cuts: u64,
    pub(super) longest_cut: u64,
    pub(super) flapping: bool,
    /// It is always the same node that is cut off, from all others, and it meets all of them again
    /// before it is once more.
    pub(super) whole: bool,
    pub(super) resets: u64,
    pub(super) kills: u64,
    pub(super) freezes: u64,
    /// How often a node is removed from the others' lists, and added again.
    pub(super) removals: u64,
    /// One node is added when the others have run for a while.
    pub(super) joins: bool,
    pub(super) evictions: u64,
    pub(super) flushes: u64,
    /// How often a node is given what another knows, outside of any stream or scan.
    pub(super) hearsays: u64,
}

impl Setting {
    pub(super) const BASE: Setting = Setting {
        name: "",
        nodes: 3,
        keys: 6,
        operations: 160,
        span: 7_500,
        skew: 50,
        delay: 30,
        gather: 0,
        batch: 1_000,
        ring: 12,
        floors: 1_000,
        waits_for_routine: false,
        horizon: 3_600,
        wipes: false,
        cuts: 4,
        longest_cut: 5_000,
        flapping: false,
        whole: false,
        resets: 1,
        kills: 0,
        freezes: 0,
        removals: 0,
        joins: false,
        evictions: 0,
        flushes: 1,
        hearsays: 2,
    };

    /// Nodes are apart for longer than deletes are remembered; a silence that a connection survives
    /// is shorter.
    const LONG_APART: Setting =
        Setting { horizon: 3, span: 10_000, longest_cut: 8_000, evictions: 2, ..Setting::BASE };

    /// Whether nothing breaks.
    pub(super) fn is_fault_free(&self) -> bool {
        let breaks = self.cuts + self.resets + self.kills + self.freezes + self.evictions;
        breaks + self.removals == 0 && !self.joins
    }
}

/// The settings that histories take turns in.
pub(super) const SETTINGS: &[Setting] = &[
    Setting { name: "3 nodes, partitions", ..Setting::BASE },
    Setting { name: "3 nodes, 1 crash", kills: 1, ..Setting::BASE },
    Setting { name: "3 nodes, 4 crashes", kills: 4, ..Setting::BASE },
    Setting { name: "3 nodes, 3 crashes, evictions", kills: 3, evictions: 6, ..Setting::BASE },
    Setting { name: "2 nodes, 3 crashes", nodes: 2, batch: 2, kills: 3, ..Setting::BASE },
    Setting {
        name: "5 nodes, 4 crashes, evictions",
        nodes: 5,
        operations: 150,
        kills: 4,
        evictions: 4,
        ..Setting::BASE
    },
    Setting {
        name: "2 nodes, ring of 2, frozen and flapping",
        nodes: 2,
        ring: 2,
        freezes: 2,
        flapping: true,
        cuts: 6,
        longest_cut: 2_500,
        ..Setting::BASE
    },
    Setting {
        name: "3 nodes, ring of 100, clocks seconds off",
        gather: 45,
        batch: 4,
        ring: 100,
        skew: 5_000,
        kills: 1,
        flushes: 2,
        ..Setting::BASE
    },
    Setting {
        name: "4 nodes, crashes, frozen, many flushes",
        nodes: 4,
        operations: 150,
        batch: 2,
        kills: 2,
        freezes: 1,
        evictions: 2,
        flushes: 5,
        ..Setting::BASE
    },
    Setting {
        name: "3 nodes, nothing breaks",
        ring: 100,
        cuts: 0,
        resets: 0,
        operations: 250,
        span: 5_000,
        hearsays: 10,
        ..Setting::BASE
    },
    Setting {
        name: "3 nodes, 1 crash, clocks a minute apart",
        ring: 100,
        // A clock that is set back may be three times as far off.
        skew: 14_500,
        kills: 1,
        flushes: 2,
        ..Setting::BASE
    },
    Setting { name: "2 nodes, apart for too long, merged", nodes: 2, ..Setting::LONG_APART },
    Setting { name: "3 nodes, members change", removals: 2, joins: true, cuts: 2, ..Setting::BASE },
    Setting {
        name: "4 nodes, members change, crashes",
        nodes: 4,
        removals: 2,
        cuts: 2,
        kills: 2,
        ..Setting::BASE
    },
    Setting { name: "3 nodes, room for 3 floors, merged", floors: 3, kills: 1, ..Setting::BASE },
    Setting {
        name: "2 nodes, apart for too long, wiped",
        nodes: 2,
        wipes: true,
        ..Setting::LONG_APART
    },
    Setting {
        name: "3 nodes, apart for too long, wiped",
        wipes: true,
        whole: true,
        operations: 250,
        span: 18_000,
        cuts: 2,
        ..Setting::LONG_APART
    },
    Setting {
        name: "2 nodes, room for 1 floor, frozen and flapping",
        nodes: 2,
        floors: 1,
        waits_for_routine: true,
        freezes: 2,
        flapping: true,
        cuts: 6,
        longest_cut: 2_500,
        ..Setting::BASE
    },
    Setting { name: "3 nodes, apart for too long, merged", kills: 1, ..Setting::LONG_APART },
    Setting {
        name: "4 nodes, room for 3 floors, members change",
        nodes: 4,
        floors: 3,
        waits_for_routine: true,
        removals: 1,
        kills: 2,
        ..Setting::BASE
    },
    Setting {
        name: "3 nodes, room for 3 floors, evictions",
        floors: 3,
        waits_for_routine: true,
        evictions: 6,
        kills: 1,
        ..Setting::BASE
    },
];
