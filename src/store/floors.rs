//! What is there no more, and why an older value must not come back.
//!
//! Picture a floor under each key: nothing older than it can be put there. A deleted item leaves a
//! floor at the delete's version; one that expired, was evicted or could not be taken in leaves one
//! at its own version. A floor is kept until every peer has applied what it tells of, or until it
//! is older than the horizon, or until there is no more room for floors. The latter two are noted:
//! what is at or before [`super::FloorCounters::purged_to`] may come back. Where it may have come back
//! to a peer, that this one once applied what a floor tells of is no reason to let go of it.
//!
//! A key has an item or a floor, never both.
//!
//! What is NOT here: who has applied what ([`super::Stability`]).

use std::collections::BTreeMap;
use std::ops::Bound;

use super::peered::Peered;
use super::record::Kind;
use super::slot::Header;
use crate::clock::UnixSeconds;
use crate::item::Expiry;
use crate::version::Version;

/// Bytes that a floor takes besides its key, about: two thirds of a tree's places are taken.
const FLOOR: usize = 104;

/// Floors looked at whenever one is added, so that they go as they come.
const VISITS: usize = 4;

/// Floors among which the oldest is purged when there is no room.
const SAMPLE: usize = 16;

/// What is known of a key that has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) is_deleted: bool,
    pub(super) version: Version,
    pub(super) touched: Version,
    /// What the last touch said.
    pub(super) expiry: Expiry,
    pub(super) born: UnixSeconds,
    /// It was news here although everybody was taken to know of it: what others hold may be older, too.
    pub(super) is_doubted: bool,
}

impl Floor {
    /// The floor that a delete leaves.
    pub(super) fn deleted(version: Version, born: UnixSeconds) -> Floor {
        let expiry = Expiry::NEVER;
        Floor { is_deleted: true, version, touched: version, expiry, born, is_doubted: false }
    }

    /// The floor that a value leaves which is not held any more.
    pub(super) fn lost(header: &Header, born: UnixSeconds) -> Floor {
        let Header { version, touched, expiry, .. } = *header;
        Floor { is_deleted: false, version, touched, expiry, born, is_doubted: false }
    }

    /// Whether it tells of a delete or of a loss.
    pub(super) fn kind(&self) -> Kind {
        if self.is_deleted { Kind::Deleted } else { Kind::Lost }
    }

    /// The last change of the key that it tells of: who has heard of that knows.
    fn latest(&self) -> Version {
        self.version.max(self.touched)
    }

    fn is_stable(&self, peered: &Peered) -> bool {
        let is_known = |version| peered.is_known_by_all(version);
        !self.is_doubted && is_known(self.version) && is_known(self.touched)
    }
}

/// A shard's floors.
#[derive(Debug, Default)]
pub(super) struct Floors {
    by_key: BTreeMap<Box<[u8]>, Floor>,
    deleted: usize,
    bytes: usize,
    /// Visits go on after this key.
    hand: Vec<u8>,
}

impl Floors {
    /// How many deleted and how many lost items are remembered.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.deleted, self.by_key.len() - self.deleted)
    }

    /// Bytes that all floors take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The floor under `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Floor> {
        self.by_key.get(key)
    }

    /// Floors of keys after `key`.
    pub(super) fn after(&self, key: &[u8]) -> impl Iterator<Item = (&[u8], &Floor)> {
        let range = (Bound::Excluded(key), Bound::Unbounded);
        self.by_key.range::<[u8], _>(range).map(|(key, floor)| (&key[..], floor))
    }

    /// There is an item with this key now.
    pub(super) fn remove(&mut self, key: &[u8]) {
        if self.by_key.is_empty() {
            return;
        }
        if let Some(floor) = self.by_key.remove(key) {
            self.bytes -= FLOOR + key.len();
            self.deleted -= usize::from(floor.is_deleted);
        }
    }

    /// Puts `floor` under `key` in place of what was there, unless every peer knows. Makes room for
    /// it among its like.
    pub(super) fn keep(&mut self, key: &[u8], floor: Floor, peered: &Peered, second: UnixSeconds) {
        self.remove(key);
        if floor.is_stable(peered) {
            return;
        }
        #[cfg(test)]
        if peered.config.broken.no_floors {
            return;
        }
        self.by_key.insert(key.into(), floor);
        self.bytes += FLOOR + key.len();
        self.deleted += usize::from(floor.is_deleted);
        self.visit(VISITS, peered, second);
        while self.bytes > peered.floor_bytes_a_shard {
            self.purge_one(peered);
        }
    }

    /// Looks at the next `most` floors and lets those go that are not needed. `false` at the end.
    pub(super) fn visit(&mut self, most: usize, peered: &Peered, second: UnixSeconds) -> bool {
        let mut unneeded = Vec::new();
        let mut last = None;
        for (key, floor) in self.after(&self.hand).take(most) {
            let is_stable = floor.is_stable(peered);
            if is_stable || peered.is_too_old(floor.born, second) {
                unneeded.push((key.to_vec(), *floor, is_stable));
            }
            last = Some(key);
        }
        let last = last.map(<[u8]>::to_vec);
        let goes_on = last.is_some();
        self.hand = last.unwrap_or_default();
        for (key, floor, is_stable) in unneeded {
            if !is_stable {
                peered.note_purge(floor.latest());
            }
            self.remove(&key);
        }
        goes_on
    }

    /// Purges an old floor, needed or not.
    fn purge_one(&mut self, peered: &Peered) {
        let behind = self.after(&self.hand).chain(self.after(&[]));
        let oldest = behind.take(SAMPLE).min_by_key(|(_, floor)| floor.version);
        let Some((key, floor)) = oldest.map(|(key, floor)| (key.to_vec(), *floor)) else {
            return;
        };
        if !floor.is_stable(peered) {
            peered.note_purge(floor.latest());
        }
        self.remove(&key);
    }
}

#[cfg(any(test, fuzzing))]
impl Floors {
    /// Panics if what is counted is not what there is.
    pub(super) fn check(&self) {
        let bytes: usize = self.by_key.keys().map(|key| FLOOR + key.len()).sum();
        let deleted = self.by_key.values().filter(|floor| floor.is_deleted).count();
        assert_eq!((self.bytes, self.deleted), (bytes, deleted));
    }
}
