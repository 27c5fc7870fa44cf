//! One step: what can be decided is, what others decided is taken note of, what takes too long is
//! tried another way.

use std::time::Duration;

use super::notes::{lock_of, note_of};
use super::{Asked, Done, Executed, Forwarded, Locks, Stage, Ticket};
use crate::clock::Now;
use crate::replication::config::Boot;
use crate::replication::event::{Effect, LinkId, State};
use crate::replication::link::Link;
use crate::replication::replica::Replica;
use crate::replication::wire::{Frame, Lock};
use crate::store::Kind;
use crate::version::Version;

/// How long what was executed is known again when it is asked for once more. Longer than any request
/// is tried.
const KEPT: Duration = Duration::from_secs(5);

/// What is known of a change that we made for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Every node of our view has it.
    Everywhere,
    /// Some do not say so yet.
    OnItsWay,
    /// Somebody may have decided the same without knowing of it.
    Doubtful,
}

impl Locks {
    pub(super) fn step(&mut self, replica: &mut Replica, now: Now) {
        self.answer(replica);
        self.views.update(replica, now);
        self.tell_view(replica, now);
        self.forget_old(now);
        if replica.state != State::Ready {
            self.give_up(replica);
            return;
        }
        self.reopen_stranded(replica);
        self.name_locks(replica, now);
        self.decide_forwarded(replica, now);
        self.decide_asked(replica, now);
        self.confirm(replica);
        self.answer(replica);
        self.lose_patience(replica, now);
    }

    /// What nobody will ask for again is known no more.
    fn forget_old(&mut self, now: Now) {
        while self.aging.front().is_some_and(|(at, _)| now > at.plus(KEPT)) {
            let Some((at, ticket)) = self.aging.pop_front() else { break };
            if self.done.get(&ticket).is_some_and(|done| done.at == at) {
                self.done.remove(&ticket);
            }
        }
        let is_old = |(_, at): &(Version, Now)| now > at.plus(KEPT);
        while self.births.first_key_value().is_some_and(|(_, birth)| is_old(birth)) {
            self.births.pop_first();
        }
    }

    /// We do not serve: our clients are gone, and others must ask somebody else.
    fn give_up(&mut self, replica: &mut Replica) {
        for forwarded in std::mem::take(&mut self.forwarded) {
            say(replica, forwarded.link, Lock::Retry { id: forwarded.ticket.2 });
        }
        self.asked.clear();
        // Whoever has these changes from us later does not know whose they are.
        self.counts.doubtful += self.unconfirmed.len() as u64;
        self.unconfirmed.clear();
        self.done.clear();
    }

    /// The node that we asked has executed a request of a client of ours.
    pub(super) fn note(&mut self, link: &Link, id: u64, executed: Executed, now: Now) {
        let epoch = self.views.epoch;
        let heard = link.met.and_then(|met| self.views.heard.get(&met.node));
        let is_shared =
            heard.is_some_and(|heard| heard.link == link.id && heard.members == self.views.members);
        let Some(asked) = self.asked.get_mut(&id) else { return };
        let Stage::Sent { link: sent, home, .. } = asked.stage else { return };
        if sent != link.id {
            return;
        }
        asked.since = now;
        asked.stage = match executed.version {
            None => Stage::Done(executed.answer),
            Some(version) => {
                let answer = executed.answer;
                Stage::Noted { link: sent, home, epoch, is_shared, version, answer }
            }
        };
    }

    /// What a request of a client of ours changed is everywhere.
    pub(super) fn finish(&mut self, link: LinkId, id: u64) {
        let Some(asked) = self.asked.get_mut(&id) else { return };
        if let Stage::Noted { link: sent, answer, .. } = &mut asked.stage
            && *sent == link
        {
            asked.stage = Stage::Done(std::mem::take(answer));
        }
    }

    /// The node that we asked cannot decide.
    pub(super) fn reopen(&mut self, link: LinkId, id: u64) {
        let Some(asked) = self.asked.get_mut(&id) else { return };
        if asked.stage.is_with(link) {
            (asked.stage, asked.with) = (Stage::Open, None);
            self.counts.retried += 1;
        }
    }

    /// Requests of which nothing will be heard any more are asked anew: of the same node, if that can
    /// still be asked, as it alone knows what it did.
    fn reopen_stranded(&mut self, replica: &Replica) {
        for asked in self.asked.values_mut() {
            let is_member = |(node, boot): &(u8, Boot)| {
                let heard = self.views.heard.get(node);
                self.views.members.contains(node) && heard.is_some_and(|heard| heard.boot == *boot)
            };
            asked.with = asked.with.filter(is_member);
            let (Stage::Sent { link, .. } | Stage::Noted { link, .. }) = asked.stage else {
                continue;
            };
            if asked.with.is_none() || !replica.links.contains_key(&link) {
                asked.stage = Stage::Open;
                self.counts.retried += 1;
            }
        }
    }

    /// A request to let a lock go means the one that is here before anything else is decided, if all of
    /// our view agree: otherwise a lock that its client has may not be known here.
    fn name_locks(&mut self, replica: &Replica, now: Now) {
        if self.views.home().is_some() && self.views.dissenters(replica).is_empty() {
            for asked in self.asked.values_mut().filter(|asked| asked.lock.is_none()) {
                asked.lock = Some(lock_of(replica, &asked.key, now));
            }
        }
    }

    fn decide_forwarded(&mut self, replica: &mut Replica, now: Now) {
        let all = std::mem::take(&mut self.forwarded);
        let is_ours = !all.is_empty() && self.views.is_ours(replica);
        for Forwarded { link, ticket, lock, key, request } in all {
            // We may be home no longer, but we alone know what we did.
            let is_known = |done: &Done| self.is_still_ours(replica, done);
            match is_ours || self.done.get(&ticket).is_some_and(is_known) {
                true => self.decide(replica, ticket, lock, &key, &request, now),
                false => say(replica, link, Lock::Retry { id: ticket.2 }),
            }
        }
    }

    fn decide_asked(&mut self, replica: &mut Replica, now: Now) {
        let open = self.asked.iter().filter(|(_, asked)| matches!(asked.stage, Stage::Open));
        let open: Vec<u64> = open.map(|(id, _)| *id).collect();
        let Some(home) = self.views.home().filter(|_| !open.is_empty()) else { return };
        let (ours, boot) = (replica.config.node, replica.config.boot);
        let is_ours = self.views.is_ours(replica);
        let is_agreed = self.views.dissenters(replica).is_empty();
        for id in open {
            let Some(asked) = self.asked.get_mut(&id) else { continue };
            let Some(lock) = asked.lock else { continue };
            if is_ours && asked.with.is_none() {
                asked.stage = Stage::Ours;
                let key = std::mem::take(&mut asked.key);
                let request = std::mem::take(&mut asked.request);
                self.decide(replica, (ours, boot, id), lock, &key, &request, now);
                if let Some(asked) = self.asked.get_mut(&id) {
                    (asked.key, asked.request) = (key, request);
                }
                continue;
            }
            let node = asked.with.map_or(home, |(node, _)| node);
            let link = replica.link_of(node).map(|link| link.id);
            let heard = self.views.heard.get(&node).filter(|heard| Some(heard.link) == link);
            let Some(heard) = heard.filter(|_| node != ours) else { continue };
            if is_agreed || asked.with.is_some() {
                let link = heard.link;
                asked.with = Some((node, heard.boot));
                asked.stage = Stage::Sent { link, home: node };
                asked.since = now;
                self.counts.forwarded += 1;
                let (key, request) = (&asked.key[..], &asked.request[..]);
                say(replica, link, Lock::Forward { id, lock, key, request });
            }
        }
    }

    /// We are home: executes a request, if that has not been done. If it lets a lock go, it is `lock`,
    /// or the same one as changed since.
    fn decide(
        &mut self,
        replica: &mut Replica,
        ticket: Ticket,
        lock: Version,
        key: &[u8],
        request: &[u8],
        now: Now,
    ) {
        if let Some(done) = self.done.get(&ticket).filter(|done| self.is_still_ours(replica, done))
        {
            self.tell(replica, ticket, &note_of(ticket, done));
            self.unconfirmed.insert(ticket);
            return;
        }
        let before = replica.store.record_head(key, now);
        let birth = before.map(|before| self.birth(before.version));
        let is_late =
            birth.is_some_and(|birth| birth > lock) && !broken!(replica, locks_ended_late);
        let is_held = before.is_some_and(|before| {
            before.kind == Kind::Value && !before.expiry.is_past(now.seconds())
        });
        let (Executed { answer, version, takes }, since) =
            self.known_again(replica, ticket, is_late, now).unwrap_or_else(|| {
                self.counts.executed += 1;
                self.counts.split += u64::from(self.may_be_split(replica, now));
                let executed = self.executor.execute(request, is_late, now);
                let since = birth.filter(|_| executed.takes && is_held).or(executed.version);
                (executed, since.unwrap_or_default())
            });
        let (key, home) = (key.to_vec(), (replica.config.node, replica.config.boot));
        let seen = Some(self.seen(replica).unwrap_or_default());
        let new = version.unwrap_or_default();
        let done = Done { key, at: now, home, answer, version: new, since, takes, seen };
        self.tell(replica, ticket, &note_of(ticket, &done));
        match version {
            Some(version) => {
                self.note_birth(version, since, now);
                self.keep(ticket, done);
                self.unconfirmed.insert(ticket);
            }
            None if ticket.1 == replica.config.boot => {
                if let Some(asked) = self.asked.get_mut(&ticket.2) {
                    asked.stage = Stage::Done(done.answer);
                }
            }
            None => {}
        }
    }

    /// Whether nodes are missing that may go on without us.
    fn may_be_split(&self, replica: &Replica, now: Now) -> bool {
        let known = replica.members(now);
        known.is_none_or(|known| known.len() + 1 > self.views.members.len())
    }

    /// Whether we executed it, and nobody can have decided anything without knowing of it.
    fn is_still_ours(&self, replica: &Replica, done: &Done) -> bool {
        done.home == (replica.config.node, replica.config.boot)
            && self.standing(replica, done) != Standing::Doubtful
            && !broken!(replica, locks_without_notes)
    }

    /// Where a change is that was made in a view of which we are still a part.
    pub(super) fn standing(&self, replica: &Replica, done: &Done) -> Standing {
        if broken!(replica, locks_unconfirmed) {
            return Standing::Everywhere;
        }
        let Some(seen) = &done.seen else { return Standing::Doubtful };
        // Who is waited for with every write serves already, or may in a moment, whatever our view is.
        let lacks = |link: &Link| link.in_sync && link.going.acked < done.version;
        let is_lacked = replica.met_links().any(lacks) && !broken!(replica, locks_of_members_alone);
        let mut standing = if is_lacked { Standing::OnItsWay } else { Standing::Everywhere };
        for (node, (boot, epoch)) in seen {
            if !self.views.members.contains(node) {
                continue;
            }
            let link = replica.link_of(*node);
            let heard = self.views.heard.get(node);
            let heard = heard.filter(|heard| link.is_some_and(|link| link.id == heard.link));
            let (Some(link), Some(heard)) = (link, heard) else {
                standing = Standing::OnItsWay;
                continue;
            };
            let is_same = (heard.boot, heard.epoch) == (*boot, *epoch);
            // It has drawn one more view, and we are in it: nothing is decided there without us.
            let is_next = (heard.boot, heard.epoch) == (*boot, epoch + 1)
                && heard.members.contains(&replica.config.node);
            if !is_same && !is_next {
                return Standing::Doubtful;
            }
            if link.going.acked < done.version {
                standing = Standing::OnItsWay;
            }
        }
        standing
    }

    /// Finds out what has come of the changes that we made.
    fn confirm(&mut self, replica: &mut Replica) {
        let all: Vec<Ticket> = self.unconfirmed.iter().copied().collect();
        for ticket in all {
            let Some(done) = self.done.get(&ticket) else {
                self.unconfirmed.remove(&ticket);
                continue;
            };
            let standing = self.standing(replica, done);
            if standing == Standing::OnItsWay {
                continue;
            }
            self.unconfirmed.remove(&ticket);
            let is_ours = ticket.1 == replica.config.boot;
            self.counts.doubtful += u64::from(standing == Standing::Doubtful);
            match (self.asked.get_mut(&ticket.2).filter(|_| is_ours), standing) {
                (Some(asked), Standing::Everywhere) => {
                    asked.stage = Stage::Done(done.answer.clone())
                }
                (Some(asked), _) => asked.stage = Stage::Open,
                (None, _) if is_ours => {}
                (None, standing) => self.tell_asker(replica, ticket, standing),
            }
            if standing == Standing::Doubtful {
                self.done.remove(&ticket);
            }
        }
    }

    /// Tells the node whose client asked. The only other node in a view that is still the same knows
    /// by itself.
    fn tell_asker(&self, replica: &mut Replica, ticket: Ticket, standing: Standing) {
        let (node, _, id) = ticket;
        let Some(link) = replica.link_of(node).map(|link| link.id) else { return };
        if standing == Standing::Doubtful {
            return say(replica, link, Lock::Retry { id });
        }
        let done = self.done.get(&ticket);
        let is_pair = done.is_some_and(|done| {
            let heard = self.views.heard.get(&node).map(|heard| (heard.boot, heard.epoch));
            let seen = done.seen.as_ref().filter(|seen| seen.len() == 1);
            heard.is_some() && seen.and_then(|seen| seen.get(&node).copied()) == heard
        });
        if !is_pair {
            say(replica, link, Lock::Done { id });
        }
    }

    /// Answers what is decided and known everywhere.
    fn answer(&mut self, replica: &mut Replica) {
        let is_pair = self.views.members.len() == 2;
        for asked in self.asked.values_mut() {
            if let Stage::Noted { home, epoch, is_shared: true, version, answer, .. } =
                &mut asked.stage
                && is_pair
                && *epoch == self.views.epoch
                && has_applied(replica, *home, *version)
            {
                asked.stage = Stage::Done(std::mem::take(answer));
            }
        }
        let done = |_: &u64, asked: &mut Asked| matches!(asked.stage, Stage::Done(_));
        let all: Vec<(u64, Asked)> = self.asked.extract_if(.., done).collect();
        for (id, asked) in all {
            if let Stage::Done(answer) = asked.stage {
                replica.effects.push(Effect::LockAnswer { id, answer });
            }
        }
    }

    /// What takes too long is decided without those who do not answer.
    fn lose_patience(&mut self, replica: &Replica, now: Now) {
        if self.views.is_lenient(now) {
            return;
        }
        let patience = self.views.patience;
        let mut blamed = Vec::new();
        for asked in self.asked.values_mut() {
            // Whoever has said that it executed a request lives, and may wait for others itself.
            let (since, patience, culprits) = match &asked.stage {
                Stage::Noted { home, .. } => (asked.since, 2 * patience, vec![*home]),
                Stage::Sent { home, .. } if now > asked.since.plus(patience) => {
                    (asked.since, patience, vec![*home])
                }
                Stage::Sent { .. } | Stage::Open | Stage::Ours | Stage::Done(_) => {
                    (asked.begun, 2 * patience, self.views.dissenters(replica))
                }
            };
            if now <= since.plus(patience) {
                continue;
            }
            (asked.begun, asked.since) = (now, now);
            match (culprits.is_empty(), self.views.home()) {
                (false, _) => blamed.extend(culprits),
                (true, None) => self.views.stop_joining(now),
                (true, Some(_)) => {
                    let others = self.views.members.iter().copied();
                    blamed.extend(others.filter(|node| *node != replica.config.node));
                }
            }
        }
        blamed.sort_unstable();
        blamed.dedup();
        blamed.into_iter().for_each(|node| self.views.blame(node, now));
    }
}

impl Stage {
    /// Whether it is decided at the other end of this connection.
    fn is_with(&self, at: LinkId) -> bool {
        matches!(self, Stage::Sent { link, .. } | Stage::Noted { link, .. } if *link == at)
    }
}

/// Whether we have applied what `node` wrote up to `version`.
pub(super) fn has_applied(replica: &Replica, node: u8, version: Version) -> bool {
    let known = replica.nodes.get(&node);
    known.and_then(|known| known.applied).is_some_and(|(_, applied)| applied >= version)
}

pub(super) fn say(replica: &mut Replica, link: LinkId, lock: Lock<'_>) {
    if let Some(link) = replica.links.get_mut(&link) {
        link.say(&Frame::Lock(lock));
    }
}
