//! Storing: set, add, replace, append, prepend, cas, and the meta set's variations.
//!
//! A short value goes into the item's slot within one lock. A long one is built in blocks first,
//! in pieces, and then becomes the item's within one lock, where the write's condition is judged
//! anew; a value that was joined to an older one is built again if that changed meanwhile.

use super::change::{Cause, Change, Item, Need, Put, Stamp, Value};
use super::echoes::Copied;
use super::large::{LargeValue, Part};
use super::shard::Shard;
use super::shards::Store;
use super::slot::{Bits, Header, SLOT_MAX};
use super::{Key, Mode, Refusal, Stored, Write};
use crate::clock::Now;
use crate::item::{Expiry, size_of};
use crate::version::Version;

/// A write that is allowed, as far as the item it replaces decides it.
#[derive(Clone, Copy, Debug)]
struct Plan {
    flags: u32,
    expiry: Expiry,
    bits: Bits,
    /// The value is joined to the old one.
    joins: bool,
}

/// A value built in blocks.
struct Built {
    value: LargeValue,
    /// The version of the item whose value it extends.
    extends: Option<Version>,
}

/// The value that another is joined to.
enum OldValue {
    None,
    Copied(Vec<u8>),
    /// Pinned; the id and length.
    Large(u32, usize),
}

enum Outcome {
    Done(Result<Stored, Refusal>),
    /// The value must be built in blocks first.
    Build {
        extends: Option<Version>,
        old: OldValue,
    },
}

impl Store {
    /// A storage command.
    ///
    /// # Errors
    /// Why nothing was stored.
    pub fn write(&self, key: Key<'_>, write: &Write<'_>, now: Now) -> Result<Stored, Refusal> {
        let copied = self.copy_of(key, write);
        let lane = self.lane_of(key);
        let mut built = None;
        loop {
            let outcome =
                self.with_room(lane, now, |shard| match shard.recognise(copied, key, write, now) {
                    Some(known) => Ok(Outcome::Done(known)),
                    None => shard.attempt_write(key, write, built.as_ref(), now),
                });
            match outcome {
                Some(Outcome::Done(result)) => return result,
                Some(Outcome::Build { extends, old }) => {
                    drop(built.take());
                    built = self
                        .build_joined(lane, write, old, now)
                        .map(|value| Built { value, extends });
                    if built.is_none() {
                        return self.without_memory(copied, key, write, now);
                    }
                }
                None => return self.without_memory(copied, key, write, now),
            }
        }
    }

    fn build_joined(
        &self,
        lane: usize,
        write: &Write<'_>,
        old: OldValue,
        now: Now,
    ) -> Option<LargeValue> {
        let held;
        let copied;
        let old = match old {
            OldValue::None => Part::Bytes(&[]),
            OldValue::Copied(bytes) => {
                copied = bytes;
                Part::Bytes(&copied)
            }
            OldValue::Large(id, len) => {
                held = LargeValue::adopt(self.clone(), lane, id, len);
                Part::Held(&held)
            }
        };
        let new = Part::Bytes(write.value);
        let parts = if write.mode == Mode::Prepend { [new, old] } else { [old, new] };
        self.build(lane, &parts, now)
    }

    /// What becomes of a write for which there is no room. A copy of what a peer has told already needs
    /// none: to refuse it, and so to delete what it was to replace, would delete that on the peer, too.
    pub(super) fn without_memory(
        &self,
        copied: Option<Copied>,
        key: Key<'_>,
        write: &Write<'_>,
        now: Now,
    ) -> Result<Stored, Refusal> {
        let mut shard = self.enter(self.lane_of(key), now);
        // The peer's word, and the next page's, may have come since there was no room.
        if let Some(known) = shard.recognise(copied, key, write, now) {
            return known;
        }
        if replaces_anything(write) && self.peered().is_some() {
            let stamp = Stamp::by_client(write.new_version);
            let (flags, expiry) = (write.flags, write.expiry);
            let value = (write.value, write.binary_key);
            if let Some(header) = shard.restamp(key, value, flags, expiry, stamp, now) {
                return Ok(shard.stored(&header, now));
            }
        }
        let size = shard.size_of(key, write.value.len(), write.flags);
        let class = shard.tally.class_of(size);
        shard.tally.class(class).outofmemory += 1;
        if replaces_anything(write) {
            shard.discard(key, now);
        }
        // With nothing to join it to, the value was to become an item of its own.
        let joins =
            matches!(write.mode, Mode::Append | Mode::Prepend) && shard.look_up(key, now).is_ok();
        Err(if joins { Refusal::NotStored } else { Refusal::NoMemory })
    }
}

/// Whether the write says: whatever was there, this is there now. When it cannot be kept, the old
/// value must not be either.
fn replaces_anything(write: &Write<'_>) -> bool {
    write.mode == Mode::Set && write.compare.is_none()
}

impl Shard {
    /// Removes an item, whatever it is; not counted as a delete.
    pub(super) fn discard(&mut self, key: Key<'_>, now: Now) {
        if let Ok(item) = self.look_up(key, now) {
            self.commit(Some(item), Change::Remove(Cause::Deleted), now);
        }
    }

    pub(super) fn size_of(&self, key: Key<'_>, value_len: usize, flags: u32) -> usize {
        size_of(key.bytes.len(), value_len, flags, self.shared.config.cas)
    }

    fn is_too_large(&self, key: Key<'_>, value_len: usize, flags: u32) -> bool {
        self.size_of(key, value_len, flags) > self.shared.config.item_size_max
    }

    fn attempt_write(
        &mut self,
        key: Key<'_>,
        write: &Write<'_>,
        built: Option<&Built>,
        now: Now,
    ) -> Result<Outcome, Need> {
        if self.is_too_large(key, write.value.len(), write.flags) {
            if replaces_anything(write) {
                self.discard(key, now);
            }
            return Ok(Outcome::Done(Err(Refusal::TooLarge)));
        }
        let mut old = self.look_up(key, now).ok();
        let plan = match self.judge(write, old.as_ref().map(|old| &old.header)) {
            Ok(plan) => plan,
            Err(refusal) => {
                let size = self.size_of(key, write.value.len(), write.flags);
                let class = self.tally.class_of(size);
                self.tally.class(class).cmd_set += 1;
                self.note_refusal(write, old.as_mut(), refusal, now);
                return Ok(Outcome::Done(Err(refusal)));
            }
        };
        let joined = old.filter(|_| plan.joins);
        let len = write.value.len() + joined.map_or(0, |old| old.header.value_len as usize);
        if plan.joins && self.is_too_large(key, len, plan.flags) {
            return Ok(Outcome::Done(Err(Refusal::NotStored)));
        }
        if self.slot_len(key, len) <= SLOT_MAX {
            return self.store_short(key, write, &plan, old, now);
        }
        let extends = joined.map(|old| old.header.version);
        let Some(built) = built.filter(|built| built.extends == extends) else {
            return Ok(Outcome::Build { extends, old: self.hold(joined) });
        };
        let value = Value::Large { id: built.value.id(), len };
        self.store(key, write, &plan, old, value, now)
    }

    /// Stores a value that fits into a slot.
    fn store_short(
        &mut self,
        key: Key<'_>,
        write: &Write<'_>,
        plan: &Plan,
        old: Option<Item>,
        now: Now,
    ) -> Result<Outcome, Need> {
        let Some(joined) = old.filter(|_| plan.joins) else {
            return self.store(key, write, plan, old, Value::Inline(write.value), now);
        };
        let before = self.log.inline(joined.handle, &joined.header);
        let value = match write.mode {
            Mode::Prepend => [write.value, before].concat(),
            _ => [before, write.value].concat(),
        };
        self.store(key, write, plan, old, Value::Inline(&value), now)
    }

    fn store(
        &mut self,
        key: Key<'_>,
        write: &Write<'_>,
        plan: &Plan,
        old: Option<Item>,
        value: Value<'_>,
        now: Now,
    ) -> Result<Outcome, Need> {
        self.ready(key, old.as_ref(), value.inline_len())?;
        if let (Some(_), Some(old)) = (write.compare, &old) {
            self.tally.class_for(&old.header).cas_hits += 1;
        }
        let Plan { flags, expiry, bits, .. } = *plan;
        let put =
            Put { key, value, flags, expiry, bits, stamp: Stamp::by_client(write.new_version) };
        let Some(header) = self.commit(old, Change::Put(put), now) else {
            unreachable!("what is stored is there")
        };
        Ok(Outcome::Done(Ok(self.stored(&header, now))))
    }

    /// Counts what was stored.
    fn stored(&mut self, header: &Header, now: Now) -> Stored {
        let found = self.found(header, now);
        self.tally.class(found.class).cmd_set += 1;
        self.tally.total_items += 1;
        Stored {
            version: found.version,
            value_len: found.value_len,
            size: found.size,
            class: found.class,
        }
    }

    /// Stores a value over the same one, which takes no room.
    pub(super) fn restamp(
        &mut self,
        key: Key<'_>,
        (value, binary_key): (&[u8], bool),
        flags: u32,
        expiry: Expiry,
        stamp: Stamp,
        now: Now,
    ) -> Option<Header> {
        let held = self.look_up(key, now).ok()?;
        if held.header.flags != flags || self.compare_value(value, &held).is_ne() {
            return None;
        }
        let of_the_value = Bits::STALE.with(Bits::TOKEN_SENT).with(Bits::BINARY_KEY);
        let bits = held.header.bits.without(of_the_value);
        let bits = bits.with_if(Bits::BINARY_KEY, binary_key);
        self.commit(
            Some(held),
            Change::Mark { expiry, bits: bits.with(Bits::REFERENCED), stamp },
            now,
        )
    }

    /// Whether the write's condition holds over the item, and what is stored then.
    fn judge(&self, write: &Write<'_>, old: Option<&Header>) -> Result<Plan, Refusal> {
        let binary = Bits::default().with_if(Bits::BINARY_KEY, write.binary_key);
        let fresh = Plan { flags: write.flags, expiry: write.expiry, bits: binary, joins: false };
        let Some(old) = old else {
            return match (write.mode, write.compare, write.vivify) {
                (Mode::Add, ..) | (Mode::Set, None, _) => Ok(fresh),
                (Mode::Set | Mode::Replace, Some(_), _) => Err(Refusal::NotFound),
                (Mode::Append | Mode::Prepend, _, Some(expiry)) => Ok(Plan { expiry, ..fresh }),
                (Mode::Append | Mode::Prepend | Mode::Replace, ..) => Err(Refusal::NotStored),
            };
        };
        if write.mode == Mode::Add {
            return Err(Refusal::NotStored);
        }
        let fresh = Plan { bits: fresh.bits.with(Bits::REFERENCED), ..fresh };
        let joins = matches!(write.mode, Mode::Append | Mode::Prepend);
        if self.compares(write.compare, old) {
            let kept = old.bits.only(Bits::BINARY_KEY);
            let join =
                Plan { flags: old.flags, expiry: old.expiry, bits: fresh.bits.with(kept), joins };
            return Ok(if joins { join } else { fresh });
        }
        let is_older = self.shared.config.cas
            && write.compare.is_some_and(|version| version.0 != 0 && version < old.version);
        if joins || !(write.invalidate && is_older) {
            return Err(Refusal::Exists);
        }
        let token = old.bits.only(Bits::TOKEN_SENT);
        Ok(Plan { expiry: old.expiry, bits: fresh.bits.with(Bits::STALE).with(token), ..fresh })
    }

    fn note_refusal(
        &mut self,
        write: &Write<'_>,
        old: Option<&mut Item>,
        refusal: Refusal,
        now: Now,
    ) {
        let Some(old) = old else { return };
        match refusal {
            Refusal::Exists => self.tally.class_for(&old.header).cas_badval += 1,
            Refusal::NotStored if write.mode == Mode::Add => {
                self.note_access(old.handle, &mut old.header, Bits::REFERENCED, now);
            }
            _ => {}
        }
    }

    /// Keeps the value that another is joined to.
    fn hold(&mut self, joined: Option<Item>) -> OldValue {
        let Some(old) = joined else { return OldValue::None };
        match self.large_id(old.handle, &old.header) {
            None => OldValue::Copied(self.log.inline(old.handle, &old.header).to_vec()),
            Some(id) => {
                self.blocks.pin(id);
                OldValue::Large(id, old.header.value_len as usize)
            }
        }
    }
}
