//! Bytes to requests and responses to bytes, for each protocol; no store, no sockets.
//!
//! A protocol is a decoder (bytes to a [`Step`] with a
//! [`request::Request`]) and an encoder ([`response::Response`]
//! to bytes). Both sides speak the shared words of [`request`] and [`response`], so that one
//! executor serves them all. How an answer is written depends on how it was asked for: a [`Manner`].

pub mod binary;
pub mod meta;
pub mod request;
pub mod response;
mod step;
pub mod text;
pub mod udp;

pub use step::{Manner, Step};
