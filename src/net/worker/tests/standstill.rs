//! A node that stands still in the middle of a round: what it has read and not done yet.

use std::task::Wake;

use super::*;

/// The node has stood still when the first of two has been answered: clients are served so from there on.
fn stands_still_between_two(serving: Serving) -> (Room, Arc<Peers>, [Caller; 2]) {
    let peers = Peers::new(&Peering { ack: Ack::One, ..Peering::default() }, 1);
    let room = Room::of(Server::with_peers(Settings::default(), peers));
    let peers = room.worker.server.peers.clone().unwrap();
    peers.permit(Serving::Now, room.worker.server.clock.unmoved());
    peers.acknowledge(Version(u64::MAX), Version(0), 1);
    let log = room.worker.server.store.mutations().unwrap();
    let standstill = Standstill { server: Arc::clone(&room.worker.server), serving };
    assert!(log.wake_after(log.last(), &Arc::new(standstill).into()));
    let mut callers = [room.come(), room.come()];
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.say(format!("set k{number} 0 0 1\r\n{number}\r\n").as_bytes());
    }
    room.round();
    (room, peers, callers)
}

struct Standstill {
    server: Arc<Server>,
    serving: Serving,
}

impl Wake for Standstill {
    fn wake(self: Arc<Self>) {
        let peers = self.server.peers.as_ref().unwrap();
        peers.permit(self.serving, self.server.clock.unmoved());
    }
}

#[test]
fn nothing_is_done_for_those_who_were_read_before_the_node_stood_still_for_long() {
    let (room, _, [_, mut second]) = stands_still_between_two(Serving::No);
    second.hear_end();
    assert_eq!(room.worker.server.store.counters().curr_items, 1);
}

#[test]
fn those_who_were_read_before_the_node_stood_still_for_a_moment_are_answered_afterwards() {
    let (room, peers, [_, mut second]) = stands_still_between_two(Serving::Soon);
    assert_eq!(room.worker.server.store.counters().curr_items, 1);
    peers.permit(Serving::Now, room.worker.server.clock.unmoved());
    room.round();
    second.hear("STORED\r\n");
    assert_eq!(room.worker.server.store.counters().curr_items, 2);
}
