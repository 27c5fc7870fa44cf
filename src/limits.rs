//! The bounds that clients meet, in one place, with the relations between bounds checked at compile
//! time. Bounds that the operator may move live in [`crate::settings`]; here are their defaults and
//! the values nobody may move.
//!
//! What is NOT here: how long nodes wait for each other, and how much they send and keep at a time.
//! That stands where it holds ([`crate::replication`], `net/peer_link`).

use std::time::Duration;

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

/// Largest body a binary frame may declare; a larger one ends the connection (COMPATIBILITY
/// section 7).
pub const BINARY_BODY_MAX: usize = 1 << 30;

/// Logins that may fail one after another on a connection: it is closed after the last.
pub const LOGIN_FAILURES_MAX: u8 = 3;

/// Longest name of a SASL mechanism in bytes.
pub const SASL_MECHANISM_MAX: usize = 32;

/// Longest message of a SASL mechanism in bytes: PLAIN's and CRAM-MD5's are far shorter.
pub const SASL_DATA_MAX: usize = 16 << 10;

/// Bytes answered to one datagram from a source that `--udp-allow` names, all messages together.
pub const UDP_REPLY_MAX: usize = 16 << 20;

/// How many times as long as a datagram its answer may be, headings included, when its source is not
/// in `--udp-allow` and so perhaps forged.
pub const UDP_FACTOR_MAX: usize = 10;

/// Bytes that a UDP socket asks the kernel to hold, in each direction.
pub const UDP_SOCKET_BUFFER: usize = 4 << 20;

/// Relative exptimes end here; larger ones are absolute Unix seconds (30 days).
pub const RELATIVE_EXPTIME_MAX: i64 = 60 * 60 * 24 * 30;

/// Bytes of a key that are logged where a request is refused.
pub const KEY_SHOWN_MAX: usize = 8;

/// Refusals that are logged a minute.
pub const REFUSALS_TOLD: usize = 64;

/// What peers told of that a shard notes, to recognise the copies that clients send: 32 KiB.
pub const ECHO_NOTES: usize = 1024;

/// Notes among which one is looked for; [`ECHO_NOTES`] is a multiple of them.
pub const ECHO_GROUP: usize = 8;

/// For how long it notes that. A client that mirrors its writes has long given up a node that is later.
pub const ECHO_SECONDS_MAX: u32 = 5;

/// Bytes of reply held in a connection before it stops executing and waits for the reader.
pub const OUTPUT_SOFT_MAX: usize = 64 << 10;

/// Keys of one get looked up before other connections have their turn.
pub const GET_KEYS_A_TURN: usize = 1024;

/// Bytes of a command line or reply line that are logged.
pub const LOGGED_LINE_MAX: usize = 250;

/// Bytes of a large value copied out of the store at a time.
pub const VALUE_CHUNK: usize = 16 << 10;

/// Default of `-I`: total item size in bytes, as memcached counts it.
pub const ITEM_SIZE_MAX_DEFAULT: usize = 1 << 20;

/// Bounds of `-I` in bytes.
pub const ITEM_SIZE_MAX_RANGE: (usize, usize) = (1 << 10, 1 << 30);

/// Most peers: each write goes to every one of them.
pub const PEERS_MAX: usize = 15;

/// Most addresses that a peer's name may stand for.
pub const PEER_ADDRESSES_MAX: usize = PEERS_MAX + 1;

/// Longest name of a cluster in bytes.
pub const CLUSTER_MAX: usize = 64;

/// Connections at once to the port for peers of which we do not know yet whose they are; for who comes
/// later, one that came earlier is closed.
pub const PEER_STRANGERS_MAX: usize = 64;

/// Default of `--replication-log`: bytes of the log of mutations that peers read, about 900,000
/// writes.
pub const MUTATION_LOG_BYTES_DEFAULT: usize = 64 << 20;

/// Default of `--tombstone-memory`: bytes of floors (deleted and lost items that a peer may not know
/// of), about 120,000 of them.
pub const FLOOR_BYTES_DEFAULT: usize = 16 << 20;

/// Seconds after which a floor goes even if a peer has not heard of it.
pub const FLOOR_HORIZON_DEFAULT: u32 = 60 * 60;

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

/// Bytes a worker reads at a time of a client that has a turn, into one buffer that all its connections share.
/// A request that does not fit is gathered in its connection's own memory, which grows by what arrives.
pub const READ_BUFFER: usize = 64 << 10;

/// Bytes read at a time of a client that is served together with others, whose requests are small. A worker has
/// as much memory for each of 64, and touches what is read into. (The places lie no power of two apart: what
/// stands first in each would want the same few lines of the processor's caches.)
pub const READ_TOGETHER: usize = (16 << 10) + 5 * 64;

/// Bytes, read and answered, after which clients served together are told before more are answered: the
/// first waits for no more than that. (With 64 KiB those who get 4 KiB each are told in lots of 16 and few,
/// which takes 3 % more CPU.)
pub const TOLD_TOGETHER: usize = 256 << 10;

/// Bytes of memory that a worker keeps for the next reply to each of 64 clients.
pub const REPLY_KEPT: usize = 16 << 10;

/// Replies continued within one turn of a connection before other connections have theirs.
pub const RESUMES_A_TURN: u32 = 4;

/// Reads of a connection that sends as fast as it is read before other connections have their turn.
pub const READS_A_TURN: u32 = 16;

/// A connection that has begun a request and sends nothing more for this long is closed. Each byte
/// starts the time anew: a slow upload is not an attack.
pub const REQUEST_STALL_MAX: Duration = Duration::from_secs(30);

/// A connection that has taken nothing of a waiting reply for this long is closed.
pub const REPLY_STALL_MAX: Duration = Duration::from_secs(60);

/// A connection to a TLS port that has not finished its handshake after this long is closed.
pub const TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long replies that are being sent when the server stops may take to be sent.
pub const DRAIN_MAX: Duration = Duration::from_millis(500);

/// A node that stands still for longer than this begins anew: its clients are sent away, and it asks
/// its peers what it has missed. Its replication thread and its workers judge by the same bound.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(2);

/// Connections to the admin port at once; who comes later waits.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;

/// A connection to the admin port that has not been asked and answered after this long is closed.
pub const ADMIN_REQUEST_MAX: Duration = Duration::from_secs(5);

/// Longest request line and headers on the admin port, in bytes (hyper allows no less).
pub const ADMIN_HEAD_MAX: usize = 8 << 10;

/// Most headers of a request on the admin port.
pub const ADMIN_HEADERS_MAX: usize = 64;

/// File descriptors we need besides one a client: standard streams, listeners, pollers, timers,
/// the one held in reserve, and some for the libraries.
pub const FDS_OF_OUR_OWN: usize = 64;

/// Longest path of a unix socket in bytes (`sun_path` without its NUL).
pub const UNIX_PATH_MAX: usize = 107;

/// What `version`, `-V` and the first line of `-h` say. Clients gate features on the memcached
/// number in front; ours follows it.
pub const VERSION: &str = concat!("1.6.45-tc", env!("CARGO_PKG_VERSION"));

/// libmemcached copies the version into 24 bytes, the last of them a NUL.
pub const VERSION_MAX: usize = 23;

const _: () = assert!(VERSION.len() <= VERSION_MAX);
const _: () = assert!(KEY_MAX <= u8::MAX as usize, "a key's length is kept in one byte");
const _: () = assert!(VALUE_CHUNK <= OUTPUT_SOFT_MAX);
const _: () = assert!(LINE_WITHOUT_LF_MAX < READ_BUFFER, "a whole line fits the shared buffer");
