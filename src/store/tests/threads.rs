//! Many threads at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::{fs, thread};

use nix::unistd::{Pid, gettid};

use super::*;
use crate::store::shards::Locked;
use crate::store::{Frame, Piece, Short};

#[test]
fn threads_hammering_the_same_keys_never_see_a_torn_value() {
    let store = store(16 << 20);
    let held_max = thread::scope(|scope| {
        let workers: Vec<_> = (0..6u32)
            .map(|worker| {
                let store = &store;
                scope.spawn(move || {
                    let mut dice = Dice(u64::from(worker) + 1);
                    let mut held_max = 0;
                    for n in 0..8_000u32 {
                        hammer(store, &mut dice, worker << 24 | n, at(n / 400));
                        held_max = held_max.max(store.usage().held);
                    }
                    held_max
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap()
    });
    assert!(held_max <= store.memory_limit());
    store.check();
    store.flush_all(at(30));
    sweep(&store, at(30));
    store.check();
    assert_eq!(store.counters().bytes, 0);
}

#[test]
fn who_waits_for_a_shard_has_it_after_one_step_of_the_sweep() {
    let store = Store::new(StoreConfig { shards: 1, ..config(16 << 20) });
    for number in 0..10_000u32 {
        set_until(&store, &number.to_be_bytes(), &[b'v'; 100], in_seconds(1), at(0)).unwrap();
    }
    with_one_waiting(&store, |mut shard, has_waited| {
        assert!(shard.sweep_step(at(1)));
        // The shard is still ours, and others are due in it: but for him it would be swept on.
        assert!(has_waited());
        assert!(shard.sweep_step(at(1)));
    });
}

/// Walks, large values and whatever else comes back to one shard in small steps need no hand-over of their
/// own: who has kept others waiting for a millisecond unlocks for them. Locks whose addresses go to one
/// place of `parking_lot`'s table have one clock there: another, for which somebody waited in another
/// test just now, may have had its turn instead. So there are several shards.
#[test]
fn who_waits_for_a_shard_has_it_before_one_who_locks_it_again() {
    let store = || Store::new(StoreConfig { shards: 1, ..config(16 << 20) });
    let stores: Vec<_> = (0..5).map(|_| store()).collect();
    let is_first = |store: &Store| {
        with_one_waiting(store, |shard, has_waited| {
            // Some milliseconds.
            assert!((0..400_000).all(|_| shard.find(store.key(b"none")).is_none()));
            drop(shard);
            drop(store.enter(0, at(1)));
            has_waited()
        })
    };
    assert!(stores.iter().any(is_first));
}

/// Holds the only shard while somebody waits for it, who tells when he has it.
fn with_one_waiting<'s, T>(
    store: &'s Store,
    act: impl FnOnce(Locked<'s>, &dyn Fn() -> bool) -> T,
) -> T {
    let has_waited = AtomicBool::new(false);
    thread::scope(|scope| {
        let shard = store.enter(0, at(1));
        let (said, heard) = mpsc::channel();
        let has_waited = &has_waited;
        scope.spawn(move || {
            said.send(gettid()).unwrap();
            let _shard = store.enter(0, at(1));
            has_waited.store(true, Ordering::Relaxed);
        });
        until_asleep(heard.recv().unwrap());
        let has_waited = || has_waited.load(Ordering::Relaxed);
        assert!(!has_waited());
        act(shard, &has_waited)
    })
}

/// Waits until a thread of ours waits for a lock, for some 20 s at most.
fn until_asleep(thread: Pid) {
    let stat = format!("/proc/self/task/{thread}/stat");
    let is_asleep = |_| {
        thread::yield_now();
        fs::read_to_string(&stat).unwrap().contains(") S ")
    };
    assert!((0..4_000_000).any(is_asleep), "it does not wait");
}

/// Reads some items together, while others move and remove them.
fn read_some_together(store: &Store, dice: &mut Dice, now: Now) {
    let frame = Frame { context: (), head: |(), _: &Short<'_>, _| {}, end: b"" };
    let numbers: Vec<u32> = (0..32).map(|_| dice.roll(4_000)).collect();
    let names: Vec<_> = numbers.iter().map(|key| key.to_be_bytes()).collect();
    let mut keys = names.iter().map(|name| store.key(name)).collect();
    let mut out = Vec::new();
    let pieces = store.fetch_together(&mut keys, now, &frame, &mut out);
    for (&key, piece) in numbers.iter().zip(pieces) {
        if let Piece::Hit { at, len, .. } = piece {
            let value = &out[at as usize..][..len as usize];
            let version = value
                .get(4..8)
                .and_then(<[u8]>::first_chunk)
                .map_or(0, |version| u32::from_be_bytes(*version));
            assert_eq!(value, value_of(key, version, value.len()), "key {key} is torn");
        }
    }
}

fn hammer(store: &Store, dice: &mut Dice, stamp: u32, now: Now) {
    let key = dice.roll(4_000);
    let name = key.to_be_bytes();
    match dice.roll(20) {
        7 => read_some_together(store, dice, now),
        0..8 => {
            if let Some(value) = get(store, &name, now) {
                let version = value.get(4..8).map(|version| {
                    u32::from_be_bytes([version[0], version[1], version[2], version[3]])
                });
                let expected = value_of(key, version.unwrap_or(0), value.len());
                assert!(version.is_none() || value == expected, "key {key} is torn");
            }
        }
        8 => drop(delete(store, &name, now)),
        9 => drop(store.scan(Cursor::default(), 50, now, &mut Vec::new())),
        10 => drop(store.sweep(now)),
        11 if dice.roll(1_000) == 0 => store.flush_all(now),
        roll => {
            let long = if roll == 12 { 120_000 } else { 1_500 };
            let len = 8 + dice.roll(long) as usize;
            let expiry = in_seconds(now.seconds().0 - START + 1 + dice.roll(8));
            let result = set_until(store, &name, &value_of(key, stamp, len), expiry, now);
            assert!(result.is_ok(), "{result:?}");
        }
    }
}

#[test]
fn counting_from_many_threads_loses_no_count() {
    let store = store(8 << 20);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let up = Arithmetic {
                        delta: 1,
                        up: true,
                        initial: Some((1, Expiry::NEVER)),
                        ..Arithmetic::default()
                    };
                    store.arithmetic(store.key(b"n"), &up, at(0)).unwrap();
                }
            });
        }
    });
    assert_eq!(get(&store, b"n", at(0)).unwrap().trim_ascii(), b"40000");
}

#[test]
fn appending_a_long_value_from_many_threads_loses_no_piece() {
    let store = store(64 << 20);
    set(&store, b"k", b"", at(0)).unwrap();
    thread::scope(|scope| {
        for worker in 0..4u8 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..50 {
                    write(store, Mode::Append, b"k", &[worker; 1_000], at(0)).unwrap();
                }
            });
        }
    });
    let value = get(&store, b"k", at(0)).unwrap();
    assert_eq!(value.len(), 4 * 50 * 1_000);
    for worker in 0..4u8 {
        let pieces = value.chunks(1_000).filter(|piece| piece.iter().all(|&byte| byte == worker));
        assert_eq!(pieces.count(), 50);
    }
}
