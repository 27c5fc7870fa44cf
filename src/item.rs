//! What an item is, apart from where it is kept: expiry, client flags, and the size by which
//! memcached measures it.

use crate::clock::{Now, UnixSeconds};
use crate::limits::RELATIVE_EXPTIME_MAX;
use crate::version::Version;

/// When an item expires: never, or at an absolute second. What a client sends is an *exptime*;
/// what we keep is this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(u32);

impl Expiry {
    /// The item does not expire.
    pub const NEVER: Expiry = Expiry(0);
    /// The item is stored and has expired already.
    pub const PAST: Expiry = Expiry(1);

    /// Expires at the start of `second`.
    #[must_use]
    pub fn at(second: UnixSeconds) -> Expiry {
        Expiry(second.0.max(1))
    }

    /// What `exptime` means at `now` (protocol.txt, "Expiration times"): 0 never; negative
    /// already expired; up to 30 days relative; beyond that absolute Unix seconds, which at or
    /// before the server's start are past.
    #[must_use]
    pub fn from_exptime(exptime: i64, now: Now, started: Now) -> Expiry {
        match exptime {
            0 => Expiry::NEVER,
            ..0 => Expiry::PAST,
            1..=RELATIVE_EXPTIME_MAX => {
                let seconds = u32::try_from(exptime).unwrap_or(u32::MAX);
                Expiry::at(UnixSeconds(now.seconds().0.saturating_add(seconds)))
            }
            _ if exptime <= i64::from(started.seconds().0) => Expiry::PAST,
            _ => Expiry::at(UnixSeconds(u32::try_from(exptime).unwrap_or(u32::MAX))),
        }
    }

    /// Whether an item with this expiry is gone at `now`.
    #[must_use]
    pub fn is_past(self, now: UnixSeconds) -> bool {
        self.0 != 0 && self.0 <= now.0
    }

    /// The second at which the item expires, or `None` for never.
    #[must_use]
    pub fn second(self) -> Option<UnixSeconds> {
        (self.0 != 0).then_some(UnixSeconds(self.0))
    }

    /// The stored form: Unix seconds, 0 for never.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// The inverse of [`Expiry::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u32) -> Expiry {
        Expiry(bits)
    }

    /// Seconds left at `now`; `None` for never.
    #[must_use]
    pub fn ttl(self, now: UnixSeconds) -> Option<u32> {
        self.second().map(|second| second.since(now))
    }
}

/// An item as a reader finds it, apart from its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Client flags, returned verbatim.
    pub flags: u32,
    /// The value's version: the cas unique.
    pub version: Version,
    /// When it expires (after this access, if it touched).
    pub expiry: Expiry,
    /// When it would have expired without this access.
    pub expiry_before: Expiry,
    /// Length of the value in bytes.
    pub value_len: usize,
    /// Seconds since the access before this one.
    pub idle: u32,
    /// Whether it had been fetched before this access.
    pub fetched: bool,
    /// Marked stale by a meta delete or an outdated meta set.
    pub stale: bool,
    /// This reader holds the token to recache it.
    pub won: bool,
    /// Another reader was given the token before.
    pub token_sent: bool,
    /// The key came in base64 and may hold any byte.
    pub binary_key: bool,
    /// This fetch created the item (meta `N`).
    pub vivified: bool,
    /// Size as memcached counts it ([`size_of`]).
    pub size: usize,
    /// Size class number for statistics.
    pub class: u8,
}

/// An item's size as memcached counts it against `-I`: 48 bytes of header, 8 of cas unless `-C`,
/// the key and a NUL, 4 when client flags are not zero, the value and CRLF.
#[must_use]
pub fn size_of(key_len: usize, value_len: usize, flags: u32, cas: bool) -> usize {
    48 + if cas { 8 } else { 0 } + key_len + 1 + if flags == 0 { 0 } else { 4 } + value_len + 2
}

/// memcached's size classes, which its statistics are cut by: chunk sizes from `-n` growing by
/// `-f`. Our items do not live in slabs; the classes are a histogram of item sizes that monitors
/// know how to read.
#[derive(Clone, Debug)]
pub struct SizeClasses {
    chunk_sizes: Vec<usize>,
}

/// The largest chunk, as upstream's default `slab_chunk_max`: larger items count in the last class.
const CHUNK_SIZE_MAX: usize = 512 << 10;
const CHUNK_ALIGN: usize = 8;
/// Most classes.
pub const CLASSES_MAX: usize = 63;

impl SizeClasses {
    /// Classes for `-n` (`slab_min_size` bytes of key, value and flags) and `-f`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "sizes are below 2^20 and factors are checked by the configuration"
    )]
    pub fn new(slab_min_size: usize, growth_factor: f64) -> SizeClasses {
        let mut chunk_sizes = Vec::new();
        let mut size = slab_min_size + 48;
        while chunk_sizes.len() + 1 < CLASSES_MAX
            && (size as f64) <= CHUNK_SIZE_MAX as f64 / growth_factor
        {
            size = size.next_multiple_of(CHUNK_ALIGN);
            chunk_sizes.push(size);
            size = ((size as f64) * growth_factor) as usize;
        }
        chunk_sizes.push(CHUNK_SIZE_MAX);
        SizeClasses { chunk_sizes }
    }

    /// The class, from 1, of an item of `size` bytes as [`size_of`] counts.
    #[must_use]
    pub fn class_of(&self, size: usize) -> u8 {
        let index = self.chunk_sizes.partition_point(|&chunk| chunk < size);
        u8::try_from(index.min(self.chunk_sizes.len() - 1) + 1).unwrap_or(u8::MAX)
    }

    /// The chunk size of `class` in bytes; `None` for a class that does not exist.
    #[must_use]
    pub fn chunk_size(&self, class: u8) -> Option<usize> {
        self.chunk_sizes.get(usize::from(class).checked_sub(1)?).copied()
    }

    /// How many classes there are; the last one's number.
    #[must_use]
    pub fn count(&self) -> u8 {
        u8::try_from(self.chunk_sizes.len()).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: Now = Now::from_unix_seconds(1_800_000_000);
    const NOON: Now = Now::from_unix_seconds(1_800_000_100);

    #[test]
    fn exptime_is_relative_up_to_thirty_days_and_absolute_beyond() {
        let expiry = |exptime| Expiry::from_exptime(exptime, NOON, STARTED);
        assert_eq!(expiry(0), Expiry::NEVER);
        assert_eq!(expiry(-1), Expiry::PAST);
        assert_eq!(expiry(1), Expiry::at(UnixSeconds(1_800_000_101)));
        assert_eq!(expiry(2_592_000), Expiry::at(UnixSeconds(1_802_592_100)));
        assert_eq!(expiry(2_592_001), Expiry::PAST, "an absolute second of 1970");
        assert_eq!(expiry(1_800_000_050), Expiry::at(UnixSeconds(1_800_000_050)));
        assert_eq!(expiry(4_294_967_295), Expiry::at(UnixSeconds(u32::MAX)), "binary's 0xffffffff");
    }

    #[test]
    fn an_item_is_gone_in_the_second_it_expires() {
        let expiry = Expiry::at(UnixSeconds(10));
        assert!(!expiry.is_past(UnixSeconds(9)));
        assert!(expiry.is_past(UnixSeconds(10)));
        assert!(!Expiry::NEVER.is_past(UnixSeconds(u32::MAX)));
    }

    #[test]
    fn classes_are_numbered_as_upstreams() {
        let classes = SizeClasses::new(48, 1.25);
        assert_eq!(classes.chunk_size(1), Some(96));
        assert_eq!(classes.chunk_size(2), Some(120));
        assert_eq!(classes.count(), 39);
        assert_eq!(classes.chunk_size(39), Some(524_288));
        assert_eq!(classes.class_of(size_of(3, 66_560, 0, true)), 31);
        assert_eq!(classes.class_of(size_of(3, 20_000, 0, true)), 25);
        assert_eq!(classes.class_of(5 << 20), 39, "larger than a chunk: the last class");
    }

    #[test]
    fn the_largest_value_under_one_mebibyte_is_upstreams() {
        assert_eq!(size_of(1, 1_048_516, 0, true), 1 << 20);
        assert_eq!(size_of(1, 1_048_512, 1, true), 1 << 20);
    }
}
