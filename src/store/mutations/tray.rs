//! The latest entries with what they tell of, for a reader that keeps up.
//!
//! Picture trays of one size in a row: the last is being filled, those before it are full. The reader
//! takes the first and leaves the one that it has emptied, which is filled again while it is still at
//! hand; so it takes little at a time, and no memory is asked for as long as it keeps up. A reader that
//! waits for a core leaves more trays standing: several times what clients write in the milliseconds
//! that this takes. With too many full ones all are cleared away, and nothing is laid there any more
//! until somebody has read the log to its end.
//!
//! What was put lies there as the reader passes it on: he says once how that is written ([`Framing`]),
//! and whoever puts a value writes it so, while it is in his core's cache. The reader's core need not
//! touch it. All else lies beside it, with its place among what was put.
//!
//! What is NOT here: the log itself ([`super`]), and what is passed on to whom.

use std::collections::VecDeque;
use std::{iter, mem};

use super::entry::{Carried, ENTRY, Entries, Entry, encode};
use crate::store::record::Record;
use crate::version::Version;

/// Appends what a peer is told of a key: the key, what is known of it, and its value.
pub type Framing = fn(&[u8], &Record, &[u8], &mut Vec<u8>);

/// Bytes of a tray. What is put is never as long: values that lie in blocks are not carried.
const TRAY: usize = 512 << 10;

/// Bytes of a frame at most, besides its key and value.
const FRAME: usize = 64;

/// Bytes of a tray that stay free, so that a reader can end what it passes on.
const END: usize = 64;

/// Bytes of entries at most that lie beside the frames of a tray.
const ENTRIES: usize = 64 << 10;

/// Trays that are full at most.
pub(super) const FULL_MAX: usize = 32;

/// Empty trays that are kept at most, which is what clients fill in some milliseconds.
const SPARE_MAX: usize = 8;

/// What was logged in some while.
#[derive(Clone, Debug, Default)]
pub struct Tray {
    /// What was put and carried, one frame behind the other.
    pub frames: Vec<u8>,
    /// How many frames these are.
    pub records: u64,
    /// All else.
    pub entries: Entries,
    places: Vec<Place>,
}

/// The place of an entry among frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes of frames before it.
    pub frames: usize,
    /// How many frames these are.
    pub records: u64,
    /// The version of what lies before it.
    pub before: Version,
}

/// The trays.
#[derive(Debug)]
pub(super) struct Trays {
    /// Every entry after this lies here.
    since: Version,
    /// The last entry that does.
    last: Version,
    /// Of the tray being filled, what is touched whenever something is put.
    frames: Vec<u8>,
    records: u64,
    others: Box<Others>,
}

#[derive(Debug, Default)]
struct Others {
    framing: Option<Framing>,
    /// On the tray being filled.
    entries: Entries,
    places: Vec<Place>,
    /// Oldest first, each with its last entry.
    full: VecDeque<(Version, Tray)>,
    empty: Vec<Tray>,
}

impl Tray {
    /// The entries, each with its place.
    pub fn placed(&self) -> impl Iterator<Item = (Place, Entry<'_>)> + Clone {
        // Entries that were read from the log have no frames beside them.
        let places = self.places.iter().copied().chain(iter::repeat(Place::default()));
        places.zip(self.entries.iter())
    }

    /// The place behind all frames.
    pub fn end(&self) -> Place {
        Place { frames: self.frames.len(), records: self.records, before: Version(0) }
    }

    /// Forgets what lies here.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.records = 0;
        self.entries.clear();
        self.places.clear();
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.entries.is_empty()
    }

    fn empty() -> Tray {
        Tray { frames: Vec::with_capacity(TRAY), ..Tray::default() }
    }
}

impl Trays {
    /// Trays on which nothing is laid.
    pub(super) fn closed() -> Trays {
        Trays {
            since: Version(u64::MAX),
            last: Version(0),
            frames: Vec::new(),
            records: 0,
            others: Box::default(),
        }
    }

    /// From here on it is known how that is written which is laid here.
    pub(super) fn frame(&mut self, framing: Framing) {
        self.others.framing = Some(framing);
    }

    /// Every entry after this lies here.
    pub(super) fn since(&self) -> Version {
        self.since
    }

    /// Somebody has read every entry up to `since`.
    pub(super) fn open(&mut self, since: Version) {
        if self.since > since && self.others.framing.is_some() {
            self.since = since;
        }
    }

    /// Lays an entry down, with what was put. Trays that are cleared away: to give so much memory back
    /// takes a while, for which nobody should wait.
    pub(super) fn lay(&mut self, entry: &Entry<'_>, put: Option<Carried<'_>>) -> Option<Trays> {
        if self.since >= entry.version {
            return None;
        }
        let framing = self.others.framing?;
        let frame_len = put.map_or(0, |put| FRAME + put.value.len());
        let is_full = self.frames.len() + frame_len + entry.key.len() + END
            > self.frames.capacity()
            || self.others.entries.bytes.len() + ENTRY + entry.key.len() > ENTRIES;
        if is_full {
            if self.others.full.len() >= FULL_MAX {
                let cleared = mem::replace(self, Trays::closed());
                self.frame(framing);
                return Some(cleared);
            }
            let empty = self.others.empty.pop().unwrap_or_else(Tray::empty);
            let full = self.change(empty);
            if !full.is_empty() {
                self.others.full.push_back((self.last, full));
            }
        }
        match put {
            Some(put) => {
                let record = put.record(entry.version);
                framing(entry.key, &record, put.value, &mut self.frames);
                self.records += 1;
            }
            None => {
                let (frames, records) = (self.frames.len(), self.records);
                self.others.places.push(Place { frames, records, before: self.last });
                encode(entry, &mut self.others.entries.bytes);
            }
        }
        self.last = entry.version;
        None
    }

    /// Takes the first full tray on which anything after `after` lies, if there is one, in place of
    /// `emptied`. Its last entry.
    pub(super) fn take_full(&mut self, after: Version, emptied: &mut Tray) -> Option<Version> {
        while let Some((last, read)) = self.others.full.pop_front_if(|(last, _)| *last <= after) {
            self.since = last;
            self.others.keep(read);
        }
        let (last, full) = self.others.full.pop_front()?;
        self.since = last;
        self.others.keep(mem::replace(emptied, full));
        Some(last)
    }

    /// Takes the tray that is being filled, which holds everything up to `upto`, in place of `emptied`.
    pub(super) fn take_all(&mut self, upto: Version, emptied: &mut Tray) {
        self.since = upto;
        self.others.keep(mem::take(emptied));
        let next = self.others.empty.pop().unwrap_or_default();
        *emptied = self.change(next);
    }

    /// The tray that was being filled, for an empty one.
    fn change(&mut self, next: Tray) -> Tray {
        Tray {
            frames: mem::replace(&mut self.frames, next.frames),
            records: mem::take(&mut self.records),
            entries: mem::replace(&mut self.others.entries, next.entries),
            places: mem::replace(&mut self.others.places, next.places),
        }
    }

    /// Bytes of memory that they take.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let Others { full, empty, entries, .. } = &*self.others;
        let trays = full.iter().map(|(_, tray)| tray).chain(empty);
        let trays = trays.map(|tray| tray.frames.capacity() + tray.entries.bytes.capacity());
        trays.sum::<usize>() + self.frames.capacity() + entries.bytes.capacity()
    }
}

impl Others {
    fn keep(&mut self, mut emptied: Tray) {
        if emptied.frames.capacity() == TRAY && self.empty.len() < SPARE_MAX {
            emptied.clear();
            self.empty.push(emptied);
        }
    }
}
