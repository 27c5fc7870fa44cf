//! A watching connection's end of the log stream, and which lines it asked for.

use super::Server;
use crate::limits::OUTPUT_SOFT_MAX;
use crate::protocol::response::{Reject, Response};
use crate::watch::{Categories, Subscription};

/// A watcher. Dropping it ends its subscription.
#[derive(Debug)]
pub struct Watcher {
    subscription: Subscription,
}

impl Watcher {
    /// Begins watching what `names` name, fetchers when they name nothing.
    ///
    /// # Errors
    /// The answer to a client that may not watch, asks for an unknown category, or finds all
    /// places taken.
    pub(super) fn start(server: &Server, names: &[&[u8]]) -> Result<Watcher, Response> {
        if !server.settings.watch_enabled {
            return Err(Response::line("CLIENT_ERROR watch commands not allowed"));
        }
        let mut categories = Categories::default();
        for name in names {
            let named = Categories::named(name).ok_or(Reject::UnknownCommand)?;
            categories = categories.with(named);
        }
        if names.is_empty() {
            categories = Categories::FETCHERS;
        }
        match server.watch.subscribe(categories, server.settings.shown.watcher_logbuf_size) {
            Ok(subscription) => Ok(Watcher { subscription }),
            Err(_too_many) => Err(Response::line("WATCHER_TOO_MANY log watcher limit reached")),
        }
    }

    /// Appends the log lines that have come in, about [`OUTPUT_SOFT_MAX`] bytes at most.
    pub fn drain(&mut self, out: &mut Vec<u8>) {
        self.subscription.drain(OUTPUT_SOFT_MAX, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::limits::WATCHERS_MAX;
    use crate::settings::Settings;
    use crate::watch::{GetStatus, ItemGet};

    fn refusal(server: &Server, names: &[&[u8]]) -> Option<Response> {
        Watcher::start(server, names).err()
    }

    #[test]
    fn a_watcher_that_names_nothing_sees_fetches() {
        let server = Server::new(Settings::default());
        let mut watcher = Watcher::start(&server, &[]).expect("a place");
        let get = ItemGet { key: b"k", status: GetStatus::Found, class: 1, fd: 9, size: 3 };
        server.watch.item_get(&get, Now::from_unix_seconds(1_800_000_000));
        let mut out = Vec::new();
        watcher.drain(&mut out);
        assert!(out.ends_with(b"key=k status=found clsid=1 cfd=9 size=3\n"));
    }

    #[test]
    fn every_category_of_upstream_may_be_named_and_no_other() {
        let server = Server::new(Settings::default());
        let all = "fetchers mutations evictions connevents sysevents deletions rawcmds proxyreqs \
                   proxyevents proxyuser";
        let names: Vec<&[u8]> = all.split(' ').map(str::as_bytes).collect();
        assert_eq!(refusal(&server, &names), None);
        for unknown in [&b"foo"[..], b"fetcher", b"FETCHERS", b"\xff"] {
            let names: [&[u8]; 2] = [b"fetchers", unknown];
            assert_eq!(refusal(&server, &names), Some(Reject::UnknownCommand.into()));
        }
        assert_eq!(server.watch.counts().watchers, 0, "refused and dropped watchers are gone");
    }

    #[test]
    fn watching_can_be_forbidden_and_places_are_bounded() {
        let server = Server::new(Settings::default());
        let watchers: Vec<_> = (0..WATCHERS_MAX).map(|_| Watcher::start(&server, &[])).collect();
        assert!(watchers.iter().all(Result::is_ok));
        let too_many = Response::line("WATCHER_TOO_MANY log watcher limit reached");
        assert_eq!(refusal(&server, &[]), Some(too_many));

        let quiet = Server::new(Settings { watch_enabled: false, ..Settings::default() });
        let forbidden = Response::line("CLIENT_ERROR watch commands not allowed");
        assert_eq!(refusal(&quiet, &[b"foo"]), Some(forbidden));
    }
}
