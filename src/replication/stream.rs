//! Our stream going out, and its acknowledgement.
//!
//! The log tells which keys changed, in the order of versions; what is sent is what the store has
//! of them now, unless the log has their values at hand. A batch may so tell of later changes, whose
//! entries would tell it again: versions make that harmless, and within one batch it is left out.
//!
//! What piled up for a peer that was away is one batch, however much it is: of a key that was changed
//! again, only the last change is told, and nothing is acknowledged before all are.
//!
//! A peer is *in sync* while it acknowledges within the ack-timeout: only such peers are waited
//! for. It leaves with the first batch of changes that took longer and comes back with the first that
//! did not, if that batch left nothing unsent. A heartbeat lets it come back, too, and none lets it leave:
//! nobody waits for it.

use std::collections::BTreeSet;
use std::mem;

use super::event::{Effect, Line};
use super::inbound::ACK_PACE;
use super::link::{Batch, Link, Pile};
use super::replica::Replica;
use super::wire::{self, Frame};
use crate::clock::Now;
use crate::store::{Ahead, Entry, GROUP_KEYS_MAX, Kind, Mutation, Place, Read, Record, Tray};
use crate::version::Version;

/// An ack-timeout of fewer times the pace of what nobody waits for would take peers for slow that are not.
const ACK_PACES_AWAITED: u32 = 4;

/// Bytes of room for values that are kept from batch to batch.
const VALUE_KEPT: usize = 64 << 10;

/// Readings whose room is kept: as much as a link is given to send at a time.
const READINGS_KEPT: usize = 8;

/// Room that batches use one after the other.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What links that keep up have read in this step: others that are as far need not read it again.
    readings: Vec<Reading>,
    spare: Vec<Tray>,
    value: Vec<u8>,
}

/// A piece of the log.
#[derive(Debug)]
struct Reading {
    after: Version,
    read: Read,
    /// All that was logged after `after`, as far as `read` says.
    tray: Tray,
    /// With what it tells of.
    is_carried: bool,
}

impl Reading {
    /// Whether it has what was logged next after `after`.
    fn goes_on(&self, after: Version) -> bool {
        match self.read {
            Read::More(upto) | Read::CaughtUp(upto) => self.after <= after && after < upto,
            Read::Overrun => false,
        }
    }
}

impl Scratch {
    /// What was read may not be all there is any more.
    pub(super) fn forget_read(&mut self) {
        self.spare.extend(self.readings.drain(..).map(|reading| reading.tray));
        self.spare.truncate(READINGS_KEPT);
    }
}

/// How the log writes down what was put: as it is sent.
pub(super) fn frame(key: &[u8], record: &Record, value: &[u8], into: &mut Vec<u8>) {
    Frame::Record { key, record: *record, value, answer: false }.encode(into);
}

/// Frames that lie one behind the other, with their versions.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], Version)> {
    std::iter::from_fn(move || {
        let seen = wire::glance(bytes)?;
        let (_, version) = seen.record?;
        let (frame, rest) = bytes.split_at(seen.len);
        bytes = rest;
        Some((frame, version))
    })
}

/// Says what lies on a tray with the memory that it lies in, for as much memory.
fn hand_over(link: &mut Link, tray: &mut Tray) {
    link.counts.sent_records += tray.records;
    if link.out.capacity() != tray.frames.capacity() {
        link.out = Vec::with_capacity(tray.frames.capacity());
    }
    mem::swap(&mut link.out, &mut tray.frames);
}

/// Says `records` frames, but for those that are no news: up to `after`, or told.
fn pass_on(link: &mut Link, piece: &[u8], records: u64, after: Version, told: &BTreeSet<Version>) {
    if told.is_empty() && is_news(piece, after) {
        link.out.extend_from_slice(piece);
        link.counts.sent_records += records;
        return;
    }
    let is_untold = |version: &Version| *version > after && !told.contains(version);
    for (frame, _) in frames(piece).filter(|(_, version)| is_untold(version)) {
        link.out.extend_from_slice(frame);
        link.counts.sent_records += 1;
    }
}

/// Whether all frames are of later versions.
fn is_news(piece: &[u8], after: Version) -> bool {
    frames(piece).next().is_none_or(|(_, first)| first > after)
}

impl Replica {
    /// Sends what was logged since the last batch. `false`: there was nothing.
    pub(super) fn stream_batch(&mut self, link: &mut Link, now: Now) -> bool {
        let Some(cursor) = link.going.cursor else { return false };
        let has_gathered = link.going.gathers_until.is_none_or(|until| now >= until);
        let may_follow = has_gathered && !link.is_awaiting(self.config.under_way_max);
        let is_due = link.going.must_tell || (may_follow && link.lags_behind(self.log_last()));
        if !is_due {
            return false;
        }
        link.going.must_tell = false;
        self.say_applied_now(link, now);
        let mut scratch = mem::take(&mut self.scratch);
        let after = link.going.pile.map_or(cursor, |pile| pile.told);
        // What piled up is told key by key, not change by change.
        let keeps_up = link.going.has_caught_up && link.going.pile.is_none();
        let reading = self.read_log(after, keeps_up, &mut scratch, now);
        let Some(mut reading) = reading else { return false };
        let mut value = mem::take(&mut scratch.value);
        let (mut upto, mut caught_up) = match reading.read {
            Read::More(last) => {
                if link.going.pile.is_none() && !link.in_sync && !reading.is_carried {
                    let last = self.log_last();
                    link.going.pile = Some(Pile { last, told: cursor, since: now });
                }
                (last, false)
            }
            Read::CaughtUp(upto) => (upto, true),
            Read::Overrun => {
                link.counts.scans_overrun += 1;
                self.begin_scan(link, true, now);
                return true;
            }
        };
        let is_shared = self.links.values().any(|other| other.going.cursor.is_some());
        let is_cut_at = self.tell_tray(link, &mut reading.tray, after, is_shared, &mut value, now);
        if let Some(last) = is_cut_at {
            (upto, caught_up) = (last, false);
        }
        value.shrink_to(VALUE_KEPT);
        scratch.value = value;
        if keeps_up && (is_shared || is_cut_at.is_some()) {
            scratch.readings.push(reading);
        } else {
            scratch.spare.push(reading.tray);
        }
        self.scratch = scratch;
        link.counts.sent_batches += 1;
        match &mut link.going.pile {
            Some(pile) if upto < pile.last => pile.told = upto,
            pile => {
                *pile = None;
                let awaited = self.wants_acks();
                link.say(&Frame::Upto { version: upto, caught_up, awaited });
                link.sent_upto(Batch { upto, sent: now, caught_up, has_writes: true });
            }
        }
        if caught_up {
            link.going.has_caught_up = true;
            link.going.gathers_until = Some(now.plus(self.config.gather));
        }
        true
    }

    /// Whether acknowledgements are waited for, if only to see in time that a peer keeps up.
    fn wants_acks(&self) -> bool {
        let is_pace_too_slow = self.config.ack_timeout < ACK_PACES_AWAITED * ACK_PACE;
        self.config.gather.is_zero() || self.locks.is_some() || is_pace_too_slow
    }

    /// Reads what was logged after `after`, if another link has not just done so.
    fn read_log(
        &self,
        after: Version,
        keeps_up: bool,
        scratch: &mut Scratch,
        now: Now,
    ) -> Option<Reading> {
        let log = self.log()?;
        let found = scratch.readings.iter().position(|reading| reading.goes_on(after));
        if let Some(found) = found.filter(|_| keeps_up) {
            return Some(scratch.readings.swap_remove(found));
        }
        let mut tray = scratch.spare.pop().unwrap_or_default();
        let taken = if keeps_up { log.take(after, now, &mut tray) } else { None };
        let is_carried = taken.is_some();
        let read = taken.unwrap_or_else(|| {
            tray.clear();
            log.read(after, self.config.read_bytes, now, &mut tray.entries)
        });
        Some(Reading { after, read, tray, is_carried })
    }

    /// Tells of what was read after `after`. The last version told, if there was no room for all of them or
    /// the pile ends.
    fn tell_tray(
        &self,
        link: &mut Link,
        tray: &mut Tray,
        after: Version,
        is_shared: bool,
        value: &mut Vec<u8>,
        now: Now,
    ) -> Option<Version> {
        let is_ready = tray.entries.is_empty() && !tray.frames.is_empty();
        if is_ready && is_news(&tray.frames, after) && link.out.is_empty() && !is_shared {
            hand_over(link, tray);
            return None;
        }
        let start = link.out.len();
        // Later changes that this batch has told of already.
        let mut told = BTreeSet::new();
        let mut last = after;
        let mut passed = Place::default();
        let mut entries = tray.placed().filter(|(_, entry)| entry.version > after);
        let mut looked_at = 0;
        loop {
            if looked_at == 0 {
                looked_at = self.look_at(entries.clone().map(|(_, entry)| entry));
            }
            looked_at = looked_at.saturating_sub(1);
            let next = entries.next();
            let Place { frames, records, before } = next.map_or(tray.end(), |(place, _)| place);
            let piece = &tray.frames[passed.frames..frames];
            pass_on(link, piece, records - passed.records, after, &told);
            passed = Place { frames, records, before };
            let (_, entry) = next?;
            last = last.max(before);
            let is_piled = link.going.pile.is_none_or(|pile| entry.version <= pile.last);
            let is_full = link.out.len() - start >= self.config.batch_bytes;
            if !is_piled || is_full {
                return Some(last);
            }
            last = entry.version;
            if entry.mutation == Mutation::Flush {
                link.say(&Frame::Flushes(self.store.flushes()));
            } else if !told.contains(&entry.version) {
                value.clear();
                let held = self.tell_entry(link, &entry, value, now);
                let later = |version: &Version| *version > entry.version;
                let versions = held.iter().flat_map(|held| [held.version, held.touched]);
                told.extend(versions.filter(later));
            }
        }
    }

    /// Has the store look at the items of the next entries; returns of how many.
    fn look_at<'e>(&self, entries: impl Iterator<Item = Entry<'e>>) -> usize {
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            return 0;
        }
        let (mut ahead, mut looked_at, mut has_room) =
            (Ahead::with_capacity(GROUP_KEYS_MAX), 0, true);
        while has_room && let Some(entry) = entries.next() {
            has_room = ahead.add(self.store.key(entry.key));
            looked_at += 1;
        }
        self.store.look_ahead(&mut ahead);
        looked_at
    }

    /// Tells of one change. What was told, if that was all that is known of the key.
    fn tell_entry(
        &self,
        link: &mut Link,
        entry: &Entry<'_>,
        value: &mut Vec<u8>,
        now: Now,
    ) -> Option<Record> {
        let key = entry.key;
        let pile = link.going.pile;
        let is_told_later = |version: Version| {
            let is_piled = pile.is_some_and(|pile| version <= pile.last);
            let is_logged = version.node() == self.config.node && version > self.returned;
            is_piled && is_logged && version > entry.version
        };
        if let Mutation::Touched { base } = entry.mutation {
            let touched = self.store.record_head(key, now);
            let is_base = |held: &Record| held.version == base && held.kind == Kind::Value;
            if let Some(Record { touched, expiry, .. }) = touched.filter(is_base) {
                if !is_told_later(touched) {
                    link.counts.sent_records += 1;
                    link.say(&Frame::Touch { key, base, touched, expiry });
                }
                return None;
            }
            let held = self.store.record(key, now, value);
            if held.is_some_and(|held| is_told_later(held.version)) {
                return None;
            }
            link.counts.sent_records += 1;
            let record = held.unwrap_or_else(|| Record::lost(base, base));
            link.say(&Frame::Record { key, record, value, answer: false });
            return held;
        }
        let held = self.store.record(key, now, value);
        if held.is_some_and(|held| is_told_later(held.version)) {
            return None;
        }
        link.counts.sent_records += 1;
        // What was written and is gone was lost at the version that was logged, not at a later one.
        let lost = Record::lost(entry.version, entry.version);
        let held = held.filter(|held| held.version >= entry.version);
        let value: &[u8] = if held.is_some() { value } else { &[] };
        link.say(&Frame::Record { key, record: held.unwrap_or(lost), value, answer: false });
        held
    }

    /// Sends a record that was asked for.
    pub(super) fn answer_need(&mut self, link: &mut Link, now: Now) -> bool {
        let Some((key, base)) = link.going.answers.pop_front() else { return false };
        let mut value = Vec::new();
        let record = self.store.record(&key, now, &mut value);
        let record = record.unwrap_or_else(|| Record::lost(base, base));
        if record.kind == Kind::Lost || record.version < base {
            self.want(&key, base);
        }
        link.say(&Frame::Record { key: &key, record, value: &value, answer: true });
        link.counts.sent_records += 1;
        true
    }

    /// The other side has applied our stream up to here.
    pub(super) fn acked(&mut self, link: &mut Link, version: Version, now: Now) {
        // Whatever it says, it cannot have more than we sent.
        let version = version.min(link.going.cursor.unwrap_or_default());
        if version > link.going.acked {
            link.going.acked = version;
            self.forgive(link);
        }
        let mut is_prompt = false;
        while let Some(batch) = link.going.unacked.front().filter(|batch| batch.upto <= version) {
            is_prompt = batch.caught_up && now <= batch.sent.plus(self.config.ack_timeout);
            link.going.unacked.pop_front();
        }
        if is_prompt && !link.in_sync && link.going.pile.is_none() {
            self.set_in_sync(link, true);
        }
    }

    fn set_in_sync(&mut self, link: &mut Link, in_sync: bool) {
        link.in_sync = in_sync;
        let node = link.met.map_or(0, |met| met.node);
        self.effects.push(Effect::Log(Line::InSync { node, in_sync }));
    }

    /// Peers that let a batch wait for too long are waited for no more.
    pub(super) fn find_slow(&mut self, now: Now) {
        let is_slow = |link: &Link| {
            link.owed_since().is_some_and(|since| now > since.plus(self.config.ack_timeout))
        };
        let slow = self.links.values().filter(|link| link.in_sync && is_slow(link));
        let slow: Vec<_> = slow.map(|link| link.id).collect();
        for id in slow {
            let Some(mut link) = self.links.remove(&id) else { continue };
            self.totals.ack_timeouts += 1;
            self.set_in_sync(&mut link, false);
            self.links.insert(id, link);
        }
    }

    /// A node in sync lost its connection, perhaps to another of the same pair. If nobody were waited
    /// for until that is introduced, writes would be answered that only we have.
    pub(super) fn expect_return(&mut self, node: u8, now: Now) {
        let until = now.plus(self.config.ack_timeout);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.expected_until = Some(until);
        }
    }

    /// Nodes that lost a connection a moment ago and are not in sync on their next one yet. Whoever
    /// replaces a connection has opened the next one before; so a node without one is not waited for.
    fn returning(&mut self, now: Now) -> usize {
        let mut returning = 0;
        let expected = self.nodes.iter().filter(|(_, known)| known.expected_until.is_some());
        let expected: Vec<u8> = expected.map(|(node, _)| *node).collect();
        for node in expected {
            let may_return = self.links.values().any(|link| self.may_lead_to(link, node));
            let is_in_sync = self.link_of(node).is_some_and(|link| link.in_sync);
            let Some(known) = self.nodes.get_mut(&node) else { continue };
            known.expected_until = known.expected_until.filter(|until| now < *until && may_return);
            returning += usize::from(known.expected_until.is_some() && !is_in_sync);
        }
        returning
    }

    /// Whether a connection is the node's, or may turn out to be.
    pub(super) fn may_lead_to(&self, link: &Link, node: u8) -> bool {
        let dialled = link.dialled.and_then(|peer| self.peers.get(&peer)?.node);
        link.met.map(|met| met.node).or(dialled).is_none_or(|leads| leads == node)
    }

    /// Tells how much of our log has been acknowledged, if that has changed.
    pub(super) fn acknowledge(&mut self, now: Now) {
        let returning = self.returning(now);
        let acked = self.links.values().filter(|link| link.met.is_some());
        let one = acked.map(|link| link.going.acked).max().unwrap_or_default();
        let in_sync = || self.links.values().filter(|link| link.in_sync);
        let (one_before, all_before, _) = self.acknowledged;
        let all = match in_sync().map(|link| link.going.acked).min() {
            _ if returning > 0 => all_before,
            Some(least) => least,
            None => one,
        };
        let next = (one.max(one_before), all.max(all_before), in_sync().count() + returning);
        if next != self.acknowledged {
            self.acknowledged = next;
            let (one, all, in_sync) = next;
            self.effects.push(Effect::Acknowledged { one, all, in_sync });
        }
        // Before the next step workers have heard whom to wait for: then it may be told so.
        for link in self.links.values_mut().filter(|link| link.is_awaited != link.in_sync) {
            link.is_awaited = link.in_sync;
            link.pulse.next = now;
        }
    }
}

#[cfg(test)]
mod tests;
