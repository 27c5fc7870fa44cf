//! Nodes of two releases, one of which does not exist yet.

use super::*;

/// What the later release knows beyond ours.
const LATER: u64 = 1 << 40;

/// Nodes of which the one with `later` knows more than we do.
fn pair(tune: fn(&mut ReplicaConfig)) -> World {
    World::tuned(2, 1 << 20, tune)
}

fn is_later(config: &mut ReplicaConfig, node: u8, required: u64) {
    if config.node == node {
        let features = Speech::OURS.features | LATER;
        config.speech = Speech { versions: (1, 7), features, required };
    }
}

/// How the peers of a node are, itself left out.
fn peers(world: &World, number: usize) -> Vec<PeerStatus> {
    let mut peers = world.hosts[number].replica.status(world.now).peers;
    peers.retain(|peer| peer.state != "myself");
    peers
}

/// A frame of a later release, of a type that ours does not have.
fn unknown(flags: u8) -> Vec<u8> {
    let head = [5, 0, 0, 0, 200, flags, 0, 0];
    let sum = crc32fast::hash(&[&head[..], b"later"].concat()).to_le_bytes();
    [&head[..], &sum[..], b"later"].concat()
}

#[test]
fn a_release_and_the_one_before_it_mirror_each_other_in_what_both_know() {
    let later: [fn(&mut ReplicaConfig); 2] =
        [|config| is_later(config, 1, 0), |config| is_later(config, 2, 0)];
    for tune in later {
        let mut world = World::settled_as(pair(tune));
        for (from, key) in [(0, "a"), (1, "b")] {
            world.set(from, key, "v");
            assert_eq!(world.everywhere(key), vec![Some("v".to_owned()); 2]);
            let agreed = peers(&world, from)[0].agreed;
            assert_eq!(agreed, Agreed { version: 1, features: Speech::OURS.features });
        }
        world.delete(0, "b");
        world.kill(1);
        world.set(0, "c", "v");
        world.restart(1);
        world.run_until(Duration::from_secs(5), "in sync again", World::all_in_sync);
        assert_eq!(world.everywhere("b"), [None, None]);
        assert_eq!(world.everywhere("c"), vec![Some("v".to_owned()); 2]);
    }
}

#[test]
fn what_a_later_release_says_that_may_be_ignored_is_skipped() {
    let mut world = World::settled_as(pair(|config| is_later(config, 2, 0)));
    let link = *world.wires.keys().next().unwrap();
    let links = world.wires.len();
    // Bits of the flags that mean nothing yet are no reason to hang up either.
    for flags in [0, 0b1111_1110] {
        world.tell(0, Event::Received { link, bytes: &unknown(flags) });
    }
    world.set(1, "k", "v");
    world.run(Duration::from_secs(1));
    assert_eq!(world.everywhere("k"), vec![Some("v".to_owned()); 2]);
    assert_eq!(world.wires.len(), links);
    assert!(world.all_in_sync());
    world.hosts[0].closed.clear();
    world.tell(0, Event::Received { link, bytes: &unknown(1) });
    assert_eq!(world.hosts[0].closed, [Reason::Unintelligible]);
}

#[test]
fn who_requires_what_we_do_not_know_is_refused_by_its_number_on_both_sides() {
    let mut world = pair(|config| is_later(config, 2, LATER));
    world.run(Duration::from_secs(3));
    for (number, reason) in [(0, Reason::UnknownFeature(40)), (1, Reason::LacksFeature(40))] {
        let host = &world.hosts[number];
        let is_it =
            |line: &&Line| matches!(line, Line::Unlinked { reason: why, .. } if *why == reason);
        assert!(host.lines.iter().any(|line| is_it(&line)), "{:?}", host.lines);
        let errors = peers(&world, number).into_iter().filter_map(|peer| peer.last_error);
        let theirs = Reason::Refused(25 + u8::from(number == 0));
        errors.for_each(|error| assert!(error == reason || error == theirs, "{error}"));
    }
    world.set(0, "k", "v");
    assert_eq!(world.everywhere("k"), [Some("v".to_owned()), None]);
}

#[test]
fn who_speaks_only_versions_after_ours_is_refused() {
    let mut world = pair(|config| {
        if config.node == 2 {
            config.speech.versions = (2, 3);
        }
    });
    world.run(Duration::from_secs(3));
    for host in &world.hosts {
        assert!(host.closed.contains(&Reason::Protocol), "{:?}", host.closed);
    }
}
