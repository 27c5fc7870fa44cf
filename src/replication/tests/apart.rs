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
