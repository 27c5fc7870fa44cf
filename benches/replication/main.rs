//! What a peer costs and how fast it is filled, beside the distribution's Redis and its replica:
//! real processes on loopback, in turns, in the same run.
//!
//! Picture two runners who take turns on the same track, because the weather changes: every round
//! of ours stands beside a round of Redis's, and what is printed is the median of the rounds, with
//! the least and the greatest in brackets, and the load average of the machine. A round in which a
//! reply was not byte for byte as expected, or a server did not hold every item, gives no figure
//! and no ratio, but the reason.
//!
//! `cargo bench --bench replication` runs all in under seven minutes; `-- sync`, `cost`, `frozen`
//! and `idle` are its parts, `-- --rounds 9` repeats more often; the README tells the rest.

#![expect(clippy::expect_used, reason = "a bench that cannot go on stops and says why")]

mod cost;
mod frozen;
mod load;
mod sync;

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use support::node::REDIS;

/// Rounds in the short form.
const ROUNDS: usize = 3;

/// What was asked for on the command line.
struct Wanted {
    rounds: usize,
    /// Of a round of `cost`.
    seconds: f64,
    /// Another build of ours.
    against: Option<PathBuf>,
    /// Tables and ways of `cost` and `idle` whose names hold one of these are left out.
    without: Vec<String>,
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        !self.without.iter().any(|word| name.contains(word.as_str()))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut measuring, mut words) = (false, Vec::new());
    let mut wanted = Wanted { rounds: ROUNDS, seconds: 1.0, against: None, without: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value for the option");
        match argument.as_str() {
            "--bench" => measuring = true,
            "--rounds" => wanted.rounds = value().parse().expect("a number of rounds"),
            "--seconds" => wanted.seconds = value().parse().expect("a number of seconds"),
            "--against" => wanted.against = Some(value().into()),
            "--without" => wanted.without.push(value()),
            option if option.starts_with('-') => {
                println!("replication: skipped, for {option} means nothing here");
                return;
            }
            word => words.push(word.to_owned()),
        }
    }
    if !measuring {
        return; // `cargo test --all-targets`: there is nothing to measure.
    }
    if !Path::new(REDIS).exists() {
        println!(
            "{REDIS} is not there, so nothing is compared: our figures stand alone.\n\
             To have them beside Redis's: apt-get install redis-server (it need not run)"
        );
    }
    let is_wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    if is_wanted("sync") {
        sync::measure(wanted.rounds);
    }
    if is_wanted("cost") {
        cost::measure(&wanted);
    }
    if is_wanted("frozen") {
        frozen::measure(wanted.rounds);
    }
    if is_wanted("idle") {
        cost::measure_idle(&wanted);
    }
}
