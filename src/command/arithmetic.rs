//! incr, decr.

use super::execute::Context;
use crate::protocol::response::{Reject, Response};
use crate::store::{Arithmetic, Refusal};

/// Counts the number in an item up or down.
pub(super) fn arithmetic(context: &Context<'_>, key: &[u8], delta: u64, up: bool) -> Response {
    let counters = context.counters;
    let (hits, misses) = if up {
        (&counters.incr_hits, &counters.incr_misses)
    } else {
        (&counters.decr_hits, &counters.decr_misses)
    };
    let plan =
        Arithmetic { delta, up, initial: None, touch: None, compare: None, new_version: None };
    context.log_lookup(key);
    let store = &context.server.store;
    match store.arithmetic(store.key(key), &plan, context.now) {
        Ok(counted) => {
            hits.bump();
            Response::Number(counted.number)
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
