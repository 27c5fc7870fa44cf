//! What the benches agree on: keys of 40 bytes, values of known lengths, dice that fall the same way
//! in every run, server processes, clients that drive them, and figures of several rounds.

#![allow(dead_code, reason = "each bench is a crate of its own and uses its part")]

pub(crate) mod cores;
pub(crate) mod driver;
pub(crate) mod exchange;
pub(crate) mod figures;
pub(crate) mod node;
#[path = "../../protocol-tests/replication/port.rs"]
#[expect(clippy::unwrap_used, reason = "tests use it, too")]
pub(crate) mod port;
pub(crate) mod socket;

/// Bytes in every key, about what `memc.sess.` and a session id make.
pub(crate) const KEY_LEN: usize = 40;

/// The digits at a key's end that tell one from another.
pub(crate) const KEY_DIGITS: usize = 8;

/// The families of keys, all of the same length: stored values, PHP's locks of them (which our
/// peers by default keep to themselves), numbers, and what is never stored.
pub(crate) const STORED: &[u8; KEY_LEN - KEY_DIGITS] = b"memc.sess.k7q2v9m4x1c8b5n3z6w0r4";
pub(crate) const LOCKS: &[u8; KEY_LEN - KEY_DIGITS] = b"memc.sess.lock.9m4x1c8b5n3z6w0r4";
pub(crate) const NUMBERS: &[u8; KEY_LEN - KEY_DIGITS] = b"memc.numb.k7q2v9m4x1c8b5n3z6w0r4";
pub(crate) const ABSENT: &[u8; KEY_LEN - KEY_DIGITS] = b"memc.none.k7q2v9m4x1c8b5n3z6w0r4";

/// The last bytes of the key with this number.
pub(crate) fn key_digits(number: u32) -> [u8; KEY_DIGITS] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; KEY_DIGITS];
    for (place, digit) in digits.iter_mut().enumerate() {
        *digit = HEX[(number >> (28 - 4 * place)) as usize & 15];
    }
    digits
}

/// Dice with a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn seeded(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = (mixed ^ (mixed >> 31)) >> 32;
        ((high * u64::from(bound)) >> 32) as u32
    }

    /// A length from `low` to `high`, both included.
    pub(crate) fn length(&mut self, low: u32, high: u32) -> usize {
        (low + self.below(high - low + 1)) as usize
    }
}

/// Appends `set <key> 0 0 <len>[ noreply]` and a data block.
pub(crate) fn append_set(
    out: &mut Vec<u8>,
    family: &[u8],
    number: u32,
    value_len: usize,
    noreply: bool,
) {
    append_set_until(out, family, number, 0, value_len, noreply);
}

/// The same for an item that expires.
pub(crate) fn append_set_until(
    out: &mut Vec<u8>,
    family: &[u8],
    number: u32,
    exptime: u64,
    value_len: usize,
    noreply: bool,
) {
    out.extend_from_slice(b"set ");
    out.extend_from_slice(family);
    out.extend_from_slice(&key_digits(number));
    out.extend_from_slice(b" 0 ");
    out.extend_from_slice(exptime.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(value_len.to_string().as_bytes());
    out.extend_from_slice(if noreply { b" noreply\r\n" } else { b"\r\n" });
    out.resize(out.len() + value_len, b'v');
    out.extend_from_slice(b"\r\n");
}
