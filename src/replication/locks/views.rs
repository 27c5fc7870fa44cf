//! Whom a node counts itself among, and whether the others see it the same way.
//!
//! A *view* is a set of nodes, ours among them; the one with the lowest number decides about locks.
//! Each node draws its own view and tells it to everybody, with a number that grows with every view
//! it draws. A view is *agreed* when every node in it has told us the same view and we have applied
//! what it wrote before it said so. FIFO makes that enough: a node that draws another view says so
//! before it acknowledges anything more.
//!
//! A node is in our view while we can talk in both directions: it serves, we have all of its data
//! and it says that it has all of ours, and it answers within [`PATIENCE_MIN`]. A connection that breaks
//! is waited for as long; a dial that fails meanwhile ends that. Time in which we stood still
//! ourselves counts against nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Heard;
use crate::clock::Now;
use crate::replication::event::{LinkId, State};
use crate::replication::link::Link;
use crate::replication::replica::Replica;
use crate::replication::wire::{Frame, Lock};

/// A node that does not answer for this long, or for the ack-timeout if that is longer, is not talked
/// to any more.
const PATIENCE_MIN: Duration = Duration::from_millis(400);

/// How long a node that begins to serve waits for those that it is connected with.
const JOIN_MAX: Duration = Duration::from_secs(1);

/// Having heard nothing for longer than this means having stood still.
const STANDSTILL: Duration = Duration::from_millis(100);

/// How long a node is done without that could not decide something with us; doubled each time.
const BLAME_MIN: Duration = Duration::from_millis(500);
const BLAME_DOUBLED_MAX: u32 = 4;
const BLAME_FORGOTTEN: Duration = Duration::from_secs(30);

/// A node that could not decide something with us.
#[derive(Clone, Copy, Debug)]
struct Blame {
    until: Now,
    times: u32,
}

/// Our view, and what others have told of theirs.
#[derive(Debug)]
pub(super) struct Views {
    /// For how long a node may not answer.
    pub(super) patience: Duration,
    /// Grows with every view that we draw.
    pub(super) epoch: u64,
    /// In order. Empty while we do not serve.
    pub(super) members: Vec<u8>,
    /// Whom we can talk to, so far as we know.
    reach: Vec<u8>,
    pub(super) heard: BTreeMap<u8, Heard>,
    /// What has been told on each connection.
    told: BTreeMap<LinkId, (u64, Vec<u8>)>,
    /// Connections over which everything has come that the other side had.
    loaded: BTreeSet<LinkId>,
    /// Members whose connection broke, and when.
    lost: BTreeMap<u8, Now>,
    /// Of those, the ones that cannot be dialled.
    unreachable: BTreeSet<u8>,
    blamed: BTreeMap<u8, Blame>,
    /// We have begun to serve and wait for others until then.
    joining_until: Option<Now>,
    last: Now,
    /// We stood still: until then nobody is too late.
    lenient_until: Now,
}

impl Views {
    pub(super) fn new(ack_timeout: Duration) -> Views {
        let never = Now::from_unix_seconds(0);
        Views {
            patience: ack_timeout.max(PATIENCE_MIN),
            epoch: 0,
            members: Vec::new(),
            reach: Vec::new(),
            heard: BTreeMap::new(),
            told: BTreeMap::new(),
            loaded: BTreeSet::new(),
            lost: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            blamed: BTreeMap::new(),
            joining_until: None,
            last: never,
            lenient_until: never,
        }
    }

    /// Draws our view anew. Whether it has changed.
    pub(super) fn update(&mut self, replica: &Replica, now: Now) -> bool {
        if now > self.last.plus(STANDSTILL) {
            self.lenient_until = now.plus(self.patience);
        }
        self.last = self.last.max(now);
        self.look(replica, now);
        let members = self.draw(replica, now);
        let is_new = members != self.members;
        if is_new {
            self.epoch += 1;
            self.members = members;
        }
        is_new
    }

    /// Notes who is there and whom we can talk to.
    fn look(&mut self, replica: &Replica, now: Now) {
        self.told.retain(|link, _| replica.links.contains_key(link));
        self.loaded.retain(|link| replica.links.contains_key(link));
        let mut reach = Vec::new();
        for link in replica.met_links() {
            let Some(met) = link.met else { continue };
            self.lost.remove(&met.node);
            self.unreachable.remove(&met.node);
            if link.is_loaded() {
                self.loaded.insert(link.id);
            }
            let is_reached = met.state == State::Ready
                && self.loaded.contains(&link.id)
                && self.answers(link, now)
                && !self.is_blamed(met.node, now);
            if is_reached {
                reach.push(met.node);
            }
        }
        reach.sort_unstable();
        self.reach = reach;
        for &node in &self.members {
            if node != replica.config.node && replica.link_of(node).is_none() {
                self.lost.entry(node).or_insert(now);
            }
        }
    }

    fn draw(&mut self, replica: &Replica, now: Now) -> Vec<u8> {
        if replica.state != State::Ready {
            self.joining_until = None;
            return Vec::new();
        }
        let ours = replica.config.node;
        let mut members = vec![ours];
        for &node in &self.reach {
            let link = replica.link_of(node).map(|link| link.id);
            let theirs = self.heard.get(&node).filter(|heard| Some(heard.link) == link);
            if theirs.is_some_and(|heard| heard.reach.contains(&ours)) {
                members.push(node);
            }
        }
        let others = self.members.iter().filter(|node| **node != ours && !members.contains(node));
        let expected: Vec<u8> =
            others.filter(|node| self.is_expected(replica, **node, now)).copied().collect();
        members.extend(expected);
        members.sort_unstable();
        if self.members.is_empty() && members.len() == 1 && self.waits_to_join(replica, now) {
            return Vec::new();
        }
        members
    }

    /// Whether somebody is there with whom we shall share a view in a moment, or will be at once: one
    /// connection may have ended, and the next not know yet whose it is.
    fn waits_to_join(&mut self, replica: &Replica, now: Now) -> bool {
        let until = *self.joining_until.get_or_insert_with(|| now.plus(JOIN_MAX));
        let may_be_back = !broken!(replica, locks_between_connections)
            && self.heard.keys().any(|node| !self.unreachable.contains(node));
        now < until && (may_be_back || replica.met_links().next().is_some())
    }

    /// Whether a member whose connection broke may be back at once, or is back and has not yet been
    /// told everything.
    fn is_expected(&self, replica: &Replica, node: u8, now: Now) -> bool {
        let Some(heard) = self.heard.get(&node) else { return false };
        let is_in_time = |since: Now| now < since.plus(self.patience).max(self.lenient_until);
        match replica.link_of(node) {
            Some(link) => {
                let is_same =
                    link.met.is_some_and(|met| met.boot == heard.boot && met.state == State::Ready);
                is_same && is_in_time(link.opened) && !self.is_blamed(node, now)
            }
            None => {
                let is_gone = self.unreachable.contains(&node);
                !is_gone && self.lost.get(&node).is_some_and(|since| is_in_time(*since))
            }
        }
    }

    fn answers(&self, link: &Link, now: Now) -> bool {
        let oldest = link.going.unacked.front();
        oldest.is_none_or(|batch| now < batch.sent.plus(self.patience).max(self.lenient_until))
    }

    fn is_blamed(&self, node: u8, now: Now) -> bool {
        self.blamed.get(&node).is_some_and(|blame| now < blame.until)
    }

    /// Nothing could be decided with `node`: it is done without for a while.
    pub(super) fn blame(&mut self, node: u8, now: Now) {
        let before = self.blamed.get(&node).filter(|old| now < old.until.plus(BLAME_FORGOTTEN));
        let times = before.map_or(0, |old| (old.times + 1).min(BLAME_DOUBLED_MAX));
        let until = now.plus(BLAME_MIN * (1 << times));
        self.blamed.insert(node, Blame { until, times });
    }

    /// Nobody is waited for any more who might join us.
    pub(super) fn stop_joining(&mut self, now: Now) {
        self.joining_until = Some(now);
    }

    /// A node whose connection broke cannot be dialled either.
    pub(super) fn cannot_dial(&mut self, node: u8) {
        self.unreachable.insert(node);
    }

    /// Whether nobody can be called too late, because we were ourselves.
    pub(super) fn is_lenient(&self, now: Now) -> bool {
        now < self.lenient_until
    }

    /// The connections on which our view has not been told.
    pub(super) fn uninformed(&self, replica: &Replica) -> Vec<LinkId> {
        let knows = |link: &Link| {
            let told = self.told.get(&link.id);
            told.is_some_and(|(epoch, reach)| *epoch == self.epoch && *reach == self.reach)
        };
        replica.met_links().filter(|link| !knows(link)).map(|link| link.id).collect()
    }

    /// Tells our view to whoever does not know it.
    pub(super) fn tell(&mut self, replica: &mut Replica) {
        let upto = replica.log_last();
        for id in self.uninformed(replica) {
            let Some(link) = replica.links.get_mut(&id) else { continue };
            self.told.insert(id, (self.epoch, self.reach.clone()));
            link.say(&Frame::Lock(Lock::View {
                epoch: self.epoch,
                members: self.members.clone(),
                reach: self.reach.clone(),
                upto,
            }));
        }
    }

    /// Who decides, in our view.
    pub(super) fn home(&self) -> Option<u8> {
        self.members.first().copied()
    }

    /// Whether `node` has told us our view, and we have what it wrote before.
    pub(super) fn agrees(&self, replica: &Replica, node: u8) -> bool {
        let (Some(link), Some(heard)) = (replica.link_of(node), self.heard.get(&node)) else {
            return false;
        };
        if broken!(replica, locks_without_agreement) {
            return true;
        }
        let has_all = link.applied(false).is_some_and(|applied| applied >= heard.upto)
            || broken!(replica, locks_before_the_stream);
        heard.link == link.id && heard.members == self.members && has_all
    }

    /// The members that do not agree.
    pub(super) fn dissenters(&self, replica: &Replica) -> Vec<u8> {
        let others = self.members.iter().filter(|node| **node != replica.config.node);
        others.filter(|node| !self.agrees(replica, **node)).copied().collect()
    }

    /// Whether we decide, and everybody whom that concerns knows. Who stood still asks first what was
    /// decided without him.
    pub(super) fn is_ours(&self, replica: &Replica) -> bool {
        let is_awake = !replica.is_paused() || broken!(replica, locks_half_asleep);
        let is_home = self.home() == Some(replica.config.node);
        is_home && is_awake && self.dissenters(replica).is_empty()
    }
}
