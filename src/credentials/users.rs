//! The list of users: read from a file's text, compared in constant time.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

use crate::limits::{AUTH_LINE_MAX, AUTH_USERS_MAX, SASL_USERS_MAX};

/// How a file of users is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `-Y`: `user:password`, where the password may hold colons.
    AuthFile,
    /// `$MEMCACHED_SASL_PWDB`: `user:password[:...]`, where the user may be followed by `@host`.
    /// Empty lines and lines that begin with `#` are skipped.
    SaslPasswords,
}

impl Format {
    fn users_max(self) -> usize {
        match self {
            Format::AuthFile => AUTH_USERS_MAX,
            Format::SaslPasswords => SASL_USERS_MAX,
        }
    }
}

/// Why a file of users cannot be used. Says where, and never what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line, counted from 1; `None` when the whole file is meant.
    pub line: Option<usize>,
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Nobody,
    TooMany(usize),
    TooLong,
    Colon,
    User,
    Password,
    Nul,
    Space,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match self.rule {
            Rule::Nobody => f.write_str("it names no user; allowed: lines of user:password"),
            Rule::TooMany(most) => write!(f, "there are more than {most} users"),
            Rule::TooLong => write!(f, "the line is longer than {AUTH_LINE_MAX} bytes"),
            Rule::Colon => f.write_str("there is no colon between user and password"),
            Rule::User => f.write_str("there is no user before the colon"),
            Rule::Password => f.write_str("there is no password after the colon"),
            Rule::Nul => f.write_str("there is a NUL byte in it"),
            Rule::Space => f.write_str("a space in user or password, which no client can send"),
        }
    }
}

impl std::error::Error for Malformed {}

/// A text in a field of fixed length, so that comparing it takes the same time whatever it is.
#[derive(Clone)]
pub(super) struct Padded {
    bytes: [u8; AUTH_LINE_MAX],
    length: usize,
}

impl Padded {
    /// `text`; one that is too long for any entry equals none of them.
    pub(super) fn new(text: &[u8]) -> Padded {
        let mut bytes = [0; AUTH_LINE_MAX];
        let kept = text.len().min(AUTH_LINE_MAX);
        bytes[..kept].copy_from_slice(&text[..kept]);
        Padded { bytes, length: text.len() }
    }

    fn same(&self, other: &Padded) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.length.ct_eq(&other.length)
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length.min(AUTH_LINE_MAX)]
    }
}

/// One line.
struct User {
    name: Padded,
    /// The name without `@host`, which Cyrus adds to what a client sends and a file may hold.
    local_name: Padded,
    password: Padded,
}

/// Who may log in.
pub struct Users(Vec<User>);

impl Users {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`Malformed`], with the first line that breaks a rule.
    pub fn parse(format: Format, text: &[u8]) -> Result<Users, Malformed> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut users = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let skipped = line.is_empty() || line.starts_with(b"#");
            if text.is_empty() || (skipped && format == Format::SaslPasswords) {
                continue;
            }
            let malformed = |rule| Malformed { line: Some(index + 1), rule };
            users.push(user(format, line).map_err(malformed)?);
            if users.len() > format.users_max() {
                return Err(malformed(Rule::TooMany(format.users_max())));
            }
        }
        if users.is_empty() {
            return Err(Malformed { line: None, rule: Rule::Nobody });
        }
        Ok(Users(users))
    }

    /// Whether `name` may log in with `password`.
    #[must_use]
    pub fn knows(&self, name: &[u8], password: &[u8]) -> bool {
        let password = Padded::new(password);
        self.any(name, |kept| kept.same(&password))
    }

    /// Whether `name` may log in, given a `proof` of its password. Every password is tried.
    pub(super) fn proven(&self, name: &[u8], proof: impl Fn(&[u8]) -> Choice) -> bool {
        self.any(name, |kept| proof(kept.text()))
    }

    fn any(&self, name: &[u8], fits: impl Fn(&Padded) -> Choice) -> bool {
        let name = Padded::new(name);
        let mut known = Choice::from(0);
        for user in &self.0 {
            let named = user.name.same(&name) | user.local_name.same(&name);
            known |= named & fits(&user.password);
        }
        known.into()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

fn user(format: Format, line: &[u8]) -> Result<User, Rule> {
    if line.len() > AUTH_LINE_MAX {
        return Err(Rule::TooLong);
    }
    if line.contains(&0) {
        return Err(Rule::Nul);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Rule::Colon)?;
    let (name, rest) = (&line[..colon], &line[colon + 1..]);
    let (local_name, password) = match format {
        Format::AuthFile if line.contains(&b' ') => return Err(Rule::Space),
        Format::AuthFile => (name, rest),
        Format::SaslPasswords => {
            let host = name.iter().rposition(|byte| *byte == b'@').unwrap_or(name.len());
            let end = rest.iter().position(|byte| *byte == b':').unwrap_or(rest.len());
            (&name[..host], &rest[..end])
        }
    };
    if name.is_empty() || local_name.is_empty() {
        return Err(Rule::User);
    }
    if password.is_empty() {
        return Err(Rule::Password);
    }
    Ok(User {
        name: Padded::new(name),
        local_name: Padded::new(local_name),
        password: Padded::new(password),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth_file(text: &[u8]) -> Result<Users, String> {
        Users::parse(Format::AuthFile, text).map_err(|malformed| malformed.to_string())
    }

    fn sasl_file(text: &[u8]) -> Result<Users, String> {
        Users::parse(Format::SaslPasswords, text).map_err(|malformed| malformed.to_string())
    }

    #[test]
    fn every_user_of_the_file_is_known_by_the_whole_password_and_by_nothing_else() {
        for text in
            [&b"foo:bar\nbaz:qu:ux\n"[..], b"foo:bar\r\nbaz:qu:ux\r\n", b"foo:bar\nbaz:qu:ux"]
        {
            let users = auth_file(text).unwrap();
            assert!(users.knows(b"foo", b"bar"));
            assert!(users.knows(b"baz", b"qu:ux"));
            let wrong: [(&[u8], &[u8]); 10] = [
                (b"foo", b""),
                (b"", b"bar"),
                (b"", b""),
                (b"foo", b"ba"),
                (b"foo", b"bar\0"),
                (b"fo", b"bar"),
                (b"foo\0", b"bar"),
                (b"foo", b"qu:ux"),
                (b"baz", b"qu"),
                (b"foo:bar", b"bar"),
            ];
            for (name, password) in wrong {
                assert!(!users.knows(name, password), "{name:?} {password:?}");
            }
        }
    }

    #[test]
    fn a_name_with_two_passwords_may_use_either() {
        let users = auth_file(b"foo:old\nfoo:new\n").unwrap();
        assert!(users.knows(b"foo", b"old") && users.knows(b"foo", b"new"));
    }

    #[test]
    fn what_is_longer_than_any_entry_equals_none_even_with_the_same_beginning() {
        let line = [&b"u:"[..], &[b'p'; AUTH_LINE_MAX - 2]].concat();
        let users = auth_file(&line).unwrap();
        assert!(users.knows(b"u", &[b'p'; AUTH_LINE_MAX - 2]));
        for length in [AUTH_LINE_MAX - 1, AUTH_LINE_MAX, AUTH_LINE_MAX + 1, 1 << 16] {
            assert!(!users.knows(b"u", &vec![b'p'; length]), "{length}");
            assert!(!users.knows(&vec![b'u'; length], &[b'p'; AUTH_LINE_MAX - 2]), "{length}");
        }
    }

    #[test]
    fn a_line_that_breaks_a_rule_is_named_and_its_password_is_not() {
        let long = [&b"foo:bar\nu:hunter2"[..], &[b'p'; AUTH_LINE_MAX]].concat();
        let cases: [(&[u8], &str); 9] = [
            (b"foo:bar\nhunter2\n", "line 2: there is no colon between user and password"),
            (b"foo:bar\n\nbaz:hunter2", "line 2: there is no colon between user and password"),
            (b"\n", "it names no user; allowed: lines of user:password"),
            (b"", "it names no user; allowed: lines of user:password"),
            (b":hunter2", "line 1: there is no user before the colon"),
            (b"foo:\n", "line 1: there is no password after the colon"),
            (b"foo:hun\0ter2\n", "line 1: there is a NUL byte in it"),
            (b"foo:hunter2 x", "line 1: a space in user or password, which no client can send"),
            (&long, "line 2: the line is longer than 256 bytes"),
        ];
        for (text, expected) in cases {
            assert_eq!(auth_file(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_ninth_user_is_refused_and_not_dropped() {
        let eight = b"foo:bar\n".repeat(AUTH_USERS_MAX);
        assert!(auth_file(&eight).is_ok());
        let nine = [&eight[..], b"ninth:x\n"].concat();
        assert_eq!(auth_file(&nine).unwrap_err(), "line 9: there are more than 8 users");
        assert!(sasl_file(&nine).unwrap().knows(b"ninth", b"x"));
        let many = b"foo:bar\n".repeat(SASL_USERS_MAX + 1);
        assert_eq!(sasl_file(&many).unwrap_err(), "line 257: there are more than 256 users");
    }

    #[test]
    fn a_sasl_user_may_stand_in_the_file_with_its_host_or_without() {
        let users =
            sasl_file(b"# users\n\nanna@web1:pw:1000::/home\nbert:pass word\nc@d@e:x\n").unwrap();
        assert!(users.knows(b"anna", b"pw"));
        assert!(users.knows(b"anna@web1", b"pw"));
        assert!(users.knows(b"bert", b"pass word"));
        assert!(users.knows(b"c@d", b"x"));
        for (name, password) in [
            ("anna@web2", "pw"),
            ("anna@", "pw"),
            ("anna", "pw:1000"),
            ("bert@web1", "pass word"),
            ("c", "x"),
        ] {
            assert!(!users.knows(name.as_bytes(), password.as_bytes()), "{name} {password}");
        }
        assert_eq!(
            sasl_file(b"@host:pw").unwrap_err(),
            "line 1: there is no user before the colon"
        );
        assert_eq!(
            sasl_file(b"a::pw").unwrap_err(),
            "line 1: there is no password after the colon"
        );
    }

    #[test]
    fn an_auth_file_knows_no_hosts() {
        let users = auth_file(b"anna@web1:pw").unwrap();
        assert!(users.knows(b"anna@web1", b"pw"));
        assert!(!users.knows(b"anna", b"pw"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_a_user_that_was_read_is_known(text: Vec<u8>, name in "[a-z]{1,9}", password in "[!-~]{1,9}") {
            let _ = Users::parse(Format::AuthFile, &text);
            let _ = Users::parse(Format::SaslPasswords, &text);
            let line = format!("x:y\n{name}:{password}");
            proptest::prop_assert!(auth_file(line.as_bytes()).unwrap().knows(name.as_bytes(), password.as_bytes()));
        }
    }
}
