//! What a request costs without its socket: nanoseconds from the bytes of a request to the bytes
//! of its reply, through the same door that `net` uses (`Session::receive`).
//!
//! Picture some clients, one a thread, that hammer one server. Each makes a request by writing a
//! random key into a template that stays in its cache, hands it over, and throws the reply away
//! after counting its bytes: a bench whose replies are not as long as expected stops. What making
//! the request costs is measured as well, as `bench's own part`, and is included in every number.
//!
//! Not here: sockets, system calls, the clock (one `Now` a sample), background sweeps.

#![expect(clippy::expect_used, reason = "a bench that cannot go on stops and says why")]

mod support;

use std::cell::OnceCell;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use support::{ABSENT, Dice, KEY_DIGITS, KEY_LEN, NUMBERS, STORED, append_set, key_digits};
use twincached::clock::Now;
use twincached::command::{ConnState, Connection, Next, Server, Session, Transport};
use twincached::settings::Settings;

const SAMPLES: usize = 15;
const NUMBER: &[u8] = b"1000000000";

fn main() {
    // Under `cargo test --all-targets` every bench runs once, on little data.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let (hot, cold) = if measuring { (10_000, 1_000_000) } else { (100, 1_000) };
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .without_plots()
        .configure_from_args();
    let mut table = Table::default();
    for (items, value_len) in [(hot, 100), (hot, 1024), (cold, 100), (cold, 1024), (1, 100)] {
        bench_stock(&mut criterion, &mut table, &Stock::of(items, value_len));
    }
    criterion.final_summary();
    if measuring {
        table.print();
    }
}

/// A server with its items, all with values of one length. It is filled when a bench first asks
/// for it, so that one that is filtered out costs nothing, and nothing in a profile.
struct Stock {
    name: String,
    items: u32,
    value_len: usize,
    server: OnceCell<Arc<Server>>,
}

impl Stock {
    fn of(items: u32, value_len: usize) -> Stock {
        Stock {
            name: format!("{items} x {value_len} B"),
            items,
            value_len,
            server: OnceCell::new(),
        }
    }

    fn server(&self) -> &Arc<Server> {
        self.server.get_or_init(|| self.fill())
    }

    fn fill(&self) -> Arc<Server> {
        let payload = self.items as usize * (self.value_len + 2 * KEY_LEN + NUMBER.len());
        let server = Arc::new(Server::new(Settings {
            memory_limit: (256 << 20) + payload * 2,
            threads: usize::from(threads_of_machine()),
            ..Settings::default()
        }));
        let mut client = Client::new(&server, 0);
        let mut request = Vec::new();
        for number in 0..self.items {
            request.clear();
            append_set(&mut request, STORED, number, self.value_len, false);
            append_set(&mut request, NUMBERS, number, NUMBER.len(), false);
            let data = request.len() - NUMBER.len() - 2;
            request[data..data + NUMBER.len()].copy_from_slice(NUMBER);
            assert_eq!(client.answer(&request), 2 * "STORED\r\n".len(), "an item was refused");
        }
        server
    }
}

/// A request whose keys' last digits are still to be written, and its reply's length.
struct Template {
    bytes: Vec<u8>,
    digits_at: Vec<usize>,
    reply_len: usize,
}

impl Template {
    /// `line` with each `*` standing for a key of `family`, then a data block if there is one.
    fn new(line: &str, family: &[u8], data: Option<usize>, reply_len: usize) -> Template {
        let mut bytes = Vec::new();
        let mut digits_at = Vec::new();
        for &byte in line.as_bytes() {
            if byte == b'*' {
                bytes.extend_from_slice(family);
                digits_at.push(bytes.len());
                bytes.extend_from_slice(&[b'0'; KEY_DIGITS]);
            } else {
                bytes.push(byte);
            }
        }
        if let Some(len) = data {
            bytes.resize(bytes.len() + len, b'w');
            bytes.extend_from_slice(b"\r\n");
        }
        Template { bytes, digits_at, reply_len }
    }

    /// So many binary frames one behind the other, each with a reply of so many bytes.
    fn framed(opcode: u8, extras: &[u8], value: &[u8], times: usize, reply_len: usize) -> Template {
        let (mut bytes, mut digits_at) = (Vec::new(), Vec::new());
        let short = |len: usize| u8::try_from(len).expect("short");
        let body_len = u32::try_from(extras.len() + KEY_LEN + value.len()).expect("short");
        for _ in 0..times {
            bytes.extend_from_slice(&[
                0x80,
                opcode,
                0,
                short(KEY_LEN),
                short(extras.len()),
                0,
                0,
                0,
            ]);
            bytes.extend_from_slice(&body_len.to_be_bytes());
            bytes.extend_from_slice(&[0; 12]);
            bytes.extend_from_slice(extras);
            bytes.extend_from_slice(STORED);
            digits_at.push(bytes.len());
            bytes.extend_from_slice(&[b'0'; KEY_DIGITS]);
            bytes.extend_from_slice(value);
        }
        Template { bytes, digits_at, reply_len: reply_len * times }
    }
}

/// One kind of request.
struct Scenario {
    name: &'static str,
    /// What one number counts: requests, or keys of one request.
    units: u32,
    /// One is drawn for each request.
    templates: Vec<Template>,
    /// All keys of a request are the same key, and no other thread's.
    one_own_key: bool,
    /// Off: only make the request.
    execute: bool,
}

fn scenarios(stock: &Stock) -> Vec<Scenario> {
    let len = stock.value_len;
    let hit = KEY_LEN + format!("VALUE  0 {len}\r\n\r\n").len() + len;
    let end = "END\r\n".len();
    let stored = "STORED\r\n".len();
    let plain = |name, template| Scenario {
        name,
        units: 1,
        templates: vec![template],
        one_own_key: false,
        execute: true,
    };
    let set =
        |len: usize| Template::new(&format!("set * 0 0 {len}\r\n"), STORED, Some(len), stored);
    let get = || Template::new("get *\r\n", STORED, None, hit + end);
    let get_50 = format!("get{}\r\n", " *".repeat(50));
    let meta_hit = format!("VA {len}\r\n\r\n").len() + len;
    let meta_gets =
        |times| Template::new(&"mg * v\r\n".repeat(times), STORED, None, meta_hit * times);
    let meta_set = || Template::new(&format!("ms * {len}\r\n"), STORED, Some(len), "HD\r\n".len());
    let binary_gets = |times| Template::framed(0x00, &[], &[], times, 24 + 4 + len);
    let binary_set = || Template::framed(0x01, &[0; 8], &vec![b'w'; len], 1, 24);
    let get_16_times = "get *\r\n".repeat(16);
    let delete_set = format!("delete *\r\nset * 0 0 {len}\r\n");
    let deleted = "DELETED\r\n".len();
    let drifting = (0..16).map(|step| set(len / 2 + len * step / 16)).collect();
    vec![
        Scenario { execute: false, ..plain("bench's own part", get()) },
        plain("get hit", get()),
        plain("get miss", Template::new("get *\r\n", ABSENT, None, end)),
        Scenario {
            units: 50,
            ..plain("get 50 keys, a key", Template::new(&get_50, STORED, None, hit * 50 + end))
        },
        Scenario {
            units: 16,
            ..plain(
                "16 gets pipelined, a get",
                Template::new(&get_16_times, STORED, None, (hit + end) * 16),
            )
        },
        plain("incr", Template::new("incr * 1\r\n", NUMBERS, None, NUMBER.len() + 2)),
        plain("set, same size", set(len)),
        plain("mg", meta_gets(1)),
        Scenario { units: 16, ..plain("16 mg pipelined, a get", meta_gets(16)) },
        plain("ms", meta_set()),
        plain("binary get", binary_gets(1)),
        Scenario { units: 16, ..plain("16 binary gets pipelined, a get", binary_gets(16)) },
        plain("binary set", binary_set()),
        Scenario {
            one_own_key: true,
            ..plain(
                "delete and set",
                Template::new(&delete_set, STORED, Some(len), deleted + stored),
            )
        },
        // Last: from here on the values have other lengths.
        Scenario { templates: drifting, ..plain("set, drifting sizes", set(len)) },
    ]
}

/// One thread's conversation with the server.
struct Client {
    session: Session,
    server: Arc<Server>,
    now: Now,
    reply: Vec<u8>,
    dice: Dice,
}

impl Client {
    fn new(server: &Arc<Server>, thread: u16) -> Client {
        let now = server.clock.now();
        let connection = Connection::new(
            i32::from(thread),
            "tcp:127.0.0.1:1".to_owned(),
            None,
            Transport::Tcp,
            ConnState::NewCmd,
            now.seconds(),
        );
        Client {
            session: Session::new(
                Arc::clone(server),
                server.totals.register(),
                Arc::new(connection),
            ),
            server: Arc::clone(server),
            now,
            reply: Vec::with_capacity(128 << 10),
            dice: Dice::seeded(u64::from(thread)),
        }
    }

    /// Has `input` executed to its end; returns the length of the reply.
    fn answer(&mut self, mut input: &[u8]) -> usize {
        let mut reply_len = 0;
        while !input.is_empty() {
            let received = self.session.receive(input, self.now, &mut self.reply);
            input = &input[received.consumed..];
            let mut next = received.next;
            loop {
                reply_len += self.reply.len();
                self.reply.clear();
                match next {
                    Next::Receive { .. } if input.is_empty() => break,
                    Next::Receive { .. } if received.consumed > 0 => break,
                    Next::Yield => break,
                    Next::Resume => next = self.session.resume(self.now, &mut self.reply),
                    other => panic!("the session wants {other:?} in the middle of a request"),
                }
            }
        }
        reply_len
    }

    /// Sends `requests` requests with keys numbered from `first` on; returns how long it took.
    #[expect(clippy::disallowed_methods, reason = "a bench measures with the machine's clock")]
    fn hammer(
        &mut self,
        scenario: &mut Scenario,
        first: u32,
        keys: u32,
        requests: u64,
    ) -> Duration {
        self.now = self.server.clock.now();
        let templates = u32::try_from(scenario.templates.len()).expect("a handful");
        let (mut replied, mut expected) = (0, 0);
        let started = Instant::now();
        for _ in 0..requests {
            let draw = if templates == 1 { 0 } else { self.dice.below(templates) };
            let template = &mut scenario.templates[draw as usize];
            let mut number = first + self.dice.below(keys);
            for &at in &template.digits_at {
                template.bytes[at..at + KEY_DIGITS].copy_from_slice(&key_digits(number));
                if !scenario.one_own_key {
                    number = first + self.dice.below(keys);
                }
            }
            expected += template.reply_len;
            if scenario.execute {
                replied += self.answer(&template.bytes);
            } else {
                replied += std::hint::black_box(template).reply_len;
            }
        }
        let elapsed = started.elapsed();
        assert_eq!(replied, expected, "{}: replies are not what was expected", scenario.name);
        elapsed
    }
}

fn threads_of_machine() -> u16 {
    let threads = std::thread::available_parallelism().expect("the machine has processors");
    u16::try_from(threads.get()).expect("not so many")
}

fn bench_stock(criterion: &mut Criterion, table: &mut Table, stock: &Stock) {
    let mut group = criterion.benchmark_group(&stock.name);
    for (kind, scenario) in scenarios(stock).iter().enumerate() {
        for threads in [1, threads_of_machine()] {
            if scenario.one_own_key && stock.items < u32::from(threads) {
                continue;
            }
            let mut crew = None;
            let mut samples = Vec::new();
            let id = BenchmarkId::new(scenario.name, format!("{threads}t"));
            group.bench_function(id, |bencher| {
                let crew = crew.get_or_insert_with(|| recruit(stock, kind, threads));
                bencher.iter_custom(|units| {
                    let took = hammer_together(crew, stock.items, units);
                    samples.push(took.as_secs_f64() * 1e9 / units as f64);
                    took
                });
            });
            table.note(&stock.name, scenario.name, threads, &samples);
        }
    }
    group.finish();
    if let Some(server) = stock.server.get() {
        let counters = server.store.counters();
        println!(
            "{}: {} items, {} evicted, {} MiB taken from the machine\n",
            stock.name,
            counters.curr_items,
            counters.evictions,
            counters.total_malloced >> 20,
        );
    }
}

/// One client a thread, each with its own copy of the scenario.
fn recruit(stock: &Stock, kind: usize, threads: u16) -> Vec<(Client, Scenario)> {
    (0..threads)
        .map(|thread| (Client::new(stock.server(), thread), scenarios(stock).swap_remove(kind)))
        .collect()
}

/// Has all threads do `units` units each at the same time; returns the mean of their times.
fn hammer_together(crew: &mut [(Client, Scenario)], items: u32, units: u64) -> Duration {
    let threads = u32::try_from(crew.len()).expect("not so many");
    let a_request = u64::from(crew[0].1.units);
    let requests = units.div_ceil(a_request);
    let barrier = Barrier::new(crew.len());
    let sum: Duration = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .zip(crew)
            .map(|(thread, (client, scenario))| {
                let own = if scenario.one_own_key { items / threads } else { items };
                let first = if scenario.one_own_key { thread * own } else { 0 };
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    client.hammer(scenario, first, own, requests)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("the bench stopped")).sum()
    });
    (sum / threads).mul_f64(units as f64 / (requests * a_request) as f64)
}

/// Medians, to be read at a glance; criterion's own lines have the spread.
#[derive(Default)]
struct Table {
    columns: Vec<String>,
    rows: Vec<(&'static str, Vec<(String, f64)>)>,
}

impl Table {
    fn note(&mut self, stock: &str, scenario: &'static str, threads: u16, calls: &[f64]) {
        // Calls before the last SAMPLES are criterion's warm-up; there are none if filtered out.
        let mut samples = calls[calls.len().saturating_sub(SAMPLES)..].to_vec();
        samples.sort_by(f64::total_cmp);
        let Some(&median) = samples.get(samples.len() / 2) else { return };
        let column = format!("{stock}, {threads}t");
        if !self.columns.contains(&column) {
            self.columns.push(column.clone());
        }
        match self.rows.iter_mut().find(|row| row.0 == scenario) {
            Some(row) => row.1.push((column, median)),
            None => self.rows.push((scenario, vec![(column, median)])),
        }
    }

    fn print(&self) {
        println!("\nmedian ns a unit a thread (t = threads at the same time)\n");
        println!("| | {} |", self.columns.join(" | "));
        println!("|---|{}", "---|".repeat(self.columns.len()));
        for (name, cells) in &self.rows {
            print!("| {name} |");
            for column in &self.columns {
                match cells.iter().find(|cell| cell.0 == *column) {
                    Some((_, ns)) => print!(" {ns:.0} |"),
                    None => print!(" |"),
                }
            }
            println!();
        }
    }
}
