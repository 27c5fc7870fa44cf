//! Frames into bytes.

use crc32fast::Hasher;

use super::bytes::Put;
use super::{Frame, HEADER, Heartbeat, Hello, Lock, MAGIC, Standing};
use crate::replication::event::State;
use crate::replication::speech::Speech;
use crate::store::{Flushes, Kind, Lanes, Record};

/// Types whose meaning must be known.
pub(super) const MUST: u8 = 1;

/// The type bytes.
pub(super) mod types {
    pub(in super::super) const HELLO: u8 = 1;
    pub(in super::super) const START: u8 = 2;
    pub(in super::super) const RESUME: u8 = 3;
    pub(in super::super) const RECORD: u8 = 4;
    pub(in super::super) const TOUCH: u8 = 5;
    pub(in super::super) const FLUSHES: u8 = 6;
    pub(in super::super) const UPTO: u8 = 7;
    pub(in super::super) const ACK: u8 = 8;
    pub(in super::super) const NEED: u8 = 9;
    pub(in super::super) const SCAN_REQUEST: u8 = 10;
    pub(in super::super) const SCAN_START: u8 = 11;
    pub(in super::super) const DIGESTS: u8 = 12;
    pub(in super::super) const LIST_REQUEST: u8 = 13;
    pub(in super::super) const LIST: u8 = 14;
    pub(in super::super) const SCAN_DONE: u8 = 15;
    pub(in super::super) const CHECK: u8 = 16;
    pub(in super::super) const CHECKED: u8 = 17;
    pub(in super::super) const HEARTBEAT: u8 = 18;
    pub(in super::super) const GOODBYE: u8 = 19;
    pub(in super::super) const ERROR: u8 = 20;
    pub(in super::super) const LOCK_VIEW: u8 = 32;
    pub(in super::super) const LOCK_FORWARD: u8 = 33;
    pub(in super::super) const LOCK_NOTE: u8 = 34;
    pub(in super::super) const LOCK_DONE: u8 = 35;
    pub(in super::super) const LOCK_RETRY: u8 = 36;
}

/// A kind's byte: its place in the order of kinds.
pub(in crate::replication) fn rank_of(kind: Kind) -> u8 {
    match kind {
        Kind::Lost => 0,
        Kind::Deleted => 1,
        Kind::Value => 2,
    }
}

pub(super) fn state_byte(state: State) -> u8 {
    match state {
        State::Loading => 0,
        State::Ready => 1,
        State::Draining | State::Drained => 2,
    }
}

/// Of a frame's first eight bytes and its body.
pub(super) fn checksum(head: [u8; 8], body: &[u8]) -> u32 {
    let mut sum = Hasher::new();
    sum.update(&head);
    sum.update(body);
    sum.finalize()
}

impl Frame<'_> {
    /// Appends the frame.
    pub(in crate::replication) fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(&[0; HEADER]);
        self.put_body(into);
        let body = &into[start + HEADER..];
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let head = [len[0], len[1], len[2], len[3], self.type_byte(), self.flags(), 0, 0];
        let sum = checksum(head, body).to_le_bytes();
        into[start..start + 8].copy_from_slice(&head);
        into[start + 8..start + HEADER].copy_from_slice(&sum);
    }

    /// Who does not know the frame must hang up, unless nothing is lost by skipping it.
    fn flags(&self) -> u8 {
        match self {
            // The end follows, and says the same.
            Frame::Goodbye | Frame::Error { .. } => 0,
            _ => MUST,
        }
    }

    fn type_byte(&self) -> u8 {
        match self {
            Frame::Hello(_) => types::HELLO,
            Frame::Start { .. } => types::START,
            Frame::Resume { .. } => types::RESUME,
            Frame::Record { .. } => types::RECORD,
            Frame::Touch { .. } => types::TOUCH,
            Frame::Flushes(_) => types::FLUSHES,
            Frame::Upto { .. } => types::UPTO,
            Frame::Ack { .. } => types::ACK,
            Frame::Need { .. } => types::NEED,
            Frame::ScanRequest => types::SCAN_REQUEST,
            Frame::ScanStart { .. } => types::SCAN_START,
            Frame::Digests { .. } => types::DIGESTS,
            Frame::ListRequest { .. } => types::LIST_REQUEST,
            Frame::List { .. } => types::LIST,
            Frame::ScanDone { .. } => types::SCAN_DONE,
            Frame::Check { .. } => types::CHECK,
            Frame::Checked { .. } => types::CHECKED,
            Frame::Heartbeat(_) => types::HEARTBEAT,
            Frame::Goodbye => types::GOODBYE,
            Frame::Error { .. } => types::ERROR,
            Frame::Lock(Lock::View { .. }) => types::LOCK_VIEW,
            Frame::Lock(Lock::Forward { .. }) => types::LOCK_FORWARD,
            Frame::Lock(Lock::Note { .. }) => types::LOCK_NOTE,
            Frame::Lock(Lock::Done { .. }) => types::LOCK_DONE,
            Frame::Lock(Lock::Retry { .. }) => types::LOCK_RETRY,
        }
    }

    fn put_body(&self, body: &mut Vec<u8>) {
        match self {
            Frame::Hello(hello) => put_hello(hello, body),
            Frame::Start { applied } => {
                body.put_u8(u8::from(applied.is_some()));
                body.put_version(applied.unwrap_or_default());
            }
            Frame::Resume { from } => body.put_version(*from),
            Frame::Record { key, record, value, answer } => {
                put_record(record, *answer, body);
                body.put_short(key);
                body.put_long(value);
            }
            Frame::Touch { key, base, touched, expiry } => {
                body.put_version(*base);
                body.put_version(*touched);
                body.put_u32(expiry.to_bits());
                body.put_short(key);
            }
            Frame::Flushes(flushes) => put_flushes(flushes, body),
            Frame::Upto { version, caught_up, awaited } => {
                body.put_version(*version);
                body.put_u8(u8::from(*caught_up));
                body.put_u8(u8::from(*awaited));
            }
            Frame::Ack { version } => body.put_version(*version),
            Frame::Need { key, base } => {
                body.put_version(*base);
                body.put_short(key);
            }
            Frame::ScanRequest | Frame::Goodbye => {}
            Frame::Heartbeat(heartbeat) => put_heartbeat(heartbeat, body),
            Frame::Error { code } => body.put_u8(*code),
            Frame::Lock(lock) => put_lock(lock, body),
            _ => self.put_scan(body),
        }
    }

    /// The bodies of frames that compare two nodes.
    fn put_scan(&self, body: &mut Vec<u8>) {
        match self {
            Frame::ScanStart { round, gap, cutoff, holds } => {
                body.put_u32(*round);
                body.put_u8(u8::from(*gap));
                body.put_u32(cutoff.0);
                body.put_u64(holds.items);
                body.put_u64(holds.bytes);
            }
            Frame::Digests { round, items, lanes } => {
                body.put_u32(*round);
                body.put_u64(*items);
                put_sums(lanes, body);
            }
            Frame::ListRequest { round, lanes } => {
                body.put_u32(*round);
                put_lanes(*lanes, body);
            }
            Frame::List { round, last, entries } => {
                body.put_u32(*round);
                body.put_u8(u8::from(*last));
                body.put_u16(u16::try_from(entries.len()).unwrap_or(u16::MAX));
                for entry in entries {
                    body.put_u64(entry.hash);
                    body.put_version(entry.version);
                    body.put_version(entry.touched);
                    body.put_u8(entry.rank);
                    body.put_u32(entry.content);
                }
            }
            Frame::ScanDone { round, purged_to } => {
                body.put_u32(*round);
                body.put_version(*purged_to);
            }
            Frame::Check { round, cutoff, lanes } => {
                body.put_u32(*round);
                body.put_u32(cutoff.0);
                put_sums(lanes, body);
            }
            Frame::Checked { round, quiet, differing } => {
                body.put_u32(*round);
                body.put_u8(u8::from(*quiet));
                put_lanes(*differing, body);
            }
            _ => {}
        }
    }
}

fn put_sums(sums: &[(u64, u64)], body: &mut Vec<u8>) {
    body.put_u16(u16::try_from(sums.len()).unwrap_or(u16::MAX));
    for (xor, sum) in sums {
        body.put_u64(*xor);
        body.put_u64(*sum);
    }
}

fn put_lanes(lanes: Lanes, body: &mut Vec<u8>) {
    lanes.to_bits().into_iter().for_each(|bits| body.put_u64(bits));
}

fn put_lock(lock: &Lock<'_>, body: &mut Vec<u8>) {
    match lock {
        Lock::View { epoch, members, reach, upto } => {
            body.put_u64(*epoch);
            body.put_short(members);
            body.put_short(reach);
            body.put_version(*upto);
        }
        Lock::Forward { id, lock, key, request } => {
            body.put_u64(*id);
            body.put_version(*lock);
            body.put_short(key);
            body.put_long(request);
        }
        Lock::Note { node, boot, id, version, since, takes, key, answer } => {
            body.put_u8(*node);
            body.put(&boot.0.to_le_bytes());
            body.put_u64(*id);
            body.put_version(*version);
            body.put_version(*since);
            body.put_u8(u8::from(*takes));
            body.put_short(key);
            body.put_long(answer);
        }
        Lock::Done { id } | Lock::Retry { id } => body.put_u64(*id),
    }
}

fn put_hello(hello: &Hello<'_>, body: &mut Vec<u8>) {
    body.put(MAGIC);
    let Speech { versions: (oldest, newest), features, required } = hello.speech;
    body.put_u16(oldest);
    body.put_u16(newest);
    [features, required, hello.policy].into_iter().for_each(|bits| body.put_u64(bits));
    body.put_short(hello.cluster.as_bytes());
    body.put_u8(hello.node);
    body.put(&hello.boot.0.to_le_bytes());
    body.put_u64(hello.serial);
    body.put_u64(hello.clock_us);
    body.put_version(hello.latest);
    body.put_u32(hello.item_size_max);
    body.put_u8(state_byte(hello.state));
    put_flushes(&hello.flushes, body);
    let Standing { purged_to, heard, written, company, wipes } = hello.standing;
    [purged_to, heard, written].into_iter().for_each(|version| body.put_version(version));
    body.put_u8(company);
    body.put_u8(u8::from(wipes));
}

fn put_record(record: &Record, answer: bool, body: &mut Vec<u8>) {
    let bits = [record.stale, record.binary_key, answer];
    body.put_u8(rank_of(record.kind));
    body.put_u8(bits.into_iter().rev().fold(0, |all, bit| all << 1 | u8::from(bit)));
    body.put_version(record.version);
    body.put_version(record.touched);
    body.put_u32(record.expiry.to_bits());
    body.put_u32(record.flags);
}

fn put_flushes(flushes: &Flushes, body: &mut Vec<u8>) {
    body.put_version(flushes.watermark);
    body.put_u8(u8::from(flushes.pending.is_some()));
    let pending = flushes.pending.as_ref();
    body.put_version(pending.map(|pending| pending.version).unwrap_or_default());
    body.put_u32(pending.map_or(0, |pending| pending.at.0));
}

fn put_heartbeat(heartbeat: &Heartbeat, body: &mut Vec<u8>) {
    body.put_u64(heartbeat.sent_us);
    body.put_u64(heartbeat.echo.0);
    body.put_u64(heartbeat.echo.1);
    body.put_u8(state_byte(heartbeat.state));
    body.put_u8(u8::from(heartbeat.in_sync));
    body.put_u8(u8::from(heartbeat.upto.is_some()));
    body.put_version(heartbeat.upto.unwrap_or_default());
    put_flushes(&heartbeat.flushes, body);
    body.put_u8(u8::try_from(heartbeat.applied.len()).unwrap_or(u8::MAX));
    for (node, boot, version) in heartbeat.applied.iter().take(usize::from(u8::MAX)) {
        body.put_u8(*node);
        body.put(&boot.0.to_le_bytes());
        body.put_version(*version);
    }
    body.put_u8(u8::from(heartbeat.asks));
}
