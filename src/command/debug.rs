//! Commands for tests of the server as a whole. A server that was not started for testing does
//! not know them.

use super::execute::Context;
use crate::protocol::request::AdminRequest;
use crate::protocol::response::{Reject, Response};

/// `debugtime <seconds>|p|r`: moves the clock, stops it, lets it run on.
pub(super) fn debugtime(context: &Context<'_>, request: &AdminRequest<'_>) -> Response {
    let clock = &context.server.clock;
    if !context.server.settings.test_clock {
        return Reject::UnknownCommand.into();
    }
    match request.args {
        b"p" => clock.pause(),
        b"r" => clock.resume(),
        seconds => match std::str::from_utf8(seconds).ok().and_then(|text| text.parse().ok()) {
            Some(seconds) => clock.move_by(seconds),
            None => return Reject::UnknownCommand.into(),
        },
    }
    Response::Ok
}

/// `debugpanic`: what a bug of ours would do.
///
/// # Panics
/// Always, where it is known.
pub(super) fn debugpanic(context: &Context<'_>) -> Response {
    assert!(!context.server.settings.test_clock, "asked to panic");
    Reject::UnknownCommand.into()
}
