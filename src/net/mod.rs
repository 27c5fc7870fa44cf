//! Effects: sockets, worker threads, timers. The first floor that may wait.
//!
//! An [`Acceptor`] takes connections from the [`Listener`]s and deals them to [`WorkerThread`]s.
//! A worker owns its connections until they end: one thread, one poller, one buffer to read into, one to
//! answer into. What a client says is understood by
//! [`crate::command::Session`]; here are only bytes, sockets, and time limits.

mod acceptor;
mod acks;
mod ahead;
mod client;
mod datagram;
mod listener;
mod peer_link;
mod poller;
mod socket;
mod sweep;
mod tls;
mod transfer;
mod worker;

pub use acceptor::Acceptor;
pub use ahead::touch_memory_ahead;
use datagram::network;
pub use datagram::{DatagramSocket, listen_udp};
pub use listener::{About, ListenError, Listener, listen_tcp, listen_unix};
pub use peer_link::{Introductions, PeerLink, PeerListener, SECRET_MAX, listen_for_peers};
pub use sweep::sweep_expired;
pub use tls::{PeerTls, Tls, TlsError};
pub use worker::WorkerThread;

#[cfg(test)]
mod tests;
