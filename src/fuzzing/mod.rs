//! The bodies of the fuzz targets in `fuzz/`: each takes any bytes and panics when the server does
//! something that it must never do. They are here, not in `fuzz/`, because the unit tests run them
//! as well, over the seeds in `fuzz/seeds` and over seeds with a few bytes turned.
//!
//! | target | what the bytes become | what must hold |
//! |---|---|---|
//! | [`text`] | a stream of lines, cut anywhere | the cuts change no answer; what is held is bounded |
//! | [`meta`] | meta commands with flags of all kinds | besides, answers come in the order of the requests, with flags in the order asked for |
//! | [`binary`] | a stream of frames, right and wrong | besides, answers are whole frames, and what is refused is skipped to its last byte |
//! | [`udp`] | datagrams | each is answered as if it were the first, and within its allowance |
//! | [`store`] | operations, time passing | the store does what a map with memcached's rules does |
//!
//! What is NOT here: sockets, and anything compiled into the server.

#![expect(clippy::expect_used, reason = "a target's body panics when it has found something")]

mod binary;
mod choices;
mod client;
mod meta;
mod store;
mod text;
mod udp;

pub use binary::binary;
pub use meta::meta;
pub use store::store;
pub use text::text;
pub use udp::udp;

#[cfg(test)]
mod tests;
