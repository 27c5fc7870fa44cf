//! The heading of a datagram, which upstream calls its frame header: eight bytes of request id,
//! sequence number, number of datagrams of the message, and reserved, each 16 bits big-endian
//! (COMPATIBILITY section 9). Behind it stands the payload; a frame is the binary protocol's.
//!
//! A request is one datagram. An answer is one message, which takes as many datagrams as it needs.
//!
//! What is NOT here: what the datagrams carry, which is text or binary, and who may be answered
//! how much.

/// Length of a heading in bytes.
pub const HEADING_LEN: usize = 8;

/// Longest datagram we send, its heading included: it fits every network's packets.
pub const DATAGRAM_MAX: usize = 1400;

/// Bytes of a message in one datagram.
pub const PIECE_MAX: usize = DATAGRAM_MAX - HEADING_LEN;

/// Longest message that its datagrams can be counted for.
pub const MESSAGE_MAX: usize = PIECE_MAX * u16::MAX as usize;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'d> {
    /// The answer repeats it.
    pub id: u16,
    /// What it carries; never empty.
    pub payload: &'d [u8],
}

impl<'d> Request<'d> {
    /// The request in `datagram`; `None` when it is to be dropped: it carries nothing, or claims
    /// to be part of a longer message.
    #[must_use]
    pub fn read(datagram: &'d [u8]) -> Option<Request<'d>> {
        let (&[id0, id1, _, _, total0, total1, _, _], payload) =
            datagram.split_first_chunk::<HEADING_LEN>()?;
        let request = Request { id: u16::from_be_bytes([id0, id1]), payload };
        (u16::from_be_bytes([total0, total1]) == 1 && !payload.is_empty()).then_some(request)
    }
}

/// Appends the datagrams of a message, one behind the other: all are [`DATAGRAM_MAX`] bytes long,
/// except the last, which may be shorter. `message` is at most [`MESSAGE_MAX`] bytes long; of
/// nothing there is no datagram.
pub fn write(id: u16, message: &[u8], out: &mut Vec<u8>) {
    debug_assert!(message.len() <= MESSAGE_MAX, "datagrams are counted in 16 bits");
    let total = u16::try_from(message.len().div_ceil(PIECE_MAX)).unwrap_or(u16::MAX);
    for (sequence, piece) in (0..total).zip(message.chunks(PIECE_MAX)) {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&total.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headed(id: u16, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(id, message, &mut out);
        out
    }

    #[test]
    fn a_request_is_one_datagram_whatever_its_sequence_and_reserved_bytes_say() {
        let request = |datagram| Request::read(datagram);
        let get = Request { id: 0x0102, payload: b"get a\r\n" };
        assert_eq!(request(b"\x01\x02\0\0\0\x01\0\0get a\r\n"), Some(get));
        assert_eq!(request(b"\x01\x02\xff\xff\0\x01\xff\xffget a\r\n"), Some(get));
    }

    #[test]
    fn runts_and_parts_of_longer_messages_are_dropped() {
        for len in 0..=HEADING_LEN {
            assert_eq!(Request::read(&b"\0\x01\0\0\0\x01\0\0"[..len]), None, "{len} bytes");
        }
        for total in (0..=u16::MAX).filter(|&total| total != 1) {
            let [high, low] = total.to_be_bytes();
            assert_eq!(Request::read(&[0, 1, 0, 0, high, low, 0, 0, b'x']), None, "{total}");
        }
    }

    #[test]
    fn a_message_takes_as_many_datagrams_as_it_needs_and_counts_them() {
        assert_eq!(headed(7, b""), b"");
        assert_eq!(headed(0x0102, b"END\r\n"), b"\x01\x02\0\0\0\x01\0\0END\r\n");
        assert_eq!(headed(1, &[b'x'; PIECE_MAX]).len(), DATAGRAM_MAX);
        let two = headed(1, &[b'x'; PIECE_MAX + 1]);
        assert_eq!(two.len(), DATAGRAM_MAX + HEADING_LEN + 1);
        assert_eq!(two[..HEADING_LEN], [0, 1, 0, 0, 0, 2, 0, 0]);
        assert_eq!(two[DATAGRAM_MAX..], [0, 1, 0, 1, 0, 2, 0, 0, b'x']);
        let most = headed(1, &vec![b'x'; MESSAGE_MAX]);
        assert_eq!(most.len(), DATAGRAM_MAX * 65_535);
        let last = most.chunks(DATAGRAM_MAX).next_back().unwrap_or_default();
        assert_eq!(last[..HEADING_LEN], [0, 1, 0xff, 0xfe, 0xff, 0xff, 0, 0]);
    }

    proptest! {
        #[test]
        fn pieces_put_together_in_their_order_are_the_message(
            id in any::<u16>(),
            message in prop::collection::vec(any::<u8>(), 0..10_000),
        ) {
            let out = headed(id, &message);
            let mut whole = Vec::new();
            let total = out.chunks(DATAGRAM_MAX).count();
            for (sequence, datagram) in out.chunks(DATAGRAM_MAX).enumerate() {
                let number = |at: usize| usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
                prop_assert_eq!((number(0), number(2), number(4), number(6)), (usize::from(id), sequence, total, 0));
                whole.extend_from_slice(&datagram[HEADING_LEN..]);
            }
            prop_assert_eq!(whole, message);
        }

        #[test]
        fn no_datagram_makes_the_reader_stumble(datagram in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(request) = Request::read(&datagram) {
                prop_assert_eq!(request.payload, &datagram[HEADING_LEN..]);
            }
        }
    }
}
