//! The session nodes of one site: twincacheds that mirror each other, or memcacheds that do not
//! know of each other, which is the control that must lose.
//!
//! What a pair promises it promises while peers acknowledge in time. A machine that has much else to do
//! may let one wait for longer than by default, and that is no finding about sessions: so nodes are
//! [patient](PATIENT), but for stories that freeze them.
//!
//! Not here: what PHP is told of them ([`crate::setup`]).

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::node::{Node, PATIENCE};
use crate::port::free_port;
use crate::proxy::Proxy;
use crate::root;
use crate::server::{Address, Make, Transport};

/// For how long nodes wait for each other's acknowledgements where a story says nothing of it.
const PATIENT: [&str; 2] = ["--ack-timeout", "2500"];

/// Of three nodes a page's next reader may ask any, as README.md has it.
const THREE: [&str; 2] = ["--ack", "all"];

/// What a farm is made from.
pub(crate) struct Plan {
    make: Make,
    nodes: usize,
    transport: Transport,
    flags: Vec<String>,
    own_flags: Vec<Vec<String>>,
    link_delay: Option<Duration>,
    is_patient: bool,
    dir: TempDir,
}

impl Plan {
    /// So many nodes, which PHP reaches over TCP.
    pub(crate) fn of(make: Make, nodes: usize) -> Plan {
        Plan {
            make,
            nodes,
            transport: Transport::Tcp,
            flags: Vec::new(),
            own_flags: vec![Vec::new(); nodes],
            link_delay: None,
            is_patient: true,
            dir: root::directory(),
        }
    }

    /// How PHP reaches the nodes.
    pub(crate) fn over(mut self, transport: Transport) -> Plan {
        self.transport = transport;
        self
    }

    /// Options of all nodes.
    pub(crate) fn with(mut self, flags: &[&str]) -> Plan {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }

    /// Options of one node.
    pub(crate) fn with_at(mut self, node: usize, flags: &[&str]) -> Plan {
        self.own_flags[node].extend(flags.iter().map(ToString::to_string));
        self
    }

    /// The nodes wait for each other as they do by default.
    pub(crate) fn impatient(mut self) -> Plan {
        self.is_patient = false;
        self
    }

    /// Every byte between two nodes takes this long.
    pub(crate) fn link_delay(mut self, delay: Duration) -> Plan {
        self.link_delay = Some(delay);
        self
    }

    /// The nodes, started together, serving and in sync.
    pub(crate) fn start(self) -> Farm {
        let mut farm = self.laid_out();
        farm.nodes.iter_mut().for_each(Node::start);
        farm.wait_until_in_sync();
        farm
    }

    /// The nodes, not started.
    pub(crate) fn laid_out(self) -> Farm {
        let ports: Vec<u16> = (0..self.nodes).map(|_| free_port()).collect();
        let mut wires = Vec::new();
        let mut nodes = Vec::new();
        for (index, own_flags) in self.own_flags.iter().enumerate() {
            let mut flags = self.flags.clone();
            flags.extend_from_slice(own_flags);
            if self.make == Make::Twincached && self.nodes > 1 {
                flags.extend(["--replication-port".to_owned(), ports[index].to_string()]);
                flags.extend(self.usual());
                for peer in (0..self.nodes).filter(|peer| *peer != index) {
                    let mut port = ports[peer];
                    if let Some(delay) = self.link_delay {
                        let wire = Proxy::to(port);
                        wire.delay(delay);
                        port = wire.port;
                        wires.push(wire);
                    }
                    flags.extend(["--peer".to_owned(), format!("127.0.0.1:{port}")]);
                }
            }
            let dir = self.dir.path().join(format!("node{index}"));
            fs::create_dir(&dir).unwrap();
            nodes.push(Node::new(self.make, self.transport, flags, &dir));
        }
        Farm { make: self.make, nodes, _wires: wires, _dir: self.dir }
    }
}

impl Plan {
    /// Options of nodes that have peers, as far as the story does not give them.
    fn usual(&self) -> impl Iterator<Item = String> {
        let patient = self.is_patient.then_some(PATIENT);
        let three = (self.nodes > 2).then_some(THREE);
        let is_unsaid = |option: &[&str; 2]| !self.flags.iter().any(|flag| flag == option[0]);
        patient.into_iter().chain(three).filter(is_unsaid).flatten().map(str::to_owned)
    }
}

/// The session nodes of a site.
pub(crate) struct Farm {
    pub(crate) make: Make,
    pub(crate) nodes: Vec<Node>,
    _wires: Vec<Proxy>,
    _dir: TempDir,
}

impl Farm {
    /// Where PHP finds the nodes, in the order of the save path.
    pub(crate) fn addresses(&self) -> Vec<&Address> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Waits until every node that is started serves, and twincacheds wait for each other.
    #[track_caller]
    pub(crate) fn wait_until_in_sync(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut started: Vec<_> = self.nodes.iter_mut().filter(|node| node.is_started()).collect();
        let others = started.len() as u64 - 1;
        for node in &mut started {
            node.wait_until_it_serves();
        }
        if self.make == Make::Memcached || others == 0 {
            return;
        }
        for node in started {
            while node.counts("replication", "peers_in_sync") < others {
                assert!(Instant::now() < deadline, "not in sync: {}", node.log());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Starts a node that had ended, and waits until it is as good as before.
    #[track_caller]
    pub(crate) fn bring_back(&mut self, node: usize) {
        self.nodes[node].start();
        self.wait_until_in_sync();
    }

    /// What the nodes have warned of, each in its own order: that one stood still, say, and refused
    /// clients until it knew what it had missed.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let warnings = |node: &Node| -> Vec<String> {
            node.log().lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
        };
        self.nodes.iter().flat_map(warnings).collect()
    }

    /// The started nodes that hold `key`.
    pub(crate) fn holders(&self, key: &str) -> Vec<usize> {
        let holds =
            |index: &usize| self.nodes[*index].is_started() && self.nodes[*index].holds(key);
        (0..self.nodes.len()).filter(holds).collect()
    }

    /// Waits until just these nodes hold `key`: a peer that is too slow is not waited for by PHP.
    #[track_caller]
    pub(crate) fn wait_until_held_by(&self, key: &str, nodes: &[usize]) {
        let deadline = Instant::now() + PATIENCE;
        while self.holders(key) != nodes {
            assert!(Instant::now() < deadline, "{key} is held by {:?}", self.holders(key));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
