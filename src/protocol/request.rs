//! What a client asks for, in words that every protocol shares. Nothing here depends on how it
//! was spelled on the wire; everything borrows from the bytes that came.
//!
//! Exptimes are as the client sent them: what they mean is decided by [`crate::item::Expiry`] when
//! the request is executed.

use memchr::{memchr, memrchr};

use super::meta::{Meta, MetaArithmetic, MetaKey, MetaSet};
use crate::limits::KEY_MAX;
use crate::version::Version;

/// A whole, valid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Fetch items (get, gets, gat, gats).
    Retrieve(Retrieve<'a>),
    /// Fetch one item, answered as a frame.
    RetrieveFrame(RetrieveFrame<'a>),
    /// A storage command.
    Store(Storage<'a>),
    /// Remove an item.
    Delete {
        /// Which.
        key: &'a [u8],
        /// Only when it has this cas unique.
        compare: Option<Version>,
    },
    /// Count an item's number up or down.
    Arithmetic(Arithmetic<'a>),
    /// Give an item a new expiry.
    Touch {
        /// Which.
        key: &'a [u8],
        /// Its new exptime.
        exptime: i64,
    },
    /// Make every item invisible, now or later.
    FlushAll {
        /// Exptime of the moment, 0 or negative for now; `None` when it was not a number.
        delay: Option<i64>,
    },
    /// Nothing but a sign of life.
    Noop,
    /// Which server is this?
    Version,
    /// End the conversation.
    Quit,
    /// Statistics: what follows `stats`, spaces at both ends cut off.
    Stats(&'a [u8]),
    /// What only operators use.
    Admin(AdminRequest<'a>),
    /// Log in by SASL.
    Sasl(Sasl<'a>),
    /// Fetch one item, or what is known of it (mg).
    MetaGet(Meta<'a>),
    /// Store one item (ms).
    MetaSet(MetaSet<'a>),
    /// Remove one item, mark it or empty it (md).
    MetaDelete(Meta<'a>),
    /// Count one item's number up or down (ma).
    MetaArithmetic(MetaArithmetic<'a>),
    /// Nothing but an end of all answers before (mn).
    MetaNoop,
    /// What is known of one item, for humans (me).
    MetaDebug(MetaKey<'a>),
}

/// Which items to fetch, and what besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrieve<'a> {
    /// The keys, each 1 to 250 bytes long.
    pub keys: Keys<'a>,
    /// Answer with the cas unique too.
    pub with_cas: bool,
    /// New exptime of the items found.
    pub touch: Option<i64>,
}

/// Keys as they came: separated by spaces, each checked, walked without being collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    spaced: &'a [u8],
}

impl<'a> Keys<'a> {
    /// The keys in `spaced`; `None` when there is none or one is longer than [`KEY_MAX`].
    #[must_use]
    pub fn parse(spaced: &'a [u8]) -> Option<Keys<'a>> {
        let first = spaced.iter().position(|&byte| byte != b' ')?;
        let last = spaced.iter().rposition(|&byte| byte != b' ')?;
        let spaced = &spaced[first..=last];
        // A run of more than KEY_MAX bytes without a space has none in the window that begins
        // with it: so one look backwards a window is enough.
        let mut run = 0;
        while let Some(window) = spaced.get(run..=run + KEY_MAX) {
            run += memrchr(b' ', window)? + 1;
        }
        Some(Keys { spaced })
    }

    /// The keys not walked yet, separated by spaces.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.spaced
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.spaced.iter().position(|&byte| byte != b' ')?;
        let from_key = &self.spaced[start..];
        let end = memchr(b' ', from_key).unwrap_or(from_key.len());
        let (key, rest) = from_key.split_at(end);
        self.spaced = rest;
        Some(key)
    }
}

/// One item to fetch whose key may hold any byte, spaces too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrieveFrame<'a> {
    /// Which.
    pub key: &'a [u8],
    /// New exptime of the item, when it is found.
    pub touch: Option<i64>,
    /// What the answer's head repeats: it is written while the item is held.
    pub echo: Echo,
}

/// What an answer in a frame repeats, so that its reader knows what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The opcode as it came, quiet or not, known or not.
    pub opcode: u8,
    /// Whatever the client chose.
    pub opaque: u32,
}

/// A number to count up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic<'a> {
    /// Which item's.
    pub key: &'a [u8],
    /// By how much.
    pub delta: u64,
    /// Up or down.
    pub up: bool,
    /// The number and the exptime of the item that is created when there is none.
    pub initial: Option<(u64, i64)>,
    /// Only over the item with this cas unique.
    pub compare: Option<Version>,
}

/// A step of logging in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sasl<'a> {
    /// Which mechanisms are there?
    List,
    /// Begin.
    Start {
        /// The mechanism's name.
        mechanism: &'a [u8],
        /// The mechanism's first message, perhaps empty.
        data: &'a [u8],
    },
    /// Go on.
    Step {
        /// The mechanism's name.
        mechanism: &'a [u8],
        /// The mechanism's next message.
        data: &'a [u8],
    },
    /// Begin or go on, with more than any mechanism needs; it is being skipped unseen.
    TooLong,
}

/// A storage command and its data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage<'a> {
    /// Which item.
    pub key: &'a [u8],
    /// On what condition.
    pub mode: StoreMode,
    /// Client flags.
    pub flags: u32,
    /// Exptime.
    pub exptime: i64,
    /// Only over the item with this cas unique.
    pub compare: Option<Version>,
    /// What came as data.
    pub block: Block<'a>,
}

/// On what condition a storage command stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// Always.
    Set,
    /// Only when there is no item.
    Add,
    /// Only when there is an item.
    Replace,
    /// After an item's value.
    Append,
    /// Before an item's value.
    Prepend,
}

/// The data block of a storage command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// All of it, without its terminator, if it has one.
    Value(&'a [u8]),
    /// It did not end where the header said: nothing may be stored.
    Unterminated,
    /// The header declares more than an item may hold; the block is being skipped unseen.
    TooLarge,
}

/// An operator's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminRequest<'a> {
    /// Which command.
    pub verb: AdminVerb,
    /// What follows it, spaces at both ends and a last `noreply` (where the verb knows it) cut
    /// off.
    pub args: &'a [u8],
}

impl<'a> AdminRequest<'a> {
    /// The arguments one by one.
    pub fn words(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.args.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
    }
}

/// The operators' commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminVerb {
    /// `cache_memlimit`
    CacheMemlimit,
    /// `debugpanic`: ends in a panic, so that tests can see what a panic does.
    Debugpanic,
    /// `debugtime`: moves the clock of a server that was started for testing.
    Debugtime,
    /// `extstore`
    Extstore,
    /// `lru`
    Lru,
    /// `lru_crawler`
    LruCrawler,
    /// `peers`: how the peers are, and which there are.
    Peers,
    /// `refresh_certs`
    RefreshCerts,
    /// `shutdown`
    Shutdown,
    /// `slabs`
    Slabs,
    /// `verbosity`
    Verbosity,
    /// `watch`
    Watch,
}
