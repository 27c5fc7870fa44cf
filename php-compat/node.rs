//! One session node of a [`crate::farm::Farm`]: a process that is killed, frozen and started again,
//! always behind the same door. Ours or a memcached: the same words for both.
//!
//! Not here: the one server of a story in which nobody dies ([`crate::server`]).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::peek::Peek;
use crate::port::free_port;
use crate::root;
use crate::server::{Address, Make, Transport};

/// How long a node may take to serve, to be in sync, or to stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node of a farm.
pub(crate) struct Node {
    make: Make,
    address: Address,
    flags: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet; its files are in `dir`, which is its own.
    pub(crate) fn new(make: Make, transport: Transport, flags: Vec<String>, dir: &Path) -> Node {
        let address = match transport {
            Transport::Tcp => Address::Tcp(free_port()),
            Transport::Udp => Address::Udp(free_port(), free_port()),
            Transport::Unix => Address::Unix(dir.join("socket")),
        };
        Node { make, address, flags, log: dir.join("server.log"), child: None }
    }

    /// Where PHP finds it.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Starts it, and does not wait for anything. What it says is added to its log.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        // setpriv(1) becomes the server, and has it end with the thread that started it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match self.make {
            Make::Twincached => {
                command.args([env!("CARGO_BIN_EXE_twincached"), "-v", "-t", "2", "--test-clock"]);
            }
            Make::Memcached => {
                let memcached = root::program("memcached");
                command.arg(memcached.get_program()).args(memcached.get_args());
                command.args(["-u", "root", "-t", "2"]);
            }
        }
        match &self.address {
            Address::Tcp(port) => command.args(["-l", "127.0.0.1", "-p", &port.to_string()]),
            Address::Udp(port, udp) => command
                .args(["-l", "127.0.0.1", "-p", &port.to_string()])
                .args(["-U", &udp.to_string()]),
            Address::Unix(path) => command.arg("-s").arg(self.make.calls(path)),
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TWINCACHED_")) {
            command.env_remove(name);
        }
        command.args(&self.flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("setpriv(1) of util-linux is needed"));
    }

    /// Waits until a client is answered.
    #[track_caller]
    pub(crate) fn wait_until_it_serves(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.serves() {
            let ended = self.child.as_mut().expect("it was started").try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            assert!(Instant::now() < deadline, "it does not serve: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn serves(&self) -> bool {
        let Ok(mut stream) = self.address.connect() else { return false };
        let mut reply = [0; 8];
        stream.write_all(b"version\r\n").is_ok()
            && stream.read_exact(&mut reply).is_ok()
            && &reply == b"VERSION "
    }

    /// A look into it; it must serve.
    #[track_caller]
    pub(crate) fn peek(&self) -> Peek {
        match self.address.connect() {
            Ok(stream) => Peek::over(stream),
            Err(error) => panic!("{error}: {}", self.log()),
        }
    }

    /// Whether `key` is stored.
    #[track_caller]
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.peek().holds(key)
    }

    /// A number of a group of statistics.
    #[track_caller]
    pub(crate) fn counts(&self, group: &str, name: &str) -> u64 {
        let stats = self.peek().stats(group);
        let value = stats.get(name).unwrap_or_else(|| panic!("no {name} in {stats:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name} {value}"))
    }

    /// What it has said in all its lives.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether there is a process.
    pub(crate) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Which signals it: a node's process, for threads that do not own the node.
    pub(crate) fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("it was started");
        Pid::from_raw(i32::try_from(child.id()).unwrap())
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it was started");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and the end.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let mut child = self.child.take().expect("it was started");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("it does not stop: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let panicked = self.log().contains("panicked at");
        if panicked && !std::thread::panicking() {
            panic!("a thread of a node panicked: {}", self.log());
        }
    }
}
