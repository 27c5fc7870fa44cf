//! The words in which a change of an item is put: what it is, over which item, what it lacks.

use super::floors::Floor;
use super::index::Place;
use super::mutations::Carried;
use super::slot::{Bits, Handle, Header, LARGE_ID};
use super::{Key, Miss};
use crate::item::Expiry;
use crate::version::Version;

/// What a change lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A head segment that can take a slot of this length.
    Head(usize),
    /// A segment for the index to grow into. Lookups would only become slower without it.
    Growth,
    /// A segment for spill buckets.
    Spill,
    /// This many free blocks.
    Blocks(usize),
}

/// An item as it was found; good until the shard's next change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) hash: u64,
    pub(super) place: Place,
    pub(super) handle: Handle,
    pub(super) header: Header,
}

/// A value on its way into an item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Goes into the slot.
    Inline(&'a [u8]),
    /// Was built in blocks.
    Large {
        /// Its large id.
        id: u32,
        /// Its length in bytes.
        len: usize,
    },
}

impl Value<'_> {
    /// Bytes it takes in a slot.
    pub(super) fn inline_len(&self) -> usize {
        match self {
            Value::Inline(bytes) => bytes.len(),
            Value::Large { .. } => LARGE_ID,
        }
    }
}

/// An item to store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put<'a> {
    pub(super) key: Key<'a>,
    pub(super) value: Value<'a>,
    pub(super) flags: u32,
    pub(super) expiry: Expiry,
    pub(super) bits: Bits,
    pub(super) stamp: Stamp,
}

impl Put<'_> {
    /// What a log may carry of it.
    pub(super) fn carried(&self) -> Option<Carried<'_>> {
        let Value::Inline(value) = self.value else { return None };
        Some(Carried {
            expiry: self.expiry,
            flags: self.flags,
            stale: self.bits.has(Bits::STALE),
            binary_key: self.bits.has(Bits::BINARY_KEY),
            value,
        })
    }
}

/// Which version a change gives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stamp {
    /// The next one.
    Fresh,
    /// One that the client chose (meta `E`).
    Chosen(Version),
    /// Those that a peer's record has.
    Merged {
        /// The value's.
        version: Version,
        /// The last touch's.
        touched: Version,
    },
}

impl Stamp {
    /// The version of a client's change, which it may have chosen.
    pub(super) fn by_client(chosen: Option<Version>) -> Stamp {
        chosen.map_or(Stamp::Fresh, Stamp::Chosen)
    }
}

/// Why an item goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// A client deleted it, or tried to replace it with what could not be kept.
    Deleted,
    /// Its time was over.
    Expired,
    /// It was flushed.
    Flushed,
    /// Its memory was needed.
    Evicted,
    /// A peer knows better.
    Merged(Floor),
    /// All that is mirrored here is forgotten, to be loaded anew.
    Wiped,
}

impl From<Miss> for Cause {
    /// Why an item that is found gone goes.
    fn from(miss: Miss) -> Cause {
        match miss {
            Miss::Flushed => Cause::Flushed,
            Miss::Expired | Miss::NotFound => Cause::Expired,
        }
    }
}

/// What happens to an item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    /// It is stored, over the old one if there is one.
    Put(Put<'a>),
    /// Its value stays; expiry and bits change, and with them the version.
    Mark {
        /// The expiry from now on.
        expiry: Expiry,
        /// The bits from now on.
        bits: Bits,
        /// The version from now on.
        stamp: Stamp,
    },
    /// Its expiry changes; the version stays.
    Touch {
        /// The expiry from now on.
        expiry: Expiry,
        /// The version of the touch, when a peer made it.
        touched: Option<Version>,
    },
    /// It is gone.
    Remove(Cause),
}
