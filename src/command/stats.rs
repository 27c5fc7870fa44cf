//! `stats` and its sub-commands: what is counted, as a list that every protocol renders.

use super::{Connection, Server};
use crate::clock::Now;
use crate::protocol::response::{Reject, Response};

/// Answers `stats <args>`.
#[must_use]
pub fn stats(server: &Server, connection: &Connection, args: &[u8], now: Now) -> Response {
    let _ = (server, connection, now);
    if args.is_empty() {
        return Response::Stats(Vec::new());
    }
    Reject::UnknownCommand.into()
}
