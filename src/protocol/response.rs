//! What a client is answered, in words that every protocol shares; [`Reject`] is an answer, not an
//! error: the stream goes on.
//!
//! Values of items are not here: the store appends them to the reply itself, after a head that
//! the protocol writes.

use std::borrow::Cow;
use std::fmt;

use super::meta::MetaFault;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Stored.
    Stored {
        /// The item's cas unique; 0 when the server runs without (`-C`), here and below.
        unique: u64,
    },
    /// The condition of the storage command does not hold.
    NotStored,
    /// The item changed since its cas unique was read.
    Exists,
    /// No such item.
    NotFound,
    /// Deleted.
    Deleted,
    /// Given a new expiry.
    Touched {
        /// The item's client flags.
        flags: u32,
        /// The item's cas unique, which a touch does not change.
        unique: u64,
    },
    /// Counted.
    Number {
        /// The number now.
        number: u64,
        /// The item's cas unique.
        unique: u64,
    },
    /// Done.
    Ok,
    /// Counters start from zero.
    Reset,
    /// Our version.
    Version,
    /// Statistics, in the order to be shown.
    Stats(Vec<Stat>),
    /// One line, without its end.
    Line(Cow<'static, str>),
    /// Whole lines with their ends, to be followed by the end mark (`END`).
    Listing(Vec<u8>),
    /// Refused.
    Reject(Reject),
}

/// The answer to a step of SASL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslReply {
    /// The mechanisms there are, with spaces between them.
    Mechanisms(&'static str),
    /// The client must take another step, knowing this.
    Challenge(Vec<u8>),
    /// The client has logged in.
    Authenticated,
    /// It has not.
    Failure,
    /// It has sent more than any mechanism needs.
    TooLong,
}

impl Response {
    /// An answer of one fixed line.
    #[must_use]
    pub const fn line(text: &'static str) -> Response {
        Response::Line(Cow::Borrowed(text))
    }
}

impl From<Reject> for Response {
    fn from(reject: Reject) -> Response {
        Response::Reject(reject)
    }
}

/// One statistic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Upstream's name, letter for letter.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: StatValue,
}

impl Stat {
    /// A statistic.
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<StatValue>) -> Stat {
        Stat { name: name.into(), value: value.into() }
    }
}

/// A statistic's value: a number stays one until it is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatValue {
    /// A number.
    Number(u64),
    /// A number with decimal places.
    Decimal {
        /// The number times ten to the power of `places`.
        scaled: i64,
        /// How many decimal places are shown.
        places: u8,
    },
    /// Anything else.
    Text(Cow<'static, str>),
}

impl StatValue {
    /// `number` rounded to `places` decimal places.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a float's cast to an integer saturates")]
    pub fn decimal(number: f64, places: u8) -> StatValue {
        let scaled = (number * 10_f64.powi(i32::from(places))).round() as i64;
        StatValue::Decimal { scaled, places }
    }
}

impl fmt::Display for StatValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatValue::Number(number) => number.fmt(f),
            StatValue::Decimal { scaled, places } => {
                let one = 10_u64.saturating_pow(u32::from(*places));
                let sign = if *scaled < 0 { "-" } else { "" };
                let (whole, rest) = (scaled.unsigned_abs() / one, scaled.unsigned_abs() % one);
                write!(f, "{sign}{whole}.{rest:0width$}", width = usize::from(*places))
            }
            StatValue::Text(text) => f.write_str(text),
        }
    }
}

impl From<u64> for StatValue {
    fn from(number: u64) -> StatValue {
        StatValue::Number(number)
    }
}

impl From<u32> for StatValue {
    fn from(number: u32) -> StatValue {
        StatValue::Number(u64::from(number))
    }
}

impl From<usize> for StatValue {
    fn from(number: usize) -> StatValue {
        StatValue::Number(number as u64)
    }
}

impl From<&'static str> for StatValue {
    fn from(text: &'static str) -> StatValue {
        StatValue::Text(Cow::Borrowed(text))
    }
}

impl From<String> for StatValue {
    fn from(text: String) -> StatValue {
        StatValue::Text(Cow::Owned(text))
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// No such command.
    UnknownCommand,
    /// The line is not what its command wants.
    BadFormat,
    /// The line is too long to be kept.
    LineTooLong,
    /// The data block did not end where its length said.
    BadDataChunk,
    /// The value cannot fit into an item.
    TooLarge,
    /// No room, and nothing may be evicted.
    NoMemoryToStore,
    /// No room for the result of counting.
    NoMemory,
    /// The delta is not a number.
    InvalidDelta,
    /// The item is not a number.
    NonNumeric,
    /// The exptime is not a number, or out of bounds.
    InvalidExptime,
    /// delete with arguments it does not know.
    DeleteUsage,
    /// `flush_all` is switched off.
    FlushNotAllowed,
    /// The client has not logged in.
    NotLoggedIn,
    /// The answer is longer than may be sent to where the request seems to come from.
    TooLargeForUdp,
    /// No peer is there to take a copy of what would be written.
    NotReplicated,
    /// What changes an exclusive lock key came by UDP.
    LockByUdp,
    /// A meta command is not what it must be.
    Meta(MetaFault),
    /// A command that must be first in its batch was not.
    CannotPipeline {
        /// The command.
        before: &'static str,
    },
}
