//! Conversations by datagrams: the steps of the `udp/*.conv` files. Titles, flags and marks are those
//! of [`crate::conversation`].
//!
//! ```text
//! > [7] get k                 a datagram: a heading with request id 7, then `get k` and CRLF
//! > [7 sequence=1 total=2 reserved=3] get k    heading fields that are not 0, 1 and 0
//! > [7] set k 0 0 1
//! + v                         more of the same datagram, with CRLF
//! >> [7] get                  as it is, without CRLF; and `++`
//! > [7] binary get key=k      a request of the binary protocol (`crate::frame`)
//! raw \x00\x07                a datagram as it is, without a heading
//! < [7] VALUE k 0 1           expected: a message in one datagram, of these lines
//! + v
//! + END
//! < [7] binary get status=1   expected: a reply; `+ binary ...` is one more in the same message
//! < [7 sizes=1400,33] VALUE   expected in datagrams of these lengths, headings included
//! < [7 sizes=any] STAT {any}  expected in as many as it takes
//! + ...                       any lines, up to one that fits the next `+`
//! + END
//! silence                     nothing more comes than what was expected
//! wait 2s                     our clock is moved, the oracle is waited for
//! A> [7] get k                two clients, A and B
//! ```
//!
//! At a conversation's end every client is heard as by `silence`. Of every message it is checked
//! that its headings count it right, with reserved 0, and that all datagrams but the last are full.

use super::caller::Heading;
use crate::conversation::{self, seconds};
use crate::frame::Frame;
use crate::pattern::Pattern;
use crate::words::Words;

pub(crate) type Conversation = conversation::Conversation<Act>;
pub(crate) type Step = conversation::Step<Act>;

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Heading, Vec<Words>),
    SendRaw(Pattern),
    Expect(u16, Sizes, Vec<Line>),
    Silence,
    Wait(u32),
}

/// How a message is to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    OneDatagram,
    Any,
    These(Vec<usize>),
}

/// A line or frame of an expected message.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    AnyLines,
    Fits(Words),
}

/// Parses a file's text; `Err` names the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Conversation>, String> {
    conversation::parse_with(text, |conversation, line, text| {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        if !["+", "++"].contains(&verb) {
            return conversation.push(line, text, parse_act);
        }
        match conversation.steps.last_mut().map(|step| &mut step.act) {
            Some(Act::Send(_, parts)) => parts.push(words(Frame::request, verb == "+", rest)?),
            Some(Act::Expect(_, _, lines)) => lines.push(expected_line(verb == "+", rest)?),
            _ => return Err("nothing to go on with".to_string()),
        }
        Ok(())
    })
}

fn parse_act(text: &str) -> Result<Act, String> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match verb {
        ">" | ">>" => {
            let (heading, sizes, payload) = bracket(rest)?;
            if sizes != Sizes::OneDatagram {
                return Err("what is sent is one datagram".to_string());
            }
            Act::Send(heading, vec![words(Frame::request, verb == ">", payload)?])
        }
        "<" | "<<" => {
            let (heading, sizes, line) = bracket(rest)?;
            if heading != Heading::of(heading.id) {
                return Err("only `sizes` can be expected".to_string());
            }
            Act::Expect(heading.id, sizes, vec![expected_line(verb == "<", line)?])
        }
        "raw" => Act::SendRaw(Pattern::parse(rest)?),
        "silence" if rest.is_empty() => Act::Silence,
        "wait" => Act::Wait(seconds(rest)?),
        _ => return Err("unknown step".to_string()),
    })
}

/// `[7 total=2 sizes=any] rest`.
fn bracket(text: &str) -> Result<(Heading, Sizes, &str), String> {
    let inside = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    let (inside, rest) = inside.ok_or("a datagram begins with its `[id]`")?;
    let mut fields = inside.split_whitespace();
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no 16-bit number"));
    let mut heading = Heading::of(number(fields.next().unwrap_or_default())?);
    let mut sizes = Sizes::OneDatagram;
    for word in fields {
        match word.split_once('=') {
            Some(("sequence", n)) => heading.sequence = number(n)?,
            Some(("total", n)) => heading.total = number(n)?,
            Some(("reserved", n)) => heading.reserved = number(n)?,
            Some(("sizes", "any")) => sizes = Sizes::Any,
            Some(("sizes", list)) => {
                let list: Result<_, _> = list.split(',').map(str::parse).collect();
                sizes = Sizes::These(list.map_err(|_| format!("bad `{word}`"))?);
            }
            _ => return Err(format!("unknown `{word}`")),
        }
    }
    Ok((heading, sizes, rest.strip_prefix(' ').unwrap_or(rest)))
}

fn words(
    frame: fn(&str) -> Result<Frame, String>,
    line_end: bool,
    text: &str,
) -> Result<Words, String> {
    Ok(match text.strip_prefix("binary ") {
        Some(fields) => Words::Frame(frame(fields)?),
        None => Words::Bytes(Pattern::parse(text)?.then(if line_end { b"\r\n" } else { b"" })),
    })
}

fn expected_line(line_end: bool, text: &str) -> Result<Line, String> {
    Ok(match text {
        "..." => Line::AnyLines,
        text => Line::Fits(words(Frame::reply, line_end, text)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Program;

    #[test]
    fn a_datagram_has_its_headings_fields_and_all_its_lines() {
        let text = "server: -M\n== One\nours: -F\nA> [7 total=2] set k 0 0 1\n+ v\n\
                    A< [7 sizes=1400,9] x\n+ ...\nsilence\n";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed[0].flags_of(Program::Twincached), ["-M", "-F"]);
        assert_eq!(parsed[0].flags_of(Program::Oracle), ["-M"]);
        let [send, expect, silence] = &parsed[0].steps[..] else { panic!("{parsed:?}") };
        assert_eq!((send.client, silence.client), (1, 0));
        let Act::Send(heading, parts) = &send.act else { panic!("{send:?}") };
        assert_eq!((heading.id, heading.total, parts.len()), (7, 2, 2));
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
            "== T\n> [7] binary gte key=k\n",
            "== T\n< [7] binary get exp=1\n",
            "== T\n+ more\n",
            "== T\nsilence\n+ more\n",
            "== T\nwait long\n",
            "== T\n== U\nsilence\n",
        ] {
            assert!(parse(text).unwrap_err().starts_with("line "), "{text}");
        }
    }
}
