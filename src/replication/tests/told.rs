//! What operators are told of lag, loading and conflicts.

use super::*;
use crate::version::Version;

fn of_other(world: &World, number: usize) -> PeerStatus {
    let peers = world.hosts[number].replica.status(world.now).peers;
    peers.into_iter().find(|peer| peer.state != "myself").unwrap()
}

fn conflicts(world: &World) -> Vec<u64> {
    world.hosts.iter().map(|host| host.replica.status(world.now).conflicts).collect()
}

#[test]
fn what_a_peer_has_not_acknowledged_is_its_lag_whether_it_is_linked_or_not() {
    let mut world = World::settled(2);
    world.set(0, "before", "1");
    world.run(Duration::from_secs(1));
    let lag = |world: &World| {
        let peer = of_other(world, 0);
        (peer.lag_records, peer.lag_bytes, peer.lag_ms)
    };
    assert_eq!(lag(&world), (0, 0, 0));
    world.hosts[1].frozen = true;
    (0..5).for_each(|n| world.set(0, &format!("key{n}"), "1"));
    assert_eq!((lag(&world).0, lag(&world).1), (5, 5 * (18 + 4)));
    world.run(Duration::from_secs(4));
    assert_ne!(of_other(&world, 0).state, "streaming");
    assert_eq!(lag(&world).0, 5);
    assert!(lag(&world).2 > 1_000);
    world.hosts[1].frozen = false;
    world.run_until(Duration::from_secs(5), "in sync", World::all_in_sync);
    world.run(Duration::from_secs(1));
    assert_eq!(lag(&world), (0, 0, 0));
}

/// Runs until something holds, and asserts meanwhile that the lag is never less than the age of what
/// was written at `since`.
fn lagging_since(since: Now, world: &mut World, what: &str, holds: impl Fn(&World) -> bool) {
    let until = world.now.plus(Duration::from_secs(10));
    while !holds(world) {
        assert!(world.now < until, "{what}");
        world.run(TICK);
        let age = world.now.unix_millis() - since.unix_millis();
        let peer = of_other(world, 0);
        assert!(peer.lag_records == 0 || peer.lag_ms + 20 >= age, "{what}: {age} ms, {peer:?}");
    }
}

#[test]
fn lag_is_the_age_of_the_oldest_write_that_a_peer_lacks_also_when_it_is_given_up_and_comes_back() {
    let mut world = World::settled(2);
    world.run(Duration::from_secs(1));
    world.hosts[1].frozen = true;
    let since = world.now;
    world.set(0, "first", "1");
    lagging_since(since, &mut world, "given up", |world| of_other(world, 0).state != "streaming");
    world.set(0, "more", "1");
    lagging_since(since, &mut world, "away", |world| {
        world.now > since.plus(Duration::from_secs(4))
    });
    world.hosts[1].frozen = false;
    lagging_since(since, &mut world, "back", |world| of_other(world, 0).lag_records == 0);
    world.run(Duration::from_millis(100));
    assert_eq!(of_other(&world, 0).lag_ms, 0);
}

#[test]
fn lag_is_counted_from_the_first_write_while_a_peer_is_away_and_not_from_its_going() {
    let mut world = World::settled(2);
    world.cut.push((0, 1));
    world.reset(|_| true);
    world.run(Duration::from_secs(3));
    assert_eq!(of_other(&world, 0).lag_ms, 0);
    let since = world.now;
    world.set(0, "k", "1");
    lagging_since(since, &mut world, "away", |world| {
        world.now > since.plus(Duration::from_secs(1))
    });
    assert!(of_other(&world, 0).lag_ms < 1_100);
}

/// A peer is away, or stands still with what it was sent before its connection ends.
#[test]
fn lag_does_not_shrink_with_what_the_log_forgets_nor_with_a_peers_clock_that_is_ahead() {
    for stands_still in [false, true] {
        let mut world = World::settled_as(World::tuned(2, 2_000, |_| {}));
        let ahead = world.now.plus(Duration::from_secs(20));
        world.hosts[0].store.mutations().unwrap().observe(Version::floor_at(ahead));
        if stands_still {
            world.hosts[1].frozen = true;
        } else {
            world.cut.push((0, 1));
            world.reset(|_| true);
        }
        let since = world.now;
        for n in 0..300 {
            world.set(0, &format!("key{n}"), "1");
            world.run(TICK);
        }
        lagging_since(since, &mut world, "away", |world| {
            world.now > since.plus(Duration::from_secs(4))
        });
        world.cut.clear();
        world.hosts[1].frozen = false;
        lagging_since(since, &mut world, "back", |world| of_other(world, 0).lag_records == 0);
    }
}

#[test]
fn of_two_writes_that_did_not_know_of_each_other_the_one_that_lost_is_counted_where_it_was_made() {
    let mut world = World::settled(2);
    world.set(0, "k", "1");
    world.set(1, "k", "2");
    world.set(0, "k", "3");
    world.run(Duration::from_secs(1));
    assert_eq!(conflicts(&world), [0, 0], "one after the other");
    world.cut.push((0, 1));
    world.reset(|_| true);
    world.set(0, "k", "4");
    world.set(0, "theirs only", "4");
    world.set(1, "k", "5");
    world.set(1, "deleted", "5");
    world.delete(1, "deleted");
    world.cut.clear();
    world.run_until(Duration::from_secs(5), "in sync", World::all_in_sync);
    world.run(Duration::from_secs(1));
    assert_eq!(world.everywhere("k"), [Some("5".to_owned()), Some("5".to_owned())]);
    assert_eq!(conflicts(&world), [1, 0]);
}

#[test]
fn conflicts_of_a_separation_that_the_log_does_not_cover_are_counted() {
    let mut world = World::settled_as(World::tuned(2, 4_096, |_| {}));
    world.set(0, "k", "1");
    world.run(Duration::from_secs(1));
    world.cut.push((0, 1));
    world.reset(|_| true);
    world.set(0, "k", "2");
    world.set(1, "k", "3");
    (0..300).for_each(|n| world.set(1, &format!("more{n}"), "1"));
    world.cut.clear();
    world.run_until(Duration::from_secs(5), "in sync", World::all_in_sync);
    world.run(Duration::from_secs(1));
    assert_eq!(world.everywhere("k"), [Some("3".to_owned()), Some("3".to_owned())]);
    assert_eq!(conflicts(&world), [1, 0]);
}

#[test]
fn a_node_that_loads_tells_how_much_of_how_much_has_come() {
    let mut world = World::settled(2);
    (0..2_000).for_each(|n| world.set(0, &format!("key{n}"), &"v".repeat(100)));
    world.kill(1);
    world.restart(1);
    world.run_until(Duration::from_secs(2), "ready", World::all_ready);
    let status = world.hosts[1].replica.status(world.now);
    assert_eq!((status.loaded.items, status.loaded_of.items), (2_000, 2_000));
    assert_eq!(status.loaded.bytes, status.loaded_of.bytes);
    let loaded = |line: &&Line| matches!(line, Line::Loaded { got, .. } if got.items == 2_000);
    assert_eq!(world.hosts[1].lines.iter().filter(loaded).count(), 1);
    let source = world.hosts[0].replica.status(world.now);
    assert_eq!(source.loaded.items, 0);
    let gives = |line: &Line| match line {
        Line::Linked { gives: Gives::Lacking(amount), .. } => Some(amount.items),
        _ => None,
    };
    let given = |number: usize| world.hosts[number].lines.iter().filter_map(gives).next_back();
    assert_eq!((given(0), given(1)), (Some(0), Some(2_000)), "the empty one has nothing to give");
}

#[test]
fn why_a_peer_cannot_be_reached_is_told_until_it_is_linked() {
    let mut world = World::new(2);
    world.hosts[1].up = false;
    world.run(Duration::from_millis(300));
    assert_eq!(of_other(&world, 0).last_error, Some(Reason::NotThere));
    world.hosts[1].up = true;
    world.run_until(Duration::from_secs(3), "in sync", World::all_in_sync);
    world.run(Duration::from_secs(2));
    assert_eq!(of_other(&world, 0).last_error, None);
}

#[test]
fn that_a_link_has_ended_is_told_by_both_though_one_of_them_gave_way_to_the_others_dial() {
    let mut world = World::settled(2);
    assert!(world.hosts.iter().any(|host| host.closed.contains(&Reason::Duplicate)));
    world.reset(|_| true);
    for (near, far) in [(0, 2), (1, 1)] {
        let status = world.hosts[near].replica.status(world.now);
        let its = status.peers.iter().find(|peer| peer.node == Some(far)).unwrap();
        assert_eq!(its.last_error, Some(Reason::Lost), "{status:?}");
    }
}
