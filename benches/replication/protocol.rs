//! The same requests in memcached's protocol and in Redis's, with the exact replies.

use crate::support::{Dice, KEY_DIGITS, KEY_LEN, STORED, append_set, key_digits};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Memcached,
    Redis,
}

/// Requests sent together, which can be sent again with other keys, and their replies.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    digits_in_request: Vec<usize>,
    digits_in_reply: Vec<usize>,
}

impl Exchange {
    /// `count` sets, after which Redis is asked to `wait` for a replica.
    pub(crate) fn sets(protocol: Protocol, count: usize, value_len: usize, wait: bool) -> Exchange {
        let (mut request, mut reply, mut digits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            match protocol {
                Protocol::Memcached => {
                    digits.push(request.len() + "set ".len() + KEY_LEN - KEY_DIGITS);
                    append_set(&mut request, STORED, 0, value_len, false);
                    reply.extend_from_slice(b"STORED\r\n");
                }
                Protocol::Redis => {
                    let start = request.len();
                    append_redis_set(&mut request, 0, value_len);
                    let before_key = format!("*3\r\n$3\r\nSET\r\n${KEY_LEN}\r\n").len();
                    digits.push(start + before_key + KEY_LEN - KEY_DIGITS);
                    reply.extend_from_slice(b"+OK\r\n");
                }
            }
        }
        if wait {
            request.extend_from_slice(b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n");
            reply.extend_from_slice(b":1\r\n");
        }
        Exchange { request, reply, digits_in_request: digits, digits_in_reply: Vec::new() }
    }

    /// A get of a value that `sets` stored.
    pub(crate) fn get(protocol: Protocol, value_len: usize) -> Exchange {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let mut digits_in_reply = Vec::new();
        let digits_in_request = match protocol {
            Protocol::Memcached => {
                request.extend_from_slice(b"get ");
                append_key(&mut request, 0);
                request.extend_from_slice(b"\r\n");
                reply.extend_from_slice(b"VALUE ");
                append_key(&mut reply, 0);
                digits_in_reply.push(reply.len() - KEY_DIGITS);
                reply.extend_from_slice(format!(" 0 {value_len}\r\n").as_bytes());
                "get ".len()
            }
            Protocol::Redis => {
                let head = format!("*2\r\n$3\r\nGET\r\n${KEY_LEN}\r\n");
                request.extend_from_slice(head.as_bytes());
                append_key(&mut request, 0);
                request.extend_from_slice(b"\r\n");
                reply.extend_from_slice(format!("${value_len}\r\n").as_bytes());
                head.len()
            }
        };
        reply.resize(reply.len() + value_len, b'v');
        reply.extend_from_slice(match protocol {
            Protocol::Memcached => b"\r\nEND\r\n",
            Protocol::Redis => b"\r\n",
        });
        let digits_in_request = vec![digits_in_request + KEY_LEN - KEY_DIGITS];
        Exchange { request, reply, digits_in_request, digits_in_reply }
    }

    /// Takes other keys, of the first `keys`.
    pub(crate) fn redirect(&mut self, dice: &mut Dice, keys: u32) {
        for &at in &self.digits_in_request {
            let digits = key_digits(dice.below(keys));
            self.request[at..at + KEY_DIGITS].copy_from_slice(&digits);
            for &at in &self.digits_in_reply {
                self.reply[at..at + KEY_DIGITS].copy_from_slice(&digits);
            }
        }
    }
}

/// A set without a reply worth reading: `noreply`, or one of Redis's, whose replies are counted.
pub(crate) fn append_filling(out: &mut Vec<u8>, protocol: Protocol, number: u32, value_len: usize) {
    match protocol {
        Protocol::Memcached => append_set(out, STORED, number, value_len, true),
        Protocol::Redis => append_redis_set(out, number, value_len),
    }
}

pub(crate) fn append_key(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(STORED);
    out.extend_from_slice(&key_digits(number));
}

fn append_redis_set(out: &mut Vec<u8>, number: u32, value_len: usize) {
    out.extend_from_slice(format!("*3\r\n$3\r\nSET\r\n${KEY_LEN}\r\n").as_bytes());
    append_key(out, number);
    out.extend_from_slice(format!("\r\n${value_len}\r\n").as_bytes());
    out.resize(out.len() + value_len, b'v');
    out.extend_from_slice(b"\r\n");
}
