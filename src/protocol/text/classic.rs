//! The grammar of a whole line: get, set, delete, incr and their kin.
//!
//! A line is words between spaces. Every parser here takes a slice of one line without its end
//! and gives back values that borrow from it. Which malformed lines are refused how, and which of
//! them are followed by a data block to skip, is COMPATIBILITY sections 3 to 5.

use memchr::{memchr, memchr2};
use nom::bytes::complete::{take, take_while, take_while1};
use nom::combinator::verify;
use nom::{IResult, Parser};

use super::meta::{self, MetaSetLine};
use crate::limits::{DECLARED_VALUE_MAX, KEY_MAX};
use crate::protocol::request::{
    AdminRequest, AdminVerb, Arithmetic, Keys, Request, Retrieve, StoreMode,
};
use crate::protocol::response::Reject;
use crate::version::Version;

/// What a line says.
pub(super) enum Line<'a> {
    /// A request that is whole.
    Request { request: Request<'a>, noreply: bool },
    /// A storage command, whose data block follows.
    Storage(StorageLine<'a>),
    /// The same of the meta commands.
    MetaSet(MetaSetLine<'a>),
    /// A refusal; `swallow` bytes of data block follow and are skipped.
    Reject { reject: Reject, noreply: bool, swallow: usize },
    /// Somebody speaks HTTP.
    Hangup,
}

/// A valid storage line.
#[derive(Clone, Copy)]
pub(super) struct StorageLine<'a> {
    pub(super) key: &'a [u8],
    pub(super) mode: StoreMode,
    pub(super) flags: u32,
    pub(super) exptime: i64,
    pub(super) compare: Option<Version>,
    pub(super) value_len: usize,
    pub(super) noreply: bool,
}

/// The storage commands, as words.
#[derive(Clone, Copy)]
enum StorageCommand {
    Plain(StoreMode),
    Cas,
}

/// What `line`, without its end, says.
pub(super) fn parse(line: &[u8]) -> Line<'_> {
    use StorageCommand::{Cas, Plain};
    let (command, rest) = split_command(line);
    match command {
        b"get" => retrieve(rest, None, false),
        b"gets" => retrieve(rest, None, true),
        b"gat" => get_and_touch(rest, false),
        b"gats" => get_and_touch(rest, true),
        b"set" => storage(rest, Plain(StoreMode::Set)),
        b"add" => storage(rest, Plain(StoreMode::Add)),
        b"replace" => storage(rest, Plain(StoreMode::Replace)),
        b"append" => storage(rest, Plain(StoreMode::Append)),
        b"prepend" => storage(rest, Plain(StoreMode::Prepend)),
        b"cas" => storage(rest, Cas),
        b"delete" => delete(rest),
        b"incr" => arithmetic(rest, true),
        b"decr" => arithmetic(rest, false),
        b"mg" => meta::get(rest),
        b"ms" => meta::set(rest),
        b"md" => meta::delete(rest),
        b"ma" => meta::arithmetic(rest),
        b"mn" => answered(Request::MetaNoop),
        b"me" => meta::debug(rest),
        b"touch" => touch(rest),
        b"flush_all" => flush_all(rest),
        b"version" => answered(Request::Version),
        b"quit" => answered(Request::Quit),
        b"stats" => answered(Request::Stats(trim(rest))),
        _ => match admin_verb(command) {
            Some(verb) => admin(verb, rest),
            None => unknown(rest),
        },
    }
}

fn split_command(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(line.iter().position(|&byte| byte == b' ').unwrap_or(line.len()))
}

fn admin_verb(command: &[u8]) -> Option<AdminVerb> {
    Some(match command {
        b"cache_memlimit" => AdminVerb::CacheMemlimit,
        b"debugpanic" => AdminVerb::Debugpanic,
        b"debugtime" => AdminVerb::Debugtime,
        b"extstore" => AdminVerb::Extstore,
        b"lru" => AdminVerb::Lru,
        b"lru_crawler" => AdminVerb::LruCrawler,
        b"peers" => AdminVerb::Peers,
        b"refresh_certs" => AdminVerb::RefreshCerts,
        b"shutdown" => AdminVerb::Shutdown,
        b"slabs" => AdminVerb::Slabs,
        b"verbosity" => AdminVerb::Verbosity,
        b"watch" => AdminVerb::Watch,
        _ => return None,
    })
}

pub(super) fn answered(request: Request<'_>) -> Line<'_> {
    Line::Request { request, noreply: false }
}

pub(super) fn refused(reject: Reject, noreply: bool) -> Line<'static> {
    Line::Reject { reject, noreply, swallow: 0 }
}

pub(super) const MALFORMED: Line<'static> =
    Line::Reject { reject: Reject::BadFormat, noreply: false, swallow: 0 };

fn is_space(byte: u8) -> bool {
    byte == b' '
}

/// The next word, after any number of spaces.
pub(super) fn word(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (from_word, _) = take_while(is_space).parse(input)?;
    let len = memchr(b' ', from_word).unwrap_or(from_word.len());
    verify(take(len), |word: &[u8]| !word.is_empty()).parse(from_word)
}

/// The same of a word that is short most of the time: a number.
fn short_word(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (from_word, _) = take_while(is_space).parse(input)?;
    take_while1(|byte| !is_space(byte)).parse(from_word)
}

/// A number below 2^64, of digits only.
pub(super) fn digits(word: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then_some(byte.wrapping_sub(b'0'))?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    };
    if word.is_empty() { None } else { word.iter().try_fold(0, add) }
}

/// A number below 2^64 that may have a `+` before it.
pub(super) fn unsigned(word: &[u8]) -> Option<u64> {
    digits(word.strip_prefix(b"+").unwrap_or(word))
}

/// An exptime: a signed number of 32 bits.
pub(super) fn exptime(word: &[u8]) -> Option<i64> {
    let number = match word.strip_prefix(b"-") {
        Some(magnitude) => i64::try_from(digits(magnitude)?).ok()?.checked_neg()?,
        None => i64::try_from(unsigned(word)?).ok()?,
    };
    i32::try_from(number).ok().map(i64::from)
}

fn key(word: &[u8]) -> Option<&[u8]> {
    (word.len() <= KEY_MAX).then_some(word)
}

/// The first word as a key that is stored, if it may be one, and what follows it. A CR in it would end a line
/// where the key is listed: it must not get in.
pub(super) fn key_word(rest: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let start = rest.iter().position(|&byte| !is_space(byte))?;
    let from_word = &rest[start..];
    match memchr2(b' ', b'\r', from_word).unwrap_or(from_word.len()) {
        end if from_word.get(end) == Some(&b'\r') => Some((None, word(rest).ok()?.0)),
        end => Some((key(&from_word[..end]), &from_word[end..])),
    }
}

/// The declared length of a data block.
pub(super) fn value_len(word: &[u8]) -> Option<usize> {
    let declared = digits(word).filter(|&bytes| bytes <= DECLARED_VALUE_MAX)?;
    usize::try_from(declared).ok()
}

/// `words` without the spaces at both ends.
pub(super) fn trim(words: &[u8]) -> &[u8] {
    let start = words.iter().position(|&byte| !is_space(byte)).unwrap_or(words.len());
    let end = words.iter().rposition(|&byte| !is_space(byte)).map_or(start, |last| last + 1);
    &words[start..end]
}

/// `words` trimmed and without a last word `noreply`, and whether there was one. `words` begins
/// where a word has ended.
fn split_noreply(words: &[u8]) -> (&[u8], bool) {
    let words = trim(words);
    match words.strip_suffix(b"noreply") {
        Some(before) if before.last().is_none_or(|&byte| is_space(byte)) => (trim(before), true),
        _ => (words, false),
    }
}

fn retrieve(list: &[u8], touch: Option<i64>, with_cas: bool) -> Line<'_> {
    match Keys::parse(list) {
        Some(keys) => answered(Request::Retrieve(Retrieve { keys, with_cas, touch })),
        None => MALFORMED,
    }
}

/// `<exptime> <key>+`
fn get_and_touch(rest: &[u8], with_cas: bool) -> Line<'_> {
    let Ok((list, exptime_word)) = word(rest) else { return MALFORMED };
    if trim(list).is_empty() {
        return MALFORMED;
    }
    match exptime(exptime_word) {
        Some(exptime) => retrieve(list, Some(exptime), with_cas),
        None => refused(Reject::InvalidExptime, false),
    }
}

/// `<key> <flags> <exptime> <bytes> [<cas unique>] [noreply]`
///
/// Once `<bytes>` is known, whatever else is wrong does not cost the place in the stream: the
/// block is skipped.
fn storage(rest: &[u8], command: StorageCommand) -> Line<'_> {
    let Some((key, rest)) = key_word(rest) else { return MALFORMED };
    let Ok((tail, (flags, exptime, bytes))) = (short_word, short_word, short_word).parse(rest)
    else {
        return MALFORMED;
    };
    let Some(value_len) = value_len(bytes) else { return MALFORMED };
    let (_, noreply) = split_noreply(tail);
    let line = key.and_then(|key| storage_line(key, flags, exptime, tail, command));
    match line {
        Some(line) => Line::Storage(StorageLine { value_len, noreply, ..line }),
        None => {
            Line::Reject { reject: Reject::BadFormat, noreply, swallow: value_len + b"\r\n".len() }
        }
    }
}

/// The words of a storage line, checked; its length and `noreply` are the caller's to fill in.
fn storage_line<'a>(
    key: &'a [u8],
    flags: &[u8],
    exptime_word: &[u8],
    tail: &[u8],
    command: StorageCommand,
) -> Option<StorageLine<'a>> {
    let flags = u32::try_from(unsigned(flags)?).ok()?;
    let exptime = exptime(exptime_word)?;
    let (mode, compare) = match command {
        StorageCommand::Plain(mode) => (mode, None),
        StorageCommand::Cas => {
            let (_, unique) = word(tail).ok()?;
            (StoreMode::Set, Some(Version(unsigned(unique)?)))
        }
    };
    Some(StorageLine { key, mode, flags, exptime, compare, value_len: 0, noreply: false })
}

/// `<key> [0] [noreply]`. The `0` is an old client's hold time. Further words are refused, and
/// the key is kept.
fn delete(rest: &[u8]) -> Line<'_> {
    let Ok((tail, key_word)) = word(rest) else { return MALFORMED };
    let (hold, noreply) = split_noreply(tail);
    if !matches!(hold, b"" | b"0") {
        return refused(Reject::DeleteUsage, noreply);
    }
    match key(key_word) {
        Some(key) => Line::Request { request: Request::Delete { key, compare: None }, noreply },
        None => refused(Reject::BadFormat, noreply),
    }
}

/// `<key> <argument> [noreply]`: the key's word, the argument's word, whether to be silent. A
/// lone `noreply` is both the argument and a wish for silence, as upstream has it.
fn key_and_argument(rest: &[u8]) -> Option<(&[u8], &[u8], bool)> {
    let (tail, key_word) = word(rest).ok()?;
    let (_, argument) = word(tail).ok()?;
    Some((key_word, argument, split_noreply(tail).1))
}

fn arithmetic(rest: &[u8], up: bool) -> Line<'_> {
    let Some((key_word, delta, noreply)) = key_and_argument(rest) else { return MALFORMED };
    let Some(key) = key(key_word) else { return refused(Reject::BadFormat, noreply) };
    match digits(delta) {
        Some(delta) => {
            let counting = Arithmetic { key, delta, up, initial: None, compare: None };
            Line::Request { request: Request::Arithmetic(counting), noreply }
        }
        None => refused(Reject::InvalidDelta, noreply),
    }
}

fn touch(rest: &[u8]) -> Line<'_> {
    let Some((key_word, argument, noreply)) = key_and_argument(rest) else { return MALFORMED };
    let Some(key) = key(key_word) else { return refused(Reject::BadFormat, noreply) };
    match exptime(argument) {
        Some(exptime) => Line::Request { request: Request::Touch { key, exptime }, noreply },
        None => refused(Reject::InvalidExptime, noreply),
    }
}

/// `[delay] [noreply]`. Whether flushing is allowed is asked before whether the delay is a number,
/// so a wrong delay is part of the request.
fn flush_all(rest: &[u8]) -> Line<'_> {
    let (args, noreply) = split_noreply(rest);
    let delay = match word(args) {
        Ok((_, delay)) => exptime(delay),
        Err(_) => Some(0),
    };
    Line::Request { request: Request::FlushAll { delay }, noreply }
}

/// Four verbs do not know `noreply`: there it is an argument, and a wrong one.
fn admin(verb: AdminVerb, rest: &[u8]) -> Line<'_> {
    let (args, noreply) = match verb {
        AdminVerb::LruCrawler | AdminVerb::Peers | AdminVerb::Shutdown | AdminVerb::Watch => {
            (trim(rest), false)
        }
        _ => split_noreply(rest),
    };
    Line::Request { request: Request::Admin(AdminRequest { verb, args }), noreply }
}

/// Browsers and scanners that speak HTTP are hung up on before their headers are taken for
/// commands.
fn unknown(rest: &[u8]) -> Line<'static> {
    let (args, noreply) = split_noreply(rest);
    let last = args.rsplit(|&byte| is_space(byte)).next().unwrap_or_default();
    if !noreply && last.starts_with(b"HTTP/") {
        return Line::Hangup;
    }
    refused(Reject::UnknownCommand, noreply)
}
