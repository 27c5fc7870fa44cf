//! Large values outside the lock: reading one in pieces, and building one in pieces.
//!
//! A [`LargeValue`] pins its value in the shard's large table. Readers hold one while they send; a
//! write holds one while it copies a long value into blocks, a piece at a time, so that no lock is
//! held for as long as a gigabyte takes. Until such a value becomes an item's it is nobody's, and
//! dropping the handle frees it.
//!
//! What is NOT here: the blocks ([`super::blocks`]).

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use super::change::Need;
use super::shards::Store;
use crate::clock::Now;

/// Bytes written under one lock.
const PIECE: usize = 128 << 10;

/// A value held while it is sent piece by piece: it stays as it is, whatever happens to the item.
pub struct LargeValue {
    store: Store,
    lane: usize,
    id: u32,
    len: usize,
}

/// What a large value is built from.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// A large value of the same shard.
    Held(&'a LargeValue),
}

impl Part<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Held(value) => value.len(),
        }
    }
}

impl LargeValue {
    /// Takes over a pin of the value `id` of the shard `lane`.
    pub(super) fn adopt(store: Store, lane: usize, id: u32, len: usize) -> LargeValue {
        LargeValue { store, lane, id, len }
    }

    /// The value's large id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Length of the value in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the value is empty (it never is).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends at most `max` bytes from `offset` on to `out`; returns how many.
    pub fn read(&self, offset: usize, max: usize, out: &mut Vec<u8>) -> usize {
        self.store.lock(self.lane).blocks.read(self.id, offset, max, out)
    }
}

impl Drop for LargeValue {
    fn drop(&mut self) {
        let mut shard = self.store.lock(self.lane);
        let shard = &mut *shard;
        shard.blocks.unpin(self.id, &shard.shared.pool);
    }
}

impl fmt::Debug for LargeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeValue").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Store {
    /// Builds the value made of `parts` in the blocks of the shard `lane`. `None` if there is no
    /// room for it.
    pub(super) fn build(&self, lane: usize, parts: &[Part<'_>], now: Now) -> Option<LargeValue> {
        let len = parts.iter().map(Part::len).sum();
        // Evicting everything else would not make room: then nothing is evicted.
        if self.memory_needed_besides(len) > self.usage().limit {
            return None;
        }
        let id = self.lock(lane).blocks.begin(len).ok()?;
        let built = LargeValue::adopt(self.clone(), lane, id, len);
        let mut sum = self.peered().map(|_| Xxh3::new());
        let mut at = 0;
        for part in parts {
            match part {
                Part::Bytes(bytes) => {
                    for piece in bytes.chunks(PIECE) {
                        self.write_piece(&built, at, piece, now)?;
                        sum.iter_mut().for_each(|sum| sum.update(piece));
                        at += piece.len();
                    }
                }
                Part::Held(value) => {
                    let (mut from, mut piece) = (0, Vec::new());
                    while value.read(from, PIECE, &mut piece) > 0 {
                        self.write_piece(&built, at, &piece, now)?;
                        sum.iter_mut().for_each(|sum| sum.update(&piece));
                        from += piece.len();
                        at += piece.len();
                        piece.clear();
                    }
                }
            }
        }
        if let Some(sum) = sum {
            self.lock(lane).blocks.seal(id, sum.digest());
        }
        Some(built)
    }

    fn write_piece(&self, built: &LargeValue, at: usize, piece: &[u8], now: Now) -> Option<()> {
        self.with_room(built.lane, now, |shard| {
            let wanted = shard.blocks.wanted(built.id, at, piece.len());
            if shard.blocks.free() < wanted {
                return Err(Need::Blocks(wanted));
            }
            shard.blocks.write(built.id, at, piece);
            Ok(())
        })
    }
}
