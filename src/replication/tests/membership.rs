//! Peers that are added and removed while the nodes run.

use super::*;
use crate::version::Version;

fn remove(world: &mut World, at: usize, peer: u32) {
    world.tell(at, Event::PeerRemoved { peer: PeerIndex(peer), refused: true });
}

fn last(world: &World, number: usize) -> Version {
    world.hosts[number].store.mutations().unwrap().last()
}

fn address_of(world: &mut World, at: usize, to: usize) {
    world.hosts[at].leads.push(to);
    let index = u32::try_from(world.hosts[at].leads.len() - 1).unwrap();
    let (peer, address) = (PeerIndex(index), format!("again-{to}"));
    world.tell(at, Event::PeerAdded { peer, address });
}

#[test]
fn a_removed_node_that_dials_again_is_refused_and_what_it_writes_does_not_arrive() {
    let mut world = World::settled(2);
    remove(&mut world, 0, 1);
    assert!(world.hosts[0].closed.contains(&Reason::Removed));
    assert!(world.hosts[1].closed.is_empty() || !world.all_in_sync());
    for n in 0..30 {
        world.set(1, "theirs", &n.to_string());
        world.run(Duration::from_millis(100));
        assert_eq!(world.get(0, "theirs"), None);
    }
    let theirs = world.hosts[1].replica.status(world.now);
    let error = theirs.peers.iter().find(|peer| peer.state != "myself").unwrap().last_error;
    assert_eq!(error, Some(Reason::Disowned));
    assert!(world.hosts[0].replica.status(world.now).peers.iter().all(|p| p.state == "myself"));
    // Two dials a second and not twenty.
    let refusals = world.hosts[0].closed.iter().filter(|reason| **reason == Reason::Removed);
    assert!(refusals.count() < 16, "{:?}", world.hosts[0].closed);
}

#[test]
fn a_node_removed_on_both_sides_is_a_peer_again_once_both_have_added_it() {
    let mut world = World::settled(2);
    remove(&mut world, 0, 1);
    remove(&mut world, 1, 0);
    world.run(Duration::from_secs(3));
    assert!(world.wires.is_empty(), "{:?}", world.wires);
    world.set(0, "a", "1");
    world.set(1, "b", "2");
    address_of(&mut world, 0, 1);
    world.run(Duration::from_secs(2));
    assert_eq!(world.get(1, "a"), None, "the other side has not added us");
    address_of(&mut world, 1, 0);
    world.run_until(Duration::from_secs(3), "linked again", World::all_in_sync);
    assert_eq!(world.everywhere("a"), [Some("1".into()), Some("1".into())]);
    assert_eq!(world.everywhere("b"), [Some("2".into()), Some("2".into())]);
}

#[test]
fn nobody_waits_for_a_removed_node_from_the_moment_it_is_removed() {
    let mut world = World::settled(3);
    world.hosts[2].frozen = true;
    world.set(0, "a", "1");
    let (_, all, in_sync) = world.hosts[0].acknowledged;
    assert!(all < last(&world, 0) && in_sync == 2, "the frozen one is waited for");
    remove(&mut world, 0, 2);
    let (_, all, in_sync) = world.hosts[0].acknowledged;
    assert!(all >= last(&world, 0));
    assert_eq!(in_sync, 1);
}

#[test]
fn tombstones_are_kept_for_a_node_that_is_away_and_not_for_one_that_was_removed() {
    let mut world = World::settled(3);
    // Until everybody has met everybody, and said so.
    world.run(Duration::from_secs(1));
    world.set(0, "a", "1");
    world.kill(2);
    world.delete(0, "a");
    world.run(Duration::from_secs(5));
    let tombstones =
        |world: &World, number: usize| world.hosts[number].store.floor_counters().deleted;
    assert_eq!((tombstones(&world, 0), tombstones(&world, 1)), (1, 1));
    remove(&mut world, 0, 2);
    remove(&mut world, 1, 2);
    world.run(Duration::from_secs(3));
    assert_eq!((tombstones(&world, 0), tombstones(&world, 1)), (0, 0));
    assert_eq!(world.hosts[0].store.floor_counters().purged_unstable, 0);
}

#[test]
fn a_node_that_only_dialled_us_can_be_forgotten_and_one_with_an_address_cannot() {
    let mut world = World::new(2);
    world.tell(0, Event::PeerRemoved { peer: PeerIndex(1), refused: false });
    let mut world = World::settled_as(world);
    world.tell(1, Event::NodeForgotten { node: 1 });
    assert!(world.all_in_sync(), "its address leads there");
    world.tell(0, Event::NodeForgotten { node: 2 });
    world.run(Duration::from_secs(2));
    assert!(world.wires.is_empty());
    assert!(world.hosts[0].replica.status(world.now).peers.iter().all(|p| p.state == "myself"));
}

#[test]
fn a_dial_that_succeeds_after_its_address_was_removed_makes_no_link() {
    let mut world = World::settled(2);
    let link = LinkId(1001);
    world.tell(0, Event::Opened { link, dialled: Some(PeerIndex(77)) });
    assert_eq!(world.hosts[0].closed.last(), Some(&Reason::Removed));
}

#[test]
fn what_a_node_has_heard_from_one_that_was_removed_is_not_forgotten() {
    let mut world = World::settled(2);
    world.set(1, "a", "1");
    world.run(Duration::from_secs(2));
    let heard = |world: &World| world.hosts[0].replica.standing(world.now).heard;
    let before = heard(&world);
    assert!(before >= last(&world, 1));
    remove(&mut world, 0, 1);
    assert_eq!(heard(&world), before);
    let scans = |world: &World| {
        let status = world.hosts[1].replica.status(world.now);
        let its = status.peers.iter().find(|peer| peer.node == Some(1)).unwrap();
        (its.resumes, its.scans_boot + its.scans_overrun)
    };
    let before = scans(&world);
    address_of(&mut world, 0, 1);
    world.run_until(Duration::from_secs(3), "linked again", World::all_in_sync);
    assert_eq!(scans(&world), (before.0 + 1, before.1), "its stream goes on where it was");
}
