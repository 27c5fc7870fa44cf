//! The grammar of meta commands: `<command> <key> [<bytes>] <flag>*`, a flag being one letter with
//! an argument up to the next space.
//!
//! Which malformed lines are refused how is COMPATIBILITY section 6. What a refused ms declares as
//! its data block is skipped, so that data is never taken for commands.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::classic::{
    Line, MALFORMED, answered, digits, exptime, key_word, refused, unsigned, value_len, word,
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

fn one_item<'a>(rest: &'a [u8], request: impl FnOnce(Meta<'a>) -> Request<'a>) -> Line<'a> {
    let Some((key, flags)) = key_word(rest) else { return MALFORMED };
    let mut meta = unread(key, flags);
    match meta.read_flags(key.is_some(), 2) {
        Ok(()) => answered(request(meta)),
        Err(reject) => refused(reject, false),
    }
}

pub(super) fn set(rest: &[u8]) -> Line<'_> {
    let Some((key, tail)) = key_word(rest) else { return MALFORMED };
    let Ok((flags, bytes)) = word(tail) else { return MALFORMED };
    let Some(value_len) = value_len(bytes) else { return MALFORMED };
    let mut meta = unread(key, flags);
    let mode = meta
        .read_flags(key.is_some(), 3)
        .and_then(|()| set_mode(meta.options.mode).ok_or(Reject::Meta(MetaFault::InvalidSetMode)));
    match mode {
        Ok(mode) => Line::MetaSet(MetaSetLine { meta, mode, value_len }),
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
    let Some((key, flags)) = key_word(rest) else { return MALFORMED };
    let mut meta = unread(key, flags);
    if let Err(reject) = meta.read_flags(key.is_some(), 2) {
        return refused(fault_of_arithmetic(reject, flags), false);
    }
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
    let words_are_wrong = !Flags::new(flags).iter().all(|(letter, _)| is_word(letter))
        || reject == Reject::Meta(MetaFault::TooManyFlags);
    if words_are_wrong { reject } else { Reject::Meta(MetaFault::InvalidOrDuplicateFlag) }
}

/// `<key> [b]`
pub(super) fn debug(rest: &[u8]) -> Line<'_> {
    let Some((Some(bytes), flags)) = key_word(rest) else { return MALFORMED };
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

fn decoded(base64: &[u8]) -> Result<MetaKey<'static>, Reject> {
    let bytes = STANDARD.decode(base64).ok().filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or(Reject::Meta(MetaFault::KeyDecoding))?;
    Ok(MetaKey { bytes: Cow::Owned(bytes), binary: true })
}

/// Whether a word begins as a flag may: with a letter, a digit, or what stands between the letters in
/// ASCII.
fn is_word(letter: u8) -> bool {
    letter.is_ascii_digit() || matches!(letter, b'A'..=b'z')
}

/// The key and the flags of a line, not yet understood.
fn unread<'a>(key: Option<&'a [u8]>, flags: &'a [u8]) -> Meta<'a> {
    let key = MetaKey { bytes: Cow::Borrowed(key.unwrap_or_default()), binary: false };
    Meta { key, flags: Flags::new(flags), options: Options::default() }
}

impl Meta<'_> {
    /// Understands the flags of a line with `before` words before them, where a Meta lies already: it is long.
    /// They are read to the end: what is no word at all comes before any fault of a flag, as does too many of
    /// them, or a key that is none. Of several faults the last is told, or the first flag that is unknown or
    /// there twice.
    fn read_flags(&mut self, is_key: bool, before: usize) -> Result<(), Reject> {
        // So are most mg. The loop would find one word that is known, and no fault.
        if is_key && self.flags == Flags::new(b" v") {
            self.options.value = true;
            return Ok(());
        }
        let (mut words, mut seen) = (before, 0_u128);
        let (mut wrong_flag, mut fault) = (None, None);
        for (letter, argument) in self.flags.iter() {
            if !is_word(letter) {
                return Err(Reject::BadFormat);
            }
            words += 1;
            let bit = 1_u128 << (letter & 0x7f);
            let taken = match letter {
                _ if seen & bit != 0 => Err(Reject::Meta(MetaFault::DuplicateFlag)),
                b'b' => decoded(&self.key.bytes).map(|decoded| self.key = decoded),
                _ => self.options.take(letter, argument),
            };
            seen |= bit;
            match taken {
                Err(reject @ Reject::Meta(MetaFault::InvalidFlag | MetaFault::DuplicateFlag)) => {
                    wrong_flag = wrong_flag.or(Some(reject));
                }
                Err(reject) => fault = Some(reject),
                Ok(()) => {}
            }
        }
        if words > WORDS_MAX {
            return Err(Reject::Meta(MetaFault::TooManyFlags));
        }
        match wrong_flag.or(fault) {
            _ if !is_key => Err(Reject::BadFormat),
            Some(reject) => Err(reject),
            None => Ok(()),
        }
    }
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
            b'O' | b'k' | b's' | b'c' | b'f' => self.shows = true,
            b't' | b'l' | b'h' => (self.shows, self.shows_life) = (true, true),
            b'P' | b'L' => {}
            _ => return Err(Reject::Meta(MetaFault::InvalidFlag)),
        }
        Ok(())
    }
}
