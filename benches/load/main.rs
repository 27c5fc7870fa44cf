//! Our server beside memcached, as a client and the kernel see them: real processes on loopback, on
//! cores of their own, in turns, in the same run.
//!
//! `scenario` says what is compared, `contender` starts and fills the servers, `compare` lets them
//! take turns and judges whether the figures may be compared, `report` prints, `curves` draws, `bare` is the
//! server that nobody can be below. `expiry`,
//! `sweeping` and `limit` are about memory. The clients are in `support/driver`.
//!
//! `cargo bench --bench load -- --against memcached` takes under five minutes; see the README.

#![expect(clippy::expect_used, reason = "a bench that cannot go on stops and says why")]

mod bare;
mod compare;
mod contender;
mod curves;
mod expiry;
mod limit;
mod report;
mod scenario;
mod sweeping;

#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use compare::{Plan, compare};
use contender::{Contender, Office};
use report::Report;
use support::cores::{Cores, stay_on};
use support::node::{MEMCACHED, TWINCACHED};

/// In the short form.
const ROUNDS: usize = 3;
const SECONDS: f64 = 0.6;

/// The share of the servers' cores that others may use in a round.
const OTHERS_AT_MOST: f64 = 0.10;

/// What was asked for on the command line.
struct Wanted {
    ours: PathBuf,
    against: PathBuf,
    rounds: usize,
    seconds: f64,
    threads: usize,
    others_at_most: f64,
    is_long: bool,
    record: Option<PathBuf>,
    words: Vec<String>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == bare::OPTION) {
        return bare::serve(&arguments);
    }
    let mut arguments = arguments.into_iter();
    let mut wanted = Wanted {
        ours: TWINCACHED.into(),
        against: MEMCACHED.into(),
        rounds: ROUNDS,
        seconds: SECONDS,
        threads: 2,
        others_at_most: OTHERS_AT_MOST,
        is_long: false,
        record: None,
        words: Vec::new(),
    };
    let mut measuring = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value for the option");
        match argument.as_str() {
            "--bench" => measuring = true,
            "--ours" => wanted.ours = value().into(),
            "--against" => {
                let program = value();
                let is_usual = program == "memcached";
                wanted.against = if is_usual { MEMCACHED.into() } else { program.into() };
            }
            "--rounds" => wanted.rounds = value().parse().expect("a number of rounds"),
            "--seconds" => wanted.seconds = value().parse().expect("a number of seconds"),
            "--threads" => wanted.threads = value().parse().expect("a number of threads"),
            "--others" => wanted.others_at_most = value().parse().expect("a share, as 0.1"),
            "--long" => wanted.is_long = true,
            "--record" => wanted.record = Some(value().into()),
            option if option.starts_with('-') => {
                println!("load: skipped, for {option} means nothing here");
                return;
            }
            word => wanted.words.push(word.to_owned()),
        }
    }
    if measuring {
        run(&wanted);
    }
}

fn run(wanted: &Wanted) {
    let Some(cores) = Cores::with(wanted.threads) else {
        println!("not compared: short of cores, {} for servers leave none", wanted.threads);
        return;
    };
    stay_on(&cores.clients);
    let contenders = [&wanted.ours, &wanted.against].map(|path| Contender::at(path.clone()));
    let plan = Plan {
        rounds: wanted.rounds,
        duration: Duration::from_secs_f64(wanted.seconds),
        cores,
        others_at_most: wanted.others_at_most,
    };
    let office = Office::open();
    let mut report = Report::new(wanted.record.clone());
    report.begin(&contenders, &plan);
    for scenario in &scenario::ALL {
        let is_named = wanted.words.iter().any(|word| scenario.name.contains(word.as_str()));
        if is_named || (wanted.words.is_empty() && (wanted.is_long || !scenario.is_long)) {
            report.add(&compare(scenario, &contenders, &plan, &office), &contenders);
        }
    }
    let is_asked = |part: &str| wanted.words.iter().any(|word| word == part);
    if is_asked("curves") {
        curves::draw(&mut report, &contenders, &plan, &office, wanted.is_long);
    }
    if is_asked("expiry") {
        expiry::measure(&mut report, &contenders, &plan, wanted.is_long);
        sweeping::measure(&mut report, wanted.is_long);
    }
    if is_asked("limit") {
        limit::measure(&mut report, &contenders, &plan);
    }
    report.end();
}
