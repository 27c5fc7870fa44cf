//! Who may talk, and which connection stays.

use super::*;
use crate::replication::wire::{BODY_MAX_UNMET, Frame};

#[test]
fn a_write_on_either_node_is_read_on_the_other() {
    let mut world = World::settled(2);
    world.set(0, "a", "1");
    world.set(1, "b", "2");
    assert_eq!(world.get(1, "a").as_deref(), Some("1"));
    assert_eq!(world.get(0, "b").as_deref(), Some("2"));
    world.delete(1, "a");
    assert_eq!(world.get(0, "a"), None);
}

#[test]
fn two_nodes_that_dial_each_other_keep_one_connection_and_none_to_themselves() {
    for count in [2, 3, 5] {
        let mut world = World::settled(count);
        world.run(Duration::from_secs(5));
        let pairs: Vec<(usize, usize)> = world.wires.values().copied().collect();
        assert_eq!(pairs.len(), count * (count - 1) / 2, "{pairs:?}");
        for host in &world.hosts {
            let status = host.replica.status(world.now);
            let itself = status.peers.iter().filter(|peer| peer.state == "myself").count();
            assert_eq!(itself, 1, "{status:?}");
            let own = status.peers.iter().find(|peer| peer.state == "myself").unwrap();
            assert_eq!((own.node, own.last_error), (Some(host.replica.config.node), None));
            assert_eq!(status.peers.len(), count, "addresses and nodes are brought together");
        }
    }
}

#[test]
fn a_pair_of_which_only_one_side_knows_the_other_is_joined() {
    let mut world = World::new(2);
    let (alone, other) = (world.host(0, vec![], 1), world.host(1, vec![0], 1));
    world.hosts = vec![alone, other];
    let mut world = World::settled_as(world);
    world.set(0, "a", "1");
    assert_eq!(world.get(1, "a").as_deref(), Some("1"));
}

#[test]
fn a_stranger_that_is_being_filled_keeps_the_connection_that_it_dialled() {
    let mut world = World::new(2);
    world.hosts[1].up = false;
    world.run(Duration::from_secs(20));
    world.set(0, "a", "1");
    world.restart(1);
    let wire = world.connect(1, 0, PeerIndex(0));
    let fills = |world: &World| {
        let mut links = world.hosts[0].replica.links.values();
        links.any(|link| link.going.scan.is_some())
    };
    while !fills(&world) {
        assert!(world.deliver_next(), "it is filled");
    }
    // Our own dials would win, and are due.
    assert!(world.hosts[0].replica.config.boot < world.hosts[1].replica.config.boot);
    world.stuck = vec![(1, wire)];
    world.run(Duration::from_secs(1));
    assert_eq!(world.wires.values().copied().collect::<Vec<_>>(), [(1, 0)]);
    world.stuck.clear();
    while fills(&world) {
        assert!(world.deliver_next(), "it is told all");
    }
    world.stuck = vec![(0, wire)];
    world.run(Duration::from_secs(1));
    assert_eq!(world.wires.values().copied().collect::<Vec<_>>(), [(1, 0)]);
    world.stuck.clear();
    world.run_until(Duration::from_secs(2), "ready", World::all_ready);
    let scans = world.hosts[0].lines.iter().filter(|line| matches!(line, Line::Scanned { .. }));
    assert_eq!(scans.count(), 1);
    world.run_until(Duration::from_secs(20), "its address is known", |world| {
        world.hosts[0].replica.status(world.now).peers.iter().all(|peer| peer.node.is_some())
    });
}

fn refusal(tune: fn(&mut ReplicaConfig)) -> Vec<Reason> {
    let mut world = World::new(2);
    world.tune = tune;
    world.hosts[1] = world.host(1, vec![0, 1], 2);
    world.run(Duration::from_millis(500));
    world.set(0, "a", "1");
    world.run(Duration::from_secs(1));
    assert_eq!(world.get(1, "a"), None, "nothing was said to who was refused");
    world.hosts[0].closed.clone()
}

#[test]
fn another_cluster_and_our_own_node_number_are_refused_by_name() {
    let refused = refusal(|config| config.cluster = "other".to_owned());
    assert!(refused.contains(&Reason::Cluster), "{refused:?}");
    let refused = refusal(|config| config.node = 1);
    assert!(refused.contains(&Reason::NodeClash), "{refused:?}");
}

#[test]
fn a_second_process_with_the_number_of_a_live_node_is_refused() {
    let mut world = World::new(3);
    world.tune = |config| config.node = 2;
    world.hosts[2] = world.host(2, vec![0], 1);
    world.run(Duration::from_secs(1));
    let refused = [&world.hosts[0].closed[..], &world.hosts[2].closed[..]].concat();
    assert!(refused.contains(&Reason::NodeTwice), "{refused:?}");
}

#[test]
fn a_node_that_had_the_number_of_another_is_let_in_with_its_own_though_it_dials_nobody() {
    let mut world = World::new(3);
    world.tune = |config| config.node = 2;
    world.hosts[2] = world.host(2, vec![], 1);
    world.run(Duration::from_secs(20));
    let refusals = |world: &World| {
        let closed = &world.hosts[0].closed;
        closed.iter().filter(|reason| **reason == Reason::NodeTwice).count()
    };
    assert!((2..40).contains(&refusals(&world)), "{}", refusals(&world));
    world.kill(2);
    world.tune = |_| {};
    world.restart(2);
    world.run_until(Duration::from_secs(3), "let in", World::all_in_sync);
    let nodes = world.hosts[0].replica.status(world.now).peers;
    let nodes: Vec<_> = nodes.iter().map(|peer| peer.node).collect();
    assert_eq!(nodes, [Some(1), Some(2), Some(3)]);
}

/// A lone node that a stranger is connected to.
fn met_by_stranger() -> World {
    let mut world = World::tuned(1, 1 << 20, |_| {});
    world.set(0, "secret", "1");
    world.tell(0, Event::Opened { link: LinkId(99), dialled: None });
    world
}

#[test]
fn a_clock_too_far_off_is_refused() {
    let mut world = World::new(2);
    let mut hello = Vec::new();
    let mut effects = Vec::new();
    let later = world.now.plus(Duration::from_secs(61));
    let link = LinkId(50);
    world.hosts[1].replica.handle(Event::Opened { link, dialled: None }, later, &mut effects);
    for effect in effects {
        if let Effect::Send { bytes, .. } = effect {
            hello.extend(bytes);
        }
    }
    world.tell(0, Event::Opened { link, dialled: None });
    world.tell(0, Event::Received { link, bytes: &hello });
    assert_eq!(world.hosts[0].closed, [Reason::ClockSkew(61)]);
}

#[test]
fn garbage_and_frames_out_of_place_end_the_connection_and_change_nothing() {
    let mut goodbye = Vec::new();
    Frame::Goodbye.encode(&mut goodbye);
    let long = u32::try_from(BODY_MAX_UNMET + 1).unwrap().to_le_bytes();
    let oversize = [&long[..], &[1, 0, 0, 0]].concat();
    let cases: [(&[u8], Reason); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", Reason::Oversize),
        (&[0; 64], Reason::BadFrame),
        (&goodbye, Reason::OutOfPlace),
        (&oversize, Reason::Oversize),
    ];
    for (bytes, reason) in cases {
        let mut world = met_by_stranger();
        world.tell(0, Event::Received { link: LinkId(99), bytes });
        assert_eq!(world.hosts[0].closed, [reason], "{bytes:?}");
        assert_eq!(world.get(0, "secret").as_deref(), Some("1"));
    }
}

#[test]
fn who_says_no_hello_is_let_go_after_two_seconds_even_when_it_drips_bytes() {
    let mut world = met_by_stranger();
    for _ in 0..250 {
        world.run(TICK);
        if world.hosts[0].closed.is_empty() {
            world.tell(0, Event::Received { link: LinkId(99), bytes: &[0] });
        }
    }
    assert!(!world.hosts[0].closed.is_empty());
}

#[test]
fn an_address_removed_at_run_time_ends_the_link_and_one_added_begins_it() {
    let mut world = World::settled(2);
    world.hosts[1].leads.clear();
    for number in 0..2 {
        let peer = PeerIndex(u32::try_from(1 - number).unwrap());
        world.tell(number, Event::PeerRemoved { peer, refused: false });
    }
    world.run(Duration::from_secs(3));
    assert!(world.wires.is_empty(), "{:?}", world.wires);
    assert_eq!(world.hosts[0].replica.status(world.now).peers.len(), 1, "its own address");
    world.hosts[0].leads.push(1);
    let peer = PeerIndex(2);
    world.tell(0, Event::PeerAdded { peer, address: "node-1".to_owned() });
    world.run_until(Duration::from_secs(2), "linked again", World::all_in_sync);
}

#[test]
fn an_item_too_large_for_a_peer_is_missing_there_and_the_link_stays() {
    let mut world = World::settled_as(World::tuned(2, 1 << 20, |config| {
        if config.node == 2 {
            config.item_size_max = 4_096;
        }
    }));
    world.set(0, "large", "small yet");
    world.set(0, "large", &"v".repeat(300_000));
    world.set(0, "after", "1");
    assert_eq!(world.get(1, "after").as_deref(), Some("1"));
    assert_eq!(world.get(1, "large"), None, "nor is the older value there");
    assert_eq!(world.hosts[1].replica.status(world.now).refused, 1);
    assert!(
        world.hosts[1]
            .closed
            .iter()
            .all(|reason| *reason == Reason::Myself || *reason == Reason::Duplicate)
    );
}

#[test]
fn versions_far_ahead_close_the_link_before_they_are_applied() {
    let mut world = World::settled(2);
    let ahead = world.now.plus(Duration::from_secs(120));
    let store = world.hosts[0].store.clone();
    let write = Write::new(Mode::Set, b"insane", 0, Expiry::NEVER);
    store.write(store.key(b"x"), &write, ahead).unwrap();
    world.tell(0, Event::Logged);
    world.deliver();
    assert_eq!(world.get(1, "x"), None);
    assert!(world.hosts[1].closed.contains(&Reason::ClockFarAhead(120)));
}
