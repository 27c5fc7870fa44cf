//! All that nodes tell each other of one key: [`Record`].
//!
//! What is NOT here: how two records are brought together ([`super::merge`]).

use super::floors::Floor;
use super::slot::{Bits, Header};
use crate::item::Expiry;
use crate::version::Version;

/// What is known of a key, from the weakest to the strongest at one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The value was there and is not held any more: expired, evicted or refused.
    Lost,
    /// It was deleted.
    Deleted,
    /// It has a value.
    Value,
}

/// All that is known of a key, apart from the value's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The version of the value, or of the delete.
    pub version: Version,
    /// Whether there is a value.
    pub kind: Kind,
    /// The version of the last touch; `version` where there was none.
    pub touched: Version,
    /// When the value expires.
    pub expiry: Expiry,
    /// Client flags.
    pub flags: u32,
    /// Marked stale by the meta protocol.
    pub stale: bool,
    /// The key came in base64.
    pub binary_key: bool,
}

impl Record {
    /// That the value `version` with its last touch was there and is not any more.
    #[must_use]
    pub fn lost(version: Version, touched: Version) -> Record {
        Record {
            version,
            kind: Kind::Lost,
            touched,
            expiry: Expiry::NEVER,
            flags: 0,
            stale: false,
            binary_key: false,
        }
    }

    /// That this was there and is not any more.
    #[must_use]
    pub fn gone(&self) -> Record {
        Record { expiry: self.expiry, ..Record::lost(self.version, self.touched) }
    }

    /// What a touch leaves alone, apart from the value's bytes.
    pub(super) fn content(&self) -> (Kind, u32, bool, bool) {
        (self.kind, self.flags, self.stale, self.binary_key)
    }

    /// What a touch changes.
    pub(super) fn touch(&self) -> (Version, Expiry) {
        (self.touched, self.expiry)
    }

    /// That the key was deleted.
    #[must_use]
    pub fn deleted(version: Version) -> Record {
        Record { kind: Kind::Deleted, ..Record::lost(version, version) }
    }
}

/// What is known of a key that has an item.
pub(super) fn record_of(header: &Header) -> Record {
    Record {
        version: header.version,
        kind: Kind::Value,
        touched: header.touched,
        expiry: header.expiry,
        flags: header.flags,
        stale: header.bits.has(Bits::STALE),
        binary_key: header.bits.has(Bits::BINARY_KEY),
    }
}

/// What is known of a key that has a floor.
pub(super) fn record_of_floor(floor: &Floor) -> Record {
    let lost = Record::lost(floor.version, floor.touched);
    Record { kind: floor.kind(), expiry: floor.expiry, ..lost }
}
