//! Reconciliation: giving a peer what it lacks and our stream does not tell any more.
//!
//! One direction at a time, in one *round*: "I begin" (`ScanStart`), "these are my sums"
//! (`Digests`), for lanes that differ "list them" (`ListRequest`, `List`), the records that the list
//! lacks or has older, "done" (`ScanDone`). An empty peer has no sums and is sent everything; an
//! empty node is done as soon as it begins. The stream goes on meanwhile on the same connection,
//! and what changes during the scan is told by it; so the scan need not be of one moment. It is done when
//! the stream has told what was logged by its end: what hides something from it is told before.
//!
//! Sums are over live values at a *cutoff* second that both sides use, a little ahead of both
//! clocks: what expires about now is in neither sum. Floors are in no sum and go in a pass of their
//! own: a peer may only acknowledge our stream when it also knows what we know to be gone.
//!
//! Lists are kept for as many lanes at a time as [`LISTED_MAX`] allows, or twice as much where lanes
//! turn out to have more.

use std::collections::VecDeque;

use super::audit::Purpose;
use super::event::{Amount, Effect, Gives, Line, Reason};
use super::link::Link;
use super::listing::List;
use super::replica::Replica;
use super::wire::{Frame, LIST_CHUNK, Listed, rank_of};
use crate::clock::{Now, UnixSeconds};
use crate::store::{Digest, Kind, Lanes, Record, RecordCursor, Records, ScannedRecord};
use crate::version::Version;

/// Entries of a peer's list held at a time, about: some 48 MiB with the room in their drawers.
const LISTED_MAX: usize = 1 << 20;

/// Bytes of records looked at in one turn.
const STEP_BYTES: usize = 32 << 10;

/// Sums that a peer may make us make at a time.
const SUMS_MAX: usize = 8;

/// Our scan of what the other side lacks.
#[derive(Debug)]
pub(super) struct Scan {
    round: u32,
    /// Their acknowledgement waits for its end.
    gap: bool,
    /// The latest version that we knew when it began.
    since: Version,
    cutoff: UnixSeconds,
    stage: Stage,
    passes: VecDeque<Pass>,
    /// What they have in the lanes of this pass.
    theirs: List,
    records: u64,
}

#[derive(Debug)]
enum Stage {
    /// Waiting for their sums.
    Digests,
    /// Making ours.
    Sums,
    /// Waiting for their list.
    List(Lanes),
    /// Sending.
    Send(Pass, RecordCursor),
    /// All is sent: what was logged up to here is to be told before we say so.
    Over(Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Everything we have.
    Whole,
    /// What is gone, in lanes whose values are the same.
    Gone(Lanes),
    /// What they lack in these lanes.
    Lacking(Lanes),
}

/// A list that the other side asked for.
#[derive(Debug)]
pub(super) struct Listing {
    round: u32,
    lanes: Lanes,
    cursor: RecordCursor,
}

impl Scan {
    /// Whether it can go on without the other side.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Send(..))
    }
}

impl Replica {
    /// Begins a round. What was logged before it is told by it, the stream goes on from here.
    pub(super) fn begin_scan(&mut self, link: &mut Link, gap: bool, now: Now) {
        let going = &mut link.going;
        let gap = gap || going.scan.as_ref().is_some_and(|scan| scan.gap);
        if gap {
            going.cursor = Some(self.log_last());
            going.must_tell = true;
            going.pile = None;
        }
        going.rounds += 1;
        let (round, cutoff) = (going.rounds, cutoff(link, now));
        let holds = self.store.counters();
        let holds = Amount { items: holds.curr_items, bytes: holds.mem_requested };
        link.say(&Frame::ScanStart { round, gap, cutoff, holds });
        if self.has_nothing() {
            link.going.scan = None;
            return self.say_done(link, round, 0);
        }
        link.going.scan = Some(Scan {
            round,
            gap,
            since: self.latest(),
            cutoff,
            stage: Stage::Digests,
            passes: VecDeque::new(),
            theirs: List::default(),
            records: 0,
        });
    }

    /// Whether there is no record here, of what is there or of what is gone.
    fn has_nothing(&self) -> bool {
        let floors = self.store.floor_counters();
        self.store.counters().curr_items + floors.deleted + floors.lost == 0
    }

    fn say_done(&mut self, link: &mut Link, round: u32, records: u64) {
        let node = link.met.map_or(0, |met| met.node);
        let purged_to = self.store.floor_counters().purged_to;
        // What was flushed is not told; that it was flushed is.
        link.say(&Frame::Flushes(self.store.flushes()));
        link.say(&Frame::ScanDone { round, purged_to });
        self.effects.push(Effect::Log(Line::Scanned { node, records }));
    }

    pub(super) fn take_scan(
        &mut self,
        link: &mut Link,
        frame: Frame<'_>,
        now: Now,
    ) -> Result<(), Reason> {
        match frame {
            Frame::ScanRequest => self.begin_scan(link, false, now),
            Frame::ScanStart { round, gap, cutoff, holds } => {
                self.linked(link, Gives::Lacking(holds), now);
                (link.coming.holds, link.coming.got) = (holds, Amount::default());
                self.be_scanned(link, round, gap, cutoff, now);
            }
            Frame::Digests { round, items, lanes } => {
                return self.compare(link, round, items, &lanes, now);
            }
            Frame::ListRequest { round, lanes } => {
                link.coming.listing =
                    Some(Listing { round, lanes, cursor: RecordCursor::default() });
            }
            Frame::List { round, last, entries } => take_list(link, round, last, &entries),
            Frame::ScanDone { round, purged_to } => {
                self.store.note_purged_elsewhere(purged_to);
                link.coming.scanning = false;
                self.count_loaded(link);
                if std::mem::take(&mut link.coming.has_news) && !broken!(self, no_doubts) {
                    // Others may not have been told, either.
                    self.links.values_mut().for_each(|other| other.audit.doubt(now));
                }
                link.sums.retain(|sums| !sums.is_answer());
                link.coming.gap = link.coming.gap.filter(|closing| *closing > round);
            }
            Frame::Check { round, cutoff, lanes } => {
                if link.sums.len() >= SUMS_MAX {
                    return Err(Reason::OutOfPlace);
                }
                let theirs = Digest::from_lanes(&lanes).ok_or(Reason::BadFrame)?;
                self.begin_sums(link, Purpose::Check { round, theirs }, cutoff, now);
            }
            Frame::Checked { round, quiet, differing } => {
                self.checked(link, round, quiet, differing, now);
            }
            _ => return Err(Reason::OutOfPlace),
        }
        Ok(())
    }

    /// The other side begins a round, and wants our sums.
    fn be_scanned(&self, link: &mut Link, round: u32, gap: bool, cutoff: UnixSeconds, now: Now) {
        let coming = &mut link.coming;
        coming.round = round;
        coming.scanning = true;
        coming.scanned = Some(now);
        coming.listing = None;
        if gap {
            coming.gap = Some(round);
        }
        let items = self.store.counters().curr_items;
        link.sums.retain(|sums| !sums.is_answer());
        if self.has_nothing() {
            link.say(&Frame::Digests { round, items, lanes: Vec::new() });
        } else {
            self.begin_sums(link, Purpose::Answer { round, items }, cutoff, now);
        }
    }

    /// Their sums have come.
    fn compare(
        &mut self,
        link: &mut Link,
        round: u32,
        items: u64,
        lanes: &[(u64, u64)],
        now: Now,
    ) -> Result<(), Reason> {
        let Some(scan) = link.going.scan.as_mut().filter(|scan| scan.round == round) else {
            return Ok(());
        };
        if !matches!(scan.stage, Stage::Digests) {
            return Err(Reason::OutOfPlace);
        }
        if lanes.is_empty() {
            scan.passes.push_back(Pass::Whole);
            self.next_pass(link);
        } else {
            let theirs = Digest::from_lanes(lanes).ok_or(Reason::BadFrame)?;
            let cutoff = scan.cutoff;
            scan.stage = Stage::Sums;
            self.begin_sums(link, Purpose::Compare { round, items, theirs }, cutoff, now);
        }
        Ok(())
    }

    /// The lanes that differ are known: what there is to be sent.
    pub(super) fn plan_passes(
        &mut self,
        link: &mut Link,
        round: u32,
        items: u64,
        differing: Lanes,
    ) {
        let Some(scan) = link.going.scan.as_mut().filter(|scan| scan.round == round) else {
            return;
        };
        let same = Lanes::from_bits(differing.to_bits().map(|bits| !bits));
        scan.passes.push_back(Pass::Gone(same));
        let items = items.max(self.store.counters().curr_items);
        scan.passes.extend(groups(differing, items).map(Pass::Lacking));
        self.next_pass(link);
    }

    fn next_pass(&mut self, link: &mut Link) {
        let Some(scan) = &mut link.going.scan else { return };
        let round = scan.round;
        scan.theirs = List::default();
        match scan.passes.pop_front() {
            Some(Pass::Lacking(lanes)) => {
                scan.stage = Stage::List(lanes);
                link.say(&Frame::ListRequest { round, lanes });
            }
            Some(pass) => scan.stage = Stage::Send(pass, RecordCursor::default()),
            None => {
                scan.stage = Stage::Over(self.log_last());
                self.end_scan(link);
            }
        }
    }

    /// Says that a scan is done once the stream has told what hid something from it: it goes over what is
    /// there first, and what was gone may be written anew before it comes to that. Said earlier, it would
    /// let such a delete be acknowledged by who has the value still. So the stream waits for nothing now.
    pub(super) fn end_scan(&mut self, link: &mut Link) {
        let Some(Scan { round, records, stage: Stage::Over(last), .. }) = link.going.scan else {
            return;
        };
        if link.lags_behind(last) && !broken!(self, scan_done_early) {
            link.going.must_tell = true;
            return;
        }
        link.going.scan = None;
        self.say_done(link, round, records);
    }

    /// Sends some of what they lack. `false`: nothing to be done.
    pub(super) fn scan_step(&mut self, link: &mut Link, now: Now) -> bool {
        let Some(mut scan) = link.going.scan.take() else { return false };
        let Stage::Send(pass, cursor) = &scan.stage else {
            link.going.scan = Some(scan);
            return false;
        };
        let (pass, mut met) = (*pass, Records::default());
        let store = &self.store;
        let next = match pass {
            Pass::Whole => store.scan_records(cursor, Lanes::ALL, STEP_BYTES, now, &mut met),
            Pass::Gone(lanes) | Pass::Lacking(lanes) => {
                store.list_records(cursor, lanes, STEP_BYTES, now, &mut met)
            }
        };
        let mut buffer = Vec::new();
        for one in met.iter() {
            let (mut record, mut value) = (one.record, one.value);
            match pass {
                // What was touched since may have been about to expire, and so in no sum.
                Pass::Gone(_) if is_live(&record, scan.cutoff) && record.touched <= scan.since => {
                    continue;
                }
                // What expires by the cutoff is in no sum, but it may live yet.
                Pass::Gone(_) if is_expired(&record, now) => {
                    record = record.gone();
                }
                Pass::Lacking(_) if has(&scan.theirs, &one) => continue,
                _ => {}
            }
            if record.kind == Kind::Value && value.is_none() {
                buffer.clear();
                let Some(held) = store.record(one.key, now, &mut buffer) else { continue };
                (record, value) = (held, Some(buffer.as_slice()));
            }
            let value = value.unwrap_or_default();
            link.say(&Frame::Record { key: one.key, record, value, answer: false });
            link.counts.sent_records += 1;
            scan.records += 1;
        }
        let is_over = next.is_none();
        if let Some(next) = next {
            scan.stage = Stage::Send(pass, next);
        }
        link.going.scan = Some(scan);
        if is_over {
            self.next_pass(link);
        }
        true
    }

    /// Sends some of the list that they asked for.
    pub(super) fn list_step(&mut self, link: &mut Link, now: Now) -> bool {
        let Some(Listing { round, lanes, cursor }) = link.coming.listing.take() else {
            return false;
        };
        let mut met = Records::default();
        let next = self.store.list_records(&cursor, lanes, STEP_BYTES, now, &mut met);
        let entries: Vec<Listed> = met.iter().map(|one| listed(&one)).collect();
        let mut chunks = entries.chunks(LIST_CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            let last = next.is_none() && chunks.peek().is_none();
            link.say(&Frame::List { round, last, entries: chunk.to_vec() });
        }
        if entries.is_empty() && next.is_none() {
            link.say(&Frame::List { round, last: true, entries });
        }
        link.coming.listing = next.map(|cursor| Listing { round, lanes, cursor });
        true
    }
}

fn take_list(link: &mut Link, round: u32, last: bool, entries: &[Listed]) {
    let Some(scan) = link.going.scan.as_mut().filter(|scan| scan.round == round) else { return };
    let Stage::List(lanes) = scan.stage else { return };
    // What does not fit is as if they had not: it is sent for nothing.
    scan.theirs.add(entries, 2 * LISTED_MAX);
    if last {
        scan.stage = Stage::Send(Pass::Lacking(lanes), RecordCursor::default());
    }
}

fn listed(one: &ScannedRecord<'_>) -> Listed {
    let Record { version, kind, touched, .. } = one.record;
    let (hash, content) = (one.hash, one.content);
    Listed { hash, version, rank: rank_of(kind), touched, content }
}

/// Whether they have at least this of the key. Of two values of one version each is to be sent to
/// who has the other; while one is touched later, their contents differ anyway.
fn has(theirs: &List, one: &ScannedRecord<'_>) -> bool {
    let ours = listed(one);
    theirs.find(ours.hash).is_some_and(|best| {
        let is_all = best.rank >= ours.rank && best.touched >= ours.touched;
        let is_same_moment = (best.rank, best.touched) == (ours.rank, ours.touched);
        let is_as_good = is_all && !(is_same_moment && best.content != ours.content);
        best.version > ours.version || (best.version == ours.version && is_as_good)
    })
}

/// Whether a value is in the sums at `cutoff`.
fn is_live(record: &Record, cutoff: UnixSeconds) -> bool {
    record.kind == Kind::Value && !record.expiry.is_past(cutoff)
}

/// Whether a value is gone by our clock.
fn is_expired(record: &Record, now: Now) -> bool {
    record.kind == Kind::Value && record.expiry.is_past(now.seconds())
}

/// A second that neither of us has reached.
pub(super) fn cutoff(link: &Link, now: Now) -> UnixSeconds {
    let apart = u32::try_from(link.pulse.skew_us.max(0) / 1_000_000).unwrap_or(0);
    UnixSeconds(now.seconds().0.saturating_add(apart).saturating_add(2))
}

/// The lanes cut into sets that have about [`LISTED_MAX`] of `items` each.
fn groups(lanes: Lanes, items: u64) -> impl Iterator<Item = Lanes> {
    let a_lane = usize::try_from(items / 256).unwrap_or(usize::MAX).max(1);
    let size = (LISTED_MAX / a_lane).max(1);
    let is_in = move |lane: &usize| lanes.to_bits()[lane / 64] & (1 << (lane % 64)) != 0;
    let numbers: Vec<usize> = (0..256).filter(is_in).collect();
    let sets: Vec<Lanes> = numbers
        .chunks(size)
        .map(|chunk| {
            let mut bits = [0; 4];
            chunk.iter().for_each(|lane| bits[lane / 64] |= 1 << (lane % 64));
            Lanes::from_bits(bits)
        })
        .collect();
    sets.into_iter()
}
