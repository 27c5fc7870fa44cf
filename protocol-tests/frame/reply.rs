//! A server's frames taken apart, and shown as a conversation would write them.

use std::fmt::Write as _;

use super::{HEADER_LEN, OPCODES, usual_opaque};
use crate::pattern::escape;

pub(crate) const REPLY_MAGIC: u8 = 0x81;

/// How long the frame at the front of `bytes` is, once that is known; all of them when they are no
/// reply.
pub(crate) fn reply_length(bytes: &[u8]) -> Option<usize> {
    match bytes.first() {
        Some(&REPLY_MAGIC) => {
            let length = bytes.get(8..12)?.try_into().ok().map(u32::from_be_bytes)?;
            Some(HEADER_LEN + length as usize)
        }
        first => first.map(|_| bytes.len()),
    }
}

/// A reply taken apart.
pub(super) struct Reply<'a> {
    pub(super) opcode: u8,
    pub(super) status: u16,
    pub(super) opaque: u32,
    pub(super) cas: u64,
    pub(super) extras: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Reply<'_> {
    /// The reply that `bytes` are; `None` where they are none, or contradict themselves.
    pub(super) fn read(bytes: &[u8]) -> Option<Reply<'_>> {
        let (header, body) = bytes.split_at_checked(HEADER_LEN)?;
        let &[magic, opcode, k0, k1, extras_len, data_type, s0, s1, ..] = header else {
            return None;
        };
        let length = u32::from_be_bytes(header[8..12].try_into().ok()?) as usize;
        if magic != REPLY_MAGIC || data_type != 0 || length != body.len() {
            return None;
        }
        let (extras, rest) = body.split_at_checked(usize::from(extras_len))?;
        let (key, value) = rest.split_at_checked(usize::from(u16::from_be_bytes([k0, k1])))?;
        Some(Reply {
            opcode,
            status: u16::from_be_bytes([s0, s1]),
            opaque: u32::from_be_bytes(header[12..16].try_into().ok()?),
            cas: u64::from_be_bytes(header[16..24].try_into().ok()?),
            extras,
            key,
            value,
        })
    }
}

/// The frames that `bytes` are; what is none, or is cut off, comes last and as it is.
pub(crate) fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = reply_length(rest).unwrap_or(rest.len()).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Bytes of a server's as a conversation would write them.
pub(crate) fn show(bytes: &[u8]) -> String {
    let show = |piece| match Reply::read(piece) {
        Some(reply) => reply.to_string(),
        None => format!("[no frame:] {}", escape(piece)),
    };
    split(bytes).map(show).collect::<Vec<_>>().join("; ")
}

impl std::fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut line = match OPCODES.iter().find(|(_, opcode, _)| *opcode == self.opcode) {
            Some((name, ..)) => (*name).to_string(),
            None => format!("{:#04x}", self.opcode),
        };
        write!(line, " status={:#04x}", self.status)?;
        for (name, part) in [("extras", self.extras), ("key", self.key), ("value", self.value)] {
            if !part.is_empty() {
                write!(line, " {name}={}", escape(part).replace(' ', "\\s"))?;
            }
        }
        let opaque = if self.opaque == usual_opaque(self.opcode) {
            String::new()
        } else {
            format!(" opaque={}", self.opaque)
        };
        write!(f, "{line} cas={}{opaque}", self.cas)
    }
}
