//! A source and a second server that mirrors it: two of ours, or Redis and its replica.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::wire::Wire;

/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours, with these options.
    Twincached(&'static [&'static str]),
    Redis,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Kind::Twincached(flags) => format!("twincached {}", flags.join(" ")),
            Kind::Redis => "redis-server".to_owned(),
        }
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Up to two servers, each with a port for clients and one for its peer.
pub(crate) struct Pair {
    kind: Kind,
    ports: [(u16, u16); 2],
    dir: TempDir,
    servers: Vec<Killed>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Pair {
    /// The source, serving.
    pub(crate) fn source_only(kind: Kind) -> Pair {
        let ports = [(); 2].map(|()| (free_port(), free_port()));
        let mut pair = Pair { kind, ports, dir: tempfile::tempdir().unwrap(), servers: Vec::new() };
        pair.start(0);
        pair.wait("it serves", |pair| TcpStream::connect(("127.0.0.1", pair.ports[0].0)).is_ok());
        pair
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn source_port(&self) -> u16 {
        self.ports[0].0
    }

    /// Starts the second server, empty.
    pub(crate) fn start_other(&mut self) {
        self.start(1);
    }

    fn start(&mut self, index: usize) {
        let (port, peer_port) = self.ports[index];
        let mut command = match self.kind {
            Kind::Twincached(flags) => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_twincached"));
                command.args(["-l", "127.0.0.1", "-m", "2048", "-p", &port.to_string()]);
                command.args(["-X", &peer_port.to_string(), "--bootstrap-timeout", "1"]);
                for (_, port) in self.ports {
                    command.args(["--peer", &format!("127.0.0.1:{port}")]);
                }
                command.args(flags);
                command
            }
            Kind::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                command.args(["--repl-diskless-sync-delay", "0", "--port", &port.to_string()]);
                if index == 1 {
                    command.args(["--replicaof", "127.0.0.1", &self.ports[0].0.to_string()]);
                }
                command
            }
        };
        command.current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.servers.push(Killed(command.spawn().unwrap()));
    }

    fn wait(&mut self, what: &str, reached: impl Fn(&Pair) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the second server serves and holds so many items.
    pub(crate) fn wait_until_the_other_holds(&mut self, items: u64) {
        self.wait("the other has everything", |pair| {
            let port = pair.ports[1].0;
            TcpStream::connect(("127.0.0.1", port)).is_ok()
                && Wire::to(pair.kind, port).items() >= items
        });
    }

    /// Waits until writes go to the second server as they come.
    pub(crate) fn wait_until_linked(&mut self) {
        let kind = self.kind;
        let [one, other] = self.ports.map(|(port, _)| port);
        self.wait("the two are linked", |_| TcpStream::connect(("127.0.0.1", other)).is_ok());
        let held = Wire::to(kind, one).items();
        self.wait("the other has everything", |_| Wire::to(kind, other).items() >= held);
    }

    /// Processor time of the source in ticks of 10 ms.
    pub(crate) fn source_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.servers[0].0.id())).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        [11, 12].iter().map(|field| fields[*field].parse::<u64>().unwrap()).sum()
    }
}
