//! What is acknowledged, and who is waited for.

use super::*;

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
    world.run(Duration::from_millis(80));
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
fn with_nobody_there_nobody_is_waited_for() {
    let mut world = World::settled(2);
    world.kill(1);
    world.run(TICK);
    assert_eq!(world.hosts[0].acknowledged.2, 1, "it may be back at once");
    world.run(Duration::from_millis(60));
    assert_eq!(world.hosts[0].acknowledged.2, 0);
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
    let mut world = World::settled(2);
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
