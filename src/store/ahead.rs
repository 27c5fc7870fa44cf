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

/// Keys by shard, as chains of their numbers.
struct Chains {
    first: [u8; SHARDS_MAX],
    next: [u8; GROUP_KEYS_MAX],
}

/// The end of a chain.
const END: u8 = u8::MAX;

const _: () = assert!(GROUP_KEYS_MAX <= END as usize);

impl Chains {
    fn in_lane(&self, lane: usize) -> impl Iterator<Item = usize> {
        let some = |number: u8| (number != END).then_some(usize::from(number));
        std::iter::successors(some(self.first[lane]), move |&number| some(self.next[number]))
    }
}

impl Store {
    /// Has the memory fetched that fetches of these keys will need: of the first [`GROUP_KEYS_MAX`].
    pub fn look_ahead(&self, keys: &[Key<'_>]) {
        let mut chains = Chains { first: [END; SHARDS_MAX], next: [END; GROUP_KEYS_MAX] };
        for (number, &key) in (0..).zip(keys.iter().take(GROUP_KEYS_MAX)) {
            let lane = self.lane_of(key);
            chains.next[usize::from(number)] = chains.first[lane];
            chains.first[lane] = number;
        }
        let lanes = || (0..self.shards()).filter(|&lane| chains.first[lane] != END);
        for lane in lanes() {
            let shard = self.peek(lane);
            chains.in_lane(lane).for_each(|number| shard.index.look_at(keys[number].hash));
        }
        for lane in lanes() {
            let shard = self.peek(lane);
            let hashes = chains.in_lane(lane).map(|number| keys[number].hash);
            shard.look_at_items(hashes.filter_map(|hash| shard.index.likely(hash)));
        }
    }
}

impl Shard {
    /// Has the memory of some items fetched.
    pub(super) fn look_at_items(&self, handles: impl Iterator<Item = Handle>) {
        handles.for_each(|handle| self.log.look_at(handle, LINES));
    }
}
