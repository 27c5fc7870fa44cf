//! The 24 bytes that every frame begins with. All numbers are big-endian.

use crate::protocol::request::Echo;

/// Length of a header in bytes.
pub const HEADER_LEN: usize = 24;

/// The first byte of every request.
pub const REQUEST_MAGIC: u8 = 0x80;

/// The first byte of every answer.
const RESPONSE_MAGIC: u8 = 0x81;

/// A request's header. Its data type and its reserved bytes mean nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) magic: u8,
    pub(super) key_len: usize,
    pub(super) extras_len: usize,
    /// Extras, key and value together.
    pub(super) body_len: usize,
    pub(super) cas: u64,
    pub(super) echo: Echo,
}

impl Header {
    /// The header at the front of `input`; `None` while there are fewer than [`HEADER_LEN`] bytes.
    pub(super) fn read(input: &[u8]) -> Option<Header> {
        let &[
            magic,
            opcode,
            k0,
            k1,
            extras_len,
            _data_type,
            _,
            _,
            b0,
            b1,
            b2,
            b3,
            o0,
            o1,
            o2,
            o3,
            ref cas @ ..,
        ] = input.first_chunk::<HEADER_LEN>()?;
        Some(Header {
            magic,
            key_len: usize::from(u16::from_be_bytes([k0, k1])),
            extras_len: usize::from(extras_len),
            body_len: u32::from_be_bytes([b0, b1, b2, b3]) as usize,
            cas: u64::from_be_bytes(*cas),
            echo: Echo { opcode, opaque: u32::from_be_bytes([o0, o1, o2, o3]) },
        })
    }
}

/// An answer's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) echo: Echo,
    pub(super) status: u16,
    pub(super) extras_len: u8,
    pub(super) key_len: usize,
    pub(super) value_len: usize,
    pub(super) unique: u64,
}

impl Answer {
    /// Appends the header.
    #[inline]
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let key_len = u16::try_from(self.key_len).unwrap_or(u16::MAX);
        let body_len = usize::from(self.extras_len) + self.key_len + self.value_len;
        let body_len = u32::try_from(body_len).unwrap_or(u32::MAX);
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&[RESPONSE_MAGIC, self.echo.opcode]);
        header[2..4].copy_from_slice(&key_len.to_be_bytes());
        header[4] = self.extras_len;
        header[6..8].copy_from_slice(&self.status.to_be_bytes());
        header[8..12].copy_from_slice(&body_len.to_be_bytes());
        header[12..16].copy_from_slice(&self.echo.opaque.to_be_bytes());
        header[16..].copy_from_slice(&self.unique.to_be_bytes());
        out.extend_from_slice(&header);
    }
}
