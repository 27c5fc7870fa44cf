//! Items that nobody asks for expire, a few every second: how late they are gone, what that costs, and
//! what a client notices meanwhile. The same client asks as long before any expires: what it waits then is
//! the machine's doing.

use std::time::{Duration, SystemTime};

use crate::compare::Plan;
use crate::contender::Contender;
use crate::report::{Report, cell};
use crate::support::cores::stay_on;
use crate::support::driver::{Load, Outcome, Pace, Script};
use crate::support::exchange::Exchange;
use crate::support::figures::short;
use crate::support::node::{Node, moment};
use crate::support::port::free_port;
use crate::support::socket::Transport;
use crate::support::{Dice, NUMBERS, STORED, append_set, append_set_until};

const ITEMS: u32 = 1_000_000;
const ITEMS_LONG: u32 = 10_000_000;
const VALUE_LEN: usize = 100;

/// Seconds over which the items' expiries are spread evenly.
const SPREAD: u32 = 30;

/// By how much of a second's share all seconds together may be off.
const UNEVEN: f64 = 0.05;

/// Items a second that a server takes at the least.
const FILLED_A_SECOND: u32 = 150_000;

/// Keys that stay, for the client that notices, and how often it asks.
const LASTING: u32 = 1000;
const ASKED_A_SECOND: f64 = 1000.0;

/// Between two looks at how many items there are.
const LOOK: Duration = Duration::from_millis(100);

const BATCH: usize = 256 << 10;

/// Measures each contender once, one after the other.
pub(crate) fn measure(
    report: &mut Report,
    contenders: &[Contender; 2],
    plan: &Plan,
    is_long: bool,
) {
    let items = if is_long { ITEMS_LONG } else { ITEMS };
    report.say(&format!(
        "\n{items} items of {VALUE_LEN} B that expire within {SPREAD} s, the same share each second\n"
    ));
    report.say(
        "| | greatest delay s | left 2 s after the end | CPU us an item | p99 us | p99.9 us | max us |",
    );
    report.say("|---|---|---|---|---|---|---|");
    for contender in contenders {
        match expire(contender, plan, items) {
            Ok([before, meanwhile]) => {
                report.say(&format!(
                    "| {}, before any expires | - | - | - | {before} |",
                    contender.name
                ));
                report.say(&format!("| {} | {meanwhile} |", contender.name));
            }
            Err(why) => {
                report.say(&format!("| {} | not measured: {} |", contender.name, cell(&why)));
            }
        }
    }
}

/// What the client waited before any expired, and all that there is to say of the time in which they do.
fn expire(contender: &Contender, plan: &Plan, items: u32) -> Result<[String; 2], String> {
    let threads = plan.cores.servers.len().to_string();
    let flags = ["-m", "6144", "-t", threads.as_str()].map(str::to_owned);
    stay_on(&plan.cores.servers);
    let node = Node::memcached(&contender.program, free_port(), &flags);
    stay_on(&plan.cores.clients);
    let node = node?.try_serving()?;
    // The first second in which any expires comes when all are there, and the client has asked as long.
    let first = since_1970().as_secs() + u64::from(items / FILLED_A_SECOND + SPREAD) + 3;
    fill(&node, items, first)?;
    if unix_seconds() >= (first - u64::from(SPREAD)) as f64 {
        return Err("filled too slowly".to_owned());
    }
    let load = Load {
        servers: vec![node.addr()],
        transport: Transport::Tcp,
        connections: 8,
        threads: 1,
        reconnecting: false,
        script: Script::Drawn(vec![Exchange::touch()]),
        keys: LASTING,
        pace: Pace::Open(ASKED_A_SECOND),
        duration: Duration::from_secs(600),
    };
    until(first - u64::from(SPREAD));
    let client = load.start(|| {});
    until(first);
    let before = waits(&client.stop()?);
    let cpu_before = node.cpu_seconds();
    let client = load.start(|| {});
    let mut control = node.control()?;
    let mut greatest = 0.0_f64;
    let end = first as f64 + f64::from(SPREAD);
    let started = moment();
    let held_now = |told: u64| told.saturating_sub(u64::from(LASTING)) as f64;
    while unix_seconds() < end + 2.0 {
        let held = held_now(control.items()?);
        // Expiries are whole seconds: all of a second's items go at its beginning.
        // The dice do not give every second quite the same.
        let gone = (f64::from(items) - held) / f64::from(items) * f64::from(SPREAD) + UNEVEN;
        let due = (unix_seconds() - first as f64).floor().min(f64::from(SPREAD - 1)) + 1.0;
        if gone < due {
            greatest = greatest.max(unix_seconds() - first as f64 - gone.floor());
        }
        std::thread::sleep(LOOK);
    }
    let left = held_now(control.items()?);
    let seconds = started.elapsed().as_secs_f64();
    let cpu = node.cpu_seconds() - cpu_before;
    let meanwhile = waits(&client.stop()?);
    let row = format!(
        "{} | {} | {} ({} % of a core) | {meanwhile}",
        short(greatest),
        left,
        short(cpu * 1e6 / (f64::from(items) - left)),
        short(cpu / seconds * 100.0),
    );
    Ok([before, row])
}

/// What a client waited at most, but for one in a hundred, in a thousand, and for none.
fn waits(outcome: &Outcome) -> String {
    let waited = [0.99, 0.999, 1.0].map(|share| short(outcome.latency(share)));
    waited.join(" | ")
}

fn fill(node: &Node, items: u32, first: u64) -> Result<(), String> {
    let mut control = node.control()?;
    let mut dice = Dice::seeded(3);
    let mut batch = Vec::with_capacity(2 * BATCH);
    for kept in 0..LASTING {
        append_set(&mut batch, NUMBERS, kept, 1, true);
    }
    for key in 0..items {
        let expiry = first + u64::from(dice.below(SPREAD));
        append_set_until(&mut batch, STORED, key, expiry, VALUE_LEN, true);
        if batch.len() >= BATCH || key + 1 == items {
            control.write(&batch)?;
            batch.clear();
        }
    }
    let held = control.items()?;
    if held == u64::from(items + LASTING) { Ok(()) } else { Err(format!("took {held} items")) }
}

/// Sleeps until a second of the wall clock.
fn until(second: u64) {
    std::thread::sleep(Duration::from_secs_f64((second as f64 - unix_seconds()).max(0.0)));
}

fn unix_seconds() -> f64 {
    since_1970().as_secs_f64()
}

/// The wall clock, by which items expire.
#[expect(clippy::disallowed_methods, reason = "a bench measures with the machine's clock")]
fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a time after 1970")
}
