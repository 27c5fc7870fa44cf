//! The words of a conversation: bytes written readably, and patterns for what varies.
//!
//! | written | means |
//! |---|---|
//! | `\r \n \t \0 \s \xNN \\ \{` | that byte (`\s` is a space, for line ends) |
//! | `{text*251}` | `text` that many times |
//! | `{number}` `{word}` `{any}` | digits; no space or line end; anything up to the line end |
//! | `{id=number}` `{id=word}` | the same, and remembers it as `id` |
//! | `{id}` | what was remembered |
//! | `{100-}` | seconds left of 100: expected as that or up to [`CLOCK_SLACK`] fewer |
//! | `{now+100}` | Unix time 100 s from now: sent exactly, expected within [`CLOCK_SLACK`] |
//!
//! A pattern without wildcards is plain bytes. Reading from a socket is not here.

use std::collections::HashMap;

/// Seconds by which a `{now+N}` in an answer may be off: clocks tick once a second, and a busy
/// machine lets a second or two pass between the sending and the storing.
const CLOCK_SLACK: i64 = 4;

/// What a conversation remembers between its lines.
pub(crate) type Memory = HashMap<String, Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Wild(Wild, Option<String>),
    Remembered(String),
    Now(i64),
    Left(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wild {
    Number,
    Word,
    Any,
}

/// One line's worth of bytes and wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

impl Pattern {
    /// Parses the notation above; `Err` says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            match first {
                b'\\' => rest = unescape(tail, &mut plain)?,
                b'{' => {
                    let close = tail.iter().position(|&b| b == b'}').ok_or("`{` without `}`")?;
                    let inside = std::str::from_utf8(&tail[..close]).map_err(|e| e.to_string())?;
                    rest = &tail[close + 1..];
                    if let Some((repeated, count)) = inside.rsplit_once('*') {
                        let count: usize = count.parse().map_err(|_| format!("bad `{inside}`"))?;
                        plain.extend(plain_bytes(repeated)?.repeat(count));
                    } else {
                        push_plain(&mut pieces, &mut plain);
                        pieces.push(parse_wild(inside)?);
                    }
                }
                byte => {
                    plain.push(byte);
                    rest = tail;
                }
            }
        }
        push_plain(&mut pieces, &mut plain);
        Ok(Pattern(pieces))
    }

    /// This pattern and then `bytes`.
    pub(crate) fn then(mut self, bytes: &[u8]) -> Pattern {
        match self.0.last_mut() {
            Some(Piece::Bytes(last)) => last.extend_from_slice(bytes),
            _ => self.0.push(Piece::Bytes(bytes.to_vec())),
        }
        self
    }

    /// Whether sending it needs something that an earlier answer must have said.
    pub(crate) fn needs_memory(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Remembered(_)))
    }

    /// The bytes to send, or to expect exactly; `None` when the pattern has wildcards.
    pub(crate) fn bytes(&self, memory: &Memory, now: i64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Bytes(plain) => bytes.extend_from_slice(plain),
                Piece::Remembered(name) => bytes.extend_from_slice(memory.get(name)?),
                Piece::Now(offset) => {
                    bytes.extend_from_slice((now + offset).to_string().as_bytes())
                }
                Piece::Wild(..) | Piece::Left(_) => return None,
            }
        }
        Some(bytes)
    }

    /// The exact answer this pattern expects, when only one answer will do.
    pub(crate) fn exact_answer(&self, memory: &Memory) -> Option<Vec<u8>> {
        let varies =
            |piece: &Piece| matches!(piece, Piece::Now(_) | Piece::Left(_) | Piece::Wild(..));
        if self.0.iter().any(varies) { None } else { self.bytes(memory, 0) }
    }

    /// How many line feeds an answer to this pattern has.
    pub(crate) fn line_feeds(&self) -> usize {
        let count = |piece: &Piece| match piece {
            Piece::Bytes(plain) => plain.iter().filter(|&&b| b == b'\n').count(),
            _ => 0,
        };
        self.0.iter().map(count).sum()
    }

    /// Whether `answer` fits; what it names is remembered when it does.
    pub(crate) fn fits(&self, answer: &[u8], memory: &mut Memory, now: i64) -> bool {
        let mut learned = memory.clone();
        let fits = fits(&self.0, answer, &mut learned, now);
        if fits {
            *memory = learned;
        }
        fits
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Bytes(plain) => f.write_str(&escape(plain))?,
                Piece::Wild(wild, None) => write!(f, "{{{wild:?}}}")?,
                Piece::Wild(wild, Some(name)) => write!(f, "{{{name}={wild:?}}}")?,
                Piece::Remembered(name) => write!(f, "{{{name}}}")?,
                Piece::Now(offset) => write!(f, "{{now{offset:+}}}")?,
                Piece::Left(seconds) => write!(f, "{{{seconds}-}}")?,
            }
        }
        Ok(())
    }
}

/// `bytes` as a conversation would write them, long runs of one byte folded.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        let one = match run[0] {
            b'\r' => "\\r".to_string(),
            b'\n' => "\\n".to_string(),
            b'\\' => "\\\\".to_string(),
            byte @ 0x20..=0x7e => char::from(byte).to_string(),
            byte => format!("\\x{byte:02x}"),
        };
        if run.len() > 24 {
            text.push_str(&format!("{{{one}*{}}}", run.len()));
        } else {
            text.push_str(&one.repeat(run.len()));
        }
    }
    if text.len() > 1_000 {
        let (head, tail) =
            (text.floor_char_boundary(500), text.floor_char_boundary(text.len() - 400));
        text = format!("{} ...[{} bytes in all]... {}", &text[..head], bytes.len(), &text[tail..]);
    }
    text
}

fn push_plain(pieces: &mut Vec<Piece>, plain: &mut Vec<u8>) {
    if !plain.is_empty() {
        pieces.push(Piece::Bytes(std::mem::take(plain)));
    }
}

fn plain_bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\' {
            rest = unescape(tail, &mut plain)?;
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    Ok(plain)
}

/// Takes one escape (after its backslash) off `rest`.
fn unescape<'a>(rest: &'a [u8], into: &mut Vec<u8>) -> Result<&'a [u8], String> {
    let (&letter, rest) = rest.split_first().ok_or("a line ends in a backslash")?;
    let byte = match letter {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'0' => 0,
        b's' => b' ',
        b'\\' | b'{' => letter,
        b'x' => {
            let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
            let digits = digits.ok_or("`\\x` wants two digits")?;
            into.push(u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?);
            return Ok(&rest[2..]);
        }
        other => return Err(format!("unknown escape `\\{}`", char::from(other))),
    };
    into.push(byte);
    Ok(rest)
}

fn parse_wild(inside: &str) -> Result<Piece, String> {
    if let Some(offset) = inside.strip_prefix("now") {
        let offset = if offset.is_empty() { Ok(0) } else { offset.parse() };
        return offset.map(Piece::Now).map_err(|_| format!("bad `{{{inside}}}`"));
    }
    if let Some(seconds) = inside.strip_suffix('-') {
        return seconds.parse().map(Piece::Left).map_err(|_| format!("bad `{{{inside}}}`"));
    }
    let (name, kind) = match inside.split_once('=') {
        Some((name, kind)) => (Some(name.to_string()), kind),
        None => (None, inside),
    };
    match kind {
        "number" => Ok(Piece::Wild(Wild::Number, name)),
        "word" => Ok(Piece::Wild(Wild::Word, name)),
        "any" => Ok(Piece::Wild(Wild::Any, name)),
        remembered if name.is_none() && remembered.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Ok(Piece::Remembered(remembered.to_string()))
        }
        _ => Err(format!("unknown `{{{inside}}}`")),
    }
}

fn fits(pieces: &[Piece], answer: &[u8], memory: &mut Memory, now: i64) -> bool {
    let Some((piece, pieces)) = pieces.split_first() else { return answer.is_empty() };
    match piece {
        Piece::Bytes(plain) => {
            answer.strip_prefix(&plain[..]).is_some_and(|rest| fits(pieces, rest, memory, now))
        }
        Piece::Remembered(name) => memory.get(name).cloned().is_some_and(|known| {
            answer.strip_prefix(&known[..]).is_some_and(|rest| fits(pieces, rest, memory, now))
        }),
        Piece::Now(offset) => {
            let (seconds, rest) = leading_number(answer);
            seconds.is_some_and(|s| (s - now - offset).abs() <= CLOCK_SLACK)
                && fits(pieces, rest, memory, now)
        }
        Piece::Left(most) => {
            let (seconds, rest) = leading_number(answer);
            seconds.is_some_and(|s| (most - CLOCK_SLACK..=*most).contains(&s))
                && fits(pieces, rest, memory, now)
        }
        Piece::Wild(wild, name) => {
            let longest = match wild {
                Wild::Number => run_length(answer, |b| b.is_ascii_digit()),
                Wild::Word => run_length(answer, |b| !b" \r\n".contains(&b)),
                Wild::Any => run_length(answer, |b| !b"\r\n".contains(&b)),
            };
            let shortest = usize::from(*wild != Wild::Any);
            (shortest..=longest).rev().any(|length| {
                if let Some(name) = name {
                    memory.insert(name.clone(), answer[..length].to_vec());
                }
                fits(pieces, &answer[length..], memory, now)
            })
        }
    }
}

fn leading_number(bytes: &[u8]) -> (Option<i64>, &[u8]) {
    let (digits, rest) = bytes.split_at(run_length(bytes, |b| b.is_ascii_digit()));
    (std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()), rest)
}

fn run_length(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&b| !belongs(b)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, answer: &[u8]) -> bool {
        Pattern::parse(pattern).unwrap().fits(answer, &mut Memory::new(), 1_000)
    }

    #[test]
    fn escapes_and_repeats_are_the_bytes_they_name() {
        let bytes = |text| Pattern::parse(text).unwrap().bytes(&Memory::new(), 0).unwrap();
        assert_eq!(bytes("a\\r\\n\\0\\xff\\s\\\\\\{"), b"a\r\n\0\xff \\{");
        assert_eq!(bytes("x{ab*3}{\\x00*2}y"), b"xababab\0\0y");
        assert_eq!(bytes("{now+5}"), b"5");
    }

    #[test]
    fn a_wildcard_fits_only_its_kind() {
        assert!(fits("STAT pid {number}", b"STAT pid 77"));
        assert!(!fits("STAT pid {number}", b"STAT pid "));
        assert!(!fits("STAT pid {number}", b"STAT pid 7a"));
        assert!(fits("key={word} exp={any}", b"key=a exp="));
        assert!(!fits("{word}", b"a b"));
        assert!(!fits("{any}", b"a\r"));
        assert!(fits("{now+10}", b"1012"));
        assert!(!fits("{now+10}", b"1020"));
        assert!(fits("t{100-} W", b"t100 W") && fits("t{100-}", b"t98"));
        assert!(!fits("t{100-}", b"t101") && !fits("t{100-}", b"t90") && !fits("t{100-}", b"t-1"));
    }

    #[test]
    fn what_is_remembered_must_come_back_the_same() {
        let mut memory = Memory::new();
        assert!(Pattern::parse("{id=number} x").unwrap().fits(b"42 x", &mut memory, 0));
        assert!(Pattern::parse("{id}").unwrap().fits(b"42", &mut memory, 0));
        assert!(!Pattern::parse("{id}").unwrap().fits(b"43", &mut memory, 0));
        assert!(!Pattern::parse("{other}").unwrap().fits(b"42", &mut memory, 0));
    }

    #[test]
    fn a_typing_error_in_a_conversation_is_refused() {
        for wrong in ["\\q", "{a", "{a*b}", "{x=digits}", "{now?}", "tail\\"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
