//! Nodes that die under load: what was answered with `STORED` is somewhere else already.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{long_form, machine_to_itself, show};

use super::cluster::{Cluster, Plan};
use super::load::{Load, Lost, Shape};

fn addresses(cluster: &Cluster, order: &[usize]) -> Vec<SocketAddr> {
    order.iter().map(|node| cluster.nodes[*node].address()).collect()
}

/// What became of what clients were promised.
#[derive(Default)]
struct Kept {
    /// Writes that were answered.
    promised: u64,
    /// Connections that broke.
    broken: u64,
    /// Promises not kept that are excused.
    excused: usize,
}

/// Ends `loads`; what they were promised is held by all of `nodes`.
#[track_caller]
fn assert_kept(loads: impl IntoIterator<Item = Load>, cluster: &Cluster, nodes: &[usize]) -> Kept {
    assert_kept_but(loads, cluster, nodes, |_| false)
}

/// The same, but for what is `excused`.
#[track_caller]
fn assert_kept_but(
    loads: impl IntoIterator<Item = Load>,
    cluster: &Cluster,
    nodes: &[usize],
    excused: impl Fn(&Lost) -> bool,
) -> Kept {
    let (mut kept, mut ledgers) = (Kept::default(), Vec::new());
    for load in loads {
        kept.promised += load.written();
        let ledger = load.end();
        kept.broken += ledger.broken;
        ledgers.push(ledger);
    }
    let (_, held) = cluster.wait_until_these_are_identical(nodes);
    for ledger in ledgers {
        let lost = ledger.lost_in(&held).into_iter().chain(ledger.missed);
        let (excused, lost): (Vec<Lost>, Vec<Lost>) = lost.partition(&excused);
        assert!(lost.is_empty(), "{} of {}: {:?}", lost.len(), ledger.promises.len(), &lost[..1]);
        assert_eq!(ledger.refusals, Vec::<String>::new());
        kept.excused += excused.len();
    }
    kept
}

#[test]
fn no_answered_write_is_lost_when_the_nodes_of_a_pair_are_killed_in_turn_under_load() {
    let _alone = machine_to_itself();
    let cycles = if long_form() { 200 } else { 6 };
    let shape = Shape { rereads: true, ..Shape::default() };
    let mut cluster = Plan::by_default(2).start();
    let loads = [("a", [0, 1]), ("b", [1, 0])]
        .map(|(name, order)| Load::start(name, &addresses(&cluster, &order), &shape));
    let begun = Instant::now();
    let mut alone = Vec::new();
    let mut in_sync = begun;
    for cycle in 0..cycles {
        let dies = cycle % 2;
        loads.iter().for_each(|load| load.wait_for(100));
        cluster.nodes[dies].kill();
        // Whoever answers alone says so before, if it has not just said the contrary; and it has waited.
        let waited = loads.iter().filter_map(|load| load.alone_since(in_sync)).min();
        let since = cluster.nodes[dies].alone_since().into_iter().chain(waited).min();
        loads.iter().for_each(|load| load.wait_for(100));
        cluster.nodes[dies].start();
        cluster.wait_until_in_sync();
        in_sync = Instant::now();
        alone.extend(since.map(|since| (since, Instant::now())));
    }
    let took = begun.elapsed();
    let told =
        |lost: &Lost| alone.iter().any(|(from, to)| (*from..=*to).contains(&lost.promise.at));
    let kept = assert_kept_but(loads, &cluster, &[0, 1], told);
    show(&format!(
        "kill -9 of a pair's nodes in turn, {cycles} times in {took:.1?} under load, default options: {} \
         writes answered, 0 lost, {} connections broken or refused; {} of the nodes had waited for their \
         peer in vain, and {} more writes that they answered alone are lost",
        kept.promised,
        kept.broken,
        alone.len(),
        kept.excused
    ));
    assert!(alone.len() * 4 <= cycles, "{} of {cycles} nodes were alone", alone.len());
}

#[test]
fn without_acknowledgements_only_writes_inside_the_reported_lag_are_lost() {
    let _alone = machine_to_itself();
    let cycles = if long_form() { 40 } else { 4 };
    let shape = Shape { clients: 2, ..Shape::default() };
    let mut cluster = Plan::of(2).with(&["--ack", "async"]).start();
    let (mut all_lost, mut worst) = (0, Duration::ZERO);
    for cycle in 0..cycles {
        let (dies, lives) = (cycle % 2, 1 - cycle % 2);
        let load = Load::start(&format!("c{cycle}_"), &addresses(&cluster, &[dies]), &shape);
        load.wait_for(2_000);
        let mut client = cluster.client(dies);
        let lag = |(name, value): (String, String)| {
            name.ends_with(":lag_ms").then(|| value.parse::<u64>().unwrap())
        };
        let lag = client.stats("replication").into_iter().filter_map(lag).max().unwrap();
        let killed = Instant::now();
        cluster.nodes[dies].kill();
        let ledger = load.end();
        let lost = ledger.lost_in(&super::contents::contents(&mut cluster.client(lives)));
        for lost in &lost {
            let age = killed.saturating_duration_since(lost.promise.at);
            assert!(
                age <= Duration::from_millis(lag + 100),
                "answered {age:?} before the kill, the lag was {lag} ms: {lost:?}"
            );
            worst = worst.max(age);
        }
        all_lost += lost.len();
        cluster.nodes[dies].start();
        cluster.wait_until_in_sync();
        cluster.wait_until_identical();
    }
    show(&format!(
        "kill -9 with --ack async, {cycles} times under load: {all_lost} keys lost their last write, \
         the oldest {worst:.1?} before the kill"
    ));
}

#[test]
fn any_one_of_three_nodes_may_die_and_a_node_that_comes_back_empty_gets_everything() {
    let _alone = machine_to_itself();
    let shape = Shape { clients: 2, ..Shape::default() };
    // With three nodes only `all` promises that the node to which a client goes has its writes.
    let mut cluster = Plan::of(3).with(&["--ack", "all"]).start();
    let orders = [[0, 1, 2], [1, 2, 0], [2, 0, 1]];
    let loads: Vec<Load> = orders
        .iter()
        .zip(["a", "b", "c"])
        .map(|(order, name)| Load::start(name, &addresses(&cluster, order), &shape))
        .collect();
    for dies in [0, 1, 2] {
        loads.iter().for_each(|load| load.wait_for(100));
        cluster.nodes[dies].kill();
        let left: Vec<usize> = (0..3).filter(|node| *node != dies).collect();
        cluster.wait_until_these_are_in_sync(&[left[0]]);
        loads.iter().for_each(|load| load.wait_for(100));
        cluster.nodes[dies].start();
        cluster.wait_until_in_sync();
    }
    assert_kept(loads, &cluster, &[0, 1, 2]);
}

#[test]
fn nodes_that_are_stopped_in_turn_hand_everything_over_even_if_nobody_waits() {
    let _alone = machine_to_itself();
    let rounds = if long_form() { 20 } else { 4 };
    let shape = Shape { clients: 2, ..Shape::default() };
    let mut cluster = Plan::of(2).with(&["--ack", "async"]).start();
    let loads = [("a", [0, 1]), ("b", [1, 0])]
        .map(|(name, order)| Load::start(name, &addresses(&cluster, &order), &shape));
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let stops = round % 2;
        loads.iter().for_each(|load| load.wait_for(200));
        let (status, took) = cluster.nodes[stops].stop();
        assert_eq!(status.code(), Some(0), "{}", cluster.nodes[stops].log());
        slowest = slowest.max(took);
        loads.iter().for_each(|load| load.wait_for(200));
        cluster.nodes[stops].start();
        cluster.wait_until_in_sync();
    }
    let Kept { promised, .. } = assert_kept(loads, &cluster, &[0, 1]);
    show(&format!(
        "SIGTERM to a pair's nodes in turn, {rounds} times under load (--ack async): {promised} writes \
         answered, 0 lost, slowest stop {slowest:.1?}"
    ));
}
