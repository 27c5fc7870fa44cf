//! What one peer costs a `set`: throughput, CPU, and waiting.

use std::path::Path;
use std::time::Duration;

use crate::load::Sets;
use crate::support::figures::{self, Rounds};
use crate::support::node::{Node, Pair, REDIS, free_port, number};

const KEYS: u32 = 100_000;
const VALUE_LEN: usize = 1024;

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
        let figures = match outcome {
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

fn ways() -> Vec<Way> {
    let ours_alone = Node::twincached((free_port(), 0), &[], &[]).serving();
    let mut ways = vec![
        Way::alone("twincached alone", ours_alone, 0),
        Way::pair("twincached, async", Pair::twincached(&["--ack", "async"]), false, 0),
        Way::pair("twincached, ack one", Pair::twincached(&["--ack", "one"]), false, 0),
    ];
    if Path::new(REDIS).exists() {
        ways.push(Way::alone("Redis alone", Node::redis(&[]).serving(), 3));
        ways.push(Way::pair("Redis, 1 replica", Pair::redis(), false, 3));
        ways.push(Way::pair("Redis, WAIT 1", Pair::redis(), true, 3));
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

/// Sets from 50 connections as fast as they go.
pub(crate) fn measure(rounds: usize) {
    for pipelined in [1, 8] {
        let mut ways = ways();
        let load = Sets {
            connections: 50,
            pipelined,
            keys: KEYS,
            value_len: VALUE_LEN,
            wait: false,
            duration: Duration::from_millis(1500),
        };
        figures::head(
            &format!("Cost of a peer: 50 connections, {pipelined} sets of 1 KB at a time"),
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
