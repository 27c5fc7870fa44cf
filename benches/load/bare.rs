//! The least that a server can cost: sockets, and values in memory behind them.
//!
//! It takes requests as a server does, a `recv` and a `send` each, and answers every `get` with a value
//! from a memory as large as all the values it was filled with, in large pages, at a place that the key
//! chooses; a `set` is copied to such a place. So it waits for memory as whoever keeps these values must.
//! It has no keys and no index, takes no lock and reads no clock: what it costs is the price of a
//! conversation and of one value, which no server goes below that makes a system call for each read and write.
//! `--against bare` compares with it, `--ours bare` shows how far below memcached a server could be at all.
//!
//! What is NOT here: anything that the scenarios of one TCP server without locks do not ask.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use memchr::memmem;
use memmap2::{Advice, MmapMut};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// The argument that makes this program be such a server.
pub(crate) const OPTION: &str = "--bare";

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// What all threads know: how many values they were given, and how long those are.
#[derive(Default)]
struct Known {
    items: AtomicU64,
    value_len: AtomicUsize,
}

/// A thread's share of the values.
struct Shelf {
    known: Arc<Known>,
    /// How many threads share the values.
    threads: u64,
    values: Option<MmapMut>,
    value_len: usize,
    places: u64,
}

impl Shelf {
    /// Where the value of `key` lies. The shelf is built when the first is asked for: then all were given.
    fn value(&mut self, key: &[u8]) -> &mut [u8] {
        if self.values.is_none() {
            self.build();
        }
        let digits = key.last_chunk().copied().map_or(0, u64::from_le_bytes);
        // A number's bits that matter most are well mixed, however alike the digits are.
        let places = u128::from(digits.wrapping_mul(MIX)) * u128::from(self.places);
        let begin = usize::try_from(places >> 64).expect("a place") * self.value_len;
        let values = self.values.as_mut().expect("it has been built");
        &mut values[begin..begin + self.value_len]
    }

    fn build(&mut self) {
        self.value_len = self.known.value_len.load(Ordering::Relaxed);
        self.places = self.known.items.load(Ordering::Relaxed).div_ceil(self.threads).max(1);
        let places = usize::try_from(self.places).expect("they fit into memory");
        let mut values = MmapMut::map_anon((places * self.value_len).max(1)).expect("memory");
        values.advise(Advice::HugePage).expect("large pages");
        values.fill(b'v');
        self.values = Some(values);
    }
}

/// An odd number with as many ones as zeros.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// A thread's connections.
struct Desk {
    poller: Epoll,
    seats: RwLock<Vec<Arc<TcpStream>>>,
}

/// Serves with memcached's `-p` and `-t` until it is killed.
pub(crate) fn serve(arguments: &[String]) {
    let value = |option: &str| {
        let at = arguments.iter().position(|word| word == option).expect("the option");
        arguments[at + 1].parse::<u16>().expect("a number")
    };
    let listener = TcpListener::bind(("127.0.0.1", value("-p"))).expect("a free port");
    let known = Arc::new(Known::default());
    let desks: Vec<Arc<Desk>> = (0..value("-t")).map(|_| Arc::new(Desk::new())).collect();
    for desk in &desks {
        let (desk, known) = (Arc::clone(desk), Arc::clone(&known));
        let threads = desks.len() as u64;
        let shelf = Shelf { known, threads, values: None, value_len: 0, places: 0 };
        std::thread::spawn(move || desk.work(shelf));
    }
    for (nth, stream) in listener.incoming().enumerate() {
        desks[nth % desks.len()].seat(stream.expect("a connection"));
    }
}

impl Desk {
    fn new() -> Desk {
        let poller = Epoll::new(EpollCreateFlags::empty()).expect("epoll");
        Desk { poller, seats: RwLock::default() }
    }

    fn seat(&self, stream: TcpStream) {
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let stream = Arc::new(stream);
        let number = {
            let mut seats = self.seats.write().expect("no panic");
            seats.push(Arc::clone(&stream));
            seats.len() - 1
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, number as u64);
        self.poller.add(stream, event).expect("epoll");
    }

    fn work(&self, mut shelf: Shelf) {
        let mut events = [EpollEvent::empty(); 256];
        let mut unfinished: Vec<Vec<u8>> = Vec::new();
        let mut piece = vec![0; PIECE];
        let mut replies = Vec::with_capacity(PIECE);
        loop {
            let ready = self.poller.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
            for event in &events[..ready] {
                let number = usize::try_from(event.data()).expect("a seat");
                let stream = Arc::clone(&self.seats.read().expect("no panic")[number]);
                if unfinished.len() <= number {
                    unfinished.resize(number + 1, Vec::new());
                }
                converse(&stream, &mut unfinished[number], &mut piece, &mut replies, &mut shelf);
            }
        }
    }
}

/// Answers what is there. A piece that is not full was the last: the next one is an event of its own.
fn converse(
    mut stream: &TcpStream,
    unfinished: &mut Vec<u8>,
    piece: &mut [u8],
    replies: &mut Vec<u8>,
    shelf: &mut Shelf,
) {
    loop {
        // The end of a connection and nothing to read are the same to it.
        let len = stream.read(piece).unwrap_or(0);
        if len == 0 {
            return;
        }
        replies.clear();
        if unfinished.is_empty() {
            let taken = answer(&piece[..len], replies, shelf);
            unfinished.extend_from_slice(&piece[taken..len]);
        } else {
            unfinished.extend_from_slice(&piece[..len]);
            let taken = answer(unfinished, replies, shelf);
            unfinished.drain(..taken);
        }
        let mut left = &replies[..];
        while !left.is_empty() {
            match stream.write(left) {
                Ok(sent) => left = &left[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return,
            }
        }
        if len < piece.len() {
            return;
        }
    }
}

/// Answers all whole requests; returns how many bytes they were.
fn answer(input: &[u8], out: &mut Vec<u8>, shelf: &mut Shelf) -> usize {
    let mut taken = 0;
    while let Some(len) = one(&input[taken..], out, shelf) {
        taken += len;
    }
    taken
}

fn one(input: &[u8], out: &mut Vec<u8>, shelf: &mut Shelf) -> Option<usize> {
    if input.first() == Some(&0x80) {
        return one_frame(input, out, shelf);
    }
    let line_len = memmem::find(input, b"\r\n")?;
    let mut words = input[..line_len].split(|&byte| byte == b' ');
    let end = line_len + 2;
    let command = words.next()?;
    match command {
        b"get" => {
            for key in words {
                out.extend_from_slice(b"VALUE ");
                out.extend_from_slice(key);
                out.extend_from_slice(b" 0 ");
                say_value(out, shelf.value(key));
            }
            out.extend_from_slice(b"END\r\n");
        }
        b"mg" => {
            out.extend_from_slice(b"VA ");
            say_value(out, shelf.value(words.next()?));
        }
        b"set" | b"ms" => {
            let key = words.next()?;
            let len: usize = number(words.nth(if command == b"set" { 2 } else { 0 })?);
            let whole = end + len + 2;
            if input.len() < whole {
                return None;
            }
            if words.next() == Some(b"noreply") {
                shelf.known.items.fetch_add(1, Ordering::Relaxed);
                shelf.known.value_len.store(len, Ordering::Relaxed);
            } else {
                shelf.value(key).copy_from_slice(&input[end..end + len]);
                out.extend_from_slice(if command == b"set" { b"STORED\r\n" } else { b"HD\r\n" });
            }
            return Some(whole);
        }
        b"stats" => {
            let items = shelf.known.items.load(Ordering::Relaxed);
            out.extend_from_slice(format!("STAT curr_items {items}\r\nEND\r\n").as_bytes());
        }
        _ => out.extend_from_slice(b"ERROR\r\n"),
    }
    Some(end)
}

/// A value behind its length.
fn say_value(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(itoa::Buffer::new().format(value.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn one_frame(input: &[u8], out: &mut Vec<u8>, shelf: &mut Shelf) -> Option<usize> {
    let header = input.first_chunk::<24>()?;
    let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let whole = 24 + usize::try_from(body).expect("a short frame");
    if input.len() < whole {
        return None;
    }
    let extras_len = usize::from(header[4]);
    let key_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let (key, sent) = input[24 + extras_len..whole].split_at(key_len);
    let value = shelf.value(key);
    let is_get = header[1] == 0;
    let extras: &[u8] = if is_get { &[0; 4] } else { &[] };
    let value: &[u8] = if is_get {
        value
    } else {
        value.copy_from_slice(sent);
        &[]
    };
    let reply_len = u32::try_from(extras.len() + value.len()).expect("a short frame");
    let mut reply = [0; 24];
    (reply[0], reply[1], reply[4]) = (0x81, header[1], if is_get { 4 } else { 0 });
    reply[8..12].copy_from_slice(&reply_len.to_be_bytes());
    out.extend_from_slice(&reply);
    out.extend_from_slice(extras);
    out.extend_from_slice(value);
    Some(whole)
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}
