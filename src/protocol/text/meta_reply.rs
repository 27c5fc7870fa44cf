//! Answers to meta commands: a code, the flags asked for in the order of the request, and marks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::UnixSeconds;
use crate::item::{Expiry, Found};
use crate::protocol::meta::{Meta, MetaKey};
use crate::version::Version;

/// What the head of a hit of mg is made from.
#[derive(Clone, Copy, Debug)]
pub struct HitLine<'m> {
    /// What was asked for.
    pub meta: &'m Meta<'m>,
    /// Whether the server runs with cas.
    pub cas: bool,
    /// When.
    pub now: UnixSeconds,
}

impl HitLine<'_> {
    /// The version that the client has already, whose value it does not need.
    #[must_use]
    pub fn known_version(&self) -> Option<Version> {
        self.meta.options.compare.filter(|_| self.cas)
    }

    /// Whether the value follows the head.
    #[must_use]
    pub fn has_value(&self, found: &Found) -> bool {
        self.meta.options.value && self.known_version() != Some(found.version)
    }
}

/// `HD <flags>` or `VA <size> <flags>`
pub fn hit_line(line: &HitLine<'_>, found: &Found, out: &mut Vec<u8>) {
    if line.has_value(found) {
        value_code(found.value_len, out);
    } else {
        out.extend_from_slice(b"HD");
    }
    let unique = if line.cas { found.version.0 } else { 0 };
    let mut ttl = expiry_at_first(found);
    flags(line.meta, found.binary_key, out, |letter| {
        Some(match letter {
            b's' => found.value_len as i128,
            b't' => seconds_left(ttl, line.now),
            b'c' => i128::from(unique),
            b'f' => i128::from(found.flags),
            b'l' => i128::from(found.idle),
            b'h' => i128::from(found.fetched),
            _ if is_expiry_set_by(letter, found) => {
                ttl = found.expiry;
                return None;
            }
            _ => return None,
        })
    });
    for (is_so, mark) in [(found.token_sent, b" Z"), (found.stale, b" X"), (found.won, b" W")] {
        if is_so {
            out.extend_from_slice(mark);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// `HD`, `EN`, `NS` and their kin with what they repeat; `show` knows the numbers behind letters.
pub fn code_line(
    code: &str,
    meta: &Meta<'_>,
    out: &mut Vec<u8>,
    show: impl FnMut(u8) -> Option<i128>,
) {
    out.extend_from_slice(code.as_bytes());
    flags(meta, meta.key.binary, out, show);
    out.extend_from_slice(b"\r\n");
}

/// The answer to ma: `HD` or `VA` with the number.
pub fn number_lines(
    meta: &Meta<'_>,
    number: u64,
    found: &Found,
    unique: u64,
    now: UnixSeconds,
    out: &mut Vec<u8>,
) {
    let mut text = itoa::Buffer::new();
    let text = text.format(number);
    if meta.options.value {
        value_code(text.len(), out);
    } else {
        out.extend_from_slice(b"HD");
    }
    let mut ttl = expiry_at_first(found);
    flags(meta, found.binary_key, out, |letter| match letter {
        b't' => Some(seconds_left(ttl, now)),
        b'c' => Some(i128::from(unique)),
        _ if is_expiry_set_by(letter, found) => {
            ttl = found.expiry;
            None
        }
        _ => None,
    });
    out.extend_from_slice(b"\r\n");
    if meta.options.value {
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The answer to me.
pub fn debug_line(
    key: &MetaKey<'_>,
    found: &Found,
    unique: u64,
    now: UnixSeconds,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"ME ");
    push_key(&key.bytes, key.binary, out);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b" exp=");
    out.extend_from_slice(digits.format(seconds_left(found.expiry, now)).as_bytes());
    out.extend_from_slice(b" la=");
    out.extend_from_slice(digits.format(found.idle).as_bytes());
    out.extend_from_slice(b" cas=");
    out.extend_from_slice(digits.format(unique).as_bytes());
    out.extend_from_slice(if found.fetched { b" fetch=yes" } else { b" fetch=no" });
    out.extend_from_slice(b" cls=");
    out.extend_from_slice(digits.format(found.class).as_bytes());
    out.extend_from_slice(b" size=");
    out.extend_from_slice(digits.format(found.size).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The expiry before the first flag: a new item has none until its flags give it one.
fn expiry_at_first(found: &Found) -> Expiry {
    if found.vivified { Expiry::NEVER } else { found.expiry_before }
}

/// Whether the flag has given the item the expiry that it has now.
fn is_expiry_set_by(letter: u8, found: &Found) -> bool {
    letter == b'T' || (letter == b'N' && found.vivified)
}

fn value_code(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"VA ");
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
}

fn seconds_left(expiry: Expiry, now: UnixSeconds) -> i128 {
    expiry.ttl(now).map_or(-1, i128::from)
}

/// The flags of the answer: O and k, and the numbers that `show` knows.
fn flags(
    meta: &Meta<'_>,
    binary_key: bool,
    out: &mut Vec<u8>,
    mut show: impl FnMut(u8) -> Option<i128>,
) {
    if !meta.options.shows {
        return;
    }
    for (letter, argument) in meta.flags.iter() {
        match letter {
            b'O' => {
                out.extend_from_slice(b" O");
                out.extend_from_slice(argument);
            }
            b'k' => {
                out.extend_from_slice(b" k");
                if push_key(&meta.key.bytes, binary_key, out) {
                    out.extend_from_slice(b" b");
                }
            }
            _ => {
                if let Some(number) = show(letter) {
                    out.push(b' ');
                    out.push(letter);
                    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                }
            }
        }
    }
}

/// Appends the key; returns whether in base64. A key that would not read as one word always comes
/// so, whichever protocol stored it.
pub fn push_key(key: &[u8], binary: bool, out: &mut Vec<u8>) -> bool {
    if is_one_word(key) && !binary {
        out.extend_from_slice(key);
        return false;
    }
    out.extend_from_slice(STANDARD.encode(key).as_bytes());
    true
}

/// Whether `key` reads as one word of one line. A key from the binary protocol may not: listed as
/// it is, it could feign lines.
#[must_use]
pub fn is_one_word(key: &[u8]) -> bool {
    !key.iter().any(|byte| matches!(byte, b' ' | b'\r' | b'\n' | 0))
}
