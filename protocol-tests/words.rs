//! What one line of a conversation says: bytes, or a binary frame.

use crate::frame::{self, Frame};
use crate::pattern::{Memory, Pattern, escape};

/// What is sent, or expected, in one line.
#[derive(Clone, Debug)]
pub(crate) enum Words {
    Bytes(Pattern),
    Frame(Frame),
}

/// Where an answer ends that fits, or should have.
pub(crate) enum Extent {
    /// It is these bytes.
    Exact(Vec<u8>),
    /// Behind so many line feeds.
    Lines(usize),
    /// Where the frame says.
    Frame,
}

impl Words {
    /// See [`Pattern::needs_memory`].
    pub(crate) fn needs_memory(&self) -> bool {
        match self {
            Words::Bytes(pattern) => pattern.needs_memory(),
            Words::Frame(frame) => frame.needs_memory(),
        }
    }

    /// The bytes to send; `None` when something in them is not known.
    pub(crate) fn bytes(&self, memory: &Memory, now: i64) -> Option<Vec<u8>> {
        match self {
            Words::Bytes(pattern) => pattern.bytes(memory, now),
            Words::Frame(frame) => frame.bytes(memory, now),
        }
    }

    /// Whether `answer` fits; what it names is remembered when it does.
    pub(crate) fn fits(&self, answer: &[u8], memory: &mut Memory, now: i64) -> bool {
        match self {
            Words::Bytes(pattern) => pattern.fits(answer, memory, now),
            Words::Frame(frame) => frame.fits(answer, memory, now),
        }
    }

    /// How much of what a server says is the answer; `skips` when others may come before it.
    pub(crate) fn extent(&self, memory: &Memory, skips: bool) -> Extent {
        match self {
            Words::Frame(_) => Extent::Frame,
            Words::Bytes(pattern) => match pattern.exact_answer(memory) {
                Some(exact) if !skips => Extent::Exact(exact),
                _ => Extent::Lines(pattern.line_feeds()),
            },
        }
    }

    /// A server's `answer` in the notation of these words.
    pub(crate) fn show(&self, answer: &[u8]) -> String {
        match self {
            Words::Bytes(_) => escape(answer),
            Words::Frame(_) => frame::show(answer),
        }
    }
}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Words::Bytes(pattern) => pattern.fmt(f),
            Words::Frame(frame) => frame.fmt(f),
        }
    }
}
