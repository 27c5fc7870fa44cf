//! The words of the meta commands: one key, and flags of one letter each that say what is wanted
//! and what the answer is to repeat.
//!
//! Flags are read twice: once into [`Options`], checked, and once more when the answer is written,
//! because an answer's flags come in the order of the request's.
//!
//! What is NOT here: how a line spells them ([`super::text`]) and what they do.

use std::borrow::Cow;

use super::request::{Block, StoreMode};
use crate::version::Version;

/// A key, 1 to 250 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaKey<'a> {
    /// Its bytes, decoded.
    pub bytes: Cow<'a, [u8]>,
    /// It came in base64 and may hold any byte.
    pub binary: bool,
}

/// A command about one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which.
    pub key: MetaKey<'a>,
    /// The flags as they came.
    pub flags: Flags<'a>,
    /// What they mean.
    pub options: Options,
}

/// Flags as they came: checked words, separated by spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags<'a> {
    spaced: &'a [u8],
}

impl<'a> Flags<'a> {
    /// The flags in `spaced`.
    #[must_use]
    pub fn new(spaced: &'a [u8]) -> Flags<'a> {
        Flags { spaced }
    }

    /// Each flag's letter and argument, in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let words = self.spaced.split(|&byte| byte == b' ');
        words.filter_map(|word| word.split_first().map(|(&letter, argument)| (letter, argument)))
    }
}

/// What the flags of a command ask for. A flag that means nothing to its command is here, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `v`: the value.
    pub value: bool,
    /// `O`, `k`, `s`, `t`, `c`, `f`, `l` or `h`: the answer has flags.
    pub shows: bool,
    /// `t`, `l` or `h`: the answer tells of earlier accesses, or when the item expires.
    pub shows_life: bool,
    /// `q`: no answer when all is as usual.
    pub quiet: bool,
    /// `u`: not an access.
    pub no_bump: bool,
    /// `I`: mark stale, or accept an older cas unique and mark stale.
    pub invalidate: bool,
    /// `x`: empty the value.
    pub clear_value: bool,
    /// `F`: client flags.
    pub client_flags: u32,
    /// `T`: exptime.
    pub exptime: Option<i64>,
    /// `N`: exptime of the item that is created when there is none.
    pub vivify: Option<i64>,
    /// `T` came behind `N`.
    pub touch_created: bool,
    /// `R`: win the right to recache when fewer seconds are left.
    pub recache_below: Option<i64>,
    /// `T` came before `R`.
    pub touch_first: bool,
    /// `C`: the cas unique to compare with.
    pub compare: Option<Version>,
    /// `E`: the cas unique to give.
    pub new_version: Option<Version>,
    /// `J`: the number that a created item begins with.
    pub initial: u64,
    /// `D`: by how much to count.
    pub delta: Option<u64>,
    /// `M`: the mode's first letter; 0 when there is none.
    pub mode: Option<u8>,
}

impl Options {
    /// Whether an mg is to read a value, and neither does nor shows more than other reads.
    #[must_use]
    pub fn is_plain_read(&self) -> bool {
        self.value
            && !self.no_bump
            && !self.shows_life
            && self.exptime.is_none()
            && self.vivify.is_none()
            && self.recache_below.is_none()
            && self.compare.is_none()
    }

    /// Exptime of the item that is created when there is none: the last of `N` and `T` gives it.
    #[must_use]
    pub fn exptime_of_created(&self) -> Option<i64> {
        if self.touch_created { self.exptime } else { self.vivify }
    }
}

/// ms
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaSet<'a> {
    /// Which item, and how.
    pub meta: Meta<'a>,
    /// On what condition.
    pub mode: StoreMode,
    /// What came as data.
    pub block: Block<'a>,
}

/// ma
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaArithmetic<'a> {
    /// Which item, and how.
    pub meta: Meta<'a>,
    /// Up or down.
    pub up: bool,
}

/// What is wrong with a meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaFault {
    /// No such flag.
    InvalidFlag,
    /// A flag twice.
    DuplicateFlag,
    /// Any of the flags of ma.
    InvalidOrDuplicateFlag,
    /// More words than a line may have.
    TooManyFlags,
    /// `T`, `N`, `R`, `C` or `E` is not a number.
    BadToken,
    /// `J` is not a number.
    InvalidInitial,
    /// `D` is not a number.
    InvalidDelta,
    /// `O` is too long.
    OpaqueTooLong,
    /// The key is not base64.
    KeyDecoding,
    /// `M` of ms.
    InvalidSetMode,
    /// `M` of ma.
    InvalidCountMode,
    /// No room for the number.
    NoMemoryForNumber,
    /// `E` on a node with peers.
    VersionGiven,
}
