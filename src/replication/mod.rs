//! Replication: what a node says to its peers, and what it does with what they say.
//!
//! Picture a letter writer without hands. Somebody else opens connections, carries bytes and looks
//! at the clock; [`Replica`] is told of it, one [`Event`] at a time, and answers with [`Effect`]s:
//! send this, close that, dial there, so much has been acknowledged. It reads and changes the
//! [`Store`](crate::store::Store) and nothing else, so that a whole cluster can be played through,
//! second by second and fault by fault, inside one thread of a test.
//!
//! Every node writes the same three kinds of letter to every other node, on one connection:
//!
//! - **the stream**: its own mutations in the order of their versions. A position on it *is* a
//!   version; an acknowledgement is one, too. Values are those of the change where we keep up, and
//!   else what the store has when they are sent.
//! - **the scan**: what a peer lacks and cannot learn from the stream any more (it is empty, or was
//!   away for longer than the log remembers, or a third node died before it had told everybody).
//! - **the heartbeat**: that we live, and up to where we have heard every other node. From these
//!   claims follows which tombstones nobody can need any more.
//!
//! Whatever arrives, twice, late or out of order, versions decide; so nothing here has to be
//! exactly once, and a connection may be cut at any byte.
//!
//! | file | what |
//! |---|---|
//! | `event` | events, effects, and the named reasons for closing a connection |
//! | `config` `status` | what a replica is built from; what operators see |
//! | `wire` | frames and their bytes |
//! | `replica` | the step function |
//! | `link` `nodes` | one connection, and all that dies with it; what outlives it |
//! | `hello` | introductions: who may talk, which of two connections stays |
//! | `speech` | what two releases can say to each other |
//! | `stream` | our mutations going out, and their acknowledgement |
//! | `inbound` | frames coming in |
//! | `scan` `listing` | reconciliation: digests, lists, records |
//! | `audit` | sums, made in steps, and their comparison |
//! | `pulse` | heartbeats, silence, redialling |
//! | `locks` | exclusive locks: one node decides, and all have agreed which |
//! | `evidence` | what everybody has applied: the store's stability |
//! | `apart` | two nodes that were apart for too long |
//! | `ready` `pause` | LOADING, READY, DRAINING; standing still for a moment |
//!
//! What is NOT here: sockets, authentication, threads, waiting clients, the clock.

use std::time::Duration;

/// Whether a test breaks this rule of the replica's: never, outside tests.
macro_rules! broken {
    ($replica:expr, $rule:ident) => {{
        #[cfg(test)]
        let is_broken = $replica.config.broken.$rule;
        #[cfg(not(test))]
        let is_broken = false;
        is_broken
    }};
}

mod apart;
mod audit;
mod config;
mod event;
mod evidence;
mod hello;
mod inbound;
mod link;
mod listing;
mod locks;
mod nodes;
mod pause;
mod pulse;
mod ready;
mod replica;
mod scan;
mod speech;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

#[cfg(test)]
pub(crate) use config::Broken;
pub use config::{Boot, ReplicaConfig};
pub use event::{Amount, Apart, Effect, Event, Gives, Line, LinkId, PeerIndex, Reason, State};
pub use locks::{Execute, Executed, LockStatus};
pub use pause::pause_noticed;
pub use replica::Replica;
pub use speech::{Agreed, Speech};
pub use status::{NodeStatus, PeerStatus};

/// How often a driver tells of time at least.
pub const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod sim;
