//! What one peer costs a `set`: throughput, CPU, and waiting.
//!
//! Sets as fast as they go are asked of two workers, and of one, as Redis has one: on four cores two
//! workers, two threads of clients and a peer's thread at either end want more cores than there are,
//! and what a peer takes from workers by that is not what it costs where there are enough. What an
//! operator pays for a peer is the CPU of a load that is given: so there is a table with sets at a rate
//! that all of them reach.

use std::path::Path;
use std::time::Duration;

use crate::Wanted;
use crate::load::Sets;
use crate::support::driver::Pace;
use crate::support::figures::{self, Rounds};
use crate::support::node::{Node, Pair, REDIS, TWINCACHED, number, wait_until};
use crate::support::port::free_port;

const KEYS: u32 = 100_000;
const VALUE_LEN: usize = 1024;

/// Sets a second that are below what any server does in any way.
const RATE: f64 = 30_000.0;

/// What our node's thread for peers is called.
const PEERS_THREAD: &str = "peers";

/// Of a rate, what must be reached at least.
const REACHED_MIN: f64 = 0.95;

/// Servers in one of the ways that are compared.
#[derive(Debug)]
struct Way {
    name: String,
    source: Node,
    peer: Option<Node>,
    wait: bool,
    /// The same servers' way without a peer.
    base: String,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    a_second: Rounds,
    source_cpu: Rounds,
    /// Of it the thread that speaks with peers.
    peers_cpu: Rounds,
    all_cpu: Rounds,
    p50: Rounds,
    p99: Rounds,
}

impl Way {
    fn alone(name: &str, source: Node, base: &str) -> Way {
        let (name, base) = (name.to_owned(), base.to_owned());
        Way { name, source, peer: None, wait: false, base, figures: Figures::default() }
    }

    fn pair(name: &str, pair: Pair, wait: bool, base: &str) -> Way {
        Way { peer: Some(pair.peer), wait, ..Way::alone(name, pair.source, base) }
    }

    /// Seconds of the source, of its thread for peers, and of both nodes.
    fn cpu_seconds(&self) -> [f64; 3] {
        let source = self.source.cpu_seconds();
        let both = source + self.peer.as_ref().map_or(0.0, Node::cpu_seconds);
        [source, self.source.cpu_seconds_of(PEERS_THREAD), both]
    }

    /// The figures that this way's are compared with; its own, where those are not wanted.
    fn base<'a>(&'a self, ways: &'a [Way]) -> &'a Figures {
        &ways.iter().find(|way| way.name == self.base).unwrap_or(self).figures
    }

    /// One round; errors refuse its figures.
    fn round(&mut self, load: &Sets) {
        let load = Sets { wait: self.wait, ..load.clone() };
        let before = self.cpu_seconds();
        let fallbacks_before = self.fallbacks();
        let outcome = load.run(&self.source);
        let after = self.cpu_seconds();
        let is_reached = |a_second: f64| match load.pace {
            Pace::Open(rate) => a_second >= REACHED_MIN * rate * load.pipelined as f64,
            Pace::Closed => true,
        };
        let figures = match outcome {
            Ok(outcome) if !is_reached(outcome.operations / outcome.seconds) => {
                "the rate was not reached".to_owned()
            }
            Ok(outcome) if self.fallbacks() == fallbacks_before => {
                let figures = &mut self.figures;
                figures.a_second.add(outcome.operations / outcome.seconds);
                let columns =
                    [&mut figures.source_cpu, &mut figures.peers_cpu, &mut figures.all_cpu];
                for (index, column) in columns.into_iter().enumerate() {
                    column.add((after[index] - before[index]) * 1e6 / outcome.operations);
                }
                figures.p50.add(outcome.latency(0.5));
                figures.p99.add(outcome.latency(0.99));
                return;
            }
            Ok(_) => "replies were given without the peer's acknowledgement".to_owned(),
            Err(why) => why,
        };
        let Figures { a_second, source_cpu, peers_cpu, all_cpu, p50, p99 } = &mut self.figures;
        for rounds in [a_second, source_cpu, peers_cpu, all_cpu, p50, p99] {
            rounds.refuse(&figures);
        }
    }

    fn fallbacks(&self) -> u64 {
        number(&self.source.told("replication").expect("a source"), "ack_fallbacks")
    }

    /// Whether all items are there, on both sides.
    fn check(&mut self, items: u64) {
        let held = self.source.items();
        let mirrored = self.peer.as_ref().map_or(Ok(items), Node::items);
        let both = [held, mirrored];
        if both != [Ok(items), Ok(items)] {
            self.figures.a_second.refuse(&format!("{both:?} of {items} items held"));
        }
    }
}

/// Ours with so many workers, alone and with a peer in both modes, as far as they are wanted.
fn our_ways(
    program: &Path,
    workers: &str,
    base: &str,
    names: &[String; 2],
    wanted: &Wanted,
) -> Vec<Way> {
    let mut ways = Vec::new();
    if wanted.has(base) {
        let flags = ["-t", workers];
        let alone = Node::twincached(program, (free_port(), 0), &[], &flags).serving();
        ways.push(Way::alone(base, alone, base));
    }
    for (name, ack) in names.iter().zip(["async", "one"]) {
        if wanted.has(name) {
            let pair = Pair::twincached(program, &["-t", workers, "--ack", ack]);
            ways.push(Way::pair(name, pair, false, base));
        }
    }
    ways
}

/// All that are wanted.
fn ways(wanted: &Wanted) -> Vec<Way> {
    let mut ways = Vec::new();
    let builds = [(Path::new(TWINCACHED), "")];
    let other = wanted.against.as_deref().map(|program| (program, " (against)"));
    for (program, build) in builds.into_iter().chain(other) {
        for (workers, name, separator) in [("2", "twincached", ""), ("1", "one worker", ",")] {
            let base = format!("{name}{separator} alone{build}");
            let names = ["async", "ack one"].map(|mode| format!("{name}, {mode}{build}"));
            ways.extend(our_ways(program, workers, &base, &names, wanted));
        }
    }
    if Path::new(REDIS).exists() {
        let base = "Redis alone";
        if wanted.has(base) {
            ways.push(Way::alone(base, Node::redis(&[]).serving(), base));
        }
        for (name, wait) in [("Redis, 1 replica", false), ("Redis, WAIT 1", true)] {
            if wanted.has(name) {
                ways.push(Way::pair(name, Pair::redis(), wait, base));
            }
        }
    }
    for way in &ways {
        way.source.fill(KEYS, VALUE_LEN).expect("a source that takes all");
        if let Some(peer) = &way.peer {
            wait_until("a peer has all", || peer.items() == Ok(u64::from(KEYS)));
        }
    }
    ways
}

/// Everybody in turns, and in the other order the next time.
fn interleave(ways: &mut [Way], rounds: usize, load: &Sets) {
    for _ in 0..rounds {
        ways.iter_mut().for_each(|way| way.round(load));
        ways.reverse();
    }
    ways.iter_mut().for_each(|way| way.check(u64::from(KEYS)));
}

/// Sets from 50 connections, as fast as they go and by the clock.
pub(crate) fn measure(wanted: &Wanted) {
    for (pipelined, pace) in [(1, Pace::Closed), (8, Pace::Closed), (1, Pace::Open(RATE))] {
        let load = Sets {
            connections: 50,
            pipelined,
            keys: KEYS,
            value_len: VALUE_LEN,
            wait: false,
            pace,
            duration: Duration::from_secs_f64(wanted.seconds),
        };
        let rate = match pace {
            Pace::Closed => "as fast as they go".to_owned(),
            Pace::Open(rate) => format!("{} a second", figures::short(rate)),
        };
        let title =
            format!("Cost of a peer: 50 connections, {pipelined} sets of 1 KB at a time, {rate}");
        if !wanted.has(&title) {
            continue;
        }
        let mut ways = ways(wanted);
        figures::head(
            &title,
            &[
                "",
                "sets/s",
                "to alone",
                "CPU us a set, source",
                "to alone",
                "its peers thread",
                "CPU with peer",
                "to alone",
            ],
        );
        interleave(&mut ways, 2 * wanted.rounds, &load);
        for way in &ways {
            let (figures, base) = (&way.figures, way.base(&ways));
            println!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                way.name,
                figures.a_second,
                figures.a_second.ratio_to(&base.a_second),
                figures.source_cpu,
                figures.source_cpu.ratio_to(&base.source_cpu),
                figures.peers_cpu,
                figures.all_cpu,
                figures.all_cpu.ratio_to(&base.all_cpu),
            );
        }
        println!("\nload average after: {}", figures::load_average());
    }
}

/// Sets from one connection that waits for each.
pub(crate) fn measure_idle(wanted: &Wanted) {
    let mut ways = ways(wanted);
    let load = Sets {
        connections: 1,
        pipelined: 1,
        keys: KEYS,
        value_len: VALUE_LEN,
        wait: false,
        pace: Pace::Closed,
        duration: Duration::from_millis(700),
    };
    figures::head(
        "Latency of a set: one connection, 1 KB, nothing else to do",
        &["", "p50 us", "to alone", "p99 us", "to alone"],
    );
    interleave(&mut ways, 2 * wanted.rounds, &load);
    for way in &ways {
        let (figures, base) = (&way.figures, way.base(&ways));
        println!(
            "| {} | {} | {} | {} | {} |",
            way.name,
            figures.p50,
            figures.p50.ratio_to(&base.p50),
            figures.p99,
            figures.p99.ratio_to(&base.p99),
        );
    }
    println!("\nload average after: {}", figures::load_average());
}
