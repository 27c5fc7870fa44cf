//! What one peer costs a `set`: throughput, CPU, and waiting.
//!
//! Sets as fast as they go are asked of two workers, and of one, as Redis has one: on four cores two
//! workers, two threads of clients and a peer's thread at either end want more cores than there are,
//! and what a peer takes from workers by that is not what it costs where there are enough. What an
//! operator pays for a peer is the CPU of a load that is given: so there is a table with sets at a rate
//! that all of them reach.

use std::path::Path;
use std::time::Duration;

use crate::load::Sets;
use crate::support::driver::Pace;
use crate::support::figures::{self, Rounds};
use crate::support::node::{Node, Pair, REDIS, free_port, number};

const KEYS: u32 = 100_000;
const VALUE_LEN: usize = 1024;

/// Sets a second that are below what any server does in any way.
const RATE: f64 = 30_000.0;

/// Of a rate, what must be reached at least.
const REACHED_MIN: f64 = 0.95;

/// Servers in one of the ways that are compared.
#[derive(Debug)]
struct Way {
    name: &'static str,
    source: Node,
    peer: Option<Node>,
    wait: bool,
    /// Of the same servers' ways without a peer.
    base: usize,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    a_second: Rounds,
    source_cpu: Rounds,
    all_cpu: Rounds,
    p50: Rounds,
    p99: Rounds,
}

impl Way {
    fn alone(name: &'static str, source: Node, base: usize) -> Way {
        Way { name, source, peer: None, wait: false, base, figures: Figures::default() }
    }

    fn pair(name: &'static str, pair: Pair, wait: bool, base: usize) -> Way {
        let (source, peer) = (pair.source, Some(pair.peer));
        Way { name, source, peer, wait, base, figures: Figures::default() }
    }

    fn cpu_seconds(&self) -> (f64, f64) {
        let source = self.source.cpu_seconds();
        (source, source + self.peer.as_ref().map_or(0.0, Node::cpu_seconds))
    }

    /// One round; errors refuse its figures.
    fn round(&mut self, load: &Sets) {
        let load = Sets { wait: self.wait, ..load.clone() };
        let (source_before, all_before) = self.cpu_seconds();
        let fallbacks_before = self.fallbacks();
        let outcome = load.run(&self.source);
        let (source, all) = self.cpu_seconds();
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
                figures.source_cpu.add((source - source_before) * 1e6 / outcome.operations);
                figures.all_cpu.add((all - all_before) * 1e6 / outcome.operations);
                figures.p50.add(outcome.latency(0.5));
                figures.p99.add(outcome.latency(0.99));
                return;
            }
            Ok(_) => "replies were given without the peer's acknowledgement".to_owned(),
            Err(why) => why,
        };
        for rounds in [&mut self.figures.a_second, &mut self.figures.source_cpu] {
            rounds.refuse(&figures);
        }
        for rounds in [&mut self.figures.all_cpu, &mut self.figures.p50, &mut self.figures.p99] {
            rounds.refuse(&figures);
        }
    }

    fn fallbacks(&self) -> u64 {
        number(&self.source.control().told("replication"), "ack_fallbacks")
    }

    /// Whether all items are there, on both sides.
    fn check(&mut self, items: u64) {
        let held = self.source.control().items();
        let mirrored = self.peer.as_ref().map_or(items, |peer| peer.control().items());
        if (held, mirrored) != (items, items) {
            self.figures.a_second.refuse(&format!("{held} and {mirrored} of {items} items held"));
        }
    }
}

/// Ours with so many workers, alone and with a peer in both modes.
fn our_ways(workers: &'static str, names: [&'static str; 3], base: usize) -> [Way; 3] {
    let alone = Node::twincached((free_port(), 0), &[], &["-t", workers]).serving();
    let pair = |ack| Pair::twincached(&["-t", workers, "--ack", ack]);
    [
        Way::alone(names[0], alone, base),
        Way::pair(names[1], pair("async"), false, base),
        Way::pair(names[2], pair("one"), false, base),
    ]
}

fn ways() -> Vec<Way> {
    let two = ["twincached alone", "twincached, async", "twincached, ack one"];
    let one = ["one worker, alone", "one worker, async", "one worker, ack one"];
    let mut ways = Vec::from(our_ways("2", two, 0));
    ways.extend(our_ways("1", one, 3));
    if Path::new(REDIS).exists() {
        ways.push(Way::alone("Redis alone", Node::redis(&[]).serving(), 6));
        ways.push(Way::pair("Redis, 1 replica", Pair::redis(), false, 6));
        ways.push(Way::pair("Redis, WAIT 1", Pair::redis(), true, 6));
    }
    for way in &ways {
        way.source.control().fill(KEYS, VALUE_LEN);
        if let Some(peer) = &way.peer {
            let mut control = peer.control();
            crate::support::node::wait_until("a peer has all", || {
                control.items() == u64::from(KEYS)
            });
        }
    }
    ways
}

fn interleave(ways: &mut [Way], rounds: usize, load: &Sets) {
    for _ in 0..rounds {
        ways.iter_mut().for_each(|way| way.round(load));
    }
    ways.iter_mut().for_each(|way| way.check(u64::from(KEYS)));
}

/// Sets from 50 connections, as fast as they go and by the clock.
pub(crate) fn measure(rounds: usize) {
    for (pipelined, pace) in [(1, Pace::Closed), (8, Pace::Closed), (1, Pace::Open(RATE))] {
        let mut ways = ways();
        let load = Sets {
            connections: 50,
            pipelined,
            keys: KEYS,
            value_len: VALUE_LEN,
            wait: false,
            pace,
            duration: Duration::from_millis(1000),
        };
        let rate = match pace {
            Pace::Closed => "as fast as they go".to_owned(),
            Pace::Open(rate) => format!("{} a second", figures::short(rate)),
        };
        figures::head(
            &format!("Cost of a peer: 50 connections, {pipelined} sets of 1 KB at a time, {rate}"),
            &[
                "",
                "sets/s",
                "to alone",
                "CPU us a set, source",
                "to alone",
                "CPU with peer",
                "to alone",
            ],
        );
        interleave(&mut ways, 2 * rounds, &load);
        for way in &ways {
            let (figures, base) = (&way.figures, &ways[way.base].figures);
            println!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                way.name,
                figures.a_second,
                figures.a_second.ratio_to(&base.a_second),
                figures.source_cpu,
                figures.source_cpu.ratio_to(&base.source_cpu),
                figures.all_cpu,
                figures.all_cpu.ratio_to(&base.all_cpu),
            );
        }
        println!("\nload average after: {}", figures::load_average());
    }
}

/// Sets from one connection that waits for each.
pub(crate) fn measure_idle(rounds: usize) {
    let mut ways = ways();
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
    interleave(&mut ways, 2 * rounds, &load);
    for way in &ways {
        let (figures, base) = (&way.figures, &ways[way.base].figures);
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
