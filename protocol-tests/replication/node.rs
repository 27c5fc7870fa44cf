//! One node: a process that is started, frozen, killed and started again, always on its ports.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::port::free_port;
use crate::client::{Client, PATIENCE, rss_kib_of, wait_until};
use crate::server::Stream;

/// A node of a cluster.
pub(super) struct Node {
    /// Where peers find it.
    pub(super) peer_port: u16,
    port: u16,
    socket: Option<PathBuf>,
    flags: Vec<String>,
    dir: TempDir,
    run: u32,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet; `{dir}` in `flags` is a directory of its own.
    pub(super) fn new(peer_port: u16, flags: &[String]) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let own = |flag: &String| flag.replace("{dir}", &dir.path().to_string_lossy());
        let flags: Vec<String> = flags.iter().map(own).collect();
        let socket = flags.iter().skip_while(|flag| *flag != "-s").nth(1).map(PathBuf::from);
        Node { peer_port, port: free_port(), socket, flags, dir, run: 0, child: None }
    }

    /// Starts it, and does not wait for anything.
    pub(super) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.run += 1;
        let log = File::create(self.log_path()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twincached"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TWINCACHED_")) {
            command.env_remove(name);
        }
        if self.socket.is_none() {
            command.args(["-l", "127.0.0.1", "-p", &self.port.to_string()]);
        }
        command.args(["-v", "-t", "2", "--replication-port", &self.peer_port.to_string()]);
        command.args(&self.flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts it with these flags after its own from now on.
    pub(super) fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(ToString::to_string));
    }

    /// Where TCP clients find it.
    pub(super) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A connection, if there can be one.
    pub(super) fn try_connect(&self) -> Option<Stream> {
        match &self.socket {
            Some(path) => UnixStream::connect(path).ok().map(Stream::Unix),
            None => TcpStream::connect(self.address()).ok().map(Stream::Tcp),
        }
    }

    /// A client of it, which must serve.
    #[track_caller]
    pub(super) fn client(&self) -> Client {
        Client::over(self.try_connect().unwrap_or_else(|| panic!("refused: {}", self.log())))
    }

    /// Whether a client is answered.
    pub(super) fn serves(&self) -> bool {
        self.try_connect().is_some_and(|stream| Client::over(stream).is_served())
    }

    /// Waits until a client is answered; how long that took.
    #[track_caller]
    pub(super) fn wait_until_it_serves(&mut self) -> Duration {
        let since = Instant::now();
        while !self.serves() {
            assert!(self.is_alive(), "it ended: {}", self.log());
            assert!(since.elapsed() < PATIENCE, "it does not serve: {}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        since.elapsed()
    }

    /// One number of `stats replication`.
    #[track_caller]
    pub(super) fn told(&self, name: &str) -> u64 {
        let stats = self.client().stats("replication");
        let value = stats.get(name).unwrap_or_else(|| panic!("no {name} in {stats:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name} {value}"))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join(format!("log{}", self.run))
    }

    /// What it has said since it was last started.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits until a line of its log has all of `words`; that line.
    #[track_caller]
    pub(super) fn wait_until_it_says(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            if let Some(line) = line {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "it does not say {words:?}: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Since when it has said, last, that it has no peer to wait for.
    pub(super) fn alone_since(&self) -> Option<Instant> {
        let log = self.log();
        let said = |line: &&str| {
            ["peer in sync", "peer too slow", "peer unlinked"]
                .iter()
                .any(|words| line.contains(words))
        };
        let last = log.lines().rfind(said)?;
        let (looked, now) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let time: Vec<&str> = last.get(11..26)?.split(':').collect();
        let [hours, minutes, seconds] = time[..] else { panic!("no time in {last}") };
        let [hours, minutes] = [hours, minutes].map(|part| part.parse::<u32>().unwrap());
        let seconds = f64::from(hours * 3600 + minutes * 60) + seconds.parse::<f64>().unwrap();
        let today = now.as_secs_f64() % 86_400.0;
        let ago = Duration::from_secs_f64((today - seconds).rem_euclid(86_400.0));
        (!last.contains("peer in sync")).then(|| looked - ago)
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Resident memory in KiB.
    pub(super) fn rss_kib(&self) -> u64 {
        rss_kib_of(self.pid())
    }

    /// Whether its process runs.
    pub(super) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// SIGSTOP, until every thread stands still.
    pub(super) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.pid());
        let stands_still = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        };
        wait_until("it stands still", || {
            fs::read_dir(&tasks).unwrap().all(|task| stands_still(task.unwrap()))
        });
    }

    /// SIGCONT.
    pub(super) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// SIGHUP.
    pub(super) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and the end; how long that took.
    pub(super) fn stop(&mut self) -> (ExitStatus, Duration) {
        let since = Instant::now();
        self.signal(Signal::SIGTERM);
        let mut status = None;
        wait_until("it ends when it is told to", || {
            status = self.child.as_mut().unwrap().try_wait().unwrap();
            status.is_some()
        });
        self.child = None;
        (status.unwrap(), since.elapsed())
    }

    /// Waits until it has ended by itself.
    pub(super) fn wait_until_it_ends(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("it ends by itself", || {
            status = self.child.as_mut().unwrap().try_wait().unwrap();
            status.is_some()
        });
        self.child = None;
        status.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- node at {}, run {}:\n{}", self.peer_port, self.run, self.log());
        }
        let panicked = self.log().contains("panicked at");
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if panicked && !std::thread::panicking() {
            panic!("a thread of a node panicked: {}", self.log());
        }
    }
}
