use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::*;
use crate::clock::Now;
use crate::settings::{Ack, AckFallback, Peering};
use crate::store::{Mutation, MutationLog};

const NOON: Now = Now::from_unix_seconds(1_800_000_000);

fn peers(ack: Ack, ack_fallback: AckFallback) -> Arc<Peers> {
    let peers = Peers::new(&Peering { ack, ack_fallback, ..Peering::default() }, 1);
    peers.acknowledge(Version(0), Version(0), 1);
    peers.permit(Serving::Now, NOON);
    Arc::new(peers)
}

fn cloakroom(peers: &Arc<Peers>) -> Rc<Cloakroom> {
    let bell = Arc::new(Bell::default());
    let room = Rc::new(Cloakroom::new(peers, Arc::clone(&bell).into()));
    let called = Rc::clone(&room);
    spawn_local(async move {
        loop {
            bell.0.notified().await;
            called.call_due(NOON);
        }
    });
    room
}

#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Somebody has changed something, and waits for it.
fn held(room: &Rc<Cloakroom>, log: &MutationLog) -> (Version, JoinHandle<Verdict>) {
    let version = log.append_for_test(Mutation::Put, b"k", NOON);
    let mut held = room.hold(Pledges::default()).expect("there is something to wait for");
    let room = Rc::clone(room);
    let waits = async move { std::future::poll_fn(|cx| room.poll(&mut held, NOON, cx)).await };
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
async fn what_nobody_has_is_said_or_not_as_the_operator_wants_when_nobody_is_there() {
    LocalSet::new()
        .run_until(async {
            for (fallback, verdict) in
                [(AckFallback::Async, Verdict::Send), (AckFallback::Error, Verdict::Withdraw)]
            {
                let (peers, log) = (peers(Ack::One, fallback), MutationLog::new(1, 1 << 20));
                let room = cloakroom(&peers);
                let (_, waits) = held(&room, &log);
                settle().await;
                assert!(!waits.is_finished());
                peers.acknowledge(Version(0), Version(0), 0);
                assert_eq!(waits.await.unwrap(), verdict);
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn while_the_node_stands_still_replies_wait_and_then_none_is_sent_that_nobody_judged() {
    LocalSet::new()
        .run_until(async {
            let (peers, log) = (peers(Ack::One, AckFallback::Async), MutationLog::new(1, 1 << 20));
            let room = cloakroom(&peers);
            let (_, waits) = held(&room, &log);
            settle().await;
            room.call_due(NOON.plus(Duration::from_secs(2)));
            settle().await;
            assert!(!waits.is_finished(), "the replication thread may come back yet");
            peers.permit(Serving::No, NOON);
            room.call_due(NOON);
            assert_eq!(waits.await.unwrap(), Verdict::Drop);
            assert_eq!(peers.waits().fallbacks, 0);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_node_that_stood_still_wait_until_it_serves_again_or_sends_them_away() {
    LocalSet::new()
        .run_until(async {
            for serving in [Serving::Now, Serving::No] {
                let peers = peers(Ack::One, AckFallback::Async);
                let room = cloakroom(&peers);
                peers.permit(Serving::Soon, NOON);
                let waits = Rc::clone(&room);
                let waits =
                    spawn_local(std::future::poll_fn(move |cx| waits.poll_serving(NOON, cx)));
                settle().await;
                assert!(!waits.is_finished());
                peers.acknowledge(Version(1), Version(1), 1);
                settle().await;
                assert!(!waits.is_finished(), "acknowledgements change nothing");
                peers.permit(serving, NOON);
                if serving == Serving::No {
                    room.call_due(NOON);
                }
                waits.await.unwrap();
            }
        })
        .await;
}

#[tokio::test]
async fn who_changed_nothing_or_is_told_nothing_of_it_does_not_wait() {
    let (peers, log) = (peers(Ack::One, AckFallback::Async), MutationLog::new(1, 1 << 20));
    let room = Cloakroom::new(&peers, Waker::noop().clone());
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
    let room = Cloakroom::new(&asynchronous, Waker::noop().clone());
    log.append_for_test(Mutation::Put, b"k", NOON);
    assert!(room.hold(Pledges::default()).is_none(), "nobody is waited for");
}
