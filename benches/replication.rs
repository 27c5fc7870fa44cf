//! What a peer costs, and how fast an empty node gets everything, beside Redis and its replica in
//! the same run. `cargo bench --bench replication`; a part of it: `-- sync` or `-- cost`.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench may panic, and measures the machine's time"
)]

#[path = "replication/pair.rs"]
mod pair;
#[path = "replication/wire.rs"]
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pair::{Kind, Pair};
use wire::Wire;

/// How long each throughput is measured.
const TIME: Duration = Duration::from_secs(3);

/// Connections that set, each with so many requests on their way at once.
const CLIENTS: u32 = 4;
const DEPTH: u32 = 16;

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    if is_wanted("sync") {
        println!("full sync of an empty node while its source serves 1 client");
        for (items, bytes) in [(1_000_000, 100), (200_000, 1024)] {
            for kind in [Kind::Twincached(&["--ack", "async"]), Kind::Redis] {
                full_sync(kind, items, bytes);
            }
        }
    }
    if is_wanted("cost") {
        println!(
            "sets of 100 bytes, {CLIENTS} connections with {DEPTH} requests each on their way"
        );
        for round in 1..=2 {
            println!("round {round}");
            for kind in [
                Kind::Twincached(&["--ack", "async"]),
                Kind::Twincached(&["--ack", "one"]),
                Kind::Redis,
            ] {
                cost(kind);
            }
        }
    }
}

/// The longest wait of all but one in a thousand.
fn p999(mut waits: Vec<Duration>) -> Duration {
    waits.sort_unstable();
    waits.get(waits.len() * 999 / 1000).copied().unwrap_or_default()
}

/// One set a time until `stop`, and how long each took.
fn waits(kind: Kind, port: u16, bytes: usize, stop: &AtomicBool) -> Vec<Duration> {
    let mut wire = Wire::to(kind, port);
    let mut waits = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        wire.set_many(0, 1, bytes);
        waits.push(since.elapsed());
        thread::sleep(Duration::from_micros(200));
    }
    waits
}

/// Does `work` while a client sets; how long the work took, and how long sets took meanwhile.
fn beside_a_client(kind: Kind, port: u16, bytes: usize, work: impl FnOnce()) -> [Duration; 2] {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let waits = scope.spawn(|| waits(kind, port, bytes, &stop));
        let since = Instant::now();
        work();
        let took = since.elapsed();
        stop.store(true, Ordering::Relaxed);
        [took, p999(waits.join().unwrap())]
    })
}

fn full_sync(kind: Kind, items: u32, bytes: usize) {
    let mut pair = Pair::source_only(kind);
    let mut wire = Wire::to(kind, pair.source_port());
    for first in (0..items).step_by(1_000) {
        wire.set_many(first, 1_000, bytes);
    }
    assert_eq!(wire.items(), u64::from(items));
    let port = pair.source_port();
    let [_, quiet] = beside_a_client(kind, port, bytes, || thread::sleep(TIME));
    let [took, during] = beside_a_client(kind, port, bytes, || {
        pair.start_other();
        pair.wait_until_the_other_holds(u64::from(items));
    });
    let rate = f64::from(items) / took.as_secs_f64();
    println!(
        "    {:<24} {items:>8} x {bytes:>5} B: {took:>7.2?}, {:>4.0} k items/s, {:>4.0} MB/s; source p99.9 {during:.2?}, \
         {quiet:.2?} without a sync",
        kind.name(),
        rate / 1e3,
        rate * bytes as f64 / 1e6
    );
}

/// Sets a second, and processor microseconds of the source a set.
fn throughput(pair: &Pair) -> (f64, f64) {
    let stop = AtomicBool::new(false);
    let ticks = pair.source_ticks();
    let since = Instant::now();
    let sets: u64 = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut wire = Wire::to(pair.kind(), pair.source_port());
                    let (mut sets, mut next) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        wire.set_many(client * 20_000 + next, DEPTH, 100);
                        next = (next + DEPTH) % 20_000;
                        sets += u64::from(DEPTH);
                    }
                    sets
                })
            })
            .collect();
        thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let seconds = since.elapsed().as_secs_f64();
    let busy = (pair.source_ticks() - ticks) as f64 / 100.0;
    (sets as f64 / seconds, busy * 1e6 / sets as f64)
}

fn cost(kind: Kind) {
    let mut pair = Pair::source_only(kind);
    throughput(&pair);
    let (alone, cpu_alone) = throughput(&pair);
    pair.start_other();
    pair.wait_until_linked();
    throughput(&pair);
    let (with, cpu_with) = throughput(&pair);
    println!(
        "    {:<24} {:>6.0} k sets/s alone, {:>6.0} k with a peer ({:+.0} %); source's processor {cpu_alone:.2} us a set \
         alone, {cpu_with:.2} with a peer",
        kind.name(),
        alone / 1e3,
        with / 1e3,
        (with / alone - 1.0) * 100.0
    );
}
