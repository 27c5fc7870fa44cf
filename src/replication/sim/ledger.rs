//! What was written, kept outside the cluster: what nodes hold must be in here.
//!
//! What is NOT here: what must be held where ([`super::audit`], [`super::verdict`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::plan::NodeIndex;
use crate::clock::Now;
use crate::item::Expiry;
use crate::store::{Kind, Record};
use crate::version::Version;

/// How two records of one key are ordered.
pub(super) type Rank = (Version, Kind, Version);

pub(super) fn rank(record: &Record) -> Rank {
    (record.version, record.kind, record.touched)
}

/// What two records of one key tell together.
pub(super) fn joined(one: &Record, other: &Record) -> Record {
    let greater = if rank(one) >= rank(other) { one } else { other };
    if one.version != other.version {
        return *greater;
    }
    // A loss that is told without its touch has no expiry, either.
    let touch = |record: &&Record| (record.touched, record.expiry);
    let later = [one, other].into_iter().max_by_key(touch).unwrap_or(one);
    Record { touched: later.touched, expiry: later.expiry, ..*greater }
}

/// Whether who knows `known` has nothing to learn from `record`.
pub(super) fn includes(known: &Record, record: &Record) -> bool {
    let is_all = known.kind >= record.kind && known.touched >= record.touched;
    known.version > record.version || (known.version == record.version && is_all)
}

/// All that a life ever held of a key, taken together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) greatest: Option<Record>,
    /// The values of these versions were evicted there: the last, and the latest, after which an older one
    /// may have come back and been evicted, too.
    pub(super) evicted: [Version; 2],
    /// Since when in microseconds.
    pub(super) since: u64,
}

impl Held {
    pub(super) fn has_evicted(&self, version: Version) -> bool {
        self.evicted.contains(&version)
    }
}

/// A write whose client waits for a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unacknowledged {
    /// Its position in the log.
    pub(super) position: Version,
    pub(super) written: Written,
    pub(super) by_one: bool,
    /// Kills in the whole history until it was written.
    pub(super) kills_before: u64,
}

/// What a client was told has been done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written {
    Record { key: usize, record: Record },
    Flush { watermark: Version },
}

/// A write that the cluster has acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) origin: NodeIndex,
    pub(super) written: Written,
    /// Kills in the whole history until it was acknowledged.
    pub(super) kills_before: u64,
}

/// A value as a client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) value: Vec<u8>,
    pub(super) flags: u32,
    pub(super) stale: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Two runs of a node may give one version, when its clock is set back in between.
    values: BTreeMap<(usize, Version), Vec<Content>>,
    /// When each value was written, in microseconds of the history.
    written: BTreeMap<(usize, Version), u64>,
    deletes: BTreeMap<(usize, Version), ()>,
    expiries: BTreeMap<(usize, Version, Version), BTreeSet<Expiry>>,
    /// Watermarks that a flush may have.
    flushes: Vec<Version>,
    pub(super) acknowledged: Vec<Acknowledged>,
    pub(super) operations: u64,
}

impl Ledger {
    pub(super) fn value(&mut self, key: usize, record: &Record, content: Content, now_us: u64) {
        self.written.insert((key, record.version), now_us);
        self.values.entry((key, record.version)).or_default().push(content);
        self.touch(key, record);
    }

    /// Whether the value was written after that moment.
    pub(super) fn is_written_after(&self, key: usize, version: Version, moment_us: u64) -> bool {
        self.written.get(&(key, version)).is_some_and(|written| *written > moment_us)
    }

    pub(super) fn touch(&mut self, key: usize, record: &Record) {
        let touch = (key, record.version, record.touched);
        self.expiries.entry(touch).or_default().insert(record.expiry);
    }

    pub(super) fn delete(&mut self, key: usize, version: Version) {
        self.deletes.insert((key, version), ());
    }

    /// The first version after `after` at which the key ceased to have a value that stays: deleted,
    /// or written so that by the fastest clock it has expired, or may have been evicted. Whoever has heard of that may have
    /// nothing.
    pub(super) fn ceased(
        &self,
        key: usize,
        after: Version,
        evictions: bool,
        fastest: Now,
    ) -> Option<Version> {
        let range = (Bound::Excluded((key, after)), Bound::Included((key, Version(u64::MAX))));
        let deleted = self.deletes.range(range).next().map(|((_, version), ())| *version);
        let values = self.values.range(range).map(|((_, version), _)| *version);
        let may_go = |version: &Version| {
            evictions || self.may_have_expired(key, *version, Version(0), fastest)
        };
        let gone = values.into_iter().find(may_go);
        [deleted, gone].into_iter().flatten().min()
    }

    /// The first version at which what is known of a value by `record` came to its end: as
    /// [`Ledger::ceased`], or touched so that it had to expire.
    pub(super) fn ended(
        &self,
        key: usize,
        record: &Record,
        evictions: bool,
        fastest: Now,
    ) -> Option<Version> {
        let Record { version, touched, .. } = *record;
        let after = Bound::Excluded((key, version, touched));
        let later =
            self.expiries.range((after, Bound::Included((key, version, Version(u64::MAX)))));
        let mut past = later.filter(|(_, expiries)| {
            expiries.iter().any(|expiry| expiry.is_past(fastest.seconds()))
        });
        let touched = past.next().map(|((_, _, touched), _)| *touched);
        let ceased = self.ceased(key, version, evictions, fastest);
        [touched, ceased].into_iter().flatten().min()
    }

    /// Whether the value was written, or touched after `touched`, so that it had to expire by `now`.
    pub(super) fn may_have_expired(
        &self,
        key: usize,
        version: Version,
        touched: Version,
        now: Now,
    ) -> bool {
        let after = Bound::Excluded((key, version, touched));
        let all = (after, Bound::Included((key, version, Version(u64::MAX))));
        let expiries = self.expiries.range(all).flat_map(|(_, expiries)| expiries);
        expiries.into_iter().any(|expiry| expiry.is_past(now.seconds()))
    }

    pub(super) fn flush(&mut self, watermark: Version) {
        self.flushes.push(watermark);
    }

    /// Whether somebody flushed up to there.
    pub(super) fn has_flush(&self, watermark: Version) -> bool {
        watermark == Version(0) || self.flushes.contains(&watermark)
    }

    /// Whether two runs of a node gave the same version to the key's values or touches.
    pub(super) fn is_given_twice(&self, key: usize, record: &Record) -> bool {
        let contents = self.values.get(&(key, record.version)).map_or(0, Vec::len);
        let touches = self.expiries.get(&(key, record.version, record.touched));
        contents > 1 || touches.is_some_and(|expiries| expiries.len() > 1)
    }

    /// What is wrong with a record that a node holds: something that nobody wrote.
    pub(super) fn objection(&self, key: usize, record: &Record, value: &[u8]) -> Option<String> {
        match record.kind {
            Kind::Deleted => {
                let known = self.deletes.contains_key(&(key, record.version));
                (!known).then(|| "a delete that nobody asked for".to_owned())
            }
            Kind::Lost => {
                let known = self.values.contains_key(&(key, record.version))
                    || self.deletes.contains_key(&(key, record.version));
                if !known {
                    return Some("the loss of a value that nobody wrote".to_owned());
                }
                // A loss that is told without its touch has no expiry.
                let asked = self.expiries.get(&(key, record.version, record.touched));
                let is_asked = asked.is_some_and(|asked| asked.contains(&record.expiry));
                let is_unasked = record.expiry != Expiry::NEVER && !is_asked;
                is_unasked.then(|| "an expiry that nobody asked for".to_owned())
            }
            Kind::Value => self.objection_to_value(key, record, value),
        }
    }

    fn objection_to_value(&self, key: usize, record: &Record, value: &[u8]) -> Option<String> {
        let Some(contents) = self.values.get(&(key, record.version)) else {
            return Some("a value that nobody wrote".to_owned());
        };
        let held = Content { value: value.to_vec(), flags: record.flags, stale: record.stale };
        if !contents.contains(&held) {
            return Some(format!("{held:?}, written was {contents:?}"));
        }
        match self.expiries.get(&(key, record.version, record.touched)) {
            None => Some("a touch that nobody asked for".to_owned()),
            Some(asked) if !asked.contains(&record.expiry) => {
                Some(format!("expiry {:?}, asked for was {asked:?}", record.expiry))
            }
            Some(_) => None,
        }
    }
}
