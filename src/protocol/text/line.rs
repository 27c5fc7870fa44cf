//! Framing: where a request ends.
//!
//! Picture a reader with a finger on the text: the decoder remembers how far it has looked for a
//! line end, how many bytes the request at the front needs, and how many bytes of a refused data
//! block are still to be skipped. Nothing else; the bytes themselves stay with the caller, who
//! shows them again, with more behind them, until they have been consumed. So no byte is searched
//! twice, however small the pieces in which it comes.
//!
//! Rules: COMPATIBILITY section 1 (lines) and 3 (data blocks), which are memcached 1.6.45's.

use memchr::memchr;

use super::classic::{self, Line, StorageLine};
use super::meta::MetaSetLine;
use crate::item::size_of;
use crate::limits::{GET_LINE_MAX, LINE_WITHOUT_LF_MAX};
use crate::protocol::meta::MetaSet;
use crate::protocol::request::{Block, Request, Storage};
use crate::protocol::response::Reject;
use crate::protocol::{Manner, Step};

/// The shortest line that is looked at, its end included.
const LINE_MIN: usize = 4;
/// Spaces before `get ` that keep the right to a long line.
const SPACES_BEFORE_GET_MAX: usize = 100;

/// Cuts a text stream into requests.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The largest item, as [`size_of`] counts.
    item_size_max: usize,
    /// Whether items carry a cas unique, which counts as part of the item.
    cas: bool,
    /// Bytes at the front that hold no LF.
    scanned: usize,
    /// Bytes that the request at the front needs; 0 when that is not known.
    needed: usize,
    /// Bytes of a refused data block still to be skipped.
    swallow: usize,
}

impl Decoder {
    /// A decoder for items of at most `item_size_max` bytes, with or without cas uniques.
    #[must_use]
    pub fn new(item_size_max: usize, cas: bool) -> Decoder {
        Decoder { item_size_max, cas, scanned: 0, needed: 0, swallow: 0 }
    }

    /// Whether a data block is being skipped.
    #[must_use]
    pub fn is_swallowing(&self) -> bool {
        self.swallow > 0
    }

    /// Whether a storage line has come and its data block has not.
    #[must_use]
    pub fn is_in_data(&self) -> bool {
        self.needed > 0
    }

    /// What is at the front of `input`: the bytes not consumed before, followed by those that
    /// came since.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        if self.swallow > 0 && !input.is_empty() {
            let consumed = self.swallow.min(input.len());
            self.swallow -= consumed;
            return Step::Skip { consumed };
        }
        if input.len() < self.needed {
            return Step::Wait { at_least: self.needed };
        }
        let unseen = input.get(self.scanned..).unwrap_or_default();
        let Some(lf) = memchr(b'\n', unseen) else {
            return self.without_line_end(input);
        };
        let line_end = self.scanned + lf;
        if line_end > GET_LINE_MAX {
            return Step::Close { answer: Some((Reject::LineTooLong, Manner::ANSWERED)) };
        }
        let line = &input[..line_end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let consumed = line_end + 1;
        if consumed < LINE_MIN {
            return self.reject(consumed, Reject::BadFormat, Manner::ANSWERED);
        }
        match classic::parse(line) {
            Line::Request { request, noreply } => {
                self.next_request();
                Step::Request { consumed, request, manner: Manner::Lines { noreply } }
            }
            Line::Storage(line) => {
                let StorageLine { key, mode, flags, exptime, compare, value_len, noreply } = line;
                let data = Data { header_len: consumed, value_len, key_len: key.len(), flags };
                self.with_data(input, &data, Manner::Lines { noreply }, |block| {
                    Request::Store(Storage { key, mode, flags, exptime, compare, block })
                })
            }
            Line::MetaSet(MetaSetLine { meta, mode, value_len }) => {
                let key_len = meta.key.bytes.len();
                let flags = meta.options.client_flags;
                let data = Data { header_len: consumed, value_len, key_len, flags };
                self.with_data(input, &data, Manner::ANSWERED, |block| {
                    Request::MetaSet(MetaSet { meta, mode, block })
                })
            }
            Line::Reject { reject, noreply, swallow } => {
                self.swallow = swallow;
                self.reject(consumed, reject, Manner::Lines { noreply })
            }
            Line::Hangup => Step::Close { answer: None },
        }
    }

    /// The front has been consumed.
    fn next_request(&mut self) {
        self.scanned = 0;
        self.needed = 0;
    }

    fn reject(&mut self, consumed: usize, reject: Reject, manner: Manner) -> Step<'static> {
        self.next_request();
        Step::Reject { consumed, reject, manner }
    }

    fn without_line_end(&mut self, input: &[u8]) -> Step<'static> {
        self.scanned = input.len();
        if input.len() > GET_LINE_MAX {
            return Step::Close { answer: Some((Reject::LineTooLong, Manner::ANSWERED)) };
        }
        if input.len() > LINE_WITHOUT_LF_MAX && !may_be_long(input) {
            return Step::Close { answer: None };
        }
        Step::Wait { at_least: input.len() + 1 }
    }

    /// A storage line and as much of its data block as has come.
    fn with_data<'a>(
        &mut self,
        input: &'a [u8],
        data: &Data,
        manner: Manner,
        request: impl FnOnce(Block<'a>) -> Request<'a>,
    ) -> Step<'a> {
        let Data { header_len, value_len, key_len, flags } = *data;
        let block_len = value_len + b"\r\n".len();
        if size_of(key_len, value_len, flags, self.cas) > self.item_size_max {
            self.swallow = block_len;
            self.next_request();
            return Step::Request {
                consumed: header_len,
                request: request(Block::TooLarge),
                manner,
            };
        }
        let consumed = header_len + block_len;
        let Some(block) = input.get(header_len..consumed) else {
            self.scanned = header_len - 1;
            self.needed = consumed;
            return Step::Wait { at_least: consumed };
        };
        let block = match block.split_at(value_len) {
            (value, b"\r\n") => Block::Value(value),
            _ => Block::Unterminated,
        };
        self.next_request();
        Step::Request { consumed, request: request(block), manner }
    }
}

/// What a storage line says of the bytes behind it and of the item they become.
struct Data {
    /// The line's length.
    header_len: usize,
    value_len: usize,
    key_len: usize,
    flags: u32,
}

/// Whether the line that begins with `start` may be longer than [`LINE_WITHOUT_LF_MAX`]: a
/// multi-get has as many keys as its client likes.
fn may_be_long(start: &[u8]) -> bool {
    let spaces = start.iter().take_while(|&&byte| byte == b' ').count();
    let command = &start[spaces..];
    spaces <= SPACES_BEFORE_GET_MAX
        && (command.starts_with(b"get ") || command.starts_with(b"gets "))
}

#[cfg(test)]
mod tests;
