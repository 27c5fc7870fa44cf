//! Bytes to requests and responses to bytes, for each protocol; no store, no sockets.

pub mod request;
pub mod response;
