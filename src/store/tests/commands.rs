//! What commands mean where the model is silent: meta variations, `-C`, chosen versions, counters.

use super::*;

fn meta_set(
    store: &Store,
    value: &[u8],
    compare: u64,
    invalidate: bool,
) -> Result<Stored, Refusal> {
    let write = Write {
        compare: Some(Version(compare)),
        invalidate,
        ..Write::new(Mode::Set, value, 0, in_seconds(500))
    };
    store.write(store.key(b"k"), &write, at(0))
}

#[test]
fn the_first_reader_of_a_stale_item_wins_and_the_next_are_told_so() {
    let store = store(8 << 20);
    set_until(&store, b"k", b"old", in_seconds(100), at(0)).unwrap();
    let stale = Delete { mark_stale: true, touch: Some(in_seconds(30)), ..Delete::default() };
    store.delete(store.key(b"k"), &stale, at(0)).unwrap();
    let plain = Fetch { value: true, ..Fetch::default() };
    let (found, _) = fetch(&store, b"k", &plain, at(1)).unwrap();
    assert!(found.stale && !found.won, "a plain get takes no token");
    let meta = Fetch { recache: true, ..plain };
    let (found, value) = fetch(&store, b"k", &meta, at(1)).unwrap();
    assert!(found.stale && found.won && !found.token_sent);
    assert_eq!((found.expiry, &value[..]), (in_seconds(30), &b"old"[..]));
    let (found, _) = fetch(&store, b"k", &meta, at(1)).unwrap();
    assert!(found.stale && !found.won && found.token_sent);
    set(&store, b"k", b"new", at(2)).unwrap();
    let (found, _) = fetch(&store, b"k", &meta, at(2)).unwrap();
    assert!(!found.stale && !found.won && !found.token_sent, "a store clears both marks");
}

#[test]
fn the_token_goes_to_one_reader_when_little_time_is_left() {
    let store = store(8 << 20);
    set_until(&store, b"k", b"v", in_seconds(40), at(0)).unwrap();
    let meta = Fetch { recache_below: Some(30), ..Fetch::default() };
    assert!(!fetch(&store, b"k", &meta, at(10)).unwrap().0.won, "30 left are not fewer than 30");
    assert!(fetch(&store, b"k", &meta, at(11)).unwrap().0.won);
    assert!(!fetch(&store, b"k", &meta, at(11)).unwrap().0.won);
    set(&store, b"for ever", b"v", at(0)).unwrap();
    assert!(!fetch(&store, b"for ever", &meta, at(11)).unwrap().0.won);
}

#[test]
fn an_unbumped_winner_leaves_nothing_but_the_token() {
    let store = store(8 << 20);
    set_until(&store, b"k", b"v", in_seconds(10), at(0)).unwrap();
    let meta = Fetch { recache_below: Some(30), no_bump: true, ..Fetch::default() };
    assert!(fetch(&store, b"k", &meta, at(5)).unwrap().0.won);
    let (found, _) = fetch(&store, b"k", &meta, at(6)).unwrap();
    assert!(found.token_sent && !found.fetched && found.idle == 6);
}

#[test]
fn an_older_version_may_invalidate_and_a_newer_may_not() {
    let store = store(8 << 20);
    let stored = set_until(&store, b"k", b"one", in_seconds(100), at(0)).unwrap();
    let version = stored.version.0;
    assert_eq!(meta_set(&store, b"two", version + 1, true), Err(Refusal::Exists));
    assert_eq!(meta_set(&store, b"two", version - 1, false), Err(Refusal::Exists));
    assert_eq!(meta_set(&store, b"two", 0, true), Err(Refusal::Exists), "0 is no version");
    meta_set(&store, b"two", version - 1, true).unwrap();
    let meta = Fetch { value: true, recache: true, ..Fetch::default() };
    let (found, value) = fetch(&store, b"k", &meta, at(0)).unwrap();
    assert_eq!(value, b"two");
    assert!(found.stale && found.won);
    assert_eq!(found.expiry, in_seconds(100), "an invalidated item keeps its expiry");
    let stored = meta_set(&store, b"three", found.version.0, true).unwrap();
    let (found, _) = fetch(&store, b"k", &meta, at(0)).unwrap();
    assert!(!found.stale, "the right version stores without a mark");
    assert_eq!((found.expiry, found.version), (in_seconds(500), stored.version));
}

#[test]
fn a_missing_item_is_vivified_once_and_its_maker_wins() {
    let store = store(8 << 20);
    let meta = Fetch {
        value: true,
        vivify: Some(in_seconds(30)),
        new_version: Some(Version(17)),
        binary_key: true,
        recache: true,
        ..Fetch::default()
    };
    let (found, value) = fetch(&store, b"k", &meta, at(0)).unwrap();
    assert!(found.vivified && found.won && !found.token_sent && found.binary_key);
    assert_eq!((found.version, value.len()), (Version(17), 0));
    let (found, _) = fetch(&store, b"k", &meta, at(0)).unwrap();
    assert!(!found.vivified && !found.won && found.token_sent);
    assert_eq!(get(&store, b"k", at(30)), None);
}

#[test]
fn append_creates_only_when_told_to() {
    let store = store(8 << 20);
    assert_eq!(write(&store, Mode::Append, b"k", b"a", at(0)), Err(Refusal::NotStored));
    let vivifying =
        Write { vivify: Some(in_seconds(5)), ..Write::new(Mode::Append, b"a", 3, Expiry::NEVER) };
    store.write(store.key(b"k"), &vivifying, at(0)).unwrap();
    store.write(store.key(b"k"), &Write { value: b"b", flags: 9, ..vivifying }, at(0)).unwrap();
    let (found, value) =
        fetch(&store, b"k", &Fetch { value: true, ..Fetch::default() }, at(0)).unwrap();
    assert_eq!((found.flags, found.expiry, &value[..]), (3, in_seconds(5), &b"ab"[..]));
}

#[test]
fn a_value_is_left_out_for_a_reader_who_has_it() {
    let store = store(8 << 20);
    let stored = set(&store, b"k", b"value", at(0)).unwrap();
    let has = |version| Fetch { value: true, unless_version: Some(version), ..Fetch::default() };
    assert_eq!(fetch(&store, b"k", &has(stored.version), at(0)).unwrap().1, b"");
    assert_eq!(fetch(&store, b"k", &has(Version(1)), at(0)).unwrap().1, b"value");
}

#[test]
fn a_chosen_version_of_zero_lives_until_the_next_flush_and_no_longer() {
    let store = store(8 << 20);
    let chosen =
        Write { new_version: Some(Version(0)), ..Write::new(Mode::Set, b"v", 0, Expiry::NEVER) };
    store.flush_all(at(0));
    assert_eq!(store.write(store.key(b"k"), &chosen, at(0)).unwrap().version, Version(0));
    assert_eq!(get(&store, b"k", at(0)), Some(b"v".to_vec()));
    store.flush_all(at(0));
    assert_eq!(get(&store, b"k", at(0)), None);
    let far_ahead = Write { new_version: Some(Version(u64::MAX)), ..chosen };
    store.write(store.key(b"k"), &far_ahead, at(0)).unwrap();
    set(&store, b"other", b"v", at(0)).unwrap();
    store.flush_all(at(0));
    assert_eq!(get(&store, b"k", at(0)), None, "a version from the future is flushed as well");
    assert!(set(&store, b"k", b"v", at(0)).unwrap().version < Version(1 << 63));
}

#[test]
fn without_cas_versions_are_hidden_and_never_match() {
    let store = Store::new(StoreConfig { cas: false, ..config(8 << 20) });
    let stored = set(&store, b"k", b"v", at(0)).unwrap();
    assert_eq!(stored.version, Version(0));
    assert_eq!(stored.size, crate::item::size_of(1, 1, 0, false));
    let cas = |compare| {
        let write =
            Write { compare: Some(compare), ..Write::new(Mode::Set, b"w", 0, Expiry::NEVER) };
        store.write(store.key(b"k"), &write, at(0))
    };
    assert_eq!(cas(Version(0)), Err(Refusal::Exists));
    assert_eq!(cas(Version(1)), Err(Refusal::Exists));
    let deleted = Delete { compare: Some(Version(0)), ..Delete::default() };
    assert_eq!(store.delete(store.key(b"k"), &deleted, at(0)), Err(Refusal::Exists));
    assert_eq!(get(&store, b"k", at(0)), Some(b"v".to_vec()));
}

#[test]
fn a_number_keeps_its_length_in_spaces_and_grows_when_it_must() {
    let store = store(8 << 20);
    let count = |delta, up| {
        let arithmetic = Arithmetic { delta, up, ..Arithmetic::default() };
        store.arithmetic(store.key(b"n"), &arithmetic, at(0)).map(|counted| counted.number)
    };
    assert_eq!(count(1, true), Err(Refusal::NotFound));
    set(&store, b"n", b"10", at(0)).unwrap();
    assert_eq!(count(1, false), Ok(9));
    assert_eq!(get(&store, b"n", at(0)), Some(b"9 ".to_vec()));
    assert_eq!(count(u64::MAX - 9, true), Ok(u64::MAX));
    assert_eq!(count(1, true), Ok(0));
    assert_eq!(get(&store, b"n", at(0)), Some(b"0                   ".to_vec()));
    assert_eq!(count(5, false), Ok(0));
    set(&store, b"n", b"five", at(0)).unwrap();
    assert_eq!(count(1, true), Err(Refusal::NotANumber));
    set(&store, b"n", &[b'1'; 9000], at(0)).unwrap();
    assert_eq!(count(1, true), Err(Refusal::NotANumber));
}

#[test]
fn a_touch_changes_the_expiry_and_not_the_version() {
    let store = store(8 << 20);
    let stored = set_until(&store, b"k", b"v", in_seconds(5), at(0)).unwrap();
    let touch = Fetch { touch: Some(in_seconds(50)), ..Fetch::default() };
    let (found, _) = fetch(&store, b"k", &touch, at(3)).unwrap();
    assert_eq!((found.expiry, found.version, found.idle), (in_seconds(50), stored.version, 3));
    assert!(get(&store, b"k", at(49)).is_some());
    assert!(get(&store, b"k", at(50)).is_none());
}

#[test]
fn every_change_but_touch_gives_a_later_version() {
    let store = store(8 << 20);
    let mut last = set(&store, b"k", b"1", at(0)).unwrap().version;
    let mut later = |version: Version| {
        assert!(version > last);
        last = version;
    };
    later(set(&store, b"k", b"1", at(0)).unwrap().version);
    later(write(&store, Mode::Append, b"k", b"1", at(0)).unwrap().version);
    later(write(&store, Mode::Prepend, b"k", b"1", at(0)).unwrap().version);
    later(write(&store, Mode::Replace, b"k", b"1", at(0)).unwrap().version);
    let up = Arithmetic { delta: 1, up: true, ..Arithmetic::default() };
    later(store.arithmetic(store.key(b"k"), &up, at(0)).unwrap().found.version);
    let stale = Delete { mark_stale: true, ..Delete::default() };
    store.delete(store.key(b"k"), &stale, at(0)).unwrap();
    later(fetch(&store, b"k", &Fetch::default(), at(0)).unwrap().0.version);
    let clear = Delete { clear_value: true, ..Delete::default() };
    store.delete(store.key(b"k"), &clear, at(0)).unwrap();
    later(fetch(&store, b"k", &Fetch::default(), at(0)).unwrap().0.version);
}

#[test]
fn a_refused_set_leaves_no_old_value_and_other_refusals_do() {
    let store = store(8 << 20);
    let huge = vec![b'x'; 1 << 20];
    for mode in [Mode::Add, Mode::Replace] {
        set(&store, b"k", b"v", at(0)).unwrap();
        assert_eq!(write(&store, mode, b"k", &huge, at(0)), Err(Refusal::TooLarge));
        assert!(get(&store, b"k", at(0)).is_some());
    }
    let version = set(&store, b"k", b"v", at(0)).unwrap().version;
    let cas = Write { compare: Some(version), ..Write::new(Mode::Set, &huge, 0, Expiry::NEVER) };
    assert_eq!(store.write(store.key(b"k"), &cas, at(0)), Err(Refusal::TooLarge));
    assert!(get(&store, b"k", at(0)).is_some());
    assert_eq!(set(&store, b"k", &huge, at(0)), Err(Refusal::TooLarge));
    assert!(get(&store, b"k", at(0)).is_none());
    let most = vec![b'x'; (1 << 20) - crate::item::size_of(1, 0, 0, true)];
    assert_eq!(set(&store, b"k", &most, at(0)).unwrap().size, 1 << 20);
    assert_eq!(write(&store, Mode::Append, b"k", b"x", at(0)), Err(Refusal::NotStored));
    assert_eq!(get(&store, b"k", at(0)), Some(most));
}

#[test]
fn counters_count_by_class_and_start_anew_while_gauges_stay() {
    let store = store(8 << 20);
    set_until(&store, b"a", b"1", in_seconds(5), at(0)).unwrap();
    set(&store, b"b", &[b'x'; 5000], at(0)).unwrap();
    set(&store, b"a", b"2", at(0)).unwrap();
    get(&store, b"a", at(3));
    let up = Arithmetic { delta: 1, up: true, ..Arithmetic::default() };
    store.arithmetic(store.key(b"a"), &up, at(3)).unwrap();
    delete(&store, b"b", at(3)).unwrap();
    let classes = store.classes(at(7));
    let (small, counters) = classes[0];
    assert_eq!((small, counters.number, counters.cmd_set), (1, 1, 2));
    assert_eq!((counters.incr_hits, counters.age), (1, 4));
    assert_eq!(counters.mem_requested, crate::item::size_of(1, 1, 0, true) as u64);
    assert_eq!((classes[1].1.number, classes[1].1.delete_hits), (0, 1));
    let counters = store.counters();
    assert_eq!((counters.curr_items, counters.total_items), (1, 3));
    assert!(counters.bytes > 0 && counters.hash_power_level >= 6);
    assert_eq!(store.sizes(), vec![(64, 1)]);
    store.reset_counters();
    assert_eq!(store.counters(), StoreCounters { total_items: 0, ..counters });
    assert_eq!(store.classes(at(7)).len(), 1);
}
