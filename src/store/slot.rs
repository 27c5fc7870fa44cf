//! One item as it lies in a log segment: a header, the key, the value, rounded up to granules.
//!
//! ```text
//! | version 8 | expiry 4 | last access 4 | client flags 4 | value length 4 |
//! | granules 2 | key length 1 | bits 1 | touched 8, with peers only |
//! | key ... | value or large id ... | padding |
//! ```
//!
//! The layout lives in [`Header::read`] and [`Header::write`] alone. A slot whose key length is 0
//! is dead: its bytes wait for the segment to be compacted or given back.
//!
//! What is NOT here: where slots lie ([`super::log`]) and what their bits mean to commands.

use std::num::NonZeroU32;

use super::pool::SEGMENT;
use crate::clock::UnixSeconds;
use crate::item::Expiry;
use crate::limits::KEY_MAX;
use crate::version::Version;

/// Slots begin and end at multiples of this many bytes.
pub(super) const GRANULE: usize = 8;

/// Bytes of a header, and of one that goes on with the version of the last touch.
pub(super) const HEADER: usize = 28;
pub(super) const HEADER_TOUCHED: usize = HEADER + 8;

/// Where in the header the key's length and the bits are.
const KEY_LEN_AT: usize = 26;
const BITS_AT: usize = 27;

/// Longest slot in bytes; a longer item keeps its value in blocks. Short against a segment, so
/// that the end of a sealed segment wastes little.
pub(super) const SLOT_MAX: usize = 8 << 10;

/// Bytes that take the value's place in the slot of an item whose value lies in blocks.
pub(super) const LARGE_ID: usize = 4;

const GRANULES_A_SEGMENT_LOG2: u32 = (SEGMENT / GRANULE).ilog2();

const _: () = assert!(HEADER_TOUCHED + KEY_MAX + LARGE_ID <= SLOT_MAX);
const _: () = assert!(SLOT_MAX <= u16::MAX as usize * GRANULE && SLOT_MAX < SEGMENT);

/// `number`, which the caller knows to be below 2^32.
#[expect(clippy::cast_possible_truncation, reason = "lengths inside segments and values")]
pub(super) fn narrow(number: usize) -> u32 {
    debug_assert!(u32::try_from(number).is_ok());
    number as u32
}

/// Where a slot lies: segment number (from 1) and granule within the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(NonZeroU32);

/// Most log segments a shard can name.
pub(super) const LOG_SEGMENTS_MAX: usize = 1 << (u32::BITS - GRANULES_A_SEGMENT_LOG2);

impl Handle {
    /// The slot `offset` bytes into the segment `number`.
    pub(super) fn new(number: u32, offset: usize) -> Handle {
        debug_assert!(offset.is_multiple_of(GRANULE) && offset < SEGMENT);
        let bits = number << GRANULES_A_SEGMENT_LOG2 | narrow(offset / GRANULE);
        match Handle::from_bits(bits) {
            Some(handle) => handle,
            None => unreachable!("log segments are numbered from 1"),
        }
    }

    /// The stored form's handle; 0 is none.
    pub(super) fn from_bits(bits: u32) -> Option<Handle> {
        NonZeroU32::new(bits).map(Handle)
    }

    /// The form kept in the index.
    pub(super) fn to_bits(self) -> u32 {
        self.0.get()
    }

    /// The segment's number.
    pub(super) fn segment(self) -> u32 {
        self.0.get() >> GRANULES_A_SEGMENT_LOG2
    }

    /// Bytes from the segment's start.
    pub(super) fn offset(self) -> usize {
        (self.0.get() as usize * GRANULE) & (SEGMENT - 1)
    }
}

/// What is known of an item in one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(u8);

impl Bits {
    /// Fetched since it was stored.
    pub(super) const FETCHED: Bits = Bits(1);
    /// Accessed since eviction last looked: it has a second chance.
    pub(super) const REFERENCED: Bits = Bits(1 << 1);
    /// Marked stale by the meta protocol.
    pub(super) const STALE: Bits = Bits(1 << 2);
    /// A reader holds the token to recache it.
    pub(super) const TOKEN_SENT: Bits = Bits(1 << 3);
    /// The key came in base64.
    pub(super) const BINARY_KEY: Bits = Bits(1 << 4);
    /// The value lies in blocks; the slot holds its large id.
    pub(super) const LARGE: Bits = Bits(1 << 5);
    /// The client chose the version (meta `E`), so it says nothing about when it was written.
    pub(super) const EXPLICIT: Bits = Bits(1 << 6);
    /// The header goes on with the version of the last touch.
    pub(super) const TOUCHED: Bits = Bits(1 << 7);

    /// Whether all of `other` are set.
    pub(super) fn has(self, other: Bits) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub(super) const fn with(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }

    /// These but for `other`.
    #[must_use]
    pub(super) fn without(self, other: Bits) -> Bits {
        Bits(self.0 & !other.0)
    }

    /// Those of these that are in `other`.
    #[must_use]
    pub(super) fn only(self, other: Bits) -> Bits {
        Bits(self.0 & other.0)
    }

    /// These, with `other` if `condition`.
    #[must_use]
    pub(super) fn with_if(self, other: Bits, condition: bool) -> Bits {
        if condition { self.with(other) } else { self }
    }
}

/// What an item is apart from its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: Version,
    /// The version of the last touch; without [`Bits::TOUCHED`] the version itself.
    pub(super) touched: Version,
    pub(super) expiry: Expiry,
    pub(super) last_access: UnixSeconds,
    /// Client flags.
    pub(super) flags: u32,
    /// Length of the whole value, wherever it lies.
    pub(super) value_len: u32,
    /// Length of the slot; may exceed what the item needs (a shorter value was written over it).
    pub(super) granules: u16,
    /// 1 to 250; 0 = the slot is dead.
    pub(super) key_len: u8,
    pub(super) bits: Bits,
}

impl Header {
    /// Decodes the header at the front of `slot`.
    pub(super) fn read(slot: &[u8]) -> Header {
        let bytes: &[u8; HEADER] = match slot.first_chunk() {
            Some(bytes) => bytes,
            None => unreachable!("a slot holds a header"),
        };
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let version = Version(u64::from(u32_at(4)) << 32 | u64::from(u32_at(0)));
        let bits = Bits(bytes[BITS_AT]);
        let touched = match slot[HEADER..].first_chunk() {
            Some(touched) if bits.has(Bits::TOUCHED) => Version(u64::from_le_bytes(*touched)),
            _ => version,
        };
        Header {
            version,
            touched,
            expiry: Expiry::from_bits(u32_at(8)),
            last_access: UnixSeconds(u32_at(12)),
            flags: u32_at(16),
            value_len: u32_at(20),
            granules: u16::from_le_bytes([bytes[24], bytes[25]]),
            key_len: bytes[KEY_LEN_AT],
            bits,
        }
    }

    /// Encodes this header at the front of `slot`.
    pub(super) fn write(&self, slot: &mut [u8]) {
        let Some(bytes) = slot.first_chunk_mut::<HEADER>() else {
            unreachable!("a slot holds a header")
        };
        bytes[0..8].copy_from_slice(&self.version.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.expiry.to_bits().to_le_bytes());
        bytes[12..16].copy_from_slice(&self.last_access.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.flags.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.value_len.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.granules.to_le_bytes());
        bytes[KEY_LEN_AT] = self.key_len;
        bytes[BITS_AT] = self.bits.0;
        if self.bits.has(Bits::TOUCHED) {
            slot[HEADER..HEADER_TOUCHED].copy_from_slice(&self.touched.0.to_le_bytes());
        }
    }

    /// Encodes what an access changes of the header at the front of `slot`.
    pub(super) fn write_access(&self, slot: &mut [u8]) {
        let Some(bytes) = slot.first_chunk_mut::<HEADER>() else {
            unreachable!("a slot holds a header")
        };
        bytes[12..16].copy_from_slice(&self.last_access.0.to_le_bytes());
        bytes[BITS_AT] = self.bits.0;
    }

    /// Whether the slot at whose front this was found holds no item any more.
    pub(super) fn is_dead(&self) -> bool {
        self.key_len == 0
    }

    /// Bytes of the slot.
    pub(super) fn slot_len(&self) -> usize {
        usize::from(self.granules) * GRANULE
    }

    /// Bytes of value kept in the slot.
    pub(super) fn inline_len(&self) -> usize {
        if self.bits.has(Bits::LARGE) { LARGE_ID } else { self.value_len as usize }
    }

    /// Where in the slot the key begins.
    pub(super) fn key_at(&self) -> usize {
        header_len(self.bits)
    }

    /// Where in the slot the value begins.
    pub(super) fn value_at(&self) -> usize {
        self.key_at() + usize::from(self.key_len)
    }

    /// Bytes that the item needs; at most [`Header::slot_len`].
    pub(super) fn needed_len(&self) -> usize {
        slot_len(self.key_at(), usize::from(self.key_len), self.inline_len())
    }

    /// Sets the slot's length to `len` bytes, a multiple of [`GRANULE`].
    pub(super) fn set_slot_len(&mut self, len: usize) {
        debug_assert!(len.is_multiple_of(GRANULE) && len <= SLOT_MAX);
        self.granules = u16::try_from(len / GRANULE).unwrap_or(u16::MAX);
    }
}

/// Bytes of the header of an item with these bits.
fn header_len(bits: Bits) -> usize {
    if bits.has(Bits::TOUCHED) { HEADER_TOUCHED } else { HEADER }
}

/// Bytes of a slot for header, key and inline value of these lengths.
pub(super) const fn slot_len(header_len: usize, key_len: usize, inline_len: usize) -> usize {
    (header_len + key_len + inline_len).next_multiple_of(GRANULE)
}

/// Whether `slot` holds an item whose key is `key`.
pub(super) fn key_is(slot: &[u8], key: &[u8]) -> bool {
    slot.len() >= HEADER
        && usize::from(slot[KEY_LEN_AT]) == key.len()
        && slot[header_len(Bits(slot[BITS_AT]))..].starts_with(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let header = Header {
            version: Version(0x0123_4567_89ab_cdef),
            touched: Version(0x0123_4567_89ab_cdef),
            expiry: Expiry::at(UnixSeconds(1_800_000_000)),
            last_access: UnixSeconds(1_700_000_000),
            flags: 0xdead_beef,
            value_len: 1 << 30,
            granules: 1024,
            key_len: 250,
            bits: Bits::FETCHED.with(Bits::EXPLICIT),
        };
        let mut slot = [0xaa; HEADER + 4];
        header.write(&mut slot);
        assert_eq!(Header::read(&slot), header);
        assert_eq!(slot[HEADER..], [0xaa; 4], "nothing beyond the header is written");
        let touched = Version(0x7edc_ba98_7654_3210);
        let header = Header { touched, bits: header.bits.with(Bits::TOUCHED), ..header };
        let mut slot = [0xaa; HEADER_TOUCHED + 4];
        header.write(&mut slot);
        assert_eq!(Header::read(&slot), header);
        assert_eq!(slot[HEADER_TOUCHED..], [0xaa; 4]);
    }

    #[test]
    fn a_handle_names_the_last_granule_of_the_last_segment() {
        let number = narrow(LOG_SEGMENTS_MAX) - 1;
        let handle = Handle::new(number, SEGMENT - GRANULE);
        assert_eq!((handle.segment(), handle.offset()), (number, SEGMENT - GRANULE));
        assert_eq!(Handle::from_bits(handle.to_bits()), Some(handle));
        assert_eq!(Handle::from_bits(0), None);
    }
}
