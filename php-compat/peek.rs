//! A look into the session server, past PHP: the binary protocol, as every server of the stories
//! hears it, after a login where one is asked for. Not here: what PHP's extensions send.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::server::{PASSWORD, USER};

/// Opcodes of memcached's protocol_binary.txt.
const GET: u8 = 0x00;
const SET: u8 = 0x01;
const NOOP: u8 = 0x0a;
const STAT: u8 = 0x10;
const SETQ: u8 = 0x11;
const SASL_START: u8 = 0x21;

/// A status of the same page.
const OUT_OF_MEMORY: u16 = 0x82;

const HEADER_BYTES: usize = 24;

/// A socket of either kind.
pub(crate) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A connection of the harness's own.
pub(crate) struct Peek(Box<dyn Stream>);

struct Answer {
    opcode: u8,
    status: u16,
    key: String,
    value: Vec<u8>,
}

impl Peek {
    pub(crate) fn over(stream: Box<dyn Stream>) -> Peek {
        Peek(stream)
    }

    /// Says who it is, as a server demands that was started with `-S`.
    pub(crate) fn log_in(mut self) -> Peek {
        let login = format!("\0{USER}\0{PASSWORD}");
        self.send(SASL_START, &[], "PLAIN", login.as_bytes());
        self.receive().expect_done("the login");
        self
    }

    /// Whether `key` is stored.
    pub(crate) fn holds(mut self, key: &str) -> bool {
        self.send(GET, &[], key, &[]);
        let answer = self.receive();
        assert!(answer.status <= 1, "neither hit nor miss: {:#x}", answer.status);
        answer.status == 0
    }

    /// Stores `value` for `seconds`.
    pub(crate) fn set(mut self, key: &str, flags: u32, seconds: u32, value: &str) {
        let extras = [flags.to_be_bytes(), seconds.to_be_bytes()].concat();
        self.send(SET, &extras, key, value.as_bytes());
        self.receive().expect_done("the set");
    }

    /// Stores items of the size of a small session until they are `bytes` together, and waits for
    /// none of them; returns how many were refused for want of memory.
    pub(crate) fn fill(mut self, bytes: usize) -> usize {
        const ITEM: usize = 22;
        const AT_ONCE: usize = 1_000;
        let mut refused = 0;
        for first in (0..bytes / ITEM).step_by(AT_ONCE) {
            let keys = (first..first + AT_ONCE).map(|number| format!("filler{number:020}"));
            let frames = keys.flat_map(|key| frame(SETQ, &[0; 8], &key, &[b'.'; ITEM]));
            let mut frames: Vec<u8> = frames.collect();
            frames.extend(frame(NOOP, &[], "", &[]));
            self.0.write_all(&frames).unwrap();
            loop {
                let answer = self.receive();
                if answer.opcode == NOOP {
                    break;
                }
                assert_eq!((answer.opcode, answer.status), (SETQ, OUT_OF_MEMORY));
                refused += 1;
            }
        }
        refused
    }

    /// The statistics of a group, by name; `""` is the general one.
    pub(crate) fn stats(mut self, group: &str) -> BTreeMap<String, String> {
        self.send(STAT, &[], group, &[]);
        let mut stats = BTreeMap::new();
        loop {
            let answer = self.receive().expect_done("stats");
            if answer.key.is_empty() {
                return stats;
            }
            stats.insert(answer.key, String::from_utf8(answer.value).unwrap());
        }
    }

    fn send(&mut self, opcode: u8, extras: &[u8], key: &str, value: &[u8]) {
        self.0.write_all(&frame(opcode, extras, key, value)).unwrap();
    }

    fn receive(&mut self) -> Answer {
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).expect("an answer in time");
        let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let extras_bytes = usize::from(header[4]);
        let body_bytes = u32::from_be_bytes(header[8..12].try_into().unwrap());
        let mut body = vec![0; usize::try_from(body_bytes).unwrap()];
        self.0.read_exact(&mut body).expect("a whole answer");
        let value = body.split_off(extras_bytes + key_bytes);
        let key = String::from_utf8(body.split_off(extras_bytes)).unwrap();
        Answer { opcode: header[1], status: u16::from_be_bytes([header[6], header[7]]), key, value }
    }
}

fn frame(opcode: u8, extras: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    let body = u32::try_from(extras.len() + key.len() + value.len()).unwrap();
    let mut frame = vec![0x80, opcode];
    frame.extend_from_slice(&u16::try_from(key.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&[u8::try_from(extras.len()).unwrap(), 0, 0, 0]);
    frame.extend_from_slice(&body.to_be_bytes());
    frame.resize(HEADER_BYTES, 0);
    frame.extend_from_slice(extras);
    frame.extend_from_slice(key.as_bytes());
    frame.extend_from_slice(value);
    frame
}

impl Answer {
    fn expect_done(self, what: &str) -> Answer {
        let text = String::from_utf8_lossy(&self.value);
        assert_eq!(self.status, 0, "{what} was refused: {text}");
        self
    }
}
