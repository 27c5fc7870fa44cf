//! Frames good and bad, whole and in pieces.

use proptest::prelude::*;

use super::*;
use crate::protocol::binary::sample::{Frame, OPAQUE};

const ITEM_SIZE_MAX: usize = 1 << 20;

/// What the decoder makes of `pieces`, in words; skipped bytes are added up.
fn hear(pieces: &[&[u8]]) -> (Vec<String>, usize) {
    let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
    let (mut words, mut skipped) = (Vec::new(), 0);
    let mut waiting: Vec<u8> = Vec::new();
    let mut needed = 1;
    for piece in pieces {
        waiting.extend_from_slice(piece);
        while waiting.len() >= needed {
            needed = 1;
            let consumed = match decoder.decode(&waiting) {
                Step::Wait { at_least } => {
                    assert!(at_least > waiting.len(), "waits for what is there");
                    needed = at_least;
                    continue;
                }
                Step::Skip { consumed } => {
                    skipped += consumed;
                    consumed
                }
                Step::Request { consumed, request, manner: Manner::Frames(echo) } => {
                    assert_eq!(echo.opaque, OPAQUE);
                    words.push(format!("{:#04x} {}", echo.opcode, describe(&request)));
                    consumed
                }
                Step::Reject { consumed, reject, manner: Manner::Frames(echo) } => {
                    words.push(format!("{:#04x} {reject:?}", echo.opcode));
                    consumed
                }
                Step::Close { answer } => {
                    let why = answer.map(|(reject, manner)| match manner {
                        Manner::Frames(echo) => format!("{:#04x} {reject:?}", echo.opcode),
                        Manner::Lines { .. } => panic!("{reject:?} in a line"),
                    });
                    words.push(format!("close {why:?}"));
                    return (words, skipped);
                }
                line => panic!("{line:?} in a stream of frames"),
            };
            assert!(consumed > 0 && consumed <= waiting.len());
            waiting.drain(..consumed);
        }
    }
    (words, skipped)
}

fn describe(request: &Request<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let over =
        |compare: Option<Version>| compare.map_or(String::new(), |v| format!(" over {}", v.0));
    match request {
        Request::RetrieveFrame(RetrieveFrame { key, touch, .. }) => {
            let until = touch.map_or(String::new(), |exptime| format!(" until {exptime}"));
            format!("fetch {}{until}", text(key))
        }
        Request::Store(storage) => {
            let Storage { key, mode, flags, exptime, compare, block } = storage;
            let block = match block {
                Block::Value(value) => text(value),
                Block::TooLarge => "too large".to_owned(),
                Block::Unterminated => panic!("a frame has no terminator"),
            };
            format!("{mode:?} {} {flags} {exptime} <{block}>{}", text(key), over(*compare))
        }
        Request::Delete { key, compare } => format!("delete {}{}", text(key), over(*compare)),
        Request::Arithmetic(Arithmetic { key, delta, up, initial, compare }) => {
            let way = if *up { "up" } else { "down" };
            format!("{way} {} {delta} {initial:?}{}", text(key), over(*compare))
        }
        Request::Touch { key, exptime } => format!("touch {} {exptime}", text(key)),
        Request::FlushAll { delay } => format!("flush {delay:?}"),
        Request::Stats(key) => format!("stats <{}>", text(key)),
        Request::Sasl(sasl) => format!("{sasl:?}"),
        other => format!("{other:?}"),
    }
}

/// The words for `input`, which are the same however it is cut in two and byte by byte.
#[track_caller]
fn steps(input: &[u8]) -> Vec<String> {
    let whole = hear(&[input]);
    for cut in 0..=input.len().min(400) {
        let (start, end) = input.split_at(cut);
        assert_eq!(hear(&[start, end]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(hear(&bytes), whole, "byte by byte");
    whole.0
}

#[track_caller]
fn assert_steps(frames: &[Frame], expected: &[&str]) {
    let input: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    assert_eq!(steps(&input), expected);
}

const FLAGS_AND_EXPTIME: [u8; 8] = [0, 0, 0, 7, 0, 0, 0, 60];
const EXPTIME: [u8; 4] = [0xff, 0xff, 0xff, 0xff];

fn counting(delta: u64, initial: u64, exptime: u32) -> Vec<u8> {
    let mut extras = delta.to_be_bytes().to_vec();
    extras.extend_from_slice(&initial.to_be_bytes());
    extras.extend_from_slice(&exptime.to_be_bytes());
    extras
}

/// A good frame for `opcode`.
fn good(opcode: u8) -> Frame {
    let extras = match opcode {
        0x01..=0x03 | 0x11..=0x13 => FLAGS_AND_EXPTIME.to_vec(),
        0x05 | 0x06 | 0x15 | 0x16 => counting(3, 5, 60),
        0x1c..=0x1e | 0x23 | 0x24 => EXPTIME.to_vec(),
        _ => Vec::new(),
    };
    let key: &[u8] = match opcode {
        0x07 | 0x08 | 0x0a | 0x0b | 0x17 | 0x18 | 0x20 => b"",
        _ => b"k",
    };
    let value: &[u8] = match opcode {
        0x01..=0x03 | 0x0e | 0x0f | 0x11..=0x13 | 0x19 | 0x1a | 0x21 | 0x22 => b"abc",
        _ => b"",
    };
    Frame::new(opcode, &extras, key, value)
}

const KNOWN: [(u8, &str); 35] = [
    (0x00, "fetch k"),
    (0x01, "Set k 7 60 <abc>"),
    (0x02, "Add k 7 60 <abc>"),
    (0x03, "Replace k 7 60 <abc>"),
    (0x04, "delete k"),
    (0x05, "up k 3 Some((5, 60))"),
    (0x06, "down k 3 Some((5, 60))"),
    (0x07, "Quit"),
    (0x08, "flush Some(0)"),
    (0x09, "fetch k"),
    (0x0a, "Noop"),
    (0x0b, "Version"),
    (0x0c, "fetch k"),
    (0x0d, "fetch k"),
    (0x0e, "Append k 0 0 <abc>"),
    (0x0f, "Prepend k 0 0 <abc>"),
    (0x10, "stats <k>"),
    (0x11, "Set k 7 60 <abc>"),
    (0x12, "Add k 7 60 <abc>"),
    (0x13, "Replace k 7 60 <abc>"),
    (0x14, "delete k"),
    (0x15, "up k 3 Some((5, 60))"),
    (0x16, "down k 3 Some((5, 60))"),
    (0x17, "Quit"),
    (0x18, "flush Some(0)"),
    (0x19, "Append k 0 0 <abc>"),
    (0x1a, "Prepend k 0 0 <abc>"),
    (0x1c, "touch k 4294967295"),
    (0x1d, "fetch k until 4294967295"),
    (0x1e, "fetch k until 4294967295"),
    (0x20, "List"),
    (0x21, "Start { mechanism: [107], data: [97, 98, 99] }"),
    (0x22, "Step { mechanism: [107], data: [97, 98, 99] }"),
    (0x23, "fetch k until 4294967295"),
    (0x24, "fetch k until 4294967295"),
];

#[test]
fn every_opcode_asks_for_what_its_number_says() {
    for (opcode, words) in KNOWN {
        let expected = format!("{opcode:#04x} {words}");
        assert_steps(&[good(opcode), good(0x0a)], &[&expected, "0x0a Noop"]);
    }
}

#[test]
fn an_unknown_opcode_skips_exactly_its_body_and_the_next_request_is_heard() {
    let unknown = (0..=u8::MAX).filter(|code| KNOWN.iter().all(|(known, _)| known != code));
    for opcode in unknown {
        let expected = format!("{opcode:#04x} UnknownCommand");
        let frame = Frame::new(opcode, b"extras", b"key", b"value");
        assert_steps(&[frame, good(0x0a)], &[&expected, "0x0a Noop"]);
        assert_steps(&[Frame::new(opcode, b"", b"", b""), good(0x0a)], &[&expected, "0x0a Noop"]);
    }
}

#[test]
fn a_cas_unique_is_a_condition_wherever_it_means_one() {
    let with_cas = |opcode| Frame { cas: 9, ..good(opcode) };
    for (opcode, words) in [
        (0x01, "Set k 7 60 <abc> over 9"),
        (0x02, "Set k 7 60 <abc> over 9"),
        (0x13, "Set k 7 60 <abc> over 9"),
        (0x0e, "Append k 0 0 <abc> over 9"),
        (0x04, "delete k over 9"),
        (0x05, "up k 3 Some((5, 60)) over 9"),
        (0x00, "fetch k"),
        (0x1c, "touch k 4294967295"),
    ] {
        assert_steps(&[with_cas(opcode)], &[&format!("{opcode:#04x} {words}")]);
    }
}

#[test]
fn exptimes_are_unsigned_and_only_counting_has_one_that_means_do_not_create() {
    let set = Frame::new(0x01, &[0xff; 8], b"k", b"");
    assert_steps(&[set], &["0x01 Set k 4294967295 4294967295 <>"]);
    let count = Frame::new(0x06, &counting(u64::MAX, 1 << 32, u32::MAX - 1), b"k", b"");
    let words = "0x06 down k 18446744073709551615 Some((4294967296, 4294967294))";
    assert_steps(&[count], &[words]);
    let count = Frame::new(0x05, &counting(1, 7, u32::MAX), b"k", b"");
    assert_steps(&[count], &["0x05 up k 1 None"]);
    assert_steps(&[Frame::new(0x08, &[0, 0, 0, 9], b"", b"")], &["0x08 flush Some(9)"]);
}

#[test]
fn keys_and_values_may_hold_any_byte() {
    let key = b" a\r\n\0\xff b";
    let shown = key.escape_ascii().to_string();
    let set = Frame::new(0x01, &[0; 8], key, b"\x80\x01\r\n");
    let expected = format!("0x01 Set {shown} 0 0 <\\x80\\x01\\r\\n>");
    assert_steps(
        &[set, Frame::new(0x00, b"", key, b"")],
        &[&expected, &format!("0x00 fetch {shown}")],
    );
    let longest = [b'k'; 250];
    let expected = format!("0x00 fetch {}", "k".repeat(250));
    assert_steps(&[Frame::new(0x00, b"", &longest, b"")], &[&expected]);
}

#[test]
fn stat_with_a_value_is_answered_and_the_value_skipped() {
    let frames = [Frame::new(0x10, b"", b"items", b"value"), Frame::new(0x10, b"", b"", b"v")];
    assert_steps(
        &[frames[0].clone(), frames[1].clone(), good(0x0a)],
        &["0x10 stats <items>", "0x10 stats <>", "0x0a Noop"],
    );
}

#[test]
fn lists_of_connections_and_of_items_are_not_told_in_frames() {
    for key in [&b"conns"[..], b" conns x", b"cachedump 1 0"] {
        let stat = Frame::new(0x10, b"", key, b"value");
        assert_steps(&[stat, good(0x0a)], &["0x10 UnknownCommand", "0x0a Noop"]);
    }
}

/// What becomes of a frame that only its lengths describe.
fn fate(frame: &Frame) -> String {
    let (mut words, skipped) = hear(&[&frame.bytes()]);
    assert!(words.len() <= 1 && skipped == 0);
    words.pop().unwrap_or("wait".to_owned())
}

/// Every combination of lengths that has ever hurt a server, on every opcode there is: CVE-2011-4971,
/// CVE-2016-8704 to 8706, CVE-2017-9951, CVE-2020-10931 and their kin.
#[test]
fn impossible_lengths_are_answered_once_and_end_the_stream_on_every_opcode() {
    let key_lens = [0, 1, 250, 251, 255, 256, 0x7fff, 0x8000, 65535];
    let extras_lens = [0, 1, 4, 8, 20, 255];
    let body_lens =
        [0, 1, 3, 24, 258, 65535, 1 << 20, (1 << 30) + 1, 0x7fff_ffff, 0x8000_0001, u32::MAX];
    for opcode in 0..=u8::MAX {
        for key_len in key_lens {
            for extras_len in extras_lens {
                for body_len in body_lens {
                    let lying = Frame::new(opcode, b"", b"", &[0; 64]);
                    let frame = Frame { extras_len, key_len, body_len, ..lying };
                    let hopeless = if body_len > 1 << 30 {
                        Some("BadFormat")
                    } else if u32::from(key_len) + u32::from(extras_len) > body_len {
                        Some("UnknownCommand")
                    } else if key_len > 250 {
                        Some("BadFormat")
                    } else {
                        None
                    };
                    let Some(why) = hopeless else { continue };
                    let expected = format!("close Some(\"{opcode:#04x} {why}\")");
                    assert_eq!(fate(&frame), expected, "{frame:?}");
                }
            }
        }
    }
}

#[test]
fn a_frame_of_the_wrong_shape_is_malformed_and_ends_the_stream() {
    for (opcode, _) in KNOWN {
        let right = good(opcode);
        let (extras, key) = (usize::from(right.extras_len), usize::from(right.key_len));
        let malformed = format!("close Some(\"{opcode:#04x} BadFormat\")");
        for extras_len in [0, 1, 3, 4, 5, 7, 8, 9, 19, 20, 21, 255] {
            let may = extras_len == extras || (matches!(opcode, 0x08 | 0x18) && extras_len == 4);
            let frame = Frame::new(
                opcode,
                &vec![0; extras_len],
                &vec![b'k'; key],
                &right.body[extras + key..],
            );
            let (words, _) = hear(&[&frame.bytes()]);
            assert_eq!(
                words == [malformed.as_str()],
                !may,
                "{opcode:#04x} with {extras_len} extras"
            );
        }
        let other_key: &[u8] = if key == 0 { b"k" } else { b"" };
        let frame = Frame::new(opcode, &right.body[..extras], other_key, b"");
        assert_eq!(
            hear(&[&frame.bytes()]).0 == [malformed.as_str()],
            opcode != 0x10,
            "{opcode:#04x}"
        );
        let frame = Frame::new(opcode, &right.body[..extras], &vec![b'k'; key], b"v");
        let takes_value = matches!(
            opcode,
            0x01..=0x03 | 0x0e..=0x13 | 0x19 | 0x1a | 0x21 | 0x22
        );
        assert_eq!(
            hear(&[&frame.bytes()]).0 == [malformed.as_str()],
            !takes_value,
            "{opcode:#04x}"
        );
    }
}

#[test]
fn what_does_not_begin_as_a_frame_is_closed_without_an_answer_once_a_header_has_come() {
    let text = b"version\r\nversion\r\nversion\r\n";
    assert_eq!(hear(&[&text[..23]]).0, Vec::<String>::new());
    assert_eq!(steps(text), ["close None"]);
    let mut response = good(0x00).bytes();
    response[0] = 0x81;
    assert_eq!(steps(&response), ["close None"]);
}

#[test]
fn a_value_too_large_for_an_item_is_refused_before_it_has_come_and_skipped_unseen() {
    let fits = ITEM_SIZE_MAX - size_of(1, 0, 7, true);
    for (opcode, words) in [
        (0x01, "0x01 Set k 7 60 <too large>"),
        (0x12, "0x12 Add k 7 60 <too large>"),
        (0x03, "0x03 Replace k 7 60 <too large>"),
    ] {
        let mut frame = good(opcode);
        frame.body_len = u32::try_from(9 + fits + 1).unwrap();
        // Four bytes below the limit only the flags in the extras tell; far above it the header does.
        frame.body.truncate(9);
        frame.body_len += 4;
        assert_eq!(hear(&[&frame.bytes()]).0, [words]);
        frame.body_len = 1 << 30;
        assert_eq!(hear(&[&frame.bytes()[..32]]).0, Vec::<String>::new());
        assert_eq!(hear(&[&frame.bytes()]).0, [words]);
    }
    let frame = Frame::new(0x01, &FLAGS_AND_EXPTIME, b"k", &vec![b'x'; fits + 1]);
    let bytes = [frame.bytes(), good(0x0a).bytes()].concat();
    let expected =
        (vec!["0x01 Set k 7 60 <too large>".to_owned(), "0x0a Noop".to_owned()], fits + 1);
    assert_eq!(hear(&[&bytes]), expected);
    assert_eq!(hear(&[&bytes[..30], &bytes[30..40], &bytes[40..900], &bytes[900..]]), expected);
    let frame = Frame::new(0x01, &FLAGS_AND_EXPTIME, b"k", &vec![b'x'; fits]);
    assert!(hear(&[&frame.bytes()]).0[0].starts_with("0x01 Set k 7 60 <xx"));
    let frame = Frame::new(0x0e, b"", b"k", &vec![b'x'; ITEM_SIZE_MAX]);
    assert_eq!(hear(&[&frame.bytes()]).0, ["0x0e Append k 0 0 <too large>"]);
}

#[test]
fn a_login_with_more_than_any_mechanism_needs_is_skipped() {
    let over = [b'm'; 33];
    for opcode in [0x21, 0x22] {
        let expected = format!("{opcode:#04x} TooLong");
        for frame in [
            Frame::new(opcode, b"", &over, b""),
            Frame::new(opcode, b"", &over, b"data"),
            Frame::new(opcode, b"", b"PLAIN", &[b'x'; SASL_DATA_MAX + 1]),
        ] {
            let bytes = [frame.bytes(), good(0x0a).bytes()].concat();
            assert_eq!(hear(&[&bytes]).0, [expected.as_str(), "0x0a Noop"]);
        }
    }
}

#[test]
fn an_incomplete_frame_says_how_many_bytes_it_needs() {
    let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
    let bytes = good(0x01).bytes();
    assert_eq!(decoder.decode(b""), Step::Wait { at_least: 24 });
    assert_eq!(decoder.decode(&bytes[..23]), Step::Wait { at_least: 24 });
    assert!(!decoder.is_in_data());
    assert_eq!(decoder.decode(&bytes[..24]), Step::Wait { at_least: bytes.len() });
    assert!(decoder.is_in_data());
    assert!(matches!(decoder.decode(&bytes), Step::Request { .. }));
    assert!(!decoder.is_in_data());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_frames_are_heard_differently_in_pieces(
        frames in prop::collection::vec(
            (
                any::<u8>(),
                0_u8..24,
                0_u16..6,
                0_u32..40,
                any::<u64>(),
                prop::collection::vec(any::<u8>(), 0..40),
            ),
            1..4,
        )
    ) {
        let frame = |(opcode, extras_len, key_len, body_len, cas, body)| {
            Frame { opcode: opcode % 0x28, extras_len, key_len, body_len, opaque: OPAQUE, cas, body }
        };
        let input: Vec<u8> = frames.into_iter().map(frame).flat_map(|f| f.bytes()).collect();
        // Opaques behind a wrong length are anything; only the pieces are compared here.
        let (mut words, mut again) = (Vec::new(), Vec::new());
        for (pieces, into) in [(vec![&input[..]], &mut words), (input.chunks(1).collect(), &mut again)] {
            let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
            let mut waiting = Vec::new();
            'pieces: for piece in pieces {
                waiting.extend_from_slice(piece);
                loop {
                    let step = decoder.decode(&waiting);
                    let consumed = match step {
                        Step::Wait { .. } => continue 'pieces,
                        Step::Skip { consumed } => consumed,
                        Step::Request { consumed, .. } | Step::Reject { consumed, .. } => {
                            into.push(format!("{step:?}"));
                            consumed
                        }
                        Step::Close { .. } => {
                            into.push(format!("{step:?}"));
                            break 'pieces;
                        }
                    };
                    waiting.drain(..consumed);
                    if waiting.is_empty() {
                        continue 'pieces;
                    }
                }
            }
        }
        prop_assert_eq!(words, again);
    }
}
