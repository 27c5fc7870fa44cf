//! The text protocol.
//!
//! [`Decoder`] cuts the stream into requests: `line` finds the end of a line and the data block
//! after it, `classic` and `meta` know what a whole line means. [`encode`] and [`meta_reply`] write
//! answers.
//!
//! What is NOT here: executing anything.

mod classic;
pub mod encode;
mod line;
mod meta;
pub mod meta_reply;

pub use line::Decoder;
