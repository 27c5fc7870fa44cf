//! A cluster of nodes on loopback.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Client, wait_until};
use crate::server::{Program, Server};

/// Ports below those that the kernel gives to whoever asks for any.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port that nobody has, nor gets by chance before it is used.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    let start = u16::try_from(std::process::id() * 61 % u32::from(width)).unwrap();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (start + step) % width;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A node, running or not.
pub(crate) struct Node {
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    flags: Vec<String>,
    server: Option<Server>,
}

impl Node {
    /// The process of a node that runs.
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// A connection to a node that runs.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        let client = Client::try_of(self.server());
        client.unwrap_or_else(|| panic!("port {} is shut", self.client_port))
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&mut self) {
        self.server = Some(self.launch().unwrap());
    }

    /// Starts it, which may fail.
    pub(crate) fn launch(&self) -> Result<Server, String> {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        Server::try_start(Program::Twincached, &flags)
    }

    /// Adds options for the next start.
    pub(crate) fn with(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    /// Takes the options away that were added since there were `left` of them.
    pub(crate) fn flags(&mut self) -> &mut Vec<String> {
        &mut self.flags
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let mut server = self.server.take().unwrap();
        assert!(server.wait_until_it_ends().success(), "{}", server.stderr());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server().pid()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Whether clients are refused.
    pub(crate) fn refuses(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.client_port))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    /// Waits until so many peers are in sync.
    #[track_caller]
    pub(crate) fn wait_for_peers(&self, peers: usize) {
        let mut client = self.client();
        let peers = peers.to_string();
        wait_until("peers are in sync", || {
            client.stats("replication").get("peers_in_sync") == Some(&peers)
        });
    }
}

/// Nodes that know of each other.
pub(crate) struct Cluster(pub(crate) Vec<Node>);

impl Drop for Cluster {
    /// A story that fails shows what its nodes said.
    fn drop(&mut self) {
        for node in self.0.iter().filter(|_| std::thread::panicking()) {
            if let Some(server) = &node.server {
                println!("the node at port {}:\n{}", node.client_port, server.stderr());
            }
        }
    }
}

impl Cluster {
    /// Nodes that do not run yet.
    pub(crate) fn of(count: usize, flags: &[&str]) -> Cluster {
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let node = |own: usize| {
            let (client_port, peer_port) = ports[own];
            let mut words = vec!["-p".to_owned(), client_port.to_string()];
            words.extend(["-X".to_owned(), peer_port.to_string()]);
            // One list for all nodes: each finds itself in it.
            for (_, port) in &ports {
                words.extend(["--peer".to_owned(), format!("127.0.0.1:{port}")]);
            }
            words.extend(flags.iter().map(|flag| (*flag).to_owned()));
            Node { client_port, peer_port, flags: words, server: None }
        };
        Cluster((0..count).map(node).collect())
    }

    /// Nodes that run and are in sync.
    pub(crate) fn start(count: usize, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::of(count, flags);
        cluster.start_all();
        cluster.wait_until_in_sync();
        cluster
    }

    /// Starts all nodes at once.
    pub(crate) fn start_all(&mut self) {
        std::thread::scope(|scope| {
            for node in &mut self.0 {
                scope.spawn(|| node.start());
            }
        });
    }

    /// Waits until every node has every other in sync.
    #[track_caller]
    pub(crate) fn wait_until_in_sync(&self) {
        let others = self.0.len() - 1;
        self.0.iter().for_each(|node| node.wait_for_peers(others));
    }

    /// Two different nodes, in both orders for a pair.
    pub(crate) fn directions(&self) -> Vec<(&Node, &Node)> {
        let all = self.0.iter().enumerate();
        all.flat_map(|(at, from)| {
            let others = self.0.iter().enumerate().filter(move |(other, _)| *other != at);
            others.map(move |(_, to)| (from, to))
        })
        .collect()
    }

    /// What is wrong with any node, if anything.
    #[track_caller]
    pub(crate) fn assert_sound(&mut self) {
        for node in self.0.iter_mut().filter_map(|node| node.server.as_mut()) {
            assert_eq!(node.complaint(), None);
        }
    }
}
