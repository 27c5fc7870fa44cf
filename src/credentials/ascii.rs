//! How a text client logs in (`-Y`): its first command is a `set` of any key, and the value is
//! `user password` (COMPATIBILITY section 13).
//!
//! [`first_command`] is asked for each command until one has logged the client in. It looks at
//! bytes only: no other command, in no other protocol, is understood here, so none can slip
//! through. `set` must be the whole word: memcached 1.6.45 takes `setfoo` for it.

use super::Users;
use crate::limits::{AUTH_TOKEN_MAX, LINE_WITHOUT_LF_MAX, VERSION};

/// A shorter line, without its LF, cannot be a login: the connection ends. So do clients that
/// speak another protocol.
const LINE_MIN: usize = 6;

/// What balancers send to see whether a server lives.
const HEALTH_COMMANDS: [(&[u8], Reply); 2] = [(b"version", Reply::Version), (b"mn", Reply::Nop)];

/// Whether `version` and `mn` are answered before the login (`--auth-allow-health-checks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChecks {
    /// As memcached: balancers need credentials.
    Refused,
    /// They are answered. Nothing else is.
    Allowed,
}

/// What the bytes at the front of the input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstCommand {
    /// Not yet a whole command: ask again with `at_least` bytes.
    Incomplete {
        /// Length of input below which asking again would be useless.
        at_least: usize,
    },
    /// A command: `consumed` bytes are done with, and this is the reply.
    Answered {
        /// Bytes of the input that are done with.
        consumed: usize,
        /// What to say.
        reply: Reply,
    },
    /// Nothing that could become a login: close without a reply.
    Close,
}

/// What a client is told before it has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The login succeeded: from the next byte on every command is heard.
    Stored,
    /// A login with a wrong name or password.
    Failure,
    /// Not a login.
    Unauthenticated,
    /// A login that declares more than [`AUTH_TOKEN_MAX`] bytes; they are not waited for.
    TokenTooLong,
    /// A login without a space between user and password.
    BadToken,
    /// A login whose value is not followed by CRLF.
    BadTermination,
    /// A health check's `version`.
    Version,
    /// A health check's `mn`.
    Nop,
}

impl Reply {
    /// Appends the line that the client gets.
    pub fn write(self, out: &mut Vec<u8>) {
        let text = match self {
            Reply::Stored => "STORED",
            Reply::Failure => "CLIENT_ERROR authentication failure",
            Reply::Unauthenticated => "CLIENT_ERROR unauthenticated",
            Reply::TokenTooLong => "CLIENT_ERROR auth token too long",
            Reply::BadToken => "CLIENT_ERROR bad authentication token format",
            Reply::BadTermination => "CLIENT_ERROR bad command line termination",
            Reply::Version => {
                out.extend_from_slice(b"VERSION ");
                VERSION
            }
            Reply::Nop => "MN",
        };
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Understands the command at the front of `input` from a client that has not logged in.
#[must_use]
pub fn first_command(input: &[u8], users: &Users, health_checks: HealthChecks) -> FirstCommand {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > LINE_WITHOUT_LF_MAX {
            FirstCommand::Close
        } else {
            FirstCommand::Incomplete { at_least: input.len() + 1 }
        };
    };
    let (line, after) = (&input[..end], end + 1);
    let answer = |reply| FirstCommand::Answered { consumed: after, reply };
    let mut fields = line.strip_suffix(b"\r").unwrap_or(line).split(|byte| *byte == b' ');
    let command = fields.next().unwrap_or_default();
    if health_checks == HealthChecks::Allowed
        && let Some((_, reply)) = HEALTH_COMMANDS.iter().find(|(name, _)| *name == command)
    {
        return answer(*reply);
    }
    if line.len() < LINE_MIN {
        return FirstCommand::Close;
    }
    let declared = fields.filter(|field| !field.is_empty()).nth(3).and_then(decimal);
    let Some(length) = declared.filter(|_| command == b"set") else {
        return answer(Reply::Unauthenticated);
    };
    let Some(length) = usize::try_from(length).ok().filter(|n| *n <= AUTH_TOKEN_MAX) else {
        return answer(Reply::TokenTooLong);
    };
    let consumed = after + length + b"\r\n".len();
    match input.get(after..consumed) {
        None => FirstCommand::Incomplete { at_least: consumed },
        Some(block) => FirstCommand::Answered { consumed, reply: log_in(block, users) },
    }
}

/// What `user password` and the two bytes behind it are worth.
fn log_in(block: &[u8], users: &Users) -> Reply {
    let Some(token) = block.strip_suffix(b"\r\n") else { return Reply::BadTermination };
    let mut words = token.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    match (words.next(), words.next()) {
        (Some(user), Some(password)) if users.knows(user, password) => Reply::Stored,
        (Some(_), Some(_)) => Reply::Failure,
        _ => Reply::BadToken,
    }
}

fn decimal(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Format;
    use super::*;

    fn users() -> Users {
        Users::parse(Format::AuthFile, b"foo:bar\nbaz:qu:ux\n").unwrap()
    }

    /// What is said to `input` until it is used up, incomplete, or the gate opens or closes.
    fn talk(input: &[u8], health_checks: HealthChecks) -> String {
        let (mut rest, mut heard) = (input, Vec::new());
        while !rest.is_empty() {
            match first_command(rest, &users(), health_checks) {
                FirstCommand::Answered { consumed, reply } => {
                    reply.write(&mut heard);
                    rest = &rest[consumed..];
                    if reply == Reply::Stored {
                        heard.extend_from_slice(b"<in>");
                        break;
                    }
                }
                FirstCommand::Incomplete { at_least } => {
                    assert!(at_least > rest.len());
                    heard.extend_from_slice(b"<more>");
                    break;
                }
                FirstCommand::Close => {
                    heard.extend_from_slice(b"<close>");
                    break;
                }
            }
        }
        String::from_utf8(heard).unwrap()
    }

    const IN: &str = "STORED\r\n<in>";
    const FAILURE: &str = "CLIENT_ERROR authentication failure\r\n";
    const UNAUTHENTICATED: &str = "CLIENT_ERROR unauthenticated\r\n";
    const TOO_LONG: &str = "CLIENT_ERROR auth token too long\r\n";
    const BAD_TOKEN: &str = "CLIENT_ERROR bad authentication token format\r\n";
    const TERMINATION: &str = "CLIENT_ERROR bad command line termination\r\n";

    #[test]
    fn a_set_with_user_and_password_logs_in_whatever_else_its_line_says() {
        for input in [
            "set k 0 0 7\r\nfoo bar\r\n",
            "set k 0 0 7\nfoo bar\r\n",
            "set k 0 0 7 noreply\r\nfoo bar\r\n",
            "set k x y 7 a b c\r\nfoo bar\r\n",
            "set  k  0 0 7 \r\nfoo bar\r\n",
            "set k 0 0 9\r\nbaz qu:ux\r\n",
            "set k 0 0 8\r\n foo bar\r\n",
            "set k 0 0 13\r\nfoo bar extra\r\n",
        ] {
            assert_eq!(talk(input.as_bytes(), HealthChecks::Refused), IN, "{input}");
        }
        let long_key = format!("set {} 0 0 7\r\nfoo bar\r\n", "k".repeat(300));
        assert_eq!(talk(long_key.as_bytes(), HealthChecks::Refused), IN);
    }

    #[test]
    fn what_is_no_login_gets_its_own_line_and_the_next_command_is_heard() {
        let cases = [
            ("set k 0 0 7\r\nfoo baX\r\n", FAILURE),
            ("set k 0 0 7\r\nbar foo\r\n", FAILURE),
            ("set k 0 0 7\r\nfoo qu:\r\n", FAILURE),
            ("set k 0 0 8\r\nfoo bar\0\r\n", FAILURE),
            ("set k 0 0 3\r\nfoo\r\n", BAD_TOKEN),
            ("set k 0 0 0\r\n\r\n", BAD_TOKEN),
            ("set k 0 0 7\r\nfoo\0bar\r\n", BAD_TOKEN),
            ("set k 0 0 7\r\nfoo bar\n\n", TERMINATION),
            ("set k 0 0 16385\r\n", TOO_LONG),
            ("set k 0 0 100000000\r\n", TOO_LONG),
            ("set k 0 0 4294967295\r\n", TOO_LONG),
            ("set k 0 0 4294967296\r\n", UNAUTHENTICATED),
            ("set k 0 0 -1\r\n", UNAUTHENTICATED),
            ("set k 0 0 +7\r\n", UNAUTHENTICATED),
            ("set k 0 0 7x\r\n", UNAUTHENTICATED),
            ("set k 0 0 0x7\r\n", UNAUTHENTICATED),
            ("set k 0 0\r\n", UNAUTHENTICATED),
            ("get key\r\n", UNAUTHENTICATED),
            ("add k 0 0 7\r\n", UNAUTHENTICATED),
            ("SET k 0 0 7\r\n", UNAUTHENTICATED),
            (" set k 0 0 7\r\n", UNAUTHENTICATED),
            ("ms key 7\r\n", UNAUTHENTICATED),
            ("version\r\n", UNAUTHENTICATED),
            ("shutdown\r\n", UNAUTHENTICATED),
            ("flush_all\r\n", UNAUTHENTICATED),
        ];
        for (input, reply) in cases {
            let twice = format!("{input}{input}set k 0 0 7\r\nfoo bar\r\n");
            let expected = format!("{reply}{reply}{IN}");
            assert_eq!(talk(twice.as_bytes(), HealthChecks::Refused), expected, "{input}");
        }
    }

    #[test]
    fn a_word_that_only_begins_with_set_logs_nobody_in() {
        for word in ["setfoo", "sett", "set\t", "set\0"] {
            let input = format!("{word} k 0 0 7\r\nfoo bar\r\n");
            let heard = talk(input.as_bytes(), HealthChecks::Refused);
            assert!(heard.starts_with(UNAUTHENTICATED) && !heard.contains("STORED"), "{word}");
        }
    }

    #[test]
    fn a_line_that_is_too_short_or_does_not_end_closes_the_connection() {
        let short = ["mn\r\n", "quit\r\n", "mg x\r\n", "\r\n", "12345\n"];
        for input in short {
            assert_eq!(talk(input.as_bytes(), HealthChecks::Refused), "<close>", "{input}");
        }
        assert_eq!(talk(b"12345\r\n", HealthChecks::Refused), UNAUTHENTICATED);
        assert_eq!(talk(&b"\n".repeat(4_000), HealthChecks::Refused), "<close>");
        assert_eq!(talk(&[b'x'; LINE_WITHOUT_LF_MAX], HealthChecks::Refused), "<more>");
        assert_eq!(talk(&[b'x'; LINE_WITHOUT_LF_MAX + 1], HealthChecks::Refused), "<close>");
        assert_eq!(talk(&[b' '; LINE_WITHOUT_LF_MAX + 1], HealthChecks::Refused), "<close>");
        let long_get = [&b"get "[..], &[b'k'; LINE_WITHOUT_LF_MAX]].concat();
        assert_eq!(talk(&long_get, HealthChecks::Refused), "<close>");
    }

    #[test]
    fn a_binary_frame_waits_for_a_line_that_never_comes() {
        let frame = [&[0x80, 0x0b][..], &[0; 22]].concat();
        assert_eq!(talk(&frame, HealthChecks::Refused), "<more>");
    }

    #[test]
    fn health_checks_are_answered_only_when_allowed_and_open_nothing() {
        let checks = "version\r\nmn\r\nmn\nversion\nget key\r\n";
        let version = format!("VERSION {VERSION}\r\n");
        assert_eq!(
            talk(checks.as_bytes(), HealthChecks::Allowed),
            format!("{version}MN\r\nMN\r\n{version}{UNAUTHENTICATED}")
        );
        for input in ["mnx\r\n", "mg x\r\n", "quit\r\n"] {
            assert_eq!(talk(input.as_bytes(), HealthChecks::Allowed), "<close>", "{input}");
        }
        for input in ["versions\r\n", "verbosity 0\r\n", "VERSION\r\n", " version\r\n"] {
            let heard = talk(input.as_bytes(), HealthChecks::Allowed);
            assert!(!heard.contains("VERSION"), "{input}: {heard}");
        }
    }

    #[test]
    fn a_login_cut_anywhere_is_the_same_login() {
        let input = b"set k 0 0 7\r\nfoo bar\r\n";
        let mut asked_at = 0;
        for length in 0..input.len() {
            match first_command(&input[..length], &users(), HealthChecks::Refused) {
                FirstCommand::Incomplete { at_least } => {
                    assert!(at_least > length && at_least <= input.len(), "{length}");
                    asked_at = at_least;
                }
                other => panic!("{length}: {other:?}"),
            }
        }
        assert_eq!(asked_at, input.len());
        assert_eq!(talk(input, HealthChecks::Refused), IN);
    }

    proptest! {
        #[test]
        fn no_bytes_without_the_password_log_in(
            input in proptest::collection::vec(
                prop_oneof![
                    Just("set ".to_owned()), Just("k 0 0 7\r\n".to_owned()), Just("foo ".to_owned()),
                    Just("bax\r\n".to_owned()), Just("\r\n".to_owned()), Just("7".to_owned()),
                    ".{0,9}", Just("baz qu".to_owned()), Just("version\r\n".to_owned()),
                ],
                0..20,
            )
        ) {
            let heard = talk(input.concat().as_bytes(), HealthChecks::Allowed);
            prop_assert!(!heard.contains("STORED"));
        }

        #[test]
        fn any_bytes_are_answered_within_their_bounds(input: Vec<u8>) {
            match first_command(&input, &users(), HealthChecks::Allowed) {
                FirstCommand::Answered { consumed, .. } => {
                    prop_assert!((1..=input.len()).contains(&consumed));
                }
                FirstCommand::Incomplete { at_least } => {
                    prop_assert!(at_least > input.len());
                    prop_assert!(at_least <= LINE_WITHOUT_LF_MAX + AUTH_TOKEN_MAX + 2);
                }
                FirstCommand::Close => {}
            }
        }
    }
}
