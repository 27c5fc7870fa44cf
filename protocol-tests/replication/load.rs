//! Clients that write without end, and remember what they were promised.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::PATIENCE;

use super::contents::Contents;

/// How a load is.
#[derive(Clone)]
pub(super) struct Shape {
    /// Clients, each with keys of its own, which it writes in turn.
    pub(super) clients: usize,
    pub(super) keys: u64,
    pub(super) value_bytes: usize,
    /// Between two writes of a client.
    pub(super) pause: Duration,
    /// Every key is read before it is written again.
    pub(super) rereads: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { clients: 4, keys: 500, value_bytes: 100, pause: Duration::ZERO, rereads: false }
    }
}

/// A write that was answered with `STORED`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) seq: u64,
    pub(super) at: Instant,
}

/// What clients were promised.
#[derive(Default)]
pub(super) struct Ledger {
    /// The latest promise for each key.
    pub(super) promises: BTreeMap<String, Promise>,
    /// Promises that were not kept when the key was read again.
    pub(super) missed: Vec<Lost>,
    /// How long each write took that was answered.
    pub(super) waits: Vec<Duration>,
    /// Answers other than `STORED`.
    pub(super) refusals: Vec<String>,
    /// Connections that broke, or were refused.
    pub(super) broken: u64,
}

/// A write that is not there, and by how much.
#[derive(Debug)]
pub(super) struct Lost {
    #[expect(dead_code, reason = "shown when a story fails")]
    pub(super) key: String,
    pub(super) promise: Promise,
    #[expect(dead_code, reason = "shown when a story fails")]
    pub(super) held: Option<u64>,
}

impl Ledger {
    fn take(&mut self, other: Ledger) {
        self.promises.extend(other.promises);
        self.missed.extend(other.missed);
        self.waits.extend(other.waits);
        self.refusals.extend(other.refusals);
        self.broken += other.broken;
    }

    /// Asserts that every write was answered with `STORED`, on the connection that it began with.
    #[track_caller]
    pub(super) fn assert_undisturbed(&self) {
        assert_eq!((&self.refusals, self.broken), (&Vec::new(), 0));
    }

    /// Promises that `contents` does not keep.
    pub(super) fn lost_in(&self, contents: &Contents) -> Vec<Lost> {
        let lost = |(key, promise): (&String, &Promise)| {
            let held = contents.get(key).map(|item| seq_of(&item.value));
            let is_kept = held.is_some_and(|held| held >= promise.seq);
            (!is_kept).then(|| Lost { key: key.clone(), promise: *promise, held })
        };
        self.promises.iter().filter_map(lost).collect()
    }

    /// Notes whether what a node holds of a key is what was promised, or later.
    fn compare(&mut self, key: &str, held: Option<u64>) {
        let promise = self.promises.get(key).copied();
        if let Some(promise) = promise.filter(|promise| held < Some(promise.seq)) {
            self.missed.push(Lost { key: key.to_owned(), promise, held });
        }
    }

    /// The wait that all but one in a thousand writes did not exceed.
    pub(super) fn p999(&self) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits.get(waits.len() * 999 / 1000).copied().unwrap_or_default()
    }
}

fn seq_of(value: &[u8]) -> u64 {
    let digits: Vec<u8> = value.iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).unwrap().parse().unwrap()
}

/// Clients at work.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    late: Arc<Mutex<Vec<Late>>>,
    clients: Vec<JoinHandle<Ledger>>,
}

/// A write for whose acknowledgement nobody waited to the end.
#[derive(Clone, Copy)]
struct Late {
    asked: Instant,
    answered: Instant,
}

/// `--ack-timeout` by default.
const ACK_TIMEOUT: Duration = Duration::from_millis(250);

impl Load {
    /// Clients begin to write to the first of `nodes`, and go on to the next whenever a connection
    /// breaks or is refused. Keys begin with `name`.
    pub(super) fn start(name: &str, nodes: &[SocketAddr], shape: &Shape) -> Load {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let late = Arc::<Mutex<Vec<Late>>>::default();
        let clients = (0..shape.clients).map(|number| {
            let writer = Writer {
                name: format!("{name}{number}"),
                nodes: nodes.to_vec(),
                at: 0,
                shape: shape.clone(),
                ledger: Ledger::default(),
            };
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let late = Arc::clone(&late);
            thread::spawn(move || writer.write_until(&stop, &written, &late))
        });
        let clients = clients.collect();
        Load { stop, written, late, clients }
    }

    /// Writes that were answered so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Since when nodes with the default `--ack-timeout` may have answered without their peer, of all that was
    /// answered after `from`: since a write was asked that took as long.
    pub(super) fn alone_since(&self, from: Instant) -> Option<Instant> {
        let late = self.late.lock().unwrap();
        late.iter().filter(|late| late.answered >= from).map(|late| late.asked).min()
    }

    /// Waits until `more` writes have been answered from now on.
    #[track_caller]
    pub(super) fn wait_for(&self, more: u64) {
        let (from, deadline) = (self.written(), Instant::now() + PATIENCE);
        while self.written() < from + more {
            assert!(Instant::now() < deadline, "{} of {more} writes", self.written() - from);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it.
    pub(super) fn end(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::default();
        for client in self.clients {
            ledger.take(client.join().unwrap());
        }
        ledger
    }
}

struct Writer {
    name: String,
    nodes: Vec<SocketAddr>,
    at: usize,
    shape: Shape,
    ledger: Ledger,
}

impl Writer {
    fn write_until(
        mut self,
        stop: &AtomicBool,
        written: &AtomicU64,
        late: &Mutex<Vec<Late>>,
    ) -> Ledger {
        let mut connection = None;
        let mut seq = 0;
        while !stop.load(Ordering::Relaxed) {
            let Some(stream) = &mut connection else {
                connection = self.connect();
                continue;
            };
            seq += 1;
            let key = format!("{}_{}", self.name, seq % self.shape.keys);
            let since = Instant::now();
            if self.shape.rereads {
                match reread(stream, &key) {
                    Some(held) => self.ledger.compare(&key, held),
                    None => {
                        connection = None;
                        self.leave();
                        continue;
                    }
                }
            }
            match ask(stream, &request(&key, seq, self.shape.value_bytes)) {
                Some(answer) if answer == "STORED\r\n" => {
                    let at = Instant::now();
                    self.ledger.promises.insert(key, Promise { seq, at });
                    self.ledger.waits.push(at - since);
                    if at - since >= ACK_TIMEOUT {
                        late.lock().unwrap().push(Late { asked: since, answered: at });
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Some(answer) if answer.ends_with('\n') => self.ledger.refusals.push(answer),
                _ => {
                    connection = None;
                    self.leave();
                }
            }
            if !self.shape.pause.is_zero() {
                thread::sleep(self.shape.pause);
            }
        }
        self.ledger
    }

    fn connect(&mut self) -> Option<BufReader<TcpStream>> {
        let Ok(stream) = TcpStream::connect(self.nodes[self.at]) else {
            self.leave();
            thread::sleep(Duration::from_millis(1));
            return None;
        };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(BufReader::new(stream))
    }

    fn leave(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
        self.ledger.broken += 1;
    }
}

fn request(key: &str, seq: u64, length: usize) -> String {
    let value = format!("{seq}:{:x<length$}", "");
    format!("set {key} 0 0 {}\r\n{value}\r\n", value.len())
}

/// What is held of a key; `None` when nobody says.
fn reread(stream: &mut BufReader<TcpStream>, key: &str) -> Option<Option<u64>> {
    let mut line = ask(stream, &format!("get {key}\r\n"))?;
    let mut held = None;
    while line != "END\r\n" {
        // A node that dies says half a line.
        line.ends_with('\n').then_some(())?;
        if !line.starts_with("VALUE ") {
            held = Some(seq_of(line.as_bytes()));
        }
        line.clear();
        stream.read_line(&mut line).ok()?;
    }
    Some(held)
}

fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> Option<String> {
    stream.get_mut().write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_line(&mut answer).ok()?;
    Some(answer)
}
