//! Operations on a store and on its model, which the generated tests in `store` run as well.

use super::choices::Choices;
use crate::store::Mode;
use crate::store::beside_model::{Compare, KEYS, Op, Room, run};

/// Operations at most: each is followed by a look at everything.
const OPS_MAX: usize = 300;

/// A store with more or less room, and what is done to it.
pub fn store(input: &[u8]) {
    let mut choices = Choices::new(input);
    let room = choices.pick(&[Room::Ample, Room::Scarce, Room::ScarceWithoutEvictions]);
    let mut ops = Vec::new();
    while !choices.is_over() && ops.len() < OPS_MAX {
        ops.push(op(&mut choices));
    }
    run(room, &ops);
}

fn op(choices: &mut Choices<'_>) -> Op {
    match choices.below(32) {
        0..=9 => Op::Write {
            key: choices.below(KEYS),
            mode: mode(choices),
            len: len(choices),
            fill: choices.byte(),
            ttl: choices.below(20),
            compare: compare(choices),
            invalidate: choices.one_in(2),
        },
        10..=15 => Op::Get {
            key: choices.below(KEYS),
            touch: choices.maybe(5, |choices| choices.below(20)),
            no_bump: choices.one_in(2),
            recache: choices.one_in(2),
            below: choices.maybe(5, |choices| choices.below(20)),
        },
        16 => Op::Vivify { key: choices.below(KEYS), ttl: choices.below(20) },
        17 | 18 => Op::Delete {
            key: choices.below(KEYS),
            stale: choices.one_in(2),
            clear: choices.one_in(5),
            compare: compare(choices),
        },
        19 | 20 => Op::Count {
            key: choices.below(KEYS),
            delta: choices.long(),
            up: choices.one_in(2),
            initial: choices.maybe(2, |choices| choices.below(20)),
            compare: compare(choices),
        },
        21 | 22 => {
            let shift = choices.below(64);
            let (key, number) = (choices.below(KEYS), choices.long() >> shift);
            Op::SetNumber { key, number, ttl: choices.below(20) }
        }
        23 => Op::Flush,
        24 => Op::FlushAt { after: choices.below(6) },
        25..=27 => Op::Step { seconds: choices.below(4) },
        28 | 29 => Op::Sweep,
        30 => Op::Hold { key: choices.below(KEYS) },
        _ => Op::LetGo,
    }
}

fn mode(choices: &mut Choices<'_>) -> Mode {
    use Mode::{Add, Append, Prepend, Replace, Set};
    choices.pick(&[Set, Set, Set, Set, Set, Add, Replace, Append, Append, Prepend])
}

fn compare(choices: &mut Choices<'_>) -> Compare {
    use Compare::{Current, Newer, Nothing, Older};
    choices.pick(&[Nothing, Nothing, Nothing, Nothing, Nothing, Current, Current, Older, Newer])
}

/// Lengths of all kinds of items, and around where one kind ends.
fn len(choices: &mut Choices<'_>) -> usize {
    let (from, end) = choices.pick(&[
        (0, 400),
        (0, 400),
        (400, 9_000),
        (7_900, 8_300),
        (9_000, 60_000),
        (100_000, 300_000),
    ]);
    from + (end - from) * usize::from(choices.short()) / (1 << 16)
}
