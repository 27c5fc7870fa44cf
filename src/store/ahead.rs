//! Keys that are asked for, told or scanned together: their memory is looked at before it is needed.
//!
//! With many items nearly every look-up waits for the memory of a bucket and then for that of an
//! item, each some hundred times as long as an instruction takes. A processor fetches many places at
//! the same time if it is told of them before it needs them. So before the items of a *group* are fetched,
//! each of their shards is entered twice: first all buckets of all shards are named, then, with these at
//! hand, all items. Where they are then read shard by shard, a shard's items are named just before those of
//! the one before it are read: a processor that is told of more places than it can fetch at a time waits.
//!
//! Where an item was seen it is not searched again, if its shard's index has not changed since and the key
//! there is the key asked for.
//!
//! What is NOT here: fetching ([`super::fetch`]).

use super::Key;
use super::index::Place;
use super::shard::Shard;
use super::shards::{SHARDS_MAX, Store};
use super::slot::{Handle, key_is};

/// Most keys of a group: enough to wait for all of them about as long as for one.
pub const GROUP_KEYS_MAX: usize = 64;

/// How far into an item is looked: the rest of a longer one the processor guesses by itself.
pub(super) const LINES: usize = 4;

/// Has the processor fetch the line of memory that this byte is in.
pub(super) fn fetch_soon(byte: &u8) {
    mem_prefetch::prefetch_read_data::<_, 3>(byte);
}

/// Keys that will be asked for soon.
#[derive(Clone, Debug, Default)]
pub struct Ahead<'k> {
    keys: Vec<Key<'k>>,
}

const _: () = assert!(GROUP_KEYS_MAX <= END as usize);

impl<'k> FromIterator<Key<'k>> for Ahead<'k> {
    fn from_iter<T: IntoIterator<Item = Key<'k>>>(keys: T) -> Ahead<'k> {
        Ahead { keys: keys.into_iter().take(GROUP_KEYS_MAX).collect() }
    }
}

impl<'k> Ahead<'k> {
    /// None yet, with room for so many.
    #[must_use]
    pub fn with_capacity(keys: usize) -> Ahead<'k> {
        Ahead { keys: Vec::with_capacity(keys.min(GROUP_KEYS_MAX)) }
    }

    /// Adds a key; returns whether there is room for another.
    pub fn add(&mut self, key: Key<'k>) -> bool {
        if self.keys.len() < GROUP_KEYS_MAX {
            self.keys.push(key);
        }
        self.keys.len() < GROUP_KEYS_MAX
    }

    /// The keys, in the order in which they were added.
    #[must_use]
    pub fn keys(&self) -> &[Key<'k>] {
        &self.keys
    }
}

/// Keys by shard, as chains of their numbers, each in the keys' order.
pub(super) struct Chains {
    first: [u8; SHARDS_MAX],
    next: [u8; GROUP_KEYS_MAX],
}

/// The end of a chain.
const END: u8 = u8::MAX;

impl Chains {
    /// Of at most [`GROUP_KEYS_MAX`] keys.
    fn of(store: &Store, keys: &[Key<'_>]) -> Chains {
        let mut chains = Chains { first: [END; SHARDS_MAX], next: [END; GROUP_KEYS_MAX] };
        for (number, key) in keys.iter().enumerate().take(GROUP_KEYS_MAX).rev() {
            let first = &mut chains.first[store.lane_of(*key)];
            chains.next[number] = *first;
            *first = u8::try_from(number).unwrap_or(END);
        }
        chains
    }

    /// The shards that have keys.
    pub(super) fn lanes(&self, store: &Store) -> impl Iterator<Item = usize> {
        (0..store.shards()).filter(|&lane| self.first[lane] != END)
    }

    /// The numbers of a shard's keys.
    pub(super) fn in_lane(&self, lane: usize) -> impl Iterator<Item = usize> {
        let some = |number: u8| (number != END).then_some(usize::from(number));
        std::iter::successors(some(self.first[lane]), move |&number| some(self.next[number]))
    }
}

/// Where an item probably lies, as long as the index has this many changes behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Likely {
    place: Place,
    handle: Handle,
    changes: u32,
}

impl Store {
    /// Has the memory fetched that is needed to find these keys' items and read them, and the keys know
    /// where each probably lies.
    pub fn look_ahead(&self, ahead: &mut Ahead<'_>) {
        let chains = self.buckets_ahead(ahead);
        chains.lanes(self).for_each(|lane| self.items_ahead(ahead, &chains, lane));
    }

    /// Has the memory fetched that is needed to find these keys' items; returns which keys are in which shard.
    pub(super) fn buckets_ahead(&self, ahead: &Ahead<'_>) -> Chains {
        let chains = Chains::of(self, &ahead.keys);
        for lane in chains.lanes(self) {
            let shard = self.peek(lane);
            chains.in_lane(lane).for_each(|number| shard.index.look_at(ahead.keys[number].hash));
        }
        chains
    }

    /// Has the items of a shard's keys fetched, and these keys know where each probably lies.
    pub(super) fn items_ahead(&self, ahead: &mut Ahead<'_>, chains: &Chains, lane: usize) {
        let shard = self.peek(lane);
        for number in chains.in_lane(lane) {
            let key = &mut ahead.keys[number];
            key.seen = shard.likely(key.hash);
            if let Some(likely) = key.seen {
                shard.log.look_at(likely.handle, LINES);
            }
        }
    }
}

impl Shard {
    /// Has the memory of some items fetched.
    pub(super) fn look_at_items(&self, handles: impl Iterator<Item = Handle>) {
        handles.for_each(|handle| self.log.look_at(handle, LINES));
    }

    /// Where the item with this hash probably lies.
    pub(super) fn likely(&self, hash: u64) -> Option<Likely> {
        let (place, handle) = self.index.find(hash, |_| true)?;
        Some(Likely { place, handle, changes: self.index.changes() })
    }

    /// Where `key`'s item was seen, if it is still there.
    // Always: a part of the loop over a get's keys, as of every search.
    #[inline(always)]
    pub(super) fn still_there(&self, key: &Key<'_>) -> Option<(Place, Handle)> {
        let Likely { place, handle, changes } = key.seen?;
        // Until the index changes, every handle in it is that of a live slot.
        let is_there = changes == self.index.changes() && key_is(self.log.slot(handle), key.bytes);
        is_there.then_some((place, handle))
    }
}
