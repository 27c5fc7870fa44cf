//! Decisions: what a request does to the store and what it is answered. The only floor that knows
//! both the protocols and the store.
//!
//! [`Session`] is one client's conversation without its socket: `net` hands it the bytes that
//! arrived and the moment, it appends replies to a buffer and says what it needs next. [`Server`]
//! is what all sessions share.

mod admin;
mod arithmetic;
mod certificates;
mod datagram;
mod debug;
mod deletion;
mod dump;
mod execute;
mod flush;
mod locks;
mod meta;
mod mirrored;
mod peers;
mod prefixes;
mod refusals;
mod retrieval;
mod roster;
mod server;
mod session;
mod stats;
mod storage;
mod tuned;
mod verbose;
mod watching;

pub use admin::{AdminOutcome, admin};
pub use certificates::Certificates;
pub use datagram::{Datagram, Source};
pub use dump::{Dump, DumpForm};
pub use locks::{LockAnswer, LockClerk, LockRequest, Locks};
pub use peers::{Acknowledged, Peers, Serving, WAIT_BUCKETS_US, Waits, random_node};
pub use prefixes::{PrefixCounts, Prefixes};
pub use refusals::Refusals;
pub use roster::{Change, Roster, Unchanged};
pub use server::{ConnState, Connection, Server, Transport};
pub use session::{CloseReason, Foreseen, Next, Pledges, Received, Session, Stop};
pub use stats::stats;
pub use tuned::Tuned;
pub use watching::Watcher;
