//! What this bench asks of servers.
//!
//! Latency is from sending a batch (paced: from when it was due) to having read its last reply, as
//! the client sees it, its own waiting for a core included.

use std::time::Duration;

use crate::support::driver::{Load, Outcome, Pace, Running, Script};
use crate::support::exchange::Exchange;
use crate::support::node::Node;
use crate::support::socket::Transport;

/// Longer than any part of the bench takes.
const UNTIL_STOPPED: Duration = Duration::from_secs(600);

/// Clients that set, as fast as they are answered or by the clock.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    pub(crate) connections: usize,
    /// Requests sent together.
    pub(crate) pipelined: usize,
    pub(crate) keys: u32,
    pub(crate) value_len: usize,
    /// Whether Redis is asked for its replica's acknowledgement.
    pub(crate) wait: bool,
    pub(crate) pace: Pace,
    pub(crate) duration: Duration,
}

impl Sets {
    /// Runs against `node`; an error tells of a reply that was not as it must be.
    pub(crate) fn run(&self, node: &Node) -> Result<Outcome, String> {
        let exchange = Exchange::sets(node.protocol, self.pipelined, self.value_len, self.wait);
        Load {
            servers: vec![node.addr()],
            transport: Transport::Tcp,
            connections: self.connections,
            threads: self.connections.min(2),
            reconnecting: false,
            script: Script::Drawn(vec![exchange]),
            keys: self.keys,
            pace: self.pace,
            duration: self.duration,
        }
        .run(|| {})
    }
}

/// Four clients that get and set, 8,000 times a second in all, until they are stopped.
pub(crate) fn paced(node: &Node, keys: u32, value_len: usize) -> Running {
    let get = Exchange::get(node.protocol, value_len);
    let set = Exchange::sets(node.protocol, 1, value_len, false);
    Load {
        servers: vec![node.addr()],
        transport: Transport::Tcp,
        connections: 4,
        threads: 2,
        reconnecting: false,
        script: Script::Drawn(vec![get, set]),
        keys,
        pace: Pace::Open(8000.0),
        duration: UNTIL_STOPPED,
    }
    .start(|| {})
}
