//! What a connection speaks: a decoder, and the way in which its requests are answered.

use crate::protocol::binary::{self, HEADER_LEN, REQUEST_MAGIC};
use crate::protocol::response::{Reject, Response};
use crate::protocol::{Manner, Step, text};
use crate::settings::{BindingProtocol, Settings};

/// One protocol, decided for good.
#[derive(Clone, Debug)]
pub(super) enum Speech {
    Text(text::Decoder),
    Binary(binary::Decoder),
}

impl Speech {
    /// What somebody speaks whose first byte is `first`.
    pub(super) fn begin(protocol: BindingProtocol, first: u8, settings: &Settings) -> Speech {
        let (item_size_max, cas) = (settings.item_size_max, settings.cas);
        let text = match protocol {
            BindingProtocol::Auto => first != REQUEST_MAGIC,
            BindingProtocol::Ascii => true,
            BindingProtocol::Binary => false,
        };
        if text {
            Speech::Text(text::Decoder::new(item_size_max, cas))
        } else {
            Speech::Binary(binary::Decoder::new(item_size_max, cas))
        }
    }

    pub(super) fn decode<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        match self {
            Speech::Text(decoder) => decoder.decode(input),
            Speech::Binary(decoder) => decoder.decode(input),
        }
    }

    /// The same of somebody who has not logged in by SASL: anything but a login ends it.
    pub(super) fn decode_outside<'a>(&mut self, input: &'a [u8], settings: &Settings) -> Step<'a> {
        match self {
            Speech::Text(_) => Step::Close { answer: None },
            Speech::Binary(decoder) => {
                let noop_allowed = settings.auth_allow_health_checks;
                decoder.decode_outside(input, noop_allowed)
            }
        }
    }

    /// Whether a refused data block is being skipped.
    pub(super) fn is_swallowing(&self) -> bool {
        match self {
            Speech::Text(decoder) => decoder.is_swallowing(),
            Speech::Binary(decoder) => decoder.is_swallowing(),
        }
    }

    /// Whether part of a data block is waited for.
    pub(super) fn is_in_data(&self) -> bool {
        match self {
            Speech::Text(decoder) => decoder.is_in_data(),
            Speech::Binary(decoder) => decoder.is_in_data(),
        }
    }

    /// The part of a request or a reply that may be logged, whatever the lengths in it say.
    pub(super) fn without_data<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Speech::Text(_) => {
                let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
                bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end])
            }
            Speech::Binary(_) => &bytes[..bytes.len().min(HEADER_LEN)],
        }
    }
}

impl Manner {
    /// Whether it is that of a frame.
    pub(in crate::command) fn is_frame(self) -> bool {
        matches!(self, Manner::Frames(_))
    }

    /// Whether it is that of a frame whose success is not answered.
    pub(in crate::command) fn is_quiet_frame(self) -> bool {
        matches!(self, Manner::Frames(echo) if binary::is_quiet(echo.opcode))
    }

    /// Appends an answer, if it is wanted.
    pub(super) fn write(self, response: &Response, out: &mut Vec<u8>) {
        match self {
            Manner::Lines { noreply: true } => {}
            Manner::Lines { noreply: false } => text::encode::response(response, out),
            Manner::Frames(echo) => binary::encode::response(response, echo, out),
        }
    }

    /// Appends why nothing more is heard.
    pub(super) fn write_refusal(self, reject: Reject, out: &mut Vec<u8>) {
        match self {
            Manner::Lines { .. } => self.write(&reject.into(), out),
            Manner::Frames(echo) => binary::encode::malformed(reject, echo, out),
        }
    }

    /// Appends the last answer to somebody who goes: lines need none.
    pub(super) fn write_farewell(self, out: &mut Vec<u8>) {
        if let Manner::Frames(_) = self {
            self.write(&Response::Ok, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_ends_before_the_data() {
        let settings = Settings::default();
        let speaking = |first| Speech::begin(BindingProtocol::Auto, first, &settings);
        let text = speaking(b's');
        assert_eq!(text.without_data(b"VALUE k 0 6\r\nsecret\r\nEND\r\n"), b"VALUE k 0 6");
        assert_eq!(text.without_data(b"get a\rb\n"), b"get a\rb");
        let binary = speaking(0x80);
        assert_eq!(
            binary.without_data(b"012345678901234567890123secret"),
            b"012345678901234567890123"
        );
        assert_eq!(binary.without_data(b""), b"");
    }
}
