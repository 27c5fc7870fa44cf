//! Some nodes that mirror each other, and the wires between them.

use std::time::{Duration, Instant};

use crate::client::{Client, PATIENCE};

use super::contents::{Contents, contents, differences};
use super::node::Node;
use super::port::free_port;
use super::proxy::{Proxy, Wire};

/// What a cluster is made from.
pub(super) struct Plan {
    nodes: usize,
    flags: Vec<String>,
    own_flags: Vec<Vec<String>>,
    wired: bool,
    numbered: bool,
}

impl Plan {
    /// So many nodes, each with the same list of peers, itself among them. Acknowledgements are
    /// waited for longer than by default: a busy machine is not what a story is about.
    pub(super) fn of(nodes: usize) -> Plan {
        Plan::by_default(nodes).with(&["--ack-timeout", "1000"])
    }

    /// The same, waiting as long as by default.
    pub(super) fn by_default(nodes: usize) -> Plan {
        let own_flags = vec![Vec::new(); nodes];
        Plan { nodes, flags: Vec::new(), own_flags, wired: false, numbered: true }
    }

    /// Options of all nodes.
    pub(super) fn with(mut self, flags: &[&str]) -> Plan {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }

    /// Options of one node.
    pub(super) fn with_at(mut self, node: usize, flags: &[&str]) -> Plan {
        self.own_flags[node].extend(flags.iter().map(ToString::to_string));
        self
    }

    /// Nodes choose their numbers themselves.
    pub(super) fn unnumbered(mut self) -> Plan {
        self.numbered = false;
        self
    }

    /// Nodes reach each other through wires that can be cut.
    pub(super) fn wired(mut self) -> Plan {
        self.wired = true;
        self
    }

    /// The nodes, not started.
    pub(super) fn laid_out(self) -> Cluster {
        let ports: Vec<u16> = (0..self.nodes).map(|_| free_port()).collect();
        let mut cluster = Cluster { nodes: Vec::new(), wires: Vec::new() };
        for (index, own_flags) in self.own_flags.iter().enumerate() {
            let mut flags = Vec::new();
            if self.numbered {
                flags.extend(["--node-id".to_owned(), (index + 1).to_string()]);
            }
            for (peer, &port) in ports.iter().enumerate() {
                let mut port = port;
                if self.wired {
                    if peer == index {
                        continue;
                    }
                    let wire = Proxy::to(port);
                    port = wire.port;
                    cluster.wires.push((index, peer, wire));
                }
                flags.extend(["--peer".to_owned(), format!("127.0.0.1:{port}")]);
            }
            flags.extend(self.flags.iter().chain(own_flags).cloned());
            cluster.nodes.push(Node::new(ports[index], &flags));
        }
        cluster
    }

    /// The nodes, started together, serving and in sync.
    pub(super) fn start(self) -> Cluster {
        let mut cluster = self.laid_out();
        cluster.nodes.iter_mut().for_each(Node::start);
        for node in &mut cluster.nodes {
            node.wait_until_it_serves();
        }
        cluster.wait_until_in_sync();
        cluster
    }
}

/// Nodes that mirror each other.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    /// From whom to whom.
    wires: Vec<(usize, usize, Proxy)>,
}

impl Cluster {
    /// Nodes that were made one by one.
    pub(super) fn of(nodes: Vec<Node>) -> Cluster {
        Cluster { nodes, wires: Vec::new() }
    }

    /// A client of a node.
    #[track_caller]
    pub(super) fn client(&self, node: usize) -> Client {
        self.nodes[node].client()
    }

    /// The wires between two nodes, whoever dialled.
    pub(super) fn wires(&self, one: usize, other: usize) -> impl Iterator<Item = &Proxy> {
        let is_between = move |(from, to): (usize, usize)| {
            (from, to) == (one, other) || (to, from) == (one, other)
        };
        self.wires.iter().filter(move |(from, to, _)| is_between((*from, *to))).map(|w| &w.2)
    }

    /// Changes what is between two nodes.
    pub(super) fn set(&self, one: usize, other: usize, wire: Wire) {
        self.wires(one, other).for_each(|proxy| proxy.set(wire));
    }

    /// Waits until every node waits for every other; how long that took.
    #[track_caller]
    pub(super) fn wait_until_in_sync(&mut self) -> Duration {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.wait_until_these_are_in_sync(&all)
    }

    /// The same for some of the nodes.
    #[track_caller]
    pub(super) fn wait_until_these_are_in_sync(&mut self, nodes: &[usize]) -> Duration {
        let since = Instant::now();
        let others = (nodes.len() - 1) as u64;
        for &node in nodes {
            self.nodes[node].wait_until_it_serves();
            // What writes go by now, and what is shown of peers.
            while ["peers_awaited", "peers_in_sync"]
                .iter()
                .any(|name| self.nodes[node].told(name) < others)
            {
                let stats = || self.client(node).stats("replication");
                assert!(since.elapsed() < PATIENCE, "node {node} is not in sync: {:?}", stats());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        since.elapsed()
    }

    /// Waits until all nodes hold the same, which nobody changes meanwhile; when that was, at the
    /// latest, and what they hold.
    #[track_caller]
    pub(super) fn wait_until_identical(&self) -> (Instant, Contents) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.wait_until_these_are_identical(&all)
    }

    /// The same for some of the nodes.
    #[track_caller]
    pub(super) fn wait_until_these_are_identical(&self, nodes: &[usize]) -> (Instant, Contents) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let looked = Instant::now();
            let held: Vec<Contents> =
                nodes.iter().map(|node| contents(&mut self.client(*node))).collect();
            let differing = held.iter().skip(1).find(|other| **other != held[0]);
            let Some(other) = differing else {
                return (looked, held.into_iter().next().unwrap());
            };
            let differences = differences(&held[0], other);
            let sizes: Vec<usize> = held.iter().map(Contents::len).collect();
            assert!(
                Instant::now() < deadline,
                "nodes {nodes:?} hold {sizes:?} items and differ for {PATIENCE:?}: {differences:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that nothing had to be repaired which the links should have carried.
    #[track_caller]
    pub(super) fn assert_nothing_was_repaired(&self) {
        for node in &self.nodes {
            assert_eq!(node.told("digest_mismatch_repairs"), 0, "{}", node.log());
        }
    }
}
