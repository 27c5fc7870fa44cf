//! Conversations by datagrams: the format of the `udp/*.conv` files, after that of
//! [`crate::conversation`].
//!
//! ```text
//! # a comment; before the first title: `server: -I 2k` for the whole file
//! == A sentence about the server that could be false
//! server: -M                  more flags, for this conversation
//! ours: --udp-allow 10.1.1.1  flags that the oracle does not know
//! oracle: differs - <reason>  the oracle answers otherwise; divergences.md lists it under <reason>
//! > [7] get k                 a datagram: a frame with request id 7, then `get k` and CRLF
//! > [7 sequence=1 total=2 reserved=3] get k    frame fields that are not 0, 1 and 0
//! > [7] set k 0 0 1
//! + v                         more of the same datagram, with CRLF
//! >> [7] get                  as it is, without CRLF; and `++`
//! > [7] binary get key=k      a frame of the binary protocol; see the wire module
//! raw \x00\x07                a datagram as it is, without a frame
//! < [7] VALUE k 0 1           expected: a message in one datagram, of these lines
//! + v
//! + END
//! < [7 sizes=1400,33] VALUE   expected in datagrams of these lengths, frames included
//! < [7 sizes=any] STAT {any}  expected in as many as it takes
//! + ...                       any lines, up to one that fits the next `+`
//! + END
//! silence                     nothing more comes than what was expected
//! wait 2s                     our clock is moved, the oracle is waited for
//! A> [7] get k                two clients, A and B
//! ```
//!
//! At a conversation's end every client is heard as by `silence`. Of every message it is checked
//! that its frames count it right, with reserved 0, and that all datagrams but the last are full.

use super::caller::Frame;
use crate::pattern::Pattern;

/// One conversation.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) title: String,
    pub(crate) line: usize,
    pub(crate) flags: Vec<String>,
    /// For twincached only.
    pub(crate) own_flags: Vec<String>,
    /// Why the oracle answers otherwise: a heading of divergences.md.
    pub(crate) oracle_differs: Option<String>,
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens in it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    /// Which client, as an index: 0 unnamed, 1 = A, 2 = B ...
    pub(crate) client: usize,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Frame, Vec<Part>),
    SendRaw(Pattern),
    Expect(u16, Sizes, Vec<Line>),
    Silence,
    Wait(u32),
}

/// A part of a payload.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Bytes(Pattern),
    Binary(Pattern),
}

/// How a message is to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    OneDatagram,
    Any,
    These(Vec<usize>),
}

/// A line of an expected message.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    AnyLines,
    Fits(Pattern),
}

/// Parses a file's text; `Err` names the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Conversation>, String> {
    let mut file_flags = Vec::new();
    let mut conversations: Vec<Conversation> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let parsed = match (text.strip_prefix("== "), conversations.last_mut()) {
            (Some(title), _) => {
                let (title, flags) = (title.trim().to_string(), file_flags.clone());
                let (own_flags, oracle_differs, steps) = (Vec::new(), None, Vec::new());
                let new = Conversation { title, line, flags, own_flags, oracle_differs, steps };
                conversations.push(new);
                Ok(())
            }
            (None, _) if text.is_empty() || text.starts_with('#') => Ok(()),
            (None, Some(conversation)) => conversation.take(line, text),
            (None, None) => match text.strip_prefix("server: ") {
                Some(flags) => {
                    file_flags.extend(words(flags));
                    Ok(())
                }
                None => Err("neither comment nor title".to_string()),
            },
        };
        parsed.map_err(|wrong| format!("line {line}: {wrong}: {text}"))?;
    }
    match conversations.iter().find(|conversation| conversation.steps.is_empty()) {
        Some(empty) => Err(format!("line {}: nothing happens in it", empty.line)),
        None => Ok(conversations),
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_string)
}

impl Conversation {
    fn take(&mut self, line: usize, text: &str) -> Result<(), String> {
        if let Some(flags) = text.strip_prefix("server: ") {
            self.flags.extend(words(flags));
        } else if let Some(flags) = text.strip_prefix("ours: ") {
            self.own_flags.extend(words(flags));
        } else if let Some(reason) = text.strip_prefix("oracle: differs - ") {
            self.oracle_differs = Some(reason.trim().to_string());
        } else if let (verb @ ("+" | "++"), rest) = text.split_once(' ').unwrap_or((text, "")) {
            let last = self.steps.last_mut().ok_or("nothing to go on with")?;
            match &mut last.act {
                Act::Send(_, parts) => parts.push(part(verb == "+", rest)?),
                Act::Expect(_, _, lines) => lines.push(expected_line(verb == "+", rest)?),
                _ => return Err("nothing to go on with".to_string()),
            }
        } else {
            let (client, text) = client_of(text);
            self.steps.push(Step { line, client, act: parse_act(text)? });
        }
        Ok(())
    }
}

/// Takes a client's letter off: `A> [1] x`, `A silence`.
fn client_of(text: &str) -> (usize, &str) {
    match text.as_bytes() {
        [letter @ b'A'..=b'Z', b'>' | b'<', ..] => (usize::from(letter - b'A') + 1, &text[1..]),
        [letter @ b'A'..=b'Z', b' ', ..] => (usize::from(letter - b'A') + 1, &text[2..]),
        _ => (0, text),
    }
}

fn parse_act(text: &str) -> Result<Act, String> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match verb {
        ">" | ">>" => {
            let (frame, sizes, payload) = bracket(rest)?;
            if sizes != Sizes::OneDatagram {
                return Err("what is sent is one datagram".to_string());
            }
            Act::Send(frame, vec![part(verb == ">", payload)?])
        }
        "<" | "<<" => {
            let (frame, sizes, line) = bracket(rest)?;
            if frame != Frame::of(frame.id) {
                return Err("only `sizes` can be expected".to_string());
            }
            Act::Expect(frame.id, sizes, vec![expected_line(verb == "<", line)?])
        }
        "raw" => Act::SendRaw(Pattern::parse(rest)?),
        "silence" if rest.is_empty() => Act::Silence,
        "wait" => {
            let seconds = rest.strip_suffix('s').and_then(|n| n.parse().ok());
            Act::Wait(seconds.ok_or("`wait` wants a span such as `2s`")?)
        }
        _ => return Err("unknown step".to_string()),
    })
}

/// `[7 total=2 sizes=any] rest`.
fn bracket(text: &str) -> Result<(Frame, Sizes, &str), String> {
    let inside = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    let (inside, rest) = inside.ok_or("a datagram begins with its `[id]`")?;
    let mut words = inside.split_whitespace();
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no 16-bit number"));
    let mut frame = Frame::of(number(words.next().unwrap_or_default())?);
    let mut sizes = Sizes::OneDatagram;
    for word in words {
        match word.split_once('=') {
            Some(("sequence", n)) => frame.sequence = number(n)?,
            Some(("total", n)) => frame.total = number(n)?,
            Some(("reserved", n)) => frame.reserved = number(n)?,
            Some(("sizes", "any")) => sizes = Sizes::Any,
            Some(("sizes", list)) => {
                let list: Result<_, _> = list.split(',').map(str::parse).collect();
                sizes = Sizes::These(list.map_err(|_| format!("bad `{word}`"))?);
            }
            _ => return Err(format!("unknown `{word}`")),
        }
    }
    Ok((frame, sizes, rest.strip_prefix(' ').unwrap_or(rest)))
}

fn part(line_end: bool, text: &str) -> Result<Part, String> {
    Ok(match text.strip_prefix("binary ") {
        Some(words) => Part::Binary(Pattern::parse(words)?),
        None => Part::Bytes(Pattern::parse(text)?.then(if line_end { b"\r\n" } else { b"" })),
    })
}

fn expected_line(line_end: bool, text: &str) -> Result<Line, String> {
    Ok(match text {
        "..." => Line::AnyLines,
        text => Line::Fits(Pattern::parse(text)?.then(if line_end { b"\r\n" } else { b"" })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_has_its_frames_fields_and_all_its_lines() {
        let text = "server: -M\n== One\nours: -F\nA> [7 total=2] set k 0 0 1\n+ v\n\
                    A< [7 sizes=1400,9] x\n+ ...\nsilence\n";
        let parsed = parse(text).unwrap();
        assert_eq!(
            (parsed[0].flags.join(" "), parsed[0].own_flags.join(" ")),
            ("-M".into(), "-F".into())
        );
        let [send, expect, silence] = &parsed[0].steps[..] else { panic!("{parsed:?}") };
        assert_eq!((send.client, silence.client), (1, 0));
        let Act::Send(frame, parts) = &send.act else { panic!("{send:?}") };
        assert_eq!((frame.id, frame.total, parts.len()), (7, 2, 2));
        let Act::Expect(7, Sizes::These(sizes), lines) = &expect.act else { panic!("{expect:?}") };
        assert_eq!((sizes.as_slice(), lines.len()), (&[1400, 9][..], 2));
    }

    #[test]
    fn a_line_that_means_nothing_is_refused_with_its_number() {
        for text in [
            "stray\n",
            "== T\n> get k\n",
            "== T\n> [x] get k\n",
            "== T\n> [7 size=1] get k\n",
            "== T\n> [7 sizes=9] get k\n",
            "== T\n< [7 total=2] END\n",
            "== T\n+ more\n",
            "== T\nsilence\n+ more\n",
            "== T\nwait long\n",
            "== T\n== U\nsilence\n",
        ] {
            assert!(parse(text).unwrap_err().starts_with("line "), "{text}");
        }
    }
}
