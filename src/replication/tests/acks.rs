//! What is acknowledged, and who is waited for.

use super::super::wire::Frame;
use super::*;
use crate::settings::ACK_TIMEOUT;

#[test]
fn what_a_peer_has_applied_is_acknowledged_to_the_driver() {
    let mut world = World::settled(3);
    world.set(0, "a", "1");
    let last = world.hosts[0].store.mutations().unwrap().last();
    let (one, all, in_sync) = world.hosts[0].acknowledged;
    assert!(one >= last && all >= last, "{one:?} {all:?} {last:?}");
    assert_eq!(in_sync, 2);
}

#[test]
fn a_frozen_peer_is_waited_for_no_longer_than_the_ack_timeout_and_comes_back() {
    let mut world = World::settled(3);
    world.hosts[2].frozen = true;
    world.set(0, "a", "1");
    let last = world.hosts[0].store.mutations().unwrap().last();
    let (one, all, _) = world.hosts[0].acknowledged;
    assert!(one >= last && all < last, "one has it, not all");
    world.run(ACK_TIMEOUT + 3 * TICK);
    let (_, all, in_sync) = world.hosts[0].acknowledged;
    assert!(all >= last, "it is not waited for any more");
    assert_eq!(in_sync, 1);
    assert_eq!(world.hosts[0].replica.status(world.now).ack_timeouts, 1);
    world.run(Duration::from_secs(5));
    world.hosts[2].frozen = false;
    world.run_until(Duration::from_secs(3), "back in sync", World::all_in_sync);
    assert_eq!(world.get(2, "a").as_deref(), Some("1"));
}

#[test]
fn a_peer_that_answers_heartbeats_late_is_in_sync_until_a_write_is_waited_for_in_vain() {
    let mut world = World::settled(2);
    world.hosts[1].frozen = true;
    world.run(4 * ACK_TIMEOUT);
    assert_eq!(world.hosts[0].acknowledged.2, 1);
    assert_eq!(world.hosts[0].replica.status(world.now).ack_timeouts, 0);
    world.set(0, "a", "1");
    assert!(world.hosts[0].acknowledged.0 < last(&world, 0), "it is waited for");
    world.run(ACK_TIMEOUT + 3 * TICK);
    assert_eq!(world.hosts[0].acknowledged.2, 0);
    assert_eq!(world.hosts[0].replica.status(world.now).ack_timeouts, 1);
    world.hosts[1].frozen = false;
    world.run_until(Duration::from_secs(1), "a heartbeat is enough", World::all_in_sync);
}

#[test]
fn while_two_batches_are_under_way_to_a_peer_in_sync_the_rest_gathers_into_one() {
    let mut world = World::settled(2);
    let wire = *world.wires.keys().next().unwrap();
    world.stuck = vec![(1, wire)];
    let batches = |world: &World| {
        let status = world.hosts[0].replica.status(world.now);
        status.peers.iter().map(|peer| peer.sent_batches).sum::<u64>()
    };
    let before = batches(&world);
    for n in 0..20 {
        world.set(0, &format!("key {n}"), "1");
    }
    assert_eq!(batches(&world), before + 2);
    assert!(world.hosts[0].replica.is_held_back());
    world.stuck.clear();
    world.run(2 * TICK);
    assert_eq!(batches(&world), before + 3, "the other 18 went together");
    assert!(!world.hosts[0].replica.is_held_back());
    assert_eq!(world.get(1, "key 19").as_deref(), Some("1"));
    assert!(world.hosts[0].acknowledged.0 >= last(&world, 0));
}

/// Settled, and gathering, but for no time that the clock tells.
fn world_where_nobody_waits() -> World {
    let world = World::tuned(2, 1 << 20, |config| config.gather = Duration::from_nanos(1));
    let mut world = World::settled_as(world);
    world.run(4 * TICK);
    world
}

#[test]
fn what_nobody_waits_for_is_acknowledged_together_a_moment_later() {
    let mut world = world_where_nobody_waits();
    world.set(0, "a", "1");
    let first = last(&world, 0);
    assert!(world.hosts[0].acknowledged.0 >= first, "there was silence before");
    world.set(0, "b", "1");
    world.set(0, "c", "1");
    assert_eq!(world.get(1, "c").as_deref(), Some("1"));
    world.run(2 * TICK);
    assert!(world.hosts[0].acknowledged.0 < last(&world, 0), "each would wake a thread");
    world.run(TICK);
    assert!(world.hosts[0].acknowledged.0 >= last(&world, 0));
}

/// Else he would be taken for slow, though he is not: he does not know how long we wait.
#[test]
fn where_only_ours_is_a_short_ack_timeout_a_peer_acknowledges_in_time() {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, |config| {
        config.gather = Duration::from_nanos(1);
        config.ack_timeout = if config.node == 1 { 2 * TICK } else { 25 * TICK };
    }));
    for n in 0..50 {
        world.set(0, &format!("key {n}"), "1");
        world.run(TICK);
    }
    assert_eq!(world.hosts[0].replica.status(world.now).ack_timeouts, 0);
    assert!(world.hosts[0].acknowledged.0 >= last(&world, 0));
}

#[test]
fn who_writes_has_acknowledged_before_what_he_knew_of() {
    let mut world = world_where_nobody_waits();
    world.set(0, "a", "1");
    world.set(0, "a", "2");
    world.set(1, "a", "3");
    assert!(world.hosts[0].acknowledged.0 >= last(&world, 0));
    assert_eq!(world.hosts[0].replica.status(world.now).conflicts, 0);
}

#[test]
fn with_nobody_there_nobody_is_waited_for() {
    let mut world = World::settled(2);
    world.kill(1);
    assert_eq!(world.hosts[0].acknowledged.2, 0);
    world.set(0, "a", "1");
    assert_eq!(world.hosts[0].acknowledged.2, 0);
}

#[test]
fn a_connection_on_its_way_to_another_node_keeps_nobody_waiting_for_one_that_died() {
    let mut world = World::settled(3);
    world.hosts[2].frozen = true;
    world.reset(|ends| ends == (0, 2));
    world.run(Duration::from_millis(60));
    assert!(world.wires.values().any(|ends| *ends == (0, 2)), "it was dialled and says nothing");
    world.kill(1);
    assert_eq!(world.hosts[0].acknowledged.2, 0);
}

/// A second connection of the pair, which the node dials whose connections stay.
fn second_connection(world: &mut World) -> (LinkId, LinkId) {
    let first =
        *world.wires.iter().find(|(_, ends)| **ends == (0, 1) || **ends == (1, 0)).unwrap().0;
    for host in &mut world.hosts {
        host.fewest = usize::MAX;
        host.closed.clear();
    }
    let second = world.connect(0, 1, PeerIndex(1));
    (first, second)
}

fn last(world: &World, number: usize) -> crate::version::Version {
    world.hosts[number].store.mutations().unwrap().last()
}

#[test]
fn while_a_connection_replaces_another_no_write_is_answered_that_the_peer_does_not_have() {
    for hears_late in [0, 1] {
        let mut world = World::settled(2);
        let (first, second) = second_connection(&mut world);
        world.stuck = vec![(0, first), (1, first), (1 - hears_late, second)];
        for number in [0, 1] {
            world.set(number, &format!("on the first {number}"), "1");
        }
        let closes =
            |world: &World| world.hosts.iter().filter(|host| !host.closed.is_empty()).count();
        assert_eq!(closes(&world), 1, "one end knows of the second connection");
        for number in [0, 1] {
            world.set(number, &format!("between {number}"), "1");
            let (one, all, in_sync) = world.hosts[number].acknowledged;
            assert!(one < last(&world, number) && all < last(&world, number));
            assert_eq!(in_sync, 1, "the other is still waited for");
        }
        world.stuck.clear();
        world.deliver();
        for number in [0, 1] {
            let (one, all, _) = world.hosts[number].acknowledged;
            assert!(one >= last(&world, number) && all >= last(&world, number));
            assert_eq!(world.hosts[number].fewest, 1, "somebody was waited for all the time");
            for key in ["on the first", "between"] {
                assert_eq!(world.get(1 - number, &format!("{key} {number}")).as_deref(), Some("1"));
            }
        }
        assert!(world.all_in_sync());
    }
}

#[test]
fn who_dies_while_a_connection_replaces_another_is_not_waited_for() {
    for hears_late in [0, 1] {
        let mut world = World::settled(2);
        let (first, second) = second_connection(&mut world);
        world.stuck = vec![(0, first), (1, first), (1 - hears_late, second)];
        world.deliver();
        assert_eq!(world.hosts[hears_late].acknowledged.2, 1);
        world.kill(1 - hears_late);
        assert_eq!(world.hosts[hears_late].acknowledged.2, 0);
    }
}

#[test]
fn an_acknowledgement_counts_for_what_was_sent_on_its_own_connection() {
    let mut world = World::settled(2);
    let (first, second) = second_connection(&mut world);
    world.deliver();
    assert!(!world.wires.contains_key(&first));
    world.stuck = vec![(0, second)];
    world.set(0, "a", "1");
    let written = last(&world, 0);
    let mut late = Vec::new();
    Frame::Ack { version: written }.encode(&mut late);
    world.tell(0, Event::Received { link: first, bytes: &late });
    assert!(world.hosts[0].acknowledged.0 < written, "the first connection is no more");
    let mut beyond = Vec::new();
    Frame::Ack { version: crate::version::Version(written.0 + (1 << 30)) }.encode(&mut beyond);
    world.tell(0, Event::Received { link: second, bytes: &beyond });
    world.set(0, "b", "1");
    assert!(world.hosts[0].acknowledged.0 < last(&world, 0), "nobody can have what was not sent");
    world.stuck.clear();
    world.deliver();
    assert!(world.hosts[0].acknowledged.0 >= last(&world, 0));
    assert_eq!(world.get(1, "b").as_deref(), Some("1"));
}

#[test]
fn what_was_applied_is_acknowledged_even_if_its_connection_was_replaced_before() {
    let mut world = World::settled(2);
    let first = *world.wires.keys().next().unwrap();
    world.stuck = vec![(1, first)];
    world.set(0, "a", "1");
    assert_eq!(world.get(1, "a").as_deref(), Some("1"));
    assert!(world.hosts[0].acknowledged.0 < last(&world, 0), "its acknowledgement is on its way");
    second_connection(&mut world);
    world.deliver();
    assert!(!world.wires.contains_key(&first));
    assert!(world.hosts[0].acknowledged.0 >= last(&world, 0));
    assert_eq!(world.hosts[0].fewest, 1);
}

#[test]
fn acknowledgements_only_grow() {
    let mut world = World::settled(2);
    let mut before = world.hosts[0].acknowledged;
    for n in 0..50 {
        world.set(0, "a", &n.to_string());
        if n % 10 == 0 {
            world.reset(|_| true);
        }
        world.run(Duration::from_millis(100));
        let (one, all, _) = world.hosts[0].acknowledged;
        assert!(one >= before.0 && all >= before.1);
        before = world.hosts[0].acknowledged;
    }
    assert!(before.0 > crate::version::Version(0));
}

#[test]
fn a_link_is_given_no_more_than_it_can_take_until_it_has_been_written() {
    let tune = |config: &mut ReplicaConfig| config.under_way_max = usize::MAX;
    let mut world = World::settled_as(World::tuned(2, 1 << 20, tune));
    let value = "v".repeat(8_000);
    let link = *world.wires.keys().next().unwrap();
    let mut given = 0;
    for n in 0..500 {
        let store = world.hosts[0].store.clone();
        let write = Write::new(Mode::Set, value.as_bytes(), 0, Expiry::NEVER);
        store.write(store.key(n.to_string().as_bytes()), &write, world.now).unwrap();
        let mut effects = Vec::new();
        world.hosts[0].replica.handle(Event::Logged, world.now, &mut effects);
        for effect in effects {
            if let Effect::Send { link: to, bytes } = effect {
                assert_eq!(to, link);
                given += bytes.len();
                world.flying.push_back((0, to, bytes));
            }
        }
    }
    assert!(given > 1 << 20, "{given}");
    assert!(given < (1 << 20) + (128 << 10), "{given}");
    world.run(Duration::from_millis(200));
    assert_eq!(world.get(1, "499"), Some(value), "the rest came when there was room");
}

#[test]
fn who_waits_for_an_acknowledgement_does_not_wait_for_sums() {
    let tune = |config: &mut ReplicaConfig| config.audit_every = Duration::from_secs(1);
    let mut world = World::settled_as(World::tuned(2, 1 << 20, tune));
    let is_summing = |world: &World| world.hosts[1].replica.is_busy();
    let until = world.now.plus(Duration::from_secs(5));
    while !is_summing(&world) {
        assert!(world.now < until, "nobody asks for a comparison");
        if !world.deliver_next() {
            world.now = world.now.plus(TICK);
            (0..2).for_each(|number| world.tell(number, Event::Tick));
        }
    }
    let store = world.hosts[0].store.clone();
    let write = Write::new(Mode::Set, b"1", 0, Expiry::NEVER);
    store.write(store.key(b"a"), &write, world.now).unwrap();
    world.tell(0, Event::Logged);
    while world.hosts[0].acknowledged.1 < store.mutations().unwrap().last() {
        assert!(is_summing(&world), "the comparison went on before");
        assert!(world.deliver_next());
    }
    world.deliver();
    assert!(!is_summing(&world), "it goes on at leisure");
}

/// A peer that has a value still is scanned for what its log does not tell any more, a delete of that
/// value too; a client writes it anew at a step of the scan. How many steps there are, and whether the
/// delete is acknowledged while the peer has the old value.
fn written_anew_at(step: usize, tune: fn(&mut ReplicaConfig)) -> (usize, bool) {
    let mut world = World::settled_as(World::tuned(2, 4_096, tune));
    world.set(0, "k", "1");
    world.run(Duration::from_secs(1));
    world.cut.push((0, 1));
    world.reset(|_| true);
    world.delete(0, "k");
    let deleted = last(&world, 0);
    (0..300).for_each(|n| world.set(0, &format!("more{n}"), "1"));
    assert_eq!(world.get(1, "k").as_deref(), Some("1"));
    world.cut.clear();
    let (mut steps, mut is_untold) = (0, false);
    let until = world.now.plus(Duration::from_secs(5));
    while !world.all_in_sync() {
        assert!(world.now < until, "they do not come to be in sync");
        if !world.deliver_next() {
            world.now = world.now.plus(TICK);
            (0..2).for_each(|number| world.tell(number, Event::Tick));
        }
        if world.hosts[0].replica.links.values().any(|link| link.going.scan.is_some()) {
            steps += 1;
            if steps == step {
                world.log(0, "k", "2", Expiry::NEVER);
            }
        }
        let is_acknowledged = world.hosts[0].acknowledged.0 >= deleted;
        is_untold |= is_acknowledged && world.get(1, "k").as_deref() == Some("1");
    }
    world.run(Duration::from_secs(1));
    let expected = (step <= steps).then(|| "2".to_owned());
    assert_eq!(world.everywhere("k"), [expected.clone(), expected]);
    (steps, is_untold)
}

#[test]
fn a_delete_that_a_scan_missed_is_not_acknowledged_before_the_stream_has_told_what_hid_it() {
    let gathering = |config: &mut ReplicaConfig| config.gather = Duration::from_millis(200);
    let (steps, _) = written_anew_at(usize::MAX, gathering);
    let is_untold_at = |tune| (1..=steps).any(|step| written_anew_at(step, tune).1);
    assert!(!is_untold_at(gathering));
    assert!(is_untold_at(|config| {
        config.gather = Duration::from_millis(200);
        config.broken.scan_done_early = true;
    }));
}
