//! Items whose time is over: expired and flushed ones, and the memory they leave.

use super::*;

#[test]
fn an_expired_item_is_a_miss_that_says_so() {
    let store = store(8 << 20);
    set_until(&store, b"k", b"v", in_seconds(5), at(0)).unwrap();
    assert!(fetch(&store, b"k", &Fetch::default(), at(4)).is_ok());
    assert_eq!(fetch(&store, b"k", &Fetch::default(), at(5)).unwrap_err(), Miss::Expired);
    assert_eq!(fetch(&store, b"k", &Fetch::default(), at(5)).unwrap_err(), Miss::NotFound);
    set_until(&store, b"past", b"v", Expiry::PAST, at(5)).unwrap();
    assert_eq!(fetch(&store, b"past", &Fetch::default(), at(5)).unwrap_err(), Miss::Expired);
    store.check();
}

#[test]
fn a_flush_takes_what_was_stored_before_it_even_in_the_same_second() {
    let store = store(8 << 20);
    set(&store, b"before", b"v", at(0)).unwrap();
    store.flush_all(at(0));
    set(&store, b"after", b"v", at(0)).unwrap();
    assert_eq!(fetch(&store, b"before", &Fetch::default(), at(0)).unwrap_err(), Miss::Flushed);
    assert!(get(&store, b"after", at(0)).is_some());
    store.check();
}

#[test]
fn a_delayed_flush_takes_all_that_was_stored_before_its_second() {
    let store = store(8 << 20);
    set(&store, b"a", b"v", at(0)).unwrap();
    store.flush_all_at(UnixSeconds(START + 5), at(0));
    set(&store, b"b", b"v", at(2)).unwrap();
    assert!(get(&store, b"a", at(4)).is_some());
    set(&store, b"c", b"v", at(5)).unwrap();
    assert!(get(&store, b"a", at(5)).is_none());
    assert!(get(&store, b"b", at(5)).is_none());
    assert!(get(&store, b"c", at(5)).is_some());
    store.flush_all_at(UnixSeconds(START + 8), at(5));
    store.flush_all_at(UnixSeconds(START + 20), at(5));
    assert!(get(&store, b"c", at(9)).is_some(), "a later call replaces a pending one");
    store.check();
}

#[test]
fn a_delayed_flush_that_is_due_is_not_undone_by_the_next_one() {
    let store = store(64 << 20);
    for n in 0..100u32 {
        set(&store, &n.to_be_bytes(), b"v", at(0)).unwrap();
    }
    store.flush_all_at(UnixSeconds(START + 1), at(0));
    store.flush_all_at(UnixSeconds(START + 9), at(2));
    assert_eq!(all_keys(&store, at(2)), Vec::<Vec<u8>>::new());
}

#[test]
fn the_sweep_gives_back_memory_without_being_asked_to() {
    let store = store(16 << 20);
    for n in 0..20_000u32 {
        let expiry = if n % 2 == 0 { in_seconds(10) } else { Expiry::NEVER };
        set_until(&store, &n.to_be_bytes(), &value_of(n, 0, 300), expiry, at(0)).unwrap();
    }
    let before = store.counters();
    sweep(&store, at(9));
    assert_eq!(store.counters().curr_items, 20_000);
    sweep(&store, at(10));
    let after = store.counters();
    assert_eq!((after.curr_items, after.crawler_reclaimed), (10_000, 10_000));
    assert_eq!(after.crawler_items_checked, 20_000);
    assert!(after.bytes < before.bytes * 11 / 20);
    assert_eq!(store.sweep(at(10)), Sweep::Idle);
    store.check();
}

#[test]
fn items_that_expire_one_by_one_are_gone_a_second_later_and_are_not_walked_over_every_second() {
    let store = store(16 << 20);
    let (a_second, seconds) = (100, 30);
    for n in 0..a_second * seconds {
        let expiry = in_seconds(1 + n % seconds);
        set_until(&store, &n.to_be_bytes(), &value_of(n, 0, 300), expiry, at(0)).unwrap();
    }
    let mut items_there_were = 0;
    for second in 1..=seconds + 1 {
        items_there_were += store.counters().curr_items;
        sweep(&store, at(second));
        let due_before = a_second * (second - 1);
        assert!(store.counters().curr_items <= u64::from(a_second * seconds - due_before));
    }
    let walked = store.counters().crawler_items_checked;
    assert!(walked < items_there_were * 2 / 3, "{walked} of {items_there_were}");
    assert_eq!(store.counters().curr_items, 0);
    store.check();
}

#[test]
fn after_a_flush_and_a_sweep_no_byte_is_left_counted() {
    let store = store(16 << 20);
    let mut dice = Dice(7);
    for n in 0..30_000u32 {
        let key = (n % 5_000).to_be_bytes();
        let len = dice.roll(if n % 100 == 0 { 50_000 } else { 900 }) as usize;
        match dice.roll(10) {
            0 => drop(delete(&store, &key, at(n / 1000))),
            1 => drop(write(&store, Mode::Append, &key, &value_of(n, 0, len), at(n / 1000))),
            _ => drop(set(&store, &key, &value_of(n, 0, len), at(n / 1000))),
        }
    }
    store.check();
    assert!(store.counters().bytes > 0);
    store.flush_all(at(30));
    sweep(&store, at(30));
    store.check();
    let counters = store.counters();
    assert_eq!((counters.bytes, counters.curr_items), (0, 0));
}

#[test]
fn an_expired_item_is_reclaimed_before_a_live_one_is_evicted() {
    let store = store(64 << 20);
    let live = 40_000u32;
    // Expiring and lasting items lie side by side in every segment.
    for n in 0..live {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 500), at(0)).unwrap();
        set_until(&store, &(n + live).to_be_bytes(), b"short", in_seconds(10), at(0)).unwrap();
        set_until(&store, &(n + 2 * live).to_be_bytes(), &[1; 700], in_seconds(10), at(0)).unwrap();
    }
    assert_eq!(store.counters().evictions, 0, "all of it fits");
    // As much again as has expired.
    for n in 0..live {
        set(&store, &(n + 3 * live).to_be_bytes(), &value_of(n, 0, 700), at(20)).unwrap();
    }
    let counters = store.counters();
    assert_eq!(counters.evictions, 0, "{counters:?}");
    assert!(counters.reclaimed > 0);
    for n in 0..live {
        assert_eq!(get(&store, &n.to_be_bytes(), at(20)), Some(value_of(n, 0, 500)));
    }
    store.check();
}

#[test]
fn sessions_that_are_touched_again_and_again_do_not_die_of_old_bounds() {
    let store = store(8 << 20);
    for n in 0..2_000u32 {
        set_until(&store, &n.to_be_bytes(), &[1; 200], in_seconds(10), at(0)).unwrap();
    }
    for second in 1..60 {
        for n in 0..1_000u32 {
            let touch = Fetch { touch: Some(in_seconds(second + 10)), ..Fetch::default() };
            assert!(fetch(&store, &n.to_be_bytes(), &touch, at(second)).is_ok());
        }
        sweep(&store, at(second));
    }
    assert_eq!(store.counters().curr_items, 1_000);
    sweep(&store, at(80));
    assert_eq!(store.counters().curr_items, 0);
}
