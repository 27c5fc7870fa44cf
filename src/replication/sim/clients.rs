//! What clients do, and what each answer must be: the store of the node that they speak to is held
//! against what the command means, at once.
//!
//! What is NOT here: what becomes of it on other nodes ([`super::audit`]).

use super::cluster::key_name;
use super::ledger::{Content, Unacknowledged, Written, rank};
use super::plan::{NodeIndex, Op, Ttl};
use super::world::World;
use crate::clock::{Now, UnixSeconds};
use crate::item::{Expiry, Found};
use crate::replication::{Event, State};
use crate::store::{
    Arithmetic, Delete, Fetch, Fetched, Head, Kind, Mode, Record, Refusal, Store, Write,
};
use crate::version::Version;

/// The key whose values are numbers.
const NUMBERS: usize = 1;

/// What a node knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) record: Option<Record>,
    pub(super) value: Vec<u8>,
}

impl Seen {
    pub(super) fn on(store: &Store, key: usize, now: Now) -> Seen {
        let mut value = Vec::new();
        let record = store.record(&key_name(key), now, &mut value);
        Seen { record, value }
    }

    /// The value that a client would get.
    pub(super) fn live(&self, now: Now) -> Option<&Record> {
        self.record.as_ref().filter(|record| is_live(record, now))
    }
}

pub(super) fn is_live(record: &Record, now: Now) -> bool {
    record.kind == Kind::Value && !record.expiry.is_past(now.seconds())
}

fn expiry_of(ttl: Ttl, now: Now) -> Expiry {
    match ttl {
        Ttl::Never => Expiry::NEVER,
        Ttl::Seconds(seconds) => Expiry::at(UnixSeconds(now.seconds().0 + seconds)),
    }
}

/// What must be there afterwards.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// What was there.
    Unchanged,
    /// A new version of the value.
    Value {
        content: Content,
        expiry: Expiry,
    },
    /// The same value with another expiry.
    Touched(Expiry),
    Deleted,
}

impl World {
    pub(super) fn client(&mut self, node: NodeIndex, key: usize, op: Op) {
        let now = self.now_of(node);
        let Some(life) = self.nodes[node].running() else { return };
        if life.state != State::Ready || life.replica.is_paused() {
            return;
        }
        let store = life.store.clone();
        self.ledger.operations += 1;
        life.is_dirty = true;
        self.look_at_key(node, key);
        match op {
            Op::FlushAll | Op::FlushLater { .. } => self.flush(node, op, &store, now),
            _ => self.change(node, key, op, &store, now),
        }
        self.tell(node, Event::Logged);
    }

    fn flush(&mut self, node: NodeIndex, op: Op, store: &Store, now: Now) {
        let before = self.latest(node);
        let watermark = if let Op::FlushLater { after } = op {
            let at = UnixSeconds(now.seconds().0 + after);
            store.flush_all_at(at, now);
            Version::floor_at(Now::from_unix_seconds(at.0))
        } else {
            store.flush_all(now);
            let watermark = store.flushes().watermark;
            if watermark <= before {
                self.violate(format!("R8: n{node} flushed to {watermark:?}, had {before:?}"));
            }
            watermark
        };
        self.trace.tell(self.now_us, || format!("n{node} {op:?}: {watermark:?}"));
        self.ledger.flush(watermark);
        if op == Op::FlushAll {
            self.wait_for_peers(node, watermark, Written::Flush { watermark });
        }
        self.look(node);
    }

    fn latest(&self, node: NodeIndex) -> Version {
        self.nodes[node].life.as_ref().map_or(Version(0), |life| life.latest)
    }

    fn wait_for_peers(&mut self, node: NodeIndex, position: Version, written: Written) {
        let kills_before = self.kills;
        if let Some(life) = &mut self.nodes[node].life {
            life.latest = life.latest.max(position);
            let write = Unacknowledged { position, written, by_one: false, kills_before };
            life.unacknowledged.push(write);
        }
    }

    fn change(&mut self, node: NodeIndex, key: usize, op: Op, store: &Store, now: Now) {
        let before = Seen::on(store, key, now);
        let seen_elsewhere = match op {
            Op::Cas { seen_on } => self.gets(seen_on, key),
            _ => None,
        };
        let token = self.ledger.operations.to_string();
        let expected = expect(op, key, &before, token.as_bytes(), seen_elsewhere, now);
        let answer = perform(op, key, store, token.as_bytes(), seen_elsewhere, now);
        let after = Seen::on(store, key, now);
        self.trace.tell(self.now_us, || {
            format!("n{node} k{key} {op:?} {token}: {answer:?}, now {:?}", after.record)
        });
        let changed = expected != Expected::Unchanged;
        if answer.is_ok() != (changed || (op == Op::Get && before.live(now).is_some())) {
            let was = before.record;
            self.violate(format!("R9: n{node} answered {op:?} {answer:?} over {was:?}"));
        }
        let latest = self.latest(node);
        if let Some(what) = misdone(&expected, &before, &after, latest, now) {
            self.violate(format!("n{node} k{key} {op:?} over {before:?}: {what}; now {after:?}"));
        }
        if changed && let Some(record) = self.written(key, &expected, &after, store) {
            let position = record.version.max(record.touched);
            self.wait_for_peers(node, position, Written::Record { key, record });
        }
        self.look_at_key(node, key);
    }

    /// The version that a client gets from another node, if that serves.
    fn gets(&mut self, node: NodeIndex, key: usize) -> Option<Version> {
        let now = self.now_of(node);
        let life = self.nodes[node].running().filter(|life| life.state == State::Ready)?;
        Seen::on(&life.store, key, now).live(now).map(|record| record.version)
    }

    /// Notes a change that was made. Returns the record that it made.
    fn written(
        &mut self,
        key: usize,
        done: &Expected,
        after: &Seen,
        store: &Store,
    ) -> Option<Record> {
        match (done, after.record) {
            (Expected::Value { content, .. }, Some(record)) => {
                self.ledger.value(key, &record, content.clone(), self.now_us);
                Some(record)
            }
            (Expected::Touched(_), Some(record)) => {
                self.ledger.touch(key, &record);
                Some(record)
            }
            (Expected::Deleted, _) => {
                let version = store.mutations()?.last();
                self.ledger.delete(key, version);
                Some(Record::deleted(version))
            }
            _ => None,
        }
    }
}

/// What is wrong with what the command left behind.
fn misdone(
    expected: &Expected,
    before: &Seen,
    after: &Seen,
    latest: Version,
    now: Now,
) -> Option<&'static str> {
    let was = before.record;
    match (expected, after.record) {
        (Expected::Unchanged, record) => {
            let content = |seen: &Seen, record: &Record| (rank(record), seen.value.clone());
            let same = before.live(now).map(|record| content(before, record))
                == after.live(now).map(|record| content(after, record));
            let is_kept = record.is_some() || before.live(now).is_none();
            (!same || !is_kept).then_some("changed what it should not")
        }
        (Expected::Value { content, expiry }, Some(record)) => {
            let found =
                Content { value: after.value.clone(), flags: record.flags, stale: record.stale };
            if found != *content || record.expiry != *expiry || record.kind != Kind::Value {
                Some("not what was written")
            } else if record.version <= latest
                || was.is_some_and(|was| record.version <= was.version)
            {
                Some("R10: not later than what this node has seen")
            } else {
                // An earlier run may have given it, by a clock that was set back since: that
                // all hold one of the two in the end is another matter.
                None
            }
        }
        (Expected::Touched(expiry), Some(record)) => {
            let kept =
                was.is_some_and(|was| was.version == record.version && was.kind == record.kind);
            if !kept || before.value != after.value {
                Some("R7: the touch changed more than the expiry")
            } else if record.expiry != *expiry || record.touched <= latest {
                Some("not touched as asked")
            } else {
                None
            }
        }
        (Expected::Deleted, None) => None,
        (Expected::Deleted, Some(record)) => {
            (record.kind != Kind::Deleted || record.version <= latest).then_some("not deleted")
        }
        (_, None) => Some("gone"),
    }
}

fn expect(
    op: Op,
    key: usize,
    before: &Seen,
    token: &[u8],
    compare: Option<Version>,
    now: Now,
) -> Expected {
    let flags = flags_of(token);
    let write = |value: Vec<u8>, flags, expiry| Expected::Value {
        content: Content { value, flags, stale: false },
        expiry,
    };
    let fresh = |ttl| write(value_of(key, token), flags, expiry_of(ttl, now));
    let live = before.live(now);
    match (op, live) {
        (Op::Set { ttl }, _) | (Op::Add { ttl }, None) => fresh(ttl),
        (Op::Replace, Some(_)) => fresh(Ttl::Never),
        (Op::Cas { .. }, Some(was)) if compare == Some(was.version) => fresh(Ttl::Never),
        (Op::Append, Some(was)) => {
            write([&before.value[..], token].concat(), was.flags, was.expiry)
        }
        (Op::Incr | Op::Decr, None) => write(b"100".to_vec(), 0, Expiry::NEVER),
        (Op::Incr | Op::Decr, Some(was)) => match counted(&before.value, op) {
            // Counted in place: a stale number stays stale.
            Some(value) => Expected::Value {
                content: Content { value, flags: was.flags, stale: was.stale },
                expiry: was.expiry,
            },
            None => Expected::Unchanged,
        },
        (Op::Delete, Some(_)) => Expected::Deleted,
        (Op::MarkStale, Some(was)) => Expected::Value {
            content: Content { value: before.value.clone(), flags: was.flags, stale: true },
            expiry: was.expiry,
        },
        (Op::Touch { ttl } | Op::GetAndTouch { ttl }, Some(_)) => {
            Expected::Touched(expiry_of(ttl, now))
        }
        _ => Expected::Unchanged,
    }
}

/// What incr and decr by 3 make of a value: of its number, which may end at a space.
fn counted(value: &[u8], op: Op) -> Option<Vec<u8>> {
    let number: u64 = std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()?;
    let number = if op == Op::Incr { number.wrapping_add(3) } else { number.saturating_sub(3) };
    let mut text = number.to_string().into_bytes();
    if text.len() < value.len() {
        text.resize(value.len(), b' ');
    }
    Some(text)
}

fn value_of(key: usize, token: &[u8]) -> Vec<u8> {
    if key == NUMBERS { token.to_vec() } else { [b"value-", token].concat() }
}

fn flags_of(token: &[u8]) -> u32 {
    token.iter().fold(7, |flags, &byte| flags * 31 + u32::from(byte)) % 1_000
}

fn perform(
    op: Op,
    key: usize,
    store: &Store,
    token: &[u8],
    compare: Option<Version>,
    now: Now,
) -> Result<(), Refusal> {
    let name = key_name(key);
    let key_of = store.key(&name);
    let value = value_of(key, token);
    let write = |mode, value: &[u8], ttl, compare| {
        let write = Write::new(mode, value, flags_of(token), expiry_of(ttl, now));
        store.write(key_of, &Write { compare, ..write }, now).map(drop)
    };
    let fetch = |touch| {
        let head = Head { context: &(), write: |(), _: &Found, _| {} };
        let fetch = Fetch { value: true, touch, ..Fetch::default() };
        match store.fetch(key_of, &fetch, now, &head, &mut Vec::new()) {
            Fetched::Miss(_) => Err(Refusal::NotFound),
            _ => Ok(()),
        }
    };
    let count = |up| {
        let initial = Some((100, Expiry::NEVER));
        let arithmetic = Arithmetic { delta: 3, up, initial, ..Arithmetic::default() };
        store.arithmetic(key_of, &arithmetic, now).map(drop)
    };
    match op {
        Op::Set { ttl } => write(Mode::Set, &value, ttl, None),
        Op::Add { ttl } => write(Mode::Add, &value, ttl, None),
        Op::Replace => write(Mode::Replace, &value, Ttl::Never, None),
        Op::Append => write(Mode::Append, token, Ttl::Never, None),
        Op::Cas { .. } => match compare {
            Some(version) => write(Mode::Set, &value, Ttl::Never, Some(version)),
            None => Err(Refusal::NotFound),
        },
        Op::Incr => count(true),
        Op::Decr => count(false),
        Op::Delete => store.delete(key_of, &Delete::default(), now).map(drop),
        Op::MarkStale => {
            let delete = Delete { mark_stale: true, ..Delete::default() };
            store.delete(key_of, &delete, now).map(drop)
        }
        Op::Touch { ttl } | Op::GetAndTouch { ttl } => fetch(Some(expiry_of(ttl, now))),
        Op::Get => fetch(None),
        Op::FlushAll | Op::FlushLater { .. } => Ok(()),
    }
}
