//! Frames: the bytes that two nodes exchange.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body |
//! | 1 | type |
//! | 1 | flags: 1 = whoever does not know the type must hang up instead of skipping it; other bits mean nothing yet |
//! | 2 | zero |
//! | 4 | checksum: crc32 (of IEEE) over the eight bytes before and the body |
//! | n | body |
//!
//! Numbers are little-endian. A body may be longer than the reader knows: what follows the known
//! fields is skipped, so fields can be added at the end. The checksum is not there against attacks
//! (TLS and the shared secret are) but against our own and the machine's mistakes; it is crc32 because
//! there is a crate for that which finds out at run time what the processor can: at 1 KB it takes half as
//! long as the house's xxh3.
//!
//! A length is looked at before anything is kept for it, and lengths inside a body are compared
//! with what is there: no bytes can make [`next`] panic or allocate more than they are long.
//!
//! What is NOT here: what frames mean.

use super::config::Boot;
use super::event::{Amount, State};
use super::speech::Speech;
use crate::clock::UnixSeconds;
use crate::item::Expiry;
use crate::store::{Flushes, Lanes, Record};
use crate::version::Version;

mod bytes;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(super) use decode::{Next, glance, lacking, next};
pub(super) use encode::rank_of;

/// Longest body before HELLO.
pub(super) const BODY_MAX_UNMET: usize = 4 << 10;

/// Bytes of a frame before its body.
pub(super) const HEADER: usize = 12;

/// Entries of a list in one frame.
pub(super) const LIST_CHUNK: usize = 2048;

/// Longest body of a frame with an item of `item` bytes, or of any other frame.
pub(super) fn body_max(item: usize) -> usize {
    item.max(LIST_CHUNK * 32) + 1024
}

/// Bytes by which a HELLO is known.
const MAGIC: &[u8; 8] = b"twincach";

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello<'a> {
    pub(super) speech: Speech,
    /// What must be set alike on both sides: a hash of the policy for lock keys, and of which they are.
    pub(super) policy: u64,
    pub(super) cluster: &'a str,
    pub(super) node: u8,
    pub(super) boot: Boot,
    /// Grows with every connection that this boot dials; 0 when it was dialled.
    pub(super) serial: u64,
    pub(super) clock_us: u64,
    /// The latest version it knows of.
    pub(super) latest: Version,
    /// Largest item that it holds, and so may send.
    pub(super) item_size_max: u32,
    pub(super) state: State,
    pub(super) flushes: Flushes,
    pub(super) standing: Standing,
}

/// What decides who is behind whom after a long separation ([`super::apart`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// What was deleted up to here may have been forgotten.
    pub(super) purged_to: Version,
    /// How far it has come on the stream that it heard last, of whatever node and run.
    pub(super) heard: Version,
    /// The last write of a client.
    pub(super) written: Version,
    /// Other nodes it is linked with.
    pub(super) company: u8,
    /// It forgets everything when it is behind.
    pub(super) wipes: bool,
}

/// We live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    pub(super) sent_us: u64,
    /// `sent_us` of the latest heartbeat received, and how long ago that was; 0 before the first.
    pub(super) echo: (u64, u64),
    pub(super) state: State,
    /// Our acknowledgements wait for the receiver.
    pub(super) in_sync: bool,
    /// All of our stream up to here has been sent; `None` while there is more to send.
    pub(super) upto: Option<Version>,
    pub(super) flushes: Flushes,
    /// How much of every node's stream we have applied.
    pub(super) applied: Vec<(u8, Boot, Version)>,
    /// It is to be answered at once.
    pub(super) asks: bool,
}

/// One line of a list: a key's hash and what the lister knows of it. `rank` as [`rank_of`],
/// `content` as [`crate::store::ScannedRecord::content`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) hash: u64,
    pub(super) version: Version,
    pub(super) rank: u8,
    pub(super) touched: Version,
    pub(super) content: u32,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Hello(Hello<'a>),
    /// "I have applied your stream up to here", or that it is new to me.
    Start {
        applied: Option<Version>,
    },
    /// The stream goes on after this position.
    Resume {
        from: Version,
    },
    Record {
        key: &'a [u8],
        record: Record,
        value: &'a [u8],
        answer: bool,
    },
    Touch {
        key: &'a [u8],
        base: Version,
        touched: Version,
        expiry: Expiry,
    },
    Flushes(Flushes),
    /// Everything of the sender up to here has been sent.
    Upto {
        version: Version,
        caught_up: bool,
        /// Somebody waits for its acknowledgement.
        awaited: bool,
    },
    /// Everything of the receiver up to here has been applied.
    Ack {
        version: Version,
    },
    /// "Send me the record of this key, of which you touched the version `base`."
    Need {
        key: &'a [u8],
        base: Version,
    },
    /// "Reconcile me."
    ScanRequest,
    /// A reconciliation begins. With `gap` the stream has a hole until it is done.
    ScanStart {
        round: u32,
        gap: bool,
        cutoff: UnixSeconds,
        /// What the sender has.
        holds: Amount,
    },
    /// The receiver's sums at `cutoff`; none when it is empty. `items`: how many it has.
    Digests {
        round: u32,
        items: u64,
        lanes: Vec<(u64, u64)>,
    },
    ListRequest {
        round: u32,
        lanes: Lanes,
    },
    List {
        round: u32,
        last: bool,
        entries: Vec<Listed>,
    },
    /// It is done; floors up to `purged_to` may have been let go too early.
    ScanDone {
        round: u32,
        purged_to: Version,
    },
    /// "At `cutoff` my sums were these: compare."
    Check {
        round: u32,
        cutoff: UnixSeconds,
        lanes: Vec<(u64, u64)>,
    },
    /// Lanes that differ. Without `quiet` somebody was writing, and that need not mean anything.
    Checked {
        round: u32,
        quiet: bool,
        differing: Lanes,
    },
    Heartbeat(Heartbeat),
    Goodbye,
    /// The sender is about to hang up, for the reason with this number.
    Error {
        code: u8,
    },
    Lock(Lock<'a>),
}

/// What nodes say to each other about exclusive locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lock<'a> {
    /// Whom the sender counts itself among, whom it could, and the end of its stream when it did.
    View { epoch: u64, members: Vec<u8>, reach: Vec<u8>, upto: Version },
    /// "Execute this for a client of mine"; `lock` is the version of the key when it was asked: what
    /// was taken later is not let go by it.
    Forward { id: u64, lock: Version, key: &'a [u8], request: &'a [u8] },
    /// What came of a request of that node's: before the record that tells what it changed, if it
    /// changed anything (`version`).
    /// `takes` as in [`super::Executed`], `since` as in [`super::locks`]'s `Done`.
    Note {
        node: u8,
        boot: Boot,
        id: u64,
        version: Version,
        since: Version,
        takes: bool,
        key: &'a [u8],
        answer: &'a [u8],
    },
    /// What the receiver's request changed is on every node.
    Done { id: u64 },
    /// The sender cannot decide the receiver's request.
    Retry { id: u64 },
}
