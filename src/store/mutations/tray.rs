//! The latest entries with what they tell of, for a reader that keeps up.
//!
//! Picture trays of one size in a row: the last is being filled, those before it are full. The reader
//! takes the first and leaves the one that it has emptied, which is filled again while it is still at
//! hand; so it takes little at a time, and no memory is asked for as long as it keeps up. A reader that
//! waits for a core leaves more trays standing: several times what clients write in the milliseconds
//! that this takes. With too many full ones all are cleared away, and nothing is laid there any more
//! until somebody has read the log to its end.
//!
//! What is NOT here: the log itself ([`super`]).

use std::collections::VecDeque;
use std::mem;

use super::entry::{CARRIED, ENTRY, Entry, encode};
use crate::version::Version;

/// Bytes of a tray. No entry is as long: values that lie in blocks are not carried.
const TRAY: usize = 256 << 10;

/// Trays that are full at most.
pub(super) const FULL_MAX: usize = 64;

/// Empty trays that are kept at most, which is what clients fill in some milliseconds.
const SPARE_MAX: usize = 16;

/// The trays.
#[derive(Debug)]
pub(super) struct Trays {
    /// Every entry after this lies here.
    since: Version,
    /// The last entry that does.
    last: Version,
    /// The tray being filled.
    bytes: Vec<u8>,
    others: Box<Others>,
}

#[derive(Debug, Default)]
struct Others {
    /// Oldest first, each with its last entry.
    full: VecDeque<(Version, Vec<u8>)>,
    empty: Vec<Vec<u8>>,
}

impl Trays {
    /// Trays on which nothing is laid.
    pub(super) fn closed() -> Trays {
        Trays {
            since: Version(u64::MAX),
            last: Version(0),
            bytes: Vec::new(),
            others: Box::default(),
        }
    }

    /// Every entry after this lies here.
    pub(super) fn since(&self) -> Version {
        self.since
    }

    /// Somebody has read every entry up to `since`.
    pub(super) fn open(&mut self, since: Version) {
        if self.since > since {
            self.since = since;
        }
    }

    /// Lays an entry down. Trays that are cleared away: to give so much memory back takes a while, for
    /// which nobody should wait.
    pub(super) fn lay(&mut self, entry: &Entry<'_>) -> Option<Trays> {
        if self.since >= entry.version {
            return None;
        }
        let value_len = entry.carried.map_or(0, |carried| CARRIED + carried.value.len());
        if self.bytes.len() + ENTRY + entry.key.len() + value_len > self.bytes.capacity() {
            let others = &mut *self.others;
            if others.full.len() >= FULL_MAX {
                return Some(mem::replace(self, Trays::closed()));
            }
            let empty = others.empty.pop().unwrap_or_else(|| Vec::with_capacity(TRAY));
            let full = mem::replace(&mut self.bytes, empty);
            if !full.is_empty() {
                others.full.push_back((self.last, full));
            }
        }
        encode(entry, &mut self.bytes);
        self.last = entry.version;
        None
    }

    /// Takes the first full tray, if there is one, in place of `emptied`. Its last entry.
    pub(super) fn take_full(&mut self, emptied: &mut Vec<u8>) -> Option<Version> {
        let (last, full) = self.others.full.pop_front()?;
        self.since = last;
        self.others.keep(mem::replace(emptied, full));
        Some(last)
    }

    /// Takes the tray that is being filled, which holds everything up to `upto`, in place of `emptied`.
    pub(super) fn take_all(&mut self, upto: Version, emptied: &mut Vec<u8>) {
        self.since = upto;
        self.others.keep(mem::take(emptied));
        let next = self.others.empty.pop().unwrap_or_default();
        *emptied = mem::replace(&mut self.bytes, next);
    }

    /// Bytes of memory that they take.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let Others { full, empty } = &*self.others;
        let full = full.iter().map(|(_, bytes)| bytes);
        full.chain(empty).chain([&self.bytes]).map(Vec::capacity).sum()
    }
}

impl Others {
    fn keep(&mut self, mut emptied: Vec<u8>) {
        if emptied.capacity() == TRAY && self.empty.len() < SPARE_MAX {
            emptied.clear();
            self.empty.push(emptied);
        }
    }
}
