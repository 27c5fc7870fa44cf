//! Faults, and that nothing is left of them.

use super::*;
use crate::clock::UnixSeconds;
use crate::store::{Kind, Record};
use crate::version::Version;

fn cut_for(world: &mut World, time: Duration) {
    world.cut.push((0, 1));
    world.run(time);
}

fn heal(world: &mut World) {
    world.cut.clear();
    world.run_until(Duration::from_secs(3), "in sync again", World::all_in_sync);
}

fn assert_nothing_repaired(world: &World) {
    for host in &world.hosts {
        let status = host.replica.status(world.now);
        assert_eq!(status.digest_mismatch_repairs, 0);
        assert!(status.peers.iter().all(|peer| peer.scans_digest == 0), "{status:?}");
    }
}

#[test]
fn a_link_that_was_away_goes_on_where_it_stopped_without_a_scan() {
    let mut world = World::settled(2);
    world.set(0, "before", "1");
    world.run(Duration::from_secs(1));
    cut_for(&mut world, Duration::from_secs(4));
    world.set(0, "x", "on 0");
    world.set(1, "y", "on 1");
    assert_eq!(world.get(1, "x"), None);
    heal(&mut world);
    assert_eq!(world.everywhere("x"), vec![Some("on 0".to_owned()); 2]);
    assert_eq!(world.everywhere("y"), vec![Some("on 1".to_owned()); 2]);
    for host in &world.hosts {
        let status = host.replica.status(world.now);
        let resumes: u64 = status.peers.iter().map(|peer| peer.resumes).sum();
        let overruns: u64 = status.peers.iter().map(|peer| peer.scans_overrun).sum();
        assert_eq!((resumes, overruns), (1, 0), "{status:?}");
    }
}

#[test]
fn a_log_that_was_overrun_is_made_good_by_a_scan() {
    let mut world = World::settled_as(World::tuned(2, 2_000, |_| {}));
    world.set(0, "gone", "1");
    cut_for(&mut world, Duration::from_secs(4));
    world.delete(0, "gone");
    for n in 0..500 {
        world.set(0, &format!("key-{n}"), "v");
    }
    heal(&mut world);
    for n in 0..500 {
        assert_eq!(world.get(1, &format!("key-{n}")).as_deref(), Some("v"), "{n}");
    }
    assert_eq!(world.get(1, "gone"), None, "the scan tells of floors");
    let status = world.hosts[0].replica.status(world.now);
    assert!(status.peers.iter().any(|peer| peer.scans_overrun > 0), "{status:?}");
}

#[test]
fn a_scan_tells_of_values_that_are_about_to_expire() {
    let mut world = World::settled_as(World::tuned(2, 2_000, |_| {}));
    world.set(0, "known", "so that there are sums");
    cut_for(&mut world, Duration::from_secs(4));
    let soon = Expiry::at(UnixSeconds(world.now.seconds().0 + 4));
    world.set_until(0, "short", "v", soon);
    for n in 0..200 {
        world.set(0, "hot", &n.to_string());
    }
    // Until it expires before the cutoff, but not yet.
    world.run(Duration::from_millis(1_500));
    heal(&mut world);
    assert!(world.get(0, "short").is_some());
    assert_eq!(world.get(1, "short").as_deref(), Some("v"));
}

#[test]
fn a_node_that_restarts_empty_is_given_everything_before_it_is_ready() {
    let mut world = World::settled(2);
    for n in 0..3_000 {
        world.set(n % 2, &format!("key-{n}"), "v");
    }
    world.kill(1);
    world.run(Duration::from_millis(100));
    world.restart(1);
    world.run_until(Duration::from_secs(2), "ready", World::all_ready);
    for n in 0..3_000 {
        assert_eq!(world.get(1, &format!("key-{n}")).as_deref(), Some("v"), "{n}");
    }
    assert!(!world.hosts[1].replica.status(world.now).bootstrapped_alone);
}

#[test]
fn what_a_dead_node_told_only_one_survivor_reaches_the_other() {
    let mut world = World::settled(3);
    world.run(Duration::from_secs(1));
    world.cut.push((0, 2));
    world.set(0, "x", "told to 1 only");
    assert_eq!(world.get(2, "x"), None);
    world.kill(0);
    world.run_until(Duration::from_secs(3), "repaired", |world| world.get(2, "x").is_some());
    let repairs = |n: usize| world.hosts[n].replica.status(world.now).digest_mismatch_repairs;
    assert_eq!(repairs(1) + repairs(2), 0, "a difference after a fault is no mistake");
}

/// Many keys at node 0, so that sums take several steps, and writes of them all the time.
fn busy_while(world: &mut World, time: Duration, mut at_each_step: impl FnMut(&World) -> bool) {
    let until = world.now.plus(time);
    for n in 0.. {
        if world.now >= until || at_each_step(world) {
            return;
        }
        for k in 0..4 {
            world.set(0, &format!("key-{}", (4 * n + k) * 7_919 % MANY), &n.to_string());
        }
        world.run(TICK);
    }
}

const MANY: usize = 20_000;

fn busy_world() -> World {
    let mut world = World::settled(3);
    for n in 0..MANY {
        world.set(0, &format!("key-{n}"), "v");
    }
    world
}

fn scans_of_repair(world: &World) -> u64 {
    let statuses = world.hosts.iter().map(|host| host.replica.status(world.now));
    statuses.flat_map(|status| status.peers).map(|peer| peer.scans_digest).sum()
}

#[test]
fn writes_on_their_way_are_not_taken_for_a_difference_after_a_fault() {
    let mut world = busy_world();
    world.kill(2);
    busy_while(&mut world, Duration::from_secs(4), |_| false);
    assert_eq!(scans_of_repair(&world), 0);
}

#[test]
fn what_a_dead_node_told_only_one_survivor_reaches_the_other_while_clients_write() {
    let mut world = busy_world();
    world.cut.push((1, 2));
    world.set(2, "x", "told to 0 only");
    world.kill(2);
    busy_while(&mut world, Duration::from_secs(4), |world| world.get(1, "x").is_some());
    assert_eq!(world.everywhere("x"), vec![Some("told to 0 only".to_owned()); 2]);
    assert!(scans_of_repair(&world) > 0);
}

#[test]
fn without_comparing_sums_survivors_of_a_dead_node_stay_different() {
    let mut world = World::settled_as(World::tuned(3, 1 << 20, |config| {
        config.broken = Broken { no_digest_repair: true, ..Broken::default() };
    }));
    world.cut.push((0, 2));
    world.set(0, "x", "told to 1 only");
    world.kill(0);
    world.run(Duration::from_secs(10));
    assert_eq!(world.everywhere("x"), [Some("told to 1 only".to_owned()), None]);
}

/// Gives node 0 a value of "x" of which it tells nobody.
fn smuggle(world: &World, value: &str) {
    let version = Version::floor_at(world.now);
    let record = Record { kind: Kind::Value, ..Record::lost(version, version) };
    world.hosts[0].store.merge(b"x", &record, value.as_bytes(), world.now);
}

#[test]
fn a_difference_that_nothing_explains_is_repaired_by_the_audit_and_counted() {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, |config| {
        config.audit_every = Duration::from_secs(5);
    }));
    world.run(Duration::from_secs(1));
    smuggle(&world, "smuggled");
    world.run_until(Duration::from_secs(15), "repaired", |world| world.get(1, "x").is_some());
    let status = world.hosts.iter().map(|host| host.replica.status(world.now));
    assert!(status.map(|status| status.digest_mismatch_repairs).sum::<u64>() > 0);
}

#[test]
fn a_routine_audit_that_finds_its_peer_busy_repairs_nothing_until_that_is_quiet() {
    let mut world = World::settled_as(World::tuned(3, 1 << 20, |config| {
        config.audit_every = Duration::from_secs(2);
    }));
    world.run(Duration::from_secs(1));
    world.cut.push((0, 2));
    world.reset(|pair| pair == (0, 2) || pair == (2, 0));
    // What follows upon a connection's end is over.
    world.run(Duration::from_secs(4));
    for n in 0..100 {
        world.set(2, "busy", &n.to_string());
        world.run(Duration::from_millis(100));
        assert_eq!((world.get(0, "busy"), world.get(1, "busy")), (None, Some(n.to_string())));
    }
    world.run_until(Duration::from_secs(5), "told", |world| world.get(0, "busy").is_some());
}

#[test]
fn an_audit_of_a_quiet_pair_repairs_nothing() {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, |config| {
        config.audit_every = Duration::from_secs(2);
    }));
    for n in 0..200 {
        let expiry = Expiry::at(UnixSeconds(world.now.seconds().0 + 1 + n % 5));
        world.set_until((n % 2) as usize, &format!("key-{n}"), "v", expiry);
        world.run(Duration::from_millis(100));
    }
    assert_nothing_repaired(&world);
}

/// A pair of which node 1 has evicted something.
fn with_an_eviction(tune: fn(&mut ReplicaConfig)) -> World {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, tune));
    world.set(0, "evicted on 1", "v");
    world.run(Duration::from_secs(5));
    let now = world.now;
    assert!(world.hosts[1].store.evict_for_test(b"evicted on 1", now));
    world
}

#[test]
fn a_node_that_has_evicted_is_no_alarm_whatever_is_reset() {
    let mut world = with_an_eviction(|config| config.audit_every = Duration::from_secs(2));
    world.hosts[1].store.reset_counters();
    world.run(Duration::from_secs(10));
    assert_nothing_repaired(&world);
    assert_eq!(world.everywhere("evicted on 1"), [Some("v".to_owned()), None]);
}

#[test]
fn a_peer_that_has_evicted_is_not_asked_for_its_sums_again_and_again() {
    let mut world = with_an_eviction(|config| config.audit_every = Duration::from_secs(10));
    let rounds = |world: &World| -> u32 {
        world.hosts[0].replica.links.values().map(|link| link.audit.round).sum()
    };
    let before = rounds(&world);
    world.run(Duration::from_secs(30));
    let asked = rounds(&world) - before;
    assert!((10..=32).contains(&asked), "once a second, and not four times: {asked}");
}

#[test]
fn floors_go_when_everybody_has_applied_them_and_stay_while_one_is_away() {
    let mut world = World::settled(3);
    let floors = |world: &World, n: usize| world.hosts[n].store.floor_counters().deleted;
    // Until everybody has met everybody, and said so.
    world.run(Duration::from_secs(1));
    world.set(0, "a", "1");
    world.delete(0, "a");
    assert_eq!(floors(&world, 1), 1);
    world
        .run_until(Duration::from_secs(2), "let go", |world| (0..3).all(|n| floors(world, n) == 0));
    world.kill(2);
    world.run(Duration::from_secs(3));
    world.set(0, "b", "1");
    world.delete(0, "b");
    world.run(Duration::from_secs(10));
    assert_eq!((floors(&world, 0), floors(&world, 1)), (1, 1), "node 2 is away");
}

#[test]
fn a_delete_is_not_undone_by_a_node_that_was_away() {
    let mut world = World::settled(3);
    world.set(0, "session", "1");
    world.run(Duration::from_secs(2));
    world.cut = vec![(0, 2), (1, 2)];
    world.run(Duration::from_secs(4));
    world.delete(1, "session");
    world.run(Duration::from_secs(30));
    world.cut.clear();
    world.run_until(Duration::from_secs(4), "in sync", World::all_in_sync);
    world.run(Duration::from_secs(2));
    assert_eq!(world.everywhere("session"), vec![None; 3]);
}

fn touch(world: &World, number: usize, key: &str, seconds: u32) {
    let store = world.hosts[number].store.clone();
    let until = Expiry::at(UnixSeconds(world.now.seconds().0 + seconds));
    let fetch = Fetch { touch: Some(until), ..Fetch::default() };
    let head = Head { context: &(), write: |(), _, _| {} };
    store.fetch(store.key(key.as_bytes()), &fetch, world.now, &head, &mut Vec::new());
}

#[test]
fn a_touch_of_what_a_peer_lacks_brings_the_record_and_is_not_acknowledged_before() {
    let mut world = World::settled(2);
    world.run(Duration::from_secs(1));
    smuggle(&world, "only here");
    touch(&world, 0, "x", 1_000);
    world.tell(0, Event::Logged);
    // Node 1 asks; the question is lost, and so is the connection.
    let (from, link, bytes) = world.flying.pop_front().unwrap();
    assert_eq!(from, 0);
    world.tell(1, Event::Received { link, bytes: &bytes });
    world.flying.clear();
    world.reset(|_| true);
    world.run_until(Duration::from_secs(3), "in sync", World::all_in_sync);
    assert_eq!(world.get(1, "x").as_deref(), Some("only here"));
    let status = world.hosts[1].replica.status(world.now);
    assert_eq!(
        status.peers.iter().map(|peer| peer.needs).sum::<u64>(),
        2,
        "it asked again after the connection was lost"
    );
}

/// Of what is about to expire no sum tells.
#[test]
fn who_touches_what_is_gone_is_told_so_at_once_by_who_knows_unless_his_stream_tells_it() {
    let mut world = World::settled(3);
    world.run(Duration::from_secs(1));
    let sent = |world: &World, number: usize| {
        let status = world.hosts[number].replica.status(world.now);
        status.peers.iter().map(|peer| peer.sent_records).sum::<u64>()
    };
    for (deletes, knows) in [(2, 0), (0, 2)] {
        let soon = Expiry::at(UnixSeconds(world.now.seconds().0 + 2));
        world.set_until(1, "session", "v", soon);
        let wire = world.wires.iter().find(|(_, ends)| [(1, deletes), (deletes, 1)].contains(ends));
        let wire = *wire.unwrap().0;
        // Its word to node 1 is on its way, while node 1's comes through.
        world.stuck.push((deletes, wire));
        world.delete(deletes, "session");
        assert!(world.get(1, "session").is_some());
        let before = [deletes, knows].map(|number| sent(&world, number));
        touch(&world, 1, "session", 2);
        world.tell(1, Event::Logged);
        world.deliver();
        assert_eq!(world.get(1, "session"), None);
        let after = [deletes, knows].map(|number| sent(&world, number));
        assert_eq!(after, [before[0], before[1] + 1]);
        world.stuck.clear();
        world.deliver();
    }
}

#[test]
fn a_flush_reaches_everybody_and_a_delayed_one_too() {
    let mut world = World::settled(2);
    world.set(0, "a", "1");
    world.hosts[1].store.flush_all(world.now);
    world.tell(1, Event::Logged);
    world.run(TICK);
    assert_eq!(world.everywhere("a"), vec![None; 2]);
    world.set(0, "b", "1");
    let at = UnixSeconds(world.now.seconds().0 + 3);
    world.hosts[1].store.flush_all_at(at, world.now);
    world.tell(1, Event::Logged);
    world.run(Duration::from_secs(1));
    assert_eq!(world.everywhere("b"), vec![Some("1".to_owned()); 2]);
    world.run(Duration::from_secs(4));
    assert_eq!(world.everywhere("b"), vec![None; 2]);
}

#[test]
fn of_what_piled_up_for_an_absent_peer_each_key_is_told_once_and_all_of_it_before_any_counts() {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, |config| config.read_bytes = 100));
    world.set(0, "gone", "0");
    world.cut.push((0, 1));
    world.reset(|_| true);
    let sent = |world: &World| {
        let status = world.hosts[0].replica.status(world.now);
        status.peers.iter().map(|peer| peer.sent_records).sum::<u64>()
    };
    let before = sent(&world);
    for n in 0..300 {
        world.set(0, ["a", "b", "c"][n % 3], &n.to_string());
    }
    world.delete(0, "gone");
    world.cut.clear();
    world.run_until(Duration::from_secs(3), "in sync again", World::all_in_sync);
    assert_eq!(sent(&world) - before, 4);
    assert_eq!(
        ["a", "b", "c", "gone"].map(|key| world.get(1, key)),
        [Some("297".to_owned()), Some("298".to_owned()), Some("299".to_owned()), None]
    );
    world.set(0, "a", "300");
    assert_eq!(world.get(1, "a").as_deref(), Some("300"));
}
