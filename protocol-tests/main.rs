//! Black-box tests of the server over sockets: conversations that a memcached would have too, and
//! what it does when clients misbehave.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and measures the machine's time"
)]

mod conversation;
mod corpus;
mod pattern;
mod run;
mod server;
