//! The least that a server can cost: sockets, and nothing behind them.
//!
//! It takes requests as a server does, a `recv` and a `send` each, and answers every `get` with as many
//! `v` as the values it was filled with have. It keeps no item, takes no lock and reads no clock: what
//! it costs is the kernel's price of a conversation, which no server that asks for bytes and sends
//! bytes goes below. `--against bare` compares with it, `--ours bare` shows how far below memcached
//! a server could be at all.
//!
//! What is NOT here: anything that the scenarios of one TCP server without locks do not ask.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use memchr::memmem;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// The argument that makes this program be such a server.
pub(crate) const OPTION: &str = "--bare";

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// What it knows: how many values it was given, and how long they are.
#[derive(Default)]
struct Known {
    items: AtomicU64,
    value_len: AtomicUsize,
}

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
        std::thread::spawn(move || desk.work(&known));
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

    fn work(&self, known: &Known) {
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
                converse(&stream, &mut unfinished[number], &mut piece, &mut replies, known);
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
    known: &Known,
) {
    loop {
        // The end of a connection and nothing to read are the same to it.
        let len = stream.read(piece).unwrap_or(0);
        if len == 0 {
            return;
        }
        replies.clear();
        if unfinished.is_empty() {
            let taken = answer(&piece[..len], replies, known);
            unfinished.extend_from_slice(&piece[taken..len]);
        } else {
            unfinished.extend_from_slice(&piece[..len]);
            let taken = answer(unfinished, replies, known);
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
fn answer(input: &[u8], out: &mut Vec<u8>, known: &Known) -> usize {
    let mut taken = 0;
    while let Some(len) = one(&input[taken..], out, known) {
        taken += len;
    }
    taken
}

fn one(input: &[u8], out: &mut Vec<u8>, known: &Known) -> Option<usize> {
    if input.first() == Some(&0x80) {
        return one_frame(input, out, known);
    }
    let line_len = memmem::find(input, b"\r\n")?;
    let mut words = input[..line_len].split(|&byte| byte == b' ');
    let end = line_len + 2;
    let value_len = known.value_len.load(Ordering::Relaxed);
    let command = words.next()?;
    match command {
        b"get" => {
            for key in words {
                out.extend_from_slice(b"VALUE ");
                out.extend_from_slice(key);
                out.extend_from_slice(b" 0 ");
                say_value(out, value_len);
            }
            out.extend_from_slice(b"END\r\n");
        }
        b"mg" => {
            out.extend_from_slice(b"VA ");
            say_value(out, value_len);
        }
        b"set" | b"ms" => {
            let len: usize = number(words.nth(if command == b"set" { 3 } else { 1 })?);
            let whole = end + len + 2;
            if input.len() < whole {
                return None;
            }
            if words.next() == Some(b"noreply") {
                known.items.fetch_add(1, Ordering::Relaxed);
                known.value_len.store(len, Ordering::Relaxed);
            } else {
                out.extend_from_slice(if command == b"set" { b"STORED\r\n" } else { b"HD\r\n" });
            }
            return Some(whole);
        }
        b"stats" => {
            let items = known.items.load(Ordering::Relaxed);
            out.extend_from_slice(format!("STAT curr_items {items}\r\nEND\r\n").as_bytes());
        }
        _ => out.extend_from_slice(b"ERROR\r\n"),
    }
    Some(end)
}

/// A value behind its length.
fn say_value(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.resize(out.len() + len, b'v');
    out.extend_from_slice(b"\r\n");
}

fn one_frame(input: &[u8], out: &mut Vec<u8>, known: &Known) -> Option<usize> {
    let header = input.first_chunk::<24>()?;
    let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let whole = 24 + usize::try_from(body).expect("a short frame");
    if input.len() < whole {
        return None;
    }
    let is_get = header[1] == 0;
    let value_len = if is_get { known.value_len.load(Ordering::Relaxed) } else { 0 };
    let extras_len = if is_get { 4 } else { 0 };
    let reply_len = u32::try_from(extras_len + value_len).expect("a short frame");
    let mut reply = [0; 24];
    (reply[0], reply[1], reply[4]) = (0x81, header[1], if is_get { 4 } else { 0 });
    reply[8..12].copy_from_slice(&reply_len.to_be_bytes());
    out.extend_from_slice(&reply);
    out.resize(out.len() + extras_len, 0);
    out.resize(out.len() + value_len, b'v');
    Some(whole)
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}
