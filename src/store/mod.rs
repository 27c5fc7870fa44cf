//! The item store: keys to values in bounded memory.
//!
//! Callers name what they want in one value ([`Fetch`], [`Write`], [`Delete`], [`Arithmetic`]) and
//! get a value back: no method returns a borrow or a guard, and none takes a callback that could
//! come back into the store. Every change of an item goes through one private function.
//!
//! Picture shards, each behind a lock: a *log* of segments in which items lie one after another, an
//! *index* from keys to places in the log, and *blocks* for values too long for the log. All three
//! take their memory from one *pool* of equal segments and give it back when a segment is empty.
//! There are no size classes and no allocation an item: an item of any size goes to the end of the
//! log, so drifting sizes strand nothing, and what is dead is squeezed out by moving the living
//! together. All of it is safe code: a handle is a number, and every access is checked.
//!
//! | file | what |
//! |---|---|
//! | `pool` | segments, and the limit |
//! | `slot` `log` | an item's bytes; segments of items |
//! | `blocks` `large` | long values; holding one outside the lock |
//! | `index` | linear hashing over buckets of one cache line |
//! | `shard` `change` `commit` | the three together, and the one function by which items change |
//! | `room` `sweep` `compact` `evict` | finding room, in this order |
//! | `mutations` `floors` | with peers: what clients changed; what is there no more |
//! | `replicated` `peered` | what a store with peers is built from, and what its shards share |
//! | `record` `merge` | all there is to know of a key; a peer's knowledge taken in |
//! | `records` `digests` | telling a peer ours; sums to compare with his |
//! | `shards` | the store: which shard, and shards helping each other |
//! | `fetch` `write` `arithmetic` `delete` `scan` `counters` | what callers ask |
//! | `ahead` `together` | looking at the memory of keys asked for together; reading short items so |
//!
//! What is NOT here: protocols, exptimes (callers pass an [`Expiry`]), waiting, the clock.

use std::sync::Arc;

use crate::clock::{Now, UnixSeconds};
use crate::item::{Expiry, Found, SizeClasses};
use crate::version::Version;
use crate::watch::Watch;

mod ahead;
mod arithmetic;
mod blocks;
mod change;
mod commit;
mod compact;
mod counters;
mod delete;
mod digests;
mod echoes;
mod evict;
mod fetch;
mod floors;
mod index;
mod large;
mod log;
mod merge;
mod mutations;
mod peered;
mod pool;
mod record;
mod records;
mod replicated;
mod room;
mod scan;
mod shard;
mod shards;
mod slot;
mod sweep;
mod together;
mod write;

pub use ahead::{Ahead, GROUP_KEYS_MAX};
pub use digests::{Digest, Digesting, Lanes, digest_hash};
pub use large::LargeValue;
pub use merge::{Merged, Refused};
pub use mutations::{Behind, Entries, Entry, Framing, Mutation, MutationLog, Place, Read, Tray};
pub use peered::{FloorCounters, Flushes, PendingFlush};
pub use pool::Ream;
pub use record::{Kind, Record};
pub use records::{RecordCursor, Records, ScannedRecord};
#[cfg(test)]
pub use replicated::Broken;
pub use replicated::{KeyPatterns, Replicated, Stability};
pub use shards::Store;
pub use together::{Frame, Piece, Short};

/// What the store is built from.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Hard limit in bytes of everything: items, keys, headers, index (`-m`).
    pub memory_limit: usize,
    /// Largest item as [`crate::item::size_of`] counts (`-I`).
    pub item_size_max: usize,
    /// Push live items out for room; otherwise refuse (`-M`).
    pub evictions: bool,
    /// Versions are shown and compared as cas uniques (`!-C`).
    pub cas: bool,
    /// Shards wanted; the store may take fewer when the memory limit is small.
    pub shards: usize,
    /// Node number in the low bits of versions.
    pub node: u8,
    /// Size classes for statistics.
    pub classes: SizeClasses,
    /// Where evictions are logged.
    pub watch: Arc<Watch>,
    /// What is kept for peers; without, nothing is.
    pub replication: Option<Replicated>,
    /// Keys are hashed without a secret: for simulations, which must run the same way twice.
    pub fixed_hash: bool,
}

/// A key with its hash, made by [`Store::key`]. 1 to 250 bytes; the caller has checked.
#[derive(Clone, Copy, Debug)]
pub struct Key<'k> {
    /// The key's bytes.
    pub bytes: &'k [u8],
    hash: u64,
    /// Where its item was seen, if it was looked for ahead.
    seen: Option<ahead::Likely>,
}

impl Key<'_> {
    /// This key, if it was made from these very bytes.
    #[must_use]
    pub fn again<'k>(&self, bytes: &'k [u8]) -> Option<Key<'k>> {
        std::ptr::eq(self.bytes, bytes).then_some(Key { bytes, ..*self })
    }
}

/// A read, and what it changes besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetch {
    /// Append the value to the reply.
    pub value: bool,
    /// Do not count as an access (meta `u`).
    pub no_bump: bool,
    /// New expiry (touch, gat, meta `T`); the version stays.
    pub touch: Option<Expiry>,
    /// Create an empty item with this expiry on a miss, won by this reader (meta `N`).
    pub vivify: Option<Expiry>,
    /// Win the recache token of a stale item if nobody has it (meta get; a plain get does not).
    pub recache: bool,
    /// Win the recache token when fewer seconds than this are left (meta `R`).
    pub recache_below: Option<u32>,
    /// The seconds left are those of the new expiry (meta `T` before `R`).
    pub touch_first: bool,
    /// Version of a vivified item (meta `E`).
    pub new_version: Option<Version>,
    /// The key of a vivified item came in base64.
    pub binary_key: bool,
    /// Leave the value out when the item has this version (meta `C`).
    pub unless_version: Option<Version>,
}

/// How a reply begins, written before the value: a plain function, so that it cannot hold the
/// store. `C` is what the protocol needs for it (the key, the flags asked for).
pub struct Head<'c, C: ?Sized> {
    /// Handed to `write`.
    pub context: &'c C,
    /// Appends the reply's head to the buffer. Runs under the shard's lock: short, and never
    /// panicking (which would end the process).
    pub write: fn(&C, &Found, &mut Vec<u8>),
}

/// What a fetch found.
#[derive(Debug)]
pub enum Fetched {
    /// Head and value (if asked for) have been appended.
    Hit(Found),
    /// The head has been appended; the value is too large to copy at once and is held as it is
    /// now, whatever happens to the item, until the [`LargeValue`] is dropped.
    Large(Found, LargeValue),
    /// Nothing there.
    Miss(Miss),
}

/// Why there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No such key.
    NotFound,
    /// The item had expired.
    Expired,
    /// The item had been flushed.
    Flushed,
}

/// On what condition a write stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always (with `compare`: only over that version).
    Set,
    /// Only when there is no item.
    Add,
    /// Only when there is an item.
    Replace,
    /// After an item's value; flags and expiry stay.
    Append,
    /// Before an item's value; flags and expiry stay.
    Prepend,
}

/// A storage command.
#[derive(Clone, Copy, Debug)]
pub struct Write<'v> {
    /// The condition.
    pub mode: Mode,
    /// The data block, without its CRLF.
    pub value: &'v [u8],
    /// Client flags.
    pub flags: u32,
    /// When it expires.
    pub expiry: Expiry,
    /// Store only over this version (cas, meta `C`).
    pub compare: Option<Version>,
    /// With `compare`: accept an older version and mark the item stale, keeping expiry and token
    /// (meta `I`).
    pub invalidate: bool,
    /// The version to give the item (meta `E`).
    pub new_version: Option<Version>,
    /// Append or prepend creates the item with this expiry on a miss (meta `N`).
    pub vivify: Option<Expiry>,
    /// The key came in base64.
    pub binary_key: bool,
    /// It may be the copy of what a peer told of after this moment: until then its client asked
    /// something else.
    pub copies_after: Option<Now>,
    /// Its client said for how long it is to live, not until when: a copy expires as much later as it
    /// came later.
    pub is_counted: bool,
}

impl<'v> Write<'v> {
    /// A write with nothing special about it.
    #[must_use]
    pub fn new(mode: Mode, value: &'v [u8], flags: u32, expiry: Expiry) -> Write<'v> {
        Write {
            mode,
            value,
            flags,
            expiry,
            compare: None,
            invalidate: false,
            new_version: None,
            vivify: None,
            binary_key: false,
            copies_after: None,
            is_counted: false,
        }
    }
}

/// A value was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its version.
    pub version: Version,
    /// Length of the whole value now.
    pub value_len: usize,
    /// Size as memcached counts it.
    pub size: usize,
    /// Size class.
    pub class: u8,
}

/// Why a change was not made. The item, if any, is as it was, except where said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The mode's condition does not hold, or an appended value would be too large.
    NotStored,
    /// Another version than the compared one.
    Exists,
    /// No item to compare, delete or count with.
    NotFound,
    /// Larger than `item_size_max`. In mode `Set` without `compare` the old item is gone.
    TooLarge,
    /// No room and nothing may be evicted. In mode `Set` without `compare` the old item is gone.
    NoMemory,
    /// The value is not a decimal number below 2^64.
    NotANumber,
}

/// A delete, or what the meta protocol does instead.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delete {
    /// Only this version.
    pub compare: Option<Version>,
    /// Keep the item, marked stale, with a new version and an unsent token (meta `I`).
    pub mark_stale: bool,
    /// Keep the item, with an empty value and client flags 0 (meta `x`).
    pub clear_value: bool,
    /// New expiry where the item is kept (meta `T`).
    pub touch: Option<Expiry>,
    /// Version where the item is kept (meta `E`).
    pub new_version: Option<Version>,
}

/// incr or decr.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arithmetic {
    /// By how much.
    pub delta: u64,
    /// Up wraps at 2^64; down stops at 0.
    pub up: bool,
    /// Create the item with this number and expiry on a miss; the delta is not applied. Atomic.
    pub initial: Option<(u64, Expiry)>,
    /// New expiry (meta `T`).
    pub touch: Option<Expiry>,
    /// Only over this version.
    pub compare: Option<Version>,
    /// The version to give the item (meta `E`).
    pub new_version: Option<Version>,
    /// The key of a created item came in base64.
    pub binary_key: bool,
}

/// A number was counted up or down, or created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The number now.
    pub number: u64,
    /// The item now; `found.vivified` when it was created.
    pub found: Found,
}

/// One item met by [`Store::scan`].
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The key.
    pub key: Box<[u8]>,
    /// The item apart from its value; `found.idle` as of the scan.
    pub found: Found,
}

/// Where a scan goes on. Start with [`Cursor::default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    bucket: usize,
}

/// The store's own counters, over all shards. Those above the line are gauges; the rest count
/// since the start or [`Store::reset_counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Items held, expired ones not yet reclaimed included.
    pub curr_items: u64,
    /// Bytes those items take, all overhead included.
    pub bytes: u64,
    /// Bytes of those items as memcached counts them.
    pub mem_requested: u64,
    /// Bytes of memory taken from the machine for items and index.
    pub total_malloced: u64,
    /// Buckets of the index as a power of two, rounded down (`hash_power_level`).
    pub hash_power_level: u64,
    /// Bytes of large values that are being read or built: what no eviction can free.
    pub pinned_bytes: u64,
    /// Bytes of the index, which `total_malloced` includes.
    pub hash_bytes: u64,
    /// Items stored.
    pub total_items: u64,
    /// Live items pushed out for room.
    pub evictions: u64,
    /// Of those, never fetched.
    pub evicted_unfetched: u64,
    /// Of those, accessed since they were last looked at.
    pub evicted_active: u64,
    /// Expired items whose memory was taken by a write.
    pub reclaimed: u64,
    /// Expired items reclaimed that had never been fetched.
    pub expired_unfetched: u64,
    /// Expired items whose memory came back without being asked for.
    pub crawler_reclaimed: u64,
    /// Items looked at by that sweep.
    pub crawler_items_checked: u64,
}

/// Statistics of one size class; names as in `stats items` and `stats slabs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounters {
    /// Items in the class.
    pub number: u64,
    /// Bytes of those items as memcached counts them.
    pub mem_requested: u64,
    /// Seconds since the last access of the oldest item met in a bounded sample.
    pub age: u32,
    /// Evictions.
    pub evicted: u64,
    /// Evictions of items with an expiry.
    pub evicted_nonzero: u64,
    /// Seconds since last access of the item evicted last.
    pub evicted_time: u32,
    /// Evictions of items never fetched.
    pub evicted_unfetched: u64,
    /// Evictions of items accessed since they were last looked at.
    pub evicted_active: u64,
    /// Writes refused for want of memory.
    pub outofmemory: u64,
    /// Expired items whose memory was taken by a write.
    pub reclaimed: u64,
    /// Expired items reclaimed that had never been fetched.
    pub expired_unfetched: u64,
    /// Expired items reclaimed by the sweep.
    pub crawler_reclaimed: u64,
    /// Items looked at by the sweep.
    pub crawler_items_checked: u64,
    /// Items stored.
    pub cmd_set: u64,
    /// Deletes.
    pub delete_hits: u64,
    /// Increments.
    pub incr_hits: u64,
    /// Decrements.
    pub decr_hits: u64,
    /// cas with the item's version.
    pub cas_hits: u64,
    /// cas with another version.
    pub cas_badval: u64,
    /// Touches.
    pub touch_hits: u64,
}

/// The memory limit asked for cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRefused;

/// When a delayed flush fires: everything written before that second dies.
pub type FlushAt = UnixSeconds;

/// Most items that one [`Store::sweep`] call may look at before it lets go of a shard: as many of
/// the shortest as a segment holds.
pub const SWEEP_STEP_ITEMS: usize = 4096;

/// Whether a sweep has more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Call again soon.
    More,
    /// Nothing is due before this second at the earliest.
    Idle,
}

#[cfg(any(test, fuzzing))]
mod tests;
#[cfg(any(test, fuzzing))]
pub(crate) use tests::beside_model;
