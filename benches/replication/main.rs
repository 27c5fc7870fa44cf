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
//! and `idle` are its parts, `-- --rounds 9` repeats more often.

#![expect(clippy::expect_used, reason = "a bench that cannot go on stops and says why")]

mod cost;
mod frozen;
mod load;
mod sync;

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use support::node::REDIS;

/// Rounds in the short form.
const ROUNDS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut measuring, mut rounds, mut words) = (false, ROUNDS, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => measuring = true,
            "--rounds" => {
                rounds = arguments.next().and_then(|n| n.parse().ok()).expect("a number of rounds");
            }
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
        sync::measure(rounds);
    }
    if is_wanted("cost") {
        cost::measure(rounds);
    }
    if is_wanted("frozen") {
        frozen::measure(rounds);
    }
    if is_wanted("idle") {
        cost::measure_idle(rounds);
    }
}
