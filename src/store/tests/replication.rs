//! What a store with peers logs, remembers and tells.

use std::collections::BTreeMap;

use super::*;

/// A store of the node `node` that has peers, none of which has applied anything.
pub(super) fn peered(node: u8) -> Store {
    peered_with(node, |_| {})
}

pub(super) fn peered_with(node: u8, change: impl FnOnce(&mut StoreConfig)) -> Store {
    let replication = Some(Replicated {
        local_keys: KeyPatterns::new(["*.lock"]),
        log_bytes: 1 << 20,
        ..Replicated::default()
    });
    let mut config = StoreConfig { node, replication, shards: 2, ..config(16 << 20) };
    change(&mut config);
    Store::new(config)
}

/// Has the part of its configuration changed that is about peers.
fn replicated(config: &mut StoreConfig, change: impl FnOnce(&mut Replicated)) {
    change(config.replication.as_mut().unwrap());
}

/// All that a store knows, floors included, by a scan in small steps.
pub(super) fn known(store: &Store, now: Now) -> BTreeMap<Vec<u8>, (Record, Vec<u8>)> {
    let mut known = BTreeMap::new();
    let mut cursor = Some(RecordCursor::default());
    while let Some(from) = cursor {
        let mut records = Records::default();
        cursor = store.scan_records(&from, Lanes::ALL, 100, now, &mut records);
        for met in records.iter() {
            let mut value = Vec::new();
            assert_eq!(store.record(met.key, now, &mut value), Some(met.record));
            assert!(met.value.is_none_or(|told| told == value));
            let is_short = met.record.kind == Kind::Value && value.len() <= 16 << 10;
            assert_eq!(met.value.is_some(), is_short);
            assert_eq!(met.hash, digest_hash(met.key));
            known.insert(met.key.to_vec(), (met.record, value));
        }
    }
    known
}

fn record(store: &Store, key: &[u8], now: Now) -> Option<Record> {
    store.record(key, now, &mut Vec::new())
}

fn value(version: u64) -> Record {
    Record { kind: Kind::Value, ..Record::lost(Version(version), Version(version)) }
}

/// Everything logged after `after`.
fn logged(store: &Store, after: Version) -> Vec<(Version, Mutation, Vec<u8>)> {
    let mut entries = Entries::default();
    let read = store.mutations().unwrap().read(after, usize::MAX, at(0), &mut entries);
    assert!(matches!(read, Read::CaughtUp(_)), "{read:?}");
    entries.iter().map(|entry| (entry.version, entry.mutation, entry.key.to_vec())).collect()
}

/// What `act` had logged, without versions.
fn logs(store: &Store, act: impl FnOnce()) -> Vec<(Mutation, Vec<u8>)> {
    let before = store.mutations().unwrap().latest();
    act();
    logged(store, before).into_iter().map(|(_, mutation, key)| (mutation, key)).collect()
}

fn touch(store: &Store, key: &[u8], expiry: Expiry, now: Now) {
    fetch(store, key, &Fetch { touch: Some(expiry), ..Fetch::default() }, now).unwrap();
}

#[test]
fn every_change_by_a_client_is_logged_once_and_under_its_version() {
    let store = peered(3);
    let put = vec![(Mutation::Put, b"k".to_vec())];
    let deleted = vec![(Mutation::Deleted, b"k".to_vec())];
    let large = vec![b'x'; 100_000];
    for (mode, piece) in [
        (Mode::Add, &b"1"[..]),
        (Mode::Set, b"2"),
        (Mode::Replace, b"3"),
        (Mode::Append, b"4"),
        (Mode::Prepend, b"5"),
        (Mode::Set, &large),
        (Mode::Append, &large),
        (Mode::Set, b"7"),
    ] {
        let logged = logs(&store, || assert!(write(&store, mode, b"k", piece, at(0)).is_ok()));
        assert_eq!(logged, put, "{mode:?}");
    }
    let key = store.key(b"k");
    let count = Arithmetic { delta: 1, up: true, ..Arithmetic::default() };
    assert_eq!(logs(&store, || assert!(store.arithmetic(key, &count, at(0)).is_ok())), put);
    let base = record(&store, b"k", at(0)).unwrap().version;
    let touched = logs(&store, || touch(&store, b"k", in_seconds(9), at(0)));
    assert_eq!(touched, [(Mutation::Touched { base }, b"k".to_vec())]);
    let told = record(&store, b"k", at(0)).unwrap();
    assert_eq!(told.version, base, "a touch leaves the version alone");
    assert_eq!(told.touched, store.mutations().unwrap().last());
    let stale = Delete { mark_stale: true, ..Delete::default() };
    assert_eq!(logs(&store, || assert!(store.delete(key, &stale, at(0)).is_ok())), put);
    assert!(record(&store, b"k", at(0)).unwrap().stale);
    let clear = Delete { clear_value: true, ..Delete::default() };
    assert_eq!(logs(&store, || assert!(store.delete(key, &clear, at(0)).is_ok())), put);
    assert_eq!(logs(&store, || assert!(delete(&store, b"k", at(0)).is_ok())), deleted);
    let vivify = Fetch { vivify: Some(Expiry::NEVER), ..Fetch::default() };
    assert_eq!(logs(&store, || assert!(fetch(&store, b"k", &vivify, at(0)).is_ok())), put);
    let too_large = vec![0; 2 << 20];
    let logged = logs(&store, || assert!(set(&store, b"k", &too_large, at(0)).is_err()));
    assert_eq!(logged, deleted, "the old value must not stay anywhere");
    set(&store, b"k", b"", at(0)).unwrap();
    assert_eq!(logs(&store, || store.discard(key, at(0))), deleted);
    let create = Arithmetic { initial: Some((5, Expiry::NEVER)), ..count };
    assert_eq!(logs(&store, || assert!(store.arithmetic(key, &create, at(0)).is_ok())), put);
    let flushed = logs(&store, || store.flush_all(at(0)));
    assert_eq!(flushed, [(Mutation::Flush, Vec::new())]);
    store.check();
}

#[test]
fn what_changes_nothing_or_only_here_is_not_logged() {
    let store = peered(3);
    set_until(&store, b"expires", b"v", in_seconds(5), at(0)).unwrap();
    set(&store, b"evicted", b"v", at(0)).unwrap();
    set(&store, b"k", b"text", at(0)).unwrap();
    let key = store.key(b"k");
    let logged = logs(&store, || {
        assert!(get(&store, b"k", at(0)).is_some());
        assert!(get(&store, b"expires", at(9)).is_none());
        assert!(store.evict_for_test(b"evicted", at(9)));
        assert!(delete(&store, b"absent", at(9)).is_err());
        store.discard(store.key(b"absent"), at(9));
        assert!(write(&store, Mode::Add, b"k", b"", at(9)).is_err());
        assert!(write(&store, Mode::Append, b"absent", b"", at(9)).is_err());
        assert!(store.arithmetic(key, &Arithmetic::default(), at(9)).is_err());
        let other = Delete { compare: Some(Version(1)), ..Delete::default() };
        assert!(store.delete(key, &other, at(9)).is_err());
        sweep(&store, at(20));
    });
    assert_eq!(logged, []);
}

#[test]
fn local_keys_are_neither_logged_nor_told_nor_taken_in() {
    let store = peered(3);
    let logged = logs(&store, || {
        set(&store, b"a.lock", b"1", at(0)).unwrap();
        touch(&store, b"a.lock", in_seconds(5), at(0));
        set(&store, b"b.lock", b"1", at(0)).unwrap();
        delete(&store, b"b.lock", at(0)).unwrap();
    });
    assert_eq!(logged, []);
    assert_eq!(known(&store, at(0)), BTreeMap::new());
    assert_eq!(record(&store, b"a.lock", at(0)), None);
    assert_eq!(store.digest(at(0)), peered(4).digest(at(0)));
    let local = Merged::Refused(Refused::Local);
    assert_eq!(store.merge(b"c.lock", &value(u64::MAX >> 1), b"", at(0)), local);
    assert_eq!(store.merge(b"a.lock", &Record::deleted(Version(u64::MAX >> 1)), b"", at(0)), local);
    let touched = store.merge_touch(b"a.lock", Version(1), Version(2), Expiry::NEVER, at(0));
    assert_eq!(touched, local);
    assert_eq!(get(&store, b"a.lock", at(0)), Some(b"1".to_vec()));
    assert_eq!(get(&store, b"a.lock", at(5)), None);
    assert_eq!(store.floor_counters(), FloorCounters::default());
}

#[test]
fn an_older_value_that_never_expires_does_not_return_over_one_that_has_expired() {
    let store = peered(3);
    let news = Record { expiry: in_seconds(5), ..value(20) };
    store.merge(b"k", &news, b"new", at(0));
    assert_eq!(get(&store, b"k", at(5)), None);
    assert_eq!(record(&store, b"k", at(5)), Some(news.gone()));
    assert_eq!(store.merge(b"k", &value(10), b"old", at(5)), Merged::Older);
    assert_eq!(get(&store, b"k", at(5)), None);
    assert_eq!(store.merge(b"k", &value(30), b"newer", at(5)), Merged::Applied);
    assert_eq!(get(&store, b"k", at(5)), Some(b"newer".to_vec()));
    store.check();
}

#[test]
fn an_older_value_does_not_return_over_one_that_was_evicted_but_that_one_may() {
    let store = peered(3);
    store.merge(b"k", &value(20), b"new", at(0));
    assert!(store.evict_for_test(b"k", at(0)));
    assert_eq!(store.merge(b"k", &value(10), b"old", at(0)), Merged::Older);
    assert_eq!(get(&store, b"k", at(0)), None);
    assert_eq!(store.merge(b"k", &value(20), b"new", at(0)), Merged::Found);
    assert_eq!(get(&store, b"k", at(0)), Some(b"new".to_vec()));
    assert_eq!(store.floor_counters().lost, 0, "the item stands where the floor was");
}

#[test]
fn a_lost_value_is_told_under_its_own_version_and_not_its_touchs() {
    let store = peered(3);
    let set = set(&store, b"k", b"v", at(0)).unwrap().version;
    touch(&store, b"k", in_seconds(5), at(1));
    let touched = store.mutations().unwrap().last();
    assert!(store.evict_for_test(b"k", at(1)));
    let lost = record(&store, b"k", at(1)).unwrap();
    assert_eq!(lost, Record { expiry: in_seconds(5), ..Record::lost(set, touched) });
    let other = peered(4);
    let between = Version(set.0 + 1);
    other.merge(b"k", &Record { version: between, touched: between, ..value(1) }, b"newer", at(1));
    assert_eq!(other.merge(b"k", &lost, b"", at(1)), Merged::Older);
    assert_eq!(get(&other, b"k", at(1)), Some(b"newer".to_vec()));
}

#[test]
fn a_touch_of_an_old_value_does_not_shorten_the_life_of_a_newer_one() {
    let store = peered(3);
    store.merge(b"k", &value(20), b"new", at(0));
    let late = store.merge_touch(b"k", Version(10), Version(30), in_seconds(1), at(0));
    assert_eq!(late, Merged::Older);
    let record = Record { touched: Version(30), expiry: in_seconds(1), ..value(10) };
    assert_eq!(store.merge(b"k", &record, b"old", at(0)), Merged::Older);
    assert_eq!(get(&store, b"k", at(100)), Some(b"new".to_vec()));
}

#[test]
fn a_touch_never_brings_a_deleted_item_back() {
    let store = peered(3);
    store.merge(b"k", &value(10), b"v", at(0));
    assert_eq!(store.merge(b"k", &Record::deleted(Version(20)), b"", at(0)), Merged::Applied);
    let late = store.merge_touch(b"k", Version(10), Version(30), in_seconds(100), at(0));
    assert_eq!(late, Merged::Older);
    let record = Record { touched: Version(30), expiry: in_seconds(100), ..value(10) };
    assert_eq!(store.merge(b"k", &record, b"v", at(0)), Merged::Older);
    assert_eq!(get(&store, b"k", at(0)), None);
    assert_eq!(record_kind(&store, b"k"), Some(Kind::Deleted));
}

fn record_kind(store: &Store, key: &[u8]) -> Option<Kind> {
    record(store, key, at(0)).map(|record| record.kind)
}

#[test]
fn a_touch_of_a_value_that_is_not_held_asks_for_the_record() {
    let store = peered(3);
    let touch = |key: &[u8], base| {
        store.merge_touch(key, Version(base), Version(50), in_seconds(100), at(0))
    };
    assert_eq!(touch(b"absent", 10), Merged::NeedRecord);
    store.merge(b"older", &value(5), b"", at(0));
    assert_eq!(touch(b"older", 10), Merged::NeedRecord);
    store.merge(b"lost", &Record::lost(Version(10), Version(10)), b"", at(0));
    assert_eq!(touch(b"lost", 10), Merged::NeedRecord);
    assert_eq!(touch(b"lost", 9), Merged::Older);
    store.merge(b"deleted", &Record::deleted(Version(5)), b"", at(0));
    assert_eq!(touch(b"deleted", 10), Merged::NeedRecord);
    store.merge(b"held", &Record { expiry: in_seconds(5), ..value(10) }, b"", at(0));
    assert_eq!(touch(b"held", 10), Merged::Applied);
    assert_eq!(touch(b"held", 10), Merged::Same);
    assert!(get(&store, b"held", at(99)).is_some());
    assert!(get(&store, b"held", at(100)).is_none());
}

#[test]
fn a_value_does_not_outlive_a_touch_that_a_loss_tells_of() {
    let expiring = Record { touched: Version(20), expiry: in_seconds(5), ..value(10) };
    let store = peered(3);
    store.merge(b"held", &value(10), b"v", at(0));
    assert_eq!(store.merge(b"held", &expiring.gone(), b"", at(0)), Merged::Applied);
    assert_eq!(store.merge(b"gone", &expiring.gone(), b"", at(0)), Merged::Applied);
    assert_eq!(store.merge(b"gone", &value(10), b"v", at(0)), Merged::Found);
    for key in [b"held", b"gone"] {
        assert_eq!(record(&store, key, at(0)), Some(expiring));
        assert_eq!(get(&store, key, at(4)), Some(b"v".to_vec()));
        assert_eq!(get(&store, key, at(5)), None);
    }
    store.check();
}

#[test]
fn a_late_touch_extends_a_value_that_has_expired_but_is_still_held() {
    let store = peered(3);
    store.merge(b"k", &Record { expiry: in_seconds(5), ..value(10) }, b"v", at(0));
    let touched = store.merge_touch(b"k", Version(10), Version(20), in_seconds(50), at(6));
    assert_eq!(touched, Merged::Applied);
    assert_eq!(get(&store, b"k", at(6)), Some(b"v".to_vec()));
    assert_eq!(get(&store, b"k", at(50)), None);
    sweep(&store, at(50));
    let lost = Record { expiry: in_seconds(50), ..Record::lost(Version(10), Version(20)) };
    assert_eq!(record(&store, b"k", at(50)), Some(lost));
    store.check();
}

#[test]
fn a_merged_value_is_found_with_flags_expiry_version_and_staleness() {
    let (from, to) = (peered(3), peered(4));
    for (key, len) in [(&b"short"[..], 10), (b"long", 12_000), (b"longer", 300_000)] {
        let value = value_of(1, 2, len);
        let write = Write { binary_key: true, ..Write::new(Mode::Set, &value, 77, in_seconds(60)) };
        from.write(from.key(key), &write, at(0)).unwrap();
        let stale = Delete { mark_stale: true, ..Delete::default() };
        from.delete(from.key(key), &stale, at(0)).unwrap();
        let mut value = Vec::new();
        let record = from.record(key, at(0), &mut value).unwrap();
        assert_eq!(to.merge(key, &record, &value, at(0)), Merged::Applied);
        let read = Fetch { value: true, no_bump: true, ..Fetch::default() };
        let (ours, theirs) =
            (fetch(&from, key, &read, at(0)).unwrap(), fetch(&to, key, &read, at(0)).unwrap());
        assert!(ours == theirs, "{:?} {:?}", ours.0, theirs.0);
        assert!(theirs.0.stale && theirs.0.binary_key && theirs.0.flags == 77);
    }
    assert_eq!(from.digest(at(0)), to.digest(at(0)), "whatever the secrets of their hashes");
    to.check();
}

#[test]
fn the_token_of_a_stale_item_stays_on_its_node() {
    let (from, to) = (peered(3), peered(4));
    set(&from, b"k", b"v", at(0)).unwrap();
    let stale = Delete { mark_stale: true, ..Delete::default() };
    from.delete(from.key(b"k"), &stale, at(0)).unwrap();
    let recache = Fetch { recache: true, ..Fetch::default() };
    assert!(fetch(&from, b"k", &recache, at(0)).unwrap().0.won);
    let mut value = Vec::new();
    let record = from.record(b"k", at(0), &mut value).unwrap();
    to.merge(b"k", &record, &value, at(0));
    assert!(fetch(&to, b"k", &recache, at(0)).unwrap().0.won);
    assert!(!fetch(&to, b"k", &recache, at(0)).unwrap().0.won);
    assert_eq!(to.merge(b"k", &record, &value, at(0)), Merged::Same, "and it changes nothing");
}

#[test]
fn a_cas_with_the_version_from_any_node_succeeds_on_any_other_that_has_it() {
    let (from, to) = (peered(3), peered(4));
    let version = set(&from, b"k", b"v", at(0)).unwrap().version;
    touch(&from, b"k", in_seconds(60), at(0));
    let mut value = Vec::new();
    let record = from.record(b"k", at(0), &mut value).unwrap();
    to.merge(b"k", &record, &value, at(0));
    let cas = Write { compare: Some(version), ..Write::new(Mode::Set, b"w", 0, Expiry::NEVER) };
    let swapped = to.write(to.key(b"k"), &cas, at(0)).unwrap();
    assert!(swapped.version > version);
    assert_eq!(to.write(to.key(b"k"), &cas, at(0)), Err(Refusal::Exists));
}

#[test]
fn an_item_too_large_for_this_node_is_remembered_and_takes_the_older_one_with_it() {
    let store = peered_with(3, |config| config.item_size_max = 10_000);
    store.merge(b"k", &value(10), b"old", at(0));
    let large = vec![0; 20_000];
    let refused = Merged::Refused(Refused::TooLarge);
    assert_eq!(store.merge(b"k", &value(20), &large, at(0)), refused);
    assert_eq!(record(&store, b"k", at(0)), Some(Record::lost(Version(20), Version(20))));
    assert_eq!(store.merge(b"k", &value(10), b"old", at(0)), Merged::Older);
    assert_eq!(store.merge(b"k", &value(20), &large, at(0)), refused);
    assert_eq!(store.merge(b"k", &value(30), b"new", at(0)), Merged::Applied);
    assert_eq!(store.merge(b"k", &value(20), &large, at(0)), Merged::Older);
    assert_eq!(get(&store, b"k", at(0)), Some(b"new".to_vec()));
    store.check();
}

#[test]
fn a_record_of_the_value_that_is_held_is_taken_whole_where_there_is_no_room_for_another() {
    let store = peered_with(3, |config| {
        (config.memory_limit, config.shards, config.evictions) = (4 << 20, 1, false);
    });
    let large = vec![7; 200_000];
    assert_eq!(store.merge(b"k", &value(10), &large, at(0)), Merged::Applied);
    let mut n = 100;
    while store.merge(format!("k{n}").as_bytes(), &value(n), &large, at(0)) == Merged::Applied {
        n += 1;
    }
    let record = Record { binary_key: true, ..value(20) };
    assert_eq!(store.merge(b"k", &record, &large, at(0)), Merged::Applied);
    assert_eq!(store.record(b"k", at(0), &mut Vec::new()), Some(record));
}

#[test]
fn without_evictions_an_item_without_room_is_remembered_and_takes_the_older_one_with_it() {
    for len in [3_000, 100_000] {
        let store = peered_with(3, |config| {
            (config.memory_limit, config.shards, config.evictions) = (4 << 20, 1, false);
        });
        store.merge(b"k", &value(10), b"old", at(0));
        let mut n = 100u32;
        let no_room = loop {
            let key = n.to_be_bytes();
            match store.merge(&key, &value(u64::from(n)), &value_of(n, 0, len), at(0)) {
                Merged::Applied => n += 1,
                other => break other,
            }
        };
        assert_eq!(no_room, Merged::Refused(Refused::NoRoom));
        assert_eq!(record_kind(&store, &n.to_be_bytes()), Some(Kind::Lost));
        assert_eq!(store.merge(b"k", &value(20), &vec![1; len], at(0)), no_room);
        assert_eq!(record_kind(&store, b"k"), Some(Kind::Lost));
        assert_eq!(store.merge(b"k", &value(10), b"old", at(0)), Merged::Older);
        store.check();
    }
}

#[test]
fn merging_into_a_full_store_evicts_and_remembers_what_it_evicted() {
    let store = peered_with(3, |config| (config.memory_limit, config.shards) = (4 << 20, 1));
    for n in 0..400u32 {
        let len = if n % 3 == 0 { 60_000 } else { 700 };
        let merged =
            store.merge(&n.to_be_bytes(), &value(u64::from(n) + 1), &value_of(n, 0, len), at(0));
        assert_eq!(merged, Merged::Applied);
        store.check();
    }
    let counters = store.counters();
    assert!(counters.evictions > 50, "{}", counters.evictions);
    assert_eq!(store.floor_counters().lost, counters.evictions);
    for n in 0..400u32 {
        let told = record(&store, &n.to_be_bytes(), at(0)).unwrap();
        assert_eq!(told.version, Version(u64::from(n) + 1), "held or lost, it is known");
    }
}

#[test]
fn the_log_of_four_threads_is_in_order_and_what_is_read_from_it_is_in_the_store() {
    let store = peered_with(3, |config| replicated(config, |peers| peers.log_bytes = 8 << 20));
    let log = store.mutations().unwrap();
    let writes = 5_000;
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                let mut dice = Dice(thread + 1);
                for n in 0..writes {
                    let key = dice.roll(50).to_be_bytes();
                    match dice.roll(4) {
                        0 => drop(delete(store, &key, at(0))),
                        1 => {
                            let touch = Fetch { touch: Some(Expiry::NEVER), ..Fetch::default() };
                            drop(fetch(store, &key, &touch, at(0)));
                        }
                        _ => drop(set(store, &key, &value_of(n, 0, 50), at(0)).unwrap()),
                    }
                }
            });
        }
        let (mut after, mut last, mut read) = (Version(0), Version(0), 0);
        while read < writes {
            let mut entries = Entries::default();
            match log.read(after, 4_096, at(0), &mut entries) {
                Read::More(upto) | Read::CaughtUp(upto) => after = upto,
                Read::Overrun => panic!("the log holds it all"),
            }
            for entry in entries.iter() {
                assert!(entry.version > last && entry.version <= after);
                last = entry.version;
                read += 1;
                let told = record(&store, entry.key, at(0)).unwrap();
                assert!(told.version.max(told.touched) >= entry.version, "{entry:?} {told:?}");
            }
        }
    });
    store.check();
}
