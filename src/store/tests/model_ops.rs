//! Random commands for the model.

use super::Mode;

/// Keys that commands are about.
pub(crate) const KEYS: u8 = 24;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write { key: u8, mode: Mode, len: usize, fill: u8, ttl: u8, compare: Compare, invalidate: bool },
    Get { key: u8, touch: Option<u8>, no_bump: bool, recache: bool, below: Option<u8> },
    Vivify { key: u8, ttl: u8 },
    Delete { key: u8, stale: bool, clear: bool, compare: Compare },
    Count { key: u8, delta: u64, up: bool, initial: Option<u8>, compare: Compare },
    SetNumber { key: u8, number: u64, ttl: u8 },
    Flush,
    FlushAt { after: u8 },
    Step { seconds: u8 },
    Sweep,
    Hold { key: u8 },
    LetGo,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Compare {
    Nothing,
    Current,
    Older,
    Newer,
}

#[cfg(test)]
pub(super) use generated::ops;

#[cfg(test)]
mod generated {
    use proptest::prelude::*;

    use super::{Compare, KEYS, Mode, Op};

    fn compares() -> impl Strategy<Value = Compare> {
        prop_oneof![
            6 => Just(Compare::Nothing),
            3 => Just(Compare::Current),
            1 => Just(Compare::Older),
            1 => Just(Compare::Newer),
        ]
    }

    fn modes() -> impl Strategy<Value = Mode> {
        prop_oneof![
            5 => Just(Mode::Set),
            1 => Just(Mode::Add),
            1 => Just(Mode::Replace),
            2 => Just(Mode::Append),
            1 => Just(Mode::Prepend),
        ]
    }

    fn lens() -> impl Strategy<Value = usize> {
        prop_oneof![
            5 => 0usize..400,
            2 => 400usize..9_000,
            2 => 7_900usize..8_300,
            2 => 9_000usize..60_000,
            1 => 100_000usize..300_000,
        ]
    }

    pub(in super::super) fn ops() -> impl Strategy<Value = Op> {
        let key = 0..KEYS;
        prop_oneof![
            10 => (key.clone(), modes(), lens(), any::<u8>(), 0u8..20, compares(), any::<bool>()).prop_map(
                |(key, mode, len, fill, ttl, compare, invalidate)| Op::Write {
                    key, mode, len, fill, ttl, compare, invalidate
                }
            ),
            6 => (key.clone(), prop::option::weighted(0.2, 0u8..20), any::<bool>(), any::<bool>(),
                  prop::option::weighted(0.2, 0u8..20)).prop_map(
                |(key, touch, no_bump, recache, below)| Op::Get { key, touch, no_bump, recache, below }
            ),
            1 => (key.clone(), 0u8..20).prop_map(|(key, ttl)| Op::Vivify { key, ttl }),
            2 => (key.clone(), any::<bool>(), prop::bool::weighted(0.2), compares()).prop_map(
                |(key, stale, clear, compare)| Op::Delete { key, stale, clear, compare }
            ),
            2 => (key.clone(), any::<u64>(), any::<bool>(), prop::option::of(0u8..20), compares()).prop_map(
                |(key, delta, up, initial, compare)| Op::Count { key, delta, up, initial, compare }
            ),
            2 => (key.clone(), any::<u64>(), 0u8..20)
                .prop_map(|(key, number, ttl)| Op::SetNumber { key, number: number >> (number % 64), ttl }),
            1 => prop::bool::weighted(0.2).prop_map(|flush| if flush { Op::Flush } else { Op::Sweep }),
            1 => (0u8..6).prop_map(|after| Op::FlushAt { after }),
            3 => (0u8..4).prop_map(|seconds| Op::Step { seconds }),
            1 => Just(Op::Sweep),
            1 => key.prop_map(|key| Op::Hold { key }),
            1 => Just(Op::LetGo),
        ]
    }
}
