//! How long a shard is locked while expired items are taken back: the store alone, in this process, with
//! clocks that stand wherever they are needed.
//!
//! A step of the sweep is measured by the CPU time of the thread that makes it, which somebody else's
//! turn on the core does not lengthen. Clients wait for one step at most, and only those who want
//! something of its shard.
//!
//! What the machine beneath takes from a virtual one lengthens that time nevertheless. How long it makes somebody wait
//! who has no store is seen by as many strolls through other memory, as long on average, after every second's steps.

use std::hint::black_box;

use nix::time::{ClockId, clock_gettime};
use twincached::clock::{Now, UnixSeconds};
use twincached::command::Server;
use twincached::item::Expiry;
use twincached::settings::Settings;
use twincached::store::{Mode, Sweep, Write};

use crate::report::Report;
use crate::support::figures::short;
use crate::support::{Dice, KEY_DIGITS, KEY_LEN, STORED, key_digits};

const ITEMS: u32 = 1_000_000;
const ITEMS_LONG: u32 = 10_000_000;
const STARTED: u32 = 1_800_000_000;

/// Seconds over which expiries are spread.
const SPREAD: u32 = 30;

/// No step should take longer.
const AIM_MICROS: f64 = 1e3;

/// Bytes of memory strolled through: more than any cache holds.
const STROLLED: u32 = 1 << 30;

/// Lengths of values, both included: hundreds in a segment, and thousands.
const LENGTHS: [(u32, u32); 3] = [(10, 10), (100, 100), (200, 2000)];

/// Measures our store.
pub(crate) fn measure(report: &mut Report, is_long: bool) {
    let items = if is_long { ITEMS_LONG } else { ITEMS };
    report.say(&format!("\nThe sweep's steps, {items} items that expire within {SPREAD} s\n"));
    report.say("| values B | | ns an item | count | mean us | p99.9 us | longest us | over 1 ms |");
    report.say("|---|---|---|---|---|---|---|---|");
    for (low, high) in LENGTHS {
        let server = filled(items, low, high);
        let mut stroll = Stroll::calibrated();
        let (mut steps, mut strolls) = (Vec::new(), Vec::new());
        for second in 0..=SPREAD {
            let now = Now::from_unix_seconds(STARTED + second);
            let before = steps.len();
            while timed(&mut steps, || server.store.sweep(now)) == Sweep::More {}
            let writes = stroll.writes_in(mean(&steps[before..]));
            for _ in before..steps.len() {
                timed(&mut strolls, || stroll.write_times(writes));
            }
        }
        let left = server.store.counters().curr_items;
        if left > 0 {
            report.say(&format!("| {low}-{high} | not measured: {left} are left | | | | | | |"));
            continue;
        }
        let an_item = short(steps.iter().sum::<f64>() * 1e3 / f64::from(items));
        report.say(&format!("| {low}-{high} | steps | {an_item} | {} |", spread(steps)));
        report.say(&format!("| | strolls | | {} |", spread(strolls)));
    }
}

/// What is done, its CPU time noted.
fn timed<T>(micros: &mut Vec<f64>, what: impl FnOnce() -> T) -> T {
    let before = thread_micros();
    let done = what();
    micros.push(thread_micros() - before);
    done
}

fn mean(micros: &[f64]) -> f64 {
    micros.iter().sum::<f64>() / micros.len() as f64
}

/// The last columns of the table.
fn spread(mut micros: Vec<f64>) -> String {
    micros.sort_by(f64::total_cmp);
    let over = micros.len() - micros.partition_point(|&micros| micros <= AIM_MICROS);
    let [rarely, longest] = [micros.len() * 999 / 1000, micros.len() - 1].map(|at| micros[at]);
    let [mean, rarely, longest] = [mean(&micros), rarely, longest].map(short);
    format!("{} | {mean} | {rarely} | {longest} | {over}", micros.len())
}

/// Writes to memory at random and does nothing else.
struct Stroll {
    memory: Vec<u8>,
    dice: Dice,
    writes_a_micro: f64,
}

impl Stroll {
    fn calibrated() -> Stroll {
        const WRITES: u32 = 10_000_000;
        let (memory, dice) = (vec![1; STROLLED as usize], Dice::seeded(6));
        let mut stroll = Stroll { memory, dice, writes_a_micro: 0.0 };
        let before = thread_micros();
        stroll.write_times(f64::from(WRITES));
        stroll.writes_a_micro = f64::from(WRITES) / (thread_micros() - before);
        stroll
    }

    fn writes_in(&self, micros: f64) -> f64 {
        micros * self.writes_a_micro
    }

    fn write_times(&mut self, mut writes: f64) {
        while writes > 0.0 {
            let at = self.dice.below(STROLLED) as usize;
            self.memory[at] = black_box(self.memory[at].wrapping_add(1));
            writes -= 1.0;
        }
    }
}

fn filled(items: u32, low: u32, high: u32) -> Server {
    let payload = items as usize * (KEY_LEN + high as usize + 64);
    let memory_limit = (256 << 20) + payload * 3 / 2;
    let server = Server::new(Settings { memory_limit, ..Settings::default() });
    let now = Now::from_unix_seconds(STARTED - 1);
    let (mut dice, value) = (Dice::seeded(5), vec![b'v'; high as usize]);
    let mut key = [0; KEY_LEN];
    key[..KEY_LEN - KEY_DIGITS].copy_from_slice(STORED);
    for number in 0..items {
        key[KEY_LEN - KEY_DIGITS..].copy_from_slice(&key_digits(number));
        let expiry = Expiry::at(UnixSeconds(STARTED + dice.below(SPREAD)));
        let write = Write::new(Mode::Set, &value[..dice.length(low, high)], 0, expiry);
        server.store.write(server.store.key(&key), &write, now).expect("room for an item");
    }
    server
}

/// CPU time of this thread.
fn thread_micros() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread's clock");
    time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3
}
