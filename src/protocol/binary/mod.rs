//! The binary protocol: frames of a 24-byte header and a body of extras, key and value.
//!
//! [`Decoder`] cuts the stream into requests, [`encode`] writes answers, `opcode` is the table
//! that both of them read. Rules: COMPATIBILITY section 7.
//!
//! What is NOT here: executing anything.

mod decode;
pub mod encode;
mod header;
mod opcode;
#[cfg(test)]
pub(crate) mod sample;

pub use decode::Decoder;
pub use header::{HEADER_LEN, REQUEST_MAGIC};
pub use opcode::is_quiet;
