//! Clients that write every value to two nodes, which tell each other of it as well.
//!
//! Picture a letter sent twice, by two roads: who has one of the two and gets the other later must not
//! take it for a new one. pecl memcache frees a session's lock at the first node as soon as that has
//! the session, and does not wait for the second. The next page may have written already when its
//! predecessor's copy comes to the second node: stamped there as the latest, it would undo that.
//!
//! So a shard notes for a while every version that peers told it of, be there room for it or not: pages
//! that change nothing write the same value again, and as many copies of it may be under way. A
//! write that repeats such a note takes it away and changes nothing, if it may be a copy: it says by the
//! clock when it expires, as pecl memcache does (the same on both nodes, and another in the next second),
//! or it is a quiet frame, as the copies of php-memcached, which wait in its memory until the page has
//! freed the lock and ends; and its client has asked nothing here since the peer told, as one would who
//! read the value first, or took the lock here. A client for whom both hold and who really wants an old
//! value back has written it to the other node too.
//!
//! php-memcached says for how long a session is to live. Each node counts that from when it is told, by
//! its own clock, so such a copy expires some seconds after the original, or one before it.
//!
//! Where the copy came first nobody takes the note. It costs nothing but its place.
//!
//! What is NOT here: that the lock is freed only when peers have what it protected
//! ([`crate::command`]). Without that a copy could come before the note.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::record::Record;
use super::shard::Shard;
use super::shards::Store;
use super::{Key, Mode, Refusal, Stored, Write};
use crate::clock::Now;
use crate::item::Expiry;
use crate::limits::{ECHO_GROUP, ECHO_NOTES, ECHO_SECONDS_MAX};
use crate::version::Version;

/// What identifies a write of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    fn of(key: Key<'_>, value: &[u8], flags: u32, expiry: Expiry) -> Fingerprint {
        Fingerprint::of_any_expiry(key, value, flags).expiring(expiry.to_bits())
    }

    fn of_any_expiry(key: Key<'_>, value: &[u8], flags: u32) -> Fingerprint {
        let rest = u64::from(flags) << 32;
        Fingerprint(xxh3_64_with_seed(value, key.hash.wrapping_add(rest)))
    }

    fn expiring(self, second: u32) -> Fingerprint {
        Fingerprint(self.0 ^ u64::from(second).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// What a write may be the copy of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    any_expiry: Fingerprint,
    /// The seconds at the earliest and at the latest of which the original may expire.
    first: u32,
    last: u32,
    /// Its client asked something else here until then.
    since: Now,
}

impl Copied {
    fn of(key: Key<'_>, write: &Write<'_>, since: Now) -> Copied {
        let second = write.expiry.to_bits();
        let (earlier, later) = if write.is_counted { (ECHO_SECONDS_MAX + 1, 1) } else { (0, 0) };
        Copied {
            any_expiry: Fingerprint::of_any_expiry(key, write.value, write.flags),
            first: second.saturating_sub(earlier),
            last: second.saturating_add(later),
            since,
        }
    }

    /// Those that the original may have.
    fn fingerprints(self) -> impl Iterator<Item = Fingerprint> {
        (self.first..=self.last).map(move |second| self.any_expiry.expiring(second))
    }
}

/// What peers told of, in small groups that the fingerprint chooses between: a note makes way only
/// for as many newer ones as a group has places.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    /// Empty until the first one.
    notes: Vec<Option<Note>>,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    fingerprint: Fingerprint,
    version: Version,
    told: Now,
    /// There was no room for it.
    is_refused: bool,
}

impl Echoes {
    fn group(&mut self, fingerprint: Fingerprint) -> &mut [Option<Note>] {
        let groups = self.notes.len() / ECHO_GROUP;
        let group = usize::try_from(fingerprint.0 % groups.max(1) as u64).unwrap_or(0);
        self.notes.chunks_exact_mut(ECHO_GROUP).nth(group).unwrap_or_default()
    }

    /// Notes that a peer has told of this version, once.
    pub(super) fn note(&mut self, fingerprint: Fingerprint, version: Version, now: Now) {
        if self.notes.is_empty() {
            self.notes.resize(ECHO_NOTES, None);
        }
        if self.noted(fingerprint, version).is_some() {
            return;
        }
        let told = |note: &Option<Note>| note.map(|note| note.told);
        if let Some(oldest) = self.group(fingerprint).iter_mut().min_by_key(|note| told(note)) {
            *oldest = Some(Note { fingerprint, version, told: now, is_refused: false });
        }
    }

    /// There was no room for this version.
    pub(super) fn note_refusal(&mut self, fingerprint: Fingerprint, version: Version) {
        if let Some(note) = self.noted(fingerprint, version) {
            note.is_refused = true;
        }
    }

    fn noted(&mut self, fingerprint: Fingerprint, version: Version) -> Option<&mut Note> {
        let is_it = |note: &&mut Note| (note.fingerprint, note.version) == (fingerprint, version);
        self.group(fingerprint).iter_mut().flatten().find(is_it)
    }

    /// The note of what was told first after `since`.
    fn take(&mut self, fingerprint: Fingerprint, since: Now, now: Now) -> Option<Note> {
        let is_it = |note: &Note| {
            let age = now.unix_micros().saturating_sub(note.told.unix_micros());
            note.fingerprint == fingerprint
                && note.told > since
                && age <= u64::from(ECHO_SECONDS_MAX) * 1_000_000
        };
        let told = |place: &&mut Option<Note>| place.filter(is_it).map(|note| note.told);
        let copied = self.group(fingerprint).iter_mut().filter(|place| told(place).is_some());
        copied.min_by_key(told)?.take()
    }
}

impl Store {
    /// What to note of a peer's record.
    pub(super) fn echo_of(
        &self,
        key: Key<'_>,
        record: &Record,
        value: &[u8],
    ) -> Option<Fingerprint> {
        let expires = record.expiry != Expiry::NEVER;
        (expires && self.peered()?.clients_mirror())
            .then(|| Fingerprint::of(key, value, record.flags, record.expiry))
    }

    /// What notes the write would repeat, if it may be a copy.
    pub(super) fn copy_of(&self, key: Key<'_>, write: &Write<'_>) -> Option<Copied> {
        let since = write.copies_after?;
        let may_be = write.mode == Mode::Set && write.compare.is_none();
        (may_be && self.peered()?.clients_mirror()).then(|| Copied::of(key, write, since))
    }
}

impl Shard {
    /// What a write is answered that a peer has told of already: that it was stored; or that there is no
    /// room, if there was none for what the peer told, it has not come again, and nothing later is known. In
    /// one go with the write itself: a peer's word that came between the two would be taken for older than
    /// its copy.
    pub(super) fn recognise(
        &mut self,
        copied: Option<Copied>,
        key: Key<'_>,
        write: &Write<'_>,
        now: Now,
    ) -> Option<Result<Stored, Refusal>> {
        let copied = copied?;
        let mut take = |original| self.echoes.take(original, copied.since, now);
        let Note { version, is_refused, .. } = copied.fingerprints().find_map(&mut take)?;
        let (size, value_len) =
            (self.size_of(key, write.value.len(), write.flags), write.value.len());
        let class = self.tally.class_of(size);
        if is_refused && !self.has_or_knows_later(key, version) {
            self.tally.class(class).outofmemory += 1;
            return Some(Err(Refusal::NoMemory));
        }
        self.tally.class(class).cmd_set += 1;
        Some(Ok(Stored { version: self.shown(version), value_len, size, class }))
    }
}
