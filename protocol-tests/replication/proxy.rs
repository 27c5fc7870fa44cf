//! The wire between two nodes, with somebody who cuts it, or makes it slow.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread looks whether the wire has changed.
const LOOK: Duration = Duration::from_millis(5);

/// Bytes carried at a time.
const PIECE: usize = 16 << 10;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// It carries.
    Whole,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Nothing comes through, and nobody is told.
    Silent,
}

#[derive(Debug)]
struct Shared {
    wire: Mutex<Wire>,
    delay: Mutex<Duration>,
    /// Bytes a second in each direction; 0 = any number.
    rate: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    fn wire(&self) -> Wire {
        *self.wire.lock().unwrap()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A TCP proxy from a port of its own to one target.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A whole wire to the port `target`.
    pub(super) fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            wire: Mutex::new(Wire::Whole),
            delay: Mutex::default(),
            rate: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, target, &shared)
        });
        Proxy { port, shared, accepting: Some(accepting) }
    }

    /// Changes the wire.
    pub(super) fn set(&self, wire: Wire) {
        *self.shared.wire.lock().unwrap() = wire;
    }

    /// Lets every byte take this long.
    pub(super) fn delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// Lets so many bytes a second through, in each direction.
    pub(super) fn limit(&self, bytes_a_second: u64) {
        self.shared.rate.store(bytes_a_second, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, target: u16, shared: &Arc<Shared>) {
    while !shared.is_over() {
        match listener.accept() {
            Ok((near, _)) if shared.wire() != Wire::Cut => {
                let shared = Arc::clone(shared);
                thread::spawn(move || connect(&near, target, &shared));
            }
            Ok(_) => {}
            Err(_) => thread::sleep(LOOK),
        }
    }
}

fn connect(near: &TcpStream, target: u16, shared: &Arc<Shared>) {
    while shared.wire() == Wire::Silent && !shared.is_over() {
        thread::sleep(LOOK);
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { return };
    for stream in [near, &far] {
        // An accepted socket may have its listener's manner.
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LOOK)).unwrap();
    }
    for (from, to) in [(near, &far), (&far, near)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let (pieces, due) = sync_channel(64);
        let reading = Arc::clone(shared);
        thread::spawn(move || read(from, &pieces, &reading));
        let writing = Arc::clone(shared);
        thread::spawn(move || write(to, &due, &writing));
    }
}

type Piece = (Instant, Vec<u8>);

fn read(mut from: TcpStream, pieces: &SyncSender<Piece>, shared: &Shared) {
    let mut buffer = vec![0; PIECE];
    while !shared.is_over() {
        match shared.wire() {
            Wire::Cut => break,
            Wire::Silent => {
                thread::sleep(LOOK);
                continue;
            }
            Wire::Whole => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let due = Instant::now() + *shared.delay.lock().unwrap();
                if pieces.send((due, buffer[..length].to_vec())).is_err() {
                    break;
                }
            }
            Err(error) if is_timeout(&error) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
}

fn write(mut to: TcpStream, pieces: &Receiver<Piece>, shared: &Shared) {
    while let Ok((due, bytes)) = pieces.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        while shared.wire() == Wire::Silent && !shared.is_over() {
            thread::sleep(LOOK);
        }
        if shared.wire() == Wire::Cut || to.write_all(&bytes).is_err() {
            break;
        }
        let rate = shared.rate.load(Ordering::Relaxed);
        let micros = (bytes.len() as u64 * 1_000_000).checked_div(rate);
        thread::sleep(Duration::from_micros(micros.unwrap_or(0)));
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
