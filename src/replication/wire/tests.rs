use proptest::prelude::*;

use super::decode::Glimpse;
use super::*;
use crate::replication::Reason;
use crate::store::{Kind, PendingFlush};

const MAX: usize = 1 << 21;

fn record(kind: Kind) -> Record {
    let mut record = Record::lost(Version(77), Version(78));
    record.kind = kind;
    record.expiry = Expiry::at(UnixSeconds(1_900_000_000));
    record.flags = 0xdead_beef;
    record.binary_key = true;
    record
}

fn flushes() -> Flushes {
    let pending = PendingFlush { version: Version(5), at: UnixSeconds(9) };
    Flushes { watermark: Version(4), pending: Some(pending) }
}

fn hello() -> Hello<'static> {
    Hello {
        speech: Speech { versions: (1, 7), features: 3, required: 1 << 63 },
        policy: 5,
        cluster: "sessions",
        node: 254,
        boot: Boot(u128::MAX - 1),
        serial: 9,
        clock_us: 1_800_000_000_000_000,
        latest: Version(u64::MAX >> 1),
        item_size_max: 1 << 30,
        state: State::Loading,
        flushes: flushes(),
        standing: Standing {
            purged_to: Version(1),
            heard: Version(2),
            written: Version(3),
            company: 4,
            wipes: true,
        },
    }
}

/// One of every type.
fn samples() -> Vec<Frame<'static>> {
    let round = 7;
    let cutoff = UnixSeconds(1_800_000_000);
    let listed = Listed { hash: 1, version: Version(2), rank: 2, touched: Version(3), content: 4 };
    vec![
        Frame::Hello(hello()),
        Frame::Start { applied: None },
        Frame::Start { applied: Some(Version(1)) },
        Frame::Resume { from: Version(1) },
        Frame::Record { key: b"k", record: record(Kind::Value), value: &[7; 3000], answer: true },
        Frame::Record { key: b"k", record: record(Kind::Value), value: b"", answer: false },
        Frame::Record { key: &[1; 250], record: record(Kind::Deleted), value: b"", answer: false },
        Frame::Record { key: b"k", record: record(Kind::Lost), value: b"", answer: true },
        Frame::Touch {
            key: b"k",
            base: Version(1),
            touched: Version(2),
            expiry: Expiry::at(UnixSeconds(5)),
        },
        Frame::Flushes(flushes()),
        Frame::Upto { version: Version(8), caught_up: true, awaited: false },
        Frame::Ack { version: Version(8) },
        Frame::Need { key: b"key", base: Version(1) },
        Frame::ScanRequest,
        Frame::ScanStart { round, gap: true, cutoff, holds: Amount { items: 8, bytes: 9 } },
        Frame::Digests { round, items: 0, lanes: Vec::new() },
        Frame::Digests { round, items: 5, lanes: vec![(1, 2); 256] },
        Frame::ListRequest { round, lanes: Lanes::from_bits([1, 2, 3, 4]) },
        Frame::List { round, last: true, entries: vec![listed; 100] },
        Frame::ScanDone { round, purged_to: Version(1) },
        Frame::Check { round, cutoff, lanes: vec![(3, 4); 256] },
        Frame::Checked { round, quiet: true, differing: Lanes::from_bits([4, 3, 2, 1]) },
        Frame::Heartbeat(Heartbeat {
            sent_us: 1,
            echo: (2, 3),
            state: State::Draining,
            in_sync: true,
            upto: None,
            flushes: Flushes::default(),
            applied: vec![(1, Boot(1), Version(1)), (2, Boot(2), Version(2))],
            asks: true,
        }),
        Frame::Goodbye,
        Frame::Error { code: 3 },
        Frame::Lock(Lock::View { epoch: 3, members: vec![1, 2], reach: vec![], upto: Version(1) }),
        Frame::Lock(Lock::Forward { id: 1, lock: Version(2), key: b"k", request: b"incr k 1" }),
        Frame::Lock(Lock::Note {
            node: 2,
            boot: Boot(1),
            id: 1,
            version: Version(4),
            since: Version(3),
            takes: true,
            key: b"k",
            answer: b"",
        }),
        Frame::Lock(Lock::Done { id: u64::MAX }),
        Frame::Lock(Lock::Retry { id: 0 }),
    ]
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

#[test]
fn every_frame_reads_back_as_it_was_written() {
    for frame in samples() {
        let bytes = encoded(&frame);
        let size = bytes.len();
        assert_eq!(next(&bytes, MAX), Next::Frame(Some(frame), size));
    }
}

#[test]
fn a_frame_cut_anywhere_is_partial_and_never_another_frame() {
    for frame in samples() {
        let bytes = encoded(&frame);
        for cut in 0..bytes.len() {
            assert_eq!(next(&bytes[..cut], MAX), Next::Partial, "{frame:?} cut at {cut}");
        }
    }
}

#[test]
fn a_frame_is_whole_when_what_it_lacked_has_come_and_not_before() {
    for frame in samples() {
        let bytes = encoded(&frame);
        let mut begun = bytes[..1].to_vec();
        while next(&begun, MAX) == Next::Partial {
            let lacking = lacking(&begun);
            assert!(lacking > 0, "{frame:?} at {}", begun.len());
            begun.extend_from_slice(&bytes[begun.len()..][..lacking]);
        }
        assert_eq!(begun, bytes);
    }
}

#[test]
fn a_glance_tells_the_length_of_whole_frames_and_key_and_version_of_records_alone() {
    for frame in samples() {
        let bytes = encoded(&frame);
        let record = match &frame {
            Frame::Record { key, record, .. } => Some((*key, record.version)),
            _ => None,
        };
        let seen = Glimpse { record, len: bytes.len() };
        assert_eq!(glance(&bytes), Some(seen), "{frame:?}");
        assert_eq!(glance(&bytes[..bytes.len() - 1]), None, "{frame:?}");
    }
}

#[test]
fn a_flipped_bit_is_never_taken_for_a_frame() {
    for frame in samples() {
        let bytes = encoded(&frame);
        for bit in 0..bytes.len().min(200) * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let met = next(&bent, MAX);
            assert!(!matches!(met, Next::Frame(..)), "{frame:?} bit {bit}: {met:?}");
        }
    }
}

#[test]
fn a_length_over_the_limit_is_refused_from_its_first_eight_bytes() {
    let bytes = encoded(&Frame::Record {
        key: b"k",
        record: record(Kind::Value),
        value: &[0; 5000],
        answer: false,
    });
    assert_eq!(next(&bytes[..8], BODY_MAX_UNMET), Next::Bad(Reason::Oversize));
    assert_eq!(next(&bytes[..8], MAX), Next::Partial);
}

#[test]
fn an_unknown_type_is_skipped_unless_it_must_be_known() {
    let frame = |flags: u8| {
        let head = [2, 0, 0, 0, 200, flags, 0, 0];
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(&encode::checksum(head, b"??").to_le_bytes());
        bytes.extend_from_slice(b"??");
        bytes
    };
    assert_eq!(next(&frame(0), MAX), Next::Frame(None, HEADER + 2));
    assert_eq!(next(&frame(1), MAX), Next::Bad(Reason::Unintelligible));
}

#[test]
fn fields_added_by_a_later_release_are_skipped() {
    let body = [&8u64.to_le_bytes()[..], b"later"].concat();
    let head = [13, 0, 0, 0, encode::types::ACK, 1, 0, 0];
    let sum = encode::checksum(head, &body).to_le_bytes();
    let bytes = [&head[..], &sum, &body].concat();
    assert_eq!(next(&bytes, MAX), Next::Frame(Some(Frame::Ack { version: Version(8) }), 25));
}

#[test]
fn the_longest_frames_we_send_are_within_the_limits_we_accept() {
    assert!(encoded(&Frame::Hello(Hello { cluster: "", ..hello() })).len() < BODY_MAX_UNMET);
    let listed = Listed { hash: 1, version: Version(2), rank: 2, touched: Version(3), content: 4 };
    let list = Frame::List { round: 1, last: false, entries: vec![listed; LIST_CHUNK] };
    assert!(encoded(&list).len() <= body_max(0));
    let largest = vec![0; 1 << 20];
    let frame = Frame::Record {
        key: &[1; 250],
        record: record(Kind::Value),
        value: &largest,
        answer: false,
    };
    assert!(encoded(&frame).len() <= body_max(250 + largest.len()));
}

proptest! {
    #[test]
    fn any_record_reads_back(
        key in prop::collection::vec(any::<u8>(), 1..=250),
        value in prop::collection::vec(any::<u8>(), 0..5000),
        numbers in any::<(u64, u64, u32, u32)>(),
        bits in any::<(bool, bool, bool)>(),
    ) {
        let record = Record {
            version: Version(numbers.0),
            kind: Kind::Value,
            touched: Version(numbers.1),
            expiry: Expiry::from_bits(numbers.2),
            flags: numbers.3,
            stale: bits.0,
            binary_key: bits.1,
        };
        let frame = Frame::Record { key: &key, record, value: &value, answer: bits.2 };
        let bytes = encoded(&frame);
        let size = bytes.len();
        prop_assert_eq!(next(&bytes, MAX), Next::Frame(Some(frame), size));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        next(&bytes, MAX);
        glance(&bytes);
    }

    #[test]
    fn no_body_under_a_true_checksum_makes_a_reader_panic(
        kind in 0u8..25,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let len = u8::try_from(body.len()).unwrap();
        let head = [len, 0, 0, 0, kind, 0, 0, 0];
        let sum = encode::checksum(head, &body).to_le_bytes();
        next(&[&head[..], &sum, &body].concat(), MAX);
    }
}
