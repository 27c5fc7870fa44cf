//! An empty node joins a full one that is busy: how long until it has everything, and what the full
//! one's clients notice.
//!
//! Twice: with all the machine's cores for everybody, and with two of them for the source alone. On one
//! machine the node that joins and the clients themselves take cores from a source that in reality has
//! its machine to itself, and a client that stands in line for a core tells of a slow source. With
//! cores of its own what is told of the source is of its own making.

use std::path::Path;
use std::time::Duration;

use crate::load::paced;
use crate::support::KEY_LEN;
use crate::support::cores::{Cores, stay_on};
use crate::support::figures::{self, Rounds};
use crate::support::node::{Node, REDIS, TWINCACHED, moment, wait_until};
use crate::support::port::free_port;

/// How long the full node is watched before somebody joins, and again when he serves: what both hold
/// is compared then.
const CALM: Duration = Duration::from_millis(1500);

#[derive(Debug, Default)]
struct Figures {
    seconds: Rounds,
    items_a_second: Rounds,
    megabytes_a_second: Rounds,
    calm: Rounds,
    syncing: Rounds,
    joined: Rounds,
    worst: Rounds,
    source_cpu: Rounds,
}

/// Cores that a source has to itself: one for each of its workers.
const SOURCE_CORES: usize = 2;

/// With all cores for everybody, then with some for the source alone.
pub(crate) fn measure(rounds: usize) {
    let title = "Full sync into an empty node, 8,000 requests/s on the source meanwhile";
    measure_on(None, title, rounds);
    let Some(cores) = Cores::with(SOURCE_CORES) else {
        return println!("\nno second time: there are no cores for a source alone");
    };
    let title = format!("{title}, two cores for the source alone");
    let all = [cores.servers.clone(), cores.clients.clone()].concat();
    measure_on(Some(&cores), &title, rounds);
    stay_on(&all);
}

/// Both workloads, ours and Redis in turns.
fn measure_on(cores: Option<&Cores>, title: &str, rounds: usize) {
    figures::head(
        title,
        &[
            "",
            "s",
            "items/s",
            "MB/s",
            "p99.9 us before",
            "p99.9 us meanwhile",
            "to before",
            "p99.9 us after",
            "max us meanwhile",
            "CPU s of the source",
        ],
    );
    for (name, items, value_len) in
        [("1 M x 100 B", 1_000_000, 100), ("200 k x 1 KB", 200_000, 1024)]
    {
        let (mut ours, mut redis) = (Figures::default(), Figures::default());
        let (ports, joining) = ((free_port(), free_port()), (free_port(), free_port()));
        if let Some(cores) = cores {
            stay_on(&cores.servers);
        }
        let source = Node::twincached(Path::new(TWINCACHED), ports, &[joining.1], &[]).serving();
        source.fill(items, value_len).expect("a source that takes all");
        let redis_source = Path::new(REDIS).exists().then(|| {
            let source = Node::redis(&[]).serving();
            source.fill(items, value_len).expect("a source that takes all");
            source
        });
        if let Some(cores) = cores {
            stay_on(&cores.clients);
        }
        for _ in 0..rounds {
            let start = || {
                let node = Node::twincached(Path::new(TWINCACHED), joining, &[ports.1], &[]);
                wait_until("the new node runs", || node.has_thread("peers"));
                node
            };
            ours.round(&source, items, value_len, start, |node| {
                wait_until("the new node is ready", || node.items() == Ok(u64::from(items)));
            });
            let Some(source) = &redis_source else { continue };
            let replica = Node::redis(&[]).serving();
            redis.round(
                source,
                items,
                value_len,
                || replica,
                |replica| {
                    let mut control = replica.control().expect("a replica");
                    control
                        .ask(&format!("replicaof 127.0.0.1 {}", source.port))
                        .expect("an answer");
                    wait_until("the replica is ready", || {
                        let told = control.told("replication").expect("a replica");
                        told.get("master_link_status").is_some_and(|status| status == "up")
                            && control.items() == Ok(u64::from(items))
                    });
                },
            );
        }
        ours.print(&format!("{name}, twincached"));
        if redis_source.is_some() {
            redis.print(&format!("{name}, Redis"));
            println!(
                "| {name}, ratio | {} | {} | {} | {} | {} | | {} | {} | {} |",
                ours.seconds.ratio_to(&redis.seconds),
                ours.items_a_second.ratio_to(&redis.items_a_second),
                ours.megabytes_a_second.ratio_to(&redis.megabytes_a_second),
                ours.calm.ratio_to(&redis.calm),
                ours.syncing.ratio_to(&redis.syncing),
                ours.joined.ratio_to(&redis.joined),
                ours.worst.ratio_to(&redis.worst),
                ours.source_cpu.ratio_to(&redis.source_cpu),
            );
        }
    }
    println!("\nload average after: {}", figures::load_average());
}

impl Figures {
    /// The node that joins is started, and then clients: a process that begins takes its core for three
    /// milliseconds, which in reality is another machine's.
    fn round(
        &mut self,
        source: &Node,
        items: u32,
        value_len: usize,
        start: impl FnOnce() -> Node,
        join: impl FnOnce(&Node),
    ) {
        let watched = || {
            let clients = paced(source, items, value_len);
            std::thread::sleep(CALM);
            clients.stop()
        };
        let calm = watched();
        let (cpu, started) = (source.cpu_seconds(), moment());
        let joined = start();
        let paced = paced(source, items, value_len);
        join(&joined);
        let seconds = started.elapsed().as_secs_f64();
        let cpu = source.cpu_seconds() - cpu;
        let syncing = paced.stop();
        let after = watched();
        let held = [source.items(), joined.items()];
        if held != [Ok(u64::from(items)), Ok(u64::from(items))] {
            return self.seconds.refuse(&format!("{held:?} of {items} items held"));
        }
        let (calm, syncing, after) = match (calm, syncing, after) {
            (Ok(calm), Ok(syncing), Ok(after)) => (calm, syncing, after),
            (Err(why), _, _) | (_, Err(why), _) | (_, _, Err(why)) => {
                return self.seconds.refuse(&why);
            }
        };
        let (items, bytes) = (f64::from(items), (KEY_LEN + value_len) as f64);
        self.seconds.add(seconds);
        self.items_a_second.add(items / seconds);
        self.megabytes_a_second.add(items * bytes / seconds / 1e6);
        self.calm.add(calm.latency(0.999));
        self.syncing.add(syncing.latency(0.999));
        self.joined.add(after.latency(0.999));
        self.worst.add(syncing.latency(1.0));
        self.source_cpu.add(cpu);
    }

    fn print(&self, name: &str) {
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.seconds,
            self.items_a_second,
            self.megabytes_a_second,
            self.calm,
            self.syncing,
            self.syncing.ratio_to(&self.calm),
            self.joined,
            self.worst,
            self.source_cpu,
        );
    }
}
