use std::sync::atomic::Ordering;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::*;
use crate::replication::TICK;
use crate::settings::{Ack, Settings};
use crate::version::Version;

const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap()
}

fn driver(state: watch::Sender<State>) -> Rc<Driver> {
    driver_with(Ack::One, state)
}

fn driver_with(ack: Ack, state: watch::Sender<State>) -> Rc<Driver> {
    let mut settings = Settings::default();
    (settings.peering.enabled, settings.peering.ack) = (true, ack);
    let peers = Peers::new(&settings.peering, 7);
    let server = Arc::new(Server::with_peers(settings, peers));
    let peers = Arc::clone(server.peers.as_ref().unwrap());
    let refuse = mpsc::unbounded_channel().0;
    Driver::new(server, peers, Introductions::default(), state, refuse, Arc::default()).unwrap()
}

#[test]
fn a_task_that_panics_ends_all_and_nobody_is_told_anything_more() {
    let runtime = runtime();
    let (tell, state) = watch::channel(State::Loading);
    runtime.block_on(async {
        let driver = driver(tell);
        let (_orders, ordered) = mpsc::unbounded_channel();
        driver.spawn(async { panic!("on purpose") });
        let run = timeout(PATIENCE, Rc::clone(&driver).run(Vec::new(), ordered));
        run.await.expect("it goes on without the task");
        let before = driver.replica.borrow().status(driver.now()).peers.len();
        driver.tell(Event::PeerAdded { peer: PeerIndex(9), address: "web9".to_owned() });
        assert_eq!(driver.replica.borrow().status(driver.now()).peers.len(), before);
    });
    drop(runtime);
    assert!(state.has_changed().is_err(), "whoever waits for news of the state waits in vain");
}

/// Runs until five rounds have been counted and it was told to drain.
async fn counts_rounds_and_drains(driver: &Rc<Driver>) {
    let (orders, ordered) = mpsc::unbounded_channel();
    let seen = Arc::clone(&driver.rounds);
    spawn_local(async move {
        while seen.load(Ordering::Relaxed) < 5 {
            sleep(TICK).await;
        }
        orders.send(Order::Drain).unwrap();
    });
    let run = timeout(PATIENCE, Rc::clone(driver).run(Vec::new(), ordered));
    run.await.expect("it counts no rounds, or does not see that all is over");
    assert_eq!(*driver.state.borrow(), State::Drained);
}

#[test]
fn a_task_that_is_ended_early_ends_nothing_else() {
    let runtime = runtime();
    let (tell, _state) = watch::channel(State::Loading);
    runtime.block_on(async {
        let driver = driver(tell);
        driver.spawn(std::future::pending()).abort();
        counts_rounds_and_drains(&driver).await;
    });
}

#[test]
fn where_nobody_waits_for_peers_time_is_told_of_though_nothing_is_logged() {
    let runtime = runtime();
    runtime.block_on(async {
        let driver = driver_with(Ack::Async, watch::channel(State::Loading).0);
        counts_rounds_and_drains(&driver).await;
    });
}

#[test]
fn where_nobody_waits_for_peers_time_is_told_of_though_something_always_gathers() {
    runtime().block_on(async {
        let driver = driver_with(Ack::Async, watch::channel(State::Loading).0);
        let log = driver.server.store.mutations().unwrap();
        let (mut next_tick, rounds_left) = (Instant::now() + TICK, Cell::new(30));
        let is_gathering = || {
            rounds_left.set(rounds_left.get() - 1);
            // Time is told of while something gathers, not only when that is over.
            rounds_left.get() > 0 && driver.rounds.load(Ordering::Relaxed) < 2
        };
        driver.gather(log, &mut next_tick, is_gathering).await;
        assert!(rounds_left.get() > 0, "no time was told of in 60 ms");
    });
}

#[test]
fn a_node_that_loads_has_no_clients_who_wait_though_its_peer_is_in_sync() {
    runtime().block_on(async {
        let driver = driver(watch::channel(State::Loading).0);
        driver.peers.acknowledge(Version(0), Version(0), 1);
        assert!(!driver.are_clients_waiting());
        let loaded = async {
            while driver.replica.borrow().state() == State::Loading {
                sleep(TICK).await;
                driver.tell(Event::Tick);
            }
        };
        timeout(PATIENCE, loaded).await.expect("it loads for ever");
        driver.peers.acknowledge(Version(0), Version(0), 1);
        assert!(driver.are_clients_waiting());
    });
}

#[test]
fn what_goes_on_without_a_scan_rests_after_each_step_though_nobody_is_in_sync() {
    runtime().block_on(async {
        let driver = driver(watch::channel(State::Loading).0);
        assert_eq!((driver.peers.in_sync(), driver.steps_in_a_row()), (0, 1));
    });
}
