//! set, add, replace, append, prepend, cas.

use super::execute::Context;
use super::stats::size_classes;
use crate::item::{Expiry, size_of};
use crate::protocol::request::{Block, Storage, StoreMode};
use crate::protocol::response::{Reject, Response};
use crate::store::{Mode, Refusal, Write};
use crate::watch::{Categories, ItemStore, StoreCommand, StoreStatus};

/// Stores a value, if its condition holds and it came whole.
pub(super) fn store(context: &Context<'_>, storage: &Storage<'_>) -> Response {
    context.server.prefixes.count_set(storage.key);
    match storage.block {
        Block::Value(value) => write(context, storage, value),
        Block::Unterminated => {
            context.counters.cmd_set.bump();
            Reject::BadDataChunk.into()
        }
        Block::TooLarge => {
            // A client that could not replace its value must not read the old one as the new.
            if storage.mode == StoreMode::Set && storage.compare.is_none() {
                let store = &context.server.store;
                store.discard(store.key(storage.key), context.now);
            }
            refused(context, storage, Refusal::TooLarge)
        }
    }
}

fn write(context: &Context<'_>, storage: &Storage<'_>, value: &[u8]) -> Response {
    let server = context.server;
    let expiry = Expiry::from_exptime(storage.exptime, context.now, server.clock.started());
    let mode = match storage.mode {
        StoreMode::Set => Mode::Set,
        StoreMode::Add => Mode::Add,
        StoreMode::Replace => Mode::Replace,
        StoreMode::Append => Mode::Append,
        StoreMode::Prepend => Mode::Prepend,
    };
    let compare = storage.compare;
    let write = Write { compare, ..Write::new(mode, value, storage.flags, expiry) };
    context.log_lookup(storage.key);
    match server.store.write(server.store.key(storage.key), &write, context.now) {
        Ok(stored) => {
            context.counters.cmd_set.bump();
            if compare.is_some() {
                context.counters.cas_hits.bump();
            }
            log(context, storage, StoreStatus::Stored);
            Response::Stored { unique: server.unique(stored.version) }
        }
        Err(refusal) => refused(context, storage, refusal),
    }
}

/// Counts, logs and answers a value that was not stored. One that found no room does not count as
/// a storage command: upstream notices before it has read the value. Of frames it does not count
/// those refusals either.
fn refused(context: &Context<'_>, storage: &Storage<'_>, refusal: Refusal) -> Response {
    let counters = context.counters;
    match refusal {
        Refusal::TooLarge | Refusal::NoMemory if context.framed => {}
        Refusal::TooLarge => counters.store_too_large.bump(),
        Refusal::NoMemory => counters.store_no_memory.bump(),
        Refusal::NotStored | Refusal::Exists | Refusal::NotFound | Refusal::NotANumber => {
            counters.cmd_set.bump();
        }
    }
    let (status, response) = match refusal {
        Refusal::TooLarge => (StoreStatus::TooLarge, Reject::TooLarge.into()),
        Refusal::NoMemory => (StoreStatus::NoMemory, Reject::NoMemoryToStore.into()),
        Refusal::Exists => {
            counters.cas_badval.bump();
            (StoreStatus::Exists, Response::Exists)
        }
        Refusal::NotFound => {
            counters.cas_misses.bump();
            (StoreStatus::NotFound, Response::NotFound)
        }
        Refusal::NotStored | Refusal::NotANumber => (StoreStatus::NotStored, Response::NotStored),
    };
    log(context, storage, status);
    response
}

/// Logs what was tried: as upstream does, of the value that came, stored or not, and of a value
/// that did not come nothing.
fn log(context: &Context<'_>, storage: &Storage<'_>, status: StoreStatus) {
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
            let started = server.clock.started();
            let expiry = Expiry::from_exptime(storage.exptime, context.now, started);
            let item = size_of(storage.key.len(), value.len(), storage.flags, server.settings.cas);
            let class = size_classes(&server.settings).class_of(item);
            (expiry.ttl(context.now.seconds()), class, value.len())
        }
        Block::Unterminated | Block::TooLarge => (None, 0, 0),
    };
    let fd = context.connection.fd;
    let event = ItemStore { key: storage.key, status, command, ttl, class, fd, size };
    watch.item_store(&event, context.now);
}
