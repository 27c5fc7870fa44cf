//! Our stream going out, and its acknowledgement.
//!
//! The log tells which keys changed, in the order of versions; what is sent is what the store has
//! of them now. A batch may so tell of later changes, whose entries will tell it again: versions
//! make that harmless, and within one batch a key is told once.
//!
//! A peer is *in sync* while it acknowledges within the ack-timeout: only such peers are waited
//! for. It leaves with the first batch that took longer and comes back with the first that did
//! not, if that batch left nothing unsent.

use std::collections::HashSet;

use super::event::{Effect, Line};
use super::link::Link;
use super::replica::Replica;
use super::wire::Frame;
use crate::clock::Now;
use crate::store::{Entries, Entry, Kind, Mutation, Read, Record};
use crate::version::Version;

/// Bytes of log read for one batch.
const ENTRIES_BYTES: usize = 32 << 10;

impl Replica {
    /// Sends what was logged since the last batch. `false`: there was nothing.
    pub(super) fn stream_batch(&mut self, link: &mut Link, now: Now) -> bool {
        let Some(cursor) = link.going.cursor else { return false };
        let Some(log) = self.log().filter(|log| log.last() > cursor || link.going.is_new) else {
            return false;
        };
        link.going.is_new = false;
        let mut entries = Entries::default();
        let read = log.read(cursor, ENTRIES_BYTES, now, &mut entries);
        let (mut upto, mut caught_up) = match read {
            Read::More(last) => (last, false),
            Read::CaughtUp(upto) => (upto, true),
            Read::Overrun => {
                link.counts.scans_overrun += 1;
                self.begin_scan(link, true, now);
                return true;
            }
        };
        let start = link.out.len();
        let mut told: HashSet<&[u8]> = HashSet::new();
        let mut value = Vec::new();
        let mut last = cursor;
        for entry in entries.iter() {
            if link.out.len() - start >= self.config.batch_bytes {
                (upto, caught_up) = (last, false);
                break;
            }
            last = entry.version;
            if entry.mutation == Mutation::Flush {
                link.say(&Frame::Flushes(self.store.flushes()));
            } else if !told.contains(entry.key) {
                value.clear();
                if self.tell_entry(link, &entry, &mut value, now) {
                    told.insert(entry.key);
                }
            }
        }
        self.say_upto(link, upto, caught_up, now);
        true
    }

    fn say_upto(&mut self, link: &mut Link, upto: Version, caught_up: bool, now: Now) {
        link.say(&Frame::Upto { version: upto, caught_up });
        link.sent_upto(upto, caught_up, now);
        link.counts.sent_batches += 1;
    }

    /// Tells of one change. Whether all that is known of the key was told.
    fn tell_entry(
        &self,
        link: &mut Link,
        entry: &Entry<'_>,
        value: &mut Vec<u8>,
        now: Now,
    ) -> bool {
        link.counts.sent_records += 1;
        let key = entry.key;
        if let Mutation::Touched { base } = entry.mutation {
            let touched = self.store.record_head(key, now);
            let is_base = |held: &Record| held.version == base && held.kind == Kind::Value;
            if let Some(Record { touched, expiry, .. }) = touched.filter(is_base) {
                link.say(&Frame::Touch { key, base, touched, expiry });
                return false;
            }
            let held = self.store.record(key, now, value);
            let record = held.unwrap_or_else(|| Record::lost(base, base));
            link.say(&Frame::Record { key, record, value, answer: false });
            return held.is_some();
        }
        let held = self.store.record(key, now, value);
        // What was written and is gone was lost at the version that was logged, not at a later one.
        let lost = Record::lost(entry.version, entry.version);
        let held = held.filter(|held| held.version >= entry.version);
        let value: &[u8] = if held.is_some() { value } else { &[] };
        link.say(&Frame::Record { key, record: held.unwrap_or(lost), value, answer: false });
        held.is_some()
    }

    /// Sends a record that was asked for.
    pub(super) fn answer_need(&mut self, link: &mut Link, now: Now) -> bool {
        let Some((key, base)) = link.going.answers.pop_front() else { return false };
        let mut value = Vec::new();
        let record = self.store.record(&key, now, &mut value);
        let record = record.unwrap_or_else(|| Record::lost(base, base));
        link.say(&Frame::Record { key: &key, record, value: &value, answer: true });
        link.counts.sent_records += 1;
        true
    }

    /// The other side has applied our stream up to here.
    pub(super) fn acked(&mut self, link: &mut Link, version: Version, now: Now) {
        // Whatever it says, it cannot have more than we sent.
        let version = version.min(link.going.cursor.unwrap_or_default());
        link.going.acked = link.going.acked.max(version);
        let mut is_prompt = false;
        while let Some(batch) = link.going.unacked.front().filter(|batch| batch.upto <= version) {
            is_prompt = batch.caught_up && now <= batch.sent.plus(self.config.ack_timeout);
            link.going.unacked.pop_front();
        }
        if is_prompt && !link.in_sync {
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
            let oldest = link.going.unacked.front();
            oldest.is_some_and(|batch| now > batch.sent.plus(self.config.ack_timeout))
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
    fn may_lead_to(&self, link: &Link, node: u8) -> bool {
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
    }
}
