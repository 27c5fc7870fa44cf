//! Histories of clients that want one lock at two or three nodes, each from a seed: real replicas
//! over real stores, wires that are late and break, nodes that die, begin anew and stand still for
//! a moment. As long as nodes can talk, one client has the lock at a time, and a client that alone
//! wants it gets it. With wires cut for longer both sides go on, and in the end all is well again.
//!
//! `LOCK_SEED=n cargo test --lib locks::sim::one_history -- --nocapture` tells a history again.
//!
//! | file | what |
//! |---|---|
//! | `world` | the queue of what happens; nodes and wires |
//! | `clients` | who wants the lock, has it and lets it go, and what must hold then |
//! | `traps` | situations that dice hardly ever find, step by step |

mod clients;
mod traps;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::replication::config::Broken;
use world::{Outcome, World};

/// Histories of `./test`; `./test sim` asks for more (`LOCK_HISTORIES`, from seed `LOCK_FIRST` on).
const HISTORIES: u64 = 200;

/// Histories in which a rule taken away is looked for.
const BROKEN_HISTORIES: u64 = 2000;

/// Histories that once broke a rule.
const ONCE_BROKEN: &[u64] =
    &[786, 18_494, 24_958, 1_015_426, 3_009_541, 9_004_182, 51_003_694, 60_039_304];

fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64, broken: Broken) -> Outcome {
    World::new(seed, broken).play()
}

/// Plays histories on all cores until one breaks a rule; all that they come to together.
fn play_many(first: u64, count: u64, broken: Broken) -> (Outcome, Option<(u64, String)>) {
    let next = AtomicU64::new(first);
    let worst = AtomicU64::new(u64::MAX);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut all = Outcome::default();
    let mut found: Option<(u64, String)> = None;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let (mut sum, mut found) = (Outcome::default(), None);
                    while worst.load(Ordering::Relaxed) == u64::MAX {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + count {
                            break;
                        }
                        let mut outcome = play(seed, broken);
                        if let Some(violation) = outcome.violation.take() {
                            worst.fetch_min(seed, Ordering::Relaxed);
                            found = Some((seed, violation));
                        }
                        sum.add(&outcome);
                    }
                    (sum, found)
                })
            })
            .collect();
        for worker in workers {
            let (sum, theirs) = worker.join().expect("no history panics");
            all.add(&sum);
            found = found.take().or(theirs);
        }
    });
    (all, found)
}

#[test]
fn one_history_as_it_is_asked_for_breaks_no_rule() {
    let asked = env_number("LOCK_SEED");
    let mut world = World::new(asked.unwrap_or(1), Broken::default());
    world.is_told = asked.is_some();
    let outcome = world.play();
    assert_eq!(outcome.violation, None);
    assert!(outcome.won > 0);
}

#[test]
fn while_nodes_can_talk_one_client_has_the_lock_and_who_alone_wants_it_gets_it() {
    let count = env_number("LOCK_HISTORIES").unwrap_or(HISTORIES);
    let first = env_number("LOCK_FIRST").unwrap_or(0);
    let (all, found) = play_many(first, count, Broken::default());
    println!("    {count} histories of a lock: {all:?}");
    assert_eq!(found, None);
    assert!(all.won > 20 * count, "locks are won");
    assert!(all.forwarded > 0 && all.retried > 0 && all.known_again > 0, "{all:?}");
    assert!(all.kills > count / 4 && all.resets > 0 && all.freezes > count / 4, "{all:?}");
}

#[test]
fn histories_that_once_broke_a_rule_break_none() {
    for &seed in ONCE_BROKEN {
        assert_eq!(play(seed, Broken::default()).violation, None, "seed {seed}");
    }
}

/// Those that dice hardly ever find have their [`traps`].
#[test]
fn rules_of_locks_taken_away_are_missed() {
    let rules: [(&str, Broken); 3] = [
        ("agreement", Broken { locks_without_agreement: true, ..Broken::default() }),
        ("confirmation", Broken { locks_unconfirmed: true, ..Broken::default() }),
        ("notes", Broken { locks_without_notes: true, ..Broken::default() }),
    ];
    let mut unnoticed = Vec::new();
    for (name, broken) in rules {
        let (_, found) = play_many(1 << 40, BROKEN_HISTORIES, broken);
        println!("    without {name}: {found:?}");
        if found.is_none() {
            unnoticed.push(name);
        }
    }
    assert!(unnoticed.is_empty(), "the checker is blind for {unnoticed:?}");
}
