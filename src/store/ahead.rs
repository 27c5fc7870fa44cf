//! Keys that are asked for, told or scanned together: their memory is looked at before it is needed.
//!
//! With many items nearly every look-up waits for the memory of a bucket and then for that of an
//! item, each some hundred times as long as an instruction takes. A processor fetches many places at
//! the same time if it is told of them before it needs them. So before the items of a *group* are fetched,
//! each of their shards is entered twice: first all buckets of all shards are named, then, with these at
//! hand, all items. Nothing is waited for.
//!
//! Where an item was seen it may be read without being searched again ([`super::together`]), if its
//! shard's index has not changed since and the key there is the key asked for.
//!
//! What is NOT here: fetching ([`super::fetch`]).

use super::Key;
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
#[derive(Clone, Debug)]
pub struct Ahead {
    hashes: [u64; GROUP_KEYS_MAX],
    len: u8,
}

const _: () = assert!(GROUP_KEYS_MAX <= END as usize);

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead { hashes: [0; GROUP_KEYS_MAX], len: 0 }
    }
}

impl Ahead {
    /// Adds a key; returns whether there is room for another.
    pub fn add(&mut self, key: Key<'_>) -> bool {
        if let Some(place) = self.hashes.get_mut(usize::from(self.len)) {
            *place = key.hash;
            self.len += 1;
        }
        usize::from(self.len) < GROUP_KEYS_MAX
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
    /// Of at most [`GROUP_KEYS_MAX`] keys with these hashes.
    pub(super) fn of(
        store: &Store,
        hashes: impl ExactSizeIterator<Item = u64> + DoubleEndedIterator,
    ) -> Chains {
        let mut chains = Chains { first: [END; SHARDS_MAX], next: [END; GROUP_KEYS_MAX] };
        for (number, hash) in hashes.enumerate().take(GROUP_KEYS_MAX).rev() {
            let first = &mut chains.first[store.lane_of_hash(hash)];
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

    /// Has the memory fetched that is needed to find the items with these hashes and read them. Tells
    /// `note` where each probably lies.
    pub(super) fn look_ahead(
        &self,
        store: &Store,
        hash_of: impl Fn(usize) -> u64,
        mut note: impl FnMut(usize, Likely),
    ) {
        for lane in self.lanes(store) {
            let shard = store.peek(lane);
            self.in_lane(lane).for_each(|number| shard.index.look_at(hash_of(number)));
        }
        for lane in self.lanes(store) {
            let shard = store.peek(lane);
            for number in self.in_lane(lane) {
                if let Some(likely) = shard.likely(hash_of(number)) {
                    shard.log.look_at(likely.handle, LINES);
                    note(number, likely);
                }
            }
        }
    }
}

/// Where an item probably lies, as long as the index has this many changes behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Likely {
    handle: Handle,
    changes: u32,
}

impl Store {
    /// Has the memory fetched that is needed to find these keys' items and read them.
    pub fn look_ahead(&self, ahead: &Ahead) {
        let hashes = &ahead.hashes[..usize::from(ahead.len)];
        let chains = Chains::of(self, hashes.iter().copied());
        chains.look_ahead(self, |number| hashes[number], |_, _| {});
    }
}

impl Shard {
    /// Has the memory of some items fetched.
    pub(super) fn look_at_items(&self, handles: impl Iterator<Item = Handle>) {
        handles.for_each(|handle| self.log.look_at(handle, LINES));
    }

    /// Where the item with this hash probably lies.
    pub(super) fn likely(&self, hash: u64) -> Option<Likely> {
        let handle = self.index.likely(hash)?;
        Some(Likely { handle, changes: self.index.changes() })
    }

    /// The slot where `key`'s item was seen, if it is there.
    pub(super) fn seen(&self, likely: Likely, key: &[u8]) -> Option<Handle> {
        // Until the index changes, every handle in it is that of a live slot.
        let is_there =
            likely.changes == self.index.changes() && key_is(self.log.slot(likely.handle), key);
        is_there.then_some(likely.handle)
    }
}
