//! Short items read together.

use super::*;
use crate::store::{Frame, Piece, Short};

const FRAME: Frame<u8> = Frame {
    context: b'>',
    head: |context, short: &Short<'_>, out| {
        out.push(*context);
        out.extend_from_slice(short.key);
        out.extend_from_slice(&short.version.0.to_be_bytes());
    },
    end: b"<",
};

/// What a piece must be that was made of this item.
fn piece_of(key: &[u8], found: &Found, value: &[u8]) -> Vec<u8> {
    [b">", key, &found.version.0.to_be_bytes(), value, b"<"].concat()
}

#[test]
fn items_read_together_are_those_read_one_by_one() {
    let store = store(64 << 20);
    let name = |n: u32| n.to_be_bytes();
    for n in 0..400 {
        let len = if n % 7 == 0 { 513 + 97 * n as usize } else { n as usize };
        let expiry = if n % 5 == 0 { in_seconds(3) } else { Expiry::NEVER };
        set_until(&store, &name(n), &value_of(n, 0, len), expiry, at(0)).unwrap();
    }
    let (mut dice, mut met) = (Dice(7), [0; 4]);
    for second in 0..6 {
        let names: Vec<_> = (0..GROUP_KEYS_MAX).map(|_| name(dice.roll(450))).collect();
        let mut keys = names.iter().map(|name| store.key(name)).collect();
        let mut out = b"before".to_vec();
        let pieces = store.fetch_together(&mut keys, at(second), &FRAME, &mut out);
        for (name, piece) in names.iter().zip(pieces) {
            let single =
                fetch(&store, name, &Fetch { value: true, ..Fetch::default() }, at(second));
            met[match (piece, single) {
                (Piece::Hit { at, len, class }, Ok((found, value))) => {
                    let piece = &out["before".len() + at as usize..][..len as usize];
                    assert_eq!(piece, piece_of(name, &found, &value));
                    assert_eq!(class, found.class);
                    0
                }
                (Piece::Miss(Miss::Expired), Err(Miss::NotFound)) => 1,
                (Piece::Miss(miss), Err(single)) => {
                    assert_eq!(miss, single);
                    2
                }
                (Piece::Alone, Ok((_, value))) => {
                    assert!(value.len() > 512, "{} bytes are short", value.len());
                    3
                }
                (piece, single) => panic!("{piece:?} together, singly {single:?}"),
            }] += 1;
        }
    }
    assert!(met.iter().all(|&times| times > 0), "some kinds of pieces never came: {met:?}");
}

#[test]
fn an_item_read_together_is_accessed() {
    let store = store(8 << 20);
    set(&store, b"k", b"v", at(0)).unwrap();
    let key = store.key(b"k");
    store.fetch_together(&mut [key, key].into_iter().collect(), at(3), &FRAME, &mut Vec::new());
    let look = Fetch { no_bump: true, ..Fetch::default() };
    let (found, _) = fetch(&store, b"k", &look, at(5)).unwrap();
    assert!(found.fetched);
    assert_eq!(found.idle, 2);
}

#[test]
fn what_was_seen_of_an_index_that_has_changed_since_is_not_believed() {
    let store = store(8 << 20);
    set(&store, b"k", b"v", at(0)).unwrap();
    let key = store.key(b"k");
    let lane = store.lane_of(key);
    let before = Key { seen: store.lock(lane).likely(key.hash), ..key };
    let mut names = (0..).map(|n: u32| n.to_be_bytes());
    let neighbour = names.find(|name| store.lane_of(store.key(name)) == lane).unwrap();
    set(&store, &neighbour, b"v", at(0)).unwrap();
    let mut shard = store.lock(lane);
    assert_eq!(shard.still_there(&before), None, "the place may hold another's value by now");
    let item = shard.find(key).unwrap();
    assert_eq!(
        shard.find(before).map(|found| found.handle),
        Some(item.handle),
        "it is searched anew"
    );
    let now = Key { seen: shard.likely(key.hash), ..key };
    assert_eq!(shard.still_there(&now), Some((item.place, item.handle)));
    let other = Key { bytes: b"x", ..now };
    assert_eq!(shard.still_there(&other), None, "the slot is another key's");
    shard.discard(key, at(0));
    assert_eq!(shard.still_there(&now), None, "its segment may be another's by now");
    for segment in shard.index.clear() {
        shard.shared.pool.give_back(segment, crate::store::pool::Purpose::Index);
    }
    assert_eq!(shard.still_there(&now), None);
}
