//! Numbers and short strings in and out of bytes.

use crate::version::Version;

/// Takes fields off the front of a body; `None` when it is too short.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// A truth value; anything but 0 and 1 is an error.
    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(super) fn version(&mut self) -> Option<Version> {
        self.u64().map(Version)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A key or name with its length in one byte.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.bytes(usize::from(len))
    }

    /// A value with its length in four bytes.
    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.bytes(len)
    }

    /// `count` times what `one` reads; each takes `size` bytes at least, which is checked first.
    pub(super) fn many<T>(
        &mut self,
        count: usize,
        size: usize,
        mut one: impl FnMut(&mut Reader<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        if count.checked_mul(size)? > self.0.len() {
            return None;
        }
        (0..count).map(|_| one(self)).collect()
    }
}

/// Appends fields to a body.
pub(super) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, number: u8) {
        self.put(&[number]);
    }
    fn put_u16(&mut self, number: u16) {
        self.put(&number.to_le_bytes());
    }
    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }
    fn put_u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }
    fn put_version(&mut self, version: Version) {
        self.put_u64(version.0);
    }
    /// A key or name of at most 255 bytes.
    fn put_short(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(usize::from(u8::MAX))];
        self.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        self.put(bytes);
    }
    /// A value.
    fn put_long(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
