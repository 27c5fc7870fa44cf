//! Frames coming in: who may say what when, and what it does to the store.
//!
//! A batch of bytes is applied whole and acknowledged once. Never acknowledged is what lies behind
//! a hole: a scan of theirs that is to close one, or a record that we had to ask for.

use std::collections::btree_map::Entry;
use std::mem;
use std::time::Duration;

use super::audit::DOUBT;
use super::event::{Gives, LinkId, Reason};
use super::link::{Link, Need};
use super::replica::Replica;
use super::wire::{self, BODY_MAX_UNMET, Frame, Next};
use crate::clock::Now;
use crate::item::size_of;
use crate::store::{Ahead, GROUP_KEYS_MAX, Kind, Merged, Record};
use crate::version::Version;

/// Records asked for and not yet come. Who needs more is scanned.
pub(super) const NEEDS_MAX: usize = 1024;

/// Losses that others are asked about again on each new connection.
const SOUGHT_MAX: usize = 256;

/// How long after an acknowledgement the next one is said, if nobody waits for it: each wakes a thread.
pub(super) const ACK_PACE: Duration = Duration::from_millis(25);

/// Fewer bytes than this are too few records for their places to be looked at together.
const LOOK_AHEAD_MIN: usize = 4 << 10;

/// Bytes of room for the beginning of a frame that an idle connection keeps.
const INPUT_KEPT: usize = 256 << 10;

impl Replica {
    pub(super) fn received(&mut self, id: LinkId, bytes: &[u8], now: Now) {
        let Some(mut link) = self.links.remove(&id) else { return };
        link.heard = now;
        link.counts.received_bytes += bytes.len() as u64;
        match self.take_bytes(&mut link, bytes, now) {
            Ok(()) => {
                self.say_applied(&mut link, now);
                self.links.insert(id, link);
            }
            Err(reason) => {
                self.links.insert(id, link);
                self.close(id, reason, now);
            }
        }
    }

    /// Takes whole frames from where they are, and keeps the beginning of the next. Only a frame that
    /// came in pieces is put together.
    fn take_bytes(&mut self, link: &mut Link, bytes: &[u8], now: Now) -> Result<(), Reason> {
        let (mut input, mut rest) = (mem::take(&mut link.input), bytes);
        while !input.is_empty() && !rest.is_empty() {
            let (more, later) = rest.split_at(wire::lacking(&input).min(rest.len()));
            input.extend_from_slice(more);
            rest = later;
            let taken = self.take_frames(link, &input, now)?;
            input.drain(..taken);
        }
        let taken = self.take_frames(link, rest, now)?;
        input.extend_from_slice(&rest[taken..]);
        // A large record's room is not kept.
        if !input.is_empty() || input.capacity() <= INPUT_KEPT {
            link.input = input;
        }
        Ok(())
    }

    /// Takes whole frames off the front; returns their length.
    fn take_frames(&mut self, link: &mut Link, input: &[u8], now: Now) -> Result<usize, Reason> {
        let (mut at, mut looked_to) = (0, 0);
        loop {
            if at >= looked_to && input.len() - at >= LOOK_AHEAD_MIN {
                looked_to = at + self.look_ahead(&input[at..]);
            }
            let longest = link.met.map_or(BODY_MAX_UNMET, |met| met.body_max);
            match wire::next(&input[at..], longest) {
                Next::Partial => return Ok(at),
                Next::Bad(reason) => return Err(reason),
                Next::Frame(frame, len) => {
                    at += len;
                    match (frame, link.met) {
                        (Some(Frame::Hello(hello)), None) => self.greet(link, &hello, now)?,
                        (Some(Frame::Error { code }), _) => return Err(refusal(code)),
                        (Some(frame), Some(_)) => self.take(link, frame, now)?,
                        (Some(_), None) => return Err(Reason::OutOfPlace),
                        (None, _) => {}
                    }
                }
            }
        }
    }

    /// Has the store look at the places of the next records; returns how far they go.
    fn look_ahead(&self, input: &[u8]) -> usize {
        let (mut ahead, mut at, mut has_room) = (Ahead::with_capacity(GROUP_KEYS_MAX), 0, true);
        while has_room && let Some(frame) = wire::glance(&input[at..]) {
            has_room = frame.record.is_none_or(|(key, _)| ahead.add(self.store.key(key)));
            at += frame.len;
        }
        self.store.look_ahead(&mut ahead);
        at
    }

    fn take(&mut self, link: &mut Link, frame: Frame<'_>, now: Now) -> Result<(), Reason> {
        match frame {
            Frame::Record { key, record, value, answer } => {
                self.check_version(record.version.max(record.touched), now)?;
                let need = if answer { link.coming.needs.remove(key) } else { None };
                let sought = need.map(|need| need.sought).unwrap_or_default();
                self.take_record(link, key, &record, value, sought, now);
            }
            Frame::Touch { key, base, touched, expiry } => {
                self.check_version(base.max(touched), now)?;
                link.counts.received_records += 1;
                self.last_applied = now;
                let merged = self.store.merge_touch(key, base, touched, expiry, now);
                match merged {
                    Merged::NeedRecord => {
                        self.need(link, key, base);
                        self.doubt_return(link, base, now);
                    }
                    Merged::Older => self.wonder(link, key, Kind::Value, now),
                    _ => {}
                }
            }
            Frame::Flushes(flushes) => {
                self.check_flushes(&flushes, now)?;
                self.store.merge_flushes(&flushes);
            }
            Frame::Upto { version, caught_up, awaited } => {
                link.coming.is_awaited |= awaited;
                self.take_upto(link, version, caught_up, now)?;
            }
            Frame::Ack { version } => self.acked(link, version, now),
            Frame::Need { key, base } => {
                self.check_version(base, now)?;
                if link.going.answers.len() >= NEEDS_MAX {
                    return Err(Reason::OutOfPlace);
                }
                link.going.answers.push_back((key.to_vec(), base));
            }
            Frame::Start { .. } if link.going.cursor.is_some() => return Err(Reason::OutOfPlace),
            Frame::Start { applied } => self.start(link, applied, now),
            Frame::Resume { from } => {
                self.linked(link, Gives::TheRest, now);
                link.coming.gap = None;
                link.coming.upto = from;
            }
            Frame::Heartbeat(heartbeat) => self.take_heartbeat(link, heartbeat, now)?,
            Frame::Goodbye => return Err(Reason::Goodbye),
            Frame::Hello(_) | Frame::Error { .. } => return Err(Reason::OutOfPlace),
            Frame::Lock(lock) => self.take_lock(link, lock, now)?,
            Frame::ScanRequest
            | Frame::ScanStart { .. }
            | Frame::Digests { .. }
            | Frame::ListRequest { .. }
            | Frame::List { .. }
            | Frame::ScanDone { .. }
            | Frame::Check { .. }
            | Frame::Checked { .. } => self.take_scan(link, frame, now)?,
        }
        Ok(())
    }

    fn take_record(
        &mut self,
        link: &mut Link,
        key: &[u8],
        record: &Record,
        value: &[u8],
        sought: Version,
        now: Now,
    ) {
        link.counts.received_records += 1;
        self.last_applied = now;
        if link.coming.scanning && record.kind == Kind::Value {
            link.coming.got.items += 1;
            let size = size_of(key.len(), value.len(), record.flags, true);
            link.coming.got.bytes += size as u64;
        }
        // What is absent here may have been evicted here: having it again is no news.
        let may_be_news = link.coming.scanning
            && !link.coming.has_news
            && (!self.store.has_evicted() || self.store.record_head(key, now).is_some());
        let overrules = self.overrules(link, key, record, now);
        let was_gone = self.is_gone_where_we_scan(link, key, now);
        let merged = self.store.merge(key, record, value, now);
        self.is_given |= merged == Merged::Applied;
        link.coming.has_news |= may_be_news && merged == Merged::Applied;
        let is_ours = record.version.node() == self.config.node;
        if is_ours && !matches!(merged, Merged::Same | Merged::Older) {
            self.returned = self.returned.max(record.version);
        }
        self.totals.conflicts += u64::from(overrules && merged == Merged::Applied);
        if record.kind == Kind::Value && matches!(merged, Merged::Applied | Merged::Found) {
            self.doubt_return(link, record.version, now);
            if was_gone {
                self.tell_who_is_scanned(link, key, (record.version, value), now);
            }
        }
        match merged {
            Merged::Refused(_) => self.totals.refused += 1,
            // Where there is no room for floors, what others answer is news each time.
            Merged::Applied if record.kind == Kind::Lost && record.version > sought => {
                self.seek(key, record, now);
            }
            Merged::Found => self.tell_of_found(key, now),
            Merged::Applied if self.is_wanted(key, record) => self.tell_of_found(key, now),
            Merged::Older => self.wonder(link, key, record.kind, now),
            _ => {}
        }
    }

    /// Whether a peer's write takes the place of one of ours that it cannot have known of: one made
    /// before we were linked, of what it had when we were; a later one, of what it has acknowledged,
    /// which it did before it told of its own.
    fn overrules(&self, link: &Link, key: &[u8], theirs: &Record, now: Now) -> bool {
        let going = &link.going;
        let is_earlier = theirs.version.unix_millis() < link.opened.unix_millis();
        let known = if is_earlier { going.started } else { going.acked };
        let is_own = link.met.is_some_and(|met| met.node == theirs.version.node());
        // What our scan tells, it acknowledges at the end only.
        let may_know = !is_earlier && going.scan.is_some();
        if !is_own || may_know || known == Version(0) || self.log_last() <= known {
            return false;
        }
        self.store.record_head(key, now).is_some_and(|held| {
            let version = held.version;
            version.node() == self.config.node && version > known && version < theirs.version
        })
    }

    /// Somebody asked for what we do not have: when it comes after all, they are to hear of it.
    pub(super) fn want(&mut self, key: &[u8], base: Version) {
        if self.wanted.len() >= NEEDS_MAX {
            // Nobody waits for it for ever: audits find what is forgotten here.
            self.wanted.clear();
        }
        self.wanted.insert(key.to_vec(), base);
    }

    /// Whether somebody asked for this when we did not have it.
    fn is_wanted(&mut self, key: &[u8], record: &Record) -> bool {
        let is_it = |base: &Version| record.kind == Kind::Value && *base <= record.version;
        let is_wanted = self.wanted.get(key).is_some_and(is_it);
        is_wanted && self.wanted.remove(key).is_some()
    }

    /// They told us of what is older than what we know. Our stream tells them what we wrote; what a
    /// third node told us, that one may not have told them, and we compare. That a value of theirs is gone
    /// we say at once, if there is room: while it is about to expire it is in no sum, and somebody who
    /// touches it again and again may keep it there until we have let go of what we know.
    fn wonder(&self, link: &mut Link, key: &[u8], theirs: Kind, now: Now) {
        let Some(record) = self.store.record_head(key, now) else { return };
        let latest = record.version.max(record.touched);
        if latest.node() == self.config.node && latest > self.since {
            return;
        }
        let is_gone = theirs == Kind::Value && record.kind != Kind::Value;
        if is_gone && link.has_room() && !broken!(self, gone_untold) {
            link.counts.sent_records += 1;
            link.say(&Frame::Record { key, record, value: &[], answer: false });
        }
        if !broken!(self, no_doubts) {
            link.audit.doubt(now.plus(DOUBT));
        }
    }

    /// This may be older than something that we have let go of: others may know that it is gone, and have
    /// no reason to compare. Of what piled up for us that is likely, and of what a connection's first scan
    /// brings, where that counts as no news. Of what is being written it is so only if it crossed with what
    /// is gone and let go of already; but where floors have next to no room, everything might, and nodes
    /// must not compare all the time: they do when it is quiet.
    fn doubt_return(&mut self, link: &mut Link, version: Version, now: Now) {
        let coming = &link.coming;
        // Who evicts is given back by each repair what it has no room for.
        let is_first = coming.gap.is_some() && self.store.has_evicted();
        let may_return = !coming.scanning || is_first;
        if !may_return || !self.store.has_forgotten(version) || broken!(self, returns_undoubted) {
            return;
        }
        let (due, is_live) = (now.plus(DOUBT), coming.caught_up && !coming.scanning);
        let others = self.links.values_mut().map(|other| &mut other.audit);
        for audit in others.chain([&mut link.audit]) {
            if is_live { audit.wonder(due) } else { audit.doubt(due) }
        }
    }

    /// Others may have been told that this is lost, as we were, by who had no room for it. Who has
    /// it takes no notice; who has not asks for it.
    fn tell_of_found(&mut self, key: &[u8], now: Now) {
        if broken!(self, found_untold) {
            return;
        }
        let Some(Record { version: base, touched, expiry, .. }) = self.store.record_head(key, now)
        else {
            return;
        };
        for link in self.links.values_mut().filter(|link| link.met.is_some()) {
            if link.has_room() {
                link.say(&Frame::Touch { key, base, touched, expiry });
            } else {
                link.audit.doubt(now);
            }
        }
    }

    /// Whether we scan anybody, and the key has been deleted or lost here.
    fn is_gone_where_we_scan(&self, link: &Link, key: &[u8], now: Now) -> bool {
        let is_scanned = |link: &Link| link.going.scan.is_some();
        (is_scanned(link) || self.links.values().any(|link| is_scanned(link)))
            && self.store.record_head(key, now).is_some_and(|held| held.kind != Kind::Value)
    }

    /// A scan goes over what is there first, and then over what is gone: what was gone and is there again
    /// in between it misses. Who brought it may lack a touch of ours that had let it expire.
    fn tell_who_is_scanned(
        &mut self,
        link: &mut Link,
        key: &[u8],
        (version, value): (Version, &[u8]),
        now: Now,
    ) {
        let held = self.store.record_head(key, now);
        let is_it = |held: &Record| held.kind == Kind::Value && held.version == version;
        let Some(record) = held.filter(is_it).filter(|_| !broken!(self, found_untold)) else {
            return;
        };
        for other in self.links.values_mut().filter(|other| other.going.scan.is_some()) {
            if other.has_room() {
                other.counts.sent_records += 1;
                other.say(&Frame::Record { key, record, value, answer: false });
            } else {
                other.audit.doubt(now);
            }
        }
        if link.going.scan.is_some() {
            let Record { touched, expiry, .. } = record;
            link.say(&Frame::Touch { key, base: version, touched, expiry });
        }
    }

    /// They had no room for what they never told us of: others may hold it.
    fn seek(&mut self, key: &[u8], lost: &Record, now: Now) {
        if lost.expiry.is_past(now.seconds()) {
            return;
        }
        if self.sought.len() >= SOUGHT_MAX {
            // As with what others ask us for.
            self.sought.clear();
        }
        self.sought.insert(key.to_vec(), lost.version);
        for link in self.links.values_mut().filter(|link| link.met.is_some()) {
            ask_for_record(link, key, lost.version, lost.version);
        }
    }

    /// A question dies with its connection: on the next one what is lacking still is asked for again.
    pub(super) fn seek_again(&mut self, link: &mut Link, now: Now) {
        let store = &self.store;
        self.sought.retain(|key, lost| {
            let held = store.record_head(key, now);
            held.is_none_or(|held| held.kind == Kind::Lost && held.version <= *lost)
        });
        self.sought.iter().for_each(|(key, lost)| ask_for_record(link, key, *lost, *lost));
    }

    /// A touch of a value that we do not have.
    fn need(&self, link: &mut Link, key: &[u8], base: Version) {
        if !broken!(self, need_ignored) {
            ask_for_record(link, key, base, Version(0));
        }
    }

    pub(super) fn take_upto(
        &self,
        link: &mut Link,
        version: Version,
        caught_up: bool,
        now: Now,
    ) -> Result<(), Reason> {
        self.check_version(version, now)?;
        if let Some(log) = self.log() {
            log.observe(version);
        }
        link.coming.upto = link.coming.upto.max(version);
        if caught_up {
            link.coming.caught_up = true;
            link.coming.level_us = link.pulse.echoed_us;
            link.coming.waited_for_us |= link.coming.waits_for_us;
        }
        Ok(())
    }

    /// Acknowledges what has become whole, and remembers it beyond this connection. Where nobody waits
    /// for that, not every time: each acknowledgement wakes a thread.
    fn say_applied(&mut self, link: &mut Link, now: Now) {
        let coming = &link.coming;
        if coming.is_awaited || coming.silent_until.is_none_or(|until| now >= until) {
            self.say_applied_now(link, now);
        }
    }

    /// The same at once: what we say next, we say knowing what they told.
    pub(super) fn say_applied_now(&mut self, link: &mut Link, now: Now) {
        let ignores_needs = broken!(self, ack_past_need);
        let (Some(met), Some(applied)) = (link.met, link.applied(ignores_needs)) else { return };
        if applied <= link.coming.acked {
            return;
        }
        link.coming.acked = applied;
        link.coming.is_awaited = false;
        link.coming.silent_until = Some(now.plus(ACK_PACE));
        link.say(&Frame::Ack { version: applied });
        if let Some(node) = self.nodes.get_mut(&met.node) {
            node.applied = Some((met.boot, applied));
        }
    }

    /// Acknowledges what nobody waits for.
    pub(super) fn say_all_applied(&mut self, now: Now) {
        let links: Vec<LinkId> = self.met_links().map(|link| link.id).collect();
        for id in links {
            let Some(mut link) = self.links.remove(&id) else { continue };
            self.say_applied(&mut link, now);
            self.links.insert(id, link);
        }
    }
}

/// What it means to us that the other side hangs up for the reason with this number.
fn refusal(code: u8) -> Reason {
    if code == Reason::Removed.number() { Reason::Disowned } else { Reason::Refused(code) }
}

/// Their stream has a hole until they have told what they have of the key. `sought`: the loss of which
/// all others are asked, too.
fn ask_for_record(link: &mut Link, key: &[u8], base: Version, sought: Version) {
    link.counts.needs += 1;
    let (upto, is_full) = (link.coming.upto, link.coming.needs.len() >= NEEDS_MAX);
    match link.coming.needs.entry(key.to_vec()) {
        // The answer will be what they have then, and they have all that they told.
        Entry::Occupied(mut asked) => asked.get_mut().sought = asked.get().sought.max(sought),
        Entry::Vacant(_) if is_full => ask_for_scan(link),
        Entry::Vacant(vacant) => {
            vacant.insert(Need { upto, sought });
            link.say(&Frame::Need { key, base });
        }
    }
}

/// Their stream has a hole until the next scan of theirs is done.
pub(super) fn ask_for_scan(link: &mut Link) {
    let round = link.coming.round + 1;
    if link.coming.gap.is_none_or(|gap| gap < round) {
        link.coming.gap = Some(round);
        link.say(&Frame::ScanRequest);
    }
}
