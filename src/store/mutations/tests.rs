//! What readers of the log find in it, and what they are told when they come too late.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::tray::FULL_MAX;
use super::*;
use crate::item::Expiry;
use crate::store::record::{Kind, Record};

const NOON: Now = Now::from_unix_seconds(1_800_000_000);

#[test]
fn what_a_change_writes_lies_in_three_neighbouring_cache_lines() {
    // `is_deaf` is for tests only.
    assert!(size_of::<Mutex<Inner>>() + 3 * size_of::<u64>() <= 192);
    assert_eq!(align_of::<MutationLog>(), 128);
}

fn keys(entries: &Entries) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(entry.key).into_owned()).collect()
}

/// Where a log is read on that has nothing in it yet.
fn end_of(log: &MutationLog) -> Version {
    match log.read(Version(0), 1, NOON, &mut Entries::default()) {
        Read::CaughtUp(upto) => upto,
        read => panic!("the log is empty: {read:?}"),
    }
}

#[test]
fn entries_come_back_in_order_from_any_position() {
    let log = MutationLog::new(3, 1 << 20);
    let versions: Vec<Version> = (0..1_000u32)
        .map(|n| log.append(Mutation::Put, format!("key-{n}").as_bytes(), NOON))
        .collect();
    for start in [0, 1, 500, 998, 999] {
        let mut entries = Entries::default();
        let read = log.read(versions[start], usize::MAX, NOON, &mut entries);
        let expected: Vec<_> = (start + 1..1_000).map(|n| format!("key-{n}")).collect();
        assert_eq!(keys(&entries), expected);
        assert!(matches!(read, Read::CaughtUp(upto) if upto > versions[999]));
    }
}

#[test]
fn every_kind_reads_back_as_it_was_logged() {
    let log = MutationLog::new(1, 1 << 20);
    let base = Version(77);
    let kinds = [Mutation::Put, Mutation::Deleted, Mutation::Touched { base }, Mutation::Flush];
    for mutation in kinds {
        log.append(mutation, &[b'k'; 250], NOON);
    }
    let mut entries = Entries::default();
    log.read(Version(0), usize::MAX, NOON, &mut entries);
    assert!(entries.iter().map(|entry| entry.mutation).eq(kinds));
    assert!(entries.iter().all(|entry| entry.key == [b'k'; 250]));
}

#[test]
fn reading_within_a_budget_and_going_on_misses_nothing() {
    let log = MutationLog::new(1, 1 << 20);
    let expected: Vec<_> = (0..500u32).map(|n| n.to_string()).collect();
    for key in &expected {
        log.append(Mutation::Put, key.as_bytes(), NOON);
    }
    let (mut met, mut after, mut reads) = (Vec::new(), Version(0), 0);
    loop {
        let mut entries = Entries::default();
        let read = log.read(after, 200, NOON, &mut entries);
        met.extend(keys(&entries));
        reads += 1;
        match read {
            Read::More(last) => after = last,
            Read::CaughtUp(_) => break,
            Read::Overrun => panic!("nothing was forgotten"),
        }
    }
    assert_eq!(met, expected);
    assert!(reads > 40, "{reads}");
}

#[test]
fn a_reader_behind_what_was_forgotten_is_told_and_one_at_its_edge_goes_on() {
    for limit in [300, 5_000, 100_000] {
        let log = MutationLog::new(1, limit);
        let versions: Vec<Version> = (0..20_000u32)
            .map(|n| log.append(Mutation::Put, n.to_string().as_bytes(), NOON))
            .collect();
        assert!(log.bytes() <= limit);
        assert!(log.bytes() > limit / 2, "most of the room is used: {}", log.bytes());
        let forgotten = log.forgotten();
        let edge = versions.binary_search(&forgotten).unwrap();
        let mut entries = Entries::default();
        let early = Version(forgotten.0 - 1);
        assert_eq!(log.read(early, usize::MAX, NOON, &mut entries), Read::Overrun);
        assert_eq!(log.upto(early, NOON), None);
        log.read(forgotten, usize::MAX, NOON, &mut entries);
        assert_eq!(entries.iter().count(), versions.len() - edge - 1);
        assert_eq!(log.oldest(), Some(versions[edge + 1]));
    }
}

#[test]
fn what_is_after_a_position_is_counted_to_the_entry_and_the_byte() {
    for limit in [1_000, 1 << 20] {
        let log = MutationLog::new(1, limit);
        assert_eq!(log.after(Version(0)), Behind::default());
        let versions: Vec<Version> = (0..300u32)
            .map(|n| log.append(Mutation::Put, format!("key-{n}").as_bytes(), NOON))
            .collect();
        for after in versions.iter().filter(|after| **after >= log.forgotten()) {
            let mut entries = Entries::default();
            log.read(*after, usize::MAX, NOON, &mut entries);
            let expected = Behind {
                entries: entries.iter().count() as u64,
                bytes: entries.bytes.len() as u64,
                first: entries.iter().next().map(|entry| entry.version),
            };
            assert_eq!(log.after(*after), expected);
        }
        assert_eq!(log.after(Version(0)).bytes, log.bytes() as u64);
    }
}

#[test]
fn nothing_is_logged_at_or_before_what_a_reader_was_told() {
    let log = MutationLog::new(1, 1 << 20);
    let Read::CaughtUp(upto) = log.read(Version(0), 1, NOON, &mut Entries::default()) else {
        panic!("the log is empty");
    };
    let first = log.append(Mutation::Put, b"a", NOON);
    assert!(first > upto);
    assert_eq!(log.upto(upto, NOON), None, "there is an entry to be read");
    let later = log.upto(first, NOON).unwrap();
    assert!(log.append(Mutation::Put, b"b", NOON) > later);
}

#[test]
fn a_version_observed_is_earlier_than_the_next() {
    let log = MutationLog::new(1, 1 << 20);
    let ahead = Version::floor_at(Now::from_unix_seconds(1_900_000_000));
    log.observe(ahead);
    log.observe(Version(5));
    assert!(log.append(Mutation::Put, b"a", NOON) > ahead);
    assert_eq!(log.last(), log.latest());
}

#[test]
fn a_thread_learns_only_of_what_it_has_logged_itself_and_only_once() {
    let log = Arc::new(MutationLog::new(1, 1 << 20));
    assert_eq!(MutationLog::take_logged_here(), None);
    log.append(Mutation::Put, b"a", NOON);
    let second = log.append(Mutation::Put, b"b", NOON);
    let others = Arc::clone(&log);
    let theirs = std::thread::spawn(move || {
        let third = others.append(Mutation::Put, b"c", NOON);
        (third, MutationLog::take_logged_here())
    });
    let (third, seen) = theirs.join().unwrap();
    assert_eq!(seen, Some(third));
    assert_eq!(MutationLog::take_logged_here(), Some(second));
    assert_eq!(MutationLog::take_logged_here(), None);
}

#[test]
fn a_log_with_another_number_gives_later_versions_with_that_number() {
    let log = MutationLog::new(1, 1 << 20);
    let Some(before) = log.upto(Version(0), NOON) else { panic!("nothing is unread") };
    log.renumber(9);
    let after = log.append(Mutation::Put, b"a", NOON);
    assert!(after > before);
    assert_eq!((before.node(), after.node()), (1, 9));
}

struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_reader_that_has_caught_up_is_woken_once_by_the_next_entry() {
    let log = MutationLog::new(1, 1 << 20);
    let bell = Arc::new(Bell(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&bell));
    assert!(log.wake_after(Version(0), &waker));
    log.stamp(NOON);
    assert_eq!(bell.0.load(Ordering::Relaxed), 0, "a stamp alone is no entry");
    let first = log.append(Mutation::Put, b"a", NOON);
    let second = log.append(Mutation::Put, b"b", NOON);
    assert_eq!(bell.0.load(Ordering::Relaxed), 1);
    assert!(!log.wake_after(first, &waker), "there is something to read");
    assert!(log.wake_after(second, &waker));
}

#[test]
fn a_thread_that_wakes_when_told_wakes_once_for_all_that_it_has_logged() {
    let log = Arc::new(MutationLog::new(1, 1 << 20));
    let bell = Arc::new(Bell(AtomicUsize::new(0)));
    assert!(log.wake_after(Version(0), &Waker::from(Arc::clone(&bell))));
    let rung = |bell: &Bell| bell.0.load(Ordering::Relaxed);
    let (log, heard) = (Arc::clone(&log), Arc::clone(&bell));
    let worker = std::thread::spawn(move || {
        MutationLog::wake_when_told();
        log.append(Mutation::Put, b"a", NOON);
        log.append(Mutation::Put, b"b", NOON);
        assert_eq!(rung(&heard), 0);
        MutationLog::wake_reader();
        MutationLog::wake_reader();
    });
    worker.join().unwrap();
    assert_eq!(rung(&bell), 1);
}

fn carried(value: &[u8]) -> Option<Carried<'_>> {
    let expiry = Expiry::at(crate::clock::UnixSeconds(1_900_000_000));
    Some(Carried { expiry, flags: 7, stale: true, binary_key: false, value })
}

/// A frame as these tests write it: the lengths of key and value, version, key, value.
fn frame(key: &[u8], record: &Record, value: &[u8], into: &mut Vec<u8>) {
    let lens = [key.len(), value.len()].map(|len| u16::try_from(len).unwrap().to_le_bytes());
    into.extend_from_slice(lens.as_flattened());
    into.extend_from_slice(&record.version.0.to_le_bytes());
    into.extend_from_slice(key);
    into.extend_from_slice(value);
}

/// A log whose reader wants what is put written as `frame` does.
fn log_with_trays(limit: usize) -> MutationLog {
    let log = MutationLog::new(1, limit);
    log.frame_with(frame);
    log
}

type Put = (Version, Vec<u8>, Vec<u8>);

/// What was put, of what lies on a tray, with its version and key.
fn put(tray: &Tray) -> Vec<Put> {
    let (mut rest, mut put) = (&tray.frames[..], Vec::new());
    while let Some((&[k0, k1, v0, v1], after)) = rest.split_first_chunk() {
        let (version, after) = after.split_first_chunk().unwrap();
        let (key, after) = after.split_at(u16::from_le_bytes([k0, k1]).into());
        let (value, after) = after.split_at(u16::from_le_bytes([v0, v1]).into());
        put.push((Version(u64::from_le_bytes(*version)), key.to_vec(), value.to_vec()));
        rest = after;
    }
    assert_eq!(put.len() as u64, tray.records);
    put
}

fn versions(entries: &Entries) -> Vec<Version> {
    entries.iter().map(|entry| entry.version).collect()
}

#[test]
fn who_keeps_up_is_handed_what_was_put_as_he_wants_it_and_all_else_once() {
    let log = log_with_trays(1 << 20);
    let early = log.append_with(Mutation::Put, b"a", carried(b"early"), NOON);
    let mut entries = Entries::default();
    let Read::CaughtUp(upto) = log.read(Version(0), 1, NOON, &mut entries) else {
        panic!("one entry is the least")
    };
    assert_eq!(versions(&entries), [early], "nobody had kept up before");
    let stored = log.append_with(Mutation::Put, b"a", carried(b"value"), NOON);
    let deleted = log.append(Mutation::Deleted, b"b", NOON);
    let mut tray = Tray::default();
    let Some(Read::CaughtUp(upto)) = log.take(upto, NOON, &mut tray) else {
        panic!("it is all on one tray")
    };
    assert_eq!(put(&tray), [(stored, b"a".to_vec(), b"value".to_vec())]);
    assert_eq!(versions(&tray.entries), [deleted]);
    assert!(upto > deleted);
    let later = log.append_with(Mutation::Put, b"c", carried(b""), NOON);
    log.take(upto, NOON, &mut tray).unwrap();
    assert_eq!(put(&tray), [(later, b"c".to_vec(), Vec::new())]);
    assert!(tray.entries.is_empty());
}

#[test]
fn what_is_put_is_written_with_all_that_is_known_of_it() {
    fn tell(_: &[u8], record: &Record, _: &[u8], into: &mut Vec<u8>) {
        let expiry = Expiry::at(crate::clock::UnixSeconds(1_900_000_000));
        assert_eq!(
            (record.kind, record.touched, record.expiry),
            (Kind::Value, record.version, expiry)
        );
        assert!(record.stale && !record.binary_key && record.flags == 7);
        into.push(1);
    }
    let log = MutationLog::new(1, 1 << 20);
    log.frame_with(tell);
    let start = end_of(&log);
    log.append_with(Mutation::Put, b"a", carried(b"value"), NOON);
    let mut tray = Tray::default();
    log.take(start, NOON, &mut tray).unwrap();
    assert_eq!(tray.frames, [1]);
}

#[test]
fn what_is_no_value_lies_beside_the_frames_with_its_place() {
    let log = log_with_trays(1 << 20);
    let start = end_of(&log);
    let deleted = log.append(Mutation::Deleted, b"a", NOON);
    let stored = log.append_with(Mutation::Put, b"b", carried(b"1"), NOON);
    let flushed = log.append(Mutation::Flush, b"", NOON);
    let mut tray = Tray::default();
    log.take(start, NOON, &mut tray).unwrap();
    let places: Vec<_> =
        tray.placed().map(|(place, entry)| (place.frames, place.records, entry.version)).collect();
    assert_eq!(places, [(0, 0, deleted), (tray.frames.len(), 1, flushed)]);
    assert_eq!(tray.placed().nth(1).unwrap().0.before, stored);
    let (end, len) = (tray.end(), tray.frames.len());
    assert_eq!((end.frames, end.records), (len, 1));
    let mut entries = Tray::default();
    log.read(start, usize::MAX, NOON, &mut entries.entries);
    assert!(entries.placed().all(|(place, _)| place == Place::default()));
}

#[test]
fn who_has_read_the_log_further_than_a_full_tray_goes_is_not_handed_that_tray() {
    let log = log_with_trays(8 << 20);
    let start = end_of(&log);
    let value = vec![b'x'; 8 << 10];
    let store = || log.append_with(Mutation::Put, b"key", carried(&value), NOON);
    let stored: Vec<Version> = (0..150).map(|_| store()).collect();
    let mut tray = Tray::default();
    let taken = log.take(stored[100], NOON, &mut tray).unwrap();
    assert_eq!(taken, Read::More(stored[125]), "63 lie on a tray");
    let versions: Vec<Version> = put(&tray).into_iter().map(|(version, ..)| version).collect();
    assert_eq!(versions, stored[63..126]);
    assert_eq!(log.take(start, NOON, &mut tray), None);
}

#[test]
fn nothing_is_laid_on_trays_before_it_is_known_how_it_is_written() {
    let log = MutationLog::new(1, 1 << 20);
    let start = end_of(&log);
    log.append_with(Mutation::Put, b"a", carried(b"value"), NOON);
    assert_eq!(log.take(start, NOON, &mut Tray::default()), None);
    log.frame_with(frame);
    assert_eq!(log.take(start, NOON, &mut Tray::default()), None);
}

#[test]
fn who_comes_late_finds_every_entry_without_what_it_told() {
    let log = log_with_trays(1 << 20);
    let start = end_of(&log);
    let first = log.append_with(Mutation::Put, b"a", carried(b"1"), NOON);
    let (mut early, mut late) = (Tray::default(), Tray::default());
    log.take(start, NOON, &mut early).unwrap();
    assert_eq!(put(&early), [(first, b"a".to_vec(), b"1".to_vec())]);
    let second = log.append_with(Mutation::Put, b"b", carried(b"2"), NOON);
    assert_eq!(log.take(start, NOON, &mut late), None);
    let Read::CaughtUp(_) = log.read(start, usize::MAX, NOON, &mut late.entries) else {
        panic!("the budget is large")
    };
    assert_eq!(versions(&late.entries), [first, second]);
}

#[test]
fn who_comes_late_takes_full_trays_one_by_one_and_misses_nothing() {
    let log = log_with_trays(8 << 20);
    let start = end_of(&log);
    let value = vec![b'x'; 8 << 10];
    let store = || log.append_with(Mutation::Put, b"key", carried(&value), NOON);
    let stored: Vec<Version> = (0..200).map(|_| store()).collect();
    let (mut after, mut read, mut takes) = (start, Vec::new(), 0);
    let mut tray = Tray::default();
    loop {
        let taken = log.take(after, NOON, &mut tray).unwrap();
        takes += 1;
        read.extend(put(&tray));
        match taken {
            Read::More(last) => {
                assert_eq!(read.last().unwrap().0, last);
                after = last;
            }
            Read::CaughtUp(upto) => break assert!(upto > stored[199]),
            Read::Overrun => panic!("the trays had all"),
        }
    }
    assert_eq!(takes, 4, "63 of 8 KiB lie on a tray");
    let expected: Vec<_> =
        stored.into_iter().map(|version| (version, b"key".to_vec(), value.clone())).collect();
    assert_eq!(read, expected);
}

#[test]
fn what_is_no_value_fills_trays_too() {
    let log = log_with_trays(8 << 20);
    let start = end_of(&log);
    let deleted: Vec<Version> =
        (0..6_000).map(|_| log.append(Mutation::Deleted, &[b'k'; 200], NOON)).collect();
    let (mut after, mut read, mut takes) = (start, Vec::new(), 0);
    let mut tray = Tray::default();
    loop {
        let taken = log.take(after, NOON, &mut tray).unwrap();
        takes += 1;
        read.extend(versions(&tray.entries));
        let Read::More(last) = taken else { break };
        after = last;
    }
    assert_eq!(takes, 20, "300 entries of 218 bytes lie on a tray");
    assert_eq!(read, deleted);
}

#[test]
fn a_reader_that_keeps_up_has_trays_filled_again_and_no_others_made() {
    let log = log_with_trays(8 << 20);
    let mut tray = Tray::default();
    let mut after = end_of(&log);
    let value = vec![b'x'; 8 << 10];
    let mut rooms = Vec::new();
    for _ in 0..20 {
        for _ in 0..140 {
            log.append_with(Mutation::Put, b"key", carried(&value), NOON);
        }
        after = loop {
            match log.take(after, NOON, &mut tray) {
                Some(Read::More(last)) => after = last,
                Some(Read::CaughtUp(upto)) => break upto,
                read => panic!("the trays have all: {read:?}"),
            }
        };
        rooms.push(log.inner.lock().trays.room());
    }
    assert!(rooms[2..].iter().all(|&room| room == rooms[2]), "{rooms:?}");
}

#[test]
fn what_nobody_takes_is_forgotten_with_its_memory_and_laid_there_again_when_somebody_has_read_on() {
    let log = log_with_trays(8 << 20);
    let start = end_of(&log);
    let value = vec![b'x'; 8 << 10];
    let store = || log.append_with(Mutation::Put, b"key", carried(&value), NOON);
    let stored: Vec<Version> = (0..=(FULL_MAX + 1) * 63).map(|_| store()).collect();
    assert_eq!(log.inner.lock().trays.room(), 0);
    let mut tray = Tray::default();
    assert_eq!(log.take(start, NOON, &mut tray), None);
    let Read::CaughtUp(upto) = log.read(start, usize::MAX, NOON, &mut tray.entries) else {
        panic!("the budget is large")
    };
    assert_eq!(versions(&tray.entries), stored);
    let next = store();
    log.take(upto, NOON, &mut tray).unwrap();
    assert_eq!(put(&tray), [(next, b"key".to_vec(), value.clone())]);
}
