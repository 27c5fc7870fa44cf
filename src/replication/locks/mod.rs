//! Exclusive locks: of two clients that want one at two nodes, one gets it.
//!
//! Picture a key cabinet. Of the nodes that can talk, one keeps it, the *home*: whoever wants to
//! change a lock key at another node has his request carried there, and waits. The home executes
//! requests one after the other in its own store, and each is answered when every node has what it
//! changed. Which node is home follows from the view that all of them share ([`views`]).
//!
//! # Why no two clients have a lock
//!
//! In brackets is how the simulator takes a rule away.
//!
//! 1. *One home decides at a time.* It executes only while every node of its view has told it the
//!    same view (`locks_without_agreement`); who draws another one says so before it acknowledges
//!    anything more.
//! 2. *What was given is known to all who may decide next.* A client is told that it has a lock when
//!    every node of that view has it (`locks_unconfirmed`); no node decides in a view before it has
//!    what the others wrote until they drew it (`locks_before_the_stream`). And what a home wrote
//!    that is gone, of the last seconds, each node tells before its view to whoever may not have
//!    heard of it (`locks_untold`).
//!    A node that serves and is in no view yet is home alone in a moment if those die whom it was to
//!    join. So a client has a lock when whoever is waited for with every write has it, too, as every
//!    node is before it serves (`locks_of_members_alone`).
//! 3. *A request may be executed again, and does no harm.* A home dies with requests on their way, and
//!    nobody knows what came of them; the connection of a dead node may bring one long afterwards.
//!    - One that *lets a lock go* names the lock: by the version of the key that its node has as soon
//!      as that shares a view and has what the others wrote before they drew it. So it has the lock
//!      that its client was given; and nothing that waited there is decided before. Whoever is given
//!      the lock next has it at a later version, because it is given by whoever has seen it let go. So
//!      a lock that was *taken* later than that is not let go (`locks_ended_late`), however often and
//!      wherever the request is executed. Counting up changes the version of a lock while somebody has
//!      it: homes tell when it was taken (`births`).
//!    - One that *takes a lock* is known again by a *note*: a home says whose request it executed
//!      before it tells of the change, on the same connection, so who has the change has the note.
//!      The next home gives that client the lock only if the very lock is there, and if nobody can
//!      have decided without knowing of it; else the request is decided as if nobody had asked
//!      before. Without notes (`locks_without_notes`) the client is refused by its own lock.
//! 4. *A home that is home no longer* executes, but does not answer: by 1 it learns of it with the
//!    acknowledgement at the latest. One that stood still asks before it executes anything
//!    (`locks_half_asleep`).
//!
//! What may go wrong is the opposite: a lock that nobody has. A change of 4 is in that node's store,
//! and may reach others later, without a note that counts; it is later than what they decided and is
//! not taken back, because it may stand in the place of a lock that somebody has. It ends by its time
//! to live (`lock_doubtful` counts what may come to this).
//!
//! *The last node dies* that has a lock: before another serves, or after it has given the others up for
//! too slow. Then the lock is lost as all else is that this node alone had; the next to ask gets it, and
//! who had it may let that one go.
//!
//! *Nodes cannot talk*: after a moment each side goes on with a home of its own, and a lock may be
//! held on both. Sessions of users go on; what both write, the later one wins.
//!
//! What is NOT here: which keys these are, and what requests mean ([`Execute`] knows).

mod decide;
mod notes;
#[cfg(test)]
mod sim;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

use super::config::Boot;
use super::event::{LinkId, PeerIndex, Reason};
use super::link::Link;
use super::replica::Replica;
use super::wire::Lock;
use crate::clock::Now;
use crate::version::Version;
use views::Views;

/// Executes clients' requests in the replica's store.
pub trait Execute: Debug {
    /// Executes one whole request, in whatever protocol it is. If it `is_late` it lets no lock go: one
    /// that is here was taken after it was asked.
    fn execute(&mut self, request: &[u8], is_late: bool, now: Now) -> Executed;
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// What the client is to be told; empty if nothing.
    pub answer: Vec<u8>,
    /// The version of what it changed, if it changed anything.
    pub version: Option<Version>,
    /// It is one by which locks are taken, and never let go: executed twice, it takes no lock from
    /// anybody.
    pub takes: bool,
}

/// Exclusive locks as operators see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockStatus {
    /// The node that decides; `None` while we do not serve.
    pub home: Option<u8>,
    /// How many nodes have to agree, ours included.
    pub nodes: usize,
    /// Requests that we decided.
    pub executed: u64,
    /// Requests of our clients that another node was asked to decide.
    pub forwarded: u64,
    /// Times a request was asked again, because its home was gone or not sure.
    pub retried: u64,
    /// Requests that a home had executed which died, and that were known again here.
    pub known_again: u64,
    /// Requests that we executed and others decided anew, or may have.
    pub doubtful: u64,
    /// Requests that we decided while a node was missing that may have decided the same.
    pub split: u64,
}

/// Whose request, and which.
type Ticket = (u8, Boot, u64);

/// What a node said of its view.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    link: LinkId,
    boot: Boot,
    epoch: u64,
    members: Vec<u8>,
    reach: Vec<u8>,
    upto: Version,
}

/// A request of a client of ours.
#[derive(Debug)]
struct Asked {
    key: Vec<u8>,
    request: Vec<u8>,
    /// The version of the key when it could first be tried.
    lock: Option<Version>,
    /// Since when it is tried, or since somebody was last blamed.
    begun: Now,
    /// When somebody was asked, or said that he has executed it.
    since: Now,
    /// Who may have executed it. As long as that one can be asked nobody else is.
    with: Option<(u8, Boot)>,
    stage: Stage,
}

/// How far a request of a client of ours is.
#[derive(Debug)]
enum Stage {
    /// Nobody has been asked, or not with success.
    Open,
    /// We have executed it.
    Ours,
    /// Another node has been asked.
    Sent { link: LinkId, home: u8 },
    /// It has executed it, in this epoch of ours. `is_shared`: in a view that was ours as well.
    Noted { link: LinkId, home: u8, epoch: u64, is_shared: bool, version: Version, answer: Vec<u8> },
    /// What it changed is everywhere.
    Done(Vec<u8>),
}

/// A request of another node's client.
#[derive(Debug)]
struct Forwarded {
    link: LinkId,
    ticket: Ticket,
    lock: Version,
    key: Vec<u8>,
    request: Vec<u8>,
}

/// A request that was executed, by us or, so far as we were told, by another home.
#[derive(Debug)]
struct Done {
    key: Vec<u8>,
    at: Now,
    /// Who executed it.
    home: (u8, Boot),
    answer: Vec<u8>,
    version: Version,
    /// When the lock was taken that it changed: its own version, or that of an earlier taking.
    since: Version,
    takes: bool,
    /// The other members of our view then, with the numbers of theirs, if it was theirs, too.
    seen: Option<BTreeMap<u8, (Boot, u64)>>,
}

/// Everything about exclusive locks.
#[derive(Debug)]
pub(super) struct Locks {
    executor: Box<dyn Execute>,
    views: Views,
    asked: BTreeMap<u64, Asked>,
    forwarded: Vec<Forwarded>,
    done: BTreeMap<Ticket, Done>,
    /// Executed by us, and not yet everywhere so far as we know.
    unconfirmed: BTreeSet<Ticket>,
    /// In the order in which they will be forgotten.
    aging: VecDeque<(Now, Ticket)>,
    /// Versions of locks that were changed while somebody had them, when they were taken, and when we
    /// heard of it.
    births: BTreeMap<Version, (Version, Now)>,
    counts: LockStatus,
}

impl Locks {
    pub(super) fn new(executor: Box<dyn Execute>, ack_timeout: Duration) -> Locks {
        Locks {
            executor,
            views: Views::new(ack_timeout),
            asked: BTreeMap::new(),
            forwarded: Vec::new(),
            done: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            aging: VecDeque::new(),
            births: BTreeMap::new(),
            counts: LockStatus::default(),
        }
    }

    pub(super) fn status(&self) -> LockStatus {
        LockStatus { home: self.views.home(), nodes: self.views.members.len(), ..self.counts }
    }

    /// Keeps what was executed for as long as anybody may ask for it again.
    fn keep(&mut self, ticket: Ticket, done: Done) {
        self.aging.push_back((done.at, ticket));
        self.done.insert(ticket, done);
    }

    /// The numbers of the other members' views, where all of them have told us ours.
    fn seen(&self, replica: &Replica) -> Option<BTreeMap<u8, (Boot, u64)>> {
        let others = self.views.members.iter().filter(|node| **node != replica.config.node);
        let seen = others.map(|node| {
            let heard = self.views.heard.get(node)?;
            let is_ours = heard.members == self.views.members;
            is_ours.then_some((*node, (heard.boot, heard.epoch)))
        });
        seen.collect()
    }
}

impl Replica {
    /// A client of ours asks.
    pub(super) fn ask_lock(&mut self, id: u64, key: &[u8], request: &[u8], now: Now) {
        if let Some(locks) = &mut self.locks {
            let (key, request) = (key.to_vec(), request.to_vec());
            locks.asked.insert(
                id,
                Asked {
                    key,
                    request,
                    lock: None,
                    begun: now,
                    since: now,
                    with: None,
                    stage: Stage::Open,
                },
            );
        }
    }

    /// Decides what can be decided.
    pub(super) fn settle_locks(&mut self, now: Now) {
        if let Some(mut locks) = self.locks.take() {
            locks.step(self, now);
            self.locks = Some(locks);
        }
    }

    /// A node that has just been lost cannot be dialled.
    pub(super) fn lock_peer_undialled(&mut self, peer: PeerIndex) {
        let node = self.peers.get(&peer).and_then(|peer| peer.node);
        if let (Some(locks), Some(node)) = (&mut self.locks, node) {
            locks.views.cannot_dial(node);
        }
    }

    /// A peer speaks of locks.
    pub(super) fn take_lock(
        &mut self,
        link: &mut Link,
        lock: Lock<'_>,
        now: Now,
    ) -> Result<(), Reason> {
        if let Lock::View { upto: version, .. }
        | Lock::Forward { lock: version, .. }
        | Lock::Note { version, .. } = lock
        {
            self.check_version(version, now)?;
            // Whatever is decided from here on is later than what we have been told of.
            if let Some(log) = self.log() {
                log.observe(version);
            }
        }
        let Some(met) = link.met else { return Err(Reason::OutOfPlace) };
        let ours = (self.config.node, self.config.boot);
        let Some(mut locks) = self.locks.take() else { return Err(Reason::OutOfPlace) };
        match lock {
            Lock::View { epoch, members, reach, upto } => {
                let heard = Heard { link: link.id, boot: met.boot, epoch, members, reach, upto };
                locks.views.heard.insert(met.node, heard);
            }
            Lock::Forward { id, lock, key, request } => {
                let ticket = (met.node, met.boot, id);
                let (key, request) = (key.to_vec(), request.to_vec());
                locks.forwarded.push(Forwarded { link: link.id, ticket, lock, key, request });
            }
            Lock::Note { node, boot, id, version, since, takes, key, answer } => {
                let (ticket, home) = ((node, boot, id), (met.node, met.boot));
                let (key, answer, seen) = (key.to_vec(), answer.to_vec(), None);
                let changed = (version > Version(0)).then_some(version);
                let executed = Executed { answer: answer.clone(), version: changed, takes };
                let done = Done { key, at: now, home, answer, version, since, takes, seen };
                if changed.is_some() {
                    locks.keep_note(self, link, ticket, done);
                }
                let is_first_hand = changed.is_none_or(|version| version.node() == met.node);
                if (node, boot) == ours && is_first_hand {
                    locks.note(link, id, executed, now);
                }
            }
            Lock::Done { id } => locks.finish(link.id, id),
            Lock::Retry { id } => locks.reopen(link.id, id),
        }
        self.locks = Some(locks);
        Ok(())
    }
}
