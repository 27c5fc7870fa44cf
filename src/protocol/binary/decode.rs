//! Framing: where a request ends, and what it asks for.
//!
//! As in the text protocol the bytes stay with the caller, who shows them again, with more behind
//! them, until they are consumed. A header alone tells how many bytes its frame needs; so the
//! decoder remembers nothing but how many bytes of a refused body are still to be skipped.
//!
//! A frame whose lengths contradict its opcode ends the connection: what its client takes for the
//! next frame cannot be known.

use super::header::{HEADER_LEN, Header, REQUEST_MAGIC};
use super::opcode::{Opcode, Verb};
use crate::item::size_of;
use crate::limits::{BINARY_BODY_MAX, KEY_MAX, SASL_DATA_MAX, SASL_MECHANISM_MAX};
use crate::protocol::request::{
    Arithmetic, Block, Request, RetrieveFrame, Sasl, Storage, StoreMode,
};
use crate::protocol::response::Reject;
use crate::protocol::{Manner, Step};
use crate::version::Version;

/// With this exptime a number that is not there is not created.
const DO_NOT_CREATE: u32 = u32::MAX;

/// Cuts a binary stream into requests.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The largest item, as [`size_of`] counts.
    item_size_max: usize,
    /// Whether items carry a cas unique, which counts as part of the item.
    cas: bool,
    /// Bytes of a body still to be skipped.
    swallow: usize,
    /// A header has come and its body has not.
    in_body: bool,
}

impl Decoder {
    /// A decoder for items of at most `item_size_max` bytes, with or without cas uniques.
    #[must_use]
    pub fn new(item_size_max: usize, cas: bool) -> Decoder {
        Decoder { item_size_max, cas, swallow: 0, in_body: false }
    }

    /// Whether a body is being skipped.
    #[must_use]
    pub fn is_swallowing(&self) -> bool {
        self.swallow > 0
    }

    /// Whether a header has come and its body has not.
    #[must_use]
    pub fn is_in_data(&self) -> bool {
        self.in_body
    }

    /// What is at the front of `input`: the bytes not consumed before, followed by those that
    /// came since.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        if self.swallow > 0 && !input.is_empty() {
            let consumed = self.swallow.min(input.len());
            self.swallow -= consumed;
            return Step::Skip { consumed };
        }
        self.in_body = false;
        let Some(header) = Header::read(input) else {
            return Step::Wait { at_least: HEADER_LEN };
        };
        match check(&header) {
            Verdict::NoFrame => Step::Close { answer: None },
            Verdict::Hopeless(reject) => {
                Step::Close { answer: Some((reject, Manner::Frames(header.echo))) }
            }
            Verdict::Unknown => {
                self.swallow = header.body_len;
                let reject = Reject::UnknownCommand;
                Step::Reject { consumed: HEADER_LEN, reject, manner: Manner::Frames(header.echo) }
            }
            Verdict::Good(opcode) => self.frame(input, &header, opcode.verb),
        }
    }

    /// The same for a client that has not logged in: any frame but a login, a question for the
    /// version and, when `noop_allowed`, a sign of life ends the connection, and none of its body is
    /// waited for.
    pub fn decode_outside<'a>(&mut self, input: &'a [u8], noop_allowed: bool) -> Step<'a> {
        if self.swallow == 0
            && let Some(header) = Header::read(input)
            && header.magic == REQUEST_MAGIC
        {
            let opcode = Opcode::known(header.echo.opcode);
            let allowed = opcode.is_some_and(|opcode| match opcode.verb {
                Verb::SaslList | Verb::SaslStart | Verb::SaslStep | Verb::Version => true,
                Verb::Noop => noop_allowed,
                _ => false,
            });
            if !allowed {
                return Step::Close {
                    answer: Some((Reject::NotLoggedIn, Manner::Frames(header.echo))),
                };
            }
        }
        self.decode(input)
    }

    /// A frame whose lengths are right, as soon as all of it that is wanted has come.
    fn frame<'a>(&mut self, input: &'a [u8], header: &Header, verb: Verb) -> Step<'a> {
        let Header { extras_len, key_len, body_len, echo, .. } = *header;
        let value_len = body_len - extras_len - key_len;
        let skips_value = match verb {
            Verb::Stat => true,
            Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend => {
                self.is_too_large(input, header, value_len)
            }
            Verb::SaslStart | Verb::SaslStep => {
                key_len > SASL_MECHANISM_MAX || value_len > SASL_DATA_MAX
            }
            _ => false,
        };
        let unwanted = if skips_value { value_len } else { 0 };
        let consumed = HEADER_LEN + body_len - unwanted;
        let Some(body) = input.get(HEADER_LEN..consumed) else {
            self.in_body = true;
            return Step::Wait { at_least: consumed };
        };
        let (extras, rest) = body.split_at(extras_len);
        let (key, value) = rest.split_at(key_len);
        let value = (!skips_value).then_some(value);
        self.swallow = unwanted;
        if verb == Verb::Stat && is_text_only(key) {
            return Step::Reject {
                consumed,
                reject: Reject::UnknownCommand,
                manner: Manner::Frames(echo),
            };
        }
        let request = self.request(verb, header, extras, key, value);
        Step::Request { consumed, request, manner: Manner::Frames(echo) }
    }

    /// Whether no item can hold the value. Client flags that have not come yet are taken for 0:
    /// the frame is looked at again when they are there.
    fn is_too_large(&self, input: &[u8], header: &Header, value_len: usize) -> bool {
        let flags = match header.extras_len {
            0 => 0,
            _ => input.get(HEADER_LEN..).map_or(0, |extras| number(extras, 0)),
        };
        size_of(header.key_len, value_len, flags, self.cas) > self.item_size_max
    }

    /// The request in a frame; `value` is `None` when it is skipped.
    fn request<'a>(
        &self,
        verb: Verb,
        header: &Header,
        extras: &[u8],
        key: &'a [u8],
        value: Option<&'a [u8]>,
    ) -> Request<'a> {
        let compare = (header.cas != 0).then_some(Version(header.cas));
        let (flags, exptime) = (number(extras, 0), i64::from(number(extras, 4)));
        let store = |mode| {
            let block = value.map_or(Block::TooLarge, Block::Value);
            // Where no item has a unique, upstream stores whatever unique is given.
            let compare = compare.filter(|_| self.cas);
            // An addition to one certain version is its replacement, as upstream has it.
            let mode = match mode {
                StoreMode::Add | StoreMode::Replace if compare.is_some() => StoreMode::Set,
                mode => mode,
            };
            Request::Store(Storage { key, mode, flags, exptime, compare, block })
        };
        let touch = Some(i64::from(number(extras, 0)));
        let retrieve =
            |touch| Request::RetrieveFrame(RetrieveFrame { key, touch, echo: header.echo });
        let count = |up| Request::Arithmetic(arithmetic(key, extras, up, compare));
        match verb {
            Verb::Get | Verb::GetK => retrieve(None),
            Verb::Gat | Verb::GatK => retrieve(touch),
            Verb::Touch => Request::Touch { key, exptime: i64::from(number(extras, 0)) },
            Verb::Set => store(StoreMode::Set),
            Verb::Add => store(StoreMode::Add),
            Verb::Replace => store(StoreMode::Replace),
            Verb::Append => store(StoreMode::Append),
            Verb::Prepend => store(StoreMode::Prepend),
            Verb::Delete => Request::Delete { key, compare },
            Verb::Increment => count(true),
            Verb::Decrement => count(false),
            Verb::Quit => Request::Quit,
            Verb::Flush => Request::FlushAll { delay: Some(i64::from(number(extras, 0))) },
            Verb::Noop => Request::Noop,
            Verb::Version => Request::Version,
            Verb::Stat => Request::Stats(key),
            Verb::SaslList => Request::Sasl(Sasl::List),
            Verb::SaslStart | Verb::SaslStep => Request::Sasl(match value {
                None => Sasl::TooLong,
                Some(data) if verb == Verb::SaslStart => Sasl::Start { mechanism: key, data },
                Some(data) => Sasl::Step { mechanism: key, data },
            }),
        }
    }
}

/// Whether upstream tells these statistics in the text protocol only.
fn is_text_only(stat: &[u8]) -> bool {
    let first = stat.split(|&byte| byte == b' ').find(|word| !word.is_empty());
    matches!(first, Some(b"conns" | b"cachedump"))
}

/// What a header is worth.
enum Verdict {
    Good(Opcode),
    /// An opcode that nobody implements: its body can be skipped.
    Unknown,
    /// Lengths that cannot be: the answer is the last one.
    Hopeless(Reject),
    /// Not our protocol.
    NoFrame,
}

fn check(header: &Header) -> Verdict {
    let Header { extras_len, key_len, body_len, .. } = *header;
    if header.magic != REQUEST_MAGIC {
        return Verdict::NoFrame;
    }
    if body_len > BINARY_BODY_MAX {
        return Verdict::Hopeless(Reject::BadFormat);
    }
    if extras_len + key_len > body_len {
        return Verdict::Hopeless(Reject::UnknownCommand);
    }
    if key_len > KEY_MAX {
        return Verdict::Hopeless(Reject::BadFormat);
    }
    let Some(opcode) = Opcode::known(header.echo.opcode) else {
        return Verdict::Unknown;
    };
    let shape = opcode.verb.shape();
    let extras_fit = extras_len == shape.extras || (shape.extras_optional && extras_len == 0);
    let value_len = body_len - extras_len - key_len;
    if extras_fit && shape.key.allows(key_len) && shape.value.allows(value_len) {
        Verdict::Good(opcode)
    } else {
        Verdict::Hopeless(Reject::BadFormat)
    }
}

/// Delta, initial number and exptime of an increment or decrement.
fn arithmetic<'a>(
    key: &'a [u8],
    extras: &[u8],
    up: bool,
    compare: Option<Version>,
) -> Arithmetic<'a> {
    let long = |at| u64::from(number(extras, at)) << 32 | u64::from(number(extras, at + 4));
    let exptime = number(extras, 16);
    let initial = (exptime != DO_NOT_CREATE).then(|| (long(8), i64::from(exptime)));
    Arithmetic { key, delta: long(0), up, initial, compare }
}

/// The 32-bit number at `at`; 0 where the extras end before.
fn number(extras: &[u8], at: usize) -> u32 {
    extras
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |&bytes| u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
