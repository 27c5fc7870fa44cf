//! The grammar of meta commands: `<command> <key> [<bytes>] <flag>*`, a flag being one letter with
//! an argument up to the next space.
//!
//! Which malformed lines are refused how is COMPATIBILITY section 6. What a refused ms declares as
//! its data block is skipped, so that data is never taken for commands.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr;

use super::classic::{
    Line, MALFORMED, answered, digits, exptime, key, refused, trim, unsigned, value_len, word,
};
use crate::protocol::meta::{Flags, Meta, MetaArithmetic, MetaFault, MetaKey, Options};
use crate::protocol::request::{Request, StoreMode};
use crate::protocol::response::Reject;
use crate::version::Version;

/// Most words in a line.
const WORDS_MAX: usize = 20;
/// Longest argument of `O`.
const OPAQUE_MAX: usize = 31;

/// A valid ms line.
pub(super) struct MetaSetLine<'a> {
    pub(super) meta: Meta<'a>,
    pub(super) mode: StoreMode,
    pub(super) value_len: usize,
}

pub(super) fn get(rest: &[u8]) -> Line<'_> {
    one_item(rest, Request::MetaGet)
}

pub(super) fn delete(rest: &[u8]) -> Line<'_> {
    one_item(rest, Request::MetaDelete)
}

fn one_item<'a>(rest: &'a [u8], request: fn(Meta<'a>) -> Request<'a>) -> Line<'a> {
    let Ok((flags, key_word)) = word(rest) else { return MALFORMED };
    match meta(key_word, flags, 2) {
        Ok(meta) => answered(request(meta)),
        Err(reject) => refused(reject, false),
    }
}

pub(super) fn set(rest: &[u8]) -> Line<'_> {
    let Ok((tail, key_word)) = word(rest) else { return MALFORMED };
    let Ok((flags, bytes)) = word(tail) else { return MALFORMED };
    let Some(value_len) = value_len(bytes) else { return MALFORMED };
    let line = meta(key_word, flags, 3).and_then(|meta| {
        let mode = set_mode(meta.options.mode).ok_or(Reject::Meta(MetaFault::InvalidSetMode))?;
        Ok(MetaSetLine { meta, mode, value_len })
    });
    match line {
        Ok(line) => Line::MetaSet(line),
        Err(reject) => Line::Reject { reject, noreply: false, swallow: value_len + b"\r\n".len() },
    }
}

fn set_mode(letter: Option<u8>) -> Option<StoreMode> {
    Some(match letter {
        None | Some(b'S') => StoreMode::Set,
        Some(b'E') => StoreMode::Add,
        Some(b'A') => StoreMode::Append,
        Some(b'P') => StoreMode::Prepend,
        Some(b'R') => StoreMode::Replace,
        Some(_) => return None,
    })
}

pub(super) fn arithmetic(rest: &[u8]) -> Line<'_> {
    let Ok((flags, key_word)) = word(rest) else { return MALFORMED };
    let meta = match meta(key_word, flags, 2) {
        Ok(meta) => meta,
        Err(reject) => return refused(fault_of_arithmetic(reject, flags), false),
    };
    let up = match meta.options.mode {
        None | Some(b'I' | b'+') => true,
        Some(b'D' | b'-') => false,
        Some(_) => return refused(Reject::Meta(MetaFault::InvalidCountMode), false),
    };
    answered(Request::MetaArithmetic(MetaArithmetic { meta, up }))
}

/// ma gives one answer to whatever is wrong with its key and its flags, except when the words
/// themselves cannot be told apart.
fn fault_of_arithmetic(reject: Reject, flags: &[u8]) -> Reject {
    let words_are_wrong =
        !are_words(Flags::new(flags)) || reject == Reject::Meta(MetaFault::TooManyFlags);
    if words_are_wrong { reject } else { Reject::Meta(MetaFault::InvalidOrDuplicateFlag) }
}

/// `<key> [b]`
pub(super) fn debug(rest: &[u8]) -> Line<'_> {
    let Ok((flags, key_word)) = word(rest) else { return MALFORMED };
    let Some(bytes) = plain_key(key_word) else { return MALFORMED };
    if Flags::new(flags).iter().all(|(letter, _)| letter != b'b') {
        return answered(Request::MetaDebug(MetaKey {
            bytes: Cow::Borrowed(bytes),
            binary: false,
        }));
    }
    match decoded(bytes) {
        Ok(key) => answered(Request::MetaDebug(key)),
        Err(reject) => refused(reject, false),
    }
}

/// A key as it stands in the line. A CR in it would end a line where the key is listed.
fn plain_key(word: &[u8]) -> Option<&[u8]> {
    key(word).filter(|key| memchr(b'\r', key).is_none())
}

fn decoded(base64: &[u8]) -> Result<MetaKey<'static>, Reject> {
    let bytes = STANDARD.decode(base64).ok().filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or(Reject::Meta(MetaFault::KeyDecoding))?;
    Ok(MetaKey { bytes: Cow::Owned(bytes), binary: true })
}

/// Whether each word begins as a flag may: with a letter, a digit, or what stands between the
/// letters in ASCII.
fn are_words(flags: Flags<'_>) -> bool {
    flags.iter().all(|(letter, _)| letter.is_ascii_digit() || matches!(letter, b'A'..=b'z'))
}

/// The key and the flags of a line with `before` words before the flags. Flags are read to the end:
/// of several faults the last is told, or that a flag is unknown or there twice.
fn meta<'a>(key_word: &'a [u8], flags: &'a [u8], before: usize) -> Result<Meta<'a>, Reject> {
    let flags = Flags::new(trim(flags));
    if !are_words(flags) {
        return Err(Reject::BadFormat);
    }
    if before + flags.iter().count() > WORDS_MAX {
        return Err(Reject::Meta(MetaFault::TooManyFlags));
    }
    let bytes = plain_key(key_word).ok_or(Reject::BadFormat)?;
    let mut key = MetaKey { bytes: Cow::Borrowed(bytes), binary: false };
    let mut options = Options::default();
    let mut seen = 0_u128;
    let mut fault = None;
    for (letter, argument) in flags.iter() {
        let bit = 1_u128 << (letter & 0x7f);
        if seen & bit != 0 {
            return Err(Reject::Meta(MetaFault::DuplicateFlag));
        }
        seen |= bit;
        let taken = match letter {
            b'b' => decoded(bytes).map(|decoded| key = decoded),
            _ => options.take(letter, argument),
        };
        match taken {
            Err(reject @ Reject::Meta(MetaFault::InvalidFlag)) => return Err(reject),
            Err(reject) => fault = Some(reject),
            Ok(()) => {}
        }
    }
    fault.map_or(Ok(Meta { key, flags, options }), Err)
}

impl Options {
    /// Understands one flag.
    fn take(&mut self, letter: u8, argument: &[u8]) -> Result<(), Reject> {
        let bad_token = Reject::Meta(MetaFault::BadToken);
        let seconds = || exptime(argument).ok_or(bad_token);
        let version = || digits(argument).map(Version).ok_or(bad_token);
        match letter {
            b'v' => self.value = true,
            b'q' => self.quiet = true,
            b'u' => self.no_bump = true,
            b'I' => self.invalidate = true,
            b'x' => self.clear_value = true,
            b'T' => {
                self.exptime = Some(seconds()?);
                self.touch_created = self.vivify.is_some();
            }
            b'N' => self.vivify = Some(seconds()?),
            b'R' => {
                self.recache_below = Some(seconds()?);
                self.touch_first = self.exptime.is_some();
            }
            b'C' => self.compare = Some(version()?),
            b'E' => self.new_version = Some(version()?),
            b'F' => {
                let flags = unsigned(argument).and_then(|flags| u32::try_from(flags).ok());
                self.client_flags = flags.ok_or(Reject::BadFormat)?;
            }
            b'J' => {
                let initial = digits(argument);
                self.initial = initial.ok_or(Reject::Meta(MetaFault::InvalidInitial))?;
            }
            b'D' => {
                let delta = digits(argument).ok_or(Reject::Meta(MetaFault::InvalidDelta))?;
                self.delta = Some(delta);
            }
            b'M' => self.mode = Some(argument.first().copied().unwrap_or_default()),
            b'O' if argument.len() > OPAQUE_MAX => {
                return Err(Reject::Meta(MetaFault::OpaqueTooLong));
            }
            b'O' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => {}
            _ => return Err(Reject::Meta(MetaFault::InvalidFlag)),
        }
        Ok(())
    }
}
