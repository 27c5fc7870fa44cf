//! What the worker looks at once a tick, to know who is to be given up.

/// What a client is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Waiting {
    /// The next request.
    Request,
    /// The rest of a request.
    Rest,
    /// The client, to finish TLS's handshake.
    Handshake,
    /// The client, to take the reply.
    Reader,
    /// Peers, to acknowledge what the reply tells of.
    Peers,
    /// Its turn among the worker's clients.
    Turn,
    /// Something to be logged.
    Log,
}

/// When something of a client came or went.
#[derive(Clone, Copy, Debug)]
pub(in crate::net) struct Pulse {
    /// The worker's tick at which bytes last moved.
    pub(in crate::net) moved: u32,
    /// Reads that brought something, counted.
    pub(in crate::net) heard: u32,
}
