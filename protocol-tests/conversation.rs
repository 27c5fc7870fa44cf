//! Conversations: the format of the `*.conv` files. A file reads like a telnet transcript.
//!
//! ```text
//! # a comment; before the first title: `server: -I 2k` for the whole file
//! == A sentence about the server that could be false
//! server: -M                  more flags, for this conversation
//! ours: --udp-allow 10.1.1.1  flags that the oracle does not know
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
use crate::server::Program;
use crate::words::Words;

/// What the lines of a file are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Lines,
    Frames,
}

/// One conversation, of steps that `A` says.
#[derive(Clone, Debug)]
pub(crate) struct Conversation<A = Act> {
    pub(crate) title: String,
    pub(crate) line: usize,
    pub(crate) flags: Vec<String>,
    /// For twincached only.
    own_flags: Vec<String>,
    /// Why the oracle answers otherwise: a heading of divergences.md.
    pub(crate) oracle_differs: Option<String>,
    pub(crate) unsplit: bool,
    pub(crate) steps: Vec<Step<A>>,
}

/// One thing that happens in it.
#[derive(Clone, Debug)]
pub(crate) struct Step<A = Act> {
    pub(crate) line: usize,
    /// Who does it, as an index: 0 unnamed, 1 = A, 2 = B ...
    pub(crate) client: usize,
    pub(crate) act: A,
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
    parse_with(text, |conversation, line, text| {
        if text.starts_with("unsplit: ") {
            conversation.unsplit = true;
        } else {
            conversation.push(line, text, |text| parse_act(text, notation))?;
        }
        Ok(())
    })
}

/// Parses a file's text: titles, flags and marks here, the other lines by `take`.
pub(crate) fn parse_with<A>(
    text: &str,
    take: impl Fn(&mut Conversation<A>, usize, &str) -> Result<(), String>,
) -> Result<Vec<Conversation<A>>, String> {
    let mut file_flags = Vec::new();
    let mut conversations: Vec<Conversation<A>> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let parsed = match (text.strip_prefix("== "), conversations.last_mut()) {
            (Some(title), _) => {
                conversations.push(Conversation::new(title, line, &file_flags));
                Ok(())
            }
            (None, _) if text.is_empty() || text.starts_with('#') => Ok(()),
            (None, Some(conversation)) => match conversation.take_mark(text) {
                true => Ok(()),
                false => take(conversation, line, text),
            },
            (None, None) => match text.strip_prefix("server: ") {
                Some(flags) => {
                    file_flags.extend(split(flags));
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

fn split(flags: &str) -> impl Iterator<Item = String> {
    flags.split_whitespace().map(str::to_string)
}

impl<A> Conversation<A> {
    fn new(title: &str, line: usize, flags: &[String]) -> Conversation<A> {
        Conversation {
            title: title.trim().to_string(),
            line,
            flags: flags.to_vec(),
            own_flags: Vec::new(),
            oracle_differs: None,
            unsplit: false,
            steps: Vec::new(),
        }
    }

    /// Whether `text` says something about the whole conversation.
    fn take_mark(&mut self, text: &str) -> bool {
        if let Some(flags) = text.strip_prefix("server: ") {
            self.flags.extend(split(flags));
        } else if let Some(flags) = text.strip_prefix("ours: ") {
            self.own_flags.extend(split(flags));
        } else if let Some(reason) = text.strip_prefix("oracle: differs - ") {
            self.oracle_differs = Some(reason.trim().to_string());
        } else {
            return false;
        }
        true
    }

    /// Takes a step in: `> x`, `A> x`, `A silence`.
    pub(crate) fn push(
        &mut self,
        line: usize,
        text: &str,
        act: impl FnOnce(&str) -> Result<A, String>,
    ) -> Result<(), String> {
        let (letter, text) = match text.as_bytes() {
            [letter @ b'A'..=b'Z', b'>' | b'<', ..] => (Some(letter), &text[1..]),
            [letter @ b'A'..=b'Z', b' ', ..] => (Some(letter), &text[2..]),
            _ => (None, text),
        };
        let client = letter.map_or(0, |letter| usize::from(letter - b'A') + 1);
        self.steps.push(Step { line, client, act: act(text)? });
        Ok(())
    }

    /// What `program` is started with.
    pub(crate) fn flags_of(&self, program: Program) -> Vec<&str> {
        let own: &[String] = match program {
            Program::Twincached => &self.own_flags,
            Program::Oracle => &[],
        };
        self.flags.iter().chain(own).map(String::as_str).collect()
    }
}

/// The span of `wait 2s`, in seconds.
pub(crate) fn seconds(span: &str) -> Result<u32, String> {
    let seconds = span.strip_suffix('s').and_then(|n| n.parse().ok());
    seconds.ok_or_else(|| "`wait` wants a span such as `2s`".to_string())
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
        ("wait", span) => Act::Wait(seconds(span)?),
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
        assert_eq!(parsed[0].steps[1].client, 1);
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
