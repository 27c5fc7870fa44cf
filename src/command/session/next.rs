//! What a [`Session`](super::Session) asks of whoever carries its bytes, and what becomes of those.
//!
//! What is NOT here: how it is done ([`crate::net`]).

use super::speech::Speech;
use crate::command::ConnState;

/// What the session needs next, once the reply buffer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes: call `Session::receive` when all unconsumed bytes and the new ones together
    /// are at least `at_least` long (or the client has ended its half).
    Receive {
        /// Total length below which calling again would be useless.
        at_least: usize,
    },
    /// The reply goes on: send what there is, then call `Session::resume`.
    Resume,
    /// The next request is decided elsewhere: send what there is, wait until peers have what that
    /// tells of, have `Session::take_lock_request` decided, send the answer, then call
    /// `Session::receive` with what was left.
    Lock,
    /// `-R` requests were executed and input may hold more: send, let other connections have
    /// their turn, then call `Session::receive` with what was left.
    Yield,
    /// The connection watches: send, then call `Session::resume` now and then (log lines), and
    /// close when the client does. Input is ignored.
    Watch,
    /// Send what there is and close.
    Close(CloseReason),
    /// Send what there is, close, and stop the server.
    Shutdown(Stop),
}

/// Why a connection ends, in the words of `watch connevents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// `quit`, or the client hung up between commands.
    Normal,
    /// The stream cannot be understood or bounded any more.
    Error,
    /// `-o idle_timeout`.
    IdleTimeout,
    /// The server stops.
    Shutdown,
}

/// How the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At once, as on SIGINT.
    Now,
    /// As on SIGUSR1.
    Graceful,
}

/// What `Session::receive` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What comes next.
    pub next: Next,
}

/// What became of the bytes at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not yet a whole request.
    Wait {
        /// Length below which hearing them again would be useless.
        at_least: usize,
    },
    /// So many are part of what nobody wants.
    Skip(usize),
    /// What was said before must be acknowledged first.
    Later,
    /// So many were a request. It has been answered, and this comes next if it is not the next
    /// request.
    Done(usize, Option<Next>),
}

/// What `stats conns` shows while the session waits for `next`.
pub(super) fn state(next: Next, speech: &Speech) -> ConnState {
    match next {
        Next::Receive { .. } if speech.is_swallowing() => ConnState::Swallow,
        Next::Receive { .. } if speech.is_in_data() => ConnState::Nread,
        Next::Receive { .. } => ConnState::Read,
        Next::Yield => ConnState::NewCmd,
        Next::Resume | Next::Lock => ConnState::Mwrite,
        Next::Watch => ConnState::Watch,
        Next::Close(_) | Next::Shutdown(_) => ConnState::Closing,
    }
}
