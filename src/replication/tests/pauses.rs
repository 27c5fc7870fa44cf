//! Nodes that stand still for a moment.

use super::*;
use crate::settings::ACK_TIMEOUT;

/// Longer than peers wait, shorter than what makes a node begin anew.
const MOMENT: Duration = Duration::from_millis(1_000);

fn sleeps(world: &mut World, number: usize, time: Duration) {
    world.hosts[number].frozen = true;
    world.run(time);
}

/// It goes on, and has read nothing yet.
fn wakes(world: &mut World, number: usize) {
    world.hosts[number].frozen = false;
    world.now = world.now.plus(TICK);
    world.tell(number, Event::Tick);
}

#[test]
fn who_stood_still_for_a_moment_answers_when_it_has_heard_what_others_did_without_it() {
    let mut world = World::settled(3);
    world.set(1, "k", "old");
    world.hosts[1].frozen = true;
    world.run(ACK_TIMEOUT / 2);
    world.set(0, "k", "new");
    world.set(2, "other", "new");
    sleeps(&mut world, 1, MOMENT);
    assert_eq!(world.hosts[0].acknowledged.2, 1, "it is waited for no more");
    wakes(&mut world, 1);
    assert!(world.hosts[1].replica.is_paused());
    assert_eq!(world.get(1, "k").as_deref(), Some("old"));
    world.deliver();
    assert!(!world.hosts[1].replica.is_paused(), "one round trip is enough");
    assert_eq!(world.hosts[1].replica.state(), State::Ready);
    assert_eq!(world.get(1, "k").as_deref(), Some("new"));
    assert_eq!(world.get(1, "other").as_deref(), Some("new"));
    let status = world.hosts[1].replica.status(world.now);
    assert_eq!((status.pauses, status.stalls), (1, 0));
    world.set(0, "k", "newer");
    world.set(2, "k", "newest");
    world.run_until(Duration::from_secs(1), "in sync again", World::all_in_sync);
}

#[test]
fn what_is_still_to_be_sent_when_a_peer_is_asked_is_waited_for() {
    let mut world = World::settled(2);
    let value = "v".repeat(8_000);
    world.hosts[1].frozen = true;
    let store = world.hosts[0].store.clone();
    for n in 0..500 {
        let write = Write::new(Mode::Set, value.as_bytes(), 0, Expiry::NEVER);
        store.write(store.key(n.to_string().as_bytes()), &write, world.now).unwrap();
    }
    world.tell(0, Event::Logged);
    world.run(MOMENT);
    assert!(store.mutations().unwrap().last() > world.hosts[0].acknowledged.0);
    wakes(&mut world, 1);
    world.run_until(Duration::from_millis(400), "it serves", |world| {
        let is_paused = world.hosts[1].replica.is_paused();
        assert!(is_paused || world.get(1, "499").is_some(), "it serves without the last write");
        !is_paused
    });
}

#[test]
fn a_stop_shorter_than_peers_wait_and_one_of_a_node_alone_cost_no_client_anything() {
    let mut world = World::settled(2);
    sleeps(&mut world, 1, Duration::from_millis(180));
    wakes(&mut world, 1);
    assert!(!world.hosts[1].replica.is_paused());
    world.kill(0);
    world.run(Duration::from_millis(100));
    sleeps(&mut world, 1, MOMENT);
    wakes(&mut world, 1);
    assert!(!world.hosts[1].replica.is_paused());
    assert_eq!(world.hosts[1].replica.state(), State::Ready);
}

#[test]
fn a_peer_that_says_nothing_is_waited_for_half_a_second() {
    let mut world = World::settled(2);
    sleeps(&mut world, 1, MOMENT);
    world.hosts[0].frozen = true;
    wakes(&mut world, 1);
    world.run(Duration::from_millis(480));
    assert!(world.hosts[1].replica.is_paused());
    world.run(Duration::from_millis(30));
    assert!(!world.hosts[1].replica.is_paused());
    assert_eq!(world.hosts[1].replica.state(), State::Ready);
}

#[test]
fn a_peer_that_stands_still_itself_does_not_make_a_node_begin_anew_that_stood_still_for_a_moment() {
    let mut world = World::settled(2);
    world.hosts[0].frozen = true;
    world.run(Duration::from_millis(1_800));
    sleeps(&mut world, 1, Duration::from_millis(300));
    wakes(&mut world, 1);
    assert!(world.hosts[1].replica.is_paused());
    world.run(Duration::from_millis(400));
    let status = world.hosts[1].replica.status(world.now);
    assert!(status.peers.iter().all(|peer| peer.state != "streaming"), "{:?}", status.peers);
    assert!(!world.hosts[1].replica.is_paused());
    assert_eq!(world.hosts[1].replica.state(), State::Ready);
}

#[test]
fn if_the_connection_ends_before_its_peer_was_heard_the_node_begins_anew() {
    let mut world = World::settled(2);
    sleeps(&mut world, 1, MOMENT);
    world.set(0, "k", "new");
    let link = *world.wires.keys().next().unwrap();
    world.stuck = vec![(0, link)];
    wakes(&mut world, 1);
    assert!(world.hosts[1].replica.is_paused());
    world.reset(|_| true);
    assert!(!world.hosts[1].replica.is_paused());
    assert_eq!(world.hosts[1].replica.state(), State::Loading);
    world.run_until(Duration::from_secs(1), "it serves again", World::all_ready);
    assert_eq!(world.get(1, "k").as_deref(), Some("new"));
}

/// One of three dies while both others stand still for a moment, as on a machine that many want.
#[test]
fn nodes_that_stood_still_while_another_died_wait_for_each_other_and_not_for_the_dead() {
    const WAIT_MAX: Duration = Duration::from_millis(150);
    for nodes in [2, 3] {
        let mut world = World::settled(nodes);
        world.set(0, "k", "1");
        world.hosts[1..].iter_mut().for_each(|host| host.frozen = true);
        world.run(Duration::from_millis(300));
        world.hosts[1..].iter_mut().for_each(|host| host.frozen = false);
        world.now = world.now.plus(TICK);
        (1..nodes).for_each(|number| world.tell(number, Event::Tick));
        world.kill(0);
        assert_eq!(world.hosts[1].replica.state(), State::Loading);
        world.run_until(WAIT_MAX, "those that live serve", World::all_ready);
        assert_eq!(world.get(1, "k").as_deref(), Some("1"));
    }
}

/// It may be there, and have answered clients alone.
#[test]
fn a_node_that_stood_still_looks_two_seconds_for_one_that_does_not_answer() {
    let mut world = World::settled(2);
    sleeps(&mut world, 1, MOMENT);
    wakes(&mut world, 1);
    world.cut.push((0, 1));
    world.reset(|_| true);
    world.run(Duration::from_millis(1_900));
    assert_eq!(world.hosts[1].replica.state(), State::Loading);
    world.run_until(Duration::from_millis(200), "it serves alone", World::all_ready);
}

#[test]
fn who_stood_still_does_not_blame_its_peer_for_it() {
    let mut world = World::settled(2);
    let link = *world.wires.keys().next().unwrap();
    world.stuck = vec![(1, link)];
    world.set(0, "k", "1");
    sleeps(&mut world, 0, MOMENT);
    wakes(&mut world, 0);
    assert_eq!(world.hosts[0].acknowledged.2, 1, "its acknowledgement is not read yet");
    world.stuck.clear();
    world.deliver();
    let last = world.hosts[0].store.mutations().unwrap().last();
    assert!(world.hosts[0].acknowledged.0 >= last);
    assert_eq!(world.hosts[0].replica.status(world.now).ack_timeouts, 0);
}

/// That a connection is open says nothing about its other end.
#[test]
fn who_begins_anew_after_a_moment_hears_first_those_whose_connections_have_lasted() {
    let mut world = World::settled(3);
    world.set(0, "k", "old");
    world.run(Duration::from_secs(2));
    sleeps(&mut world, 1, MOMENT);
    world.set(0, "k", "new");
    let is_of_both = |(_, ends): &(&LinkId, &(usize, usize))| [(0, 1), (1, 0)].contains(ends);
    let (lasting, _) = world.wires.iter().find(is_of_both).unwrap();
    world.stuck = vec![(0, *lasting)];
    wakes(&mut world, 1);
    world.reset(|ends| [(1, 2), (2, 1)].contains(&ends));
    assert_eq!(world.hosts[1].replica.state(), State::Loading);
    world.run(Duration::from_millis(300));
    assert!(world.hosts[1].replica.is_linked(3), "the other is back");
    assert_eq!(world.hosts[1].replica.state(), State::Loading);
    world.stuck.clear();
    world.run_until(Duration::from_secs(1), "it serves again", World::all_ready);
    assert_eq!(world.get(1, "k").as_deref(), Some("new"));
}
