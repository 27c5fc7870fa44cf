//! A session server: ours, or the distribution's memcached as oracle, with the same flags.
//!
//! Both are started on a port that the kernel chooses, or on a unix socket, and can be asked a
//! line of text to see what PHP left in them. Not here: PHP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Twincached,
    Memcached,
}

/// How PHP reaches it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// Where a running server listens.
pub(crate) enum Address {
    Tcp(u16),
    Unix(PathBuf),
}

/// A running server.
pub(crate) struct Server {
    make: Make,
    address: Address,
    process: Process,
}

impl Server {
    /// Starts a server whose files are in `dir`; `flags` follow the ones every story needs.
    pub(crate) fn start(make: Make, transport: Transport, flags: &[&str], dir: &Path) -> Server {
        let mut command = match make {
            Make::Twincached => Command::new(env!("CARGO_BIN_EXE_twincached")),
            Make::Memcached => Command::new("memcached"),
        };
        match make {
            Make::Twincached => command.arg("--test-clock"),
            Make::Memcached => command.args(["-u", "root"]),
        };
        let port_file = dir.join("port");
        let socket = dir.join("socket");
        match transport {
            Transport::Tcp => command.args(["-l", "127.0.0.1", "-p", "-1"]),
            Transport::Unix => command.arg("-s").arg(&socket),
        };
        command.args(flags).env("MEMCACHED_PORT_FILENAME", &port_file);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TWINCACHED_")) {
            command.env_remove(name);
        }
        let mut process = Process::start(&command, dir.join("server.log"));
        let address = match transport {
            Transport::Tcp => Address::Tcp(process.wait_until(|_| port_in(&port_file))),
            Transport::Unix => {
                process.wait_until(|_| UnixStream::connect(&socket).ok());
                Address::Unix(socket)
            }
        };
        Server { make, address, process }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends `request` and returns the reply up to and including the line `end`.
    pub(crate) fn ask(&self, request: &str, end: &str) -> String {
        match &self.address {
            Address::Tcp(port) => converse(
                TcpStream::connect(("127.0.0.1", *port))
                    .inspect(|stream| stream.set_read_timeout(Some(PATIENCE)).unwrap()),
                request,
                end,
            ),
            Address::Unix(path) => converse(
                UnixStream::connect(path)
                    .inspect(|stream| stream.set_read_timeout(Some(PATIENCE)).unwrap()),
                request,
                end,
            ),
        }
    }

    /// Whether `key` is stored.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.ask(&format!("get {key}\r\n"), "END\r\n").starts_with("VALUE ")
    }

    /// Stores `value` for `seconds`, as a PHP extension would have done.
    pub(crate) fn plant(&self, key: &str, flags: u32, seconds: u32, value: &str) {
        let length = value.len();
        self.ask(&format!("set {key} {flags} {seconds} {length}\r\n{value}\r\n"), "STORED\r\n");
    }

    /// Lets `time` pass for the sessions: ours moves its test clock, the oracle must live it.
    pub(crate) fn let_time_pass(&self, time: Duration) {
        match self.make {
            Make::Twincached => {
                self.ask(&format!("debugtime +{}\r\n", time.as_secs()), "OK\r\n");
            }
            Make::Memcached => std::thread::sleep(time),
        }
    }

    /// Stops it as an operator would.
    ///
    /// # Panics
    /// When it does not end well, or complained of a panic before.
    pub(crate) fn stop(mut self) {
        let status = self.process.stop();
        let log = self.process.output();
        assert!(!log.contains("panicked"), "the server panicked:\n{log}");
        assert!(status.success(), "the server ended with {status}:\n{log}");
    }
}

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn port_in(file: &Path) -> Option<u16> {
    let text = fs::read_to_string(file).ok()?;
    let port = text.lines().find_map(|line| line.strip_prefix("TCP INET: "));
    Some(port.expect("a line `TCP INET: <port>`").parse().unwrap())
}

fn converse(stream: std::io::Result<impl Read + Write>, request: &str, end: &str) -> String {
    let mut stream = stream.expect("the server takes connections");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    let mut piece = [0; 4096];
    while !reply.ends_with(end.as_bytes()) {
        let length = stream.read(&mut piece).expect("a reply in time");
        let so_far = String::from_utf8_lossy(&reply);
        assert!(length > 0, "{request:?} was answered {so_far:?}, then closed");
        reply.extend_from_slice(&piece[..length]);
        let refused = reply.starts_with(b"ERROR") || reply.starts_with(b"CLIENT_ERROR");
        assert!(!refused, "{request:?} was refused: {}", String::from_utf8_lossy(&reply));
    }
    String::from_utf8(reply).expect("what stories ask for is text")
}
