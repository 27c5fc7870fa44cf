//! What is compared: data, and nothing else.

use crate::support::exchange::{Dialect, Op};

/// Server processes and what is asked of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) asked: Asked,
    pub(crate) dialect: Dialect,
    pub(crate) over: Over,
    pub(crate) value_len: usize,
    /// Requests sent together.
    pub(crate) pipelined: usize,
    pub(crate) keys: u32,
    pub(crate) connections: usize,
    /// Connections beside them that say nothing.
    pub(crate) idle: usize,
    /// Requests a second; `None` for as fast as they are answered.
    pub(crate) rate: Option<f64>,
    /// Servers that hold each item: our peers, or other servers that the client writes to itself.
    pub(crate) copies: usize,
    /// Too long for the short form.
    pub(crate) is_long: bool,
    /// What the ratio of CPU an operation, and of p99, is to be at most.
    pub(crate) cpu_at_most: Option<f64>,
    pub(crate) p99_at_most: Option<f64>,
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Ten gets to one set.
    GetsAndSets,
    Sets,
    Gets,
    /// `get` of fifty keys.
    ManyKeys,
    /// What PHP does for a page: lock, get, set, unlock.
    Sessions,
    /// One get, for which it connects.
    Visits,
}

/// Over what clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Udp,
    Tls,
}

impl Scenario {
    /// What is sent together, one batch after the other.
    pub(crate) fn batches(&self) -> Vec<Vec<Op>> {
        match self.asked {
            Asked::GetsAndSets => {
                let op = |nth: usize| if nth % 11 == 10 { Op::Set } else { Op::Get };
                let batch = |first: usize| (0..self.pipelined).map(|n| op(first + n)).collect();
                (0..11).map(|nth| batch(nth * self.pipelined)).collect()
            }
            Asked::Sets => vec![vec![Op::Set; self.pipelined]],
            Asked::Gets | Asked::Visits => vec![vec![Op::Get; self.pipelined]],
            Asked::ManyKeys => vec![vec![Op::GetMany(50)]],
            Asked::Sessions => [Op::Lock, Op::Get, Op::Set, Op::Unlock].map(|op| vec![op]).to_vec(),
        }
    }
}

/// Gets and sets, singly.
pub(crate) const PLAIN: Scenario = Scenario {
    name: "",
    asked: Asked::GetsAndSets,
    dialect: Dialect::Text,
    over: Over::Tcp,
    value_len: 100,
    pipelined: 1,
    keys: 100_000,
    connections: 50,
    idle: 0,
    rate: None,
    copies: 1,
    is_long: false,
    cpu_at_most: None,
    p99_at_most: None,
};

const SINGLY: Scenario = Scenario { cpu_at_most: Some(0.80), p99_at_most: Some(1.0), ..PLAIN };

const PIPELINED: Scenario =
    Scenario { pipelined: 16, cpu_at_most: Some(0.50), p99_at_most: Some(0.8), ..PLAIN };

const SETS: Scenario =
    Scenario { asked: Asked::Sets, cpu_at_most: Some(0.70), p99_at_most: Some(1.0), ..PLAIN };

const SESSIONS: Scenario = Scenario { asked: Asked::Sessions, value_len: 1024, ..PLAIN };

const MANY_ITEMS: Scenario = Scenario { keys: 10_000_000, is_long: true, ..PLAIN };

/// The scenario of the curves.
pub(crate) const USUAL: Scenario = SINGLY;

pub(crate) const ALL: [Scenario; 30] = [
    Scenario { name: "get, 100 B", asked: Asked::Gets, ..SINGLY },
    Scenario { name: "get/set 10:1, 100 B", ..SINGLY },
    Scenario { name: "get/set 10:1, 1 KB", value_len: 1024, ..SINGLY },
    Scenario { name: "get/set 10:1, 4 KB", value_len: 4096, ..SINGLY },
    Scenario { name: "pipelined 16, 100 B", ..PIPELINED },
    Scenario { name: "pipelined 16, 1 KB", value_len: 1024, ..PIPELINED },
    Scenario { name: "pipelined 16, 4 KB", value_len: 4096, ..PIPELINED },
    Scenario { name: "set, 100 B", ..SETS },
    Scenario { name: "set, 1 KB", value_len: 1024, ..SETS },
    Scenario {
        name: "get of 50 keys, a key",
        asked: Asked::ManyKeys,
        cpu_at_most: Some(0.27),
        p99_at_most: Some(0.5),
        ..PLAIN
    },
    Scenario { name: "PHP sessions, 1 KB", ..SESSIONS },
    Scenario { name: "PHP sessions, binary", dialect: Dialect::Binary, ..SESSIONS },
    Scenario {
        name: "PHP sessions, one peer",
        copies: 2,
        cpu_at_most: Some(0.80),
        p99_at_most: Some(1.0),
        ..SESSIONS
    },
    Scenario { name: "PHP sessions, two peers", copies: 3, is_long: true, ..SESSIONS },
    Scenario { name: "meta, get/set", dialect: Dialect::Meta, ..SINGLY },
    Scenario { name: "meta, pipelined 16", dialect: Dialect::Meta, ..PIPELINED },
    Scenario { name: "binary, get/set", dialect: Dialect::Binary, ..SINGLY },
    Scenario { name: "binary, pipelined 16", dialect: Dialect::Binary, ..PIPELINED },
    Scenario {
        name: "get over UDP",
        asked: Asked::Gets,
        over: Over::Udp,
        cpu_at_most: Some(0.70),
        p99_at_most: Some(1.0),
        ..PLAIN
    },
    Scenario { name: "get/set over TLS", over: Over::Tls, ..PLAIN },
    Scenario { name: "2 connections", connections: 2, ..PLAIN },
    Scenario { name: "1,000 connections", connections: 1000, ..PLAIN },
    Scenario { name: "10,000 idle beside 50", idle: 10_000, ..PLAIN },
    Scenario { name: "connect, get, close", asked: Asked::Visits, ..PLAIN },
    Scenario { name: "one hot key", keys: 1, ..PLAIN },
    Scenario { name: "20,000 requests/s", rate: Some(20_000.0), ..PLAIN },
    Scenario { name: "1 M items", keys: 1_000_000, ..PLAIN },
    Scenario { name: "10 M items", ..MANY_ITEMS },
    Scenario { name: "10 M items, pipelined 16", pipelined: 16, ..MANY_ITEMS },
    Scenario { name: "10 M items, get of 50", asked: Asked::ManyKeys, ..MANY_ITEMS },
];
