//! When a node may serve, and how it stops.

use super::*;

#[test]
fn nodes_switched_on_together_are_ready_together_at_once() {
    for count in [2, 3, 5] {
        let mut world = World::new(count);
        world.run_until(Duration::from_millis(300), "all ready", World::all_ready);
        assert!(world.hosts.iter().all(|h| !h.replica.status(world.now).bootstrapped_alone));
    }
}

#[test]
fn a_node_that_meets_nobody_serves_alone_after_the_bootstrap_timeout() {
    let mut world = World::new(2);
    world.hosts[1].up = false;
    world.run(Duration::from_millis(9_900));
    assert_eq!(world.hosts[0].replica.state(), State::Loading);
    world.run(Duration::from_millis(200));
    assert_eq!(world.hosts[0].replica.state(), State::Ready);
    assert!(world.hosts[0].replica.status(world.now).bootstrapped_alone);
    world.restart(1);
    world.run_until(Duration::from_secs(2), "the second joins", World::all_ready);
}

#[test]
fn without_a_bootstrap_timeout_a_node_waits_for_ever() {
    let mut world = World::tuned(2, 1 << 20, |config| config.bootstrap_timeout = None);
    world.hosts[1].up = false;
    world.run(Duration::from_secs(60));
    assert_eq!(world.hosts[0].replica.state(), State::Loading);
}

#[test]
fn a_third_node_that_is_down_does_not_keep_a_restarted_one_from_serving() {
    let mut world = World::settled(3);
    world.set(0, "a", "1");
    world.kill(2);
    world.kill(1);
    world.run(Duration::from_millis(500));
    world.restart(1);
    world
        .run_until(Duration::from_secs(2), "ready", |w| w.hosts[1].replica.state() == State::Ready);
    assert_eq!(world.get(1, "a").as_deref(), Some("1"));
}

/// It may have what whoever serves here has not.
#[test]
fn who_has_not_said_yet_who_it_is_is_given_time_though_another_serves() {
    let mut world = World::settled(3);
    world.kill(1);
    // Nobody can dial the other of these two, and nothing arrives on the connection that they have.
    world.cut.push((0, 1));
    world.restart(1);
    world.connect(0, 1, PeerIndex(1));
    world.run(Duration::from_millis(900));
    assert_eq!(world.hosts[1].replica.state(), State::Loading);
    world.run_until(Duration::from_millis(400), "ready without it", |w| {
        w.hosts[1].replica.state() == State::Ready
    });
}

/// Its machine lost power, say: nothing closed its connection there, which another begins to doubt after
/// two seconds of silence.
#[test]
fn who_is_taken_for_a_second_node_while_its_last_run_is_not_missed_yet_serves_when_it_is_let_in() {
    let mut world = World::settled(3);
    world.run(Duration::from_secs(2));
    world.wires.retain(|_, ends| ![(0, 1), (1, 0)].contains(ends));
    world.kill(1);
    world.restart(1);
    let is_ready = |world: &World| world.hosts[1].replica.state() == State::Ready;
    let is_met = |world: &World| world.hosts[1].replica.is_linked(1);
    world.run_until(Duration::from_secs(5), "ready", is_ready);
    let refused = Reason::Refused(Reason::NodeTwice.number());
    assert!(world.hosts[1].closed.contains(&refused), "{:?}", world.hosts[1].closed);
    assert!(is_met(&world), "it serves without what the first node has");
    // Who goes on to see another in our place does not keep us from serving for ever.
    world.run_until(Duration::from_secs(2), "in sync", World::all_in_sync);
    world.wires.retain(|_, ends| ![(0, 1), (1, 0)].contains(ends));
    world.kill(1);
    world.restart(1);
    for _ in 0..40 {
        world.run(Duration::from_millis(100));
        let of_before = |link: &&mut Box<crate::replication::link::Link>| {
            link.met.is_some_and(|met| met.node == 2)
        };
        let now = world.now;
        let links = world.hosts[0].replica.links.values_mut();
        links.filter(of_before).for_each(|link| link.heard = now);
    }
    assert!(is_ready(&world) && !is_met(&world));
}

/// Goes on message by message until a node serves.
fn until_just_ready(world: &mut World, number: usize) {
    let until = world.now.plus(Duration::from_secs(2));
    while world.hosts[number].replica.state() != State::Ready {
        assert!(world.now < until, "it does not become ready");
        if !world.deliver_next() {
            world.now = world.now.plus(TICK);
            (0..world.hosts.len()).for_each(|number| world.tell(number, Event::Tick));
        }
    }
}

/// Otherwise one of them answers a client alone, whose next request reaches the other before the answer
/// does.
#[test]
fn whoever_begins_to_serve_is_waited_for_and_waits_for_those_who_serve() {
    let mut world = World::settled(3);
    world.set(0, "a", "1");
    world.kill(1);
    world.set(0, "b", "1");
    // It does not dial itself: of each pair there is one connection, and nothing is closed.
    world.hosts[1].leads = vec![0, 2];
    world.restart(1);
    // A connection that is opened later than the node began needs no round trip to be heard of.
    world.now = world.now.plus(TICK);
    world.tell(1, Event::Tick);
    until_just_ready(&mut world, 1);
    for host in &world.hosts {
        assert_eq!(host.acknowledged.2, 2, "somebody answers without waiting for everybody");
    }
}

/// What is logged gathers, and may be told later than that it will be waited for from now on.
#[test]
fn whoever_begins_to_serve_has_what_was_answered_without_it() {
    let mut answered = 0;
    for heard in 0..100 {
        let gather = |config: &mut ReplicaConfig| config.gather = Duration::from_millis(50);
        let mut world = World::settled_as(World::tuned(2, 1 << 20, gather));
        world.kill(1);
        world.hosts[1].leads = vec![0];
        world.restart(1);
        world.now = world.now.plus(TICK);
        world.tell(1, Event::Tick);
        for _ in 0..heard {
            world.deliver_next();
        }
        if world.hosts[0].acknowledged.2 > 0 || world.hosts[1].replica.state() == State::Ready {
            break;
        }
        world.log(0, "late", "1", Expiry::NEVER);
        until_just_ready(&mut world, 1);
        assert_eq!(world.get(1, "late").as_deref(), Some("1"), "after {heard} messages");
        answered += 1;
    }
    assert!(answered > 3, "{answered}");
}

#[test]
fn whoever_is_too_slow_to_be_waited_for_serves_all_the_same() {
    let mut world = World::tuned(2, 1 << 20, |config| config.ack_timeout = Duration::ZERO);
    world.run_until(Duration::from_secs(2), "both ready", World::all_ready);
    world.set(0, "a", "1");
    world.kill(1);
    world.restart(1);
    world.hosts[1].replica.config.ack_timeout = Duration::ZERO;
    world.run_until(Duration::from_secs(4), "ready", World::all_ready);
}

#[test]
fn a_node_that_stood_still_serves_only_after_it_has_caught_up() {
    let mut world = World::settled(2);
    world.hosts[1].frozen = true;
    world.run(Duration::from_secs(10));
    world.set(0, "a", "1");
    world.hosts[1].frozen = false;
    world.tell(1, Event::Tick);
    assert_eq!(world.hosts[1].replica.state(), State::Loading);
    assert_eq!(world.hosts[1].replica.status(world.now).stalls, 1);
    world.run_until(Duration::from_secs(2), "ready", World::all_ready);
    assert_eq!(world.get(1, "a").as_deref(), Some("1"));
}

#[test]
fn a_node_that_stood_still_has_what_a_node_that_died_meanwhile_told_others() {
    let mut world = World::settled(3);
    world.hosts[2].frozen = true;
    world.run(Duration::from_secs(3));
    world.set(0, "a", "1");
    world.run(Duration::from_millis(100));
    world.kill(0);
    world.hosts[2].frozen = false;
    world.tell(2, Event::Tick);
    assert_eq!(world.hosts[2].replica.state(), State::Loading);
    world
        .run_until(Duration::from_secs(3), "ready", |w| w.hosts[2].replica.state() == State::Ready);
    assert_eq!(world.get(2, "a").as_deref(), Some("1"));
}

#[test]
fn a_node_that_stood_still_is_not_scanned_where_everybody_is_still_there() {
    let mut world = World::settled(3);
    world.hosts[2].frozen = true;
    world.run(Duration::from_secs(10));
    world.hosts[2].frozen = false;
    world.tell(2, Event::Tick);
    let scans = |world: &World| -> usize {
        let is_scan = |line: &&Line| matches!(line, Line::Scanned { .. });
        world.hosts.iter().map(|host| host.lines.iter().filter(is_scan).count()).sum()
    };
    let before = scans(&world);
    world.run_until(Duration::from_secs(2), "ready", World::all_ready);
    assert_eq!(scans(&world), before);
}

#[test]
fn a_node_without_addresses_gives_its_peer_a_moment_to_dial_and_loads_from_it() {
    let mut world = World::new(2);
    world.hosts[1].leads.clear();
    world.restart(1);
    world.run_until(Duration::from_secs(2), "all ready", World::all_ready);
    world.set(0, "a", "1");
    world.kill(1);
    world.run(Duration::from_millis(3_000));
    world.restart(1);
    world.run_until(Duration::from_millis(1_400), "ready", |w| {
        w.hosts[1].replica.state() == State::Ready
    });
    assert_eq!(world.get(1, "a").as_deref(), Some("1"));
    world.kill(0);
    world.kill(1);
    world.restart(1);
    world.run(Duration::from_millis(1_400));
    assert_eq!(world.hosts[1].replica.state(), State::Loading);
    world.run(Duration::from_millis(200));
    assert_eq!(world.hosts[1].replica.state(), State::Ready);
}

#[test]
fn a_node_that_stops_goes_when_its_peers_have_everything() {
    let mut world = World::settled(2);
    world.cut.push((0, 1));
    world.set(0, "late", "1");
    world.tell(0, Event::Drain);
    assert_eq!(world.hosts[0].replica.state(), State::Draining);
    world.run(Duration::from_millis(500));
    assert_eq!(world.hosts[0].replica.state(), State::Draining, "its peer lacks a write");
    // Bytes that were cut are lost for good on these wires: only another connection brings them.
    world.reset(|_| true);
    world.cut.clear();
    world.run_until(Duration::from_secs(10), "gone", |w| {
        w.hosts[0].replica.state() == State::Drained
    });
    assert_eq!(world.get(1, "late").as_deref(), Some("1"));
    assert!(world.hosts[1].closed.contains(&Reason::Goodbye));
    assert!(world.hosts[0].lines.contains(&Line::Drained { all: true }));
}

#[test]
fn a_node_that_stops_alone_does_not_say_that_anybody_was_told_anything() {
    let mut world = World::new(2);
    world.tell(0, Event::Drain);
    assert_eq!(world.hosts[0].replica.state(), State::Drained);
    let lines = &world.hosts[0].lines;
    assert!(lines.contains(&Line::Draining { peers: 0 }), "{lines:?}");
    assert!(!lines.iter().any(|line| matches!(line, Line::Drained { .. })), "{lines:?}");
}

#[test]
fn a_node_that_stops_waits_for_a_dead_peer_no_longer_than_ten_seconds() {
    let mut world = World::settled(2);
    world.hosts[1].frozen = true;
    world.set(0, "late", "1");
    world.tell(0, Event::Drain);
    world.run(Duration::from_millis(10_100));
    assert_eq!(world.hosts[0].replica.state(), State::Drained);
    assert!(world.hosts[0].lines.contains(&Line::Drained { all: false }));
}
