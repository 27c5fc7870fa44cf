//! One request to its family, with what every family needs.

use super::admin::{AdminOutcome, admin};
use super::dump::Dump;
use super::retrieval::{Retrieval, retrieve, retrieve_frame};
use super::session::Stop;
use super::stats::stats;
use super::watching::Watcher;
use super::{Connection, Server, arithmetic, debug, deletion, flush, meta, mirrored, storage};
use crate::clock::Now;
use crate::item::{Expiry, Found};
use crate::protocol::Manner;
use crate::protocol::request::{AdminRequest, AdminVerb, Request};
use crate::protocol::response::{Reject, Response};
use crate::stats::WorkerCounters;
use crate::store::{Fetch, Fetched, Head, Key, Miss};
use crate::watch::{Categories, GetStatus, ItemGet};

/// Who asks, and when.
#[derive(Clone, Copy)]
pub(super) struct Context<'s> {
    pub(super) server: &'s Server,
    pub(super) counters: &'s WorkerCounters,
    pub(super) connection: &'s Connection,
    pub(super) now: Now,
    /// How the request is answered.
    pub(super) manner: Manner,
    /// When the client asked before, if it ever did.
    pub(super) asked: Now,
    /// The request's key, if it was looked for ahead.
    pub(super) ahead: Option<&'s Key<'s>>,
}

/// What a request leads to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer.
    Reply(Response),
    /// The answer has been written.
    Written,
    /// The answer has been begun; the rest is to be written once this much has been sent.
    Begun(Retrieval),
    /// A listing is to be written.
    Dump(Dump),
    /// The connection becomes a watcher.
    Watch(Watcher),
    /// The client goes.
    Quit,
    /// The server stops.
    Shutdown(Stop),
}

/// Executes `request`; what it fetches is appended to `out`.
pub(super) fn execute(context: &Context<'_>, request: &Request<'_>, out: &mut Vec<u8>) -> Outcome {
    if let Some(reject) = mirrored::refuse(context.server, request) {
        return Outcome::Reply(reject.into());
    }
    let reply = match request {
        Request::Retrieve(wanted) => return written(retrieve(context, wanted, out)),
        Request::RetrieveFrame(wanted) => return written(retrieve_frame(context, wanted, out)),
        Request::Store(storage) => storage::store(context, storage),
        Request::Delete { key, compare } => deletion::delete(context, key, *compare),
        Request::Touch { key, exptime } => deletion::touch(context, key, *exptime),
        Request::Arithmetic(wanted) => arithmetic::arithmetic(context, wanted),
        Request::FlushAll { delay } => flush::flush_all(context, *delay),
        Request::Noop => Response::Ok,
        // Nobody has to log in here, and nobody can.
        Request::Sasl(_) => Reject::UnknownCommand.into(),
        Request::Version => Response::Version,
        Request::Quit => return Outcome::Quit,
        Request::Stats(args) => stats(context.server, context.connection, args, context.now),
        Request::Admin(request) => return operate(context, request),
        Request::MetaGet(wanted) => return meta::get(context, wanted, out),
        Request::MetaSet(wanted) => return meta::set(context, wanted, out),
        Request::MetaDelete(wanted) => return meta::delete(context, wanted, out),
        Request::MetaArithmetic(wanted) => return meta::count(context, wanted, out),
        Request::MetaNoop => return meta::noop(),
        Request::MetaDebug(key) => return meta::debug(context, key, out),
    };
    Outcome::Reply(reply)
}

fn written(rest: Option<Retrieval>) -> Outcome {
    rest.map_or(Outcome::Written, Outcome::Begun)
}

fn operate(context: &Context<'_>, request: &AdminRequest<'_>) -> Outcome {
    match request.verb {
        AdminVerb::Debugtime => return Outcome::Reply(debug::debugtime(context, request)),
        AdminVerb::Debugpanic => return Outcome::Reply(debug::debugpanic(context)),
        _ => {}
    }
    match admin(context.server, request, context.now) {
        AdminOutcome::Reply(response) => Outcome::Reply(response),
        AdminOutcome::Shutdown(stop) => Outcome::Shutdown(stop),
        AdminOutcome::Watch(watcher) => Outcome::Watch(watcher),
        AdminOutcome::Dump(dump) => Outcome::Dump(dump),
    }
}

impl Context<'_> {
    /// A key of the request, and where its item was seen.
    pub(super) fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        let seen = self.ahead.and_then(|key| key.again(bytes));
        seen.unwrap_or_else(|| self.server.store.key(bytes))
    }

    /// The expiry that a client's exptime means now.
    pub(super) fn expiry(&self, exptime: i64) -> Expiry {
        Expiry::from_exptime(exptime, self.now, self.server.clock.started())
    }

    /// Whether somebody wants to hear of each key that is fetched.
    pub(super) fn tells_of_gets(&self) -> bool {
        self.server.watch.wants(Categories::FETCHERS) || self.server.prefixes.is_enabled()
    }

    /// Logs a fetch to those who watch fetchers.
    pub(super) fn log_get(&self, key: &[u8], fetched: &Fetched) {
        if !self.server.watch.wants(Categories::FETCHERS) {
            return;
        }
        let (status, class, size) = match fetched {
            Fetched::Hit(Found { vivified: true, .. }) => (GetStatus::NotFound, 0, 0),
            Fetched::Hit(Found { class, value_len, .. })
            | Fetched::Large(Found { class, value_len, .. }, _) => {
                (GetStatus::Found, *class, *value_len)
            }
            Fetched::Miss(Miss::NotFound) => (GetStatus::NotFound, 0, 0),
            Fetched::Miss(Miss::Expired) => (GetStatus::Expired, 0, 0),
            Fetched::Miss(Miss::Flushed) => (GetStatus::Flushed, 0, 0),
        };
        let fd = self.connection.fd;
        self.server.watch.item_get(&ItemGet { key, status, class, fd, size }, self.now);
    }

    /// Logs that a command other than a fetch looks for an item, which upstream logs as a fetch
    /// before the command itself.
    pub(super) fn log_lookup(&self, key: &[u8]) {
        if !self.server.watch.wants(Categories::FETCHERS) {
            return;
        }
        self.look_up(key);
    }

    /// Looks for an item, and logs that, without it being an access.
    pub(super) fn look_up(&self, key: &[u8]) -> Fetched {
        let nothing = Head { context: &(), write: |(), _, _| {} };
        let look = Fetch { no_bump: true, ..Fetch::default() };
        let store = &self.server.store;
        let fetched = store.fetch(store.key(key), &look, self.now, &nothing, &mut Vec::new());
        self.log_get(key, &fetched);
        fetched
    }
}
