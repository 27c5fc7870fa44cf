//! Operators' commands: limits, verbosity, the LRU's and the crawler's commands, peers, shutdown.
//!
//! Arguments are judged as upstream judges them, in every combination of missing, garbage and out
//! of range; what such a command would move upstream and we have not (slabs, LRU segments, a
//! crawler thread) only changes what `stats settings` shows.

use std::sync::atomic::Ordering;

use super::dump::Dump;
use super::watching::Watcher;
use super::{Server, Stop};
use crate::clock::Now;
use crate::protocol::request::{AdminRequest, AdminVerb};
use crate::protocol::response::{Reject, Response};

mod lru;
mod peers;
mod slabs;

/// Words of a line that upstream looks at.
const WORDS_MAX: usize = 24;

/// The highest verbosity that changes anything.
const VERBOSITY_MAX: u64 = 2;

/// Bounds of `cache_memlimit`, in MiB.
const MEMLIMIT_MIN: u64 = 8;
const MEMLIMIT_MAX: u64 = 1_000_000_000;

/// What an operator's command leads to.
#[derive(Debug)]
pub enum AdminOutcome {
    /// An answer.
    Reply(Response),
    /// The server stops; no answer.
    Shutdown(Stop),
    /// `OK`, and log lines from now on. Refused by the session when earlier replies of the same
    /// batch are unsent.
    Watch(Watcher),
    /// `OK`, and a listing of items, written by [`Dump::more`]. Refused like `Watch`.
    Dump(Dump),
}

impl<T: Into<Response>> From<T> for AdminOutcome {
    fn from(answer: T) -> AdminOutcome {
        AdminOutcome::Reply(answer.into())
    }
}

/// Executes an operator's command; `debugtime` and `debugpanic` are not among them.
#[must_use]
pub fn admin(server: &Server, request: &AdminRequest<'_>, now: Now) -> AdminOutcome {
    let words: Vec<&[u8]> = request.words().take(WORDS_MAX).collect();
    match request.verb {
        AdminVerb::CacheMemlimit => cache_memlimit(server, &words).into(),
        AdminVerb::Lru => lru::lru(server, &words).into(),
        AdminVerb::LruCrawler => lru::crawler(server, &words, now),
        AdminVerb::Peers => peers::peers(server, &words).into(),
        AdminVerb::RefreshCerts => refresh_certs(server, now).into(),
        AdminVerb::Shutdown => shutdown(server, &words),
        AdminVerb::Slabs => slabs::slabs(server, &words).into(),
        AdminVerb::Verbosity => verbosity(server, &words).into(),
        AdminVerb::Watch => match Watcher::start(server, &words) {
            Ok(watcher) => AdminOutcome::Watch(watcher),
            Err(refusal) => refusal.into(),
        },
        AdminVerb::Extstore | AdminVerb::Debugpanic | AdminVerb::Debugtime => {
            Reject::UnknownCommand.into()
        }
    }
}

fn cache_memlimit(server: &Server, words: &[&[u8]]) -> Response {
    let [megabytes, rest @ ..] = words else { return Reject::UnknownCommand.into() };
    match number(megabytes) {
        Some(megabytes) if rest.len() <= 1 => set_memlimit(server, megabytes),
        _ => Reject::UnknownCommand.into(),
    }
}

fn set_memlimit(server: &Server, megabytes: u64) -> Response {
    if megabytes < MEMLIMIT_MIN {
        return Response::line("MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m");
    }
    if megabytes > MEMLIMIT_MAX {
        return Response::line("MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes");
    }
    let bytes = usize::try_from(megabytes << 20).ok();
    match bytes.map(|bytes| server.store.set_memory_limit(bytes)) {
        Some(Ok(())) => Response::Ok,
        _ => Response::line("MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"),
    }
}

fn verbosity(server: &Server, words: &[&[u8]]) -> Response {
    let Some(level) = words.first().and_then(|word| number(word)) else {
        return Reject::BadFormat.into();
    };
    let level = u8::try_from(level.min(VERBOSITY_MAX)).unwrap_or(u8::MAX);
    server.verbosity.store(level, Ordering::Relaxed);
    Response::Ok
}

fn refresh_certs(server: &Server, now: Now) -> Response {
    match server.certificates.as_ref().map(|certificates| certificates.refresh(now)) {
        None => Response::line("Error TLS not enabled"),
        Some(Ok(())) => Response::Ok,
        // One line, whatever a file's name holds.
        Some(Err(why)) => {
            Response::Line(format!("Error {}", why.replace(char::is_control, "?")).into())
        }
    }
}

fn shutdown(server: &Server, words: &[&[u8]]) -> AdminOutcome {
    if !server.settings.enable_shutdown {
        return Response::line("SERVER_ERROR: shutdown not enabled").into();
    }
    match words {
        [] => AdminOutcome::Shutdown(Stop::Now),
        [b"graceful"] => AdminOutcome::Shutdown(Stop::Graceful),
        _ => Response::line("CLIENT_ERROR invalid shutdown mode").into(),
    }
}

/// A whole number; one too large to be held is the largest, which is out of every range here.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => Some(u64::MAX),
        Err(_) => None,
    }
}

/// A number with decimal places, neither infinite nor NaN.
fn decimal(word: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests;
