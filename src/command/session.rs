//! One client's conversation, without its socket.
//!
//! `net` calls [`Session::receive`] with what has arrived and [`Session::resume`] when a reply has
//! been sent and more was waiting. Both append to the reply buffer and stop when it is time to
//! send. Bytes that were not consumed are the caller's to keep until more have come.

use std::sync::Arc;

use super::{Connection, Server};
use crate::clock::Now;
use crate::stats::WorkerCounters;

/// What the session needs next, once the reply buffer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes: call [`Session::receive`] when all unconsumed bytes and the new ones together
    /// are at least `at_least` long (or the client has ended its half).
    Receive {
        /// Total length below which calling again would be useless.
        at_least: usize,
    },
    /// The reply goes on: send what there is, then call [`Session::resume`].
    Resume,
    /// `-R` requests were executed and input may hold more: send, let other connections have
    /// their turn, then call [`Session::receive`] with what was left.
    Yield,
    /// The connection watches: send, then call [`Session::resume`] now and then (log lines), and
    /// close when the client does. Input is ignored.
    Watch,
    /// Send what there is and close.
    Close(CloseReason),
    /// Send what there is, close, and stop the server.
    Shutdown(Stop),
}

/// Why a connection ends, in the words of `watch connevents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// `quit`, or the client hung up between commands.
    Normal,
    /// The stream cannot be understood or bounded any more.
    Error,
    /// `-o idle_timeout`.
    IdleTimeout,
    /// The server stops.
    Shutdown,
}

/// How the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At once, as on SIGINT.
    Now,
    /// As on SIGUSR1.
    Graceful,
}

/// What [`Session::receive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What comes next.
    pub next: Next,
}

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    server: Arc<Server>,
    counters: Arc<WorkerCounters>,
    connection: Arc<Connection>,
}

impl Session {
    /// A session that has heard nothing yet.
    #[must_use]
    pub fn new(
        server: Arc<Server>,
        counters: Arc<WorkerCounters>,
        connection: Arc<Connection>,
    ) -> Session {
        Session { server, counters, connection }
    }

    /// Executes the complete requests at the front of `input`, appending replies to `out`.
    pub fn receive(&mut self, input: &[u8], now: Now, out: &mut Vec<u8>) -> Received {
        let _ = (&self.server, &self.counters, &self.connection, now, out);
        Received { consumed: input.len(), next: Next::Close(CloseReason::Normal) }
    }

    /// Goes on with a reply that did not fit, once `out` has been sent.
    pub fn resume(&mut self, now: Now, out: &mut Vec<u8>) -> Next {
        let _ = (now, out);
        Next::Receive { at_least: 1 }
    }
}
