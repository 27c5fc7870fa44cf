//! One mutation as the log keeps it: version, kind and key in a row of bytes, and back.
//!
//! What is NOT here: the order of mutations, and who reads them ([`super`]).

use crate::item::Expiry;
use crate::store::record::{Kind, Record};
use crate::version::Version;

/// Bytes of an entry besides its key: version, base, kind, key length.
pub(super) const ENTRY: usize = 18;

/// What a client changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The item has a new version: stored, or marked stale.
    Put,
    /// The item was deleted.
    Deleted,
    /// The item has a new expiry; its version is still `base`.
    Touched {
        /// The version that was touched.
        base: Version,
    },
    /// Everything was flushed, or will be: [`crate::store::Store::flushes`] tells.
    Flush,
}

/// A mutation as it was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its version, and its position.
    pub version: Version,
    /// What happened.
    pub mutation: Mutation,
    /// To which key; empty for a flush.
    pub key: &'a [u8],
}

/// What was put, so that a reader need not look for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Carried<'a> {
    /// When it expires.
    pub expiry: Expiry,
    /// Client flags.
    pub flags: u32,
    /// Marked stale by the meta protocol.
    pub stale: bool,
    /// The key came in base64.
    pub binary_key: bool,
    /// The value.
    pub value: &'a [u8],
}

impl Carried<'_> {
    /// What is known of the key at this version.
    pub(super) fn record(&self, version: Version) -> Record {
        Record {
            version,
            kind: Kind::Value,
            touched: version,
            expiry: self.expiry,
            flags: self.flags,
            stale: self.stale,
            binary_key: self.binary_key,
        }
    }
}

/// Entries read from the log. Reading appends.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    pub(super) bytes: Vec<u8>,
}

impl Entries {
    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> + Clone {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (entry, after) = decode(rest)?;
            rest = after;
            Some(entry)
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets them, to read others.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Appends `entry` to `into`.
pub(super) fn encode(entry: &Entry<'_>, into: &mut Vec<u8>) {
    let (kind, base) = match entry.mutation {
        Mutation::Put => (0, Version(0)),
        Mutation::Deleted => (1, Version(0)),
        Mutation::Touched { base } => (2, base),
        Mutation::Flush => (3, Version(0)),
    };
    into.extend_from_slice(&entry.version.0.to_le_bytes());
    into.extend_from_slice(&base.0.to_le_bytes());
    into.push(kind);
    into.push(u8::try_from(entry.key.len()).unwrap_or(u8::MAX));
    into.extend_from_slice(entry.key);
}

/// The first entry in `bytes`, and what follows it.
pub(super) fn decode(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (base, rest) = rest.split_first_chunk()?;
    let (&[kind, key_len], rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(key_len))?;
    let mutation = match kind {
        0 => Mutation::Put,
        1 => Mutation::Deleted,
        2 => Mutation::Touched { base: Version(u64::from_le_bytes(*base)) },
        _ => Mutation::Flush,
    };
    Some((Entry { version: Version(u64::from_le_bytes(*version)), mutation, key }, rest))
}
