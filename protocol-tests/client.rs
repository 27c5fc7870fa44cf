//! A client for tests that are programs rather than transcripts, and what `/proc` says of a server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::frame::{self, Frame};
use crate::pattern::{Memory, escape};
use crate::server::{Server, Stream};

/// Longest wait for an answer before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the long forms of the measurements were asked for (`./test soak`).
pub(crate) fn long_form() -> bool {
    std::env::var_os("PROTOCOL_TESTS_LONG").is_some()
}

/// Taken by a test that measures or loads the machine, so that two never do so at once.
pub(crate) fn machine_to_itself() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the machine's host takes away from it meanwhile: a virtual machine's cores are not always its own.
pub(crate) struct Host(Vec<u64>);

impl Host {
    pub(crate) fn watched() -> Host {
        let table = fs::read_to_string("/proc/stat").unwrap_or_default();
        let cores =
            table.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
        let stolen = |line: &str| line.split_whitespace().nth(8)?.parse().ok();
        Host(cores.filter_map(stolen).collect())
    }

    /// The time that the core which lost most has lost.
    pub(crate) fn took(&self) -> Duration {
        let pairs = Host::watched().0.into_iter().zip(&self.0);
        let ticks = pairs.map(|(now, before)| now.saturating_sub(*before)).max();
        // The kernel counts in hundredths of a second.
        Duration::from_millis(10 * ticks.unwrap_or_default())
    }
}

/// Prints a figure past libtest's capture, so that it is seen when all is well.
pub(crate) fn show(figure: &str) {
    let _ = writeln!(std::io::stderr(), "    {figure}");
}

/// Waits until `reached`, or fails saying `what` did not come.
pub(crate) fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection with its unread bytes.
pub(crate) struct Client {
    stream: Stream,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Client {
        Client::over(server.connect())
    }

    /// A client on an open connection.
    pub(crate) fn over(stream: Stream) -> Client {
        stream.set_timeout(PATIENCE);
        Client { stream, unread: Vec::new() }
    }

    /// A connection, if there can be one at once.
    pub(crate) fn try_of(server: &Server) -> Option<Client> {
        server.try_connect(Duration::from_millis(300)).map(Client::over)
    }

    /// Sends `bytes`, which the server must take.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the server may refuse to take; says whether it was taken within `patience`.
    pub(crate) fn try_send(&mut self, bytes: &[u8], patience: Duration) -> bool {
        self.stream.set_timeout(patience);
        let taken = self.stream.write_all(bytes).is_ok();
        self.stream.set_timeout(PATIENCE);
        taken
    }

    /// Reads one line, with its line end; what there is when the connection ends.
    pub(crate) fn line(&mut self) -> Vec<u8> {
        let mut looked_at = 0;
        loop {
            if let Some(feed) = self.unread[looked_at..].iter().position(|&b| b == b'\n') {
                return self.unread.drain(..=looked_at + feed).collect();
            }
            looked_at = self.unread.len();
            if !self.read_more() {
                return std::mem::take(&mut self.unread);
            }
        }
    }

    /// Reads exactly `answer`.
    #[track_caller]
    pub(crate) fn expect(&mut self, answer: impl AsRef<[u8]>) {
        let answer = answer.as_ref();
        while self.unread.len() < answer.len() && self.read_more() {}
        let got: Vec<u8> = self.unread.drain(..answer.len().min(self.unread.len())).collect();
        assert!(got == answer, "expected {}, got {}", escape(answer), escape(&got));
    }

    /// Sends `request` and reads exactly `answer`.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        self.send(request);
        self.expect(answer);
    }

    /// Stores `value` under `key`.
    #[track_caller]
    pub(crate) fn set(&mut self, key: &str, value: &[u8]) {
        self.send(
            [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        );
        self.expect("STORED\r\n");
    }

    /// The value under `key`.
    #[track_caller]
    pub(crate) fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.send(format!("get {key}\r\n"));
        let header = String::from_utf8(self.line()).unwrap();
        if header == "END\r\n" {
            return None;
        }
        let length = header.trim_end().rsplit(' ').next().and_then(|n| n.parse().ok());
        let length: usize = length.unwrap_or_else(|| panic!("not a hit: {header:?}"));
        let value = self.bytes(length);
        self.expect("\r\nEND\r\n");
        Some(value)
    }

    /// Reads exactly `length` bytes.
    #[track_caller]
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.read_more(), "{} of {length} bytes came", self.unread.len());
        }
        self.unread.drain(..length).collect()
    }

    /// Reads a reply of the binary protocol.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        loop {
            match frame::reply_length(&self.unread) {
                Some(length) if length <= self.unread.len() => return self.bytes(length),
                _ => assert!(self.read_more(), "half a frame: {}", escape(&self.unread)),
            }
        }
    }

    /// Sends a request and reads the reply to it, both in the notation of [`crate::frame`].
    #[track_caller]
    pub(crate) fn ask_frame(&mut self, request: &str, reply: &str) {
        self.send(frame::request(request));
        self.expect_frame(reply);
    }

    /// Reads a reply in the notation of [`crate::frame`].
    #[track_caller]
    pub(crate) fn expect_frame(&mut self, reply: &str) {
        let got = self.frame();
        let fits = Frame::reply(reply).unwrap().fits(&got, &mut Memory::new(), 0);
        assert!(fits, "expected {reply}, got {}", frame::show(&got));
    }

    /// Reads until the server closes; what it said. `None` when it does not close.
    pub(crate) fn last_words(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.read_once() {
                Ok(0) => return Some(std::mem::take(&mut self.unread)),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Some(std::mem::take(&mut self.unread));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether the server answers a `version`.
    pub(crate) fn is_served(&mut self) -> bool {
        self.stream.write_all(b"version\r\n").is_ok() && self.line().starts_with(b"VERSION ")
    }

    /// `stats <which>`, by name.
    #[track_caller]
    pub(crate) fn stats(&mut self, which: &str) -> BTreeMap<String, String> {
        self.send(format!("stats {which}\r\n"));
        let mut stats = BTreeMap::new();
        loop {
            let line = String::from_utf8(self.line()).unwrap();
            let mut words = line.trim_end().splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("STAT"), Some(name), value) => {
                    stats.insert(name.to_string(), value.unwrap_or_default().to_string());
                }
                (Some("END"), None, None) => return stats,
                _ => panic!("stats {which}: {line:?}"),
            }
        }
    }

    /// One number of `stats`.
    #[track_caller]
    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        let stats = self.stats("");
        let value = stats.get(name).unwrap_or_else(|| panic!("no `{name}` in stats"));
        value.parse().unwrap()
    }

    /// Bounds how long a read may wait.
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.stream.set_timeout(patience);
    }

    fn read_more(&mut self) -> bool {
        matches!(self.read_once(), Ok(read) if read > 0)
    }

    fn read_once(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        let read = self.stream.read(&mut chunk)?;
        self.unread.extend_from_slice(&chunk[..read]);
        Ok(read)
    }
}

/// Resident memory of `server` in KiB.
pub(crate) fn rss_kib(server: &Server) -> u64 {
    rss_kib_of(server.pid())
}

/// The same of a server that has just been started, once its thread for memory has touched what it does
/// ahead: on a busy machine that is 2 MiB, some time after clients are served.
pub(crate) fn settled_rss_kib(server: &Server) -> u64 {
    wait_until("memory has been touched ahead", || {
        let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let stats = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")));
        stats.flatten().any(|stat| stat.contains("(memory) S "))
    });
    rss_kib(server)
}

/// Resident memory of a process in KiB.
pub(crate) fn rss_kib_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time of `server` since its start, in ticks of 10 ms.
pub(crate) fn cpu_ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    ticks(11) + ticks(12)
}

/// How many file descriptors `server` holds.
pub(crate) fn open_files(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

/// Bounds the file descriptors of the running `server`.
pub(crate) fn limit_files(server: &Server, files: usize) {
    let [pid, files] = [format!("--pid={}", server.pid()), format!("--nofile={files}:")];
    let status = Command::new("prlimit").args([pid, files]).status().unwrap();
    assert!(status.success(), "prlimit: {status}");
}

/// Lets this test process hold as many connections as the machine allows.
pub(crate) fn many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}
