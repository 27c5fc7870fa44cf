//! One shard: a log, its blocks, its index, and the one function by which items change.
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

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::Arc;

use super::blocks::Blocks;
use super::change::{Cause, Change, Item, Need, Put, Stamp, Value};
use super::counters::Tally;
use super::floors::{Floor, Floors};
use super::index::Index;
use super::log::{Log, NOTHING_DUE, Run};
use super::mutations::Mutation;
use super::peered::Peered;
use super::pool::{Pool, Purpose, Segment};
use super::slot::{
    Bits, HEADER, HEADER_TOUCHED, Handle, Header, SLOT_MAX, key_is, narrow, slot_len,
};
use super::{FlushAt, Key, Miss, StoreConfig};
use crate::clock::{Now, UnixSeconds};
use crate::item::{Expiry, Found, size_of};
use crate::version::{Version, VersionClock};

/// An overwritten slot may keep this many bytes to spare, or an eighth of itself.
const SPARE_MAX: usize = 64;

/// What all shards share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: StoreConfig,
    pub(super) pool: Pool,
    /// Hashes keys, with a secret of this process. `SipHash` costs about 11 ns a key more than the
    /// fastest hashes, a hundredth of an unpipelined request. Those make no promise against an
    /// attacker who watches, and session ids may be an attacker's choice.
    hasher: Option<RandomState>,
    /// What is kept for peers, where there are any.
    pub(super) peered: Option<Peered>,
}

impl Shared {
    /// What shards of a store from `config` share.
    pub(super) fn new(config: StoreConfig, pool: Pool, shards: usize) -> Shared {
        let peered = config.replication.clone();
        let peered = peered.map(|replicated| Peered::new(replicated, config.node, shards));
        let hasher = (!config.fixed_hash).then(RandomState::new);
        Shared { config, pool, hasher, peered }
    }

    /// Whether a test has this rule broken.
    #[cfg(test)]
    pub(super) fn breaks(&self, rule: impl Fn(&super::Broken) -> bool) -> bool {
        self.peered.as_ref().is_some_and(|peered| rule(&peered.config.broken))
    }

    /// A key's hash.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = match &self.hasher {
            Some(secret) => secret.build_hasher(),
            None => DefaultHasher::new(),
        };
        hasher.write(key);
        hasher.finish()
    }
}

/// One shard's items.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) log: Log,
    pub(super) blocks: Blocks,
    pub(super) index: Index,
    pub(super) tally: Tally,
    /// What is there no more, as far as a peer may not know it.
    pub(super) floors: Floors,
    pub(super) shared: Arc<Shared>,
    /// No item expires and none is flushed before this second.
    pub(super) due_at: u32,
    /// The sweep has nothing to do here before this second.
    pub(super) visit_at: u32,
    /// The index was refused a segment to grow into; it asks again at this many items.
    pub(super) grow_at: usize,
    /// The latest second at which the shard was used.
    pub(super) seen: UnixSeconds,
    clock: VersionClock,
    /// Items up to this version are dead.
    pub(super) flushed: Version,
    /// A pending flush; with peers it is theirs as well, and not kept here.
    flush_at: Option<FlushAt>,
}

impl Shard {
    /// An empty shard, which holds no memory yet.
    pub(super) fn new(shared: Arc<Shared>) -> Shard {
        Shard {
            log: Log::default(),
            blocks: Blocks::default(),
            index: Index::new(),
            tally: Tally::new(&shared.config),
            floors: Floors::default(),
            due_at: NOTHING_DUE,
            visit_at: NOTHING_DUE,
            grow_at: 0,
            seen: UnixSeconds(0),
            clock: VersionClock::new(shared.config.node),
            flushed: Version(0),
            flush_at: None,
            shared,
        }
    }

    /// Segments that can be given back by removing items.
    pub(super) fn held(&self) -> usize {
        self.log.held() + self.blocks.held()
    }

    /// To be called before anything else at `now`: lets a delayed flush fire.
    pub(super) fn begin(&mut self, now: Now) {
        let second = now.seconds();
        self.seen = self.seen.max(second);
        if let Some(peered) = &self.shared.peered {
            let watermark = peered.watermark(second);
            if watermark > self.flushed {
                self.flush_to(watermark);
            }
        } else if let Some(at) = self.flush_at
            && at <= second
        {
            self.flush_before(at);
        }
    }

    /// Makes every item stored so far invisible.
    pub(super) fn flush_now(&mut self, now: Now) {
        let watermark = self.clock.next(now);
        self.flush_to(watermark);
    }

    /// Makes every item stored before the second `at` invisible once it is reached.
    pub(super) fn flush_later(&mut self, at: FlushAt) {
        self.flush_at = Some(at);
    }

    fn flush_before(&mut self, at: FlushAt) {
        self.clock.observe(Version::floor_at(Now::from_unix_seconds(at.0)));
        self.flush_to(self.clock.last());
    }

    /// Makes every item up to the version `watermark` invisible.
    pub(super) fn flush_to(&mut self, watermark: Version) {
        self.flush_at = None;
        self.flushed = watermark;
        self.log.mark_flushed();
        self.due_at = 0;
        self.visit_at = 0;
    }

    /// Why the item is invisible at `now`, or `None` for a live one.
    pub(super) fn gone(&self, handle: Handle, header: &Header, now: Now) -> Option<Miss> {
        // A version that a client chose does not tell when it was given: its slot's place does.
        let is_flushed = if header.bits.has(Bits::EXPLICIT) {
            handle.offset() < self.log.about(handle.segment()).flushed_to as usize
        } else {
            header.version <= self.flushed
        };
        if is_flushed {
            Some(Miss::Flushed)
        } else if header.expiry.is_past(now.seconds()) {
            Some(Miss::Expired)
        } else {
            None
        }
    }

    /// The item with this key, be it live or gone.
    pub(super) fn find(&self, key: Key<'_>) -> Option<Item> {
        let log = &self.log;
        let found = self.index.find(key.hash, |handle| key_is(log.slot(handle), key.bytes));
        let (place, handle) = found?;
        Some(Item { hash: key.hash, place, handle, header: self.log.header(handle) })
    }

    /// The live item with this key. One that is gone is reclaimed.
    pub(super) fn look_up(&mut self, key: Key<'_>, now: Now) -> Result<Item, Miss> {
        let item = self.find(key).ok_or(Miss::NotFound)?;
        match self.gone(item.handle, &item.header, now) {
            None => Ok(item),
            Some(miss) => {
                self.commit(Some(item), Change::Remove(miss.into()), now);
                Err(miss)
            }
        }
    }

    /// The item in a live slot.
    pub(super) fn item_at(&self, handle: Handle, header: Header) -> Item {
        let hash = self.shared.hash(self.log.key(handle));
        match self.index.find(hash, |other| other == handle) {
            Some((place, handle)) => Item { hash, place, handle, header },
            None => unreachable!("a live slot is in the index"),
        }
    }

    /// The item as commands see it, before any access.
    pub(super) fn found(&self, header: &Header, now: Now) -> Found {
        let config = &self.shared.config;
        let value_len = header.value_len as usize;
        let size = size_of(usize::from(header.key_len), value_len, header.flags, config.cas);
        Found {
            flags: header.flags,
            version: self.shown(header.version),
            expiry: header.expiry,
            expiry_before: header.expiry,
            value_len,
            idle: now.seconds().since(header.last_access),
            fetched: header.bits.has(Bits::FETCHED),
            stale: header.bits.has(Bits::STALE),
            won: false,
            token_sent: header.bits.has(Bits::TOKEN_SENT),
            binary_key: header.bits.has(Bits::BINARY_KEY),
            vivified: false,
            size,
            class: self.tally.class_of(size),
        }
    }

    /// A version as clients see it: 0 with `-C`.
    pub(super) fn shown(&self, version: Version) -> Version {
        if self.shared.config.cas { version } else { Version(0) }
    }

    /// Whether `compare` allows a change of the item. With `-C` no version ever matches.
    pub(super) fn compares(&self, compare: Option<Version>, header: &Header) -> bool {
        compare.is_none_or(|version| self.shared.config.cas && version == header.version)
    }

    /// Leaves an access on a live item: `bits`, and when it was.
    pub(super) fn note_access(&mut self, item: &mut Item, bits: Bits, now: Now) {
        let mut header = item.header;
        header.bits = header.bits.with(bits);
        header.last_access = header.last_access.max(now.seconds());
        if header != item.header {
            item.header = header;
            self.log.set_header(item.handle, &header);
        }
    }

    /// Notes that a reader holds the token to recache the item, and nothing else.
    pub(super) fn note_token(&mut self, item: &mut Item) {
        item.header.bits = item.header.bits.with(Bits::TOKEN_SENT);
        self.log.set_header(item.handle, &item.header);
    }

    /// The index got no segment to grow into: it asks again when there are an eighth more items.
    pub(super) fn put_off_growth(&mut self) {
        self.grow_at = self.index.items() + self.index.items() / 8 + 1;
    }

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
                    Self::stamp(&self.shared, &mut self.clock, stamp, key, now);
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
        key: &[u8],
        now: Now,
    ) -> (Version, Version) {
        debug_assert!(shared.peered.is_none() || !matches!(stamp, Stamp::Chosen(_)));
        let version = match (stamp, &shared.peered) {
            (Stamp::Merged { version, touched }, _) => return (version, touched),
            (Stamp::Chosen(version), None) => version,
            (Stamp::Fresh, None) => clock.next(now),
            (Stamp::Chosen(_) | Stamp::Fresh, Some(peered)) => {
                peered.version(Mutation::Put, key, now)
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
                peered.version(Mutation::Touched { base }, key, now)
            }
        }
    }

    /// With peers: what must be known of an item that goes.
    fn remember(&mut self, item: &Item, cause: Cause, now: Now) {
        let Some(peered) = &self.shared.peered else { return };
        let key = self.log.key(item.handle);
        let floor = match cause {
            Cause::Flushed => return,
            Cause::Deleted => {
                Floor::deleted(peered.version(Mutation::Deleted, key, now), now.seconds())
            }
            Cause::Expired | Cause::Evicted => {
                Floor::lost(item.header.version, item.header.touched, now.seconds())
            }
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
            Self::stamp(&self.shared, &mut self.clock, put.stamp, key.bytes, now);
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
                        self.index.insert(key.hash, handle, |item| shared.hash(log.key(item)));
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

impl Drop for Shard {
    fn drop(&mut self) {
        let pool = &self.shared.pool;
        self.log.clear().into_iter().for_each(|segment| pool.give_back(segment, Purpose::Log));
        self.index.clear().into_iter().for_each(|segment| pool.give_back(segment, Purpose::Index));
        self.blocks
            .clear()
            .into_iter()
            .for_each(|segment| pool.give_back(segment, Purpose::Blocks));
    }
}
