//! set, add, replace, append, prepend, cas.

use super::execute::Context;
use super::stats::size_classes;
use crate::item::size_of;
use crate::limits::RELATIVE_EXPTIME_MAX;
use crate::protocol::request::{Block, Storage, StoreMode};
use crate::protocol::response::{Reject, Response};
use crate::store::{Mode, Refusal, Stored, Write};
use crate::watch::{Categories, ItemStore, StoreCommand, StoreStatus};

/// Stores a value, if its condition holds and it came whole.
pub(super) fn store(context: &Context<'_>, storage: &Storage<'_>) -> Response {
    context.server.prefixes.count_set(storage.key);
    let stored = match storage.block {
        Block::Value(value) => write(context, storage, &plan(context, storage, value)),
        Block::Unterminated => return unterminated(context),
        Block::TooLarge => Err(too_large(context, storage)),
    };
    // A client that could not replace its value must not read the old one as the new. As upstream,
    // a cas keeps what it could not replace, a frame's set with a cas does not.
    let replaces =
        storage.mode == StoreMode::Set && (storage.compare.is_none() || context.manner.is_frame());
    if replaces && stored == Err(Refusal::TooLarge) {
        let store = &context.server.store;
        store.discard(store.key(storage.key), context.now);
    }
    match stored {
        Ok(stored) => Response::Stored { unique: context.server.unique(stored.version) },
        Err(refusal) => answer(refusal),
    }
}

/// What the store is asked for.
pub(super) fn plan<'v>(context: &Context<'_>, storage: &Storage<'_>, value: &'v [u8]) -> Write<'v> {
    let expiry = context.expiry(storage.exptime);
    let mode = match storage.mode {
        StoreMode::Set => Mode::Set,
        StoreMode::Add => Mode::Add,
        StoreMode::Replace => Mode::Replace,
        StoreMode::Append => Mode::Append,
        StoreMode::Prepend => Mode::Prepend,
    };
    let is_counted = (1..=RELATIVE_EXPTIME_MAX).contains(&storage.exptime);
    let may_be_a_copy =
        storage.exptime > RELATIVE_EXPTIME_MAX || (is_counted && context.manner.is_quiet_frame());
    Write {
        compare: storage.compare,
        copies_after: may_be_a_copy.then_some(context.asked),
        is_counted,
        ..Write::new(mode, value, storage.flags, expiry)
    }
}

/// Writes, and counts and logs that.
pub(super) fn write(
    context: &Context<'_>,
    storage: &Storage<'_>,
    write: &Write<'_>,
) -> Result<Stored, Refusal> {
    let server = context.server;
    context.log_lookup(storage.key);
    let stored = server.store.write(context.key(storage.key), write, context.now);
    match &stored {
        Ok(stored) => {
            context.counters.cmd_set.bump();
            if storage.compare.is_some() {
                context.counters.cas_hits.bump();
            }
            log(context, storage, StoreStatus::Stored, Some(stored));
        }
        Err(refusal) => refused(context, storage, *refusal),
    }
    stored
}

/// Counts and answers a value that did not end where it said.
pub(super) fn unterminated(context: &Context<'_>) -> Response {
    context.counters.cmd_set.bump();
    Reject::BadDataChunk.into()
}

/// Counts and logs a value that is skipped unseen.
pub(super) fn too_large(context: &Context<'_>, storage: &Storage<'_>) -> Refusal {
    refused(context, storage, Refusal::TooLarge);
    Refusal::TooLarge
}

/// Counts and logs a value that was not stored. One that found no room does not count as
/// a storage command: upstream notices before it has read the value. Of frames it does not count
/// those refusals either.
fn refused(context: &Context<'_>, storage: &Storage<'_>, refusal: Refusal) {
    let counters = context.counters;
    match refusal {
        Refusal::TooLarge | Refusal::NoMemory if context.manner.is_frame() => {}
        Refusal::TooLarge => counters.store_too_large.bump(),
        Refusal::NoMemory => counters.store_no_memory.bump(),
        Refusal::NotStored | Refusal::Exists | Refusal::NotFound | Refusal::NotANumber => {
            counters.cmd_set.bump();
        }
    }
    let status = match refusal {
        Refusal::TooLarge => StoreStatus::TooLarge,
        Refusal::NoMemory => StoreStatus::NoMemory,
        Refusal::Exists => {
            counters.cas_badval.bump();
            StoreStatus::Exists
        }
        Refusal::NotFound => {
            counters.cas_misses.bump();
            StoreStatus::NotFound
        }
        Refusal::NotStored | Refusal::NotANumber => StoreStatus::NotStored,
    };
    log(context, storage, status, None);
}

/// What a client is told whose value was not stored.
pub(super) fn answer(refusal: Refusal) -> Response {
    match refusal {
        Refusal::TooLarge => Reject::TooLarge.into(),
        Refusal::NoMemory => Reject::NoMemoryToStore.into(),
        Refusal::Exists => Response::Exists,
        Refusal::NotFound => Response::NotFound,
        Refusal::NotStored | Refusal::NotANumber => Response::NotStored,
    }
}

/// Logs what was tried: as upstream does, of what is stored now, or of the value that came and was
/// not stored, and of a value that did not come nothing.
fn log(context: &Context<'_>, storage: &Storage<'_>, status: StoreStatus, stored: Option<&Stored>) {
    let watch = &context.server.watch;
    if !watch.wants(Categories::MUTATIONS) {
        return;
    }
    let command = match storage.mode {
        StoreMode::Set if storage.compare.is_some() => StoreCommand::Cas,
        StoreMode::Set => StoreCommand::Set,
        StoreMode::Add => StoreCommand::Add,
        StoreMode::Replace => StoreCommand::Replace,
        StoreMode::Append => StoreCommand::Append,
        StoreMode::Prepend => StoreCommand::Prepend,
    };
    let server = context.server;
    let (ttl, class, size) = match storage.block {
        Block::Value(value) => {
            let item = size_of(storage.key.len(), value.len(), storage.flags, server.settings.cas);
            let class = size_classes(&server.settings).class_of(item);
            let (class, size) =
                stored.map_or((class, value.len()), |stored| (stored.class, stored.value_len));
            (context.expiry(storage.exptime).ttl(context.now.seconds()), class, size)
        }
        Block::Unterminated | Block::TooLarge => (None, 0, 0),
    };
    let fd = context.connection.fd;
    let event = ItemStore { key: storage.key, status, command, ttl, class, fd, size };
    watch.item_store(&event, context.now);
}
