//! What a decoder makes of the bytes at the front of a stream, in every protocol.
//!
//! The decoders differ in what they must know to answer: whether an answer is wanted at all, or
//! which numbers it repeats. That is the [`Manner`].

use super::request::{Echo, Request};
use super::response::Reject;

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In lines, unless they are not wanted.
    Lines {
        /// They are not.
        noreply: bool,
    },
    /// In frames, which know from the opcode whether they are wanted.
    Frames(Echo),
}

impl Manner {
    /// That of a line that is not followed by `noreply`.
    pub const ANSWERED: Manner = Manner::Lines { noreply: false };
}

/// What the bytes at the front are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Not a whole request yet; asking again before there are `at_least` bytes is useless.
    Wait {
        /// Total length needed.
        at_least: usize,
    },
    /// A request, in the first `consumed` bytes.
    Request {
        /// Its length, without what is skipped behind it.
        consumed: usize,
        /// What is asked for.
        request: Request<'a>,
        /// How it is answered.
        manner: Manner,
    },
    /// A refused request, in the first `consumed` bytes.
    Reject {
        /// Its length, without what is skipped behind it.
        consumed: usize,
        /// Why.
        reject: Reject,
        /// How it is answered.
        manner: Manner,
    },
    /// Bytes of data that nobody wants: skip them.
    Skip {
        /// How many.
        consumed: usize,
    },
    /// The stream cannot go on: answer, if there is an answer, and close.
    Close {
        /// The last answer.
        answer: Option<(Reject, Manner)>,
    },
}
