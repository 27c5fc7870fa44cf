//! The text protocol.
//!
//! [`Decoder`] cuts the stream into requests: `line` finds the end of a line and the data block
//! after it, `classic` knows what a whole line means. [`encode`] writes answers.
//!
//! What is NOT here: executing anything, and the meta commands' grammar, which stands beside
//! `classic` and shares the framing.

mod classic;
pub mod encode;
mod line;

pub use line::{Decoder, Step};
