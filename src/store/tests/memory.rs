//! The limit, and how well it is used: drift of sizes, rewriting, refusal, lowering.

use super::*;

const MIB: usize = 1 << 20;

/// Fills with values of about `len` bytes under fresh keys until much was evicted; returns the
/// shares of the limit that live items and their values take.
fn fill(store: &Store, epoch: u32, len: usize) -> (f64, f64) {
    let before = store.counters().evictions;
    let mut dice = Dice(u64::from(epoch) + 1);
    for n in 0.. {
        let key = format!("session:{epoch}:{n:08}");
        let len = len * 9 / 10 + dice.roll(u32::try_from(len / 5).unwrap()) as usize;
        set(store, key.as_bytes(), &value_of(n, epoch, len), at(epoch)).unwrap();
        assert!(store.usage().held <= store.usage().limit);
        if n % 1_000 == 0 && store.counters().evictions > before + 80_000_000 / (len as u64 + 80) {
            break;
        }
    }
    store.check();
    let requested: u64 = store.classes(at(epoch)).iter().map(|class| class.1.mem_requested).sum();
    let limit = store.memory_limit() as f64;
    (store.counters().bytes as f64 / limit, requested as f64 / limit)
}

#[test]
fn drifting_sizes_leave_no_memory_stranded() {
    let store = store(64 * MIB);
    // Tiny items come last: the index that they need stays.
    for (epoch, len) in (1..).zip([300, 3_000, 300, 7_000, 30_000, 300, 60]) {
        let (bytes, requested) = fill(&store, epoch, len);
        println!(
            "{len:>5} B values: live items {:.1} % of the limit (as memcached counts them {:.1} %)",
            bytes * 100.0,
            requested * 100.0
        );
        assert!(bytes >= 0.85, "live items take {bytes} of the limit at {len} B");
    }
}

#[test]
fn rewriting_everything_with_other_sizes_does_not_bloat() {
    let store = store(128 * MIB);
    let mut dice = Dice(11);
    let mut sizes = vec![0usize; 30_000];
    let mut round = |store: &Store| {
        for key in 0..30_000u32 {
            let len = 200 + dice.roll(1_800) as usize;
            sizes[key as usize] = len;
            set(store, &key.to_be_bytes(), &value_of(key, 0, len), at(0)).unwrap();
        }
        store.usage().touched
    };
    let first = round(&store);
    let last = (0..9).map(|_| round(&store)).last().unwrap();
    println!("memory after one writing {} MiB, after ten {} MiB", first / MIB, last / MIB);
    assert!(last <= first * 5 / 4, "{first} became {last}");
    for key in 0..30_000u32 {
        let value = value_of(key, 0, sizes[key as usize]);
        assert!(get(&store, &key.to_be_bytes(), at(0)) == Some(value));
    }
    store.check();
}

#[test]
fn without_evictions_a_full_store_refuses_and_keeps_what_it_has() {
    let store = Store::new(StoreConfig { evictions: false, ..config(8 * MIB) });
    let mut stored = 0u32;
    while set(&store, &stored.to_be_bytes(), &value_of(stored, 0, 300), at(0)).is_ok() {
        stored += 1;
    }
    let counters = store.counters();
    assert_eq!((counters.evictions, counters.curr_items), (0, u64::from(stored)));
    println!("-M -m 8: full with {stored} items, {} bytes", counters.bytes);
    assert!(counters.bytes > (8 << 20) * 85 / 100);
    for n in 0..stored {
        assert!(get(&store, &n.to_be_bytes(), at(0)).is_some());
    }
    let add = write(&store, Mode::Add, b"new", &[1; 300], at(0));
    assert_eq!(add, Err(Refusal::NoMemory));
    assert_eq!(set(&store, &1u32.to_be_bytes(), &[1; 900], at(0)), Err(Refusal::NoMemory));
    assert!(get(&store, &1u32.to_be_bytes(), at(0)).is_none(), "a refused set leaves no old value");
    assert_eq!(
        write(&store, Mode::Append, &2u32.to_be_bytes(), &[1; 900], at(0)),
        Err(Refusal::NotStored)
    );
    assert!(get(&store, &2u32.to_be_bytes(), at(0)).is_some());
    for n in 0..stored / 4 {
        delete(&store, &n.to_be_bytes(), at(0)).ok();
    }
    for n in 0..stored / 5 {
        set(&store, &(n + stored).to_be_bytes(), &value_of(n, 0, 300), at(0)).unwrap();
    }
    store.check();
    assert_eq!(store.counters().evictions, 0);
}

#[test]
fn without_evictions_scattered_deletions_make_room_again() {
    let store = Store::new(StoreConfig { evictions: false, ..config(16 * MIB) });
    let mut stored = 0u32;
    while set(&store, &stored.to_be_bytes(), &value_of(stored, 0, 500), at(0)).is_ok() {
        stored += 1;
    }
    // One in ten, all over the log.
    let gone =
        (0..stored).step_by(10).filter(|n| delete(&store, &n.to_be_bytes(), at(0)).is_ok()).count();
    let mut again = 0u32;
    while set(&store, &(stored + again).to_be_bytes(), &value_of(again, 0, 500), at(0)).is_ok() {
        again += 1;
    }
    assert!(again as usize >= gone * 6 / 10, "{again} stored where {gone} were deleted");
    store.check();
}

#[test]
fn without_evictions_expired_items_make_room() {
    let store = Store::new(StoreConfig { evictions: false, ..config(8 * MIB) });
    let mut stored = 0u32;
    while set_until(&store, &stored.to_be_bytes(), &[1; 400], in_seconds(10), at(0)).is_ok() {
        stored += 1;
    }
    for n in 0..stored {
        set(&store, &(n + stored).to_be_bytes(), &[2; 390], at(10)).unwrap();
    }
    assert_eq!(store.counters().evictions, 0);
    store.check();
}

#[test]
fn a_lower_limit_is_reached_and_kept_and_one_too_low_is_refused() {
    let store = store(64 * MIB);
    for n in 0..200_000u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 300), at(0)).unwrap();
    }
    assert_eq!(store.set_memory_limit(3 * MIB), Err(LimitRefused));
    assert_eq!(store.memory_limit(), 64 * MIB);
    store.set_memory_limit(20 * MIB).unwrap();
    assert!(store.usage().held <= 20 * MIB);
    store.check();
    let left = store.counters().curr_items;
    assert!(left > 30_000, "{left} items left under 20 MiB");
    for n in 0..100_000u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 1, 300), at(0)).unwrap();
        assert!(store.usage().held <= 20 * MIB);
    }
    store.set_memory_limit(128 * MIB).unwrap();
    let evictions = store.counters().evictions;
    for n in 0..200_000u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 2, 300), at(0)).unwrap();
    }
    assert_eq!(store.counters().evictions, evictions, "a higher limit is used");
    assert_eq!(store.set_memory_limit(usize::MAX / 2), Err(LimitRefused));
    store.check();
}

#[test]
fn without_evictions_a_limit_below_what_is_there_is_refused() {
    let store = Store::new(StoreConfig { evictions: false, ..config(32 * MIB) });
    for n in 0..60_000u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 300), at(0)).unwrap();
    }
    assert_eq!(store.set_memory_limit(12 * MIB), Err(LimitRefused));
    assert_eq!((store.memory_limit(), store.counters().curr_items), (32 * MIB, 60_000));
    store.check();
}

#[test]
fn two_mebibytes_are_enough_for_a_store() {
    let store = store(2 * MIB);
    assert_eq!(store.shards(), 1);
    let mut dice = Dice(5);
    for n in 0..20_000u32 {
        let len = match dice.roll(50) {
            0 => 200_000 + dice.roll(300_000) as usize,
            1..5 => 9_000 + dice.roll(20_000) as usize,
            _ => dice.roll(2_000) as usize,
        };
        let key = dice.roll(3_000);
        set(&store, &key.to_be_bytes(), &value_of(key, n, len), at(n / 100)).unwrap();
        assert!(get(&store, &key.to_be_bytes(), at(n / 100)) == Some(value_of(key, n, len)));
        if n % 500 == 0 {
            store.check();
        }
    }
    assert!(store.counters().curr_items > 20);
}

#[test]
fn tiny_items_make_the_index_grow_although_the_memory_is_full() {
    let store = store(16 * MIB);
    for n in 0..10_000u32 {
        set(&store, &n.to_be_bytes(), &value_of(n, 0, 3_000), at(0)).unwrap();
    }
    for n in 0..600_000u32 {
        set(&store, &n.to_be_bytes(), b"", at(0)).unwrap();
    }
    store.check();
    let counters = store.counters();
    println!(
        "{} items of 4 B keys in 16 MiB, index {} KiB",
        counters.curr_items,
        counters.hash_bytes >> 10
    );
    assert!(counters.curr_items > 280_000);
}

#[test]
fn an_item_in_use_outlives_those_that_are_not() {
    let store = Store::new(StoreConfig { shards: 1, ..config(8 * MIB) });
    set(&store, b"favourite", b"value", at(0)).unwrap();
    for n in 0..300_000u32 {
        set(&store, &n.to_be_bytes(), &[1; 200], at(0)).unwrap();
        if n % 5_000 == 0 {
            assert!(get(&store, b"favourite", at(0)).is_some(), "after {n} others");
        }
    }
}

#[test]
fn the_hit_ratio_of_a_skewed_load_is_not_below_that_of_exact_lru() {
    let store = Store::new(StoreConfig { shards: 1, ..config(4 * MIB) });
    let mut dice = Dice(3);
    // A product of rolls favours small keys, about as Zipf's law does.
    let keys: Vec<u32> = (0..400_000)
        .map(|_| {
            let rolls = [dice.roll(4096), dice.roll(4096), dice.roll(4096)].map(u64::from);
            u32::try_from((rolls[0] * rolls[1] * rolls[2] * 60_000) >> 36).unwrap()
        })
        .collect();
    let mut hits = 0;
    let mut most = 0;
    for &key in &keys {
        if get(&store, &key.to_be_bytes(), at(0)).is_some() {
            hits += 1;
        } else {
            set(&store, &key.to_be_bytes(), &[1; 300], at(0)).unwrap();
        }
        most = most.max(store.counters().curr_items);
    }
    // An exact LRU of as many items.
    let mut order = std::collections::BTreeMap::new();
    let mut last = std::collections::HashMap::new();
    let mut lru_hits = 0;
    for (moment, &key) in keys.iter().enumerate() {
        if let Some(before) = last.insert(key, moment) {
            order.remove(&before);
            lru_hits += 1;
        }
        order.insert(moment, key);
        if order.len() as u64 > most {
            let (_, oldest) = order.pop_first().unwrap();
            last.remove(&oldest);
        }
    }
    let share = |hits: u32| f64::from(hits) / 4_000.0;
    println!("hit ratio {:.2} %, exact LRU of {most} items {:.2} %", share(hits), share(lru_hits));
    assert!(share(hits) + 1.0 >= share(lru_hits));
}

#[test]
fn keys_that_look_alike_spread_over_buckets() {
    let store = store(64 * MIB);
    for n in 0..200_000u64 {
        set(&store, format!("{:0200}", n << 20).as_bytes(), b"", at(0)).unwrap();
    }
    store.check();
    let longest = (0..store.shards()).map(|lane| {
        let shard = store.lock(lane);
        (0..shard.index.buckets()).map(|bucket| shard.index.handles(bucket).count()).max()
    });
    assert!(longest.max().flatten() < Some(64));
}

#[test]
fn a_million_items_are_all_there_and_none_was_waited_for_long() {
    let store = store(256 * MIB);
    let clock = crate::clock::Clock::start();
    let (mut longest, mut before) = (0, clock.now().unix_micros());
    for n in 0..1_000_000u32 {
        set(&store, &n.to_be_bytes(), b"0123456789", at(0)).unwrap();
        let now = clock.now().unix_micros();
        longest = longest.max(now - before);
        before = now;
    }
    println!("a million items: longest single set {longest} us");
    assert_eq!(store.counters().curr_items, 1_000_000);
}

#[test]
fn a_watcher_is_told_of_every_eviction() {
    let config = StoreConfig { shards: 1, ..config(2 * MIB) };
    let mut lines = Vec::new();
    let watch = Arc::clone(&config.watch);
    let mut watcher = watch.subscribe(crate::watch::Categories::EVICTIONS, 16 * MIB).unwrap();
    let store = Store::new(config);
    for n in 0..30_000u32 {
        set_until(&store, format!("k{n}").as_bytes(), &[1; 100], in_seconds(60), at(0)).unwrap();
    }
    watcher.drain(usize::MAX, &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines.lines().count() as u64, store.counters().evictions);
    let first = lines.lines().next().unwrap();
    assert!(
        first.ends_with("type=eviction key=k0 fetch=no ttl=60 la=0 clsid=4 size=100"),
        "{first}"
    );
}
