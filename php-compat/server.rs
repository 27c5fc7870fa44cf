//! A session server: ours, or the distribution's memcached as oracle, with the same flags.
//!
//! Both are started on a port that the kernel chooses, or on a unix socket, and can be looked into
//! to see what PHP left in them. Not here: PHP.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::peek::{Peek, Stream};
use crate::process::Process;
use crate::root;

/// Who may log in where a login is asked for. README.md shows the same to PHP.
pub(crate) const USER: &str = "web";
pub(crate) const PASSWORD: &str = "a-long-password";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    Twincached,
    Memcached,
}

impl Make {
    /// Whether [`Server::let_time_pass`] takes no time: our test clock is moved in text, which
    /// nobody can send who has to log in by SASL.
    pub(crate) fn has_a_test_clock(self, door: Door) -> bool {
        self == Make::Twincached && door == Door::Open
    }

    /// What this server calls `path`.
    pub(crate) fn calls(self, path: &Path) -> PathBuf {
        match self {
            Make::Twincached => path.to_owned(),
            Make::Memcached => root::inside(path),
        }
    }
}

/// How PHP reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
    /// TCP, and UDP for what PHP sends there.
    Udp,
}

/// Who is heard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Only who logged in by SASL (`-S`).
    Sasl,
}

/// Where a running server listens.
pub(crate) enum Address {
    Tcp(u16),
    Unix(PathBuf),
    /// The ports of TCP and UDP.
    Udp(u16, u16),
}

impl Address {
    /// A connection of the harness's own.
    pub(crate) fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Address::Tcp(port) | Address::Udp(port, _) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Moves the clock of the server there, which has one for tests.
    pub(crate) fn move_test_clock(&self, time: Duration) {
        let mut stream = self.connect().expect("the server listens");
        write!(stream, "debugtime +{}\r\n", time.as_secs()).unwrap();
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).expect("a reply in time");
        assert_eq!(&reply, b"OK\r\n");
    }
}

/// A running server.
pub(crate) struct Server {
    make: Make,
    address: Address,
    door: Door,
    process: Process,
}

impl Server {
    /// Starts a server whose files are in `dir`; `flags` follow the ones every story needs.
    pub(crate) fn start(
        make: Make,
        transport: Transport,
        door: Door,
        flags: &[&str],
        dir: &Path,
    ) -> Server {
        let mut command = match make {
            Make::Twincached => Command::new(env!("CARGO_BIN_EXE_twincached")),
            Make::Memcached => root::program("memcached"),
        };
        match make {
            Make::Twincached => command.arg("--test-clock"),
            Make::Memcached => command.args(["-u", "root"]),
        };
        let port_file = dir.join("port");
        let socket = dir.join("socket");
        let named = |path: &Path| make.calls(path);
        match transport {
            Transport::Tcp => command.args(["-l", "127.0.0.1", "-p", "-1"]),
            Transport::Udp => command.args(["-l", "127.0.0.1", "-p", "-1", "-U", "-1"]),
            Transport::Unix => command.arg("-s").arg(named(&socket)),
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TWINCACHED_")) {
            command.env_remove(name);
        }
        command.args(flags).env("MEMCACHED_PORT_FILENAME", named(&port_file));
        if door == Door::Sasl {
            ask_for_a_login(&mut command, make, dir);
        }
        let mut process = Process::start(&command, dir.join("server.log"));
        let mut port = |of| process.wait_until(|_| port_in(&port_file, of));
        let address = match transport {
            Transport::Tcp => Address::Tcp(port("TCP INET: ")),
            Transport::Udp => Address::Udp(port("TCP INET: "), port("UDP INET: ")),
            Transport::Unix => {
                process.wait_until(|_| UnixStream::connect(&socket).ok());
                Address::Unix(socket)
            }
        };
        Server { make, address, door, process }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether `key` is stored.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.peek().holds(key)
    }

    /// Stores `value` for `seconds`, as a PHP extension would have done.
    pub(crate) fn plant(&self, key: &str, flags: u32, seconds: u32, value: &str) {
        self.peek().set(key, flags, seconds, value);
    }

    /// A counter of a group of statistics.
    pub(crate) fn counts(&self, group: &str, name: &str) -> u64 {
        let stats = self.peek().stats(group);
        stats.get(name).expect("a statistic of that name").parse().unwrap()
    }

    /// Lets `time` pass for the sessions, on the test clock or by living it.
    pub(crate) fn let_time_pass(&self, time: Duration) {
        if !self.make.has_a_test_clock(self.door) {
            return std::thread::sleep(time);
        }
        self.address.move_test_clock(time);
    }

    fn peek(&self) -> Peek {
        let peek = Peek::over(self.connect());
        match self.door {
            Door::Open => peek,
            Door::Sasl => peek.log_in(),
        }
    }

    fn connect(&self) -> Box<dyn Stream> {
        self.address.connect().expect("the server listens")
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

fn port_in(file: &Path, of: &str) -> Option<u16> {
    let text = fs::read_to_string(file).ok()?;
    let port = text.lines().find_map(|line| line.strip_prefix(of));
    Some(port.expect("a line with the port").parse().unwrap())
}

/// Turns SASL on, with one user: from our file, or from Cyrus SASL's database.
fn ask_for_a_login(command: &mut Command, make: Make, dir: &Path) {
    command.arg("-S");
    match make {
        Make::Twincached => {
            let users = dir.join("users");
            fs::write(&users, format!("{USER}:{PASSWORD}\n")).unwrap();
            command.env("MEMCACHED_SASL_PWDB", users);
        }
        Make::Memcached => {
            let users = dir.join("sasldb");
            let mut saslpasswd = Command::new("/usr/sbin/saslpasswd2")
                .args(["-p", "-c", "-f"])
                .arg(&users)
                .arg(USER)
                .stdin(Stdio::piped())
                .spawn()
                .expect("saslpasswd2(8) of sasl2-bin is needed");
            saslpasswd.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
            assert!(saslpasswd.wait().unwrap().success(), "saslpasswd2 took the user");
            let lines = format!(
                "mech_list: plain cram-md5\npwcheck_method: auxprop\nauxprop_plugin: sasldb\n\
                 sasldb_path: {}\n",
                root::inside(&users).display()
            );
            fs::write(dir.join("memcached.conf"), lines).unwrap();
            command.env("SASL_CONF_PATH", root::inside(dir));
        }
    }
}
