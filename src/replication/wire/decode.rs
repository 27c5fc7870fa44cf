//! Bytes into frames.

use super::bytes::Reader;
use super::encode::{MUST, checksum, types};
use super::{Frame, HEADER, Heartbeat, Hello, Listed, Lock, MAGIC, Standing};
use crate::clock::UnixSeconds;
use crate::item::Expiry;
use crate::limits::KEY_MAX;
use crate::replication::config::Boot;
use crate::replication::event::{Amount, Reason, State};
use crate::replication::speech::Speech;
use crate::store::{Flushes, Kind, Lanes, PendingFlush, Record};
use crate::version::Version;

/// What the front of a stream of bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::replication) enum Next<'a> {
    /// A frame of this many bytes. `None`: of a type that we do not know and may skip.
    Frame(Option<Frame<'a>>, usize),
    /// The beginning of a frame.
    Partial,
    /// Nothing that can be gone on with.
    Bad(Reason),
}

/// The frame at the front of `bytes`, whose body may have at most `body_max` bytes.
pub(in crate::replication) fn next(bytes: &[u8], body_max: usize) -> Next<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return Next::Partial };
    let [a, b, c, d, kind, flags, zero, nought] = *head;
    let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if len > body_max {
        return Next::Bad(Reason::Oversize);
    }
    if (zero, nought) != (0, 0) {
        return Next::Bad(Reason::BadFrame);
    }
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else { return Next::Partial };
    let Some(body) = rest.get(..len) else { return Next::Partial };
    if checksum(*head, body) != u32::from_le_bytes(*sum) {
        return Next::Bad(Reason::BadFrame);
    }
    let size = HEADER + len;
    let is_known =
        matches!(kind, types::HELLO..=types::ERROR | types::LOCK_VIEW..=types::LOCK_RETRY);
    if !is_known {
        let must = flags & MUST != 0;
        return if must { Next::Bad(Reason::Unintelligible) } else { Next::Frame(None, size) };
    }
    match decode(kind, Reader(body)) {
        Some(frame) => Next::Frame(Some(frame), size),
        None => Next::Bad(Reason::BadFrame),
    }
}

/// How many bytes `begun`, the beginning of a frame, lacks at least.
pub(in crate::replication) fn lacking(begun: &[u8]) -> usize {
    let whole = match begun.first_chunk() {
        Some(len) => usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX),
        None => 0,
    };
    HEADER.saturating_add(if begun.len() < HEADER { 0 } else { whole }) - begun.len()
}

/// A whole frame, as far as a glance tells.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::replication) struct Glimpse<'a> {
    /// Key and version, if it is a record.
    pub(in crate::replication) record: Option<(&'a [u8], Version)>,
    /// How long it is.
    pub(in crate::replication) len: usize,
}

/// The whole frame at the front of `bytes`: without a look at its sum, so that it may be no frame at all.
pub(in crate::replication) fn glance(bytes: &[u8]) -> Option<Glimpse<'_>> {
    let ([a, b, c, d, kind, ..], rest) = bytes.split_first_chunk::<HEADER>()?;
    let len = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?;
    let body = rest.get(..len)?;
    let record = match (*kind == types::RECORD).then(|| record(&mut Reader(body))) {
        Some(Some(Frame::Record { key, record, .. })) => Some((key, record.version)),
        _ => None,
    };
    Some(Glimpse { record, len: HEADER + len })
}

fn decode(kind: u8, mut body: Reader<'_>) -> Option<Frame<'_>> {
    Some(match kind {
        types::HELLO => Frame::Hello(hello(&mut body)?),
        types::START => {
            let known = body.bool()?;
            let version = body.version()?;
            Frame::Start { applied: known.then_some(version) }
        }
        types::RESUME => Frame::Resume { from: body.version()? },
        types::RECORD => record(&mut body)?,
        types::TOUCH => {
            let (base, touched) = (body.version()?, body.version()?);
            let expiry = Expiry::from_bits(body.u32()?);
            Frame::Touch { key: key(&mut body)?, base, touched, expiry }
        }
        types::FLUSHES => Frame::Flushes(flushes(&mut body)?),
        types::UPTO => {
            Frame::Upto { version: body.version()?, caught_up: body.bool()?, awaited: body.bool()? }
        }
        types::ACK => Frame::Ack { version: body.version()? },
        types::NEED => {
            let base = body.version()?;
            Frame::Need { key: key(&mut body)?, base }
        }
        types::SCAN_REQUEST => Frame::ScanRequest,
        types::HEARTBEAT => Frame::Heartbeat(heartbeat(&mut body)?),
        types::GOODBYE => Frame::Goodbye,
        types::ERROR => Frame::Error { code: body.u8()? },
        types::LOCK_VIEW..=types::LOCK_RETRY => Frame::Lock(lock(kind, &mut body)?),
        _ => scan(kind, &mut body)?,
    })
}

fn lock<'a>(kind: u8, body: &mut Reader<'a>) -> Option<Lock<'a>> {
    Some(match kind {
        types::LOCK_VIEW => {
            let (epoch, members) = (body.u64()?, body.short()?.to_vec());
            Lock::View { epoch, members, reach: body.short()?.to_vec(), upto: body.version()? }
        }
        types::LOCK_FORWARD => {
            let (id, lock) = (body.u64()?, body.version()?);
            Lock::Forward { id, lock, key: key(body)?, request: body.long()? }
        }
        types::LOCK_NOTE => {
            let (node, boot, id) = (body.u8()?, Boot(body.u128()?), body.u64()?);
            let (version, since, takes) = (body.version()?, body.version()?, body.bool()?);
            let (key, answer) = (key(body)?, body.long()?);
            Lock::Note { node, boot, id, version, since, takes, key, answer }
        }
        types::LOCK_DONE => Lock::Done { id: body.u64()? },
        types::LOCK_RETRY => Lock::Retry { id: body.u64()? },
        _ => return None,
    })
}

/// Frames that compare two nodes.
fn scan<'a>(kind: u8, body: &mut Reader<'a>) -> Option<Frame<'a>> {
    let round = body.u32()?;
    Some(match kind {
        types::SCAN_START => {
            let (gap, cutoff) = (body.bool()?, UnixSeconds(body.u32()?));
            Frame::ScanStart { round, gap, cutoff, holds: amount(body)? }
        }
        types::DIGESTS => {
            let items = body.u64()?;
            Frame::Digests { round, items, lanes: sums(body)? }
        }
        types::LIST_REQUEST => Frame::ListRequest { round, lanes: lanes(body)? },
        types::LIST => {
            let last = body.bool()?;
            let count = usize::from(body.u16()?);
            let entries = body.many(count, 29, |body| {
                let (hash, version, touched) = (body.u64()?, body.version()?, body.version()?);
                let (rank, content) = (body.u8()?, body.u32()?);
                Some(Listed { hash, version, rank, touched, content })
            })?;
            Frame::List { round, last, entries }
        }
        types::SCAN_DONE => Frame::ScanDone { round, purged_to: body.version()? },
        types::CHECK => {
            let cutoff = UnixSeconds(body.u32()?);
            Frame::Check { round, cutoff, lanes: sums(body)? }
        }
        types::CHECKED => Frame::Checked { round, quiet: body.bool()?, differing: lanes(body)? },
        _ => return None,
    })
}

fn amount(body: &mut Reader<'_>) -> Option<Amount> {
    Some(Amount { items: body.u64()?, bytes: body.u64()? })
}

fn sums(body: &mut Reader<'_>) -> Option<Vec<(u64, u64)>> {
    let count = usize::from(body.u16()?);
    body.many(count, 16, |body| Some((body.u64()?, body.u64()?)))
}

fn lanes(body: &mut Reader<'_>) -> Option<Lanes> {
    Some(Lanes::from_bits([body.u64()?, body.u64()?, body.u64()?, body.u64()?]))
}

fn key<'a>(body: &mut Reader<'a>) -> Option<&'a [u8]> {
    body.short().filter(|key| (1..=KEY_MAX).contains(&key.len()))
}

fn state(body: &mut Reader<'_>) -> Option<State> {
    match body.u8()? {
        0 => Some(State::Loading),
        1 => Some(State::Ready),
        2 => Some(State::Draining),
        _ => None,
    }
}

fn hello<'a>(body: &mut Reader<'a>) -> Option<Hello<'a>> {
    if body.bytes(MAGIC.len())? != MAGIC {
        return None;
    }
    Some(Hello {
        speech: Speech {
            versions: (body.u16()?, body.u16()?),
            features: body.u64()?,
            required: body.u64()?,
        },
        policy: body.u64()?,
        cluster: std::str::from_utf8(body.short()?).ok()?,
        node: body.u8().filter(|node| (1..=254).contains(node))?,
        boot: Boot(body.u128()?),
        serial: body.u64()?,
        clock_us: body.u64()?,
        latest: body.version()?,
        item_size_max: body.u32()?,
        state: state(body)?,
        flushes: flushes(body)?,
        standing: standing(body)?,
    })
}

fn standing(body: &mut Reader<'_>) -> Option<Standing> {
    Some(Standing {
        purged_to: body.version()?,
        heard: body.version()?,
        written: body.version()?,
        company: body.u8()?,
        wipes: body.bool()?,
    })
}

fn record<'a>(body: &mut Reader<'a>) -> Option<Frame<'a>> {
    let kind = match body.u8()? {
        0 => Kind::Lost,
        1 => Kind::Deleted,
        2 => Kind::Value,
        _ => return None,
    };
    let bits = body.u8().filter(|bits| *bits < 8)?;
    let record = Record {
        kind,
        version: body.version()?,
        touched: body.version()?,
        expiry: Expiry::from_bits(body.u32()?),
        flags: body.u32()?,
        stale: bits & 1 != 0,
        binary_key: bits & 2 != 0,
    };
    let key = key(body)?;
    let value = body.long()?;
    let is_whole = kind == Kind::Value || value.is_empty();
    is_whole.then_some(Frame::Record { key, record, value, answer: bits & 4 != 0 })
}

fn flushes(body: &mut Reader<'_>) -> Option<Flushes> {
    let watermark = body.version()?;
    let is_pending = body.bool()?;
    let pending = PendingFlush { version: body.version()?, at: UnixSeconds(body.u32()?) };
    Some(Flushes { watermark, pending: is_pending.then_some(pending) })
}

fn heartbeat(body: &mut Reader<'_>) -> Option<Heartbeat> {
    let sent_us = body.u64()?;
    let echo = (body.u64()?, body.u64()?);
    let state = state(body)?;
    let in_sync = body.bool()?;
    let is_caught_up = body.bool()?;
    let upto = body.version()?;
    let flushes = flushes(body)?;
    let count = usize::from(body.u8()?);
    let applied =
        body.many(count, 25, |body| Some((body.u8()?, Boot(body.u128()?), body.version()?)))?;
    let upto = is_caught_up.then_some(upto);
    let asks = body.bool()?;
    Some(Heartbeat { sent_us, echo, state, in_sync, upto, flushes, applied, asks })
}
