//! Answers, byte for byte.

use super::*;
use crate::version::Version;

const OPAQUE: u32 = 0x0102_0304;

fn echo(opcode: u8) -> Echo {
    Echo { opcode, opaque: OPAQUE }
}

fn answered(opcode: u8, answer: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    response(answer, echo(opcode), &mut out);
    out
}

fn head(opcode: u8, flags: u32) -> HitHead<'static> {
    let version = Version(0x1122_3344_5566_7788);
    HitHead { key: b"key", echo: echo(opcode), cas: true, flags, value_len: 5, version }
}

/// Status and value of a frame without extras and key.
#[track_caller]
fn failure_of(frame: &[u8]) -> (u16, String) {
    assert_eq!(&frame[2..6], &[0, 0, 0, 0], "no key, no extras");
    assert_eq!(&frame[16..24], &[0; 8], "no cas unique");
    let len = u32::from_be_bytes(frame[8..12].try_into().unwrap()) as usize;
    assert_eq!(frame.len(), 24 + len);
    let status = u16::from_be_bytes(frame[6..8].try_into().unwrap());
    (status, String::from_utf8(frame[24..].to_vec()).unwrap())
}

#[test]
fn a_hit_carries_flags_and_unique_and_the_key_where_it_is_asked_for() {
    let mut out = Vec::new();
    hit(&head(0x00, 0xdead_beef), &mut out);
    let expected = b"\x81\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x09\x01\x02\x03\x04\
        \x11\x22\x33\x44\x55\x66\x77\x88\xde\xad\xbe\xef";
    assert_eq!(out, expected);
    for opcode in [0x0c, 0x0d, 0x23, 0x24] {
        out.clear();
        hit(&head(opcode, 0), &mut out);
        assert_eq!(&out[..12], [0x81, opcode, 0, 3, 4, 0, 0, 0, 0, 0, 0, 12]);
        assert_eq!(&out[24..], b"\0\0\0\0key");
    }
    for opcode in [0x09, 0x1d, 0x1e] {
        out.clear();
        hit(&head(opcode, 0), &mut out);
        assert_eq!(&out[..12], [0x81, opcode, 0, 0, 4, 0, 0, 0, 0, 0, 0, 9]);
    }
}

#[test]
fn without_cas_every_hit_shows_zero() {
    let mut out = Vec::new();
    hit(&HitHead { cas: false, ..head(0, 0) }, &mut out);
    assert_eq!(&out[16..24], &[0; 8]);
}

#[test]
fn a_miss_is_told_with_a_text_or_with_the_key_or_not_at_all() {
    let missed = |opcode| {
        let mut out = Vec::new();
        miss(b"key", echo(opcode), &mut out);
        out
    };
    for opcode in [0x00, 0x1d] {
        assert_eq!(failure_of(&missed(opcode)), (1, "Not found".to_owned()));
    }
    for opcode in [0x0c, 0x23] {
        let expected = [0x81, opcode, 0, 3, 0, 0, 0, 1, 0, 0, 0, 3];
        assert_eq!(missed(opcode)[..12], expected);
        assert_eq!(&missed(opcode)[24..], b"key");
    }
    for opcode in [0x09, 0x0d, 0x1e, 0x24] {
        assert_eq!(missed(opcode), b"");
    }
}

#[test]
fn refusals_have_upstreams_numbers_and_texts() {
    for (opcode, answer, status, text) in [
        (0x01, Response::Exists, 0x02, "Data exists for key."),
        (0x01, Response::NotFound, 0x01, "Not found"),
        (0x01, Reject::TooLarge.into(), 0x03, "Too large."),
        (0x01, Reject::NoMemoryToStore.into(), 0x82, "Out of memory allocating item"),
        (0x02, Response::NotStored, 0x02, "Data exists for key."),
        (0x03, Response::NotStored, 0x01, "Not found"),
        (0x0e, Response::NotStored, 0x05, "Not stored."),
        (0x0f, Response::NotStored, 0x05, "Not stored."),
        (0x0e, Response::Exists, 0x02, "Data exists for key."),
        (0x04, Response::NotFound, 0x01, "Not found"),
        (0x05, Reject::NonNumeric.into(), 0x06, "Non-numeric server-side value for incr or decr"),
        (0x05, Reject::NoMemory.into(), 0x82, "Out of memory incrementing value"),
        (0x08, Reject::FlushNotAllowed.into(), 0x20, "Auth failure."),
        (0x00, Reject::BadFormat.into(), 0x04, "Invalid arguments"),
        (0x1b, Reject::UnknownCommand.into(), 0x81, "Unknown command"),
        (0x10, Reject::UnknownCommand.into(), 0x01, "Not found"),
        (0x10, Response::line("CLIENT_ERROR stats detail not allowed"), 0x01, "Not found"),
    ] {
        assert_eq!(
            failure_of(&answered(opcode, &answer)),
            (status, text.to_owned()),
            "{opcode:#x}"
        );
    }
}

#[test]
fn a_quiet_request_is_silent_when_it_succeeds_and_answered_with_its_own_opcode_when_not() {
    for (quiet, success, failure) in [
        (0x11, Response::Stored { unique: 1 }, Response::Exists),
        (0x12, Response::Stored { unique: 1 }, Response::NotStored),
        (0x13, Response::Stored { unique: 1 }, Response::NotStored),
        (0x14, Response::Deleted, Response::NotFound),
        (0x15, Response::Number { number: 1, unique: 1 }, Reject::NonNumeric.into()),
        (0x16, Response::Number { number: 1, unique: 1 }, Response::NotFound),
        (0x17, Response::Ok, Reject::BadFormat.into()),
        (0x18, Response::Ok, Reject::FlushNotAllowed.into()),
        (0x19, Response::Stored { unique: 1 }, Response::NotStored),
        (0x1a, Response::Stored { unique: 1 }, Response::NotStored),
    ] {
        assert_eq!(answered(quiet, &success), b"", "{quiet:#x}");
        assert_eq!(answered(quiet, &failure)[..2], [0x81, quiet]);
    }
}

#[test]
fn successes_carry_the_unique_and_what_else_was_asked_for() {
    let stored = answered(0x01, &Response::Stored { unique: 0x0a0b });
    let mut expected = vec![0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x0a, 0x0b]);
    assert_eq!(stored, expected);
    assert_eq!(failure_of(&answered(0x04, &Response::Deleted)), (0, String::new()));
    assert_eq!(failure_of(&answered(0x0a, &Response::Ok)), (0, String::new()));
    assert_eq!(failure_of(&answered(0x0b, &Response::Version)), (0, VERSION.to_owned()));
    let counted = answered(0x05, &Response::Number { number: 0x0102, unique: 7 });
    assert_eq!(counted[8..12], [0, 0, 0, 8]);
    assert_eq!(counted[16..], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1, 2]);
    let touched = answered(0x1c, &Response::Touched { flags: 0x0102_0304, unique: 7 });
    assert_eq!(touched[2..12], [0, 0, 4, 0, 0, 0, 0, 0, 0, 4]);
    assert_eq!(touched[16..], [0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4]);
}

#[test]
fn statistics_come_one_frame_each_and_end_with_an_empty_one() {
    let stats = vec![Stat::new("pid", 7_u64), Stat::new("version", "x")];
    let out = answered(0x10, &Response::Stats(stats));
    let end = answered(0x10, &Response::Reset);
    assert_eq!(failure_of(&end), (0, String::new()));
    assert_eq!(out[..12], [0x81, 0x10, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
    assert_eq!(&out[24..28], b"pid7");
    assert_eq!(&out[28 + 24..28 + 24 + 8], b"versionx");
    assert_eq!(out[28 + 24 + 8..], end);
    let listing = answered(0x10, &Response::Listing(b"PREFIX a\r\n".to_vec()));
    assert_eq!(&listing[24..24 + 8 + 15], b"detailedPREFIX a\r\nEND\r\n");
    assert_eq!(listing[24 + 8 + 15..], end);
}
