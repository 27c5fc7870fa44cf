//! Keys that are asked for, told or scanned together: their memory is looked at before it is needed.
//!
//! With many items nearly every look-up waits for the memory of a bucket and then for that of an
//! item, each some hundred times as long as an instruction takes. A processor fetches many places at
//! the same time if it is told of them before it needs them. So before the items of a *group* are fetched
//! one by one, each of their shards is entered twice: first all buckets of all shards are named, then,
//! with these at hand, all items. Nothing is decided by what is seen, and nothing is waited for.
//!
//! What is NOT here: fetching, which finds what it would have found anyway ([`super::fetch`]).

use super::Key;
use super::shard::Shard;
use super::shards::{SHARDS_MAX, Store};
use super::slot::Handle;

/// Most keys of a group: enough to wait for all of them about as long as for one.
pub const GROUP_KEYS_MAX: usize = 64;

/// How far into an item is looked: the rest of a longer one the processor guesses by itself.
const LINES: usize = 4;

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

/// Hashes by shard, as chains of their numbers.
struct Chains<'h> {
    hashes: &'h [u64; GROUP_KEYS_MAX],
    first: [u8; SHARDS_MAX],
    next: [u8; GROUP_KEYS_MAX],
}

/// The end of a chain.
const END: u8 = u8::MAX;

impl Chains<'_> {
    fn in_lane(&self, lane: usize) -> impl Iterator<Item = u64> {
        let some = |number: u8| (number != END).then_some(usize::from(number));
        std::iter::successors(some(self.first[lane]), move |&number| some(self.next[number]))
            .map(|number| self.hashes[number])
    }
}

impl Store {
    /// Has the memory fetched that is needed to find these keys' items and read them.
    pub fn look_ahead(&self, ahead: &Ahead) {
        let (first, next) = ([END; SHARDS_MAX], [END; GROUP_KEYS_MAX]);
        let mut chains = Chains { hashes: &ahead.hashes, first, next };
        for number in 0..ahead.len {
            let lane = self.lane_of_hash(ahead.hashes[usize::from(number)]);
            chains.next[usize::from(number)] = chains.first[lane];
            chains.first[lane] = number;
        }
        let lanes = || (0..self.shards()).filter(|&lane| chains.first[lane] != END);
        for lane in lanes() {
            let shard = self.peek(lane);
            chains.in_lane(lane).for_each(|hash| shard.index.look_at(hash));
        }
        for lane in lanes() {
            let shard = self.peek(lane);
            shard.look_at_items(chains.in_lane(lane).filter_map(|hash| shard.index.likely(hash)));
        }
    }
}

impl Shard {
    /// Has the memory of some items fetched.
    pub(super) fn look_at_items(&self, handles: impl Iterator<Item = Handle>) {
        handles.for_each(|handle| self.log.look_at(handle, LINES));
    }
}
