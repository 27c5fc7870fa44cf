//! `slabs reassign` and `slabs automove`. There are no slabs: no class ever has a page to spare.

use super::super::Server;
use super::super::stats::size_classes;
use super::{decimal, number};
use crate::protocol::response::{Reject, Response};

/// Seconds that `slabs automove window` may be set to.
const WINDOW: std::ops::RangeInclusive<u64> = 3..=1800;

pub(super) fn slabs(server: &Server, words: &[&[u8]]) -> Response {
    match words {
        [b"reassign", from, to] => reassign(server, from, to),
        [b"automove", what, rest @ ..] => automove(server, what, rest.first().copied()),
        _ => Reject::UnknownCommand.into(),
    }
}

fn reassign(server: &Server, from: &[u8], to: &[u8]) -> Response {
    if !server.settings.shown.slab_reassign {
        return Response::line("CLIENT_ERROR slab reassignment disabled");
    }
    let (Some(from), Some(to)) = (class(from), class(to)) else {
        return Reject::BadFormat.into();
    };
    let classes = 0..=i64::from(size_classes(&server.settings).count());
    if from == to {
        Response::line("SAME src and dst class are identical")
    } else if !classes.contains(&from) || !classes.contains(&to) {
        Response::line("BADCLASS invalid src or dst class id")
    } else {
        Response::line("NOSPARE source class has no spare pages")
    }
}

/// A class number, valid or not; 0 stands for the pages that no class has.
fn class(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn automove(server: &Server, what: &[u8], argument: Option<&[u8]>) -> Response {
    let mut tuned = server.tuned.lock();
    match what {
        b"ratio" => match argument.and_then(decimal) {
            Some(ratio) => tuned.slab_automove_ratio = ratio,
            None => return Reject::UnknownCommand.into(),
        },
        b"freeratio" => match argument.and_then(decimal) {
            Some(ratio) => tuned.slab_automove_freeratio = ratio,
            None => return Reject::UnknownCommand.into(),
        },
        b"window" => match argument.and_then(number) {
            Some(seconds) if WINDOW.contains(&seconds) => tuned.slab_automove_window = seconds,
            Some(_) => {
                return Response::line("CLIENT_ERROR automove window too low or too high");
            }
            None => return Reject::UnknownCommand.into(),
        },
        _ => match number(what) {
            Some(level @ 0..=2) => tuned.slab_automove = level,
            Some(_) => return Reject::UnknownCommand.into(),
            None => return Reject::BadFormat.into(),
        },
    }
    Response::Ok
}
