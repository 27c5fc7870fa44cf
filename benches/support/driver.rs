//! Clients that drive a server: a few threads, each with its share of the connections and a poller.
//!
//! Picture a teacher with many pupils at the blackboard. *Closed*: every pupil who has answered gets
//! the next question at once, so a slow class is simply asked less. *Open*: questions come by the
//! clock whoever is free, and one that finds nobody free waits; its time counts from the stroke of the
//! clock, so a standstill shows in every question it delayed (that is what "corrected for coordinated
//! omission" means).
//!
//! What is NOT here: which servers there are and whether figures may be compared.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::support::Dice;
use crate::support::exchange::Exchange;
use crate::support::node::moment;
use crate::support::socket::{Socket, Transport};

/// A reply that takes longer than this is no reply.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_MS: u16 = 5000;

/// Longest latency that is told apart, in nanoseconds.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Servers that one conversation may write to.
const COPIES_MAX: usize = 4;

/// In an event's data: the clock, not a connection.
const CLOCK: u64 = u64::MAX;

const READ_BUFFER: usize = 256 << 10;

/// What a conversation says again and again.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// One drawn from these each time, with keys drawn each time.
    Drawn(Vec<Exchange>),
    /// One after the other with one key, then from the beginning with another; no other
    /// conversation has the same keys.
    InTurn(Vec<Exchange>),
}

/// How the next request is chosen to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    Closed,
    /// So many exchanges a second in all.
    Open(f64),
}

/// What to send, to whom and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The first is read from; what changes something goes to all.
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) transport: Transport,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// A new connection for every exchange.
    pub(crate) reconnecting: bool,
    pub(crate) script: Script,
    pub(crate) keys: u32,
    pub(crate) pace: Pace,
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) operations: f64,
    pub(crate) seconds: f64,
    /// Of exchanges, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Outcome {
    /// Microseconds that this share of the exchanges stayed below.
    pub(crate) fn latency(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// A load at work.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Result<Part, String>>>,
    started: Instant,
}

/// One thread's part of the outcome.
#[derive(Debug)]
struct Part {
    operations: u64,
    latencies: Histogram<u64>,
}

impl Load {
    /// Connects everybody, then begins. `connected` is called in between.
    pub(crate) fn start(&self, connected: impl FnOnce()) -> Running {
        let stop = Arc::<AtomicBool>::default();
        let barrier = Arc::new(Barrier::new(self.threads + 1));
        let threads = (0..self.threads)
            .map(|number| {
                let (load, stop, barrier) = (self.clone(), Arc::clone(&stop), Arc::clone(&barrier));
                thread::spawn(move || {
                    let crowd = Crowd::gather(load, number);
                    barrier.wait();
                    barrier.wait();
                    crowd?.work(&stop)
                })
            })
            .collect();
        barrier.wait();
        connected();
        let started = moment();
        barrier.wait();
        Running { stop, threads, started }
    }

    /// From beginning to end; an error tells of a reply that was not as it must be.
    pub(crate) fn run(&self, connected: impl FnOnce()) -> Result<Outcome, String> {
        self.start(connected).join()
    }
}

impl Running {
    /// Ends it before its time.
    pub(crate) fn stop(self) -> Result<Outcome, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(self) -> Result<Outcome, String> {
        let (mut operations, mut latencies) = (0, no_latencies());
        for thread in self.threads {
            let part = thread.join().expect("a client thread")?;
            operations += part.operations;
            latencies.add(part.latencies).expect("histograms of one kind");
        }
        let seconds = self.started.elapsed().as_secs_f64();
        Ok(Outcome { operations: operations as f64, seconds, latencies })
    }
}

fn no_latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("bounds that make sense")
}

/// A connection to one server.
struct Link {
    socket: Socket,
    /// Of the reply that is awaited.
    heard: usize,
    is_awaited: bool,
    unsent: Vec<u8>,
}

/// A client with a connection to each server.
struct Conversation {
    links: Vec<Link>,
    exchange: usize,
    numbers: Vec<u32>,
    /// Links that have not answered in full.
    unanswered: usize,
    /// From when the exchange's latency counts.
    since: Instant,
}

/// One thread's clients.
struct Crowd {
    load: Load,
    exchanges: Vec<Exchange>,
    epoll: Epoll,
    conversations: Vec<Conversation>,
    /// Number of the first conversation among those of all threads.
    first: usize,
    /// Conversations with nothing to do, and strokes of the clock that found none.
    free: Vec<usize>,
    waiting: VecDeque<Instant>,
    buffer: Vec<u8>,
    dice: Dice,
    part: Part,
}

impl Crowd {
    /// The connections of the thread with this number.
    fn gather(load: Load, number: usize) -> Result<Crowd, String> {
        let (Script::Drawn(exchanges) | Script::InTurn(exchanges)) = load.script.clone();
        let share = |number: usize| number * load.connections / load.threads;
        let (first, end) = (share(number), share(number + 1));
        let epoll = Epoll::new(EpollCreateFlags::empty()).map_err(|error| error.to_string())?;
        let mut crowd = Crowd {
            exchanges,
            epoll,
            conversations: Vec::new(),
            first,
            free: (0..end - first).collect(),
            waiting: VecDeque::new(),
            buffer: vec![0; READ_BUFFER],
            dice: Dice::seeded(first as u64),
            part: Part { operations: 0, latencies: no_latencies() },
            load,
        };
        for index in 0..end - first {
            let links = crowd.connect(index)?;
            crowd.conversations.push(Conversation {
                links,
                exchange: usize::MAX,
                numbers: Vec::new(),
                unanswered: 0,
                since: moment(),
            });
        }
        Ok(crowd)
    }

    fn connect(&self, index: usize) -> Result<Vec<Link>, String> {
        let failed = |error: io::Error| format!("no connection: {error}");
        let mut links = Vec::new();
        for &server in &self.load.servers {
            let socket = Socket::connect(&self.load.transport, server).map_err(failed)?;
            let data = (index * COPIES_MAX + links.len()) as u64;
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            self.epoll
                .add(&socket, EpollEvent::new(both, data))
                .map_err(|error| failed(error.into()))?;
            links.push(Link { socket, heard: 0, is_awaited: false, unsent: Vec::new() });
        }
        Ok(links)
    }

    fn work(mut self, stop: &AtomicBool) -> Result<Part, String> {
        let started = moment();
        let until = started + self.load.duration;
        let mut clock = match self.load.pace {
            Pace::Closed => None,
            Pace::Open(rate) => Some(self.clock(rate)?),
        };
        let mut due = started;
        let mut events = vec![EpollEvent::empty(); 512];
        let mut is_over = false;
        if clock.is_none() {
            for index in std::mem::take(&mut self.free) {
                self.begin(index, moment())?;
            }
        }
        while !is_over || self.conversations.iter().any(|one| one.unanswered > 0) {
            let patience = EpollTimeout::from(PATIENCE_MS);
            let woken = match self.epoll.wait(&mut events, patience) {
                Ok(0) => return Err(format!("no reply in {} s", PATIENCE.as_secs())),
                Ok(woken) => woken,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.to_string()),
            };
            is_over = is_over || moment() >= until || stop.load(Ordering::Relaxed);
            if is_over {
                // It would wake us for as long as somebody does not answer.
                clock = None;
            }
            for event in &events[..woken] {
                if event.data() != CLOCK {
                    let data = usize::try_from(event.data()).expect("ours");
                    self.hear(data / COPIES_MAX, data % COPIES_MAX, is_over)?;
                } else if let Some((timer, every)) = &clock {
                    timer.wait().map_err(|error| error.to_string())?;
                    let every = *every;
                    while due <= moment() && !is_over {
                        self.waiting.push_back(due);
                        due += every;
                    }
                    self.begin_waiting()?;
                }
            }
        }
        Ok(self.part)
    }

    /// A timer for this thread's share of `rate` exchanges a second.
    fn clock(&self, rate: f64) -> Result<(TimerFd, Duration), String> {
        let every = Duration::from_secs_f64(self.load.threads as f64 / rate);
        let made = || -> nix::Result<TimerFd> {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
            let strokes = Expiration::Interval(TimeSpec::from_duration(every));
            timer.set(strokes, TimerSetTimeFlags::empty())?;
            self.epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, CLOCK))?;
            Ok(timer)
        };
        made().map(|timer| (timer, every)).map_err(|error| format!("no timer: {error}"))
    }

    fn begin_waiting(&mut self) -> Result<(), String> {
        while let (Some(&since), Some(&index)) = (self.waiting.front(), self.free.last()) {
            self.waiting.pop_front();
            self.free.pop();
            self.begin(index, since)?;
        }
        Ok(())
    }

    /// The next exchange of a conversation.
    fn begin(&mut self, index: usize, since: Instant) -> Result<(), String> {
        if self.load.reconnecting && self.conversations[index].exchange != usize::MAX {
            self.conversations[index].links.clear();
            self.conversations[index].links = self.connect(index)?;
        }
        let count = u32::try_from(self.exchanges.len()).expect("a handful");
        let conversation = &mut self.conversations[index];
        if let Script::Drawn(_) = self.load.script {
            conversation.exchange = self.dice.below(count) as usize;
            let exchange = &self.exchanges[conversation.exchange];
            conversation.numbers.clear();
            for _ in 0..exchange.keys() {
                conversation.numbers.push(self.dice.below(self.load.keys));
            }
        } else {
            conversation.exchange = conversation.exchange.wrapping_add(1) % count as usize;
            if conversation.exchange == 0 {
                let everybody = u32::try_from(self.load.connections).expect("not so many");
                let own = u32::try_from(self.first + index).expect("not so many");
                let number = self.dice.below(self.load.keys / everybody) * everybody + own;
                conversation.numbers = vec![number];
            }
        }
        conversation.since = since;
        let exchange = &mut self.exchanges[conversation.exchange];
        exchange.address(&conversation.numbers);
        let hearers = if exchange.is_write { conversation.links.len() } else { 1 };
        conversation.unanswered = hearers;
        for link in &mut conversation.links[..hearers] {
            (link.heard, link.is_awaited) = (0, true);
            let sent = link.send(&exchange.request)?;
            link.unsent.extend_from_slice(&exchange.request[sent..]);
        }
        Ok(())
    }

    /// Whether a conversation would leave something behind if it ended here, like a lock.
    fn is_amid_turn(&self, index: usize) -> bool {
        matches!(self.load.script, Script::InTurn(_))
            && self.conversations[index].exchange + 1 < self.exchanges.len()
    }

    /// Something has happened at a link.
    fn hear(&mut self, index: usize, link: usize, is_over: bool) -> Result<(), String> {
        let conversation = &mut self.conversations[index];
        let link = &mut conversation.links[link];
        if !link.unsent.is_empty() {
            let unsent = std::mem::take(&mut link.unsent);
            let sent = link.send(&unsent)?;
            link.unsent.extend_from_slice(&unsent[sent..]);
        }
        if !link.is_awaited {
            return Ok(());
        }
        let exchange = &mut self.exchanges[conversation.exchange];
        while link.heard < exchange.reply.len() {
            let read = match link.socket.read(&mut self.buffer) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("no reply: {error}")),
            };
            let piece = &self.buffer[..read];
            if !exchange.is_answered(&conversation.numbers, link.heard, piece) {
                let shown = String::from_utf8_lossy(&piece[..read.min(80)]).into_owned();
                return Err(format!("the reply {shown:?}"));
            }
            link.heard += read;
        }
        link.is_awaited = false;
        conversation.unanswered -= 1;
        if conversation.unanswered > 0 {
            return Ok(());
        }
        let now = moment();
        let latency = u64::try_from((now - conversation.since).as_nanos()).unwrap_or(LATENCY_MAX);
        self.part.latencies.saturating_record(latency.max(1));
        self.part.operations += exchange.operations;
        match self.load.pace {
            Pace::Closed if is_over && !self.is_amid_turn(index) => Ok(()),
            Pace::Closed => self.begin(index, now),
            Pace::Open(_) => {
                self.free.push(index);
                self.begin_waiting()
            }
        }
    }
}

impl Link {
    /// Sends what the socket takes.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("the server does not read: {error}")),
            }
        }
        Ok(sent)
    }
}
