//! Requests sent together and the exact reply to them, in whatever protocol a server speaks.
//!
//! Picture a letter with blanks: the keys' last digits are filled in before it is sent, and into the
//! expected reply before the two are compared. So one exchange serves any number of connections,
//! and no reply goes unread: one byte more, less or other than expected, and the bench says so.

use std::ops::Range;

use crate::support::{KEY_DIGITS, KEY_LEN, LOCKS, NUMBERS, STORED, append_set, key_digits};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Memcached,
    Redis,
}

/// How requests are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// memcached's classic text.
    Text,
    /// Its meta commands.
    Meta,
    /// Its binary protocol.
    Binary,
    /// Redis's.
    Redis,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Of a value that is there.
    Get,
    /// Of a value as long as the one that is there.
    Set,
    /// `get` of so many keys at once; text only.
    GetMany(usize),
    /// PHP takes the lock of a session.
    Lock,
    /// PHP gives it back.
    Unlock,
    /// Redis is asked for its replica's acknowledgement.
    Wait,
}

/// Expiry of sessions and of their locks in PHP's mix, in seconds.
const SESSION_SECONDS: u32 = 1440;
const LOCK_SECONDS: u32 = 60;

/// Requests sent together and their reply, both of which can be made for other keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    /// What a client would count: requests, or keys of a `get` of many.
    pub(crate) operations: u64,
    /// Whether something is changed, so that all servers that hold copies have to hear it.
    pub(crate) is_write: bool,
    keys: usize,
    in_request: Vec<Blank>,
    in_reply: Vec<Blank>,
    /// What of the reply nobody can know: cas uniques.
    unknown: Vec<Range<usize>>,
}

/// Where the digits of which key stand.
#[derive(Clone, Copy, Debug)]
struct Blank {
    at: usize,
    key: usize,
}

impl Exchange {
    /// `ops` in one piece.
    pub(crate) fn of(dialect: Dialect, ops: &[Op], value_len: usize) -> Exchange {
        let mut exchange = Exchange::default();
        for &op in ops {
            exchange.is_write |= matches!(op, Op::Set | Op::Lock | Op::Unlock);
            exchange.operations += match op {
                Op::GetMany(keys) => keys as u64,
                Op::Wait => 0,
                _ => 1,
            };
            match dialect {
                Dialect::Text => exchange.text(op, value_len),
                Dialect::Meta => exchange.meta(op, value_len),
                Dialect::Binary => exchange.binary(op, value_len),
                Dialect::Redis => exchange.redis(op, value_len),
            }
        }
        exchange
    }

    /// A get of one value.
    pub(crate) fn get(protocol: Protocol, value_len: usize) -> Exchange {
        Exchange::of(Dialect::usual(protocol), &[Op::Get], value_len)
    }

    /// `count` sets, after which Redis is asked to `wait` for a replica.
    pub(crate) fn sets(protocol: Protocol, count: usize, value_len: usize, wait: bool) -> Exchange {
        let mut ops = vec![Op::Set; count];
        if wait {
            ops.push(Op::Wait);
        }
        Exchange::of(Dialect::usual(protocol), &ops, value_len)
    }

    /// A touch of memcached's kind: it answers the same every time.
    pub(crate) fn touch() -> Exchange {
        let mut exchange = Exchange { operations: 1, ..Exchange::default() };
        exchange.say("touch ");
        exchange.blank(NUMBERS);
        exchange.say(" 0\r\n");
        exchange.hear("TOUCHED\r\n");
        exchange
    }

    /// As one datagram: each with memcached's heading of request, part and parts.
    pub(crate) fn in_datagram(mut self) -> Exchange {
        const HEADING: [u8; 8] = [0, 7, 0, 0, 0, 1, 0, 0];
        self.request.splice(0..0, HEADING);
        self.reply.splice(0..0, HEADING);
        for blank in self.in_request.iter_mut().chain(&mut self.in_reply) {
            blank.at += HEADING.len();
        }
        for unknown in &mut self.unknown {
            *unknown = unknown.start + HEADING.len()..unknown.end + HEADING.len();
        }
        self
    }

    /// How many keys it has blanks for.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    /// Fills in the keys with these numbers: those of the request.
    pub(crate) fn address(&mut self, numbers: &[u32]) {
        fill_in(&mut self.request, &self.in_request, numbers);
    }

    /// Whether `piece` is what stands in the reply from `offset` on, for the keys with `numbers`.
    pub(crate) fn is_answered(&mut self, numbers: &[u32], offset: usize, piece: &[u8]) -> bool {
        fill_in(&mut self.reply, &self.in_reply, numbers);
        let end = offset + piece.len();
        for unknown in &self.unknown {
            let (from, to) = (unknown.start.max(offset), unknown.end.min(end));
            if from < to {
                self.reply[from..to].copy_from_slice(&piece[from - offset..to - offset]);
            }
        }
        self.reply.get(offset..end) == Some(piece)
    }

    fn text(&mut self, op: Op, value_len: usize) {
        match op {
            Op::Get => self.text_gets(1, value_len),
            Op::GetMany(keys) => self.text_gets(keys, value_len),
            Op::Set => {
                self.say("set ");
                self.blank(STORED);
                self.say(&format!(" 0 {SESSION_SECONDS} {value_len}\r\n"));
                self.say_value(value_len);
                self.hear("STORED\r\n");
            }
            Op::Lock => {
                self.say("add ");
                self.blank(LOCKS);
                self.say(&format!(" 0 {LOCK_SECONDS} 1\r\n1\r\n"));
                self.hear("STORED\r\n");
            }
            Op::Unlock => {
                self.say("delete ");
                self.blank(LOCKS);
                self.say("\r\n");
                self.hear("DELETED\r\n");
            }
            Op::Wait => unreachable!("only Redis is asked to wait"),
        }
    }

    fn text_gets(&mut self, keys: usize, value_len: usize) {
        self.say("get");
        for _ in 0..keys {
            self.say(" ");
            let key = self.blank(STORED);
            self.hear("VALUE ");
            self.hear_key(STORED, key);
            self.hear(&format!(" 0 {value_len}\r\n"));
            self.hear_value(value_len);
            self.hear("\r\n");
        }
        self.say("\r\n");
        self.hear("END\r\n");
    }

    fn meta(&mut self, op: Op, value_len: usize) {
        match op {
            Op::Get => {
                self.say("mg ");
                self.blank(STORED);
                self.say(" v\r\n");
                self.hear(&format!("VA {value_len}\r\n"));
                self.hear_value(value_len);
                self.hear("\r\n");
            }
            Op::Set => {
                self.say("ms ");
                self.blank(STORED);
                self.say(&format!(" {value_len} T{SESSION_SECONDS}\r\n"));
                self.say_value(value_len);
                self.hear("HD\r\n");
            }
            other => unreachable!("no scenario has {other:?} in meta"),
        }
    }

    fn binary(&mut self, op: Op, value_len: usize) {
        let no_value: &[u8] = b"";
        match op {
            Op::Get => {
                self.frame(0x00, &[], STORED, no_value);
                self.frame_heard(0x00, 4, value_len);
                self.reply.extend_from_slice(&[0; 4]);
                self.hear_value(value_len);
            }
            Op::Set => {
                self.frame(0x01, &extras(SESSION_SECONDS), STORED, &vec![b'v'; value_len]);
                self.frame_heard(0x01, 0, 0);
            }
            Op::Lock => {
                self.frame(0x02, &extras(LOCK_SECONDS), LOCKS, b"1");
                self.frame_heard(0x02, 0, 0);
            }
            Op::Unlock => {
                self.frame(0x04, &[], LOCKS, no_value);
                self.frame_heard(0x04, 0, 0);
            }
            other => unreachable!("no scenario has {other:?} in binary"),
        }
    }

    fn frame(&mut self, opcode: u8, extras: &[u8], family: &[u8], value: &[u8]) {
        let body = u32::try_from(extras.len() + KEY_LEN + value.len()).expect("a short frame");
        let short = |len: usize| u8::try_from(len).expect("a few");
        let (key_len, extras_len) = (short(KEY_LEN), short(extras.len()));
        self.request.extend_from_slice(&[0x80, opcode, 0, key_len, extras_len, 0, 0, 0]);
        self.request.extend_from_slice(&body.to_be_bytes());
        self.request.extend_from_slice(&[0; 12]);
        self.request.extend_from_slice(extras);
        self.blank(family);
        self.request.extend_from_slice(value);
    }

    fn frame_heard(&mut self, opcode: u8, extras_len: u8, value_len: usize) {
        let body = u32::try_from(usize::from(extras_len) + value_len).expect("a short frame");
        self.reply.extend_from_slice(&[0x81, opcode, 0, 0, extras_len, 0, 0, 0]);
        self.reply.extend_from_slice(&body.to_be_bytes());
        self.reply.extend_from_slice(&[0; 4]);
        let cas = self.reply.len();
        self.unknown.push(cas..cas + 8);
        self.reply.extend_from_slice(&[0; 8]);
    }

    fn redis(&mut self, op: Op, value_len: usize) {
        match op {
            Op::Get => {
                self.say(&format!("*2\r\n$3\r\nGET\r\n${KEY_LEN}\r\n"));
                self.blank(STORED);
                self.say("\r\n");
                self.hear(&format!("${value_len}\r\n"));
                self.hear_value(value_len);
                self.hear("\r\n");
            }
            Op::Set => {
                self.say(&format!("*3\r\n$3\r\nSET\r\n${KEY_LEN}\r\n"));
                self.blank(STORED);
                self.say(&format!("\r\n${value_len}\r\n"));
                self.say_value(value_len);
                self.hear("+OK\r\n");
            }
            Op::Wait => {
                self.say("*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n");
                self.hear(":1\r\n");
            }
            other => unreachable!("no scenario has {other:?} for Redis"),
        }
    }

    fn say(&mut self, words: &str) {
        self.request.extend_from_slice(words.as_bytes());
    }

    fn say_value(&mut self, len: usize) {
        self.request.resize(self.request.len() + len, b'v');
        self.say("\r\n");
    }

    /// Another key; returns which.
    fn blank(&mut self, family: &[u8]) -> usize {
        self.request.extend_from_slice(family);
        let key = self.keys;
        self.in_request.push(Blank { at: self.request.len(), key });
        self.request.extend_from_slice(&key_digits(0));
        self.keys += 1;
        key
    }

    fn hear(&mut self, words: &str) {
        self.reply.extend_from_slice(words.as_bytes());
    }

    fn hear_value(&mut self, len: usize) {
        self.reply.resize(self.reply.len() + len, b'v');
    }

    fn hear_key(&mut self, family: &[u8], key: usize) {
        self.reply.extend_from_slice(family);
        self.in_reply.push(Blank { at: self.reply.len(), key });
        self.reply.extend_from_slice(&key_digits(0));
    }
}

impl Dialect {
    fn usual(protocol: Protocol) -> Dialect {
        match protocol {
            Protocol::Memcached => Dialect::Text,
            Protocol::Redis => Dialect::Redis,
        }
    }
}

fn fill_in(text: &mut [u8], blanks: &[Blank], numbers: &[u32]) {
    for blank in blanks {
        text[blank.at..blank.at + KEY_DIGITS].copy_from_slice(&key_digits(numbers[blank.key]));
    }
}

/// Flags and expiry before the key of a frame that stores.
fn extras(seconds: u32) -> [u8; 8] {
    let mut extras = [0; 8];
    extras[4..].copy_from_slice(&seconds.to_be_bytes());
    extras
}

/// A set without a reply worth reading: `noreply`, or one of Redis's, whose replies are counted.
pub(crate) fn append_filling(out: &mut Vec<u8>, protocol: Protocol, number: u32, value_len: usize) {
    match protocol {
        Protocol::Memcached => append_set(out, STORED, number, value_len, true),
        Protocol::Redis => {
            let mut set = Exchange::sets(protocol, 1, value_len, false);
            set.address(&[number]);
            out.extend_from_slice(&set.request);
        }
    }
}

pub(crate) fn append_key(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(STORED);
    out.extend_from_slice(&key_digits(number));
}
