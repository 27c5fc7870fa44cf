//! Whole clusters in one thread and no time: histories of writes and faults, each from a seed.
//!
//! Picture a puppet stage. Two to five nodes, each a real store under a real replica, hang from one
//! queue of happenings; a clock is a number, a connection is a list of bytes. Clients write, links
//! are cut, machines lose their power, and in the end everything is healed. What nodes hold is
//! compared with what was written, at once, often in between, and at the end. A history costs
//! milliseconds, so that tens of thousands are played in a test and millions in `./test sim`.
//!
//! The seed decides everything: `SIM_SEED=n cargo test --lib sim::one_history -- --nocapture` plays a
//! history again and tells what happened, with all actions left out that do not matter. `SIM_FIRST` and
//! `SIM_HISTORIES` say which seeds are played, `SIM_SETTING` with what in the names of their settings.
//!
//! | file | what |
//! |---|---|
//! | `settings` `plan` | what histories are like, and what is to happen |
//! | `world` | the queue, and what happenings do |
//! | `wiring` `network` | what happens on wires; wires: late, in order, in pieces, cut |
//! | `cluster` | nodes, their lives and clocks |
//! | `members` | nodes removed and added |
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
mod members;
mod network;
mod plan;
mod rng;
mod settings;
mod trace;
mod traps;
mod verdict;
mod wiring;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ablations::Ablation;
use settings::{SETTINGS, Setting};
use verdict::{play, play_plan, tell};

/// Histories that once broke a rule, by the setting that they were played in.
const ONCE_BROKEN: &[(&str, &[u64])] = &[
    ("3 nodes, partitions", &[88, 2838, 3421]),
    ("3 nodes, 4 crashes", &[79, 156, 893]),
    ("3 nodes, 3 crashes, evictions", &[168, 12_477, 30_007_574]),
    ("2 nodes, 3 crashes", &[488]),
    ("5 nodes, 4 crashes, evictions", &[126, 1897, 12_787, 30_001_383]),
    ("2 nodes, ring of 2, frozen and flapping", &[743, 1557, 1_400_054_828, 1_700_278_005]),
    (
        "3 nodes, ring of 100, clocks seconds off",
        &[30_008_865, 60_333_676, 60_417_364, 60_545_459, 100_235_571, 1_700_460_706],
    ),
    ("4 nodes, crashes, frozen, many flushes", &[8885, 30_010_505, 700_180_731]),
    (
        "3 nodes, 1 crash, clocks a minute apart",
        &[219, 3750, 30_003_170, 60_709_846, 100_506_493, 200_488_628, 1_400_010_037],
    ),
    (
        "2 nodes, apart for too long, merged",
        &[
            14_121,
            1_200_173_933,
            1_200_225_885,
            1_200_234_181,
            1_200_342_964,
            1_200_360_032,
            1_400_033_872,
        ],
    ),
    (
        "3 nodes, members change",
        &[1_200_173_169, 1_200_282_122, 1_200_359_047, 1_310_025_316, 1_600_015_549],
    ),
    ("4 nodes, members change, crashes", &[1_100_025_269, 1_100_031_525, 1_200_055_513]),
    (
        "3 nodes, room for 3 floors, merged",
        &[1_100_057_315, 1_200_166_014, 1_400_066_617, 1_500_104_494, 1_900_154_207],
    ),
    ("2 nodes, apart for too long, wiped", &[2_310_180_657]),
    ("3 nodes, apart for too long, wiped", &[2_200_723_072]),
    (
        "2 nodes, room for 1 floor, frozen and flapping",
        &[
            18_833,
            1_700_014_655,
            1_700_103_821,
            1_700_172_701,
            1_700_226_188,
            1_700_416_427,
            1_700_461_367,
            3_000_004_206,
            3_000_004_416,
            3_000_005_511,
            3_000_005_781,
            3_000_010_386,
        ],
    ),
    ("4 nodes, room for 3 floors, members change", &[1_900_228_195]),
    (
        "3 nodes, room for 3 floors, evictions",
        &[1_700_170_268, 1_700_328_251, 1_700_438_732, 3_100_002_901],
    ),
    ("2 nodes, apart for too long, wiped", &[1_100_011_399, 1_200_156_376, 1_200_307_353]),
];

/// Histories of `./test`; `./test sim` asks for more.
const HISTORIES: u64 = 20_000;

/// Histories in which a rule taken away is looked for; more with `./test sim`.
const ABLATED_HISTORIES: u64 = 1_500;
const ABLATED_HISTORIES_LONG: u64 = 40_000;

/// Violations after which there is no point in going on.
const VIOLATIONS_WANTED: usize = 20;

fn setting_index(seed: u64) -> usize {
    usize::try_from(seed % SETTINGS.len() as u64).unwrap_or(0)
}

fn setting_of(seed: u64) -> &'static Setting {
    &SETTINGS[setting_index(seed)]
}

fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What came of many histories.
#[derive(Debug, Default)]
struct Tally {
    /// By setting: histories, operations, acknowledged writes.
    settings: [[u64; 3]; SETTINGS.len()],
    /// Seeds that broke a rule, least first.
    broken: Vec<u64>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        let sums = self.settings.iter_mut().flatten();
        sums.zip(other.settings.iter().flatten()).for_each(|(sum, more)| *sum += more);
        self.broken.extend(other.broken);
        self.broken.sort_unstable();
    }

    fn sum(&self, column: usize) -> u64 {
        self.settings.iter().map(|row| row[column]).sum()
    }
}

/// Plays the histories from `first` on all cores, until so many have broken a rule.
fn play_many(first: u64, count: u64, ablation: Ablation, violations_wanted: usize) -> Tally {
    let next = AtomicU64::new(first);
    let found = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let asked = std::env::var("SIM_SETTING").unwrap_or_default();
    let asked = asked.as_str();
    let worker = || {
        let mut tally = Tally::default();
        while found.load(Ordering::Relaxed) < violations_wanted {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            if !setting_of(seed).name.contains(asked) {
                continue;
            }
            let outcome = play(setting_of(seed), seed, ablation);
            let figures = [1, outcome.operations, outcome.acknowledged as u64];
            let sums = &mut tally.settings[setting_index(seed)];
            sums.iter_mut().zip(figures).for_each(|(sum, more)| *sum += more);
            // A rule taken away is missed only where all is well with it.
            let is_by_ablation = || {
                ablation == Ablation::None
                    || play(setting_of(seed), seed, Ablation::None).violation.is_none()
            };
            if outcome.violation.is_some() && is_by_ablation() {
                found.fetch_add(1, Ordering::Relaxed);
                if ablation == Ablation::None {
                    // A long run may be ended before it is through.
                    println!("    {seed}: {}", outcome.violation.unwrap_or_default());
                }
                tally.broken.push(seed);
            }
        }
        tally
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            tally.add(worker.join().expect("no history panics"));
        }
    });
    tally
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let [once, again] = [(); 2].map(|()| play(setting_of(seed), seed, Ablation::None));
        assert_eq!(once.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(once.acknowledged, again.acknowledged, "seed {seed}");
        hashes.insert(once.trace_hash);
    }
    assert_eq!(hashes.len(), 40);
}

/// Plays the history `SIM_SEED` and tells all of it; what matters of it when it breaks a rule.
#[test]
fn one_history_as_it_is_asked_for_breaks_no_rule() {
    let asked = env_number("SIM_SEED");
    let seed = asked.unwrap_or(1);
    let actions = plan::plan(setting_of(seed), seed);
    let outcome = play_plan(setting_of(seed), seed, Ablation::None, &actions, asked.is_some());
    println!("{}", outcome.lines.join("\n"));
    assert!(outcome.violation.is_none(), "{}", tell(setting_of(seed), seed, Ablation::None));
    assert!(outcome.operations > 0 && outcome.acknowledged > 0);
}

#[test]
fn no_history_breaks_a_rule() {
    let asked = env_number("SIM_HISTORIES");
    let first = env_number("SIM_FIRST").unwrap_or(0);
    let tally = play_many(first, asked.unwrap_or(HISTORIES), Ablation::None, VIOLATIONS_WANTED);
    if asked.is_some() {
        for (setting, [histories, operations, acknowledged]) in SETTINGS.iter().zip(tally.settings)
        {
            let violations =
                tally.broken.iter().filter(|seed| setting_of(**seed).name == setting.name).count();
            println!(
                "    {:<40} {histories:>9} histories {operations:>11} operations \
                 {acknowledged:>11} acknowledged {violations:>3} violations",
                setting.name
            );
        }
    }
    let [histories, operations, acknowledged] = [0, 1, 2].map(|column| tally.sum(column));
    let violations = tally.broken.len();
    println!(
        "    {histories} histories, {operations} operations, {acknowledged} acknowledged by a peer, \
         {violations} violations"
    );
    if let Some(&seed) = tally.broken.first() {
        panic!("{:?}\n{}", tally.broken, tell(setting_of(seed), seed, Ablation::None));
    }
}

#[test]
fn no_history_that_once_broke_a_rule_does_so_again() {
    for &(name, seeds) in ONCE_BROKEN {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let setting = setting.unwrap_or_else(|| panic!("no setting is {name:?}"));
        for &seed in seeds {
            let outcome = play(setting, seed, Ablation::None);
            assert!(outcome.violation.is_none(), "{}", tell(setting, seed, Ablation::None));
        }
    }
}

#[test]
fn every_rule_taken_away_is_missed() {
    let is_long = env_number("SIM_HISTORIES").is_some();
    let count = if is_long { ABLATED_HISTORIES_LONG } else { ABLATED_HISTORIES };
    let mut unnoticed = Vec::new();
    for ablation in Ablation::ALL {
        // Histories that no other test plays.
        let tally = play_many(1 << 40, count, ablation, 1);
        let (histories, violations) = (tally.sum(0), tally.broken.len());
        println!("    without {ablation:?}: {violations} of {histories} histories broke a rule");
        if violations == 0 && !ablation.is_rare() {
            unnoticed.push(ablation);
        }
    }
    assert!(unnoticed.is_empty(), "the checker is blind for {unnoticed:?}");
}
