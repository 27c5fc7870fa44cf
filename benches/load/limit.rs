//! A server that is full: whether it keeps to its limit, and how much of that is keys and values, while
//! the sizes of what it is given drift and after everything was rewritten ten times.
//!
//! What is held is asked item by item (`mg` without flags, which answers without the value): counters
//! of the servers count what they like.

use crate::compare::Plan;
use crate::contender::Contender;
use crate::report::{Report, cell};
use crate::support::figures::short;
use crate::support::node::{Control, Node};
use crate::support::port::free_port;
use crate::support::{Dice, KEY_LEN, STORED, append_set, key_digits};

const MEGABYTES: u32 = 256;
const LIMIT: u64 = (MEGABYTES as u64) << 20;
const MIB: f64 = (1 << 20) as f64;

/// By how many limits' worth of new items each drift is made.
const LIMITS_A_DRIFT: u64 = 2;

/// The share of the limit that is rewritten again and again.
const REWRITTEN_SHARE: u64 = 75;
const REWRITES: u32 = 10;

/// Sets sent, or items asked for, together.
const BATCH: u32 = 500;

/// Lengths of values, both included.
const DRIFTS: [(&str, u32, u32); 5] = [
    ("300 B", 300, 300),
    ("then 4 KB", 4096, 4096),
    ("then 1 KB", 1024, 1024),
    ("then 200-2,000 B", 200, 2000),
    ("then 300 B again", 300, 300),
];
const REWRITTEN: (u32, u32) = (300, 1024);

/// Measures each contender once, one after the other.
pub(crate) fn measure(report: &mut Report, contenders: &[Contender; 2], plan: &Plan) {
    report.say(&format!("\n`-m {MEGABYTES}`, {LIMITS_A_DRIFT} times as much written each time\n"));
    report.say(
        "| written | | greatest RSS, % of the limit | keys and values held, % of it | refused % |",
    );
    report.say("|---|---|---|---|---|");
    for contender in contenders {
        for part in [drift, rewrite] {
            if let Err(why) = part(report, contender, plan) {
                let why = cell(&why);
                report.say(&format!("| | {} | not measured: {why} | | |", contender.name));
            }
        }
    }
}

/// Items whose lengths the dice say, the same whenever they are asked.
#[derive(Clone, Copy)]
struct Items {
    first: u32,
    count: u32,
    lengths: (u32, u32),
    seed: u64,
}

impl Items {
    /// As many as take `bytes`.
    fn of(first: u32, bytes: u64, lengths: (u32, u32), seed: u64) -> Items {
        let mean = KEY_LEN as u64 + u64::from(lengths.0 + lengths.1) / 2;
        let count = u32::try_from(bytes / mean).expect("a number of items");
        Items { first, count, lengths, seed }
    }

    fn each(self) -> impl Iterator<Item = (u32, usize)> {
        let mut dice = Dice::seeded(self.seed);
        let (low, high) = self.lengths;
        (self.first..self.first + self.count).map(move |key| (key, dice.length(low, high)))
    }
}

fn drift(report: &mut Report, contender: &Contender, plan: &Plan) -> Result<(), String> {
    let mut server = Full::start(contender, plan)?;
    for (seed, (name, low, high)) in (0u32..).zip(DRIFTS) {
        let items = Items::of(seed << 24, LIMITS_A_DRIFT * LIMIT, (low, high), u64::from(seed));
        server.write(items)?;
        let held = server.bytes_held(items)?;
        report.say(&server.row(name, contender, held));
    }
    Ok(())
}

fn rewrite(report: &mut Report, contender: &Contender, plan: &Plan) -> Result<(), String> {
    let mut server = Full::start(contender, plan)?;
    let items = Items::of(0, LIMIT * REWRITTEN_SHARE / 100, REWRITTEN, 0);
    for seed in 0..=REWRITES {
        server.write(Items { seed: u64::from(seed), ..items })?;
    }
    let held = server.bytes_held(Items { seed: u64::from(REWRITES), ..items })?;
    let name = format!("{REWRITTEN_SHARE} % of the limit, 300-1,024 B, {REWRITES} times anew");
    report.say(&server.row(&name, contender, held));
    Ok(())
}

/// A server that has as much as it may, or soon will.
struct Full {
    node: Node,
    control: Control,
    /// MiB, before anything was written and at most.
    empty: f64,
    greatest: f64,
    /// Sets that were refused for want of memory since the last row, and all.
    refused: u32,
    sets: u32,
}

impl Full {
    fn start(contender: &Contender, plan: &Plan) -> Result<Full, String> {
        let threads = plan.cores.servers.len().to_string();
        let flags = ["-m", &MEGABYTES.to_string(), "-t", &threads].map(str::to_owned);
        let node = Node::memcached(&contender.program, free_port(), &flags)?.try_serving()?;
        let (control, empty) = (node.control()?, node.resident()?);
        Ok(Full { node, control, empty, greatest: empty, refused: 0, sets: 0 })
    }

    fn write(&mut self, items: Items) -> Result<(), String> {
        let mut batch = Vec::new();
        let mut sets = 0;
        for (key, len) in items.each() {
            append_set(&mut batch, STORED, key, len, false);
            sets += 1;
            if sets == BATCH || key + 1 == items.first + items.count {
                self.control.write(&batch)?;
                for _ in 0..sets {
                    match self.control.line()?.as_str() {
                        "STORED" => {}
                        "SERVER_ERROR out of memory storing object" => self.refused += 1,
                        words => return Err(format!("said {words}")),
                    }
                }
                self.sets += sets;
                (sets, batch) = (0, Vec::new());
                self.greatest = self.greatest.max(self.node.resident()?);
            }
        }
        Ok(())
    }

    /// Bytes of keys and values of those of `items` that are there.
    fn bytes_held(&mut self, items: Items) -> Result<u64, String> {
        let mut held = 0;
        let all: Vec<(u32, usize)> = items.each().collect();
        for some in all.chunks(BATCH as usize) {
            let mut batch = Vec::new();
            for &(key, _) in some {
                batch.extend_from_slice(b"mg ");
                batch.extend_from_slice(STORED);
                batch.extend_from_slice(&key_digits(key));
                batch.extend_from_slice(b"\r\n");
            }
            self.control.write(&batch)?;
            for &(_, len) in some {
                match self.control.line()?.as_str() {
                    "HD" => held += (KEY_LEN + len) as u64,
                    "EN" => {}
                    words => return Err(format!("said {words}")),
                }
            }
        }
        Ok(held)
    }

    fn row(&mut self, name: &str, contender: &Contender, held: u64) -> String {
        let grown = (self.greatest - self.empty) * MIB;
        let of_limit = |bytes: f64| short(bytes / LIMIT as f64 * 100.0);
        let (grown, held) = (of_limit(grown), of_limit(held as f64));
        let refused = short(f64::from(self.refused) / f64::from(self.sets) * 100.0);
        (self.refused, self.sets) = (0, 0);
        format!("| {name} | {} | {grown} | {held} | {refused} |", contender.name)
    }
}
