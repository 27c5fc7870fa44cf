//! The one function by which items change.
//!
//! [`Shard::commit`] makes every change of an item: storing, marking, touching, removing, for
//! whatever reason. With peers, that is where the change gets its version and is logged, and where
//! it is remembered what is there no more. What readers leave on an item (that it was fetched,
//! when, who holds the recache token) is this node's own affair and goes through
//! [`Shard::note_access`]; moving an item within the log changes nothing of it.
//!
//! A change that needs room says so before anything is touched ([`Need`]): the caller makes room
//! and begins anew, because making room moves and removes items.
//!
//! What is NOT here: making room ([`super::room`]) and what commands mean ([`super::write`] and
//! its neighbours).

use super::Key;
use super::change::{Cause, Change, Item, Need, Put, Stamp, Value};
use super::floors::Floor;
use super::log::Run;
use super::mutations::{Carried, Mutation};
use super::pool::{Purpose, Segment};
use super::shard::{Shard, Shared};
use super::slot::{Bits, HEADER, HEADER_TOUCHED, Handle, Header, SLOT_MAX, narrow, slot_len};
use crate::clock::{Now, UnixSeconds};
use crate::item::Expiry;
use crate::version::{Version, VersionClock};

/// An overwritten slot may keep this many bytes to spare, or an eighth of itself.
const SPARE_MAX: usize = 64;

/// Lines of memory that most items' headers and keys lie in.
const KEY_LINES: usize = 2;

impl Shard {
    /// Bytes of the slot of an item with this key and an inline value of `inline_len` bytes.
    pub(super) fn slot_len(&self, key: Key<'_>, inline_len: usize) -> usize {
        let header = if self.shared.peered.is_some() { HEADER_TOUCHED } else { HEADER };
        slot_len(header, key.bytes.len(), inline_len)
    }

    /// Whether an item with an inline value of `inline_len` bytes can be stored with what there
    /// is; says what is lacking otherwise.
    pub(super) fn ready(
        &self,
        key: Key<'_>,
        old: Option<&Item>,
        inline_len: usize,
    ) -> Result<(), Need> {
        let len = self.slot_len(key, inline_len);
        debug_assert!(len <= SLOT_MAX);
        if let Some(old) = old {
            if fits_in_place(&old.header, len) {
                return Ok(());
            }
        } else if self.index.wants_segment() && self.index.items() >= self.grow_at {
            return Err(Need::Growth);
        } else if !self.index.can_insert(key.hash) {
            return Err(Need::Spill);
        }
        if self.log.fits(Run::Head, len) { Ok(()) } else { Err(Need::Head(len)) }
    }

    /// Changes an item: the only way an item ever changes. A `Put` was found [`Shard::ready`].
    /// Returns what the item's header is now.
    pub(super) fn commit(
        &mut self,
        old: Option<Item>,
        change: Change<'_>,
        now: Now,
    ) -> Option<Header> {
        match (old, change) {
            (old, Change::Put(put)) => Some(self.put(old, &put, now)),
            (Some(mut item), Change::Mark { expiry, bits, stamp }) => {
                item.header.bits = bits.with_if(Bits::EXPLICIT, self.is_explicit(stamp));
                let key = self.log.key(item.handle);
                let (version, touched) =
                    Self::stamp(&self.shared, &mut self.clock, stamp, (key, None), now);
                (item.header.version, item.header.touched) = (version, touched);
                self.set_expiry(&mut item, expiry);
                Some(item.header)
            }
            #[cfg(test)]
            (Some(item), Change::Touch { expiry, touched: None })
                if self.shared.breaks(|broken| broken.touch_writes) =>
            {
                let bits = item.header.bits;
                self.commit(Some(item), Change::Mark { expiry, bits, stamp: Stamp::Fresh }, now)
            }
            (Some(mut item), Change::Touch { expiry, touched }) => {
                item.header.touched = touched.unwrap_or_else(|| self.stamp_touch(&item, now));
                self.set_expiry(&mut item, expiry);
                Some(item.header)
            }
            (Some(item), Change::Remove(cause)) => {
                self.remember(&item, cause, now);
                self.index.remove(item.hash, item.place);
                self.bury(&item);
                None
            }
            (None, _) => None,
        }
    }

    /// Whether the client chooses the version. With peers it may not, and commands see to it.
    fn is_explicit(&self, stamp: Stamp) -> bool {
        self.shared.peered.is_none() && matches!(stamp, Stamp::Chosen(_))
    }

    /// The version of a new value, and of its last touch. With peers the change is logged.
    fn stamp(
        shared: &Shared,
        clock: &mut VersionClock,
        stamp: Stamp,
        (key, carried): (&[u8], Option<Carried<'_>>),
        now: Now,
    ) -> (Version, Version) {
        debug_assert!(shared.peered.is_none() || !matches!(stamp, Stamp::Chosen(_)));
        let version = match (stamp, &shared.peered) {
            (Stamp::Merged { version, touched }, _) => return (version, touched),
            (Stamp::Chosen(version), None) => version,
            (Stamp::Fresh, None) => clock.next(now),
            (Stamp::Chosen(_) | Stamp::Fresh, Some(peered)) => {
                peered.version(Mutation::Put, key, carried, now)
            }
        };
        (version, version)
    }

    /// The version of a client's touch.
    fn stamp_touch(&self, item: &Item, now: Now) -> Version {
        let base = item.header.version;
        match &self.shared.peered {
            None => base,
            Some(peered) => {
                let key = self.log.key(item.handle);
                peered.version(Mutation::Touched { base }, key, None, now)
            }
        }
    }

    /// With peers: what must be known of an item that goes.
    fn remember(&mut self, item: &Item, cause: Cause, now: Now) {
        let Some(peered) = &self.shared.peered else { return };
        let key = self.log.key(item.handle);
        let floor = match cause {
            Cause::Flushed | Cause::Wiped => return,
            Cause::Deleted => {
                Floor::deleted(peered.version(Mutation::Deleted, key, None, now), now.seconds())
            }
            Cause::Expired | Cause::Evicted => Floor::lost(&item.header, now.seconds()),
            Cause::Merged(floor) => floor,
        };
        #[cfg(test)]
        if self.shared.breaks(|broken| broken.no_lost_floors)
            && matches!(cause, Cause::Expired | Cause::Evicted)
        {
            return;
        }
        if !peered.is_local(key) {
            self.floors.keep(key, floor, peered, now.seconds());
        }
    }

    fn set_expiry(&mut self, item: &mut Item, expiry: Expiry) {
        item.header.expiry = expiry;
        self.log.set_header(item.handle, &item.header);
        self.note_expiry(expiry);
    }

    /// The sweep must not miss what expires at `expiry`.
    fn note_expiry(&mut self, expiry: Expiry) {
        if let Some(UnixSeconds(second)) = expiry.second() {
            self.due_at = self.due_at.min(second);
            self.visit_at = self.visit_at.min(second);
        }
    }

    fn put(&mut self, old: Option<Item>, put: &Put<'_>, now: Now) -> Header {
        let key = put.key;
        let id_bytes;
        let (inline, value_len) = match put.value {
            Value::Inline(bytes) => (bytes, bytes.len()),
            Value::Large { id, len } => {
                self.blocks.attach(id);
                id_bytes = id.to_le_bytes();
                (&id_bytes[..], len)
            }
        };
        let is_large = matches!(put.value, Value::Large { .. });
        let (version, touched) =
            Self::stamp(&self.shared, &mut self.clock, put.stamp, (key.bytes, put.carried()), now);
        let mut header = Header {
            version,
            touched,
            expiry: put.expiry,
            last_access: now.seconds(),
            flags: put.flags,
            value_len: narrow(value_len),
            granules: 0,
            key_len: u8::try_from(key.bytes.len()).unwrap_or(u8::MAX),
            bits: put
                .bits
                .without(Bits::LARGE.with(Bits::EXPLICIT))
                .with_if(Bits::LARGE, is_large)
                .with_if(Bits::EXPLICIT, self.is_explicit(put.stamp))
                .with_if(Bits::TOUCHED, self.shared.peered.is_some()),
        };
        let len = self.slot_len(key, inline.len());
        self.note_expiry(put.expiry);
        let handle = match old {
            Some(old) if fits_in_place(&old.header, len) => {
                header.granules = old.header.granules;
                self.leave(&old);
                self.log.rewrite(old.handle, &header, inline);
                old.handle
            }
            old => {
                header.set_slot_len(len);
                let handle = self.log.append(Run::Head, &header, key.bytes, inline);
                match old {
                    Some(old) => {
                        self.index.repoint(old.place, handle);
                        self.bury(&old);
                    }
                    None => {
                        self.floors.remove(key.bytes);
                        let (log, shared) = (&self.log, &self.shared);
                        let look_at = |item| log.look_at(item, KEY_LINES);
                        let hash_of = |item| shared.hash(log.key(item));
                        self.index.insert(key.hash, handle, look_at, hash_of);
                    }
                }
                handle
            }
        };
        let bytes = self.bytes_of(handle, &header);
        self.tally.enter(&header, bytes);
        header
    }

    /// Bytes that an item takes: its slot and its blocks.
    pub(super) fn bytes_of(&self, handle: Handle, header: &Header) -> usize {
        let blocks = self.large_id(handle, header).map_or(0, |id| self.blocks.bytes(id));
        header.slot_len() + blocks
    }

    /// The large id of an item whose value lies in blocks.
    pub(super) fn large_id(&self, handle: Handle, header: &Header) -> Option<u32> {
        if !header.bits.has(Bits::LARGE) {
            return None;
        }
        self.log.inline(handle, header).first_chunk().map(|id| u32::from_le_bytes(*id))
    }

    /// The item in `old`'s slot is no more: takes it out of the counts and frees its blocks.
    fn leave(&mut self, old: &Item) {
        let bytes = self.bytes_of(old.handle, &old.header);
        self.tally.leave(&old.header, bytes);
        if let Some(id) = self.large_id(old.handle, &old.header) {
            self.blocks.detach(id, &self.shared.pool);
        }
    }

    /// As [`Shard::leave`], and its slot is dead.
    fn bury(&mut self, old: &Item) {
        self.leave(old);
        let segment = self.log.kill(old.handle, &old.header);
        self.give_back(segment);
    }

    /// Gives a log segment back to the pool.
    pub(super) fn give_back(&mut self, segment: Option<Segment>) {
        if let Some(segment) = segment {
            self.shared.pool.give_back(segment, Purpose::Log);
        }
    }

    /// Moves a live item to the end of `run`, where it fits.
    pub(super) fn relocate(&mut self, item: &Item, run: Run) {
        let (to, header) = self.log.copy(item.handle, &item.header, run);
        self.index.repoint(item.place, to);
        self.tally.shrink(item.header.slot_len() - header.slot_len());
        let segment = self.log.kill(item.handle, &item.header);
        self.give_back(segment);
    }
}

/// Whether an item that needs a slot of `len` bytes may be written over the old one.
fn fits_in_place(old: &Header, len: usize) -> bool {
    let spare_max = SPARE_MAX.max(old.slot_len() / 8);
    len <= old.slot_len() && old.slot_len() - len <= spare_max
}
