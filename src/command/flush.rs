//! `flush_all`: every item stored before a moment becomes invisible.

use super::execute::Context;
use crate::protocol::response::{Reject, Response};

/// Flushes at once, or at the moment that `delay` names as an exptime does; `None` is a delay that
/// was not a number.
pub(super) fn flush_all(context: &Context<'_>, delay: Option<i64>) -> Response {
    let server = context.server;
    context.counters.cmd_flush.bump();
    if !server.settings.flush_enabled {
        return Reject::FlushNotAllowed.into();
    }
    let Some(delay) = delay else {
        return Reject::InvalidExptime.into();
    };
    let at = context.expiry(delay);
    match at.second() {
        Some(at) if at > context.now.seconds() => server.store.flush_all_at(at, context.now),
        _ => server.store.flush_all(context.now),
    }
    Response::Ok
}
