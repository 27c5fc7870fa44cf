//! One shard: a log, its blocks, its index and its floors, and what can be seen of an item there.
//!
//! What is NOT here: how items change ([`super::commit`]), making room ([`super::room`]), and what
//! commands mean ([`super::write`] and its neighbours).

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_secret;

use super::ahead::LINES;
use super::blocks::Blocks;
use super::change::{Change, Item};
use super::counters::Tally;
use super::echoes::Echoes;
use super::floors::Floors;
use super::index::Index;
use super::log::{Log, NOTHING_DUE};
use super::peered::Peered;
use super::pool::{Pool, Purpose};
use super::slot::{Bits, Handle, Header, key_is};
use super::{FlushAt, Key, Miss, StoreConfig};
use crate::clock::{Now, UnixSeconds};
use crate::item::{Found, size_of};
use crate::version::{Version, VersionClock};

/// Bytes that xxh3 takes for a secret.
const SECRET: usize = 192;

/// With what keys are hashed: session ids may be an attacker's choice, so he must not know which of
/// them share a bucket. xxh3 mixes each piece of a key with bytes of the secret,
/// all of them random here, and no hash leaves the process. It makes no promise, as
/// `SipHash` does, against somebody who measures how long single look-ups take; what he could find, a
/// few keys of one bucket, costs a look-up some cache lines. In return a hash costs a quarter.
struct Secret([u8; SECRET]);

impl Secret {
    /// One that nobody knows; or, for simulations, always the same.
    fn new(is_fixed: bool) -> Secret {
        let (known, random) = (BuildHasherDefault::<DefaultHasher>::new(), RandomState::new());
        let word = |at: usize| if is_fixed { known.hash_one(at) } else { random.hash_one(at) };
        let mut secret = [0; SECRET];
        let (words, _) = secret.as_chunks_mut();
        words.iter_mut().enumerate().for_each(|(at, bytes)| *bytes = word(at).to_le_bytes());
        Secret(secret)
    }

    fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_secret(key, &self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What all shards share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: StoreConfig,
    pub(super) pool: Pool,
    secret: Secret,
    /// What is kept for peers, where there are any.
    pub(super) peered: Option<Peered>,
}

impl Shared {
    /// What shards of a store from `config` share.
    pub(super) fn new(config: StoreConfig, pool: Pool, shards: usize) -> Shared {
        let peered = config.replication.clone();
        let peered = peered.map(|replicated| Peered::new(replicated, config.node, shards));
        let secret = Secret::new(config.fixed_hash);
        Shared { config, pool, secret, peered }
    }

    /// Whether a test has this rule broken.
    #[cfg(test)]
    pub(super) fn breaks(&self, rule: impl Fn(&super::Broken) -> bool) -> bool {
        self.peered.as_ref().is_some_and(|peered| rule(&peered.config.broken))
    }

    /// A key's hash.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.secret.hash(key)
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
    /// What peers told of whose copy a client may still send.
    pub(super) echoes: Echoes,
    pub(super) shared: Arc<Shared>,
    /// No item expires and none is flushed before this second.
    pub(super) due_at: u32,
    /// The sweep has nothing to do here before this second.
    pub(super) visit_at: u32,
    /// The index was refused a segment to grow into; it asks again at this many items.
    pub(super) grow_at: usize,
    /// The latest second at which the shard was used.
    pub(super) seen: UnixSeconds,
    /// Gives versions where there are no peers.
    pub(super) clock: VersionClock,
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
            echoes: Echoes::default(),
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
        if self.seen < second {
            self.seen = second;
        }
        if let Some(peered) = &self.shared.peered {
            let watermark = peered.watermark(second);
            self.catch_up(watermark);
        } else if let Some(at) = self.flush_at
            && at <= second
        {
            self.flush_before(at);
        }
    }

    /// Makes every item up to the version `watermark` invisible, if that is news.
    pub(super) fn catch_up(&mut self, watermark: Version) {
        if watermark > self.flushed {
            self.flush_to(watermark);
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
        let is_wanted = |handle| {
            // All of a short item comes at once, not the value after the header that tells its length.
            log.look_at(handle, LINES);
            key_is(log.slot(handle), key.bytes)
        };
        let found = self.still_there(&key).or_else(|| self.index.find(key.hash, is_wanted));
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
    pub(super) fn note_access(
        &mut self,
        handle: Handle,
        header: &mut Header,
        bits: Bits,
        now: Now,
    ) {
        let (bits, second) = (header.bits.with(bits), header.last_access.max(now.seconds()));
        if (bits, second) != (header.bits, header.last_access) {
            (header.bits, header.last_access) = (bits, second);
            self.log.set_access(handle, header);
        }
    }

    /// Notes that a reader holds the token to recache the item, and nothing else.
    pub(super) fn note_token(&mut self, item: &mut Item) {
        item.header.bits = item.header.bits.with(Bits::TOKEN_SENT);
        self.log.set_access(item.handle, &item.header);
    }

    /// The index got no segment to grow into: it asks again when there are an eighth more items.
    pub(super) fn put_off_growth(&mut self) {
        self.grow_at = self.index.items() + self.index.items() / 8 + 1;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_simulations_keys_have_the_same_hash_in_every_store() {
        let hashes = |is_fixed, key: &[u8]| {
            [Secret::new(is_fixed).hash(key), Secret::new(is_fixed).hash(key)]
        };
        for key in [&b"k"[..], b"key", b"a key", b"a longer key", &[b'k'; 40], &[b'k'; 250]] {
            let [one, other] = hashes(false, key);
            assert_ne!(one, other, "{} bytes", key.len());
            let [one, other] = hashes(true, key);
            assert_eq!(one, other, "{} bytes", key.len());
        }
    }
}
