use std::time::Duration;

use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::*;
use crate::clock::Now;
use crate::settings::{Ack, AckFallback, Peering};
use crate::store::{Mutation, MutationLog};

const NOON: Now = Now::from_unix_seconds(1_800_000_000);

fn peers(ack: Ack, ack_fallback: AckFallback) -> Arc<Peers> {
    let peers = Peers::new(&Peering { ack, ack_fallback, ..Peering::default() }, 1);
    peers.acknowledge(Version(0), Version(0), 1);
    Arc::new(peers)
}

fn cloakroom(peers: &Arc<Peers>) -> Rc<Cloakroom> {
    let room = Rc::new(Cloakroom::new(peers));
    spawn_local(Rc::clone(&room).call());
    room
}

/// Somebody has changed something, and waits for it.
fn held(room: &Rc<Cloakroom>, log: &MutationLog) -> (Version, JoinHandle<Verdict>) {
    let version = log.append_for_test(Mutation::Put, b"k", NOON);
    let mut held = room.hold(Pledges::default()).expect("there is something to wait for");
    let room = Rc::clone(room);
    let waits = async move { std::future::poll_fn(|cx| room.poll(&mut held, cx)).await };
    (version, spawn_local(waits))
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn replies_go_in_the_order_of_their_versions_as_far_as_peers_have_come() {
    LocalSet::new()
        .run_until(async {
            let (peers, log) = (peers(Ack::One, AckFallback::Async), MutationLog::new(1, 1 << 20));
            let room = cloakroom(&peers);
            let waiting: Vec<_> = (0..5).map(|_| held(&room, &log)).collect();
            settle().await;
            assert!(waiting.iter().all(|(_, waits)| !waits.is_finished()));
            peers.acknowledge(waiting[2].0, Version(0), 1);
            settle().await;
            let gone: Vec<bool> = waiting.iter().map(|(_, waits)| waits.is_finished()).collect();
            assert_eq!(gone, [true, true, true, false, false]);
            peers.acknowledge(waiting[2].0, Version(0), 0);
            settle().await;
            assert!(waiting.iter().all(|(_, waits)| waits.is_finished()), "nobody is there");
            let waits = peers.waits();
            assert_eq!((waits.waited, waits.fallbacks, waits.refused), (5, 2, 0));
            assert!(room.waiting.borrow().is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_even_if_the_bell_is_never_rung() {
    LocalSet::new()
        .run_until(async {
            for (fallback, verdict) in
                [(AckFallback::Async, Verdict::Send), (AckFallback::Error, Verdict::Withdraw)]
            {
                let (peers, log) = (peers(Ack::One, fallback), MutationLog::new(1, 1 << 20));
                let room = cloakroom(&peers);
                let (_, waits) = held(&room, &log);
                settle().await;
                tokio::time::advance(peers.patience() - Duration::from_millis(1)).await;
                room.call_due();
                settle().await;
                assert!(!waits.is_finished());
                tokio::time::advance(Duration::from_millis(1)).await;
                room.call_due();
                assert_eq!(waits.await.unwrap(), verdict);
            }
        })
        .await;
}

#[tokio::test]
async fn who_changed_nothing_or_is_told_nothing_of_it_does_not_wait() {
    let (peers, log) = (peers(Ack::One, AckFallback::Async), MutationLog::new(1, 1 << 20));
    let room = Cloakroom::new(&peers);
    assert!(room.hold(Pledges::default()).is_none(), "nothing was changed");
    log.append_for_test(Mutation::Put, b"k", NOON);
    MutationLog::forget_logged_here(Version(0));
    assert!(room.hold(Pledges::default()).is_none(), "nothing was said of what was changed");
    log.append_for_test(Mutation::Put, b"k", NOON);
    assert!(room.hold(Pledges::default()).is_some());
    assert!(
        room.hold(Pledges::default()).is_none(),
        "the next reply tells of nothing that was changed"
    );
    let asynchronous = self::peers(Ack::Async, AckFallback::Async);
    let room = Cloakroom::new(&asynchronous);
    log.append_for_test(Mutation::Put, b"k", NOON);
    assert!(room.hold(Pledges::default()).is_none(), "nobody is waited for");
}
