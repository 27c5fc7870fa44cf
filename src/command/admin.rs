//! Operators' commands: limits, verbosity, the crawler's commands, shutdown.

use super::dump::Dump;
use super::watching::Watcher;
use super::{Server, Stop};
use crate::clock::Now;
use crate::protocol::request::AdminRequest;
use crate::protocol::response::{Reject, Response};

/// What an operator's command leads to.
#[derive(Debug)]
pub enum AdminOutcome {
    /// An answer.
    Reply(Response),
    /// The server stops; no answer.
    Shutdown(Stop),
    /// `OK`, and log lines from now on. Refused by the session when earlier replies of the same
    /// batch are unsent.
    Watch(Watcher),
    /// `OK`, and a listing of items, written by [`Dump::more`]. Refused like `Watch`.
    Dump(Dump),
}

/// Executes an operator's command; `debugtime` and `debugpanic` are not among them.
#[must_use]
pub fn admin(server: &Server, request: &AdminRequest<'_>, now: Now) -> AdminOutcome {
    let _ = (server, request, now);
    AdminOutcome::Reply(Reject::UnknownCommand.into())
}
