//! Meta commands with all kinds of flags, well-formed enough to be understood most of the time.

use super::choices::Choices;
use super::client::Plan;
use super::text::{assert_same, is_of_the_moment};
use crate::settings::BindingProtocol;

const VERBS: [&str; 9] = ["mg", "mg", "ms", "ms", "ms", "md", "ma", "me", "mn"];
const KEYS: [&str; 8] = ["a", "b", "number", "YQ==", "/wAK", "a=", "k\r", ""];
/// `O` is not among them: every command has one of its own.
const FLAGS: &[u8] = b"bfhkqstcvluTNRCEFJDMIxPLzS";
const ARGUMENTS: [&str; 10] =
    ["", "0", "1", "30", "-1", "18446744073709551615", "99999999999", "I", "D", "A"];

/// Meta commands, and at their end the one that is always answered.
pub fn meta(input: &[u8]) {
    let mut choices = Choices::new(input);
    let plan = Plan::read(&mut choices, BindingProtocol::Ascii);
    let mut script = Script::default();
    while !choices.is_over() {
        script.command(&mut choices);
    }
    script.stream.extend_from_slice(b"mn\r\n");
    let [in_one, in_many] = plan.hear_twice(&script.stream);
    if !is_of_the_moment(&script.stream) {
        assert_same(&in_one, &in_many);
    }
    let last_is_heard = in_one.answers.ends_with(b"MN\r\n")
        || in_one.answers.ends_with(b"CLIENT_ERROR unauthenticated\r\n");
    let may_be_lost = script.data_is_wrong || plan.demands_frames() || in_one.end.is_some();
    assert!(last_is_heard || may_be_lost, "the last is not heard");
    script.check(&in_one.answers);
}

/// A stream of commands, numbered by their opaques.
#[derive(Debug, Default)]
struct Script {
    stream: Vec<u8>,
    /// The flags of each command.
    flags: Vec<Vec<u8>>,
    /// A data block was not as long as declared.
    data_is_wrong: bool,
}

impl Script {
    fn command(&mut self, choices: &mut Choices<'_>) {
        let verb = choices.pick(&VERBS);
        let key = match choices.below(16) {
            0 => "k".repeat(usize::from(choices.byte()) + 20),
            _ => choices.pick(&KEYS).to_owned(),
        };
        let value = match choices.below(8) {
            0 => vec![b'x'; usize::from(choices.short())],
            1 => choices.byte().to_string().into_bytes(),
            _ => vec![b'x'; usize::from(choices.below(40))],
        };
        let mut line = format!("{verb} {key}");
        if verb == "ms" {
            let declared = match choices.below(32) {
                0 => usize::from(choices.short()),
                _ => value.len(),
            };
            self.data_is_wrong |= declared != value.len();
            line.push_str(&format!(" {declared}"));
        }
        let mut letters = Vec::new();
        for _ in 0..choices.below(8) {
            let letter = choices.pick(FLAGS);
            letters.push(letter);
            line.push_str(&format!(" {}{}", char::from(letter), choices.pick(&ARGUMENTS)));
        }
        line.push_str(&format!(" O{}", self.flags.len()));
        letters.push(b'O');
        self.flags.push(letters);
        self.stream.extend_from_slice(line.as_bytes());
        self.stream.extend_from_slice(b"\r\n");
        if verb == "ms" {
            self.stream.extend_from_slice(&value);
            self.stream.extend_from_slice(b"\r\n");
            // Without a key or with one that ends the line it is no ms, and the data is a line.
            self.data_is_wrong |= key.is_empty();
        }
    }

    /// Answers come in the order of the commands, their flags in the order asked for.
    fn check(&self, answers: &[u8]) {
        let mut earliest = 0;
        for line in answers.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
            let before_flags = match words[0] {
                b"VA" => 2,
                b"HD" | b"EN" | b"NF" | b"NS" | b"EX" => 1,
                _ => continue,
            };
            let flags = &words[before_flags.min(words.len())..];
            let Some(number) = flags.iter().find_map(|flag| opaque(flag)) else { continue };
            assert!(number >= earliest, "{number} is answered late: {}", answers.escape_ascii());
            earliest = number + 1;
            let asked = self.flags.get(number).expect("nobody else's opaque");
            let mut rest = asked.iter();
            for flag in flags.iter().filter(|flag| ![&b"W"[..], b"X", b"Z", b"b"].contains(flag)) {
                let in_order = rest.any(|letter| flag.first() == Some(letter));
                assert!(in_order, "flags out of order: {}", line.escape_ascii());
            }
        }
    }
}

fn opaque(flag: &[u8]) -> Option<usize> {
    std::str::from_utf8(flag.strip_prefix(b"O")?).ok()?.parse().ok()
}
