//! incr, decr.

use super::execute::Context;
use crate::item::Expiry;
use crate::protocol::request;
use crate::protocol::response::{Reject, Response};
use crate::store::{Arithmetic, Refusal};

/// Counts the number in an item up or down, or creates it. Creating counts as neither hit nor
/// miss, as upstream has it.
pub(super) fn arithmetic(context: &Context<'_>, wanted: &request::Arithmetic<'_>) -> Response {
    let request::Arithmetic { key, delta, up, initial, compare } = *wanted;
    let (server, counters) = (context.server, context.counters);
    let (hits, misses) = if up {
        (&counters.incr_hits, &counters.incr_misses)
    } else {
        (&counters.decr_hits, &counters.decr_misses)
    };
    let started = server.clock.started();
    let initial = initial
        .map(|(number, exptime)| (number, Expiry::from_exptime(exptime, context.now, started)));
    let plan = Arithmetic { delta, up, initial, compare, ..Arithmetic::default() };
    context.log_lookup(key);
    match server.store.arithmetic(server.store.key(key), &plan, context.now) {
        Ok(counted) => {
            if !counted.found.vivified {
                hits.bump();
            }
            let unique = server.unique(counted.found.version);
            Response::Number { number: counted.number, unique }
        }
        Err(Refusal::NotANumber) => Reject::NonNumeric.into(),
        Err(Refusal::NoMemory | Refusal::TooLarge) => Reject::NoMemory.into(),
        Err(Refusal::Exists) => Response::Exists,
        Err(Refusal::NotFound | Refusal::NotStored) => {
            misses.bump();
            Response::NotFound
        }
    }
}
