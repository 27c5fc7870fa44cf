//! Binary frames, written readably: the `>` and `<` lines of the `binary/*.conv` files.
//!
//! ```text
//! > set key=foo flags=5 exp=0 value=bar opaque=7 cas={c}
//! < set opaque=7 cas={d=number}
//! > 0x30 key=k extras=\x00\x01 bodylen=9        an opcode without a name; lengths that lie
//! < 0x30 status=0x81
//! ```
//!
//! First the opcode's name or its number in hex, then fields in any order; what stands behind `=` is
//! a pattern ([`crate::pattern`]; a space is `\s`), numbers are decimal or `0x` hex.
//!
//! | field | where | left out |
//! |---|---|---|
//! | `key` `value` | both | empty; the value of a failure is upstream's text for its status |
//! | `flags` `exp` `delta` `initial` | requests whose extras have them | 0; `flush` has no extras |
//! | `flags` | replies | no extras |
//! | `extras` | both: all of them, as bytes | from the fields above |
//! | `opaque` | both | made from the opcode, the same in request and reply |
//! | `cas` | both; a wildcard in a reply fits no 0 | 0 |
//! | `status` | replies | 0 |
//! | `number` | replies: the value, as 8 bytes | |
//! | `magic` `datatype` `vbucket` `keylen` `extlen` `bodylen` | requests | what is right |
//!
//! A reply's magic, data type and lengths are always checked. Frames that end early and bytes that
//! are no frames are written as bytes, with `>>` and `<<`.

mod reply;

pub(crate) use reply::{REPLY_MAGIC, reply_length, show, split};

use crate::pattern::{Memory, Pattern};
use reply::Reply;

pub(crate) const HEADER_LEN: usize = 24;
const REQUEST_MAGIC: u64 = 0x80;

/// Name, number, and what a request's extras are made of.
const OPCODES: &[(&str, u8, &[Field])] = &[
    ("get", 0x00, &[]),
    ("set", 0x01, &[Field::Flags, Field::Exp]),
    ("add", 0x02, &[Field::Flags, Field::Exp]),
    ("replace", 0x03, &[Field::Flags, Field::Exp]),
    ("delete", 0x04, &[]),
    ("incr", 0x05, &[Field::Delta, Field::Initial, Field::Exp]),
    ("decr", 0x06, &[Field::Delta, Field::Initial, Field::Exp]),
    ("quit", 0x07, &[]),
    ("flush", 0x08, &[Field::Exp]),
    ("getq", 0x09, &[]),
    ("noop", 0x0a, &[]),
    ("version", 0x0b, &[]),
    ("getk", 0x0c, &[]),
    ("getkq", 0x0d, &[]),
    ("append", 0x0e, &[]),
    ("prepend", 0x0f, &[]),
    ("stat", 0x10, &[]),
    ("setq", 0x11, &[Field::Flags, Field::Exp]),
    ("addq", 0x12, &[Field::Flags, Field::Exp]),
    ("replaceq", 0x13, &[Field::Flags, Field::Exp]),
    ("deleteq", 0x14, &[]),
    ("incrq", 0x15, &[Field::Delta, Field::Initial, Field::Exp]),
    ("decrq", 0x16, &[Field::Delta, Field::Initial, Field::Exp]),
    ("quitq", 0x17, &[]),
    ("flushq", 0x18, &[Field::Exp]),
    ("appendq", 0x19, &[]),
    ("prependq", 0x1a, &[]),
    ("verbosity", 0x1b, &[]),
    ("touch", 0x1c, &[Field::Exp]),
    ("gat", 0x1d, &[Field::Exp]),
    ("gatq", 0x1e, &[Field::Exp]),
    ("sasl_list", 0x20, &[]),
    ("sasl_auth", 0x21, &[]),
    ("sasl_step", 0x22, &[]),
    ("gatk", 0x23, &[Field::Exp]),
    ("gatkq", 0x24, &[Field::Exp]),
];
const FLUSHES: [u8; 2] = [0x08, 0x18];

/// The texts that go with failures.
const FAILURES: &[(u64, &str)] = &[
    (0x01, "Not found"),
    (0x02, "Data exists for key."),
    (0x03, "Too large."),
    (0x04, "Invalid arguments"),
    (0x05, "Not stored."),
    (0x06, "Non-numeric server-side value for incr or decr"),
    (0x20, "Auth failure."),
    (0x81, "Unknown command"),
    (0x82, "Out of memory allocating item"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    Extras,
    Flags,
    Exp,
    Delta,
    Initial,
    Opaque,
    Cas,
    Status,
    Number,
    Magic,
    DataType,
    VBucket,
    KeyLen,
    ExtLen,
    BodyLen,
}

impl Field {
    fn named(name: &str) -> Option<Field> {
        Some(match name {
            "key" => Field::Key,
            "value" => Field::Value,
            "extras" => Field::Extras,
            "flags" => Field::Flags,
            "exp" => Field::Exp,
            "delta" => Field::Delta,
            "initial" => Field::Initial,
            "opaque" => Field::Opaque,
            "cas" => Field::Cas,
            "status" => Field::Status,
            "number" => Field::Number,
            "magic" => Field::Magic,
            "datatype" => Field::DataType,
            "vbucket" => Field::VBucket,
            "keylen" => Field::KeyLen,
            "extlen" => Field::ExtLen,
            "bodylen" => Field::BodyLen,
            _ => return None,
        })
    }

    /// Its width in bytes where it is a number.
    fn width(self) -> Option<usize> {
        match self {
            Field::Key | Field::Value | Field::Extras => None,
            Field::Magic | Field::DataType | Field::ExtLen => Some(1),
            Field::Status | Field::VBucket | Field::KeyLen => Some(2),
            Field::Flags | Field::Exp | Field::Opaque | Field::BodyLen => Some(4),
            Field::Delta | Field::Initial | Field::Cas | Field::Number => Some(8),
        }
    }

    /// Whether a frame of `side` with the opcode's `layout` of extras has it.
    fn belongs(self, side: Side, layout: &[Field]) -> bool {
        match self {
            Field::Key | Field::Value | Field::Extras | Field::Opaque | Field::Cas => true,
            Field::Status | Field::Number => side == Side::Reply,
            Field::Flags if side == Side::Reply => true,
            Field::Flags | Field::Exp | Field::Delta | Field::Initial => {
                side == Side::Request && layout.contains(&self)
            }
            _ => side == Side::Request,
        }
    }
}

/// A frame, as far as a line of a conversation says.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    line: String,
    opcode: u8,
    layout: &'static [Field],
    fields: Vec<(Field, Pattern)>,
}

impl Frame {
    /// Parses a request; `Err` says what is wrong with it.
    pub(crate) fn request(line: &str) -> Result<Frame, String> {
        let frame = Frame::parse(line, Side::Request)?;
        if !frame.needs_memory() && frame.bytes(&Memory::new(), 0).is_none() {
            return Err("a request says exactly what is sent".to_string());
        }
        Ok(frame)
    }

    /// Parses what is expected of a reply.
    pub(crate) fn reply(line: &str) -> Result<Frame, String> {
        let frame = Frame::parse(line, Side::Reply)?;
        let valued = [Field::Value, Field::Number].map(|field| frame.field(field).is_some());
        if valued == [true, true] {
            return Err("`number` is the value: give one of them".to_string());
        }
        Ok(frame)
    }

    fn parse(line: &str, side: Side) -> Result<Frame, String> {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let known = OPCODES.iter().find(|(known, ..)| *known == name);
        let (opcode, layout) = match (known, name.strip_prefix("0x")) {
            (Some(&(_, opcode, layout)), _) => (opcode, layout),
            (None, Some(hex)) => match u8::from_str_radix(hex, 16) {
                Ok(opcode) => (opcode, &[][..]),
                Err(_) => return Err(format!("`{name}` is no opcode: it is one byte in hex")),
            },
            (None, None) => return Err(format!("unknown opcode `{name}`")),
        };
        let mut fields: Vec<(Field, Pattern)> = Vec::new();
        for word in words {
            let (name, text) = word
                .split_once('=')
                .ok_or_else(|| format!("`{word}` is no `field=value` (a space is `\\s`)"))?;
            let field = Field::named(name).ok_or_else(|| format!("unknown field `{name}`"))?;
            if !field.belongs(side, layout) {
                return Err(format!("a {side:?} of this opcode has no `{name}`"));
            }
            if fields.iter().any(|(given, _)| *given == field) {
                return Err(format!("`{name}` twice"));
            }
            let pattern = match field.width() {
                Some(width) => number_pattern(text, width).map_err(|e| format!("{name}: {e}"))?,
                None => Pattern::parse(text)?,
            };
            fields.push((field, pattern));
        }
        let has = |field| fields.iter().any(|(given, _)| *given == field);
        let parts = [Field::Flags, Field::Exp, Field::Delta, Field::Initial];
        if has(Field::Extras) && parts.into_iter().any(has) {
            return Err("`extras` are all of the extras: say no part of them beside".to_string());
        }
        Ok(Frame { line: line.to_string(), opcode, layout, fields })
    }

    fn field(&self, field: Field) -> Option<&Pattern> {
        self.fields.iter().find(|(given, _)| *given == field).map(|(_, pattern)| pattern)
    }

    /// Whether sending it needs something that an earlier answer must have said.
    pub(crate) fn needs_memory(&self) -> bool {
        self.fields.iter().any(|(_, pattern)| pattern.needs_memory())
    }

    /// The bytes to send; `None` when something in it is not known.
    pub(crate) fn bytes(&self, memory: &Memory, now: i64) -> Option<Vec<u8>> {
        let number = |field, default: u64| match self.field(field) {
            None => Some(default),
            Some(pattern) => String::from_utf8(pattern.bytes(memory, now)?).ok()?.parse().ok(),
        };
        let part = |field| match self.field(field) {
            None => Some(Vec::new()),
            Some(pattern) => pattern.bytes(memory, now),
        };
        let mut extras = part(Field::Extras)?;
        let left_out = FLUSHES.contains(&self.opcode) && self.field(Field::Exp).is_none();
        if self.field(Field::Extras).is_none() && !left_out {
            for &field in self.layout {
                push_number(&mut extras, number(field, 0)?, field)?;
            }
        }
        let (key, value) = (part(Field::Key)?, part(Field::Value)?);
        let body_len = extras.len() + key.len() + value.len();
        let mut bytes = Vec::with_capacity(HEADER_LEN + body_len);
        push_number(&mut bytes, number(Field::Magic, REQUEST_MAGIC)?, Field::Magic)?;
        bytes.push(self.opcode);
        for (field, default) in [
            (Field::KeyLen, u64::try_from(key.len()).ok()?),
            (Field::ExtLen, u64::try_from(extras.len()).ok()?),
            (Field::DataType, 0),
            (Field::VBucket, 0),
            (Field::BodyLen, u64::try_from(body_len).ok()?),
            (Field::Opaque, u64::from(usual_opaque(self.opcode))),
            (Field::Cas, 0),
        ] {
            push_number(&mut bytes, number(field, default)?, field)?;
        }
        for part in [extras, key, value] {
            bytes.extend_from_slice(&part);
        }
        Some(bytes)
    }

    /// Whether `answer` is the reply that this line expects; what it names is remembered then.
    pub(crate) fn fits(&self, answer: &[u8], memory: &mut Memory, now: i64) -> bool {
        let Some(reply) = Reply::read(answer) else { return false };
        let mut learned = memory.clone();
        let fits = reply.opcode == self.opcode && self.fits_fields(&reply, &mut learned, now);
        if fits {
            *memory = learned;
        }
        fits
    }

    fn fits_fields(&self, reply: &Reply<'_>, memory: &mut Memory, now: i64) -> bool {
        let mut number = |field, got: u64, default: u64| match self.field(field) {
            None => got == default,
            Some(pattern) => {
                let exact = pattern.exact_answer(memory).is_some();
                let told = exact || field != Field::Cas || got != 0;
                told && pattern.fits(got.to_string().as_bytes(), memory, now)
            }
        };
        let status = u64::from(reply.status);
        let numbers_fit = number(Field::Status, status, 0)
            && number(Field::Opaque, u64::from(reply.opaque), usual_opaque(self.opcode).into())
            && number(Field::Cas, reply.cas, 0)
            && match (self.field(Field::Extras), self.field(Field::Flags), reply.extras) {
                (Some(_), ..) | (None, None, []) => true,
                (None, Some(_), &[a, b, c, d]) => {
                    number(Field::Flags, u32::from_be_bytes([a, b, c, d]).into(), 0)
                }
                _ => false,
            }
            && match (self.field(Field::Number), reply.value) {
                (None, _) => true,
                (Some(_), value) => <[u8; 8]>::try_from(value)
                    .is_ok_and(|bytes| number(Field::Number, u64::from_be_bytes(bytes), 0)),
            };
        let text = FAILURES.iter().find(|(failure, _)| *failure == status);
        let text = text.map_or("", |(_, text)| text).as_bytes();
        let mut bytes = |field, got: &[u8], default: &[u8]| match self.field(field) {
            None => got == default,
            Some(pattern) => pattern.fits(got, memory, now),
        };
        numbers_fit
            && bytes(Field::Extras, reply.extras, reply.extras)
            && bytes(Field::Key, reply.key, b"")
            && (self.field(Field::Number).is_some() || bytes(Field::Value, reply.value, text))
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

/// The bytes of the request that a conversation would write as `line`.
#[track_caller]
pub(crate) fn request(line: &str) -> Vec<u8> {
    let bytes = Frame::request(line).map(|frame| frame.bytes(&Memory::new(), 0));
    bytes.ok().flatten().unwrap_or_else(|| panic!("`{line}` is no request"))
}

/// A number as the pattern of its decimal digits.
fn number_pattern(text: &str, width: usize) -> Result<Pattern, String> {
    if text.contains('{') {
        return Pattern::parse(text);
    }
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let number = number.map_err(|_| format!("`{text}` is no number"))?;
    if width < 8 && number >> (8 * width) != 0 {
        return Err(format!("{text} does not fit into {width} bytes"));
    }
    Pattern::parse(&number.to_string())
}

/// Appends as many low bytes of `number` as `field` is wide; `None` when it is wider.
fn push_number(into: &mut Vec<u8>, number: u64, field: Field) -> Option<()> {
    let bytes = number.to_be_bytes();
    let (high, low) = bytes.split_at(8 - field.width()?);
    into.extend_from_slice(low);
    high.iter().all(|&byte| byte == 0).then_some(())
}

/// The opaque of a frame that names none.
fn usual_opaque(opcode: u8) -> u32 {
    0x0102_0304_u32.wrapping_mul(u32::from(opcode) + 0x51)
}

#[cfg(test)]
mod tests;
