//! Every bound of the server, in one place, with the relations between bounds checked at compile
//! time. Bounds that the operator may move live in [`crate::settings`]; here are their defaults and
//! the values nobody may move.

/// Longest key in bytes (memcached `KEY_MAX_LENGTH`).
pub const KEY_MAX: usize = 250;

/// A line without its LF within this many buffered bytes ends the connection, unless it is a
/// `get `/`gets ` (COMPATIBILITY section 1).
pub const LINE_WITHOUT_LF_MAX: usize = 2048;

/// Longest `get`/`gets` line in bytes; a longer one is answered with an error and ends the
/// connection, so that a client cannot make us buffer without end.
pub const GET_LINE_MAX: usize = 1 << 20;

/// Largest `<bytes>` a storage line may declare (2^31 - 3, COMPATIBILITY section 3).
pub const DECLARED_VALUE_MAX: u64 = (1 << 31) - 3;

/// Relative exptimes end here; larger ones are absolute Unix seconds (30 days).
pub const RELATIVE_EXPTIME_MAX: i64 = 60 * 60 * 24 * 30;

/// Bytes of reply held in a connection before it stops executing and waits for the reader.
pub const OUTPUT_SOFT_MAX: usize = 64 << 10;

/// Bytes of a large value copied out of the store at a time.
pub const VALUE_CHUNK: usize = 16 << 10;

/// Default of `-I`: total item size in bytes, as memcached counts it.
pub const ITEM_SIZE_MAX_DEFAULT: usize = 1 << 20;

/// Bounds of `-I` in bytes.
pub const ITEM_SIZE_MAX_RANGE: (usize, usize) = (1 << 10, 1 << 30);

/// The whole reply to `stats` stays at or under this: collectd reads it into 4,096 bytes.
pub const STATS_REPLY_MAX: usize = 4095;

/// Most watchers at once (COMPATIBILITY section 11).
pub const WATCHERS_MAX: usize = 20;

/// Most key prefixes counted by `stats detail`.
pub const PREFIXES_MAX: usize = 1 << 16;

/// Most users in a `-Y` file (COMPATIBILITY section 13).
pub const AUTH_USERS_MAX: usize = 8;

/// Most users in a SASL password file: every login is compared with all of them.
pub const SASL_USERS_MAX: usize = 256;

/// Longest line of a file of users in bytes, without its end.
pub const AUTH_LINE_MAX: usize = 256;

/// Longest `user password` a client may declare, or SASL data it may send, before it has logged
/// in, in bytes.
pub const AUTH_TOKEN_MAX: usize = 16 << 10;

/// What `version`, `-V` and the first line of `-h` say. Clients gate features on the memcached
/// number in front; ours follows it.
pub const VERSION: &str = concat!("1.6.45-tc", env!("CARGO_PKG_VERSION"));

/// libmemcached copies the version into 24 bytes, the last of them a NUL.
pub const VERSION_MAX: usize = 23;

const _: () = assert!(VERSION.len() <= VERSION_MAX);
const _: () = assert!(KEY_MAX <= u8::MAX as usize, "a key's length is kept in one byte");
const _: () = assert!(VALUE_CHUNK <= OUTPUT_SOFT_MAX);
