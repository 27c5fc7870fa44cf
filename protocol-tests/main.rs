//! Black-box tests of the server over sockets: conversations that a memcached would have too, and
//! what it does when clients misbehave.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and measures the machine's time"
)]

mod attacks;
mod auth;
mod buffers;
mod client;
mod conversation;
mod corpus;
mod lifecycle;
mod limits;
mod memccapable;
mod memory;
mod past_cves;
mod pattern;
mod run;
mod sasl;
mod server;
mod tls;
mod watchers;
