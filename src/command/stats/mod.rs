//! `stats` and its sub-commands: what is counted, as lists that every protocol renders.
//!
//! Names are upstream's (memcached 1.6.45) letter for letter, and so is their order: monitors and
//! clients read both. What only we have stands under `stats twincached`. Sub-commands are known by
//! their whole name only.
//!
//! | file | what |
//! |---|---|
//! | `general` | `stats`, `stats twincached` |
//! | `settings` | `stats settings` |
//! | `classes` | `stats items`, `stats slabs`, `stats sizes` |
//! | `replication` | `stats replication` |
//! | `conns` | `stats conns` |
//! | `listing` | `stats detail`, `stats cachedump` |

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::{Connection, Server};
use crate::clock::Now;
use crate::protocol::response::{Reject, Response, Stat, StatValue};

mod classes;
mod conns;
mod general;
mod listing;
mod replication;
mod settings;

pub(super) use classes::size_classes;

/// Answers `stats <args>`.
#[must_use]
pub fn stats(server: &Server, connection: &Connection, args: &[u8], now: Now) -> Response {
    let mut words = args.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let Some(which) = words.next() else {
        return Response::Stats(general::general(server, now));
    };
    match which {
        b"settings" => Response::Stats(settings::settings(server)),
        b"items" => Response::Stats(classes::items(server, now)),
        b"slabs" => Response::Stats(classes::slabs(server, now)),
        b"sizes" => Response::Stats(classes::sizes(server)),
        b"conns" => Response::Stats(conns::conns(server, connection, now)),
        b"twincached" => Response::Stats(general::twincached(server)),
        b"replication" => Response::Stats(replication::replication(server, now)),
        b"detail" => listing::detail(server, words.next()),
        b"cachedump" => listing::cachedump(server, words.next(), words.next(), now),
        b"reset" => {
            reset(server);
            Response::Reset
        }
        _ => Reject::UnknownCommand.into(),
    }
}

/// Counts from zero; gauges stay.
fn reset(server: &Server) {
    server.totals.reset();
    server.store.reset_counters();
    server.prefixes.reset();
    server.watch.reset_counts();
    server.peers.iter().for_each(|peers| peers.reset_waits());
    server.tuned.lock().lru_crawler_starts = 0;
    for counter in [&server.accept_emfile, &server.listen_disabled_num, &server.listen_disabled_us]
    {
        counter.store(0, Ordering::Relaxed);
    }
}

/// Statistics in the order in which they were put.
#[derive(Default)]
struct List(Vec<Stat>);

impl List {
    fn put(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<StatValue>) {
        self.0.push(Stat::new(name, value));
    }

    /// Statistics that upstream counts and that cannot happen here.
    fn put_zeros(&mut self, names: &[&'static str]) {
        for &name in names {
            self.put(name, 0_u64);
        }
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{ConnState, Transport};
    use crate::settings::Settings;

    pub(super) const NOW: Now = Now::from_unix_seconds(1_800_000_100);

    pub(super) fn client() -> Connection {
        let addr = "tcp:127.0.0.1:4711".to_owned();
        let listen = Some("tcp:127.0.0.1:11211".into());
        Connection::new(27, addr, listen, Transport::Tcp, ConnState::NewCmd, NOW.seconds())
    }

    pub(super) fn asked(server: &Server, args: &str) -> Response {
        stats(server, &client(), args.as_bytes(), NOW)
    }

    /// `name value` lines of `stats <args>`.
    pub(super) fn lines(server: &Server, args: &str) -> Vec<String> {
        let Response::Stats(list) = asked(server, args) else { panic!("stats {args} is a list") };
        list.iter().map(|stat| format!("{} {}", stat.name, stat.value)).collect()
    }

    pub(super) fn names(stats: &[Stat]) -> Vec<&str> {
        stats.iter().map(|stat| stat.name.as_ref()).collect()
    }

    pub(super) fn value(server: &Server, args: &str, name: &str) -> String {
        let found = lines(server, args).into_iter().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name).then(|| value.to_owned())
        });
        found.unwrap_or_else(|| panic!("stats {args} has {name}"))
    }

    #[test]
    fn only_whole_names_are_known() {
        let server = Server::new(Settings::default());
        for args in [
            "re",
            "rese",
            "setting",
            "settingsx",
            "item",
            "d",
            "SETTINGS",
            "malloc",
            "maps",
            "extstore",
            "proxy",
            "proxyfuncs",
            "proxybe",
            "sizes_enable",
            "sizes_disable",
            "noreply",
            "foo",
            "\u{0}",
            "=",
        ] {
            assert_eq!(asked(&server, args), Reject::UnknownCommand.into(), "stats {args}");
        }
        for args in ["settings", "  settings  ", "settings x"] {
            assert!(matches!(asked(&server, args), Response::Stats(_)), "stats {args}");
        }
    }

    #[test]
    fn a_reset_zeroes_counters_and_leaves_settings_and_gauges() {
        let server = Server::new(Settings::default());
        server.totals.register().cmd_get.add(7);
        server.listen_disabled_num.store(3, Ordering::Relaxed);
        server.tuned.lock().lru_crawler_starts = 2;
        server.prefixes.enable(true);
        server.prefixes.count_set(b"a:b");
        assert_eq!(asked(&server, "reset noreply"), Response::Reset);
        for name in ["cmd_get", "listen_disabled_num", "lru_crawler_starts", "total_items"] {
            assert_eq!(value(&server, "", name), "0", "{name}");
        }
        assert_eq!(value(&server, "", "limit_maxbytes"), (64 << 20).to_string());
        assert_eq!(asked(&server, "detail dump"), Response::Listing(Vec::new()));
        assert!(server.prefixes.is_enabled());
    }
}
