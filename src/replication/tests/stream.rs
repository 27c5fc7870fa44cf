//! What a link is told of our log, as bytes: each change once, in the order of versions, and no end of a
//! batch before all that it covers.

use super::wire::{self, Frame, Next};
use super::*;
use crate::store::Kind;
use crate::version::Version;

/// Longer values lie in blocks, and are read from the store when they are told.
const LARGE: usize = 20_000;

#[derive(Debug, PartialEq)]
enum Said {
    Record(String, Kind, Version),
    Flushes,
    Upto(Version),
    Other,
}

fn heard(mut bytes: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    while let Next::Frame(frame, len) = wire::next(bytes, usize::MAX) {
        said.push(match frame {
            Some(Frame::Record { key, record, .. }) => {
                Said::Record(String::from_utf8(key.to_vec()).unwrap(), record.kind, record.version)
            }
            Some(Frame::Flushes(_)) => Said::Flushes,
            Some(Frame::Upto { version, .. }) => Said::Upto(version),
            _ => Said::Other,
        });
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty());
    said
}

impl World {
    /// Has clients of the first node change something at once, of which no link has heard.
    fn change(&mut self, changes: impl FnOnce(&Store, Now)) {
        self.now = self.now.plus(TICK);
        changes(&self.hosts[0].store, self.now);
    }

    /// What the first node says to each link, if they are written at once; the others hear it, too.
    fn tell_all(&mut self) -> BTreeMap<LinkId, Vec<Said>> {
        let mut said = BTreeMap::<LinkId, Vec<Said>>::new();
        let host = &mut self.hosts[0];
        let mut effects = Vec::new();
        host.replica.handle(Event::Logged, self.now, &mut effects);
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                let Effect::Send { link, bytes } = effect else { continue };
                said.entry(link).or_default().extend(heard(&bytes));
                self.flying.push_back((0, link, bytes));
                host.replica.handle(Event::Sendable { link }, self.now, &mut effects);
            }
        }
        self.deliver();
        said
    }
}

fn set(store: &Store, key: &str, value: &str, now: Now) {
    let write = Write::new(Mode::Set, value.as_bytes(), 0, Expiry::NEVER);
    store.write(store.key(key.as_bytes()), &write, now).unwrap();
}

fn delete(store: &Store, key: &str, now: Now) {
    store.delete(store.key(key.as_bytes()), &Delete::default(), now).unwrap();
}

fn unbounded(config: &mut ReplicaConfig) {
    config.under_way_max = usize::MAX;
}

fn records(said: &[Said]) -> Vec<(&str, Kind)> {
    let of_record = |said| match said {
        &Said::Record(ref key, kind, _) => Some((key.as_str(), kind)),
        _ => None,
    };
    said.iter().filter_map(of_record).collect()
}

/// Asserts that the end of a batch covers only what was told before it, of these changes.
fn assert_told_before_its_end(said: &[Said], changes: &[Version]) {
    let mut told = Vec::new();
    for said in said {
        match said {
            Said::Record(_, _, version) => told.push(*version),
            Said::Upto(upto) => {
                let lacks = changes.iter().find(|change| *change <= upto && !told.contains(change));
                assert_eq!(lacks, None, "up to {upto:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn what_was_put_and_all_else_is_told_in_the_order_in_which_it_was_done() {
    let mut world = World::settled(2);
    world.set(0, "b", "1");
    world.set(0, "e", "1");
    world.change(|store, now| {
        set(store, "a", "1", now);
        delete(store, "b", now);
        set(store, "c", "1", now);
        set(store, "d", &"v".repeat(LARGE), now);
        delete(store, "e", now);
    });
    let said = world.tell_all().into_values().next().unwrap();
    let [value, deleted] = [Kind::Value, Kind::Deleted];
    let expected = [("a", value), ("b", deleted), ("c", value), ("d", value), ("e", deleted)];
    assert_eq!(records(&said), expected);
    assert!(matches!(said.last(), Some(Said::Upto(_))));
    assert_eq!(world.everywhere("a"), world.everywhere("c"));
    assert_eq!(world.everywhere("e"), [None, None]);
}

#[test]
fn what_was_said_before_what_was_put_is_sent_before_it() {
    let mut world = World::settled(2);
    let link = *world.hosts[0].replica.links.keys().next().unwrap();
    world.change(|store, now| set(store, "a", "1", now));
    world.hosts[0].replica.links.get_mut(&link).unwrap().say(&Frame::Goodbye);
    let said = &world.tell_all()[&link];
    assert!(matches!(said[..], [Said::Other, Said::Record(..), Said::Upto(_)]), "{said:?}");
}

#[test]
fn what_was_put_is_sent_in_the_memory_of_its_tray_where_nobody_else_wants_it() {
    let sent = |count: usize| {
        let mut world = World::settled(count);
        world.change(|store, now| set(store, "a", "1", now));
        let mut effects = Vec::new();
        world.hosts[0].replica.handle(Event::Logged, world.now, &mut effects);
        let rooms = effects.iter().map(|effect| match effect {
            Effect::Send { bytes, .. } => bytes.capacity(),
            _ => 0,
        });
        rooms.max().unwrap()
    };
    assert!(sent(2) >= 100 * 1024, "the room of a tray");
    assert!(sent(3) < 100 * 1024, "a copy for each");
}

#[test]
fn what_a_later_change_has_told_is_not_told_again_in_the_same_batch() {
    let mut world = World::settled(2);
    world.change(|store, now| {
        set(store, "key", "1", now);
        delete(store, "key", now);
        set(store, "key", "2", now);
    });
    let said = world.tell_all().into_values().next().unwrap();
    let told = records(&said);
    assert_eq!(
        told,
        [("key", Kind::Value); 2],
        "the first value, and the last in place of the delete"
    );
    assert_eq!(world.get(1, "key").as_deref(), Some("2"));
}

#[test]
fn a_batch_that_is_cut_goes_on_where_it_was_cut() {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, unbounded));
    let (large, mut changes) = ("v".repeat(LARGE), Vec::new());
    world.change(|store, now| {
        for n in 0..60 {
            set(store, &format!("small {n:02}"), "1", now);
            changes.push(store.mutations().unwrap().last());
            if n % 5 == 4 {
                set(store, &format!("large {n:02}"), &large, now);
                changes.push(store.mutations().unwrap().last());
            }
        }
    });
    let said = world.tell_all().into_values().next().unwrap();
    let ends = said.iter().filter(|said| matches!(said, Said::Upto(_))).count();
    assert!(ends > 2, "it was cut");
    let mut told = records(&said);
    assert_eq!(told.len(), changes.len(), "{told:?}");
    told.dedup();
    assert_eq!(told.len(), changes.len());
    assert_told_before_its_end(&said, &changes);
    assert_eq!(world.get(1, "small 59").as_deref(), Some("1"));
}

#[test]
fn who_is_ahead_of_another_hears_each_change_once() {
    let mut world = World::settled_as(World::tuned(3, 1 << 20, unbounded));
    let links: Vec<LinkId> = world.hosts[0].replica.links.keys().copied().collect();
    let link = |world: &World, node: usize| {
        let is_of = |link: &&LinkId| {
            let (a, b) = world.wires[link];
            a == node || b == node
        };
        *links.iter().find(is_of).unwrap()
    };
    let [ahead, behind] = [1, 2].map(|node| link(&world, node));
    // Of the first change only one of them hears.
    world.hosts[0].replica.links.get_mut(&behind).unwrap().queued = usize::MAX / 2;
    world.change(|store, now| set(store, "first", "1", now));
    let said = world.tell_all();
    assert_eq!(records(&said[&ahead]), [("first", Kind::Value)]);
    assert!(said.get(&behind).is_none_or(|said| records(said).is_empty()));
    world.change(|store, now| {
        set(store, "second", "1", now);
        delete(store, "first", now);
    });
    world.hosts[0].replica.links.get_mut(&behind).unwrap().queued = 0;
    let said = world.tell_all();
    let [value, deleted] = [Kind::Value, Kind::Deleted];
    assert_eq!(records(&said[&ahead]), [("second", value), ("first", deleted)]);
    // What became of the first since is told in its place.
    assert_eq!(records(&said[&behind]), [("first", deleted), ("second", value)]);
    world.change(|store, now| set(store, "third", "1", now));
    for said in world.tell_all().values() {
        assert_eq!(records(said), [("third", value)]);
    }
    assert_eq!(world.everywhere("second").len(), 3);
    assert_eq!(world.everywhere("third"), vec![Some("1".to_owned()); 3]);
}

#[test]
fn a_flush_is_told_in_its_place() {
    let mut world = World::settled(2);
    world.change(|store, now| {
        set(store, "a", "1", now);
        store.flush_all(now);
        set(store, "b", "1", now);
    });
    let said = world.tell_all().into_values().next().unwrap();
    let place = |what: &dyn Fn(&Said) -> bool| said.iter().position(what).unwrap();
    let of_key = |said: &Said, wanted| matches!(said, Said::Record(key, ..) if key == wanted);
    let flushes = place(&|said| *said == Said::Flushes);
    assert!(place(&|said| of_key(said, "a")) < flushes);
    assert!(flushes < place(&|said| of_key(said, "b")));
    assert_eq!(world.everywhere("a"), [None, None]);
    assert_eq!(world.get(1, "b").as_deref(), Some("1"));
}
