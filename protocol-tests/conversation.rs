//! Conversations: the format of the `*.conv` files. A file reads like a telnet transcript.
//!
//! ```text
//! # a comment; before the first title: `server: -I 2k` for the whole file
//! == A sentence about the server that could be false
//! server: -M                  more flags, for this conversation
//! oracle: differs - <reason>  the oracle answers otherwise; divergences.md lists it under <reason>
//! unsplit: <why>              never resend this with its bytes cut or glued otherwise
//! > get k                     sent with CRLF; see the pattern module for escapes
//! >> get                      sent as it is, without CRLF
//! < END                       expected with CRLF
//! << EN                       expected as it is
//! < ...                       any lines, up to one that fits the next `<`
//! <! STAT idle_kicks {any}    ... none of which may fit this
//! silence                     nothing arrives: a `version` is answered by its own answer at once
//! closed                      the server closes the connection, without a byte
//! half-close                  this side sends no more
//! leave                       this connection is not probed at the end
//! ended                       the server process ends by itself, with status 0
//! wait 2s                     our clock is moved, the oracle is waited for
//! A> get k                    two connections, A and B (`A closed`, `B silence` ...)
//! B< END
//! ```
//!
//! In a file of binary conversations `>`, `<` and `<!` are followed by a frame ([`crate::frame`]) and
//! `< ...` stands for any frames; `>>` and `<<` are bytes there, too, for what is no frame and for
//! clients that speak text. A client whose first byte was 0x80 is probed by `noop`, unless `-B ascii`.
//!
//! Each conversation has a server of its own. At its end every open connection is probed as by
//! `silence`, so no answer may say more than was expected. The running is in [`crate::run`].

use crate::frame::Frame;
use crate::pattern::Pattern;
use crate::words::Words;

/// What the lines of a file are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Lines,
    Frames,
}

/// One conversation.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) title: String,
    pub(crate) line: usize,
    pub(crate) flags: Vec<String>,
    /// Why the oracle answers otherwise: a heading of divergences.md.
    pub(crate) oracle_differs: Option<String>,
    pub(crate) unsplit: bool,
    pub(crate) steps: Vec<Step>,
}

/// One line of it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    /// Which connection, as an index: 0 unnamed, 1 = A, 2 = B ...
    pub(crate) connection: usize,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Words),
    Expect(Words),
    AnyLines,
    Never(Words),
    Silence,
    Closed,
    HalfClose,
    Leave,
    Ended,
    Wait(u32),
}

/// Parses a file's text; `Err` names the line.
pub(crate) fn parse(text: &str, notation: Notation) -> Result<Vec<Conversation>, String> {
    let mut file_flags = Vec::new();
    let mut conversations: Vec<Conversation> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let parsed = match (text.strip_prefix("== "), conversations.last_mut()) {
            (Some(title), _) => {
                let (title, flags) = (title.trim().to_string(), file_flags.clone());
                let (oracle_differs, unsplit, steps) = (None, false, Vec::new());
                let new = Conversation { title, line, flags, oracle_differs, unsplit, steps };
                conversations.push(new);
                Ok(())
            }
            (None, Some(conversation)) => conversation.take(line, text, notation),
            (None, None) => match text.strip_prefix("server: ") {
                Some(flags) => {
                    file_flags.extend(flags.split_whitespace().map(str::to_string));
                    Ok(())
                }
                None if text.is_empty() || text.starts_with('#') => Ok(()),
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

impl Conversation {
    fn take(&mut self, line: usize, text: &str, notation: Notation) -> Result<(), String> {
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        if let Some(flags) = text.strip_prefix("server: ") {
            self.flags.extend(flags.split_whitespace().map(str::to_string));
        } else if let Some(reason) = text.strip_prefix("oracle: differs - ") {
            self.oracle_differs = Some(reason.trim().to_string());
        } else if text.starts_with("unsplit: ") {
            self.unsplit = true;
        } else {
            let (connection, text) = connection_of(text);
            self.steps.push(Step { line, connection, act: parse_act(text, notation)? });
        }
        Ok(())
    }
}

/// Takes a connection's letter off: `A> x`, `A closed`.
fn connection_of(text: &str) -> (usize, &str) {
    match text.as_bytes() {
        [letter @ b'A'..=b'Z', b'>' | b'<', ..] => (usize::from(letter - b'A') + 1, &text[1..]),
        [letter @ b'A'..=b'Z', b' ', ..] => (usize::from(letter - b'A') + 1, &text[2..]),
        _ => (0, text),
    }
}

fn parse_act(text: &str, notation: Notation) -> Result<Act, String> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words = |frame: fn(&str) -> Result<Frame, String>| {
        Ok::<_, String>(match notation {
            Notation::Lines => Words::Bytes(Pattern::parse(rest)?.then(b"\r\n")),
            Notation::Frames => Words::Frame(frame(rest)?),
        })
    };
    Ok(match (verb, rest) {
        (">", _) => Act::Send(words(Frame::request)?),
        (">>", raw) => Act::Send(Words::Bytes(Pattern::parse(raw)?)),
        ("<", "...") => Act::AnyLines,
        ("<", _) => Act::Expect(words(Frame::reply)?),
        ("<<", raw) => Act::Expect(Words::Bytes(Pattern::parse(raw)?)),
        ("<!", _) => Act::Never(words(Frame::reply)?),
        ("silence", "") => Act::Silence,
        ("closed", "") => Act::Closed,
        ("half-close", "") => Act::HalfClose,
        ("leave", "") => Act::Leave,
        ("ended", "") => Act::Ended,
        ("wait", span) => {
            let seconds = span.strip_suffix('s').and_then(|n| n.parse().ok());
            Act::Wait(seconds.ok_or("`wait` wants a span such as `2s`")?)
        }
        _ => return Err("unknown step".to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_has_its_files_flags_and_its_own() {
        let text = "# all\nserver: -M\n\n== One\nserver: -I 2k\nA> get k\nA< END\nwait 2s\n";
        let parsed = parse(text, Notation::Lines).unwrap();
        assert_eq!(parsed[0].title, "One");
        assert_eq!(parsed[0].flags, ["-M", "-I", "2k"]);
        assert_eq!(parsed[0].steps.len(), 3);
        assert_eq!(parsed[0].steps[1].connection, 1);
        assert!(matches!(parsed[0].steps[2].act, Act::Wait(2)));
    }

    #[test]
    fn a_line_that_means_nothing_is_refused_with_its_number() {
        for text in ["stray\n", "== T\n< a\nfoo\n", "== T\nwait long\n", "== T\n== U\n< a\n"] {
            let wrong = parse(text, Notation::Lines).unwrap_err();
            assert!(wrong.starts_with("line "), "{text}");
        }
        let wrong = parse("== T\n> get key=k\n< gte\n", Notation::Frames).unwrap_err();
        assert_eq!(wrong, "line 3: unknown opcode `gte`: < gte");
    }
}
