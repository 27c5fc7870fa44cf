//! Frames as the tests of every floor make and read them: requests whose lengths need not be
//! right, and replies taken apart.

use super::{HEADER_LEN, REQUEST_MAGIC};

/// The opaque of a request that has no other.
pub(crate) const OPAQUE: u32 = 0xdead_beef;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) extras_len: u8,
    pub(crate) key_len: u16,
    pub(crate) body_len: u32,
    pub(crate) opaque: u32,
    pub(crate) cas: u64,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Frame {
        let body = [extras, key, value].concat();
        Frame {
            opcode,
            extras_len: u8::try_from(extras.len()).unwrap(),
            key_len: u16::try_from(key.len()).unwrap(),
            body_len: u32::try_from(body.len()).unwrap(),
            opaque: OPAQUE,
            cas: 0,
            body,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![REQUEST_MAGIC, self.opcode];
        bytes.extend_from_slice(&self.key_len.to_be_bytes());
        // Data type and reserved bytes are ignored, whatever they are.
        bytes.extend_from_slice(&[self.extras_len, 0x5a, 0xa5, 0x5a]);
        bytes.extend_from_slice(&self.body_len.to_be_bytes());
        bytes.extend_from_slice(&self.opaque.to_be_bytes());
        bytes.extend_from_slice(&self.cas.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) opcode: u8,
    pub(crate) status: u16,
    pub(crate) extras: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) opaque: u32,
    pub(crate) cas: u64,
}

/// The replies that `bytes` are: whole ones, and nothing else.
pub(crate) fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        assert_eq!((header[0], header[5]), (0x81, 0));
        let number = |at: usize, len: usize| {
            header[at..at + len].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
        };
        let (body, rest) = rest.split_at(usize::try_from(number(8, 4)).unwrap());
        let (extras, key_and_value) = body.split_at(usize::from(header[4]));
        let (key, value) = key_and_value.split_at(usize::try_from(number(2, 2)).unwrap());
        replies.push(Reply {
            opcode: header[1],
            status: u16::try_from(number(6, 2)).unwrap(),
            extras: extras.to_vec(),
            key: key.to_vec(),
            value: value.to_vec(),
            opaque: u32::try_from(number(12, 4)).unwrap(),
            cas: number(16, 8),
        });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a reply");
    replies
}
