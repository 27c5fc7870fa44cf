//! get, gets, gat, gats, and the binary gets: keys to values, in the order they were asked for.
//!
//! A reply may be far longer than a connection may hold: one line may ask 100,000 times for the
//! same megabyte. So a reply is written in turns. A turn ends when [`OUTPUT_SOFT_MAX`] bytes are
//! waiting to be sent or [`GET_KEYS_A_TURN`] keys have been looked at; what is left to do is a
//! [`Retrieval`], which owns the keys not yet fetched and the value half sent.
//!
//! Keys of one line are fetched in groups. Short items of a group are read together
//! ([`Store::fetch_together`](crate::store::Store::fetch_together)), others one by one; all of them where a
//! get touches, or somebody watches or counts what is asked for. A line's only key is read in the same way,
//! straight into the reply, if its value lies in one piece ([`Store::fetch_alone`](crate::store::Store::fetch_alone));
//! so is a frame's, and that of an mg which is no more than a read ([`super::meta`]).

use super::execute::Context;
use crate::item::{Expiry, Found};
use crate::limits::{GET_KEYS_A_TURN, OUTPUT_SOFT_MAX, VALUE_CHUNK};
use crate::protocol::binary::encode::{HitHead, hit, miss};
use crate::protocol::request::{Echo, Keys, Retrieve, RetrieveFrame};
use crate::protocol::text::encode::{self, CasColumn, ValueLine};
use crate::stats::WorkerCounters;
use crate::store::{
    Ahead, Fetch, Fetched, Frame, GROUP_KEYS_MAX, Head, Key, LargeValue, Miss, Piece, Short,
};

/// Bytes of short items that a group of keys has often enough.
const LAID_BYTES: usize = 16 << 10;

/// What every key of a request is fetched with.
#[derive(Clone, Copy, Debug)]
struct Plan {
    fetch: Fetch,
    cas: CasColumn,
}

/// A value of which `sent` bytes have been written.
#[derive(Debug)]
pub(super) struct Half {
    value: LargeValue,
    sent: usize,
    /// What follows the value.
    end: &'static [u8],
}

/// The rest of a reply.
#[derive(Debug)]
pub(super) enum Retrieval {
    /// Of a text get.
    Lines(Lines),
    /// Of one value, in a frame or behind a meta command's line.
    Value(Half),
}

/// The rest of a text get.
#[derive(Debug)]
pub(super) struct Lines {
    plan: Plan,
    half: Option<Half>,
    keys: Vec<u8>,
    /// Where in `keys` the keys not yet fetched begin.
    next_key: usize,
}

/// Fetches the items asked for, up to the end of a turn; returns the rest, if there is any.
pub(super) fn retrieve(
    context: &Context<'_>,
    wanted: &Retrieve<'_>,
    out: &mut Vec<u8>,
) -> Option<Retrieval> {
    let server = context.server;
    let touch = wanted.touch.map(|exptime| context.expiry(exptime));
    let cas = match (wanted.with_cas, server.settings.cas) {
        (false, _) => CasColumn::Absent,
        (true, true) => CasColumn::Unique,
        (true, false) => CasColumn::Zero,
    };
    let plan = Plan { fetch: Fetch { value: true, touch, ..Fetch::default() }, cas };
    let mut keys = wanted.keys.clone();
    match fetch_keys(context, &plan, &mut keys, out) {
        Turn::Done => None,
        Turn::Over(half) => {
            let keys = keys.as_bytes().to_vec();
            Some(Retrieval::Lines(Lines { plan, half, keys, next_key: 0 }))
        }
    }
}

/// Fetches one item for an answer in a frame; returns the rest, if there is any.
pub(super) fn retrieve_frame(
    context: &Context<'_>,
    wanted: &RetrieveFrame<'_>,
    out: &mut Vec<u8>,
) -> Option<Retrieval> {
    let RetrieveFrame { key: bytes, touch, echo } = *wanted;
    let touch = touch.map(|exptime| context.expiry(exptime));
    let (key, about) = (context.key(bytes), (bytes, echo, context.server.settings.cas));
    let plain = Frame { context: about, head: short_head, end: b"" };
    let is_hit = match fetch_plain(context, touch, key, &plain, out) {
        Ok(true) => true,
        Err(_) => false,
        Ok(false) => {
            let fetch = Fetch { value: true, touch, ..Fetch::default() };
            let head = Head { context: &about, write: head };
            match fetch_with_prefix(context, key, &fetch, &head, out) {
                Fetched::Hit(_) => true,
                Fetched::Large(_, value) => return Retrieval::begin(value, b"", out),
                Fetched::Miss(_) => false,
            }
        }
    };
    if !is_hit {
        miss(bytes, echo, out);
    }
    None
}

impl Retrieval {
    /// Writes `value` and `end` behind it, up to the end of the turn; returns the rest, if there
    /// is any.
    pub(super) fn begin(
        value: LargeValue,
        end: &'static [u8],
        out: &mut Vec<u8>,
    ) -> Option<Retrieval> {
        let mut half = Half { value, sent: 0, end };
        (!half.more(out)).then_some(Retrieval::Value(half))
    }

    /// Writes the next turn; returns whether there is more.
    pub(super) fn more(&mut self, context: &Context<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Retrieval::Lines(lines) => lines.more(context, out),
            Retrieval::Value(half) => !half.more(out),
        }
    }
}

impl Lines {
    fn more(&mut self, context: &Context<'_>, out: &mut Vec<u8>) -> bool {
        if let Some(half) = &mut self.half {
            if !half.more(out) {
                return true;
            }
            self.half = None;
        }
        let Some(mut keys) = Keys::parse(&self.keys[self.next_key..]) else {
            out.extend_from_slice(encode::END);
            return false;
        };
        match fetch_keys(context, &self.plan, &mut keys, out) {
            Turn::Done => false,
            Turn::Over(half) => {
                self.next_key = self.keys.len() - keys.as_bytes().len();
                self.half = half;
                true
            }
        }
    }
}

impl Half {
    /// Writes the value up to the end of the turn, one chunk at least; returns whether that was
    /// all of it.
    fn more(&mut self, out: &mut Vec<u8>) -> bool {
        while self.sent < self.value.len() {
            self.sent += self.value.read(self.sent, VALUE_CHUNK, out);
            if out.len() >= OUTPUT_SOFT_MAX && self.sent < self.value.len() {
                return false;
            }
        }
        out.extend_from_slice(self.end);
        true
    }
}

/// How a turn ended.
enum Turn {
    /// With the reply's end.
    Done,
    /// Before it, perhaps within a value.
    Over(Option<Half>),
}

fn fetch_keys(context: &Context<'_>, plan: &Plan, keys: &mut Keys<'_>, out: &mut Vec<u8>) -> Turn {
    let all = keys.clone();
    let first = keys.next();
    let turn = if keys.as_bytes().is_empty() {
        first.and_then(|key| fetch_alone(context, plan, context.key(key), out))
    } else {
        *keys = all;
        fetch_groups(context, plan, keys, out)
    };
    match turn {
        Some(turn) => turn,
        None if keys.as_bytes().is_empty() => {
            out.extend_from_slice(encode::END);
            Turn::Done
        }
        None => Turn::Over(None),
    }
}

/// Fetches items group by group; returns how the turn ended, if it did before that was all.
fn fetch_groups(
    context: &Context<'_>,
    plan: &Plan,
    keys: &mut Keys<'_>,
    out: &mut Vec<u8>,
) -> Option<Turn> {
    let mut left = GET_KEYS_A_TURN;
    while left > 0 && !keys.as_bytes().is_empty() {
        let before = keys.clone();
        let mut group = Ahead::with_capacity(GROUP_KEYS_MAX);
        while left > group.keys().len()
            && let Some(key) = keys.next()
            && group.add(context.server.store.key(key))
        {}
        if let Some((fetched, turn)) = fetch_group(context, plan, &mut group, out) {
            *keys = before;
            keys.nth(fetched - 1);
            return Some(turn);
        }
        left -= group.keys().len();
    }
    None
}

/// Whether items are read and nothing else happens.
fn is_plain(context: &Context<'_>, touch: Option<Expiry>) -> bool {
    touch.is_none() && !context.tells_of_gets()
}

/// Fetches the item of a text get's only key; returns how the turn ended, if it did.
fn fetch_alone(
    context: &Context<'_>,
    plan: &Plan,
    key: Key<'_>,
    out: &mut Vec<u8>,
) -> Option<Turn> {
    match fetch_plain(context, plan.fetch.touch, key, &frame(plan), out) {
        Ok(false) => fetch_line(context, plan, key, out),
        Ok(true) | Err(_) => None,
    }
}

/// Reads one item and counts that; `false` if it is more than a read, or the store leaves the item to
/// [`Store::fetch`](crate::store::Store::fetch), and nothing was done.
pub(super) fn fetch_plain<C>(
    context: &Context<'_>,
    touch: Option<Expiry>,
    key: Key<'_>,
    frame: &Frame<C>,
    out: &mut Vec<u8>,
) -> Result<bool, Miss> {
    if !is_plain(context, touch) {
        return Ok(false);
    }
    let Context { server, counters, now, .. } = *context;
    let fetched = server.store.fetch_alone(key, now, frame, out);
    match fetched {
        Ok(None) => return Ok(false),
        Ok(Some(class)) => count_hit(counters, class),
        Err(miss) => {
            counters.get_misses.bump();
            count_gone(counters, miss);
        }
    }
    counters.cmd_get.bump();
    fetched.map(|_| true)
}

/// How short items are written.
fn frame(plan: &Plan) -> Frame<CasColumn> {
    Frame { context: plan.cas, head: short_line, end: b"\r\n" }
}

/// Fetches one item of a text get; returns how the turn ended, if it did.
fn fetch_line(context: &Context<'_>, plan: &Plan, key: Key<'_>, out: &mut Vec<u8>) -> Option<Turn> {
    let head = Head { context: &(key.bytes, plan.cas), write: line };
    match fetch_with_prefix(context, key, &plan.fetch, &head, out) {
        Fetched::Hit(_) => out.extend_from_slice(b"\r\n"),
        Fetched::Large(_, value) => {
            let mut half = Half { value, sent: 0, end: b"\r\n" };
            if !half.more(out) {
                return Some(Turn::Over(Some(half)));
            }
        }
        Fetched::Miss(_) => {}
    }
    (out.len() >= OUTPUT_SOFT_MAX).then_some(Turn::Over(None))
}

/// Fetches the items of a group; if the turn ended before that was all, returns after how many of them, and
/// how.
fn fetch_group(
    context: &Context<'_>,
    plan: &Plan,
    group: &mut Ahead<'_>,
    out: &mut Vec<u8>,
) -> Option<(usize, Turn)> {
    if is_plain(context, plan.fetch.touch) {
        return fetch_together(context, plan, group, out);
    }
    context.server.store.look_ahead(group);
    let turn_after = |(number, &key)| Some((number, fetch_line(context, plan, key, out)?));
    (1..).zip(group.keys()).find_map(turn_after)
}

/// Fetches items, short ones together; see [`fetch_group`].
fn fetch_together(
    context: &Context<'_>,
    plan: &Plan,
    group: &mut Ahead<'_>,
    out: &mut Vec<u8>,
) -> Option<(usize, Turn)> {
    let store = &context.server.store;
    let mut laid = Vec::with_capacity(LAID_BYTES);
    let pieces = store.fetch_together(group, context.now, &frame(plan), &mut laid);
    let keys = group.keys();
    for piece in &pieces {
        // What is missed is gone from the store as well: if it is asked for again, nobody is told why.
        if let Piece::Miss(miss) = piece {
            count_gone(context.counters, *miss);
        }
    }
    let counters = context.counters;
    let (mut hit, mut missed) = (0, 0);
    let turn_after = |((number, &key), piece)| {
        let turn = match piece {
            Piece::Hit { at, len, class } => {
                let at = at as usize;
                out.extend_from_slice(&laid[at..at + len as usize]);
                hit += 1;
                counters.class_hits.of(class).bump();
                (out.len() >= OUTPUT_SOFT_MAX).then_some(Turn::Over(None))
            }
            Piece::Miss(_) => {
                missed += 1;
                None
            }
            Piece::Alone => fetch_line(context, plan, key, out),
        };
        turn.map(|turn| (number, turn))
    };
    let turn = (1..).zip(keys).zip(pieces).find_map(turn_after);
    counters.cmd_get.add(hit + missed);
    counters.get_hits.add(hit);
    counters.get_misses.add(missed);
    turn
}

/// Begins a piece of a reply.
// Always: a part of the loop over a get's keys.
#[inline(always)]
fn short_line(cas: &CasColumn, item: &Short<'_>, out: &mut Vec<u8>) {
    let Short { key, flags, value_len, version, .. } = *item;
    encode::value_line(&ValueLine { key, flags, value_len, version, cas: *cas }, out);
}

/// Begins the reply for one key.
fn line(&(key, cas): &(&[u8], CasColumn), found: &Found, out: &mut Vec<u8>) {
    let Found { flags, value_len, version, .. } = *found;
    encode::value_line(&ValueLine { key, flags, value_len, version, cas }, out);
}

/// What the head of a hit in a frame repeats, and whether cas uniques are shown.
type About<'k> = (&'k [u8], Echo, bool);

/// Begins the reply in a frame of a short item.
fn short_head(&(key, echo, cas): &About<'_>, item: &Short<'_>, out: &mut Vec<u8>) {
    let Short { flags, value_len, version, .. } = *item;
    hit(&HitHead { key, echo, cas, flags, value_len, version }, out);
}

/// Begins the reply in a frame.
fn head(&(key, echo, cas): &About<'_>, found: &Found, out: &mut Vec<u8>) {
    let Found { flags, value_len, version, .. } = *found;
    hit(&HitHead { key, echo, cas, flags, value_len, version }, out);
}

/// Fetches one item as [`fetch_one`] does, and counts its prefix.
fn fetch_with_prefix<C>(
    context: &Context<'_>,
    key: Key<'_>,
    fetch: &Fetch,
    head: &Head<'_, C>,
    out: &mut Vec<u8>,
) -> Fetched {
    let fetched = fetch_one(context, key, fetch, head, out);
    context.server.prefixes.count_get(key.bytes, !matches!(fetched, Fetched::Miss(_)));
    fetched
}

/// Fetches one item, counts it and logs it. Whatever the protocol, every fetch of a client comes
/// through here, but for plain reads: those of groups, of a line's only key, of a frame's and of an mg's.
pub(super) fn fetch_one<C>(
    context: &Context<'_>,
    key: Key<'_>,
    fetch: &Fetch,
    head: &Head<'_, C>,
    out: &mut Vec<u8>,
) -> Fetched {
    let fetched = context.server.store.fetch(key, fetch, context.now, head, out);
    count(context, fetch, &fetched);
    context.log_get(key.bytes, &fetched);
    fetched
}

/// A fetch that touches counts as a touch, not as a get, but for a miss of mg (which alone recaches);
/// why a key was missed counts for both.
fn count(context: &Context<'_>, fetch: &Fetch, fetched: &Fetched) {
    let counters = context.counters;
    let touches = match fetched {
        Fetched::Hit(_) | Fetched::Large(..) => fetch.touch.is_some(),
        Fetched::Miss(_) => fetch.touch.is_some() && !fetch.recache,
    };
    let (commands, misses) = if touches {
        (&counters.cmd_touch, &counters.touch_misses)
    } else {
        (&counters.cmd_get, &counters.get_misses)
    };
    commands.bump();
    match fetched {
        Fetched::Hit(_) | Fetched::Large(..) if touches => counters.touch_hits.bump(),
        Fetched::Hit(found) | Fetched::Large(found, _) => count_hit(counters, found.class),
        Fetched::Miss(miss) => {
            misses.bump();
            count_gone(counters, *miss);
        }
    }
}

/// Counts an item of a class that was read.
fn count_hit(counters: &WorkerCounters, class: u8) {
    counters.get_hits.bump();
    counters.class_hits.of(class).bump();
}

/// Counts why there is nothing, if there was something.
fn count_gone(counters: &WorkerCounters, miss: Miss) {
    match miss {
        Miss::NotFound => {}
        Miss::Expired => counters.get_expired.bump(),
        Miss::Flushed => counters.get_flushed.bump(),
    }
}
