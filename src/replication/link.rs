//! One connection: what was said on it and what is still to be said.
//!
//! Everything a node learns on a connection that is only true as long as the connection lasts lives
//! here, and dies here: how far the other side has come, what it claims of third nodes, which of
//! two directions has a hole. What outlives a connection is in [`super::nodes`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::audit::{AGAIN_AFTER, Sums};
use super::config::Boot;
use super::event::{Amount, LinkId, PeerIndex, Reason, State};
use super::nodes::Counts;
use super::scan::{Listing, Scan};
use super::speech::Agreed;
use super::wire::{Frame, Standing};
use crate::clock::Now;
use crate::store::Lanes;
use crate::version::Version;

/// Bytes given to the driver and not yet written at which a link is full.
const QUEUED_MAX: usize = 1 << 20;

/// Bytes given to the driver and not yet written at which a scan or a list pauses, so that a step stays short.
const SCANNED_MAX: usize = 64 << 10;

/// Batches on their way that are told apart; further ones count with the latest.
const UNACKED_MAX: usize = 1024;

/// A connection that ends earlier may end for a reason that will end the next one, too.
pub(super) const LASTING: Duration = Duration::from_secs(1);

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// The address we dialled, if it was us.
    pub(super) dialled: Option<PeerIndex>,
    /// Which of our dials it is; 0 if the other side dialled.
    pub(super) serial: u64,
    pub(super) opened: Now,
    pub(super) heard: Now,
    /// The beginning of a frame.
    pub(super) input: Vec<u8>,
    /// Frames for the end of this step.
    pub(super) out: Vec<u8>,
    /// Bytes handed to the driver since its queue was last empty.
    pub(super) queued: usize,
    pub(super) met: Option<Met>,
    /// What we said of ourselves.
    pub(super) said: Standing,
    /// The other side has accepted us, too.
    pub(super) is_mutual: bool,
    pub(super) going: Going,
    pub(super) coming: Coming,
    /// What the other side says it has applied of each node's stream.
    pub(super) claims: BTreeMap<u8, (Boot, Version)>,
    /// Acknowledgements wait for it.
    pub(super) in_sync: bool,
    /// Whoever answers clients has heard that.
    pub(super) is_awaited: bool,
    pub(super) audit: Audit,
    /// Sums being made for it, one after the other.
    pub(super) sums: VecDeque<Sums>,
    pub(super) pulse: Pulse,
    pub(super) counts: Counts,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) node: u8,
    pub(super) boot: Boot,
    /// Of two connections of a pair the one with the lesser precedence stays.
    pub(super) precedence: (Boot, std::cmp::Reverse<u64>),
    pub(super) state: State,
    /// Longest body that it may send.
    pub(super) body_max: usize,
    pub(super) standing: Standing,
    /// What can be said to it.
    pub(super) agreed: Agreed,
}

/// Our stream, and our scan.
#[derive(Debug, Default)]
pub(super) struct Going {
    /// Sent up to here; `None` until the other side has said where to start.
    pub(super) cursor: Option<Version>,
    /// The next batch is due at once, even an empty one: the other side does not know where the cursor is,
    /// or a scan ends behind it.
    pub(super) must_tell: bool,
    /// The cursor was at the end of our log once.
    pub(super) has_caught_up: bool,
    /// What piled up behind the cursor and is on its way.
    pub(super) pile: Option<Pile>,
    /// What is logged gathers until then.
    pub(super) gathers_until: Option<Now>,
    pub(super) acked: Version,
    /// What they had when the connection began.
    pub(super) started: Version,
    pub(super) unacked: VecDeque<Batch>,
    /// Records asked for: key, and the version touched.
    pub(super) answers: VecDeque<(Vec<u8>, Version)>,
    pub(super) scan: Option<Scan>,
    pub(super) rounds: u32,
}

/// Entries of our log that piled up because the other side was away or slow. Nothing of them is to be
/// acknowledged before all are told, so a key need not be told at every change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pile {
    /// The last of them.
    pub(super) last: Version,
    /// Told so far.
    pub(super) told: Version,
    pub(super) since: Now,
}

/// A batch on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) upto: Version,
    pub(super) sent: Now,
    /// There was nothing more to send.
    pub(super) caught_up: bool,
    /// Something of it may be waited for: a heartbeat alone tells of nothing but the time.
    pub(super) has_writes: bool,
}

/// Their stream, and their scan.
#[derive(Debug)]
pub(super) struct Coming {
    /// The round of their scan at whose end the hole in their stream is closed.
    pub(super) gap: Option<u32>,
    /// Their latest scan, and whether it is going on.
    pub(super) round: u32,
    pub(super) scanning: bool,
    /// When it was begun; `None`: we know them by their stream alone.
    pub(super) scanned: Option<Now>,
    /// What they held then, and what came of it.
    pub(super) holds: Amount,
    pub(super) got: Amount,
    /// It has told us what we did not know.
    pub(super) has_news: bool,
    /// Everything of theirs up to here has been sent to us.
    pub(super) upto: Version,
    /// They had nothing more to send at some moment of this connection.
    pub(super) caught_up: bool,
    /// Everything of theirs is here that they had when they heard our heartbeat of this moment.
    pub(super) level_us: u64,
    /// They wait for our acknowledgements before they answer their clients.
    pub(super) waits_for_us: bool,
    /// And all is here that they answered before they did.
    pub(super) waited_for_us: bool,
    /// Keys asked for.
    pub(super) needs: BTreeMap<Vec<u8>, Need>,
    /// What we have acknowledged.
    pub(super) acked: Version,
    /// Somebody waits for more.
    pub(super) is_awaited: bool,
    /// Until when nothing is acknowledged that nobody waits for.
    pub(super) silent_until: Option<Now>,
    /// The list that they asked for.
    pub(super) listing: Option<Listing>,
}

/// A key that the other side was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Without it, the stream is whole up to here.
    pub(super) upto: Version,
    /// All others were asked as well for what is lost at this version.
    pub(super) sought: Version,
}

/// The comparison of digests with the other side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audit {
    pub(super) due: Now,
    /// Something has happened after which we may differ; not the routine.
    pub(super) urgent: bool,
    /// Lanes that have been different each time since this audit began.
    pub(super) suspects: Lanes,
    /// How often no lane ceased to be a suspect.
    pub(super) mismatches: u8,
    pub(super) round: u32,
    pub(super) waiting: bool,
    /// Something has happened since this audit began: another one must follow.
    pub(super) again: bool,
    /// Something may have happened since: another one is to follow when it is quiet.
    pub(super) once_more: bool,
    /// The last one led to a repair, or another one was to follow: this one sees whether that was all.
    pub(super) follows: bool,
}

impl Audit {
    pub(super) fn new(now: Now) -> Audit {
        Audit {
            due: now,
            urgent: true,
            suspects: Lanes::ALL,
            mismatches: 0,
            round: 0,
            waiting: false,
            again: false,
            once_more: false,
            follows: false,
        }
    }

    fn is_under_way(&self) -> bool {
        self.waiting || self.suspects != Lanes::ALL
    }

    /// We might differ: to be compared when it is quiet, from `due` on.
    pub(super) fn wonder(&mut self, due: Now) {
        if self.urgent || self.is_under_way() {
            self.once_more = true;
        } else {
            self.follows = true;
            self.due = self.due.min(due);
        }
    }

    /// We may differ: to be compared at `due`, whatever is compared before that.
    pub(super) fn doubt(&mut self, due: Now) {
        let is_under_way = self.is_under_way();
        let is_too_early = self.urgent && self.due.plus(AGAIN_AFTER) < due;
        self.again |= is_under_way || is_too_early;
        if !is_under_way {
            self.due = if self.urgent { self.due.min(due) } else { due };
        }
        self.urgent = true;
    }
}

/// Heartbeats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    pub(super) next: Now,
    /// The `sent_us` of their latest, and when it came.
    pub(super) theirs: (u64, u64),
    /// Which of our heartbeats they answered last.
    pub(super) echoed_us: u64,
    pub(super) rtt_us: u64,
    pub(super) skew_us: i64,
    pub(super) warned: bool,
}

impl Link {
    pub(super) fn new(id: LinkId, dialled: Option<PeerIndex>, serial: u64, now: Now) -> Link {
        Link {
            id,
            dialled,
            serial,
            opened: now,
            heard: now,
            input: Vec::new(),
            out: Vec::new(),
            queued: 0,
            met: None,
            said: Standing::default(),
            is_mutual: false,
            going: Going::default(),
            coming: Coming {
                gap: Some(0),
                round: 0,
                scanning: false,
                scanned: None,
                holds: Amount::default(),
                got: Amount::default(),
                has_news: false,
                upto: Version(0),
                caught_up: false,
                level_us: 0,
                waits_for_us: false,
                waited_for_us: false,
                needs: BTreeMap::new(),
                acked: Version(0),
                is_awaited: false,
                silent_until: None,
                listing: None,
            },
            claims: BTreeMap::new(),
            in_sync: false,
            is_awaited: false,
            audit: Audit::new(now),
            sums: VecDeque::new(),
            pulse: Pulse {
                next: now,
                theirs: (0, 0),
                echoed_us: 0,
                rtt_us: 0,
                skew_us: 0,
                warned: false,
            },
            counts: Counts::default(),
        }
    }

    /// Says something, at the end of this step.
    pub(super) fn say(&mut self, frame: &Frame<'_>) {
        frame.encode(&mut self.out);
    }

    /// Whether both sides have accepted each other, and not just now.
    pub(super) fn has_lasted(&self, now: Now) -> bool {
        self.is_mutual && now > self.opened.plus(LASTING)
    }

    /// Why the connection is gone, if the other side closed it without a word or it broke.
    pub(super) fn why_lost(&self) -> Reason {
        let is_cut_off = self.met.is_none() && !self.input.is_empty();
        if is_cut_off { Reason::CutOff } else { Reason::Lost }
    }

    pub(super) fn has_room(&self) -> bool {
        self.queued + self.out.len() < QUEUED_MAX
    }

    /// Whether a scan may go on, or a list.
    pub(super) fn has_room_to_scan(&self) -> bool {
        self.queued + self.out.len() < SCANNED_MAX
    }

    /// Notes that everything up to `upto` has been said.
    pub(super) fn sent_upto(&mut self, batch: Batch) {
        self.going.cursor = Some(batch.upto);
        let unacked = &mut self.going.unacked;
        let is_full = unacked.len() >= UNACKED_MAX;
        match unacked.back_mut().filter(|_| is_full) {
            Some(latest) => {
                let has_writes = latest.has_writes || batch.has_writes;
                *latest = Batch { sent: latest.sent, has_writes, ..batch };
            }
            None => unacked.push_back(batch),
        }
    }

    /// When the oldest batch was sent that may be waited for.
    pub(super) fn owed_since(&self) -> Option<Now> {
        self.going.unacked.iter().find(|batch| batch.has_writes).map(|batch| batch.sent)
    }

    /// Whether we have all that they had to give when they last said so.
    pub(super) fn is_loaded(&self) -> bool {
        let coming = &self.coming;
        self.met.is_some()
            && coming.gap.is_none()
            && coming.caught_up
            && coming.needs.is_empty()
            && !coming.scanning
    }

    /// Whether clients may ask either side for what the other has answered.
    pub(super) fn is_shared(&self) -> bool {
        self.in_sync && self.coming.waited_for_us
    }

    /// Whether they are met, and do not load themselves.
    pub(super) fn is_serving(&self) -> bool {
        self.met.is_some_and(|met| met.state != State::Loading)
    }

    /// Whether their stream goes on where it was, and nothing else was needed.
    pub(super) fn is_resumed(&self) -> bool {
        self.is_loaded() && self.coming.scanned.is_none()
    }

    /// How much of their stream we have applied, once it has no hole.
    pub(super) fn applied(&self, ignores_needs: bool) -> Option<Version> {
        let whole = self.coming.gap.is_none() && self.coming.upto > Version(0);
        let needs = self.coming.needs.values().map(|need| need.upto);
        let held_back = needs.min().filter(|_| !ignores_needs);
        whole.then(|| held_back.map_or(self.coming.upto, |held| held.min(self.coming.upto)))
    }

    /// When the oldest of what it has not acknowledged was sent on this connection, or was to be.
    pub(super) fn owes_since(&self) -> Option<Now> {
        let sent = self.going.unacked.front().map(|batch| batch.sent);
        sent.or(self.going.pile.map(|pile| pile.since))
    }

    /// Whether its stream lacks anything of our log, which is as long as `last`.
    pub(super) fn lags_behind(&self, last: Version) -> bool {
        self.going.cursor.is_some_and(|cursor| last > cursor)
    }

    /// Whether so many batches are on their way to a peer in sync that the next one waits for an
    /// acknowledgement.
    pub(super) fn is_awaiting(&self, under_way_max: usize) -> bool {
        let unacked = &self.going.unacked;
        let written = || unacked.iter().filter(|batch| batch.has_writes).count();
        self.in_sync && unacked.len() >= under_way_max && written() >= under_way_max
    }

    /// Whether there is anything to be said on it, with our log as long as `last`.
    pub(super) fn has_to_say(&self, last: Version) -> bool {
        let going = &self.going;
        self.lags_behind(last)
            || (going.must_tell && going.cursor.is_some())
            || !going.answers.is_empty()
            || !self.sums.is_empty()
            || self.coming.listing.is_some()
            || going.scan.as_ref().is_some_and(Scan::is_sending)
    }

    /// Whether it could say more at once, had it another turn.
    pub(super) fn is_busy(&self) -> bool {
        let is_sending = self.going.scan.as_ref().is_some_and(Scan::is_sending);
        let has_to_say = is_sending || self.coming.listing.is_some();
        !self.sums.is_empty() || (has_to_say && self.has_room_to_scan())
    }

    /// Whether both directions are streams and nothing else.
    pub(super) fn is_steady(&self) -> bool {
        self.is_loaded() && self.going.scan.is_none() && self.going.cursor.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::audit::DOUBT;
    use super::*;

    #[test]
    fn what_might_differ_is_compared_after_what_is_compared_already() {
        let now = Now::from_unix_seconds(1);
        let due = now.plus(DOUBT);
        let mut routine = Audit { urgent: false, due: now.plus(9 * DOUBT), ..Audit::new(now) };
        routine.wonder(due);
        assert!(!routine.urgent && !routine.once_more && routine.follows && routine.due == due);
        for mut busy in [Audit::new(now), Audit { waiting: true, urgent: false, ..routine }] {
            busy.wonder(due);
            assert!(busy.once_more);
        }
    }

    #[test]
    fn a_comparison_that_is_due_before_what_is_doubted_has_settled_is_followed_by_another() {
        let now = Now::from_unix_seconds(1);
        let mut audit = Audit::new(now);
        audit.doubt(now);
        assert!(!audit.again);
        audit.doubt(now.plus(DOUBT));
        assert!(audit.again && audit.due == now);
        let mut routine = Audit { urgent: false, due: now.plus(2 * DOUBT), ..Audit::new(now) };
        routine.doubt(now.plus(DOUBT));
        assert!(!routine.again && routine.urgent && routine.due == now.plus(DOUBT));
        routine.doubt(now.plus(DOUBT + AGAIN_AFTER));
        assert!(!routine.again);
    }
}
