//! Who may log in, and how a client proves that it is them.
//!
//! Picture a doorkeeper with a list. [`Users`] is the list, read from the text of a `-Y` file or a
//! SASL password file. [`first_command`] is how a text client shows its pass (COMPATIBILITY section
//! 13), [`Sasl`] how a binary client does (section 7). [`Credentials`] holds the list that is valid
//! now and takes a new one while clients log in.
//!
//! A login takes the same time for a wrong name, a wrong password and any position in the list:
//! what is presented is padded and compared with all of every entry, and nothing is skipped.
//!
//! What is NOT here: reading files, and the gate itself. [`crate::command::Session`] lets nothing
//! through before one of these has said yes.

mod ascii;
mod sasl;
mod users;

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

pub use ascii::{FirstCommand, HealthChecks, Reply, first_command};
pub use sasl::{MECHANISMS, Sasl, SaslAnswer};
pub use users::{Format, Malformed, Users};

/// The list of users that is valid now.
pub struct Credentials {
    format: Format,
    users: RwLock<Arc<Users>>,
}

impl Credentials {
    /// Credentials with the users in `text`.
    ///
    /// # Errors
    /// [`Malformed`]: the server must not start.
    pub fn new(format: Format, text: &[u8]) -> Result<Credentials, Malformed> {
        let users = RwLock::new(Arc::new(Users::parse(format, text)?));
        Ok(Credentials { format, users })
    }

    /// What the list was made from.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The list as it is; a login that began with it ends with it.
    #[must_use]
    pub fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read())
    }

    /// Puts the users in `text` in the place of those there are. Who has logged in stays so.
    ///
    /// # Errors
    /// [`Malformed`]: nothing has changed.
    pub fn replace(&self, text: &[u8]) -> Result<(), Malformed> {
        let users = Arc::new(Users::parse(self.format, text)?);
        *self.users.write() = users;
        Ok(())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("users", &self.users()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_new_list_keeps_the_old_one_and_a_good_one_replaces_it() {
        let credentials = Credentials::new(Format::AuthFile, b"old:secret\n").unwrap();
        for bad in [&b""[..], b"new:secret\nnonsense\n", b":secret\n"] {
            assert!(credentials.replace(bad).is_err());
            assert!(credentials.users().knows(b"old", b"secret"));
            assert!(!credentials.users().knows(b"new", b"secret"));
        }
        credentials.replace(b"new:secret\n").unwrap();
        assert!(credentials.users().knows(b"new", b"secret"));
        assert!(!credentials.users().knows(b"old", b"secret"));
    }

    #[test]
    fn a_login_that_has_begun_ends_with_the_list_it_began_with() {
        let credentials = Credentials::new(Format::AuthFile, b"old:secret\n").unwrap();
        let users = credentials.users();
        credentials.replace(b"new:secret\n").unwrap();
        assert!(users.knows(b"old", b"secret"));
    }

    #[test]
    fn lists_replaced_under_load_are_always_whole() {
        let credentials = Credentials::new(Format::AuthFile, b"a:1\n").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..2_000 {
                    let text: &[u8] = if turn % 2 == 0 { b"b:2\n" } else { b"a:1\n" };
                    credentials.replace(text).unwrap();
                }
            });
            for _ in 0..2_000 {
                let users = credentials.users();
                assert!(users.knows(b"a", b"1") ^ users.knows(b"b", b"2"));
                assert!(!users.knows(b"a", b"2"));
            }
        });
    }

    #[test]
    fn nothing_that_is_printed_for_debugging_holds_a_password_or_a_name() {
        let credentials = Credentials::new(Format::SaslPasswords, b"anna:hunter2:x\n").unwrap();
        let shown = format!("{credentials:?} {:?}", credentials.users());
        assert!(!shown.contains("hunter2") && !shown.contains("anna"), "{shown}");
    }
}
