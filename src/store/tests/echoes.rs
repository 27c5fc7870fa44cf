//! Copies of what a peer told of, which come late: they change nothing, however many are under way.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::replication::{peered, peered_with};
use super::*;
use crate::limits::ECHO_NOTES;

const KEY: &[u8] = b"session";

/// Enough for one of them to be written in the middle of what a peer tells.
const PAGES: u64 = 20_000;

/// A peer's `version` of a value.
fn told(store: &Store, version: u64, value: &[u8]) {
    assert_eq!(merge(store, version, value, at(0)), Merged::Applied);
}

fn merge(store: &Store, version: u64, value: &[u8], now: Now) -> Merged {
    let record = Record {
        kind: Kind::Value,
        expiry: in_seconds(1440),
        ..Record::lost(Version(version), Version(version))
    };
    store.merge(KEY, &record, value, now)
}

/// A client's write of a value; it has asked nothing here since `asked`.
fn writes(store: &Store, value: &[u8], asked: Now) {
    let write = Write::new(Mode::Set, value, 0, in_seconds(1440));
    let write = Write { copies_after: Some(asked), ..write };
    store.write(store.key(KEY), &write, at(1)).unwrap();
}

fn copy(store: &Store, value: &[u8]) {
    writes(store, value, Now::from_unix_micros(0));
}

/// Whether the store has the peer's version of this value.
fn has(store: &Store, version: u64, value: &[u8]) -> bool {
    let mut held = Vec::new();
    let record = store.record(KEY, at(1), &mut held).unwrap();
    record.version == Version(version) && held == value
}

fn number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The next pages have written before the first copy is here.
#[test]
fn as_many_copies_as_are_under_way_change_nothing() {
    let under_way = ECHO_NOTES as u64 / 8;
    let store = peered_with(3, |config| config.fixed_hash = true);
    // They come as they were sent; behind each, one more is sent.
    for version in 1..=20 * under_way {
        told(&store, version, &number(version));
        if let Some(late) = version.checked_sub(under_way).filter(|late| *late > 0) {
            copy(&store, &number(late));
        }
        assert!(has(&store, version, &number(version)), "a copy undid {version}");
    }
}

/// Pages that change nothing write the session as they found it, in the same second.
#[test]
fn each_copy_of_a_value_that_was_told_twice_changes_nothing() {
    let store = peered(3);
    for (version, value) in [(1, b"one"), (2, b"one"), (3, b"two")] {
        told(&store, version, value);
    }
    for late in [b"one", b"one", b"two"] {
        copy(&store, late);
        assert!(has(&store, 3, b"two"), "{late:?}");
    }
    copy(&store, b"one");
    assert!(!has(&store, 3, b"two"), "a copy is a copy once");
}

/// That a value is here already does not make the copy of what was told last an early one.
#[test]
fn the_copy_of_a_value_that_was_held_already_changes_nothing() {
    let store = peered(3);
    copy(&store, b"one");
    let later = store.mutations().unwrap().latest().0;
    told(&store, later + 1_000, b"one");
    told(&store, later + 2_000, b"two");
    copy(&store, b"one");
    assert!(has(&store, later + 2_000, b"two"));
}

#[test]
fn a_client_that_asked_after_it_was_told_takes_no_note_from_others() {
    let store = peered(3);
    told(&store, 1, b"one");
    told(&store, 2, b"two");
    writes(&store, b"two", at(1));
    assert!(!has(&store, 2, b"two"), "it wanted to write that");
    let own = store.record(KEY, at(1), &mut Vec::new()).unwrap().version.0;
    copy(&store, b"one");
    assert!(has(&store, own, b"two"), "the copy of another client");
}

/// A write that says for how long it is to live, at a node that counts from so many seconds later.
fn writes_counted(store: &Store, value: &[u8], copies_after: Option<Now>, later: i64) {
    let seconds = u32::try_from(1440 + later).unwrap();
    let write = Write::new(Mode::Set, value, 0, in_seconds(seconds));
    let write = Write { copies_after, is_counted: true, ..write };
    store.write(store.key(KEY), &write, at(1)).unwrap();
}

#[test]
fn a_copy_whose_life_is_counted_from_when_it_comes_changes_nothing() {
    for later in [-1, 0, 1, 5] {
        let store = peered(3);
        told(&store, 1, b"one");
        told(&store, 2, b"two");
        writes_counted(&store, b"one", Some(Now::from_unix_micros(0)), later);
        assert!(has(&store, 2, b"two"), "{later} s later");
    }
}

#[test]
fn a_write_that_lives_for_longer_than_what_was_told_is_no_copy() {
    for (later, copies_after) in [(60, Some(Now::from_unix_micros(0))), (0, None)] {
        let store = peered(3);
        told(&store, 1, b"one");
        told(&store, 2, b"two");
        writes_counted(&store, b"one", copies_after, later);
        assert_eq!(get(&store, KEY, at(1)).as_deref(), Some(&b"one"[..]));
    }
}

/// Both nodes are full, and take the same session from its client and from each other.
#[test]
fn a_copy_for_which_there_is_no_room_does_not_delete_what_a_peer_told() {
    let without_room = |config: &mut StoreConfig| {
        (config.memory_limit, config.evictions) = (2 << 20, false);
    };
    let large = |number: u64| number.to_be_bytes().repeat(30_000);
    for a_copy_is_first in [false, true] {
        let store = peered_with(3, without_room);
        let set = |value: &[u8]| {
            let write = Write::new(Mode::Set, value, 0, in_seconds(1440));
            store.write(store.key(KEY), &write, at(1))
        };
        match a_copy_is_first {
            true => assert!(set(&large(1)).is_ok()),
            false => told(&store, 1, &large(1)),
        }
        let mut other = 0;
        while super::set(&store, format!("other {other}").as_bytes(), &large(0), at(1)).is_ok() {
            other += 1;
        }
        if a_copy_is_first {
            let later = store.mutations().unwrap().latest().0 + 1_000;
            told(&store, later, &large(1));
            assert!(has(&store, later, &large(1)));
        } else {
            assert!(set(&large(1)).is_ok(), "it is here already");
        }
        assert_eq!(get(&store, KEY, at(1)), Some(large(1)));
        assert_eq!(set(&large(2)), Err(Refusal::NoMemory), "there was room after all");
        assert_eq!(get(&store, KEY, at(1)), None, "rather none than the one before");
    }
}

/// A full store with no eviction that was told of a session's first value, in pieces too large for a slot.
fn full_store() -> Store {
    let store = peered_with(3, |config| (config.memory_limit, config.evictions) = (2 << 20, false));
    told(&store, 1, &large(1));
    let mut other = 0;
    while super::set(&store, format!("other {other}").as_bytes(), &large(0), at(1)).is_ok() {
        other += 1;
    }
    store
}

fn large(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(30_000)
}

/// What a late copy of a value is answered.
fn answer_to_copy(store: &Store, value: &[u8]) -> Result<Stored, Refusal> {
    let write = Write::new(Mode::Set, value, 0, in_seconds(1440));
    let write = Write { copies_after: Some(Now::from_unix_micros(0)), ..write };
    store.write(store.key(KEY), &write, at(1))
}

#[test]
fn the_copy_of_a_word_for_which_there_was_no_room_deletes_nothing() {
    let store = full_store();
    let later = store.mutations().unwrap().latest().0;
    let refused = Merged::Refused(crate::store::Refused::NoRoom);
    assert_eq!(merge(&store, later + 1_000, &large(2), at(0)), refused);
    assert_eq!(merge(&store, later + 2_000, &large(3), at(0)), Merged::Applied);
    assert!(answer_to_copy(&store, &large(2)).is_ok(), "it was stored, and then overwritten");
    assert!(has(&store, later + 2_000, &large(3)));
}

#[test]
fn the_copy_of_a_word_that_is_not_here_is_told_so() {
    let store = full_store();
    let later = store.mutations().unwrap().latest().0;
    merge(&store, later + 1_000, &large(2), at(0));
    delete(&store, b"other 0", at(1)).unwrap();
    let before = store.mutations().unwrap().last();
    assert_eq!(answer_to_copy(&store, &large(2)), Err(Refusal::NoMemory));
    assert_eq!(store.mutations().unwrap().last(), before, "peers are told nothing");
    assert_eq!(get(&store, KEY, at(1)), None);
}

/// The peer sends it again when there is room.
#[test]
fn the_copy_of_a_word_for_which_there_was_room_later_is_told_that_it_is_here() {
    let store = full_store();
    let version = store.mutations().unwrap().latest().0 + 1_000;
    merge(&store, version, &large(2), at(0));
    for other in 0..4 {
        delete(&store, format!("other {other}").as_bytes(), at(1)).unwrap();
    }
    assert_eq!(merge(&store, version, &large(2), at(0)), Merged::Found);
    assert!(answer_to_copy(&store, &large(2)).is_ok());
    assert!(has(&store, version, &large(2)));
}

/// It was here, and is no more.
#[test]
fn the_copy_of_a_word_that_has_expired_is_told_nothing_of_room() {
    let store = peered(3);
    let record =
        Record { kind: Kind::Value, expiry: in_seconds(1), ..Record::lost(Version(1), Version(1)) };
    assert_eq!(store.merge(KEY, &record, b"one", at(0)), Merged::Applied);
    assert_eq!(get(&store, KEY, at(2)), None);
    let write = Write::new(Mode::Set, b"one", 0, in_seconds(1));
    let write = Write { copies_after: Some(Now::from_unix_micros(0)), ..write };
    assert!(store.write(store.key(KEY), &write, at(2)).is_ok());
}

#[test]
fn the_copy_of_a_word_that_came_late_changes_nothing() {
    let store = peered(3);
    told(&store, 2, b"two");
    assert_eq!(merge(&store, 1, b"one", at(0)), Merged::Older);
    copy(&store, b"one");
    assert!(has(&store, 2, b"two"));
}

/// There was no room for the copy; then its word and the next page's come, and there is.
#[test]
fn a_copy_that_found_no_room_before_its_word_came_deletes_nothing() {
    let store = full_store();
    let write = Write::new(Mode::Set, b"two", 0, in_seconds(1440));
    let write = Write { copies_after: Some(Now::from_unix_micros(0)), ..write };
    let key = store.key(KEY);
    let copied = store.copy_of(key, &write);
    let later = store.mutations().unwrap().latest().0;
    told(&store, later + 1_000, b"two");
    told(&store, later + 2_000, b"three");
    assert!(store.without_memory(copied, key, &write, at(1)).is_ok());
    assert!(has(&store, later + 2_000, b"three"));
}

/// The word and the next page's write come while the copy is being written: before it or behind it, but
/// not in its middle.
#[test]
fn a_copy_that_is_written_while_its_word_comes_does_not_undo_the_next_write() {
    let store = peered(3);
    let (ask, asked) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    let undone = thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || {
            while let Some(page) = soon(&asked) {
                copy(store, &number(2 * page));
                answer.send(()).unwrap();
            }
        });
        let is_undone = |page: &u64| {
            // Later than what this node has stamped until then, as all that follows an acknowledgement.
            let version = Version::floor_at(at(60)).0 + (page << 20);
            let (word, next) = (number(2 * page), number(2 * page + 1));
            ask.send(*page).unwrap();
            let now = at(0).plus(Duration::from_micros(*page));
            merge(store, version, &word, now);
            merge(store, version + (1 << 10), &next, now);
            soon(&answered).expect("the copy was written");
            !has(store, version + (1 << 10), &next)
        };
        let undone = (1..=PAGES).filter(is_undone).count();
        drop(ask);
        undone
    });
    assert_eq!(undone, 0);
}

/// The next message, without a thread having to be woken for it: both are to run at the same time. `None`
/// when nobody sends any more.
fn soon<T>(messages: &mpsc::Receiver<T>) -> Option<T> {
    for round in 0.. {
        match messages.try_recv() {
            Ok(message) => return Some(message),
            Err(mpsc::TryRecvError::Disconnected) => break,
            Err(mpsc::TryRecvError::Empty) if round < 1_000 => std::hint::spin_loop(),
            Err(mpsc::TryRecvError::Empty) => thread::yield_now(),
        }
    }
    None
}
