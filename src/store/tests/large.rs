//! Values too long for a slot: pinned, replaced, joined, and competing for memory.

use super::*;

const MIB: usize = 1 << 20;

#[test]
fn a_value_being_read_stays_as_it_was_whatever_happens_to_its_item() {
    let store = store(32 << 20);
    let value = value_of(1, 1, 900_000);
    set(&store, b"k", &value, at(0)).unwrap();
    let held = hold(&store, b"k", at(0));
    set(&store, b"k", &value_of(1, 2, 900_000), at(0)).unwrap();
    assert!(read_all(&held) == value, "replaced");
    let again = hold(&store, b"k", at(0));
    delete(&store, b"k", at(0)).unwrap();
    assert!(read_all(&again) == value_of(1, 2, 900_000), "deleted");
    for n in 0..200u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 900_000), at(0)).unwrap();
    }
    assert!(store.counters().evictions > 0);
    assert!(read_all(&held) == value && read_all(&again) == value_of(1, 2, 900_000), "crowded");
    store.check();
    drop((held, again));
    store.flush_all(at(0));
    sweep(&store, at(0));
    store.check();
    assert_eq!(store.counters().bytes, 0);
}

#[test]
fn one_value_can_be_held_seventy_thousand_times() {
    let store = store(8 << 20);
    let value = value_of(3, 3, 100_000);
    set(&store, b"k", &value, at(0)).unwrap();
    let held: Vec<_> = (0..70_000).map(|_| hold(&store, b"k", at(0))).collect();
    delete(&store, b"k", at(0)).unwrap();
    assert!(read_all(&held[69_999]) == value);
    let in_use = store.usage().held;
    drop(held);
    assert!(store.usage().held < in_use, "with the last holder the memory came back");
    store.check();
}

#[test]
fn memory_held_by_readers_is_counted_and_writes_are_refused_when_there_is_no_other() {
    let store = Store::new(StoreConfig { shards: 1, ..config(8 << 20) });
    let mut held = Vec::new();
    let mut refused = 0;
    for n in 0..40u32 {
        match set(&store, &n.to_be_bytes(), &value_of(n, 0, 500_000), at(0)) {
            Ok(_) => held.push((n, hold(&store, &n.to_be_bytes(), at(0)))),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NoMemory);
                refused += 1;
            }
        }
        store.check();
    }
    assert!(held.len() >= 10 && refused >= 20, "{} held, {refused} refused", held.len());
    for (n, value) in &held {
        assert!(read_all(value) == value_of(*n, 0, 500_000));
    }
    assert!(set(&store, b"small", b"value", at(0)).is_ok(), "a small item still finds room");
    held.truncate(2);
    set(&store, b"large", &value_of(0, 9, 500_000), at(0)).unwrap();
    store.check();
}

#[test]
fn a_write_that_cannot_find_room_beside_what_readers_hold_evicts_nothing() {
    let store = Store::new(StoreConfig { shards: 1, ..config(8 << 20) });
    let mut held = Vec::new();
    for n in 0..40u32 {
        if set(&store, b"big", &value_of(n, 0, 500_000), at(0)).is_ok() {
            held.push(hold(&store, b"big", at(0)));
        }
    }
    for n in 0..100u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 300), at(0)).unwrap();
    }
    let before = store.counters();
    assert!(before.pinned_bytes > 5_000_000, "{} pinned", before.pinned_bytes);
    assert_eq!(set(&store, b"more", &value_of(1, 0, 500_000), at(0)), Err(Refusal::NoMemory));
    assert_eq!(store.set_memory_limit(6 << 20), Err(LimitRefused));
    assert_eq!(store.counters().evictions, before.evictions, "something was evicted in vain");
    assert!((0..100u32).all(|n| get(&store, &n.to_be_bytes(), at(0)).is_some()));
    drop(held);
    assert_eq!(store.counters().pinned_bytes, 0);
    set(&store, b"more", &value_of(1, 0, 500_000), at(0)).unwrap();
    store.check();
}

#[test]
fn long_values_are_joined_and_cut_across_the_slot_limit() {
    let store = store(16 << 20);
    let mut expected = Vec::new();
    set(&store, b"k", b"", at(0)).unwrap();
    for step in 0..60u32 {
        let piece = value_of(step, 0, 777);
        if step % 3 == 0 {
            write(&store, Mode::Prepend, b"k", &piece, at(0)).unwrap();
            expected.splice(0..0, piece);
        } else {
            write(&store, Mode::Append, b"k", &piece, at(0)).unwrap();
            expected.extend(piece);
        }
        assert!(get(&store, b"k", at(0)).as_ref() == Some(&expected), "after {step} joins");
        store.check();
    }
    set(&store, b"k", b"short", at(0)).unwrap();
    assert_eq!(get(&store, b"k", at(0)), Some(b"short".to_vec()));
    store.check();
}

#[test]
fn a_value_of_half_the_memory_finds_room_among_many_shards() {
    let store = Store::new(StoreConfig { item_size_max: 32 << 20, ..config(64 << 20) });
    assert!(store.shards() > 1);
    for n in 0..300_000u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 200), at(0)).unwrap();
    }
    for round in 0..4u32 {
        let value = value_of(round, 0, 30_000_000);
        set(&store, b"giant", &value, at(0)).unwrap();
        assert!(get(&store, b"giant", at(0)) == Some(value));
        store.check();
    }
    let left = store.counters().curr_items;
    println!("{left} of 300,000 small items live beside a value of 30 MB under -m 64");
    set(&store, b"another", &value_of(9, 9, 30_000_000), at(0)).unwrap();
    store.check();
}

#[test]
fn items_of_nearly_a_mebibyte_fill_the_memory_well() {
    let store = store(64 << 20);
    for n in 0..101u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, MIB - 250), at(0)).unwrap();
        store.check();
    }
    let counters = store.counters();
    println!(
        "101 items of 1 MiB - 250 under -m 64: {} evictions (upstream 37)",
        counters.evictions
    );
    assert_eq!(counters.curr_items + counters.evictions, 101);
    assert!(counters.evictions <= 48, "{} evictions", counters.evictions);
}

#[test]
fn recently_read_large_items_outlive_the_others() {
    let store = Store::new(StoreConfig { shards: 1, ..config(32 << 20) });
    set(&store, b"favourite", &value_of(0, 0, MIB / 2), at(0)).unwrap();
    for n in 0..400u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, MIB / 2), at(n)).unwrap();
        assert!(get(&store, b"favourite", at(n)).is_some(), "after {n} others");
    }
    assert!(store.counters().evictions > 300);
}
