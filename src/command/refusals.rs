//! Refused requests in the server's log: whose, why, and the beginning of the key; never what was to be
//! stored.
//!
//! Picture a porter's book: the first time that somebody is turned away for a reason it is written
//! down, and not again for a minute. Nobody fills the book: there are so many lines a minute in it, and
//! whoever comes after them is turned away unwritten. What cost a client its data is a warning; the
//! rest is for operators who ask for more (`-v`).
//!
//! What is NOT here: datagrams, whose senders may be forged (they are counted in `stats twincached`),
//! and what `-vv` says of every command ([`super::verbose`]).

use std::time::Duration;

use parking_lot::Mutex;

use super::{Connection, Locks};
use crate::clock::Now;
use crate::limits::{KEY_SHOWN_MAX, REFUSALS_TOLD};
use crate::protocol::request::Request;
use crate::protocol::response::Reject;
use crate::protocol::text;

/// For how long the same is not said of the same client again.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Why somebody was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A request was answered so.
    Request(Reject),
    /// A name or password was wrong.
    Login,
}

impl Refusal {
    /// Whoever must log in asked for something else first.
    pub(super) const NOT_LOGGED_IN: Refusal = Refusal::Request(Reject::NotLoggedIn);
}

/// What was said lately.
#[derive(Debug, Default)]
pub struct Refusals {
    told: Mutex<Vec<Told>>,
}

#[derive(Debug)]
struct Told {
    host: String,
    why: Refusal,
    at: Now,
}

impl Refusals {
    /// Says that `connection` was refused, if that is news.
    pub(super) fn tell(&self, connection: &Connection, why: Refusal, key: Option<&[u8]>, now: Now) {
        if !self.is_news(connection.host(), why, now) {
            return;
        }
        let (client, why, key) = (&connection.addr, reason(why), key.map(shown));
        let key = key.unwrap_or_default();
        if why.starts_with("SERVER_ERROR") {
            tracing::warn!(client, "refused: {why}{key}");
        } else {
            tracing::info!(client, "refused: {why}{key}");
        }
    }

    fn is_news(&self, host: &str, why: Refusal, now: Now) -> bool {
        let mut told = self.told.lock();
        if told.iter().any(|told| told.why == why && told.host == host && told.is_fresh(now)) {
            return false;
        }
        if told.len() >= REFUSALS_TOLD {
            told.retain(|told| told.is_fresh(now));
        }
        let has_room = told.len() < REFUSALS_TOLD;
        if has_room {
            told.push(Told { host: host.to_owned(), why, at: now });
        }
        has_room
    }
}

impl Told {
    fn is_fresh(&self, now: Now) -> bool {
        now < self.at.plus(REPEAT_AFTER)
    }
}

/// In the words in which clients of the text protocol hear it.
fn reason(why: Refusal) -> String {
    match why {
        Refusal::Login => "wrong name or password".to_owned(),
        Refusal::Request(Reject::UnknownCommand) => "ERROR unknown command".to_owned(),
        Refusal::Request(reject) => {
            let mut line = Vec::new();
            text::encode::response(&reject.into(), &mut line);
            String::from_utf8_lossy(&line).trim_end().to_owned()
        }
    }
}

/// The key that `request` is about.
pub(super) fn key_of<'r>(request: &'r Request<'_>) -> Option<&'r [u8]> {
    match request {
        Request::Store(storage) => Some(storage.key),
        Request::MetaSet(set) => Some(&set.meta.key.bytes),
        _ => Locks::changed_key(request),
    }
}

/// Enough of a key to tell whose it is, and too little to use it: a session's id is in it.
fn shown(key: &[u8]) -> String {
    let beginning = &key[..KEY_SHOWN_MAX.min(key.len() / 2)];
    format!(", key {}... of {} bytes", beginning.escape_ascii(), key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Now = Now::from_unix_seconds(1_800_000_000);
    const LARGE: Refusal = Refusal::Request(Reject::TooLarge);

    #[test]
    fn the_same_is_said_of_the_same_host_once_a_minute() {
        let refusals = Refusals::default();
        let said =
            |host, why, second| refusals.is_news(host, why, NOON.plus(Duration::from_secs(second)));
        assert!(said("a", LARGE, 0));
        assert!(!said("a", LARGE, 59));
        assert!(said("b", LARGE, 59) && said("a", Refusal::Login, 59));
        assert!(said("a", LARGE, 60));
        assert!(!said("a", LARGE, 61));
    }

    #[test]
    fn hosts_without_number_do_not_fill_the_log() {
        let refusals = Refusals::default();
        let said_in = |minute: u64| {
            let now = NOON.plus(Duration::from_secs(60 * minute));
            let hosts = (0..10_000).map(|host| format!("{minute}.{host}"));
            hosts.filter(|host| refusals.is_news(host, LARGE, now)).count()
        };
        assert_eq!([0, 1, 2].map(said_in), [REFUSALS_TOLD; 3]);
    }

    #[test]
    fn of_a_key_half_is_shown_at_most() {
        assert_eq!(shown(b"ekaldvb0ffs3ntdldk8440bmra"), ", key ekaldvb0... of 26 bytes");
        assert_eq!(shown(b"secret"), ", key sec... of 6 bytes");
        assert_eq!(shown(b"k"), ", key ... of 1 bytes");
        assert_eq!(shown(b"a\r\n\x1b[31m and so on"), ", key a\\r\\n\\x1b[31m... of 18 bytes");
    }
}
