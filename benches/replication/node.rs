//! A server process, ours or Redis, and what the kernel and the server itself say of it.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::REDIS;
use crate::protocol::{Protocol, append_filling};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kernel counts CPU time in these.
const TICKS_A_SECOND: f64 = 100.0;

/// Bytes sent together while filling.
const BATCH: usize = 256 << 10;

/// A port that nobody has, below those that the kernel gives away.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 61 % 10_000).expect("below 10000");
    loop {
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures with the machine's clock")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Node {
    process: Child,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    _directory: tempfile::TempDir,
}

impl Node {
    /// Ours, with `ports` for clients and for peers, and `peers` on theirs.
    pub(crate) fn twincached(ports: (u16, u16), peers: &[u16], flags: &[&str]) -> Node {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twincached"));
        let (port, peer_port) = ports;
        command.args(["-m", "4096", "-t", "2", "-u", "root", "-p", &port.to_string()]);
        if !peers.is_empty() {
            command.args(["-X", &peer_port.to_string(), "--bootstrap-timeout", "1"]);
        }
        for peer in peers {
            command.args(["--peer", &format!("127.0.0.1:{peer}")]);
        }
        command.args(flags);
        Node::start(command, Protocol::Memcached, port)
    }

    /// Redis without files, with a replica's whole data sent through the socket at once.
    pub(crate) fn redis(flags: &[&str]) -> Node {
        let (mut command, port) = (Command::new(REDIS), free_port());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--repl-diskless-sync", "yes"]);
        command.args(["--repl-diskless-sync-delay", "0"]);
        command.args(["--repl-diskless-load", "on-empty-db"]);
        command.args(["--client-output-buffer-limit", "replica 0 0 0"]);
        command.args(flags);
        Node::start(command, Protocol::Redis, port)
    }

    fn start(mut command: Command, protocol: Protocol, port: u16) -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory");
        command.current_dir(directory.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the server starts");
        Node { process, protocol, port, _directory: directory }
    }

    /// Waits until it serves.
    pub(crate) fn serving(self) -> Node {
        wait_until("a server serves", || self.try_connect().is_some());
        self
    }

    pub(crate) fn try_connect(&self) -> Option<Control> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let replies = BufReader::new(stream.try_clone().expect("a second handle"));
        Some(Control { stream, replies, protocol: self.protocol })
    }

    pub(crate) fn control(&self) -> Control {
        self.try_connect().expect("a server that serves")
    }

    /// Seconds of CPU time that the process has used.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.process.id());
        let line = fs::read_to_string(path).expect("a running process");
        let after_name = line.rsplit(')').next().expect("fields");
        let mut fields = after_name.split_ascii_whitespace().skip(11);
        let mut ticks = || -> f64 { fields.next().expect("times").parse().expect("a number") };
        (ticks() + ticks()) / TICKS_A_SECOND
    }

    /// MiB of memory that the process holds.
    pub(crate) fn resident(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let table = fs::read_to_string(path).expect("a running process");
        let line = table.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes / 1024.0
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("a running process");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Errors mean that it has ended already, which is all that is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until `is_so`.
pub(crate) fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(is_in_time(PATIENCE, is_so), "in vain: {what}");
}

/// Whether `is_so` within `patience`.
pub(crate) fn is_in_time(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let started = moment();
    while !is_so() {
        if started.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A connection for questions.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) stream: TcpStream,
    pub(crate) replies: BufReader<TcpStream>,
    protocol: Protocol,
}

impl Control {
    /// What the server says of itself: a set of stats, or a section of INFO.
    pub(crate) fn told(&mut self, section: &str) -> HashMap<String, String> {
        let (command, separator) = match self.protocol {
            Protocol::Memcached => ("stats", ' '),
            Protocol::Redis => ("info", ':'),
        };
        self.send(format!("{command} {section}").trim_end());
        let mut told = HashMap::new();
        let mut left = match self.protocol {
            Protocol::Memcached => usize::MAX,
            Protocol::Redis => self.line()[1..].parse().expect("a length"),
        };
        while left > 0 {
            let line = self.line();
            if line == "END" {
                break;
            }
            left = left.saturating_sub(line.len() + 2);
            let line = line.strip_prefix("STAT ").unwrap_or(&line);
            if let Some((name, value)) = line.split_once(separator) {
                told.insert(name.to_owned(), value.to_owned());
            }
        }
        if self.protocol == Protocol::Redis {
            self.line();
        }
        told
    }

    /// How many items it holds.
    pub(crate) fn items(&mut self) -> u64 {
        match self.protocol {
            Protocol::Memcached => number(&self.told(""), "curr_items"),
            Protocol::Redis => self.ask("dbsize")[1..].parse().expect("a number"),
        }
    }

    /// A command with a reply of one line.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.line()
    }

    pub(crate) fn send(&mut self, command: &str) {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).expect("the server reads");
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("the server answers");
        assert!(line.ends_with("\r\n"), "the server closed the connection");
        line.truncate(line.len() - 2);
        line
    }

    /// Stores the first `items` keys and waits until they are there.
    pub(crate) fn fill(&mut self, items: u32, value_len: usize) {
        let mut batch = Vec::with_capacity(2 * BATCH);
        let mut unanswered = 0;
        for number in 0..items {
            append_filling(&mut batch, self.protocol, number, value_len);
            unanswered += 1;
            if batch.len() >= BATCH || number + 1 == items {
                self.stream.write_all(&batch).expect("the server reads");
                batch.clear();
                if self.protocol == Protocol::Redis {
                    let mut replies = vec![0; unanswered * "+OK\r\n".len()];
                    self.replies.read_exact(&mut replies).expect("the server answers");
                }
                unanswered = 0;
            }
        }
        assert_eq!(self.items(), u64::from(items), "items held after filling");
    }
}

/// A number among what a server told; 0 if there is none of that name.
pub(crate) fn number(told: &HashMap<String, String>, name: &str) -> u64 {
    told.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Two nodes, one of which mirrors the other.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) source: Node,
    pub(crate) peer: Node,
}

impl Pair {
    pub(crate) fn twincached(flags: &[&str]) -> Pair {
        let (one, two) = ((free_port(), free_port()), (free_port(), free_port()));
        let peers = [one.1, two.1];
        let source = Node::twincached(one, &peers, flags);
        let peer = Node::twincached(two, &peers, flags);
        let pair = Pair { source: source.serving(), peer: peer.serving() };
        wait_until("a pair is in sync", || pair.is_linked());
        pair
    }

    pub(crate) fn redis() -> Pair {
        let source = Node::redis(&[]).serving();
        let peer = Node::redis(&[]).serving();
        assert_eq!(peer.control().ask(&format!("replicaof 127.0.0.1 {}", source.port)), "+OK");
        let pair = Pair { source, peer };
        wait_until("a replica is in sync", || pair.is_linked());
        pair
    }

    /// Whether the peer has what the source has, as both say.
    pub(crate) fn is_linked(&self) -> bool {
        let (Some(mut source), Some(mut peer)) =
            (self.source.try_connect(), self.peer.try_connect())
        else {
            return false;
        };
        match self.source.protocol {
            Protocol::Memcached => {
                let is_in_sync = |told: HashMap<String, String>| {
                    number(&told, "peers_in_sync") == 1 && number(&told, "peer0:lag_ms") == 0
                };
                is_in_sync(source.told("replication")) && is_in_sync(peer.told("replication"))
            }
            Protocol::Redis => {
                let (ours, theirs) = (source.told("replication"), peer.told("replication"));
                let is_up = theirs.get("master_link_status").is_some_and(|status| status == "up");
                is_up && number(&ours, "master_repl_offset") == number(&theirs, "slave_repl_offset")
            }
        }
    }
}
