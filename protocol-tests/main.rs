//! Black-box tests of the server over sockets: conversations that a memcached would have too, and
//! what it does when clients misbehave.
//!
//! | rooms | what |
//! |---|---|
//! | `text/*.conv`, `binary/*.conv`, [`corpus`] | the conversations, held with twincached and with the oracle |
//! | [`conversation`] [`pattern`] [`frame`] [`words`] [`run`] [`judge`] | their format, how one is held and judged |
//! | [`server`] [`client`] | a server process; a client and what `/proc` says of a server |
//! | [`startup`] [`lifecycle`] | the program before, while and after it serves |
//! | [`half_close`] | clients that end their half before they read |
//! | [`limits`] | connections: how many, how long |
//! | [`memory`] [`buffers`] | memory of the store, and of the connections |
//! | [`attacks`] [`past_cves`] [`past_cves_binary`] [`history`] [`watchers`] | clients that mean ill, or do not read |
//! | [`udp`] | conversations by datagrams |
//! | [`auth`] [`sasl`] [`matrix`] [`tls`] [`certificates`] | who may log in, and how a connection is protected |
//! | [`meta`] | meta commands where a conversation does not reach |
//! | [`replication`] | nodes that mirror every write |
//! | [`memccapable`] | libmemcached's own compliance test |
//!
//! Measurements print their figures past libtest's capture. With `PROTOCOL_TESTS_LONG` set they run
//! in their long form (half a minute of noise, an hour of churn).
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and measures the machine's time"
)]

mod attacks;
mod auth;
mod buffers;
mod certificates;
mod client;
mod conversation;
mod corpus;
mod frame;
mod half_close;
mod history;
mod judge;
mod lifecycle;
mod limits;
mod matrix;
mod memccapable;
mod memory;
mod meta;
mod past_cves;
mod past_cves_binary;
mod pattern;
mod replication;
mod run;
mod sasl;
mod server;
mod startup;
mod tls;
mod udp;
mod watchers;
mod words;
