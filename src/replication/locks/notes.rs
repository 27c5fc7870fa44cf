//! Notes of whose requests were executed: who is told of them, what they count, and when a request is
//! known again by one.

use std::collections::BTreeSet;

use super::decide::{Standing, say};
use super::{Done, Executed, Locks, Ticket};
use crate::clock::Now;
use crate::replication::event::LinkId;
use crate::replication::link::Link;
use crate::replication::replica::Replica;
use crate::replication::wire::{Frame, Lock};
use crate::store::{Kind, Mode, Write};
use crate::version::Version;

impl Locks {
    /// Tells our view to whoever does not know it, and before it what homes that are gone changed: they
    /// may not have told him, and what they gave stays given.
    pub(super) fn tell_view(&mut self, replica: &mut Replica, now: Now) {
        let uninformed = self.views.uninformed(replica);
        if uninformed.is_empty() {
            return;
        }
        self.tell_changed(replica, &uninformed, now);
        self.views.tell(replica);
    }

    fn tell_changed(&self, replica: &mut Replica, links: &[LinkId], now: Now) {
        let (mut told, mut value) = (BTreeSet::new(), Vec::new());
        for (ticket, done) in &self.done {
            let is_of_gone = self.is_of_gone(replica, done) && !broken!(replica, locks_untold);
            let is_changed_again = self.births.contains_key(&done.version);
            if !is_of_gone && !is_changed_again {
                continue;
            }
            value.clear();
            let Some(record) = replica.store.record(&done.key, now, &mut value) else { continue };
            let is_first = is_of_gone && told.insert(&done.key);
            for link in links {
                let Some(link) = replica.links.get_mut(link) else { continue };
                if is_changed_again && record.version == done.version {
                    link.say(&Frame::Lock(note_of(*ticket, done)));
                }
                if is_first {
                    let (key, value) = (&done.key[..], &value[..]);
                    link.say(&Frame::Record { key, record, value, answer: false });
                }
            }
        }
    }

    /// Whether nobody who could be asked for it knows of it by himself.
    fn is_of_gone(&self, replica: &Replica, done: &Done) -> bool {
        let (home, boot) = done.home;
        let there = self.views.heard.get(&home).map(|heard| heard.boot);
        let is_there = self.views.members.contains(&home) && there == Some(boot);
        home != replica.config.node && !is_there
    }

    /// Tells everybody whose request we executed; the change itself follows. One that changed nothing
    /// concerns him alone whose client asked.
    pub(super) fn tell(&self, replica: &mut Replica, ticket: Ticket, note: &Lock<'_>) {
        let Lock::Note { version, .. } = note else { return };
        let concerns = |link: &&Link| {
            let is_asker = link.met.is_some_and(|met| met.node == ticket.0);
            let is_member = link.met.is_some_and(|met| self.views.members.contains(&met.node));
            is_member && (is_asker || *version > Version(0))
        };
        let links: Vec<LinkId> = replica.met_links().filter(concerns).map(|link| link.id).collect();
        for link in links {
            say(replica, link, note.clone());
        }
    }

    /// A home has executed a request and says so before it tells of the change. Who took a lock is
    /// known by it only if that node was home in our view as well.
    pub(super) fn keep_note(&mut self, replica: &Replica, link: &Link, ticket: Ticket, done: Done) {
        let (home, _) = done.home;
        self.note_birth(done.version, done.since, done.at);
        if done.version.node() != home {
            return;
        }
        let heard = self.views.heard.get(&home).filter(|heard| heard.link == link.id);
        let is_member = heard.is_some_and(|heard| heard.members.contains(&home));
        let seen = self.seen(replica).filter(|_| is_member);
        self.keep(ticket, Done { seen, ..done });
    }

    /// When the lock was taken that has this version.
    pub(super) fn birth(&self, version: Version) -> Version {
        self.births.get(&version).map_or(version, |(since, _)| *since)
    }

    /// Keeps when a lock was taken that is changed while somebody has it.
    pub(super) fn note_birth(&mut self, version: Version, since: Version, now: Now) {
        if since < version {
            self.births.insert(version, (since, now));
        }
    }

    /// What came of a request that a home executed which is gone, if it took a lock that is still the
    /// same, and nobody can have decided anything without knowing of it; or if it let one go that is
    /// the same no longer.
    pub(super) fn known_again(
        &mut self,
        replica: &mut Replica,
        ticket: Ticket,
        is_late: bool,
        now: Now,
    ) -> Option<(Executed, Version)> {
        let done = self.done.get(&ticket).filter(|_| !broken!(replica, locks_without_notes))?;
        let (takes, answer, since) = (done.takes, done.answer.clone(), done.since);
        let is_certain = self.standing(replica, done) != Standing::Doubtful;
        let version = match takes && is_certain {
            true => self.renew(replica, &done.key, since, now),
            false => None,
        };
        self.done.remove(&ticket);
        let is_known = version.is_some() || (!takes && is_late);
        self.counts.known_again += u64::from(is_known);
        is_known.then_some((Executed { answer, version, takes }, since))
    }

    /// Stores a lock anew that a home which is gone has stored, if it is still the one that was taken
    /// then: so that it is in our stream, and everybody will have it.
    fn renew(&self, replica: &Replica, key: &[u8], since: Version, now: Now) -> Option<Version> {
        let (store, mut value) = (&replica.store, Vec::new());
        let record = store.record(key, now, &mut value)?;
        if record.kind != Kind::Value || self.birth(record.version) != since {
            return None;
        }
        let write = Write {
            binary_key: record.binary_key,
            ..Write::new(Mode::Set, &value, record.flags, record.expiry)
        };
        store.write(store.key(key), &write, now).ok().map(|stored| stored.version)
    }
}

pub(super) fn note_of((node, boot, id): Ticket, done: &Done) -> Lock<'_> {
    let Done { key, version, since, takes, answer, .. } = done;
    let (version, since, takes) = (*version, *since, *takes);
    Lock::Note { node, boot, id, version, since, takes, key, answer }
}

/// The version of what is here of the key; whatever is known, if nothing is.
pub(super) fn lock_of(replica: &Replica, key: &[u8], now: Now) -> Version {
    let held = replica.store.record_head(key, now);
    held.map_or_else(|| replica.latest(), |held| held.version)
}
