//! What a decoder makes of the bytes at the front of a stream, in every protocol.
//!
//! The decoders differ in what they must know to answer: whether an answer is wanted at all, or
//! which numbers it repeats. That is the `M` of [`Step`].

use super::request::Request;
use super::response::Reject;

/// What the bytes at the front are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a, M> {
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
        manner: M,
    },
    /// A refused request, in the first `consumed` bytes.
    Reject {
        /// Its length, without what is skipped behind it.
        consumed: usize,
        /// Why.
        reject: Reject,
        /// How it is answered.
        manner: M,
    },
    /// Bytes of data that nobody wants: skip them.
    Skip {
        /// How many.
        consumed: usize,
    },
    /// The stream cannot go on: answer, if there is an answer, and close.
    Close {
        /// The last answer.
        answer: Option<(Reject, M)>,
    },
}

impl<'a, M> Step<'a, M> {
    /// The same step, answered in the manner that `to` makes of its own.
    pub fn answered<N>(self, to: impl FnOnce(M) -> N) -> Step<'a, N> {
        match self {
            Step::Wait { at_least } => Step::Wait { at_least },
            Step::Skip { consumed } => Step::Skip { consumed },
            Step::Request { consumed, request, manner } => {
                Step::Request { consumed, request, manner: to(manner) }
            }
            Step::Reject { consumed, reject, manner } => {
                Step::Reject { consumed, reject, manner: to(manner) }
            }
            Step::Close { answer } => {
                Step::Close { answer: answer.map(|(reject, manner)| (reject, to(manner))) }
            }
        }
    }
}
