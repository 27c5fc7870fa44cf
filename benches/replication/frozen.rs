//! A peer that stands still while the other node is written to as fast as it goes.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::load::Sets;
use crate::support::driver::Pace;
use crate::support::exchange::{Protocol, append_key};
use crate::support::figures::{self, Rounds};
use crate::support::node::{Control, Pair, REDIS, TWINCACHED, is_in_time, moment};

const KEYS: u32 = 100_000;
const VALUE_LEN: usize = 1024;
const WELL: Duration = Duration::from_secs(2);
/// Longer than it takes to give a silent peer up.
const FROZEN: Duration = Duration::from_secs(5);
const HEALED_AFTER_MAX: Duration = Duration::from_secs(30);
const KEYS_A_GET: u32 = 100;

#[derive(Debug, Default)]
struct Figures {
    well: Rounds,
    frozen: Rounds,
    worst: Rounds,
    a_second: Rounds,
    grown: Rounds,
    healed: Rounds,
}

/// Ours in its default mode, and Redis with one replica.
pub(crate) fn measure(rounds: usize) {
    figures::head(
        "A frozen peer: 50 connections set 1 KB for 2 s, then for 5 s with the peer stopped",
        &[
            "",
            "p99.9 us before",
            "p99.9 us frozen",
            "to before",
            "max us frozen",
            "sets/s to before",
            "MiB grown",
            "s from SIGCONT until identical",
        ],
    );
    let has_redis = Path::new(REDIS).exists();
    let (mut ours, mut redis) = (Figures::default(), Figures::default());
    for _ in 0..rounds.div_ceil(2) {
        ours.round(&Pair::twincached(Path::new(TWINCACHED), &[]));
        if has_redis {
            redis.round(&Pair::redis());
        }
    }
    ours.print("twincached, ack one");
    if has_redis {
        redis.print("Redis, 1 replica");
    }
    println!("\nload average after: {}", figures::load_average());
}

impl Figures {
    fn round(&mut self, pair: &Pair) {
        pair.source.fill(KEYS, VALUE_LEN).expect("a source that takes all");
        let load = Sets {
            connections: 50,
            pipelined: 1,
            keys: KEYS,
            value_len: VALUE_LEN,
            wait: false,
            pace: Pace::Closed,
            duration: WELL,
        };
        let well = load.run(&pair.source);
        let before = pair.source.resident().expect("a source");
        pair.peer.signal(Signal::SIGSTOP);
        let frozen = Sets { duration: FROZEN, ..load }.run(&pair.source);
        let grown = pair.source.resident().expect("a source") - before;
        pair.peer.signal(Signal::SIGCONT);
        let woken = moment();
        let healed = is_in_time(HEALED_AFTER_MAX, || pair.is_linked() && is_identical(pair));
        let healed_after = woken.elapsed().as_secs_f64();
        match (well, frozen) {
            (Ok(well), Ok(frozen)) if healed => {
                self.well.add(well.latency(0.999));
                self.frozen.add(frozen.latency(0.999));
                self.worst.add(frozen.latency(1.0));
                self.a_second
                    .add(frozen.operations / frozen.seconds * well.seconds / well.operations);
                self.grown.add(grown.max(0.0));
                self.healed.add(healed_after);
            }
            (Ok(_), Ok(_)) => self.well.refuse("the two were not the same again within 30 s"),
            (Err(why), _) | (_, Err(why)) => self.well.refuse(&why),
        }
    }

    fn print(&self, name: &str) {
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            self.well,
            self.frozen,
            self.frozen.ratio_to(&self.well),
            self.worst,
            self.a_second,
            self.grown,
            self.healed,
        );
    }
}

/// Whether both have every key with the same version (Redis: the same end of the same stream, which
/// [`Pair::is_linked`] has seen, and as many keys).
fn is_identical(pair: &Pair) -> bool {
    let (Ok(mut source), Ok(mut peer)) = (pair.source.control(), pair.peer.control()) else {
        return false;
    };
    match pair.source.protocol {
        Protocol::Redis => source.items() == peer.items(),
        Protocol::Memcached => (0..KEYS).step_by(KEYS_A_GET as usize).all(|first| {
            let ours = versions(&mut source, first);
            ours.len() == KEYS_A_GET as usize && ours == versions(&mut peer, first)
        }),
    }
}

/// Keys from `first` on with their cas uniques.
fn versions(control: &mut Control, first: u32) -> HashMap<String, String> {
    let mut request = b"gets".to_vec();
    for number in first..first + KEYS_A_GET {
        request.push(b' ');
        append_key(&mut request, number);
    }
    control.send(&String::from_utf8(request).expect("keys are ASCII")).expect("a server");
    let mut versions = HashMap::new();
    loop {
        let head = control.line().expect("a server");
        let mut words = head.split(' ');
        match (words.next(), words.next(), words.next(), words.next(), words.next()) {
            (Some("VALUE"), Some(key), Some(_), Some(_), Some(version)) => {
                versions.insert(key.to_owned(), version.to_owned());
                control.line().expect("a server");
            }
            _ => return versions,
        }
    }
}
