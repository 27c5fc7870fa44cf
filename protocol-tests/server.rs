//! A server process under test: twincached, or the distribution's memcached as the oracle. Started
//! on a port that the kernel chooses, killed when dropped.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest that a server may take to listen; generous, for a machine that does other work.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Which program to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Twincached,
    Oracle,
}

impl Program {
    fn path(self) -> &'static str {
        match self {
            Program::Twincached => env!("CARGO_BIN_EXE_twincached"),
            Program::Oracle => "/usr/bin/memcached",
        }
    }
}

#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A running server.
pub(crate) struct Server {
    program: Program,
    child: Child,
    address: Address,
    dir: TempDir,
}

impl Server {
    /// Starts a server that must start.
    pub(crate) fn start(program: Program, flags: &[&str]) -> Server {
        Server::try_start(program, flags).unwrap()
    }

    /// Starts `program` with `flags` (`{dir}` in them is a directory of its own) and waits until it
    /// listens. When it does not, `Err` has the server's own words.
    pub(crate) fn try_start(program: Program, flags: &[&str]) -> Result<Server, String> {
        Server::launch(program, flags, program == Program::Twincached)
    }

    /// Starts twincached as an operator would.
    pub(crate) fn start_without_test_clock() -> Server {
        Server::launch(Program::Twincached, &[], false).unwrap()
    }

    fn launch(program: Program, flags: &[&str], test_clock: bool) -> Result<Server, String> {
        let dir = tempfile::tempdir().unwrap();
        let port_file = dir.path().join("port");
        let stderr = fs::File::create(dir.path().join("stderr")).unwrap();
        let mut command = Command::new(program.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TWINCACHED_")) {
            command.env_remove(name);
        }
        let flags = flags.iter().map(|flag| flag.replace("{dir}", &dir.path().to_string_lossy()));
        let flags: Vec<String> = flags.collect();
        let socket = flags.iter().skip_while(|flag| *flag != "-s").nth(1).map(PathBuf::from);
        if socket.is_none() {
            command.args(["-l", "127.0.0.1", "-p", "-1"]);
        }
        if test_clock {
            command.arg("--test-clock");
        }
        if program == Program::Oracle && nix::unistd::geteuid().is_root() {
            command.args(["-u", "root"]);
        }
        command.args(&flags).env("MEMCACHED_PORT_FILENAME", &port_file);
        // Cyrus SASL, which the oracle has, starts only where it is told to look.
        command.env("SASL_CONF_PATH", dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.path()))?;
        let mut server = Server { program, child, address: Address::Tcp(([0; 4], 0).into()), dir };
        server.address = server.wait_until_it_listens(&port_file, socket.as_deref())?;
        Ok(server)
    }

    fn wait_until_it_listens(
        &mut self,
        port_file: &Path,
        socket: Option<&Path>,
    ) -> Result<Address, String> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(socket) = socket {
                if UnixStream::connect(socket).is_ok() {
                    return Ok(Address::Unix(socket.to_path_buf()));
                }
            } else if let Some(port) =
                fs::read_to_string(port_file).ok().as_deref().and_then(port_in)
            {
                return Ok(Address::Tcp(([127, 0, 0, 1], port).into()));
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!("the server ended at its start: {status}: {}", self.stderr()));
            }
            if Instant::now() > deadline {
                return Err(format!("the server does not listen: {}", self.stderr()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Stream {
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).unwrap()),
        }
    }

    /// A new connection over TCP, unless it takes longer than `patience`.
    pub(crate) fn try_connect(&self, patience: Duration) -> Option<Stream> {
        let address = ([127, 0, 0, 1], self.port()).into();
        TcpStream::connect_timeout(&address, patience).ok().map(Stream::Tcp)
    }

    /// Which program it is.
    pub(crate) fn program(&self) -> Program {
        self.program
    }

    /// The TCP port.
    pub(crate) fn port(&self) -> u16 {
        match &self.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => panic!("a server on a unix socket has no port"),
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file `name` in the server's own directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it has written to its standard error.
    pub(crate) fn stderr(&self) -> String {
        let bytes = fs::read(self.file("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is wrong with it, if anything: it died, or a thread of it panicked.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Some(format!("the server died: {status}: {}", self.stderr()));
        }
        let stderr = self.stderr();
        stderr.contains("panicked at").then(|| format!("the server panicked: {stderr}"))
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_until_it_ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL: upstream takes a second to obey SIGTERM, and hundreds of servers are started.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port in a port file such as `TCP INET: 34847`.
fn port_in(port_file: &str) -> Option<u16> {
    port_file.lines().find_map(|line| line.strip_prefix("TCP INET: ")?.trim().parse().ok())
}

/// A client's connection over TCP or a unix socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Bounds how long a read and a write may wait.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        let timeout = Some(timeout);
        match self {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
        }
        .unwrap();
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
