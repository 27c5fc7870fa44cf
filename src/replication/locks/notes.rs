//! Notes of whose requests were executed: who is told of them, what they count, and when a request is
//! known again by one.

use std::collections::BTreeMap;

use super::decide::{Standing, has_applied, say};
use super::{Done, Executed, Locks, Ticket};
use crate::clock::Now;
use crate::replication::event::LinkId;
use crate::replication::link::Link;
use crate::replication::replica::Replica;
use crate::replication::wire::Lock;
use crate::store::{Kind, Mode, Record, Write};
use crate::version::Version;

impl Locks {
    /// Tells our view to whoever does not know it, and before it whose locks homes that are gone have
    /// let go: no home that needs our agreement shall let them go again. Of
    /// those that we let go ourselves, whoever joins us hears that may be known to nobody else.
    pub(super) fn tell_view(&mut self, replica: &mut Replica) {
        let uninformed = self.views.uninformed(replica);
        if uninformed.is_empty() {
            return;
        }
        let hides_news = broken!(replica, locks_joined_unknowing);
        let is_told = |(ticket, done): &(&Ticket, &Done)| {
            let is_news = self.unconfirmed.contains(ticket) && !hides_news;
            !done.takes && (is_news || self.is_of_gone(replica, done))
        };
        let told: Vec<_> = self.done.iter().filter(is_told).collect();
        for link in uninformed {
            for (ticket, done) in &told {
                say(replica, link, note_of(**ticket, done));
            }
        }
        self.views.tell(replica);
    }

    /// Whether nobody who could be asked for it knows of it by himself.
    fn is_of_gone(&self, replica: &Replica, done: &Done) -> bool {
        let there = self.views.heard.get(&done.home).map(|heard| heard.boot);
        let then = done.seen.get(&done.home).map(|(boot, _)| *boot);
        let is_there = self.views.members.contains(&done.home) && there == then;
        done.version.node() != replica.config.node && !is_there
    }

    /// Tells everybody whose request we executed; the change itself follows. Who has yet to join us is
    /// told which locks are let go: he has the change if we die, and may be home.
    pub(super) fn tell(&self, replica: &mut Replica, ticket: Ticket, key: &[u8], done: &Executed) {
        let (node, boot, id) = ticket;
        let version = done.version.unwrap_or_default();
        let (takes, answer) = (done.takes, &done.answer[..]);
        let note = Lock::Note { node, boot, id, version, takes, key, answer };
        let concerns = |link: &&Link| {
            let is_asker = link.met.is_some_and(|met| met.node == node);
            let is_member = link.met.is_some_and(|met| self.views.members.contains(&met.node));
            match done.version {
                Some(_) => is_member || !takes,
                None => is_member && is_asker,
            }
        };
        let links: Vec<LinkId> = replica.met_links().filter(concerns).map(|link| link.id).collect();
        for link in links {
            say(replica, link, note.clone());
        }
    }

    /// A home has executed a request and says so before it tells of the change. That a lock is taken
    /// counts if it was home in our view as well; that one is let go counts always, also if another
    /// node tells of it: that node has the change, and may give it to us in a scan.
    pub(super) fn keep_note(
        &mut self,
        replica: &Replica,
        link: &Link,
        ticket: Ticket,
        executed: &Executed,
        key: &[u8],
        now: Now,
    ) {
        let (Some(version), Some(met)) = (executed.version, link.met) else { return };
        let heard = self.views.heard.get(&met.node).filter(|heard| heard.link == link.id);
        let is_member = heard.is_some_and(|heard| heard.members.contains(&met.node));
        let is_first_hand = version.node() == met.node;
        let seen = match self.seen(replica).filter(|_| is_member && is_first_hand) {
            Some(seen) => seen,
            None if executed.takes => return,
            None if self.done.contains_key(&ticket) => {
                if !(is_first_hand || broken!(replica, locks_told_in_vain)) {
                    self.fresh.remove(&ticket);
                }
                return;
            }
            None => BTreeMap::from([(met.node, (met.boot, 0))]),
        };
        let (key, answer, takes) = (key.to_vec(), executed.answer.clone(), executed.takes);
        self.keep(ticket, Done { key, at: now, home: met.node, answer, version, takes, seen });
        if is_first_hand {
            self.fresh.insert(ticket);
        }
    }

    /// We have drawn another view: of what homes of the last one told us, only that counts which has
    /// come whole, be it in the home's stream or in a scan.
    pub(super) fn forget_unsettled(&mut self, replica: &Replica, now: Now) {
        for ticket in std::mem::take(&mut self.fresh) {
            let is_scanned = |done: &Done| {
                held(replica, done, now).is_some_and(|held| held.version >= done.version)
                    && !broken!(replica, locks_scanned_unnoticed)
            };
            let is_settled =
                |done: &Done| has_applied(replica, done.home, done.version) || is_scanned(done);
            if !self.done.get(&ticket).is_some_and(is_settled) {
                self.done.remove(&ticket);
            }
        }
    }

    /// What came of a request that was executed before, by us or by a home that is gone, if nobody
    /// can have decided anything without knowing of it. Where a lock was let go that is here still, it
    /// is let go again.
    pub(super) fn known_again(
        &mut self,
        replica: &mut Replica,
        ticket: Ticket,
        now: Now,
    ) -> Option<Executed> {
        let done = self.done.get(&ticket).filter(|_| !broken!(replica, locks_without_notes))?;
        let is_certain = self.standing(replica, done) != Standing::Doubtful;
        let (takes, answer) = (done.takes, done.answer.clone());
        if is_certain && done.home == replica.config.node {
            return Some(Executed { answer, version: Some(done.version), takes });
        }
        let is_here_still = held(replica, done, now)
            .is_some_and(|held| held.kind == Kind::Value && held.version < done.version)
            && !broken!(replica, locks_let_go_elsewhere);
        let version = match takes && is_certain {
            true => self.latest_taking(done).and_then(|held| renew(replica, &done.key, held, now)),
            false => None,
        };
        self.done.remove(&ticket);
        self.fresh.remove(&ticket);
        let is_known = version.is_some() || !(takes || is_here_still);
        self.counts.known_again += u64::from(is_known);
        is_known.then_some(Executed { answer, version, takes })
    }

    /// The version that the lock taken by `done` has, if its home has let nobody let it go since.
    fn latest_taking(&self, done: &Done) -> Option<Version> {
        let since = self.done.values().filter(|other| {
            other.key == done.key && other.home == done.home && other.version >= done.version
        });
        let mut latest = done.version;
        for other in since {
            if !other.takes {
                return None;
            }
            latest = latest.max(other.version);
        }
        Some(latest)
    }
}

/// What is here of the key.
fn held(replica: &Replica, done: &Done, now: Now) -> Option<Record> {
    replica.store.record(&done.key, now, &mut Vec::new())
}

/// Stores an item anew that a home which is gone has stored, if nobody has changed it since: so that
/// it is in our stream, and everybody will have it.
fn renew(replica: &Replica, key: &[u8], version: Version, now: Now) -> Option<Version> {
    let (store, mut value) = (&replica.store, Vec::new());
    let record = store.record(key, now, &mut value)?;
    if record.kind != Kind::Value || record.version != version {
        return None;
    }
    let write = Write {
        binary_key: record.binary_key,
        ..Write::new(Mode::Set, &value, record.flags, record.expiry)
    };
    store.write(store.key(key), &write, now).ok().map(|stored| stored.version)
}

fn note_of((node, boot, id): Ticket, done: &Done) -> Lock<'_> {
    let Done { key, version, takes, answer, .. } = done;
    Lock::Note { node, boot, id, version: *version, takes: *takes, key, answer }
}
