//! Situations that dice hardly ever find, step by step.
//!
//! Each is a script for a few nodes, played on many networks: on all of them it must come out well
//! as the rules are, and badly on at least one without the rule that it is about.

use std::time::Duration;

use super::clients::KEY;
use super::world::{Happening, World};
use crate::replication::config::Broken;
use crate::replication::event::Event;
use crate::replication::locks::Locks;
use crate::replication::wire::Frame;
use crate::store::Kind;

/// Networks that a script is played on.
const NETWORKS: u64 = 200;

/// Who is in a hurry does something as often.
const HURRY_US: u64 = 100;

/// Nodes that die together for so long begin anew together.
const DOWN_US: u64 = 50_000;

/// A script's end: some time after all is well again.
const AFTERWARDS_US: u64 = 50_000;

impl World {
    /// Goes on until something is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        while !is_so(self) {
            assert!(self.next() || self.outcome.violation.is_some(), "never: {what}");
            if self.outcome.violation.is_some() {
                return;
            }
        }
    }

    fn until_whole(&mut self) {
        self.until("all nodes decide together", World::is_whole);
    }

    fn locks(&self, node: usize) -> Option<&Locks> {
        self.nodes[node].replica.as_ref()?.locks.as_deref()
    }

    /// Whether a node knows that the lock was let go.
    fn has_it_free(&self, node: usize) -> bool {
        let store = self.nodes[node].store.as_ref();
        let record = store.and_then(|store| store.record(KEY, self.clock(node), &mut Vec::new()));
        record.is_some_and(|record| record.kind != Kind::Value)
    }

    /// Whether a node has been told whose request it was that let the lock go.
    fn knows_who_let_go(&self, node: usize) -> bool {
        self.locks(node).is_some_and(|locks| locks.done.values().any(|done| !done.takes))
    }

    /// How many a node knows to have wanted the lock since it was free.
    fn counted(&self, node: usize) -> Option<usize> {
        let (store, mut value) = (self.nodes[node].store.as_ref()?, Vec::new());
        store.record(KEY, self.clock(node), &mut value)?;
        String::from_utf8_lossy(&value).parse().ok()
    }

    /// A scan comes to the lock: a node gives another what it has of it.
    fn scan(&mut self, from: usize, to: usize) {
        let now = self.clock(from);
        let replica = self.nodes[from].replica.as_mut().expect("it runs");
        let record = replica.store.record(KEY, now, &mut Vec::new()).expect("it has one");
        let number = u8::try_from(to + 1).expect("few nodes");
        let met = replica.links.values_mut();
        let link = met.filter(|link| link.met.is_some_and(|met| met.node == number)).last();
        let link = link.expect("they are connected");
        link.say(&Frame::Record { key: KEY, record, value: b"", answer: false });
        self.event(from, Event::Tick);
    }

    /// A client who takes the lock and lets it go as fast as he can, at one node.
    fn hurry(&mut self, client: usize, node: usize) {
        if !self.serves(node) {
        } else if self.clients.rests(client) {
            self.want(client, node, b"add");
        } else if self.clients.holds(client) {
            self.release(client, node);
        }
    }

    /// Each node has a client in a hurry, until a while after all nodes decide together.
    fn hurry_until_whole(&mut self) {
        let (mut whole_since, mut hurried_us) = (None, 0);
        while whole_since.is_none_or(|since| self.now_us < since + AFTERWARDS_US) {
            if self.now_us > hurried_us + HURRY_US {
                hurried_us = self.now_us;
                (0..self.nodes.len()).for_each(|node| self.hurry(node, node));
            }
            if !self.next() {
                assert!(self.outcome.violation.is_some(), "all nodes decide together again");
                return;
            }
            whole_since = whole_since.or(self.is_whole().then_some(self.now_us));
        }
    }
}

/// What a script comes to on one network.
fn violation(
    script: &impl Fn(&mut World),
    nodes: usize,
    network: u64,
    broken: Broken,
) -> Option<String> {
    let mut world = World::scripted(network, nodes, broken);
    world.until_whole();
    script(&mut world);
    world.outcome.violation
}

/// Plays a script on all networks.
fn holds(script: &impl Fn(&mut World), nodes: usize) {
    for network in 0..NETWORKS {
        let violation = violation(script, nodes, network, Broken::default());
        assert_eq!(violation, None, "network {network}");
    }
}

/// Plays a script on all networks as the rules are, and without one of them.
fn needs(script: impl Fn(&mut World), nodes: usize, without: Broken) {
    holds(&script, nodes);
    let is_missed = |network: &u64| violation(&script, nodes, *network, without).is_some();
    let missed = (0..NETWORKS).filter(is_missed).count();
    println!("    missed on {missed} of {NETWORKS} networks");
    assert!(missed > 0, "{without:?} makes no difference");
}

#[test]
fn who_joins_a_view_knows_the_locks_that_its_other_half_gave_before() {
    let script = |world: &mut World| {
        // Nobody is prompt enough to be waited for with every write.
        (world.gather, world.ack_timeout) = (Duration::from_millis(300), Duration::from_millis(30));
        world.is_slow = |_, _| true;
        world.kill(1);
        world.until_whole();
        world.kill(0);
        world.until("the second node goes on", |world| world.view(1) == Some(1));
        world.want(2, 1, b"add");
        world.until("the first node serves", |world| world.serves(0));
        // What it says after this waits for more.
        world.release(2, 1);
        world.want(1, 1, b"add");
        world.want(0, 0, b"add");
        let is_heard = |world: &World| !world.clients.asks(0) && !world.clients.asks(1);
        world.until("clients 0 and 1 are answered", is_heard);
    };
    needs(script, 2, Broken { locks_before_the_stream: true, ..Broken::default() });
}

#[test]
fn a_node_whose_peer_is_cut_off_as_it_begins_to_serve_is_not_alone() {
    let script = |world: &mut World| {
        world.kill(0);
        world.until("the first node serves", |world| world.serves(0));
        world.break_connections(0);
        world.hurry_until_whole();
    };
    needs(script, 2, Broken { locks_between_connections: true, ..Broken::default() });
}

#[test]
fn a_lock_that_was_let_go_before_a_node_joined_is_not_let_go_again_by_it() {
    let script = |world: &mut World| {
        world.want(0, 2, b"add");
        world.until("client 0 has the lock", |world| world.clients.holds(0));
        world.kill(1);
        world.until("two nodes decide", |world| world.view(0) == Some(2));
        // What the home says does not come through.
        world.is_slow = |ends, from| ends.contains(&2) && from == 0;
        world.want(1, 2, b"incr");
        world.release(0, 2);
        world.until_whole();
        world.kill(0);
        world.until("client 1 is answered", |world| !world.clients.asks(1));
        world.want(2, 1, b"add");
        world.until("client 2 is answered", |world| !world.clients.asks(2));
    };
    needs(script, 3, Broken { locks_ended_late: true, ..Broken::default() });
}

/// Client 0 has let a lock go that client 1 gets at the next home, which knows of it by a scan. Client 2
/// wants it, too.
fn is_had_by_the_next(world: &mut World) {
    let is_heard = |world: &World| world.clients.rests(0) && !world.clients.asks(1);
    world.until("clients 0 and 1 are answered", is_heard);
    assert!(world.clients.holds(1) || world.outcome.violation.is_some());
    world.want(2, 1, b"add");
    world.until("client 2 is answered", |world| !world.clients.asks(2));
}

#[test]
fn a_lock_that_was_let_go_in_a_scan_of_its_home_is_not_let_go_again() {
    let script = |world: &mut World| {
        // What the home changes gathers, and a scan is faster.
        world.gather = Duration::from_millis(100);
        world.kill(0);
        world.until_whole();
        world.want(0, 1, b"add");
        world.until("client 0 has the lock", |world| world.clients.holds(0));
        world.want(1, 1, b"incr");
        world.release(0, 1);
        world.until("the home has it free", |world| world.has_it_free(0));
        world.scan(0, 1);
        world.until("the next home has it free", |world| world.has_it_free(1));
        world.kill(0);
        is_had_by_the_next(world);
    };
    needs(script, 2, Broken { locks_ended_late: true, ..Broken::default() });
}

#[test]
fn a_node_that_has_just_joined_lets_a_lock_go_that_was_taken_before() {
    let script = |world: &mut World| {
        world.gather = Duration::from_millis(100);
        world.kill(0);
        world.until_whole();
        world.want(0, 0, b"add");
        world.until("client 0 has the lock", |world| world.clients.holds(0));
        world.release(0, 0);
        world.until("both nodes have it free", |world| (0..2).all(|node| world.has_it_free(node)));
        world.kill(1);
        world.until("the first node goes on", |world| world.view(0) == Some(1));
        world.until("the second node serves", |world| world.serves(1));
        world.want(1, 0, b"add");
        world.until("client 1 has the lock", |world| world.clients.holds(1));
        world.release(1, 1);
        world.until("client 1 is answered", |world| world.clients.rests(1));
        world.want(2, 0, b"add");
        world.until("client 2 is answered", |world| !world.clients.asks(2));
        if !world.clients.holds(2) {
            world.violated("client 2 is refused a lock that nobody has".to_owned());
        }
    };
    holds(&script, 2);
}

#[test]
fn who_waited_to_let_a_lock_go_lets_none_go_that_was_taken_meanwhile() {
    let script = |world: &mut World| {
        world.kill_for(1, 2 * DOWN_US);
        world.until("the first node goes on", |world| world.view(0) == Some(1));
        world.want(0, 0, b"add");
        world.until("client 0 has the lock", |world| world.clients.holds(0));
        // Nobody knows of it any more.
        world.kill_for(0, DOWN_US);
        world.until("the first node serves", |world| world.serves(0));
        world.want(1, 0, b"add");
        world.release(0, 0);
        let is_heard = |world: &World| world.clients.rests(0) && !world.clients.asks(1);
        world.until("clients 0 and 1 are answered", is_heard);
        world.want(2, 1, b"add");
        world.until("client 2 is answered", |world| !world.clients.asks(2));
    };
    holds(&script, 2);
}

#[test]
fn a_node_that_serves_and_has_not_joined_yet_knows_the_locks_that_are_given_meanwhile() {
    let script = |world: &mut World| {
        world.gather = Duration::from_millis(100);
        world.kill(0);
        world.until_whole();
        world.kill(1);
        world.until("the first node goes on", |world| world.view(0) == Some(1));
        world.until("the second node serves", |world| world.serves(1));
        world.want(0, 0, b"add");
        world.until("client 0 is answered", |world| !world.clients.asks(0));
        world.kill(0);
        world.want(1, 1, b"add");
        world.until("client 1 is answered", |world| !world.clients.asks(1));
    };
    needs(script, 2, Broken { locks_of_members_alone: true, ..Broken::default() });
}

#[test]
fn who_waits_for_a_third_node_to_agree_lets_no_lock_go_that_the_home_gave_meanwhile() {
    let script = |world: &mut World| {
        world.gather = Duration::from_millis(100);
        world.kill(0);
        world.until_whole();
        world.kill_for(1, DOWN_US);
        world.kill_for(2, DOWN_US);
        world.until("the first node goes on", |world| world.view(0) == Some(1));
        // What the second node says comes to the third after all else.
        world.is_slow = |ends, from| ends.contains(&2) && from == 1;
        world.until("the others serve", |world| world.serves(1) && world.serves(2));
        world.want(0, 0, b"add");
        world.until("client 0 is answered", |world| !world.clients.asks(0));
        world.kill(0);
        world.release(0, 2);
        world.want(1, 1, b"add");
        let is_heard = |world: &World| world.clients.rests(0) && !world.clients.asks(1);
        world.until("clients 0 and 1 are answered", is_heard);
        world.want(2, 1, b"add");
        world.until("client 2 is answered", |world| !world.clients.asks(2));
    };
    needs(script, 3, Broken { locks_of_members_alone: true, ..Broken::default() });
}

/// Of three nodes the home dies when it has told the third one that client 0 has let the lock go, and the
/// next home only whose request that is.
fn next_home_lacks_the_end(world: &mut World) {
    world.want(0, 2, b"add");
    world.until("client 0 has the lock", |world| world.clients.holds(0));
    // So much is under way to the next home that the last change waits.
    world.is_slow = |ends, from| ends.contains(&1) && from == 0;
    for client in [3, 4] {
        world.want(client, 0, b"incr");
        let counted = client - 1;
        world.until("the third node knows", |world| world.counted(2) == Some(counted));
    }
    world.release(0, 2);
    world.until("the third node has it free", |world| world.has_it_free(2));
    world.until("the next home knows whose it was", |world| world.knows_who_let_go(1));
    world.kill(0);
}

#[test]
fn a_lock_that_was_let_go_in_a_scan_of_a_third_node_is_not_let_go_again() {
    let script = |world: &mut World| {
        next_home_lacks_the_end(world);
        world.until("the next home goes on", |world| world.view(1) == Some(2));
        world.scan(2, 1);
        world.until("the next home has it free", |world| world.has_it_free(1));
        world.want(1, 1, b"add");
        is_had_by_the_next(world);
    };
    needs(script, 3, Broken { locks_ended_late: true, ..Broken::default() });
}

#[test]
fn a_lock_whose_end_only_a_third_node_knows_can_be_taken_when_its_owner_is_answered() {
    let script = |world: &mut World| {
        next_home_lacks_the_end(world);
        world.until("client 0 is answered", |world| world.clients.rests(0));
        world.want(1, 1, b"add");
        world.until("client 1 is answered", |world| !world.clients.asks(1));
        if !world.clients.holds(1) {
            world.violated("client 1 is refused a lock that nobody has".to_owned());
        }
    };
    holds(&script, 3);
}

#[test]
fn a_home_that_has_just_joined_knows_what_the_one_before_it_gave() {
    let script = |world: &mut World| {
        world.kill(0);
        world.until("two nodes decide", |world| world.view(1) == Some(2));
        world.is_slow = |ends, _| ends.contains(&0) && ends.contains(&1);
        world.until("the first node serves", |world| world.serves(0));
        world.want(0, 2, b"add");
        world.until("client 0 has the lock", |world| world.clients.holds(0));
        world.kill(1);
        world.until("the first node is home", |world| world.view(0) == Some(2));
        world.want(1, 0, b"add");
        world.until("client 1 is answered", |world| !world.clients.asks(1));
    };
    needs(script, 3, Broken { locks_untold: true, ..Broken::default() });
}

#[test]
fn a_home_that_stood_still_takes_no_lock_for_nobody() {
    let script = |world: &mut World| {
        world.nodes[0].is_frozen = true;
        world.later(1_000_000, Happening::Thaw(0));
        world.want(0, 1, b"add");
        world.until("client 0 has the lock", |world| world.clients.holds(0));
        world.release(0, 1);
        world.until("client 0 is answered", |world| world.clients.rests(0));
        world.until("the home is awake", |world| !world.nodes[0].is_frozen);
        world.until_whole();
        // He was the first at the home that woke.
        world.until("client 0 is answered again", |world| !world.clients.asks(0));
        world.want(2, 1, b"add");
        world.until("client 2 is answered", |world| !world.clients.asks(2));
        if !(0..3).any(|client| world.clients.holds(client)) {
            world.violated("nobody has the lock, and nobody gets it".to_owned());
        }
    };
    needs(script, 2, Broken { locks_half_asleep: true, ..Broken::default() });
}

#[test]
fn what_a_home_told_is_not_known_for_ever() {
    let mut world = World::scripted(1, 2, Broken::default());
    world.until_whole();
    world.want(0, 1, b"add");
    world.until("client 0 has the lock", |world| world.clients.holds(0));
    let known = |world: &World| world.locks(1).map(|locks| locks.done.len());
    assert_eq!(known(&world), Some(1));
    let since_us = world.now_us;
    world.until("a while is over", |world| world.now_us > since_us + 5_100_000);
    assert_eq!(known(&world), Some(0));
}
