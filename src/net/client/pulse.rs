//! What the worker looks at once a tick, to know who is to be given up and who may sleep.

use std::cell::Cell;

use crate::command::CloseReason;

/// What a client is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Waiting {
    /// The next request.
    Request,
    /// The rest of a request.
    Rest,
    /// The client, to take the reply.
    Reader,
    /// Peers, to acknowledge what the reply tells of.
    Peers,
    /// Its turn among the worker's clients.
    Turn,
    /// Something to be logged.
    Log,
}

/// What the worker's tick needs to know of a client.
#[derive(Debug)]
pub(in crate::net) struct Pulse {
    /// For what it waits.
    pub(in crate::net) waiting: Cell<Waiting>,
    /// The worker's tick at which bytes last moved.
    pub(in crate::net) moved: Cell<u32>,
    /// Reads that brought something, counted.
    pub(in crate::net) heard: Cell<u32>,
    /// Its task is to end without the connection: it sleeps from then on.
    pub(in crate::net) drowsy: Cell<bool>,
    /// Why it ended; what stands here when its place is dropped.
    pub(in crate::net) reason: Cell<CloseReason>,
}
