//! What an item costs in memory beyond its key and value: a million items in our server and the
//! same items in the distribution's memcached, one after the other, and what the kernel says each
//! process holds.
//!
//! Picture one client that streams `set ... noreply` down a unix socket, asks `stats` at the end
//! of the stream, and reads `VmRSS` before and after. Then it rewrites every item with another
//! size, in another order, and reads again. A figure is printed only when the server then holds
//! every item: one that has evicted has not paid for them.
//!
//! `cargo bench --bench memory` runs the four workloads, `-- <word>` those whose names hold the
//! word, `-- --rewrites 10` rewrites 300 B to 1 KB items ten times instead.

#![expect(clippy::expect_used, reason = "a bench that cannot go on stops and says why")]

mod support;

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Dice, KEY_LEN, STORED, append_set};

const ITEMS: u32 = 1_000_000;
const MEGABYTES: &str = "12288";
const MEMCACHED: &str = "/usr/bin/memcached";
const BATCH: usize = 256 << 10;

/// Tries, 100 ms apart, for a server to come up, finish its housekeeping, or go.
const PATIENCE: u32 = 600;

/// A million values.
struct Workload {
    name: &'static str,
    /// Lengths of the values at first, both ends included.
    first: (u32, u32),
    /// Lengths they are rewritten with.
    rewritten: (u32, u32),
    rewrites: u32,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "300 B", first: (300, 300), rewritten: (150, 450), rewrites: 1 },
    Workload { name: "1 KB", first: (1024, 1024), rewritten: (512, 1536), rewrites: 1 },
    Workload { name: "4 KB", first: (4096, 4096), rewritten: (2048, 6144), rewrites: 1 },
    Workload { name: "200-2000 B", first: (200, 2000), rewritten: (200, 2000), rewrites: 1 },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut measuring, mut rewrites, mut words) = (false, None, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => measuring = true,
            "--rewrites" => rewrites = arguments.next().and_then(|n| n.parse().ok()),
            option if option.starts_with('-') => {
                println!("memory: skipped, for {option} means nothing here");
                return;
            }
            word => words.push(word.to_owned()),
        }
    }
    if !measuring {
        return; // `cargo test --all-targets`: there is nothing to measure.
    }
    let long = rewrites.map(|rewrites| Workload {
        name: "300-1024 B",
        first: (300, 1024),
        rewritten: (300, 1024),
        rewrites,
    });
    let chosen: Vec<&Workload> = match &long {
        Some(long) => vec![long],
        None => WORKLOADS.iter().collect(),
    };
    println!("\n{ITEMS} items, keys of {KEY_LEN} B; bytes an item beyond key and value\n");
    println!(
        "| values | written | key + value B | twincached | memcached | overhead ratio | RSS ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    for workload in chosen {
        if words.is_empty() || words.iter().any(|word| workload.name.contains(word.as_str())) {
            compare(workload);
        }
    }
}

fn compare(workload: &Workload) {
    let needed = u64::from(ITEMS) * u64::from(workload.rewritten.1) * 5 / 2;
    let available = kilobytes_in("/proc/meminfo", "MemAvailable:") << 10;
    if available < needed {
        println!("| {} | needs {} MiB of free memory |", workload.name, needed >> 20);
        return;
    }
    let ours = measure(env!("CARGO_BIN_EXE_twincached"), workload);
    let theirs =
        if Path::new(MEMCACHED).exists() { measure(MEMCACHED, workload) } else { Vec::new() };
    for (round, ours) in ours.iter().enumerate() {
        let written = if round == 0 { "once".to_owned() } else { format!("+ {round}") };
        let cell = |reading: Option<&Reading>| match reading {
            None => "not installed".to_owned(),
            Some(reading) if reading.items != u64::from(ITEMS) => {
                format!("holds only {} items", reading.items)
            }
            Some(reading) => format!("{:.0}", reading.overhead()),
        };
        let theirs = theirs.get(round);
        let ratios = match theirs {
            Some(theirs) if theirs.complete() && ours.complete() => format!(
                "{:.2} | {:.2}",
                ours.overhead() / theirs.overhead(),
                ours.grown as f64 / theirs.grown as f64
            ),
            _ => "- | -".to_owned(),
        };
        println!(
            "| {} | {written} | {:.0} | {} | {} | {ratios} |",
            workload.name,
            ours.payload as f64 / f64::from(ITEMS),
            cell(Some(ours)),
            cell(theirs),
        );
    }
}

/// What a server held at one moment.
struct Reading {
    items: u64,
    /// Bytes of keys and values.
    payload: u64,
    /// Bytes by which the process has grown.
    grown: u64,
}

impl Reading {
    fn complete(&self) -> bool {
        self.items == u64::from(ITEMS)
    }

    fn overhead(&self) -> f64 {
        (self.grown as f64 - self.payload as f64) / f64::from(ITEMS)
    }
}

/// Starts `program`, writes all items, then rewrites them; a reading after each.
fn measure(program: &str, workload: &Workload) -> Vec<Reading> {
    let server = Server::start(program);
    let mut client = server.connect();
    client.stat("curr_items");
    let before = server.resident();
    let mut dice = Dice::seeded(7);
    let mut readings = Vec::new();
    for round in 0..=workload.rewrites {
        let (low, high) = if round == 0 { workload.first } else { workload.rewritten };
        let payload = client.write_all_items(round, || dice.length(low, high));
        let grown = server.settled(&mut client).saturating_sub(before);
        readings.push(Reading { items: client.stat("curr_items"), payload, grown });
    }
    readings
}

/// A server process on a unix socket in a directory of its own.
struct Server {
    process: Child,
    directory: tempfile::TempDir,
}

impl Server {
    fn start(program: &str) -> Server {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(program);
        command.args(["-m", MEGABYTES, "-t", "2", "-u", "root", "-s"]);
        let process = command
            .arg(directory.path().join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        Server { process, directory }
    }

    fn connect(&self) -> Client {
        let path = self.directory.path().join("socket");
        for _ in 0..PATIENCE {
            if let Ok(stream) = UnixStream::connect(&path) {
                let replies = BufReader::new(stream.try_clone().expect("a second handle"));
                return Client { stream, replies };
            }
            pause();
        }
        panic!("nobody listens on {}", path.display());
    }

    /// Bytes of memory that the process holds.
    fn resident(&self) -> u64 {
        kilobytes_in(&format!("/proc/{}/status", self.process.id()), "VmRSS:") << 10
    }

    /// What it holds once its table has grown and two looks, 300 ms apart, agree.
    fn settled(&self, client: &mut Client) -> u64 {
        let mut before = 0;
        for _ in 0..PATIENCE {
            let expanding = client.stat("hash_is_expanding") != 0;
            let now = self.resident();
            if !expanding && now.abs_diff(before) < 1 << 20 {
                return now;
            }
            before = now;
            std::thread::sleep(Duration::from_millis(300));
        }
        panic!("the server's memory does not come to rest");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that it has ended already, which is all that is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The kernel's figure `name` in one of its tables of `name: 123 kB`.
fn kilobytes_in(table: &str, name: &str) -> u64 {
    let table = std::fs::read_to_string(table).expect("a table in /proc");
    let figure = table.lines().find_map(|line| line.strip_prefix(name)).expect("such a line");
    figure.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

/// The one client.
struct Client {
    stream: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Client {
    /// Writes each item once, in an order of its own for each round; returns bytes of keys and
    /// values.
    fn write_all_items(&mut self, round: u32, mut length: impl FnMut() -> usize) -> u64 {
        // A stride with no factor in common with ITEMS visits every number once.
        let stride = if round == 0 { 1 } else { 618_033 + 10 * round };
        assert_eq!(greatest_common_divisor(stride, ITEMS), 1);
        let mut payload = 0;
        let mut batch = Vec::with_capacity(BATCH * 2);
        let mut number = 0;
        for _ in 0..ITEMS {
            let value_len = length();
            payload += (KEY_LEN + value_len) as u64;
            append_set(&mut batch, STORED, number, value_len, true);
            number = (number + stride) % ITEMS;
            if batch.len() >= BATCH {
                self.stream.write_all(&batch).expect("the server reads");
                batch.clear();
            }
        }
        self.stream.write_all(&batch).expect("the server reads");
        payload
    }

    /// One number of `stats`, 0 if it has none of that name. Answered after all that was sent.
    fn stat(&mut self, name: &str) -> u64 {
        self.stream.write_all(b"stats\r\n").expect("the server reads");
        let mut value = 0;
        loop {
            let mut line = String::new();
            let read = self.replies.read_line(&mut line).expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("END"), None, None) => return value,
                (Some("STAT"), Some(stat), Some(number)) => {
                    if stat == name {
                        value = number.parse().expect("a number");
                    }
                }
                (Some("STAT"), Some(_), None) => {}
                _ => panic!("among the stats: {line}"),
            }
        }
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
