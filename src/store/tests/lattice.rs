//! The laws of merging, on stores: records of one key, with versions that collide, leave the same
//! behind in whatever order, however often and by whatever way they arrive.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::replication::{known, peered, peered_with};
use super::*;

/// A record with the bytes that belong to it.
type Known = (Record, Vec<u8>);

/// What a store should know, worked out without one.
type Model = BTreeMap<Vec<u8>, Known>;

/// What a touch leaves alone, and what it changes.
fn content(known: &Known) -> (Version, u8, u32, bool, usize, Vec<u8>) {
    let record = known.0;
    let rank = match record.kind {
        Kind::Lost => 0,
        Kind::Deleted => 1,
        Kind::Value => 2,
    };
    (record.version, rank, record.flags, record.stale, known.1.len(), known.1.clone())
}

fn touch(known: &Known) -> (Version, u32) {
    (known.0.touched, known.0.expiry.to_bits())
}

/// What two know together, written down a second time.
fn both(ours: &Known, theirs: &Known) -> Known {
    let (record, value) = if content(ours) >= content(theirs) { ours } else { theirs };
    let known = [ours, theirs].into_iter().filter(|one| one.0.version == record.version);
    let last = known.max_by_key(|one| touch(one)).unwrap().0;
    (Record { touched: last.touched, expiry: last.expiry, ..*record }, value.clone())
}

fn model(news: &[(Vec<u8>, Known)]) -> Model {
    let mut model = Model::new();
    for (key, known) in news {
        let held = model.entry(key.clone()).or_insert_with(|| known.clone());
        *held = both(held, known);
    }
    model
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec()), Just(vec![b'c'; 250])]
}

/// Short ones, ones about the longest that fits a slot, and ones that are built in blocks.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => 0usize..3, 1 => 7_900usize..8_300, 2 => 9_000usize..40_000];
    (len, 0u8..2).prop_map(|(len, fill)| vec![fill; len])
}

fn records() -> impl Strategy<Value = Known> {
    let kinds = prop_oneof![
        1 => Just(Kind::Lost),
        1 => Just(Kind::Deleted),
        4 => Just(Kind::Value),
    ];
    (1u64..4, 0u64..3, kinds, 0u32..3, 0u32..2, any::<bool>(), values()).prop_map(
        |(version, touch, kind, expiry, flags, stale, value)| {
            let (version, touched) = (Version(version), Version(version + touch));
            let expiry = Expiry::from_bits(if expiry == 0 { 0 } else { START + 1_000 + expiry });
            if kind != Kind::Value {
                return (Record { kind, expiry, ..Record::lost(version, touched) }, Vec::new());
            }
            let binary_key = false;
            (Record { version, kind, touched, expiry, flags, stale, binary_key }, value)
        },
    )
}

fn news() -> impl Strategy<Value = Vec<(Vec<u8>, Known)>> {
    prop::collection::vec((keys(), records()), 0..12)
}

fn told(news: &[(Vec<u8>, Known)]) -> Store {
    let store = peered(1);
    tell(&store, news);
    store
}

fn tell(store: &Store, news: &[(Vec<u8>, Known)]) {
    for (key, (record, value)) in news {
        let merged = store.merge(key, record, value, at(0));
        assert!(
            matches!(merged, Merged::Applied | Merged::Found | Merged::Same | Merged::Older),
            "{merged:?}"
        );
    }
}

/// Tells a store all that another knows, as a sync does.
fn sync(from: &Store, to: &Store) {
    let news: Vec<_> = known(from, at(0)).into_iter().collect();
    tell(to, &news);
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn a_store_knows_the_greatest_of_what_it_was_told(news in news()) {
        let store = told(&news);
        prop_assert!(known(&store, at(0)) == model(&news));
        store.check();
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(
        (news, shuffled) in news().prop_flat_map(|news| (Just(news.clone()), Just(news).prop_shuffle()))
    ) {
        prop_assert!(known(&told(&news), at(0)) == known(&told(&shuffled), at(0)));
    }

    #[test]
    fn hearing_it_again_changes_nothing(news in news()) {
        let store = told(&news);
        let once = known(&store, at(0));
        for (key, (record, value)) in news.iter().rev() {
            let merged = store.merge(key, record, value, at(0));
            prop_assert!(matches!(merged, Merged::Same | Merged::Older), "{:?}", merged);
        }
        prop_assert!(known(&store, at(0)) == once);
    }

    #[test]
    fn it_does_not_matter_who_tells_whom_first(first in news(), second in news(), third in news()) {
        let left = told(&first);
        sync(&told(&second), &left);
        sync(&told(&third), &left);
        let right = told(&second);
        sync(&told(&third), &right);
        sync(&told(&first), &right);
        prop_assert!(known(&left, at(0)) == known(&right, at(0)));
        prop_assert_eq!(left.digest(at(0)), right.digest(at(0)));
        let all = [first, second, third].concat();
        prop_assert!(known(&left, at(0)) == model(&all));
    }

    #[test]
    fn knowledge_only_grows(before in news(), after in news()) {
        let store = told(&before);
        let held = known(&store, at(0));
        tell(&store, &after);
        let now = known(&store, at(0));
        for (key, known) in &held {
            prop_assert!(both(&now[key], known) == now[key]);
        }
    }

    #[test]
    fn merging_is_not_logged_and_is_older_than_what_comes_next(news in news()) {
        let store = told(&news);
        let log = store.mutations().unwrap();
        prop_assert_eq!(log.last(), Version(0));
        let latest = news.iter().map(|(_, (record, _))| record.touched).max();
        let early = Now::from_unix_micros(1);
        let next = set(&store, b"next", b"", early).unwrap().version;
        prop_assert!(Some(next) > latest);
    }

    #[test]
    fn a_touch_is_the_record_with_another_expiry(
        base in news(),
        touches in prop::collection::vec((keys(), 1u64..4, 0u64..5, 0u32..3), 0..8)
    ) {
        // One store is told the touches alone, where it holds their base; the other the records
        // that they lead to.
        let (by_touch, by_record) = (told(&base), told(&base));
        for (key, version, later, expiry) in touches {
            let (base, touched) = (Version(version), Version(version + later));
            let expiry = Expiry::at(UnixSeconds(START + 2_000 + expiry));
            let held = known(&by_record, at(0)).remove(&key);
            let merged = by_touch.merge_touch(&key, base, touched, expiry, at(0));
            match held.filter(|(held, _)| held.version >= base) {
                Some((held, value)) if held.version == base && held.kind == Kind::Value => {
                    let record = Record { touched, expiry, ..held };
                    prop_assert_eq!(by_record.merge(&key, &record, &value, at(0)), merged);
                }
                Some((held, _)) if held.version > base => prop_assert_eq!(merged, Merged::Older),
                _ => prop_assert_eq!(merged, Merged::NeedRecord),
            }
        }
        prop_assert!(known(&by_touch, at(0)) == known(&by_record, at(0)));
    }

    #[test]
    fn where_items_are_too_large_the_order_of_arrival_does_not_matter_either(
        (news, shuffled) in news().prop_flat_map(|news| (Just(news.clone()), Just(news).prop_shuffle()))
    ) {
        let small = || peered_with(1, |config| config.item_size_max = 8_000);
        let (one, other) = (small(), small());
        for (store, news) in [(&one, &news), (&other, &shuffled)] {
            for (key, (record, value)) in news {
                store.merge(key, record, value, at(0));
            }
            store.check();
        }
        prop_assert!(known(&one, at(0)) == known(&other, at(0)));
    }
}
