//! Exclusive locks: of two clients that want one at two nodes, one gets it.
//!
//! Picture a key cabinet. Of the nodes that can talk, one keeps it, the *home*: whoever wants to
//! change a lock key at another node has his request carried there, and waits. The home executes
//! requests one after the other in its own store, and each is answered when every node has what it
//! changed. Which node is home follows from the view that all of them share ([`views`]).
//!
//! What goes wrong, and why it is harmless:
//!
//! - *The home dies* with a request on its way: the next home is asked. It may have what the first
//!   one changed, and must not refuse a lock to the client for whom it was taken. So a home says
//!   whose request it executed (a *note*) before it tells of the change, on the same connection:
//!   who has the change has the note. That a lock was let go is told also to who is not yet a member,
//!   and again with the next view, as the next home may be one that knows of nothing, and would let
//!   go what is another client's by then.
//! - *A home is home no longer*, and does not know it yet: it executes, but does not answer, because
//!   whoever has left its view says so before it acknowledges. A request that takes a lock is then
//!   decided anew, as if nobody had asked before: perhaps nobody gets the lock, but never two. One
//!   that lets a lock go is not executed again: by then the lock may be another client's.
//! - *Nodes cannot talk*: after a moment each side goes on with a home of its own, and a lock may be
//!   held on both. Sessions of users go on; what both write, the later one wins.
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
    /// Executes one whole request, in whatever protocol it is.
    fn execute(&mut self, request: &[u8], now: Now) -> Executed;
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
    key: Vec<u8>,
    request: Vec<u8>,
}

/// A request that was executed, by us or, so far as we were told, by another home.
#[derive(Debug)]
struct Done {
    key: Vec<u8>,
    at: Now,
    /// Who executed it, or told us what one that is gone had executed.
    home: u8,
    answer: Vec<u8>,
    version: Version,
    takes: bool,
    /// The other members of our view then, with the numbers of theirs.
    seen: BTreeMap<u8, (Boot, u64)>,
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
    /// Notes of this epoch; what they tell of may not have come yet.
    fresh: BTreeSet<Ticket>,
    /// In the order in which they will be forgotten.
    aging: VecDeque<(Now, Ticket)>,
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
            fresh: BTreeSet::new(),
            aging: VecDeque::new(),
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
                Asked { key, request, begun: now, since: now, with: None, stage: Stage::Open },
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
        | Lock::Forward { latest: version, .. }
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
            Lock::Forward { id, key, request, .. } => {
                let ticket = (met.node, met.boot, id);
                let (key, request) = (key.to_vec(), request.to_vec());
                locks.forwarded.push(Forwarded { link: link.id, ticket, key, request });
            }
            Lock::Note { node, boot, id, version, takes, key, answer } => {
                let version = (version > Version(0)).then_some(version);
                let executed = Executed { answer: answer.to_vec(), version, takes };
                let ticket = (node, boot, id);
                let is_first_hand = version.is_none_or(|version| version.node() == met.node);
                locks.keep_note(self, link, ticket, &executed, key, now);
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
