//! `lru` and `lru_crawler`. Our LRU has one order and expired items come back by themselves: a
//! crawl is one bounded step of that sweep, done at once.

use super::super::Server;
use super::super::dump::{Classes, Dump, DumpForm};
use super::{AdminOutcome, decimal, number};
use crate::clock::Now;
use crate::protocol::response::{Reject, Response};

/// Longest `lru_crawler sleep`, microseconds.
const SLEEP_MAX: u64 = 1_000_000;

/// What hot and warm items together may take, percent.
const HOT_AND_WARM_MAX: u64 = 80;

pub(super) fn lru(server: &Server, words: &[&[u8]]) -> Response {
    let maintainer = server.settings.shown.lru_maintainer;
    match words {
        [b"tune", hot, warm, hot_factor, warm_factor, ..] => {
            let percents = (number(hot), number(warm));
            tune(server, percents, (decimal(hot_factor), decimal(warm_factor)))
        }
        [b"mode", mode, ..] if maintainer => {
            let segmented = match *mode {
                b"flat" => false,
                b"segmented" => true,
                _ => return Reject::UnknownCommand.into(),
            };
            server.tuned.lock().lru_segmented = segmented;
            Response::Ok
        }
        [b"temp_ttl", seconds, ..] if maintainer => temp_ttl(server, seconds),
        _ => Reject::UnknownCommand.into(),
    }
}

fn tune(
    server: &Server,
    percents: (Option<u64>, Option<u64>),
    factors: (Option<f64>, Option<f64>),
) -> Response {
    let ((Some(hot), Some(warm)), (Some(hot_factor), Some(warm_factor))) = (percents, factors)
    else {
        return Reject::UnknownCommand.into();
    };
    if hot.saturating_add(warm) > HOT_AND_WARM_MAX {
        return Response::line("ERROR hot and warm pcts must not exceed 80");
    }
    if hot_factor <= 0.0 || warm_factor <= 0.0 {
        return Response::line("ERROR hot/warm age factors must be greater than 0");
    }
    let mut tuned = server.tuned.lock();
    (tuned.hot_lru_pct, tuned.warm_lru_pct) = (hot, warm);
    (tuned.hot_max_factor, tuned.warm_max_factor) = (hot_factor, warm_factor);
    Response::Ok
}

/// A negative number switches it off and keeps what was set.
fn temp_ttl(server: &Server, seconds: &[u8]) -> Response {
    let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse::<i64>().ok());
    let Some(seconds) = seconds else { return Reject::UnknownCommand.into() };
    let mut tuned = server.tuned.lock();
    tuned.temp_lru = seconds >= 0;
    if let Ok(seconds) = u64::try_from(seconds) {
        tuned.temporary_ttl = seconds;
    }
    Response::Ok
}

pub(super) fn crawler(server: &Server, words: &[&[u8]], now: Now) -> AdminOutcome {
    match words {
        [b"crawl", classes] => crawl(server, classes, now).into(),
        [b"metadump", classes] => dump(server, DumpForm::Meta, classes),
        [b"mgdump", classes] => dump(server, DumpForm::Mg, classes),
        [b"tocrawl", items] => match number(items) {
            Some(items) => {
                server.tuned.lock().lru_crawler_tocrawl = items;
                Response::Ok.into()
            }
            None => Reject::BadFormat.into(),
        },
        [b"sleep", micros] => match number(micros) {
            Some(micros @ ..=SLEEP_MAX) => {
                server.tuned.lock().lru_crawler_sleep = micros;
                Response::Ok.into()
            }
            Some(_) => Response::line("CLIENT_ERROR sleep must be one second or less").into(),
            None => Reject::BadFormat.into(),
        },
        [b"enable"] => {
            let was = std::mem::replace(&mut server.tuned.lock().lru_crawler, true);
            if was {
                Response::line("ERROR failed to start lru crawler thread").into()
            } else {
                Response::Ok.into()
            }
        }
        [b"disable"] => {
            server.tuned.lock().lru_crawler = false;
            Response::Ok.into()
        }
        _ => Reject::UnknownCommand.into(),
    }
}

fn crawl(server: &Server, classes: &[u8], now: Now) -> Response {
    if !server.tuned.lock().lru_crawler {
        return Response::line("CLIENT_ERROR lru crawler disabled");
    }
    match classes_to_crawl(classes) {
        Err(refusal) => refusal,
        Ok(_) if classes == b"hash" => Response::line("ERROR an unknown error happened"),
        Ok(_) => {
            server.tuned.lock().lru_crawler_starts += 1;
            server.store.sweep(now);
            Response::Ok
        }
    }
}

fn dump(server: &Server, form: DumpForm, classes: &[u8]) -> AdminOutcome {
    if !server.tuned.lock().lru_crawler {
        return Response::line("CLIENT_ERROR lru crawler disabled").into();
    }
    if !server.settings.dump_enabled {
        return Response::line(match form {
            DumpForm::Meta => "ERROR metadump not allowed",
            DumpForm::Mg => "ERROR key dump not allowed",
        })
        .into();
    }
    match classes_to_crawl(classes) {
        Err(refusal) => refusal.into(),
        Ok(classes) => {
            server.tuned.lock().lru_crawler_starts += 1;
            AdminOutcome::Dump(Dump::new(form, classes))
        }
    }
}

fn classes_to_crawl(list: &[u8]) -> Result<Classes, Response> {
    if matches!(list, b"all" | b"hash") {
        return Ok(Classes::ALL);
    }
    match Classes::parse(list) {
        None => Err(Response::line("BADCLASS invalid class id")),
        Some(classes) if classes.is_empty() => Err(Response::line("NOTSTARTED no items to crawl")),
        Some(classes) => Ok(classes),
    }
}
