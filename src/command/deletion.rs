//! delete, touch: commands that change that an item is there, or until when, but not its value.

use super::execute::Context;
use super::retrieval::fetch_one;
use crate::item::Found;
use crate::protocol::response::{Reject, Response};
use crate::store::{Delete, Fetch, Fetched, Head, Refusal};
use crate::version::Version;
use crate::watch::{Categories, Deleted};

/// Deletes an item, or only the version of it that `compare` names.
pub(super) fn delete(context: &Context<'_>, key: &[u8], compare: Option<Version>) -> Response {
    let delete = Delete { compare, ..Delete::default() };
    context.server.prefixes.count_delete(key);
    match delete_as(context, key, &delete, false) {
        Ok(_) => Response::Deleted,
        Err(Refusal::Exists) => Response::Exists,
        Err(Refusal::NoMemory) => Reject::NoMemory.into(),
        Err(Refusal::NotFound | Refusal::NotStored | Refusal::TooLarge | Refusal::NotANumber) => {
            Response::NotFound
        }
    }
}

/// Deletes an item, or does what `delete` says instead; counts and logs it. To mark an item stale is
/// neither counted nor logged, and only md counts another version as a miss, as upstream has it.
pub(super) fn delete_as(
    context: &Context<'_>,
    key: &[u8],
    delete: &Delete,
    meta: bool,
) -> Result<Found, Refusal> {
    let server = context.server;
    context.log_lookup(key);
    let deleted = server.store.delete(context.key(key), delete, context.now);
    match &deleted {
        Ok(_) if delete.mark_stale => {}
        Ok(found) => {
            context.counters.delete_hits.bump();
            if server.watch.wants(Categories::DELETIONS) {
                let (class, size) = (found.class, found.value_len);
                server.watch.deleted(&Deleted { key, meta, class, size }, context.now);
            }
        }
        Err(Refusal::Exists) if meta => context.counters.delete_misses.bump(),
        Err(Refusal::Exists | Refusal::NoMemory) => {}
        Err(Refusal::NotFound | Refusal::NotStored | Refusal::TooLarge | Refusal::NotANumber) => {
            context.counters.delete_misses.bump();
        }
    }
    deleted
}

/// Gives an item a new expiry.
pub(super) fn touch(context: &Context<'_>, key: &[u8], exptime: i64) -> Response {
    let fetch = Fetch { touch: Some(context.expiry(exptime)), ..Fetch::default() };
    let nothing = Head { context: &(), write: |(), _, _| {} };
    match fetch_one(context, context.key(key), &fetch, &nothing, &mut Vec::new()) {
        Fetched::Hit(found) | Fetched::Large(found, _) => {
            Response::Touched { flags: found.flags, unique: context.server.unique(found.version) }
        }
        Fetched::Miss(_) => Response::NotFound,
    }
}
