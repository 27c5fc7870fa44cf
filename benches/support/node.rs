//! A server process, ours, memcached or Redis, and what the kernel and the server itself say of it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::exchange::{Protocol, append_filling};
use crate::support::port::free_port;

/// Our own server.
pub(crate) const TWINCACHED: &str = env!("CARGO_BIN_EXE_twincached");

/// The distribution's memcached and Redis.
pub(crate) const MEMCACHED: &str = "/usr/bin/memcached";
pub(crate) const REDIS: &str = "/usr/bin/redis-server";

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to end when it is asked to.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// Why there is nothing to learn from a server.
pub(crate) const ENDED: &str = "a server has ended";

/// Bytes sent together while filling.
const BATCH: usize = 256 << 10;

/// What a server says of itself.
pub(crate) type Told = HashMap<String, String>;

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
    directory: tempfile::TempDir,
}

impl Node {
    /// Ours, with `ports` for clients and for peers, and `peers` on theirs; two workers, unless `flags`
    /// say otherwise.
    pub(crate) fn twincached(
        program: &Path,
        ports: (u16, u16),
        peers: &[u16],
        flags: &[&str],
    ) -> Node {
        let (port, peer_port) = ports;
        let mut all = ["-m", "4096"].map(str::to_owned).to_vec();
        if !flags.contains(&"-t") {
            all.extend(["-t", "2"].map(str::to_owned));
        }
        all.extend(peering(peer_port, peers));
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        Node::memcached(program, port, &all).expect("the server starts")
    }

    /// Ours or memcached, which take the same flags; why it did not start.
    pub(crate) fn memcached(program: &Path, port: u16, flags: &[String]) -> Result<Node, String> {
        let mut command = Command::new(program);
        command.args(["-u", "root", "-p", &port.to_string()]).args(flags);
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
        Node::start(command, Protocol::Redis, port).expect("the server starts")
    }

    fn start(mut command: Command, protocol: Protocol, port: u16) -> Result<Node, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let words = directory.path().join("stderr");
        command.current_dir(directory.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(fs::File::create(&words).expect("a file"));
        let process = command.spawn().map_err(|error| error.to_string())?;
        Ok(Node { process, protocol, port, directory })
    }

    /// Waits until it serves; if it does not, what it said.
    pub(crate) fn try_serving(mut self) -> Result<Node, String> {
        let mut has_ended = false;
        is_in_time(PATIENCE, || {
            has_ended = self.process.try_wait().is_ok_and(|status| status.is_some());
            has_ended || self.try_connect().is_some()
        });
        if !has_ended && self.try_connect().is_some() {
            return Ok(self);
        }
        let words = fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default();
        Err(format!("did not start: {}", words.trim()))
    }

    /// Waits until it serves.
    pub(crate) fn serving(self) -> Node {
        self.try_serving().expect("a server")
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn try_connect(&self) -> Option<Control> {
        let stream = TcpStream::connect(self.addr()).ok()?;
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let replies = BufReader::new(stream.try_clone().expect("a second handle"));
        Some(Control { stream, replies, protocol: self.protocol })
    }

    /// A connection for questions; or that nobody is there to be asked.
    pub(crate) fn control(&self) -> Result<Control, String> {
        self.try_connect().ok_or_else(|| "cannot be connected to".to_owned())
    }

    /// What it says of itself to somebody who has just come.
    pub(crate) fn told(&self, section: &str) -> Result<Told, String> {
        self.control()?.told(section)
    }

    /// How many items it holds.
    pub(crate) fn items(&self) -> Result<u64, String> {
        self.control()?.items()
    }

    /// Stores the first `items` keys and sees that they are there, and no others.
    pub(crate) fn fill(&self, items: u32, value_len: usize) -> Result<(), String> {
        let mut control = self.control()?;
        let mut batch = Vec::with_capacity(2 * BATCH);
        let mut unanswered = 0;
        for number in 0..items {
            append_filling(&mut batch, self.protocol, number, value_len);
            unanswered += 1;
            if batch.len() >= BATCH || number + 1 == items {
                control.write(&batch)?;
                batch.clear();
                if self.protocol == Protocol::Redis {
                    let mut replies = vec![0; unanswered * "+OK\r\n".len()];
                    control.replies.read_exact(&mut replies).map_err(not("answer"))?;
                }
                unanswered = 0;
            }
        }
        match control.items()? {
            held if held == u64::from(items) => Ok(()),
            held => Err(format!("took {held} of {items} items")),
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Seconds of CPU time that the process has used, as the scheduler counts them: in nanoseconds,
    /// thread by thread; none are told of a process that was waited for.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds_of("")
    }

    /// The same of threads whose names begin so.
    pub(crate) fn cpu_seconds_of(&self, name: &str) -> f64 {
        let of_thread = |path: std::path::PathBuf| -> Option<f64> {
            let is_it = fs::read_to_string(path.join("comm")).ok()?.starts_with(name);
            let account = fs::read_to_string(path.join("schedstat")).ok()?;
            is_it.then(|| account.split(' ').next()?.parse().ok())?
        };
        self.threads().filter_map(of_thread).sum::<f64>() / 1e9
    }

    /// Whether the process has begun a thread of this name.
    pub(crate) fn has_thread(&self, name: &str) -> bool {
        self.threads().any(|thread| {
            fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
    }

    fn threads(&self) -> impl Iterator<Item = std::path::PathBuf> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id()));
        threads.into_iter().flatten().flatten().map(|thread| thread.path())
    }

    /// MiB of memory that the process holds; a process that has ended holds none.
    pub(crate) fn resident(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.process.id());
        let table = fs::read_to_string(path).map_err(|_| ENDED)?;
        let line = table.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or(ENDED)?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        Ok(kilobytes / 1024.0)
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).expect("a process id"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.id(), signal).expect("a running process");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Asked first: a build that counts for a profile writes its counts when it ends by itself.
        if self.is_alive() {
            self.signal(Signal::SIGTERM);
            is_in_time(FAREWELL, || !self.is_alive());
        }
        // Errors mean that it has ended already, which is all that is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Flags of a server of ours that finds its peers at these ports, and is found at its own.
pub(crate) fn peering(port: u16, peers: &[u16]) -> Vec<String> {
    if peers.is_empty() {
        return Vec::new();
    }
    let mut flags =
        ["-X", &port.to_string(), "--bootstrap-timeout", "1"].map(str::to_owned).to_vec();
    for peer in peers {
        flags.extend(["--peer".to_owned(), format!("127.0.0.1:{peer}")]);
    }
    flags
}

/// Waits until `is_so`.
pub(crate) fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(is_in_time(PATIENCE, is_so), "in vain: {what}");
}

/// Whether `is_so` within `patience`.
pub(crate) fn is_in_time(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let Ok(is_so) = is_in_time_or_never(patience, || Ok::<bool, Infallible>(is_so()));
    is_so
}

/// The same; at once why, when it will never be known.
pub(crate) fn is_in_time_or_never<E>(
    patience: Duration,
    mut is_so: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let started = moment();
    while !is_so()? {
        if started.elapsed() > patience {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
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
    pub(crate) fn told(&mut self, section: &str) -> Result<Told, String> {
        let (command, separator) = match self.protocol {
            Protocol::Memcached => ("stats", ' '),
            Protocol::Redis => ("info", ':'),
        };
        self.send(format!("{command} {section}").trim_end())?;
        let mut told = Told::new();
        let mut left = match self.protocol {
            Protocol::Memcached => usize::MAX,
            Protocol::Redis => self.line()?[1..].parse().expect("a length"),
        };
        while left > 0 {
            let line = self.line()?;
            if line == "END" {
                break;
            }
            left = left.saturating_sub(line.len() + 2);
            let line = match self.protocol {
                Protocol::Memcached => {
                    line.strip_prefix("STAT ").ok_or_else(|| format!("says {line:?} of itself"))?
                }
                Protocol::Redis => &line,
            };
            if let Some((name, value)) = line.split_once(separator) {
                told.insert(name.to_owned(), value.to_owned());
            }
        }
        if self.protocol == Protocol::Redis {
            self.line()?;
        }
        Ok(told)
    }

    /// How many items it holds.
    pub(crate) fn items(&mut self) -> Result<u64, String> {
        Ok(match self.protocol {
            Protocol::Memcached => number(&self.told("")?, "curr_items"),
            Protocol::Redis => self.ask("dbsize")?[1..].parse().expect("a number"),
        })
    }

    /// A command with a reply of one line.
    pub(crate) fn ask(&mut self, command: &str) -> Result<String, String> {
        self.send(command)?;
        self.line()
    }

    pub(crate) fn send(&mut self, command: &str) -> Result<(), String> {
        self.write(format!("{command}\r\n").as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(not("read"))
    }

    pub(crate) fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.replies.read_line(&mut line).map_err(not("answer"))?;
        let line = line.strip_suffix("\r\n").ok_or("closed the connection")?;
        Ok(line.to_owned())
    }
}

/// A number among what a server told; 0 if there is none of that name.
pub(crate) fn number(told: &Told, name: &str) -> u64 {
    told.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Why a server did not do so.
fn not(doing: &str) -> impl Fn(io::Error) -> String {
    move |error| match error.kind() {
        io::ErrorKind::WouldBlock => format!("does not {doing} in {} s", PATIENCE.as_secs()),
        _ => format!("does not {doing}: {error}"),
    }
}

/// Two nodes, one of which mirrors the other.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) source: Node,
    pub(crate) peer: Node,
}

impl Pair {
    pub(crate) fn twincached(program: &Path, flags: &[&str]) -> Pair {
        let (one, two) = ((free_port(), free_port()), (free_port(), free_port()));
        let peers = [one.1, two.1];
        let source = Node::twincached(program, one, &peers, flags);
        let peer = Node::twincached(program, two, &peers, flags);
        let pair = Pair { source: source.serving(), peer: peer.serving() };
        wait_until("a pair is in sync", || pair.is_linked());
        pair
    }

    pub(crate) fn redis() -> Pair {
        let source = Node::redis(&[]).serving();
        let peer = Node::redis(&[]).serving();
        let mut control = peer.control().expect("a replica");
        let said = control.ask(&format!("replicaof 127.0.0.1 {}", source.port));
        assert_eq!(said.as_deref(), Ok("+OK"));
        let pair = Pair { source, peer };
        wait_until("a replica is in sync", || pair.is_linked());
        pair
    }

    /// Whether the peer has what the source has, as both say.
    pub(crate) fn is_linked(&self) -> bool {
        let (Ok(ours), Ok(theirs)) =
            (self.source.told("replication"), self.peer.told("replication"))
        else {
            return false;
        };
        match self.source.protocol {
            Protocol::Memcached => {
                let is_in_sync = |told: Told| {
                    number(&told, "peers_in_sync") == 1 && number(&told, "peer0:lag_ms") == 0
                };
                is_in_sync(ours) && is_in_sync(theirs)
            }
            Protocol::Redis => {
                let is_up = theirs.get("master_link_status").is_some_and(|status| status == "up");
                is_up && number(&ours, "master_repl_offset") == number(&theirs, "slave_repl_offset")
            }
        }
    }
}
