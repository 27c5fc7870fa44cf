//! Counting: incr, decr, and the meta arithmetic's creation on a miss, atomically.

use super::change::{Change, Item, Need, Put, Stamp, Value};
use super::shard::Shard;
use super::shards::Store;
use super::slot::Bits;
use super::{Arithmetic, Counted, Key, Refusal};
use crate::clock::Now;
use crate::item::{Expiry, Found};

impl Store {
    /// Counts an item's number up or down. A result shorter than the value is padded with spaces
    /// to its length.
    ///
    /// # Errors
    /// Why the number did not change.
    pub fn arithmetic(
        &self,
        key: Key<'_>,
        arithmetic: &Arithmetic,
        now: Now,
    ) -> Result<Counted, Refusal> {
        let counted = self.with_room(self.lane_of(key), now, |shard| {
            match (shard.look_up(key, now).ok(), arithmetic.initial) {
                (Some(item), _) => shard.count(key, item, arithmetic, now),
                (None, Some((number, expiry))) => {
                    shard.create_number(key, number, expiry, arithmetic, now).map(Ok)
                }
                (None, None) => Ok(Err(Refusal::NotFound)),
            }
        });
        counted.unwrap_or(Err(Refusal::NoMemory))
    }
}

impl Shard {
    fn count(
        &mut self,
        key: Key<'_>,
        item: Item,
        arithmetic: &Arithmetic,
        now: Now,
    ) -> Result<Result<Counted, Refusal>, Need> {
        let header = item.header;
        if header.bits.has(Bits::LARGE) || header.value_len == 0 {
            return Ok(Err(Refusal::NotANumber));
        }
        if !self.compares(arithmetic.compare, &header) {
            return Ok(Err(Refusal::Exists));
        }
        let value = self.log.inline(item.handle, &header);
        let Some(old) = parse_number(value) else {
            return Ok(Err(Refusal::NotANumber));
        };
        let number = if arithmetic.up {
            old.wrapping_add(arithmetic.delta)
        } else {
            old.saturating_sub(arithmetic.delta)
        };
        let mut text = itoa::Buffer::new();
        let text = text.format(number);
        let mut padded = text.as_bytes().to_vec();
        padded.resize(value.len().max(text.len()), b' ');
        self.ready(key, Some(&item), padded.len())?;
        let put = Put {
            key,
            value: Value::Inline(&padded),
            flags: header.flags,
            expiry: arithmetic.touch.unwrap_or(header.expiry),
            bits: header.bits.with(Bits::REFERENCED),
            stamp: Stamp::by_client(arithmetic.new_version),
        };
        let found = self.store_number(Some(item), &put, now);
        let class = self.tally.class(found.class);
        let hits = if arithmetic.up { &mut class.incr_hits } else { &mut class.decr_hits };
        *hits += 1;
        let found = Found { expiry_before: header.expiry, ..found };
        Ok(Ok(Counted { number, found }))
    }

    fn create_number(
        &mut self,
        key: Key<'_>,
        number: u64,
        expiry: Expiry,
        arithmetic: &Arithmetic,
        now: Now,
    ) -> Result<Counted, Need> {
        let mut text = itoa::Buffer::new();
        let text = text.format(number).as_bytes();
        self.ready(key, None, text.len())?;
        let put = Put {
            key,
            value: Value::Inline(text),
            flags: 0,
            expiry,
            bits: Bits::default().with_if(Bits::BINARY_KEY, arithmetic.binary_key),
            stamp: Stamp::by_client(arithmetic.new_version),
        };
        let found = self.store_number(None, &put, now);
        self.tally.total_items += 1;
        Ok(Counted { number, found: Found { vivified: true, ..found } })
    }

    fn store_number(&mut self, old: Option<Item>, put: &Put<'_>, now: Now) -> Found {
        match self.commit(old, Change::Put(*put), now) {
            Some(header) => self.found(&header, now),
            None => unreachable!("what is stored is there"),
        }
    }
}

/// The number that a value is: spaces, perhaps a `+`, digits; after a space whatever follows is
/// ignored, as upstream's `strtoull` does. `None` if there is no digit or the number is 2^64 or
/// more.
fn parse_number(value: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = value.iter().position(|byte| !is_space(byte))?;
    let text = &value[start..];
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let end = text.iter().position(is_space).unwrap_or(text.len());
    let digits = &text[..end];
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_upstream_takes_for_numbers() {
        for (value, number) in [
            (&b"12"[..], 12),
            (b" 12", 12),
            (b"12 ", 12),
            (b"+5", 5),
            (b"0007", 7),
            (b"00000000000000000000000000012", 12),
            (b"18446744073709551615", u64::MAX),
            (b"9    ", 9),
            (b"12 apples", 12),
            (b"12 \xf7", 12),
        ] {
            assert_eq!(parse_number(value), Some(number), "{}", value.escape_ascii());
        }
        for value in [
            &b""[..],
            b" ",
            b"-5",
            b"12abc",
            b"abc",
            b"+",
            b"+ 5",
            b"18446744073709551616",
            b"99999999999999999999999",
            b"1.5",
        ] {
            assert_eq!(parse_number(value), None, "{}", value.escape_ascii());
        }
    }
}
