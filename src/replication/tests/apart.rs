//! Two nodes that were apart for longer than deletes are remembered.

use super::*;

const LONG: Duration = Duration::from_secs(3_700);

/// A pair apart: each has deleted what `deletes` says, and its log does not reach back.
fn apart(tune: fn(&mut ReplicaConfig), deletes: [bool; 2]) -> World {
    let mut world = World::settled_as(World::tuned(2, 4_096, tune));
    world.set(0, "session 0", "old");
    world.set(0, "session 1", "old");
    world.run(Duration::from_secs(1));
    world.cut.push((0, 1));
    world.reset(|_| true);
    for (number, deletes) in deletes.into_iter().enumerate() {
        world.set(number, &format!("meanwhile {number}"), "1");
        if deletes {
            world.delete(number, &format!("session {number}"));
        }
    }
    world.now = world.now.plus(LONG);
    world.run(Duration::from_secs(1));
    for (number, deletes) in deletes.into_iter().enumerate() {
        let purged = world.hosts[number].store.floor_counters().purged_unstable;
        assert_eq!(purged, u64::from(deletes), "told before anything can come back");
        for n in 0..300 {
            world.set(number, &format!("more {number} {n}"), "1");
        }
    }
    world
}

fn together(world: &mut World) {
    world.cut.clear();
    world.run_until(Duration::from_secs(5), "linked", World::all_in_sync);
    world.run_until(Duration::from_secs(5), "ready", World::all_ready);
    world.run(Duration::from_secs(1));
}

fn outcomes(world: &World) -> Vec<Vec<Apart>> {
    let of = |host: &Host| {
        let outcome = |line: &Line| match line {
            Line::Apart { outcome, .. } => Some(*outcome),
            _ => None,
        };
        host.lines.iter().filter_map(outcome).collect()
    };
    world.hosts.iter().map(of).collect()
}

fn both(value: Option<&str>) -> [Option<String>; 2] {
    [value.map(str::to_owned), value.map(str::to_owned)]
}

fn merge(config: &mut ReplicaConfig) {
    config.self_fence = false;
}

fn wipe(config: &mut ReplicaConfig) {
    config.self_fence = false;
    config.wipes = true;
}

fn first_wipes(config: &mut ReplicaConfig) {
    config.self_fence = false;
    config.wipes = config.node == 1;
}

#[test]
fn merged_nodes_lose_nothing_and_say_that_deleted_items_may_be_back() {
    let mut world = apart(merge, [true, false]);
    together(&mut world);
    assert_eq!(world.everywhere("session 0"), both(Some("old")), "not promised, and told");
    assert_eq!(world.everywhere("meanwhile 0"), both(Some("1")));
    assert_eq!(world.everywhere("meanwhile 1"), both(Some("1")));
    assert_eq!(outcomes(&world), [[Apart::Merged], [Apart::Merged]]);
    for host in &world.hosts {
        let status = host.replica.status(world.now);
        assert_eq!((status.long_separations, status.wipes), (1, 0));
    }
}

#[test]
fn a_deleted_session_does_not_come_back_with_a_node_that_wipes() {
    let mut world = apart(wipe, [true, false]);
    together(&mut world);
    assert_eq!(world.everywhere("session 0"), both(None));
    assert_eq!(world.everywhere("session 1"), both(Some("old")));
    assert_eq!(world.everywhere("meanwhile 0"), both(Some("1")));
    assert_eq!(world.everywhere("meanwhile 1"), both(None), "that is its price");
    assert_eq!(outcomes(&world), [[Apart::TheyWipe], [Apart::WeWipe]]);
    assert_eq!(world.hosts[1].replica.status(world.now).wipes, 1);
    // It is a node like any other again.
    world.set(1, "after", "1");
    assert_eq!(world.everywhere("after"), both(Some("1")));
    world.delete(1, "after");
    assert_eq!(world.everywhere("after"), both(None));
}

#[test]
fn of_two_that_would_wipe_the_one_stays_that_was_written_to_last() {
    let mut world = apart(wipe, [true, true]);
    together(&mut world);
    // The second was: it keeps what was deleted on the other side only.
    assert_eq!(world.everywhere("session 0"), both(Some("old")));
    assert_eq!(world.everywhere("session 1"), both(None));
    assert_eq!(world.everywhere("meanwhile 0"), both(None));
    assert_eq!(world.everywhere("meanwhile 1"), both(Some("1")));
    assert_eq!(outcomes(&world), [[Apart::WeWipe], [Apart::TheyWipe]]);
}

#[test]
fn the_node_that_the_operator_names_wipes_only_if_it_is_behind() {
    let mut world = apart(first_wipes, [true, true]);
    together(&mut world);
    assert_eq!(outcomes(&world), [[Apart::WeWipe], [Apart::TheyWipe]]);
    assert_eq!(world.everywhere("session 1"), both(None));
    let mut world = apart(first_wipes, [true, false]);
    together(&mut world);
    assert_eq!(outcomes(&world), [[Apart::Merged], [Apart::Merged]], "the other is behind");
}

/// What the second tells could come before it has heard of the delete, which the first remembers no
/// more.
#[test]
fn a_node_that_is_behind_wipes_even_if_its_peers_log_reaches_back() {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, wipe));
    world.set(0, "session", "old");
    world.run(Duration::from_secs(1));
    world.cut.push((0, 1));
    world.reset(|_| true);
    world.delete(0, "session");
    world.set(1, "meanwhile", "1");
    world.now = world.now.plus(LONG);
    world.run(Duration::from_secs(1));
    assert_eq!(world.hosts[0].store.floor_counters().purged_unstable, 1);
    together(&mut world);
    assert_eq!(world.everywhere("session"), both(None));
    assert_eq!(world.everywhere("meanwhile"), both(None));
    assert_eq!(outcomes(&world), [[Apart::TheyWipe], [Apart::WeWipe]]);
}

#[test]
fn of_three_the_one_that_was_alone_wipes_although_it_was_written_to_last() {
    let mut world = World::settled_as(World::tuned(3, 4_096, wipe));
    world.set(0, "session", "old");
    world.run(Duration::from_secs(1));
    world.cut.extend([(0, 2), (1, 2)]);
    world.reset(|(a, b)| a == 2 || b == 2);
    world.delete(0, "session");
    world.set(2, "alone", "1");
    world.delete(2, "alone");
    world.now = world.now.plus(LONG);
    world.run(Duration::from_secs(4));
    for number in [0, 1, 2] {
        (0..300).for_each(|n| world.set(number, &format!("more {number} {n}"), "1"));
    }
    together(&mut world);
    assert_eq!(world.everywhere("session"), [None, None, None]);
    assert_eq!(world.everywhere("more 0 7"), vec![Some("1".to_owned()); 3]);
    assert_eq!(world.everywhere("more 2 7"), [None, None, None]);
    let wipes: Vec<u64> =
        world.hosts.iter().map(|host| host.replica.status(world.now).wipes).collect();
    assert_eq!(wipes, [0, 0, 1]);
}

#[test]
fn where_floors_have_no_room_what_is_being_written_is_compared_when_it_is_quiet_and_not_before() {
    let mut world = World::new(2);
    world.floor_bytes = 0;
    (0..2).for_each(|number| world.restart(number));
    let mut world = World::settled_as(world);
    world.run(Duration::from_secs(3));
    let is_comparing = |world: &World| {
        let mut links = world.hosts.iter().flat_map(|host| host.replica.links.values());
        links.any(|link| link.audit.urgent)
    };
    assert!(!is_comparing(&world));
    let rounds = |world: &World| -> u32 {
        let links = world.hosts.iter().flat_map(|host| host.replica.links.values());
        links.map(|link| link.audit.round).sum()
    };
    let before = rounds(&world);
    let link = *world.wires.iter().find(|(_, ends)| ends.0 != ends.1).unwrap().0;
    for n in 0..10 {
        let (written, deleted) = (format!("written-{n}"), format!("deleted-{n}"));
        world.set(0, &deleted, "1");
        // Node 1's word of what it writes comes after node 0 has let go of something later.
        world.stuck.push((1, link));
        world.set(1, &written, "1");
        world.now = world.now.plus(Duration::from_millis(2));
        world.delete(0, &deleted);
        assert_eq!(world.get(0, &written), None);
        let latest = world.hosts[1].store.mutations().unwrap().last();
        assert!(world.hosts[0].store.has_forgotten(latest));
        world.stuck.clear();
        world.deliver();
        assert_eq!(world.everywhere(&written), vec![Some("1".to_owned()); 2]);
        assert!(!is_comparing(&world) && rounds(&world) == before, "{n}");
    }
    world.run(Duration::from_secs(3));
    let compared = rounds(&world);
    assert!(compared > before);
    world.run(Duration::from_secs(30));
    assert_eq!(rounds(&world), compared, "once is enough");
}

/// Node 2 is away from the others, and node 0 deletes what it has.
fn away(tune: fn(&mut ReplicaConfig), log_bytes: usize) -> World {
    let mut world = World::settled_as(World::tuned(3, log_bytes, tune));
    world.set(0, "session", "old");
    world.run(Duration::from_secs(1));
    world.cut.extend([(0, 2), (1, 2)]);
    world.reset(|(a, b)| a == 2 || b == 2);
    world.delete(0, "session");
    world
}

/// That run has let go of nothing itself, and of the one before nobody asks.
#[test]
fn who_was_away_is_behind_a_run_that_it_has_not_met() {
    let mut world = away(wipe, 4_096);
    world.now = world.now.plus(LONG);
    world.run(Duration::from_secs(4));
    world.kill(0);
    world.run(Duration::from_millis(100));
    world.restart(0);
    world.run_until(Duration::from_secs(4), "ready", World::all_ready);
    world.run(Duration::from_secs(2));
    // Of the two it meets that one first, and alone.
    world.cut = vec![(1, 2)];
    world.run(Duration::from_secs(4));
    assert_eq!(outcomes(&world), [vec![Apart::TheyWipe], vec![], vec![Apart::WeWipe]]);
    world.cut.clear();
    together(&mut world);
    assert_eq!(world.everywhere("session"), [None, None, None]);
}

/// What comes back to one may be gone for the other. To one that has evicted it is no news.
#[test]
fn what_a_node_brings_back_that_is_merged_reaches_those_who_cannot_talk_with_it() {
    let mut world = away(merge, 4_096);
    world.set(0, "evicted", "1");
    let now = world.now;
    assert!(world.hosts[0].store.evict_for_test(b"evicted", now));
    (0..300).for_each(|n| world.set(0, &format!("more {n}"), "1"));
    world.now = world.now.plus(LONG);
    world.run(Duration::from_secs(4));
    world.cut = vec![(1, 2)];
    world.run_until(Duration::from_secs(4), "merged", |w| w.get(0, "session").is_some());
    world.run_until(Duration::from_secs(5), "told", |w| w.get(1, "session").is_some());
}

/// How long a delete is remembered.
const HORIZON: Duration = Duration::from_secs(crate::limits::FLOOR_HORIZON_DEFAULT as u64);

/// Lets time pass until what was deleted at `deleted` will soon be forgotten.
fn until_nearly_forgotten(world: &mut World, deleted: Now) {
    let nearly = Now::from_unix_seconds(deleted.seconds().0).plus(HORIZON);
    world.now = Now::from_unix_micros(nearly.unix_micros() - 4_200_000);
    world.run(Duration::from_secs(4));
}

fn floors(world: &World, number: usize) -> u64 {
    world.hosts[number].store.floor_counters().deleted
}

#[test]
fn what_was_deleted_is_not_forgotten_between_an_introduction_and_the_end_of_what_follows() {
    let mut world = World::settled_as(World::tuned(2, 4_096, merge));
    world.set(0, "session", "old");
    world.run(Duration::from_secs(1));
    world.cut.push((0, 1));
    world.reset(|_| true);
    let deleted = world.now;
    world.delete(0, "session");
    (0..300).for_each(|n| world.set(0, &format!("more {n}"), "1"));
    until_nearly_forgotten(&mut world, deleted);
    world.cut.clear();
    let wire = world.connect(0, 1, PeerIndex(1));
    // From the moment of the HELLO: whoever deletes something may come by before we do.
    let later = world.now.plus(Duration::from_secs(2));
    (0..2).for_each(|_| world.hosts[0].store.purge_floors(later));
    assert_eq!(floors(&world, 0), 1);
    let is_met = |world: &World| world.hosts[0].replica.is_linked(2);
    while !is_met(&world) {
        assert!(world.deliver_next(), "they do not meet");
    }
    world.stuck = vec![(0, wire), (1, wire)];
    world.run(Duration::from_millis(1_500));
    assert_eq!(floors(&world, 0), 1);
    world.stuck.clear();
    together(&mut world);
    assert_eq!(world.everywhere("session"), both(None));
    assert!(outcomes(&world).concat().is_empty(), "they were not apart for too long");
}

/// A stream that goes on where it was does not tell of it.
#[test]
fn what_a_third_node_deleted_is_not_forgotten_before_sums_have_been_compared() {
    let mut world = away(merge, 1 << 20);
    let deleted = world.now;
    until_nearly_forgotten(&mut world, deleted);
    world.cut = vec![(0, 2)];
    world.run_until(Duration::from_millis(600), "linked", |w| w.hosts[1].replica.is_linked(3));
    assert_eq!((floors(&world, 0), floors(&world, 1)), (1, 1));
    world.run(Duration::from_secs(3));
    assert_eq!((world.get(1, "session"), world.get(2, "session")), (None, None));
    assert!(outcomes(&world).concat().is_empty(), "they were not apart for too long");
}

#[test]
fn company_is_who_has_been_here_for_a_second_connections_that_replace_each_other_counted_as_one() {
    let mut world = World::settled(3);
    let company = |world: &World| world.hosts[0].replica.standing(world.now).company;
    let linked = |world: &World| world.hosts[0].replica.is_linked(2);
    let (second, soon) = (Duration::from_secs(1), Duration::from_millis(50));
    assert_eq!(company(&world), 0, "they have just met");
    world.run(2 * second);
    assert_eq!(company(&world), 2);
    // A connection that is replaced at once.
    world.reset(|ends| ends == (0, 1) || ends == (1, 0));
    assert_eq!(company(&world), 2);
    world.run_until(second, "linked", linked);
    assert_eq!(company(&world), 2);
    // One that comes back after a while.
    world.cut.push((0, 1));
    world.reset(|ends| ends == (0, 1) || ends == (1, 0));
    world.run(second + soon);
    assert_eq!(company(&world), 1);
    world.run(second);
    world.cut.clear();
    world.run_until(2 * second, "linked", linked);
    assert_eq!(company(&world), 1, "it was away");
    world.run(2 * second);
    assert_eq!(company(&world), 2);
    // One that was silent for long, and comes back at once.
    world.cut.push((0, 1));
    world.run_until(3 * second, "given up", |world| !linked(world));
    world.cut.clear();
    world.run_until(second, "linked", linked);
    assert_eq!(company(&world), 1, "nothing was heard of it");
    world.run(2 * second);
    // Another run.
    world.kill(1);
    world.restart(1);
    world.run_until(second, "linked", linked);
    assert_eq!(company(&world), 1, "it has begun anew");
}
