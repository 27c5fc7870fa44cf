//! incr, decr.

use super::execute::Context;
use crate::item::Found;
use crate::protocol::request;
use crate::protocol::response::{Reject, Response};
use crate::store::{Arithmetic, Counted, Refusal};
use crate::watch::{Categories, ItemStore, StoreCommand, StoreStatus};

/// Counts the number in an item up or down, or creates it.
pub(super) fn arithmetic(context: &Context<'_>, wanted: &request::Arithmetic<'_>) -> Response {
    let request::Arithmetic { key, delta, up, initial, compare } = *wanted;
    let initial = initial.map(|(number, exptime)| (number, context.expiry(exptime)));
    let plan = Arithmetic { delta, up, initial, compare, ..Arithmetic::default() };
    match count_as(context, key, &plan) {
        Ok(counted) => {
            let unique = context.server.unique(counted.found.version);
            Response::Number { number: counted.number, unique }
        }
        Err(Refusal::NotANumber) => Reject::NonNumeric.into(),
        Err(Refusal::NoMemory | Refusal::TooLarge) => Reject::NoMemory.into(),
        Err(Refusal::Exists) => Response::Exists,
        Err(Refusal::NotFound | Refusal::NotStored) => Response::NotFound,
    }
}

/// Counts as `plan` says, and counts and logs that. Creating is neither hit nor miss, as upstream
/// has it.
pub(super) fn count_as(
    context: &Context<'_>,
    key: &[u8],
    plan: &Arithmetic,
) -> Result<Counted, Refusal> {
    let (server, counters) = (context.server, context.counters);
    let (hits, misses) = if plan.up {
        (&counters.incr_hits, &counters.incr_misses)
    } else {
        (&counters.decr_hits, &counters.decr_misses)
    };
    context.log_lookup(key);
    let counted = server.store.arithmetic(context.key(key), plan, context.now);
    match &counted {
        Ok(counted) if counted.found.vivified => log_created(context, key, &counted.found),
        Ok(_) => hits.bump(),
        Err(Refusal::NotFound | Refusal::NotStored) => misses.bump(),
        Err(Refusal::NotANumber | Refusal::NoMemory | Refusal::TooLarge | Refusal::Exists) => {}
    }
    counted
}

/// Logs the creation of a number to those who watch mutations.
fn log_created(context: &Context<'_>, key: &[u8], found: &Found) {
    let watch = &context.server.watch;
    if watch.wants(Categories::MUTATIONS) {
        let (status, command) = (StoreStatus::Stored, StoreCommand::Add);
        let ttl = found.expiry.ttl(context.now.seconds());
        let (class, fd, size) = (found.class, context.connection.fd, found.value_len);
        watch.item_store(&ItemStore { key, status, command, ttl, class, fd, size }, context.now);
    }
}
