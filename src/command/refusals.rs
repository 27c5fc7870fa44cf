//! Refused requests in the server's log: whose, why, and the beginning of the key; never what was to be
//! stored.
//!
//! Picture a porter's book: the first time that somebody is turned away for a reason it is written
//! down, and not again for a minute. Nobody fills the book: there are so many lines a minute in it, and
//! whoever comes after them is turned away unwritten. What cost a client its data is a warning; the
//! rest is for operators who ask for more (`-v`), and takes no line where nobody asked.
//!
//! What is NOT here: datagrams, whose senders may be forged (they are counted in `stats twincached`),
//! and what `-vv` says of every command ([`super::verbose`]).

use std::time::Duration;

use parking_lot::Mutex;

use super::{Connection, Locks};
use crate::clock::Now;
use crate::limits::{KEY_SHOWN_MAX, REFUSALS_TOLD};
use crate::protocol::meta::MetaFault;
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

    /// Whether it may have cost a client its data.
    fn is_warning(self) -> bool {
        let Refusal::Request(reject) = self else { return false };
        matches!(
            reject,
            Reject::TooLarge
                | Reject::NoMemoryToStore
                | Reject::NoMemory
                | Reject::NotReplicated
                | Reject::Meta(MetaFault::NoMemoryForNumber)
        )
    }
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
        let is_read = why.is_warning() || tracing::enabled!(tracing::Level::INFO);
        if !is_read || !self.is_news(connection.host(), why, now) {
            return;
        }
        let (client, reason, key) = (&connection.addr, reason(why), key.map(shown));
        let key = key.unwrap_or_default();
        if why.is_warning() {
            tracing::warn!(client, "refused: {reason}{key}");
        } else {
            tracing::info!(client, "refused: {reason}{key}");
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
    use tracing::subscriber::{NoSubscriber, with_default};

    use super::*;
    use crate::command::{ConnState, Transport};

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
    fn what_nobody_reads_takes_no_line_from_what_cost_a_client_its_data() {
        let refusals = Refusals::default();
        with_default(NoSubscriber::default(), || {
            for host in 0..REFUSALS_TOLD {
                let (addr, state) = (format!("tcp:10.0.0.{host}:1"), ConnState::NewCmd);
                let client = Connection::new(7, addr, None, Transport::Tcp, state, NOON.seconds());
                refusals.tell(&client, Refusal::Login, None, NOON);
            }
        });
        assert!(refusals.is_news("a", LARGE, NOON));
    }

    #[test]
    fn of_a_key_half_is_shown_at_most() {
        assert_eq!(shown(b"ekaldvb0ffs3ntdldk8440bmra"), ", key ekaldvb0... of 26 bytes");
        assert_eq!(shown(b"secret"), ", key sec... of 6 bytes");
        assert_eq!(shown(b"k"), ", key ... of 1 bytes");
        assert_eq!(shown(b"a\r\n\x1b[31m and so on"), ", key a\\r\\n\\x1b[31m... of 18 bytes");
    }
}
