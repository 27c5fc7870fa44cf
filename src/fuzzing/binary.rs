//! Streams of frames.

use super::choices::Choices;
use super::client::{End, Heard, Plan};
use super::text::assert_same;
use crate::settings::BindingProtocol;

const HEADER_LEN: usize = 24;
const STAT: u8 = 0x10;
const SASL: [u8; 2] = [0x21, 0x22];
const GOES_ON: u16 = 0x21;
const NOOP: u8 = 0x0a;
/// The opaque of the last request, which no other has.
const LAST: u32 = u32::MAX;
/// Opcodes whose success is silent, and the gets whose miss is.
const QUIET: [u8; 15] =
    [0x09, 0x0d, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1e, 0x24, 0x1b];
const KEYS: [&[u8]; 7] = [b"a", b"b", b"number", b"k\r\nx", b"PLAIN", b"CRAM-MD5", b""];

/// A stream of bytes to a server that speaks frames; or frames made from choices.
pub fn binary(input: &[u8]) {
    let mut choices = Choices::new(input);
    let plan = Plan::read(&mut choices, BindingProtocol::Binary);
    if choices.one_in(2) {
        let stream = choices.rest();
        // Under a listener that hears any protocol it may be text.
        if stream.first() == Some(&0x80) {
            both(&plan, stream);
        }
        return;
    }
    let mut stream = Vec::new();
    let (mut loud, mut cut_right, mut is_right) = (Vec::new(), true, true);
    while !choices.is_over() {
        let number = u32::try_from(loud.len()).unwrap_or(LAST - 1);
        let pushed = push_frame(&mut choices, number, &mut stream);
        loud.push(!QUIET.contains(&pushed.opcode));
        cut_right &= pushed.length_is_right;
        is_right &= pushed.is_right;
    }
    stream.extend_from_slice(&[0x80, NOOP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    stream.extend_from_slice(&LAST.to_be_bytes());
    stream.extend_from_slice(&[0; 8]);
    let heard = both(&plan, &stream);
    assert!(!is_right || plan.demands_frames() || !heard.is_empty(), "it ends without a reason");
    if cut_right {
        check_order(&heard, &loud);
    }
}

/// The answers to `stream`, which do not depend on its cuts; none when the connection has ended.
fn both(plan: &Plan, stream: &[u8]) -> Vec<Frame> {
    let [mut in_one, mut in_many] = plan.hear_twice(stream);
    let frames = frames(&in_one);
    blank_what_is_random(&mut in_one);
    blank_what_is_random(&mut in_many);
    assert_same(&in_one, &in_many);
    assert!(matches!(in_one.end, None | Some(End::Closed(_))), "no frame says this");
    if in_one.end.is_none() { frames } else { Vec::new() }
}

/// Every loud request has its answers in its turn, and the last one is heard.
fn check_order(frames: &[Frame], loud: &[bool]) {
    let Some(last) = frames.last() else { return };
    assert!(last.opaque == LAST, "the last request is not heard: {frames:?}");
    let mut opaques: Vec<u32> = frames.iter().map(|frame| frame.opaque).collect();
    assert!(opaques.is_sorted(), "out of order: {opaques:?}");
    opaques.dedup();
    for (number, _) in loud.iter().enumerate().filter(|(_, loud)| **loud) {
        let number = u32::try_from(number).unwrap_or(LAST - 1);
        assert!(opaques.binary_search(&number).is_ok(), "{number} is not answered");
    }
}

/// What is known of a frame that was made.
struct Pushed {
    opcode: u8,
    /// It is as long as it says.
    length_is_right: bool,
    /// It is nothing that ends a connection.
    is_right: bool,
}

/// Appends a frame, most of the time a right one.
fn push_frame(choices: &mut Choices<'_>, opaque: u32, stream: &mut Vec<u8>) -> Pushed {
    let opcode = match choices.below(16) {
        0 => choices.byte(),
        _ => choices.below(0x25),
    };
    let extras_right = match opcode {
        0x01..=0x03 | 0x11..=0x13 => 8,
        0x05 | 0x06 | 0x15 | 0x16 => 20,
        0x1c..=0x1e | 0x23 | 0x24 | 0x08 | 0x18 => 4,
        _ => 0,
    };
    let is_bare = matches!(opcode, 0x07 | 0x08 | 0x0a | 0x0b | 0x17 | 0x18 | 0x20);
    let has_value =
        matches!(opcode, 0x01..=0x03 | 0x0e | 0x0f | 0x11..=0x13 | 0x19 | 0x1a | 0x21 | 0x22);
    let extras = choices.take(extras_right);
    let key = if is_bare { b"" } else { choices.pick(&KEYS) };
    let value = match (has_value, choices.below(16)) {
        (false, _) => Vec::new(),
        (true, 0) => vec![b'x'; usize::from(choices.short())],
        (true, 1) => b"\0anna\0secret".to_vec(),
        (true, 2) => b"\0anna\0wrong!".to_vec(),
        (true, 3..6) => choices.byte().to_string().into_bytes(),
        (true, _) => vec![b'x'; usize::from(choices.below(40))],
    };
    let body = u32::try_from(extras.len() + key.len() + value.len()).unwrap_or(0);
    let (mut magic, mut extras_len, mut key_len) = (0x80, extras.len(), key.len());
    let mut declared = body;
    let fault = choices.below(64);
    match fault {
        // The first magic may decide the protocol.
        0 if opaque > 0 => magic = choices.byte(),
        1 => extras_len = usize::from(choices.byte()),
        2 => key_len = usize::from(choices.short()),
        3 => declared = u32::from(choices.short()) << (choices.byte() % 17),
        _ => {}
    }
    let cas = match choices.below(8) {
        0 => choices.long(),
        _ => 0,
    };
    let key_len = u16::try_from(key_len).unwrap_or(u16::MAX).to_be_bytes();
    let extras_len = u8::try_from(extras_len).unwrap_or(u8::MAX);
    stream.extend_from_slice(&[magic, opcode, key_len[0], key_len[1], extras_len, 0, 0, 0]);
    stream.extend_from_slice(&declared.to_be_bytes());
    stream.extend_from_slice(&opaque.to_be_bytes());
    stream.extend_from_slice(&cas.to_be_bytes());
    for part in [extras, key, &value] {
        stream.extend_from_slice(part);
    }
    let is_whole = extras.len() == extras_right && (is_bare || !key.is_empty());
    let is_right = fault > 3 && is_whole && ![0x07, 0x17].contains(&opcode);
    Pushed { opcode, length_is_right: declared == body, is_right }
}

/// The header of an answer, and where its body is.
#[derive(Debug)]
struct Frame {
    opcode: u8,
    status: u16,
    opaque: u32,
    body: std::ops::Range<usize>,
}

/// Takes answers apart: nothing but whole frames.
fn frames(heard: &Heard) -> Vec<Frame> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(header) = heard.answers[at..].first_chunk::<HEADER_LEN>() {
        assert_eq!((header[0], header[5]), (0x81, 0), "no answer begins so");
        let number = |at: usize| header[at..at + 4].iter().fold(0, |n, &b| n << 8 | u32::from(b));
        let begin = at + HEADER_LEN;
        at = begin + usize::try_from(number(8)).expect("32 bits");
        assert!(at <= heard.answers.len(), "half an answer");
        let inside =
            usize::from(header[4]) + usize::from(u16::from_be_bytes([header[2], header[3]]));
        assert!(inside <= at - begin, "extras and key are longer than the body");
        let (opcode, status) = (header[1], u16::from_be_bytes([header[6], header[7]]));
        frames.push(Frame { opcode, status, opaque: number(12), body: begin..at });
    }
    assert_eq!(at, heard.answers.len(), "half a header");
    frames
}

/// Takes out of answers what differs from server to server: statistics and challenges.
fn blank_what_is_random(heard: &mut Heard) {
    let mut kept = Vec::new();
    for Frame { opcode, status, body, .. } in frames(heard) {
        if opcode == STAT {
            continue;
        }
        let is_challenge = SASL.contains(&opcode) && status == GOES_ON;
        let end = if is_challenge { body.start } else { body.end };
        kept.extend_from_slice(&heard.answers[body.start - HEADER_LEN..end]);
    }
    heard.answers = kept;
}
