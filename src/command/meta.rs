//! mg, ms, md, ma, me: the meta commands, over the same calls of the store as their kin.
//!
//! Their answers are written here and now, because they repeat what the request said. `q` holds
//! back only the answer that was to be expected.
//!
//! They count as their classic kin do in `stats`, and not at all in `stats detail`. `cmd_meta` is
//! upstream's name for the number of me.

use super::execute::{Context, Outcome};
use super::retrieval::{Retrieval, fetch_one, fetch_plain};
use super::{arithmetic, deletion, storage};
use crate::item::Found;
use crate::protocol::meta::{Meta, MetaArithmetic, MetaFault, MetaKey, MetaSet};
use crate::protocol::request::{Block, Storage, StoreMode};
use crate::protocol::response::{Reject, Response};
use crate::protocol::text::meta_reply::{self, HitLine};
use crate::store::{Arithmetic, Delete, Fetch, Fetched, Frame, Head, Refusal, Short, Write};

/// mn
pub(super) fn noop() -> Outcome {
    Outcome::Reply(Response::line("MN"))
}

/// mg: fetches an item, or what is known of it, and what its flags say besides.
pub(super) fn get(context: &Context<'_>, meta: &Meta<'_>, out: &mut Vec<u8>) -> Outcome {
    let options = &meta.options;
    let cas = context.server.settings.cas;
    let line = HitLine { meta, cas, now: context.now.seconds() };
    let key = context.key(&meta.key.bytes);
    if options.is_plain_read() {
        let frame = Frame { context: line, head: short_line, end: b"\r\n" };
        match fetch_plain(context, None, key, &frame, out) {
            Ok(true) => return Outcome::Written,
            Ok(false) => {}
            Err(_) => return missed(meta, out),
        }
    }
    let expiry = |exptime| context.expiry(exptime);
    let fetch = Fetch {
        value: options.value,
        no_bump: options.no_bump,
        touch: options.exptime.map(expiry),
        vivify: options.exptime_of_created().map(expiry),
        recache: true,
        recache_below: options.recache_below.map(|ttl| u32::try_from(ttl).unwrap_or(0)),
        touch_first: options.touch_first,
        new_version: options.new_version,
        binary_key: meta.key.binary,
        unless_version: line.known_version(),
    };
    let head = Head { context: &line, write: meta_reply::hit_line };
    match fetch_one(context, key, &fetch, &head, out) {
        Fetched::Hit(found) => {
            if line.has_value(&found) {
                out.extend_from_slice(b"\r\n");
            }
        }
        Fetched::Large(_, value) => {
            return Retrieval::begin(value, b"\r\n", out).map_or(Outcome::Written, Outcome::Begun);
        }
        Fetched::Miss(_) => return missed(meta, out),
    }
    Outcome::Written
}

/// The answer of mg where there is nothing.
fn missed(meta: &Meta<'_>, out: &mut Vec<u8>) -> Outcome {
    if meta.options.quiet { Outcome::Written } else { miss("EN", meta, out) }
}

/// Begins the answer to an mg that is a plain read ([`Options::is_plain_read`]).
///
/// [`Options::is_plain_read`]: crate::protocol::meta::Options::is_plain_read
fn short_line(line: &HitLine<'_>, item: &Short<'_>, out: &mut Vec<u8>) {
    let Short { key: _, flags, value_len, version, binary_key } = *item;
    let found = Found { flags, value_len, version, binary_key, ..Found::default() };
    meta_reply::hit_line(line, &found, out);
}

/// ms: stores an item, if its condition holds and it came whole.
pub(super) fn set(context: &Context<'_>, wanted: &MetaSet<'_>, out: &mut Vec<u8>) -> Outcome {
    let MetaSet { meta, mode, block } = wanted;
    let options = &meta.options;
    let storage = Storage {
        key: &meta.key.bytes,
        mode: *mode,
        flags: options.client_flags,
        exptime: options.exptime.unwrap_or(0),
        compare: options.compare.filter(|version| match mode {
            StoreMode::Add => false,
            StoreMode::Append | StoreMode::Prepend => version.0 != 0,
            StoreMode::Set | StoreMode::Replace => true,
        }),
        block: *block,
    };
    let stored = match block {
        Block::Value(value) => {
            let write = Write {
                invalidate: options.invalidate,
                new_version: options.new_version,
                vivify: options.vivify.map(|exptime| context.expiry(exptime)),
                binary_key: meta.key.binary,
                ..storage::plan(context, &storage, value)
            };
            storage::write(context, &storage, &write)
        }
        Block::Unterminated => {
            return Outcome::Reply(storage::unterminated(context));
        }
        Block::TooLarge => Err(storage::too_large(context, &storage)),
    };
    let code = match &stored {
        Ok(_) if options.quiet => return Outcome::Written,
        Ok(_) => "HD",
        Err(Refusal::NotStored | Refusal::NotANumber) => "NS",
        Err(Refusal::Exists) => "EX",
        Err(Refusal::NotFound) => "NF",
        Err(refusal @ (Refusal::TooLarge | Refusal::NoMemory)) => {
            // In no mode may the old value be read as the new one. A plain set that found no room has seen to
            // that itself: what is there now came later.
            let is_plain_set = storage.mode == StoreMode::Set && storage.compare.is_none();
            if !is_plain_set || *refusal == Refusal::TooLarge {
                let store = &context.server.store;
                store.discard(store.key(&meta.key.bytes), context.now);
            }
            return Outcome::Reply(storage::answer(*refusal));
        }
    };
    let came = if let Block::Value(value) = block { value.len() } else { 0 };
    let (unique, len) = stored
        .map_or((0, came), |stored| (context.server.unique(stored.version), stored.value_len));
    meta_reply::code_line(code, meta, out, |letter| match letter {
        b'c' => Some(i128::from(unique)),
        b's' => Some(len as i128),
        _ => None,
    });
    Outcome::Written
}

/// The answer to what changes an item, if there is none.
pub(super) fn miss(code: &str, meta: &Meta<'_>, out: &mut Vec<u8>) -> Outcome {
    meta_reply::code_line(code, meta, out, |_| None);
    Outcome::Written
}

/// md: deletes an item, marks it stale or empties it.
pub(super) fn delete(context: &Context<'_>, meta: &Meta<'_>, out: &mut Vec<u8>) -> Outcome {
    let options = &meta.options;
    let delete = Delete {
        compare: options.compare,
        mark_stale: options.invalidate,
        clear_value: options.clear_value,
        touch: options.exptime.map(|exptime| context.expiry(exptime)),
        new_version: options.new_version,
    };
    let code = match deletion::delete_as(context, &meta.key.bytes, &delete, true) {
        Ok(_) if options.quiet => return Outcome::Written,
        Ok(_) => "HD",
        Err(Refusal::Exists) => "EX",
        Err(Refusal::NoMemory) => return Outcome::Reply(Reject::NoMemory.into()),
        Err(Refusal::NotFound | Refusal::NotStored | Refusal::TooLarge | Refusal::NotANumber) => {
            "NF"
        }
    };
    meta_reply::code_line(code, meta, out, |_| None);
    Outcome::Written
}

/// ma: counts an item's number up or down, or creates it.
pub(super) fn count(
    context: &Context<'_>,
    wanted: &MetaArithmetic<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let MetaArithmetic { meta, up } = wanted;
    let options = &meta.options;
    let plan = Arithmetic {
        delta: options.delta.unwrap_or(1),
        up: *up,
        initial: options
            .exptime_of_created()
            .map(|exptime| (options.initial, context.expiry(exptime))),
        touch: options.exptime.map(|exptime| context.expiry(exptime)),
        compare: options.compare.filter(|version| version.0 != 0),
        new_version: options.new_version,
        binary_key: meta.key.binary,
    };
    let code = match arithmetic::count_as(context, &meta.key.bytes, &plan) {
        Ok(counted) => {
            if !options.quiet {
                let unique = context.server.unique(counted.found.version);
                let now = context.now.seconds();
                meta_reply::number_lines(meta, counted.number, &counted.found, unique, now, out);
            }
            return Outcome::Written;
        }
        Err(Refusal::NotANumber) => return Outcome::Reply(Reject::NonNumeric.into()),
        Err(Refusal::NoMemory | Refusal::TooLarge) => {
            return Outcome::Reply(Reject::Meta(MetaFault::NoMemoryForNumber).into());
        }
        Err(Refusal::Exists) => "EX",
        Err(Refusal::NotStored) => "NS",
        Err(Refusal::NotFound) => "NF",
    };
    meta_reply::code_line(code, meta, out, |_| None);
    Outcome::Written
}

/// me: what is known of an item, without it being an access.
pub(super) fn debug(context: &Context<'_>, key: &MetaKey<'_>, out: &mut Vec<u8>) -> Outcome {
    context.counters.cmd_meta.bump();
    match context.look_up(&key.bytes) {
        Fetched::Hit(found) | Fetched::Large(found, _) => {
            let unique = context.server.unique(found.version);
            meta_reply::debug_line(key, &found, unique, context.now.seconds(), out);
        }
        Fetched::Miss(_) => out.extend_from_slice(b"EN\r\n"),
    }
    Outcome::Written
}
