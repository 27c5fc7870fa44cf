//! What two nodes know of one key, brought together.
//!
//! A [`Record`] is all there is to know: a value, that it was deleted, or that it was there and is
//! not any more. Of two records the one with the greater version counts, whole. At one version,
//! content and touch count apart: a value is more than a loss, and the later touch says when it
//! expires, whichever of the two told of it. In whatever order and however often records arrive,
//! all nodes end with the same.
//!
//! A touch has a version of its own and leaves the value's alone: so it cannot bring a deleted item
//! back, and the touch of an old value cannot shorten the life of a newer one. A loss tells of the
//! last touch, too: a value that a touch has let expire lives on nowhere.
//!
//! What cannot be taken in (too large, no room) is remembered as lost, so that what is older does
//! not come back in its place. Merging is never logged: who wrote it tells everybody.
//!
//! What is NOT here: where records come from.

use std::cmp::Ordering;
use std::sync::atomic;

use super::Key;
use super::change::{Cause, Change, Item, Need, Put, Stamp, Value};
use super::echoes::Fingerprint;
use super::floors::Floor;
use super::large::{LargeValue, Part};
use super::peered::Peered;
use super::record::{Kind, Record, record_of, record_of_floor};
use super::shard::Shard;
use super::shards::Store;
use super::slot::{Bits, SLOT_MAX};
use crate::clock::Now;
use crate::item::{Expiry, size_of};
use crate::limits::VALUE_CHUNK;
use crate::version::Version;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It is what we know now.
    Applied,
    /// As [`Merged::Applied`]: the value of what we knew as lost.
    Found,
    /// We knew it.
    Same,
    /// We know better.
    Older,
    /// It was not taken in. Unless the key is local, what we had that is older is gone.
    Refused(Refused),
    /// A touch of a value that we do not have: the whole record is needed.
    NeedRecord,
}

/// Why a record was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The key stays on the node where it is written, or there are no peers.
    Local,
    /// Larger than `item_size_max` here.
    TooLarge,
    /// No room and nothing may be evicted.
    NoRoom,
}

/// What a shard knows of a key.
enum Known {
    Item(Item),
    Floor(Floor),
    Nothing,
}

/// What a record adds to what is known.
enum News {
    Nothing(Merged),
    /// A later touch of what is known.
    Touch(Version, Expiry),
    /// This is known now.
    Record(Record),
}

enum Outcome {
    Done(Merged),
    /// The value must be built in blocks first.
    Build,
}

impl Store {
    /// Takes in a peer's record of a key. A record that is no value has no bytes.
    pub fn merge(&self, key: &[u8], record: &Record, value: &[u8], now: Now) -> Merged {
        let Some(peered) = self.peered().filter(|peered| !peered.is_local(key)) else {
            return Merged::Refused(Refused::Local);
        };
        peered.log.observe(record.version.max(record.touched));
        let key = self.key(key);
        let merged = match record.kind {
            Kind::Lost | Kind::Deleted => self.merge_floor(key, record, peered, now),
            Kind::Value => self.merge_value(key, record, value, now).unwrap_or_else(|refused| {
                match self.merge_floor(key, &record.gone(), peered, now) {
                    Merged::Older => Merged::Older,
                    _ => Merged::Refused(refused),
                }
            }),
        };
        if merged == Merged::Older {
            peered.superseded.fetch_add(1, atomic::Ordering::Relaxed);
        }
        merged
    }

    fn merge_floor(&self, key: Key<'_>, record: &Record, peered: &Peered, now: Now) -> Merged {
        let mut shard = self.enter(self.lane_of(key), now);
        let known = shard.known(key);
        let floor = match (shard.news(record, &[], &known), known) {
            (News::Nothing(merged), _) => return merged,
            (News::Touch(touched, expiry), Known::Item(item)) => {
                shard.commit(Some(item), Change::Touch { expiry, touched: Some(touched) }, now);
                return Merged::Applied;
            }
            (News::Touch(touched, expiry), Known::Floor(held)) => Floor { touched, expiry, ..held },
            (News::Touch(..), Known::Nothing) => return Merged::Older,
            (News::Record(record), known) => Floor {
                is_deleted: record.kind == Kind::Deleted,
                version: record.version,
                touched: record.touched,
                expiry: record.expiry,
                born: now.seconds(),
                is_doubted: matches!(known, Known::Item(_))
                    && peered.config.stability.covers(record.version),
            },
        };
        // A flushed item is nothing, but it has a slot.
        if let Some(item) = shard.find(key) {
            shard.commit(Some(item), Change::Remove(Cause::Merged(floor)), now);
        } else {
            shard.floors.keep(key.bytes, floor, peered, now.seconds());
        }
        Merged::Applied
    }

    fn merge_value(
        &self,
        key: Key<'_>,
        record: &Record,
        value: &[u8],
        now: Now,
    ) -> Result<Merged, Refused> {
        let config = self.config();
        let size = size_of(key.bytes.len(), value.len(), record.flags, config.cas);
        if size > config.item_size_max {
            return Err(Refused::TooLarge);
        }
        let lane = self.lane_of(key);
        let echo = self.echo_of(key, record, value);
        let mut built = None;
        loop {
            let outcome = self.with_room(lane, now, |shard| {
                shard.attempt_merge(key, record, (value, echo), built.as_ref(), now)
            });
            match outcome {
                Some(Outcome::Done(merged)) => return Ok(merged),
                Some(Outcome::Build) => {
                    built = self.build(lane, &[Part::Bytes(value)], now);
                    if built.is_none() {
                        return self.merge_same(key, record, (value, echo), now);
                    }
                }
                None => return self.merge_same(key, record, (value, echo), now),
            }
        }
    }

    /// Takes in a value for which there is no room, if it is the one that is held.
    fn merge_same(
        &self,
        key: Key<'_>,
        record: &Record,
        (value, echo): (&[u8], Option<Fingerprint>),
        now: Now,
    ) -> Result<Merged, Refused> {
        let mut shard = self.enter(self.lane_of(key), now);
        let known = shard.known(key);
        let Record { version, touched, expiry, flags, binary_key, .. } = *record;
        let is_newer = matches!(shard.news(record, value, &known), News::Record(_));
        let stamp = Stamp::Merged { version, touched };
        if !is_newer
            || record.stale
            || shard.restamp(key, (value, binary_key), flags, expiry, stamp, now).is_none()
        {
            if let Some(echo) = echo {
                shard.echoes.note_refusal(echo, version);
            }
            return Err(Refused::NoRoom);
        }
        Ok(Merged::Applied)
    }

    /// Takes in a peer's touch of the version `base`.
    pub fn merge_touch(
        &self,
        key: &[u8],
        base: Version,
        touched: Version,
        expiry: Expiry,
        now: Now,
    ) -> Merged {
        let Some(peered) = self.peered().filter(|peered| !peered.is_local(key)) else {
            return Merged::Refused(Refused::Local);
        };
        peered.log.observe(base.max(touched));
        let key = self.key(key);
        let mut shard = self.enter(self.lane_of(key), now);
        if base <= shard.flushed {
            return Merged::Older;
        }
        let (item, held) = match shard.known(key) {
            Known::Item(item) => (item, item.header.version),
            Known::Floor(floor) if floor.version > base => return Merged::Older,
            Known::Floor(_) | Known::Nothing => return Merged::NeedRecord,
        };
        match base.cmp(&held) {
            Ordering::Greater => return Merged::NeedRecord,
            Ordering::Less => return Merged::Older,
            Ordering::Equal => {}
        }
        match (touched, expiry).cmp(&(item.header.touched, item.header.expiry)) {
            Ordering::Less => Merged::Older,
            Ordering::Equal => Merged::Same,
            Ordering::Greater => {
                shard.commit(Some(item), Change::Touch { expiry, touched: Some(touched) }, now);
                Merged::Applied
            }
        }
    }

    /// As [`Store::record`], without the value.
    pub fn record_head(&self, key: &[u8], now: Now) -> Option<Record> {
        self.peered().filter(|peered| !peered.is_local(key))?;
        let key = self.key(key);
        match self.enter(self.lane_of(key), now).known(key) {
            Known::Nothing => None,
            Known::Floor(floor) => Some(record_of_floor(&floor)),
            Known::Item(item) => Some(record_of(&item.header)),
        }
    }

    /// What is known of a key, for peers; appends the value. A value past its expiry is still one
    /// while it is held; a flushed one is none. `None`: nothing is known, or the key stays here.
    pub fn record(&self, key: &[u8], now: Now, value: &mut Vec<u8>) -> Option<Record> {
        self.peered().filter(|peered| !peered.is_local(key))?;
        let key = self.key(key);
        let lane = self.lane_of(key);
        let mut shard = self.enter(lane, now);
        match shard.known(key) {
            Known::Nothing => None,
            Known::Floor(floor) => Some(record_of_floor(&floor)),
            Known::Item(item) => {
                let pinned = shard.copy_or_pin(&item, value);
                let len = item.header.value_len as usize;
                drop(shard);
                if let Some(id) = pinned {
                    let held = LargeValue::adopt(self.clone(), lane, id, len);
                    let mut at = 0;
                    while at < len {
                        at += held.read(at, VALUE_CHUNK, value);
                    }
                }
                Some(record_of(&item.header))
            }
        }
    }
}

impl Shard {
    /// What is known of a key. A flushed item is nothing, and so is a flushed floor.
    fn known(&self, key: Key<'_>) -> Known {
        let known = match self.find(key) {
            Some(item) => Some((Known::Item(item), item.header.version)),
            None => self.floors.get(key.bytes).map(|floor| (Known::Floor(*floor), floor.version)),
        };
        match known {
            Some((known, version)) if version > self.flushed => known,
            _ => Known::Nothing,
        }
    }

    /// Whether this version of a key's value is held, or a later one known.
    pub(super) fn has_or_knows_later(&self, key: Key<'_>, version: Version) -> bool {
        match self.known(key) {
            Known::Item(item) => item.header.version >= version,
            Known::Floor(floor) => floor.version > version,
            Known::Nothing => false,
        }
    }

    /// What a record adds to what is known.
    fn news(&self, record: &Record, value: &[u8], known: &Known) -> News {
        if record.version <= self.flushed {
            return News::Nothing(Merged::Older);
        }
        #[cfg(test)]
        if self.shared.breaks(|broken| broken.oldest_wins) {
            return News::Record(*record);
        }
        let held = match known {
            Known::Nothing => return News::Record(*record),
            Known::Floor(floor) => record_of_floor(floor),
            Known::Item(item) => record_of(&item.header),
        };
        match record.version.cmp(&held.version) {
            Ordering::Less => return News::Nothing(Merged::Older),
            Ordering::Greater => return News::Record(*record),
            Ordering::Equal => {}
        }
        let by_value = || match known {
            Known::Item(item) => self.compare_value(value, item),
            Known::Floor(_) | Known::Nothing => Ordering::Equal,
        };
        let (touched, expiry) = record.touch().max(held.touch());
        match record.content().cmp(&held.content()).then_with(by_value) {
            Ordering::Greater => News::Record(Record { touched, expiry, ..*record }),
            _ if record.touch() > held.touch() => News::Touch(touched, expiry),
            Ordering::Equal if record.touch() == held.touch() => News::Nothing(Merged::Same),
            _ => News::Nothing(Merged::Older),
        }
    }

    /// Any order of values will do, as long as it is the same everywhere.
    pub(super) fn compare_value(&self, value: &[u8], item: &Item) -> Ordering {
        let len = item.header.value_len as usize;
        if value.len() != len {
            return value.len().cmp(&len);
        }
        let Some(id) = self.large_id(item.handle, &item.header) else {
            return value.cmp(self.log.inline(item.handle, &item.header));
        };
        let mut held = Vec::with_capacity(VALUE_CHUNK);
        for (n, piece) in value.chunks(VALUE_CHUNK).enumerate() {
            held.clear();
            self.blocks.read(id, n * VALUE_CHUNK, piece.len(), &mut held);
            let order = piece.cmp(&held);
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    fn attempt_merge(
        &mut self,
        key: Key<'_>,
        record: &Record,
        (value, echo): (&[u8], Option<Fingerprint>),
        built: Option<&LargeValue>,
        now: Now,
    ) -> Result<Outcome, Need> {
        let known = self.known(key);
        let is_lost = |floor: &Floor| !floor.is_deleted && floor.version == record.version;
        let merged = match &known {
            Known::Floor(floor) if is_lost(floor) => Merged::Found,
            _ => Merged::Applied,
        };
        let news = self.news(record, value, &known);
        // Whether there is room for it or not, and also if something later is known.
        if matches!(news, News::Record(_) | News::Nothing(Merged::Older))
            && let Some(echo) = echo
        {
            self.echoes.note(echo, record.version, now);
        }
        let record = match (news, known) {
            (News::Nothing(merged), _) => return Ok(Outcome::Done(merged)),
            (News::Touch(touched, expiry), Known::Item(item)) => {
                self.commit(Some(item), Change::Touch { expiry, touched: Some(touched) }, now);
                return Ok(Outcome::Done(Merged::Applied));
            }
            // A value is never but a touch of what is no value.
            (News::Touch(..), _) => return Ok(Outcome::Done(Merged::Older)),
            (News::Record(record), _) => record,
        };
        let old = self.find(key);
        let value = if self.slot_len(key, value.len()) <= SLOT_MAX {
            Value::Inline(value)
        } else if let Some(built) = built {
            Value::Large { id: built.id(), len: value.len() }
        } else {
            return Ok(Outcome::Build);
        };
        self.ready(key, old.as_ref(), value.inline_len())?;
        let bits = Bits::default()
            .with_if(Bits::STALE, record.stale)
            .with_if(Bits::BINARY_KEY, record.binary_key)
            .with_if(Bits::REFERENCED, old.is_some());
        let put = Put {
            key,
            value,
            flags: record.flags,
            expiry: record.expiry,
            bits,
            stamp: Stamp::Merged { version: record.version, touched: record.touched },
        };
        self.commit(old, Change::Put(put), now);
        Ok(Outcome::Done(merged))
    }
}
