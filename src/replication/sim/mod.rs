//! Whole clusters in one thread and no time: histories of writes and faults, each from a seed.
//!
//! Picture a puppet stage. Two to five nodes, each a real store under a real replica, hang from one
//! queue of happenings; a clock is a number, a connection is a list of bytes. Clients write, links
//! are cut, machines lose their power, and in the end everything is healed. What nodes hold is
//! compared with what was written, at once, often in between, and at the end. A history costs
//! milliseconds, so that tens of thousands are played in a test and millions in `./test sim`.
//!
//! The seed decides everything: `SIM_SEED=n cargo test --lib sim::plays_one -- --nocapture` plays a
//! history again and tells what happened, with all actions left out that do not matter.
//!
//! | file | what |
//! |---|---|
//! | `plan` | settings, and what is to happen |
//! | `world` | the queue, and what happenings do |
//! | `network` | wires: late, in order, in pieces, cut |
//! | `cluster` | nodes, their lives and clocks |
//! | `clients` | commands, and what their answers must be |
//! | `ledger` | what was written |
//! | `audit` `verdict` | what must hold always, and in the end |
//! | `ablations` | rules taken away: the checker must notice |
//! | `traps` | situations in which earlier designs failed, step by step |
//! | `trace` `rng` | what happened; dice |
//!
//! What is NOT here: sockets and threads; real processes are tested in `protocol-tests`.

mod ablations;
mod audit;
mod clients;
mod cluster;
mod ledger;
mod network;
mod plan;
mod rng;
mod trace;
mod verdict;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ablations::Ablation;
use plan::{SETTINGS, Setting};
use verdict::{play, tell};

/// Histories that once broke a rule.
const ONCE_BROKEN: &[u64] = &[];

fn setting_of(seed: u64) -> &'static Setting {
    let count = SETTINGS.len() as u64;
    &SETTINGS[usize::try_from(seed % count).unwrap_or(0)]
}

fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays `count` histories from `first` on all cores. Returns the seeds that broke a rule, least
/// first, and how many operations there were.
fn play_many(first: u64, count: u64, ablation: Ablation, failures_wanted: usize) -> (Vec<u64>, u64) {
    let next = AtomicU64::new(first);
    let operations = AtomicU64::new(0);
    let found = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let worker = || {
        let mut broken = Vec::new();
        while found.load(Ordering::Relaxed) < failures_wanted {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            let outcome = play(setting_of(seed), seed, ablation);
            operations.fetch_add(outcome.operations, Ordering::Relaxed);
            if outcome.violation.is_some() {
                found.fetch_add(1, Ordering::Relaxed);
                broken.push(seed);
            }
        }
        broken
    };
    let mut broken: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no history panics")).collect()
    });
    broken.sort_unstable();
    (broken, operations.into_inner())
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..30 {
        let [once, again] = [(); 2].map(|()| play(setting_of(seed), seed, Ablation::None));
        assert_eq!(once.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(once.acknowledged, again.acknowledged, "seed {seed}");
    }
    let hashes: std::collections::BTreeSet<u64> =
        (0..30).map(|seed| play(setting_of(seed), seed, Ablation::None).trace_hash).collect();
    assert_eq!(hashes.len(), 30, "and another seed another one");
}

/// Plays the history `SIM_SEED`, and tells of it when it breaks a rule.
#[test]
fn plays_one_history_as_it_is_asked_for() {
    let seed = env_number("SIM_SEED").unwrap_or(1);
    let outcome = play(setting_of(seed), seed, Ablation::None);
    assert!(outcome.violation.is_none(), "{}", tell(setting_of(seed), seed, Ablation::None));
    assert!(outcome.operations > 0 && outcome.acknowledged > 0);
}

#[test]
fn no_history_breaks_a_rule() {
    let count = env_number("SIM_HISTORIES").unwrap_or(20_000);
    let (broken, operations) = play_many(0, count, Ablation::None, 3);
    if let Some(&seed) = broken.first() {
        panic!("{broken:?}\n{}", tell(setting_of(seed), seed, Ablation::None));
    }
    println!("    {count} histories, {operations} operations, 0 violations");
}

#[test]
fn no_history_that_once_broke_a_rule_does_so_again() {
    for &seed in ONCE_BROKEN {
        let outcome = play(setting_of(seed), seed, Ablation::None);
        assert!(outcome.violation.is_none(), "{}", tell(setting_of(seed), seed, Ablation::None));
    }
}
