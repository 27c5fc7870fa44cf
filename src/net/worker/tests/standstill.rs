//! A node that stands still in the middle of a round: what it has read and not done yet.

use std::task::Wake;

use super::*;

const CALLERS: usize = 8;

/// All ask at the same time, and while what the first asked for is done the node stands still: clients are served
/// so from there on.
fn stands_still_after_the_first(serving: Serving) -> (Room, Arc<Peers>, [Caller; CALLERS]) {
    let peers = Peers::new(&Peering::default(), 1);
    let room = Room::of(Server::with_peers(Settings::default(), peers));
    let peers = room.worker.server.peers.clone().unwrap();
    let log = room.worker.server.store.mutations().unwrap();
    let standstill = Standstill { server: Arc::clone(&room.worker.server), serving };
    assert!(log.wake_after(log.last(), &Arc::new(standstill).into()));
    let mut callers = [(); CALLERS].map(|()| room.come());
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.say(format!("set k{number} 0 0 1\r\n{number}\r\n").as_bytes());
    }
    peers.permit(Serving::Now, room.worker.server.clock.unmoved());
    room.round();
    let batched = room.worker.counters.batched_transfers.count();
    assert_eq!(batched > 0, Batcher::new(true, Arc::default()).is_together(), "read together");
    (room, peers, callers)
}

/// Is woken when the first mutation is logged.
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
    let (room, _, [mut first, rest @ ..]) = stands_still_after_the_first(Serving::No);
    first.hear("STORED\r\n");
    rest.into_iter().for_each(|mut caller| caller.hear_end());
    assert_eq!(room.worker.server.store.counters().curr_items, 1);
}

#[test]
fn those_who_were_read_before_the_node_stood_still_for_a_moment_are_answered_afterwards() {
    let (room, peers, [mut first, rest @ ..]) = stands_still_after_the_first(Serving::Soon);
    first.hear("STORED\r\n");
    assert_eq!(room.worker.server.store.counters().curr_items, 1);
    peers.permit(Serving::Now, room.worker.server.clock.unmoved());
    room.round();
    rest.into_iter().for_each(|mut caller| caller.hear("STORED\r\n"));
    assert_eq!(room.worker.server.store.counters().curr_items, CALLERS as u64);
}
