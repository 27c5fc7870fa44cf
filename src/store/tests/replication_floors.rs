//! How long a store with peers remembers what is gone, what a flush means there, and what it costs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::replication::{known, peered, peered_with};
use super::*;

fn value(version: u64) -> Record {
    Record { kind: Kind::Value, ..Record::lost(Version(version), Version(version)) }
}

fn with_stability(stability: &Arc<Stability>) -> Store {
    peered_with(3, |config| {
        config.replication.as_mut().unwrap().stability = Arc::clone(stability);
    })
}

/// Visits every floor at least once.
fn purge(store: &Store, now: Now) {
    for _ in 0..10 {
        store.purge_floors(now);
    }
}

#[test]
fn a_delete_is_remembered_until_every_peer_has_applied_it() {
    let stability = Arc::new(Stability::default());
    let store = with_stability(&stability);
    let before = set(&store, b"k", b"v", at(0)).unwrap().version;
    delete(&store, b"k", at(0)).unwrap();
    let deleted = store.mutations().unwrap().last();
    purge(&store, at(1));
    stability.set(3, Version(0), before);
    purge(&store, at(1));
    assert_eq!(store.floor_counters().deleted, 1, "they have not come so far");
    stability.set(3, deleted, deleted);
    purge(&store, at(1));
    assert_eq!(store.floor_counters().deleted, 1, "an earlier life's");
    stability.set(3, Version(0), deleted);
    purge(&store, at(1));
    assert_eq!(store.floor_counters(), FloorCounters::default());
    assert!(known(&store, at(1)).is_empty());
}

#[test]
fn what_every_peer_has_leaves_no_floor_when_it_expires_unless_a_touch_is_not_known() {
    let stability = Arc::new(Stability::default());
    let store = with_stability(&stability);
    for key in [b"plain", b"touch"] {
        set_until(&store, key, b"v", in_seconds(5), at(0)).unwrap();
    }
    stability.set(3, Version(0), store.mutations().unwrap().last());
    let touch = Fetch { touch: Some(in_seconds(6)), ..Fetch::default() };
    fetch(&store, b"touch", &touch, at(0)).unwrap();
    sweep(&store, at(20));
    let told: Vec<_> = known(&store, at(20)).into_keys().collect();
    assert_eq!(told, [b"touch".to_vec()]);
    assert_eq!(store.counters().curr_items, 0);
}

#[test]
fn a_floor_older_than_the_horizon_goes_and_that_is_told() {
    let store = peered_with(3, |config| config.replication.as_mut().unwrap().horizon = 100);
    store.merge(b"k", &Record::deleted(Version(20)), b"", at(0));
    purge(&store, at(99));
    assert_eq!(store.floor_counters().deleted, 1);
    purge(&store, at(100));
    let counters = store.floor_counters();
    assert_eq!((counters.deleted, counters.purged_unstable), (0, 1));
    assert_eq!(counters.purged_to, Version(20));
    assert_eq!(store.merge(b"k", &value(10), b"old", at(100)), Merged::Applied, "as was told");
}

#[test]
fn floors_stay_within_their_budget_and_the_oldest_go_first() {
    let budget = 200_000;
    let store = peered_with(3, |config| {
        config.replication.as_mut().unwrap().floor_bytes = budget;
        config.shards = 1;
    });
    for n in 0..10_000u32 {
        // Keys in no order, as session ids are.
        let key = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
        store.merge(&key, &Record::deleted(Version(u64::from(n) + 1)), b"", at(0));
        if n % 100 == 0 {
            store.check();
        }
    }
    let counters = store.floor_counters();
    assert!(counters.bytes <= budget as u64 && counters.bytes > budget as u64 * 9 / 10);
    assert_eq!(counters.purged_unstable, 10_000 - counters.deleted);
    let kept: Vec<u64> =
        known(&store, at(0)).values().map(|(record, _)| record.version.0).collect();
    assert_eq!(kept.len() as u64, counters.deleted);
    let recent = 10_000 - 2 * kept.len() as u64;
    let young = kept.iter().filter(|&&version| version > recent).count();
    assert!(young * 4 > kept.len() * 3, "{young} of {}", kept.len());
    assert!(counters.purged_to > Version(recent / 2));
}

#[test]
fn with_no_budget_nothing_is_remembered_and_that_is_told() {
    let store = peered_with(3, |config| config.replication.as_mut().unwrap().floor_bytes = 0);
    set(&store, b"k", b"v", at(0)).unwrap();
    delete(&store, b"k", at(0)).unwrap();
    let counters = store.floor_counters();
    assert_eq!((counters.deleted, counters.bytes, counters.purged_unstable), (0, 0, 1));
    assert_eq!(counters.purged_to, store.mutations().unwrap().last());
}

#[test]
fn a_broken_rule_shows() {
    let with = |broken: Broken| {
        peered_with(3, |config| config.replication.as_mut().unwrap().broken = broken)
    };
    let rules = Broken::default();
    let store = with(Broken { no_floors: true, ..rules });
    store.merge(b"k", &Record::deleted(Version(20)), b"", at(0));
    assert_eq!(store.merge(b"k", &value(10), b"", at(0)), Merged::Applied);
    let store = with(Broken { no_lost_floors: true, ..rules });
    store.merge(b"k", &value(20), b"", at(0));
    assert!(store.evict_for_test(b"k", at(0)));
    assert_eq!(store.merge(b"k", &value(10), b"", at(0)), Merged::Applied);
    let store = with(Broken { touch_writes: true, ..rules });
    let version = set(&store, b"k", b"", at(0)).unwrap().version;
    fetch(&store, b"k", &Fetch { touch: Some(Expiry::NEVER), ..Fetch::default() }, at(0)).unwrap();
    assert!(store.record(b"k", at(0), &mut Vec::new()).unwrap().version > version);
    let store = with(Broken { no_observing: true, ..rules });
    store.merge(b"k", &value(u64::MAX >> 1), b"", at(0));
    assert!(set(&store, b"k", b"", at(0)).unwrap().version < Version(u64::MAX >> 1));
    let store = with(Broken { oldest_wins: true, ..rules });
    store.merge(b"k", &value(20), b"", at(0));
    assert_eq!(store.merge(b"k", &value(10), b"", at(0)), Merged::Applied);
}

#[test]
fn what_is_older_than_a_flush_is_dead_in_whatever_order_it_comes() {
    let (one, other) = (peered(3), peered(4));
    let before = set(&other, b"before", b"v", at(10)).unwrap().version;
    set(&one, b"mine", b"v", at(10)).unwrap();
    // The clock of the node that flushes is the slower one, but it has heard from the other.
    one.merge(b"before", &Record { version: before, touched: before, ..value(1) }, b"v", at(5));
    one.flush_all(at(5));
    let after = set(&one, b"after", b"v", at(5)).unwrap().version;
    assert_eq!(get(&one, b"before", at(5)), None);
    assert_eq!(get(&one, b"mine", at(5)), None);
    let dead = Record { version: before, touched: before, ..value(1) };
    assert_eq!(one.merge(b"before", &dead, b"v", at(5)), Merged::Older);
    let touch = one.merge_touch(b"before", before, Version(u64::MAX >> 2), Expiry::NEVER, at(5));
    assert_eq!(touch, Merged::Older);
    other.merge(b"after", &Record { version: after, touched: after, ..value(1) }, b"v", at(10));
    other.merge_flushes(&one.flushes());
    assert_eq!(get(&other, b"before", at(10)), None);
    assert_eq!(get(&other, b"after", at(10)), Some(b"v".to_vec()));
    let told: Vec<_> = known(&other, at(10)).into_keys().collect();
    assert_eq!(told, [b"after".to_vec()], "the dead are not told");
    assert_eq!(other.digest(at(10)).differing(&one.digest(at(10))), Lanes::NONE);
    assert!(set(&other, b"before", b"w", at(0)).unwrap().version > other.flushes().watermark);
    assert_eq!(get(&other, b"before", at(10)), Some(b"w".to_vec()));
    other.check();
}

#[test]
fn a_deleted_record_takes_the_place_of_a_flushed_item() {
    let store = peered(3);
    set(&store, b"k", b"v", at(0)).unwrap();
    store.flush_all(at(0));
    let later = Version(store.flushes().watermark.0 + 1);
    assert_eq!(store.merge(b"k", &Record::deleted(later), b"", at(0)), Merged::Applied);
    store.check();
    assert_eq!(store.counters().curr_items, 0);
}

#[test]
fn a_delayed_flush_fires_on_every_node_that_knows_of_it_and_the_last_command_counts() {
    let (one, other) = (peered(3), peered(4));
    set(&one, b"k", b"v", at(0)).unwrap();
    set(&other, b"k", b"v", at(0)).unwrap();
    one.flush_all_at(UnixSeconds(START + 10), at(0));
    other.merge_flushes(&one.flushes());
    assert_eq!(other.flushes(), one.flushes());
    other.flush_all_at(UnixSeconds(START + 20), at(1));
    one.merge_flushes(&other.flushes());
    one.merge_flushes(&one.flushes());
    assert!(get(&one, b"k", at(19)).is_some());
    set(&one, b"last", b"v", at(19)).unwrap();
    assert!(get(&one, b"k", at(20)).is_none() && get(&one, b"last", at(20)).is_none());
    set(&one, b"later", b"v", at(20)).unwrap();
    let fired = one.flushes();
    assert_eq!(fired.pending, None);
    // The other's clock has not come so far, but it is told.
    assert!(get(&other, b"k", at(15)).is_some());
    other.merge_flushes(&fired);
    assert!(get(&other, b"k", at(15)).is_none());
    set(&other, b"new", b"v", at(15)).unwrap();
    assert!(get(&other, b"new", at(25)).is_some(), "it fires once");
    assert!(get(&one, b"later", at(25)).is_some());
}

#[test]
fn an_immediate_flush_calls_off_a_delayed_one_everywhere() {
    let (one, other) = (peered(3), peered(4));
    one.flush_all_at(UnixSeconds(START + 10), at(0));
    let pending = one.flushes();
    other.merge_flushes(&pending);
    one.flush_all(at(1));
    assert_eq!(one.flushes().pending, None);
    other.merge_flushes(&one.flushes());
    other.merge_flushes(&pending);
    for store in [&one, &other] {
        set(store, b"k", b"v", at(2)).unwrap();
        assert!(get(store, b"k", at(11)).is_some());
    }
}

#[test]
fn no_command_carries_a_value_across_a_flush() {
    let store = peered(3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = write(&store, Mode::Append, b"k", b"x", at(0));
                }
            });
        }
        let outlived = (0..3_000u32).find(|&round| {
            set(&store, b"k", &value_of(round, 0, 5_000), at(0)).unwrap();
            store.flush_all(at(0));
            get(&store, b"k", at(0)).is_some()
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(outlived, None, "in this round an append outlived its flush");
    });
}

#[test]
fn scans_meet_every_record_of_the_lanes_asked_for_and_no_other() {
    let store = peered_with(3, |config| config.shards = 2);
    for n in 0..3_000u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 20), at(0)).unwrap();
        if n % 3 == 0 {
            delete(&store, &n.to_be_bytes(), at(0)).unwrap();
        }
    }
    let other = peered(4);
    for (key, (record, bytes)) in known(&store, at(0)) {
        other.merge(&key, &record, &bytes, at(0));
    }
    assert_eq!(known(&other, at(0)).len(), 3_000);
    let changed: [u32; 4] = [1, 500, 1_000, 2_000];
    for n in changed {
        set(&store, &n.to_be_bytes(), b"changed", at(0)).unwrap();
    }
    fetch(
        &store,
        &4u32.to_be_bytes(),
        &Fetch { touch: Some(in_seconds(9)), ..Fetch::default() },
        at(0),
    )
    .unwrap();
    let lanes = store.digest(at(0)).differing(&other.digest(at(0)));
    let expected: BTreeSet<Vec<u8>> = (0..3_000u32)
        .map(|n| n.to_be_bytes().to_vec())
        .filter(|key| lanes.has(digest_hash(key)))
        .collect();
    assert!(changed.iter().chain(&[4]).all(|n| expected.contains(&n.to_be_bytes()[..])));
    assert!(expected.len() < 300, "{}", expected.len());
    let (mut met, mut cursor) = (BTreeSet::new(), Some(RecordCursor::default()));
    while let Some(from) = cursor {
        let mut records = Records::default();
        cursor = store.list_records(&from, lanes, 64, at(0), &mut records);
        assert!(records.iter().all(|met| met.value.is_none()));
        met.extend(records.iter().map(|met| met.key.to_vec()));
    }
    assert_eq!(met, expected);
    assert_eq!(Lanes::from_bits(lanes.to_bits()), lanes);
}

#[test]
fn a_digest_is_of_what_is_live_and_is_sent_as_256_pairs() {
    let store = peered(3);
    let empty = store.digest(at(0));
    set_until(&store, b"k", b"v", in_seconds(5), at(0)).unwrap();
    let full = store.digest(at(0));
    assert_ne!(full, empty);
    assert_eq!(store.digest(at(5)), empty, "expired, though still held");
    assert_eq!(Digest::from_lanes(full.lanes()), Some(full.clone()));
    assert_eq!(Digest::from_lanes(&full.lanes()[1..]), None);
    delete(&store, b"k", at(0)).unwrap();
    assert_eq!(store.digest(at(0)), empty);
}

/// What a list tells of the one key of a store.
fn listed_content(store: &Store) -> u32 {
    let mut records = Records::default();
    let mut cursor = Some(RecordCursor::default());
    while let Some(from) = cursor {
        cursor = store.list_records(&from, Lanes::ALL, 1 << 20, at(0), &mut records);
    }
    let contents: Vec<u32> = records.iter().map(|met| met.content).collect();
    assert_eq!(contents.len(), 1);
    contents[0]
}

#[test]
fn two_contents_of_one_version_are_told_apart_by_digests_and_lists() {
    let plain = Record {
        kind: Kind::Value,
        flags: 7,
        ..Record::lost(Version(1 << 40 | 3), Version(1 << 40 | 3))
    };
    let long = vec![1; 200_000];
    let mut longer_end = long.clone();
    longer_end[199_999] = 2;
    let contents: [(Record, &[u8]); 7] = [
        (plain, b"one"),
        (plain, b"two"),
        (Record { flags: 8, ..plain }, b"one"),
        (Record { stale: true, ..plain }, b"one"),
        (Record { expiry: in_seconds(9), ..plain }, b"one"),
        (plain, &long),
        (plain, &longer_end),
    ];
    let mut seen = BTreeSet::new();
    for (record, value) in contents {
        let [one, other] = [peered(4), peered(5)];
        assert_eq!(one.merge(b"k", &record, value, at(0)), Merged::Applied);
        assert_eq!(other.merge(b"k", &record, value, at(0)), Merged::Applied);
        assert_eq!(one.digest(at(0)), other.digest(at(0)), "the same content");
        assert_eq!(listed_content(&one), listed_content(&other));
        let sums = one.digest(at(0)).lanes().to_vec();
        assert!(seen.insert((listed_content(&one), sums)), "{record:?}");
    }
}

#[test]
fn a_long_value_is_summed_alike_however_it_was_put_together() {
    let [writer, reader] = [peered(4), peered(5)];
    set(&writer, b"k", &[1; 100_000], at(0)).unwrap();
    let append = Write::new(Mode::Append, &[2; 150_000], 0, Expiry::NEVER);
    writer.write(writer.key(b"k"), &append, at(0)).unwrap();
    let mut value = Vec::new();
    let record = writer.record(b"k", at(0), &mut value).unwrap();
    assert_eq!(value.len(), 250_000);
    reader.merge(b"k", &record, &value, at(0));
    assert_eq!(reader.digest(at(0)), writer.digest(at(0)));
}

#[test]
fn a_digest_for_a_moment_to_come_flushes_nothing_but_leaves_out_what_is_flushed() {
    let store = peered(3);
    set(&store, b"k", b"v", at(0)).unwrap();
    let full = store.digest(at(0));
    store.flush_all_at(UnixSeconds(START + 5), at(0));
    assert_eq!(store.digest(at(10)), full);
    assert!(get(&store, b"k", at(0)).is_some());
    let flushed = Flushes { watermark: store.mutations().unwrap().latest(), pending: None };
    store.merge_flushes(&flushed);
    assert_eq!(store.digest(at(0)), Digest::default());
}

#[test]
fn an_item_costs_at_most_fifty_bytes_with_peers_and_no_more_than_before_without() {
    for (store, at_most) in [(peered(3), 50), (store(16 << 20), 42)] {
        let items = 20_000u32;
        for n in 0..items {
            let key = format!("{n:032}");
            set(&store, key.as_bytes(), &value_of(n, 0, 300), at(0)).unwrap();
        }
        let counters = store.counters();
        assert_eq!(counters.curr_items, u64::from(items));
        let taken = counters.bytes + counters.hash_bytes;
        let overhead = taken / u64::from(items) - 332;
        assert!(overhead <= at_most, "{overhead} bytes an item");
    }
}

#[test]
fn clients_peers_and_flushes_at_once_leave_a_store_that_adds_up() {
    let store = peered_with(3, |config| (config.memory_limit, config.shards) = (16 << 20, 2));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                let mut dice = Dice(thread + 7);
                for n in 0..4_000u32 {
                    let key = dice.roll(300).to_be_bytes();
                    let bytes = value_of(n, 0, [10, 500, 30_000, 200_000][dice.roll(4) as usize]);
                    let latest = store.mutations().unwrap().latest();
                    let version = Version(latest.0 + u64::from(dice.roll(1_000)));
                    let news = Record { version, touched: version, ..value(1) };
                    match dice.roll(12) {
                        0..4 => drop(store.merge(&key, &news, &bytes, at(n / 100))),
                        4 => drop(store.merge(&key, &Record::deleted(version), b"", at(n / 100))),
                        5 => drop(delete(store, &key, at(n / 100))),
                        6 => drop(store.scan_records(
                            &RecordCursor::default(),
                            Lanes::ALL,
                            10_000,
                            at(n / 100),
                            &mut Records::default(),
                        )),
                        7 if n % 200 == 0 => store.flush_all(at(n / 100)),
                        7 => drop(store.digest(at(n / 100))),
                        8 => drop(get(store, &key, at(n / 100))),
                        _ => drop(set_until(store, &key, &bytes, in_seconds(n / 50), at(n / 100))),
                    }
                }
            });
        }
    });
    store.check();
    purge(&store, at(100));
    store.check();
}

#[test]
fn a_wiped_store_holds_nothing_but_what_stays_on_the_node_and_remembers_nothing() {
    let store = peered_with(3, |config| {
        let replicated = config.replication.as_mut().unwrap();
        replicated.local_keys = KeyPatterns::new(&["*.lock".to_owned()]);
    });
    for n in 0..2_000 {
        set(&store, format!("k{n}").as_bytes(), &[b'v'; 300], at(0)).unwrap();
    }
    set(&store, b"large", &vec![b'v'; 100_000], at(0)).unwrap();
    set(&store, b"k.lock", b"1", at(0)).unwrap();
    delete(&store, b"k7", at(0)).unwrap();
    let (last, read) =
        (store.mutations().unwrap().last(), Fetch { value: true, ..Fetch::default() });
    assert_eq!(store.wipe(at(1)), 2_000);
    assert_eq!(store.counters().curr_items, 1);
    assert!(fetch(&store, b"k.lock", &read, at(1)).is_ok());
    assert_eq!(store.floor_counters(), FloorCounters::default());
    assert!(known(&store, at(1)).is_empty());
    assert_eq!(store.mutations().unwrap().last(), last, "nobody is told");
    set(&store, b"k1", b"again", at(1)).unwrap();
    assert_eq!(known(&store, at(1)).len(), 1);
}
