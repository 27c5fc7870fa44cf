//! Nodes that start: together, or empty beside one that serves, which clients change meanwhile.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, PATIENCE, long_form, machine_to_itself, show, wait_until};
use crate::server::Stream;

use super::cluster::{Cluster, Plan};
use super::load::{Load, Shape};
use super::port::{free_port, is_free};

#[test]
fn nodes_that_start_together_serve_at_once_and_none_serves_alone() {
    let _alone = machine_to_itself();
    let rounds = if long_form() { 200 } else { 10 };
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let plan = Plan::of(2 + round % 2);
        let mut cluster = if round % 4 < 2 { plan } else { plan.unnumbered() }.laid_out();
        let since = Instant::now();
        cluster.nodes.iter_mut().for_each(super::node::Node::start);
        cluster.wait_until_in_sync();
        slowest = slowest.max(since.elapsed());
        for node in &cluster.nodes {
            assert_eq!(node.told("bootstrapped_alone"), 0, "round {round}: {}", node.log());
        }
        let mut client = cluster.client(0);
        client.set("k", b"v");
        cluster.wait_until_identical();
    }
    show(&format!(
        "cold start of 2 and 3 nodes together: {rounds} of {rounds} joined and ready, slowest {slowest:.1?}"
    ));
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

/// Fills a node with `items` values of `bytes`.
fn fill(client: &mut Client, items: usize, bytes: usize) {
    let value = vec![b'v'; bytes];
    for first in (0..items).step_by(1_000) {
        let last = items.min(first + 1_000);
        let mut requests = Vec::new();
        for number in first..last {
            requests.extend_from_slice(format!("set f{number} 0 0 {bytes} noreply\r\n").as_bytes());
            requests.extend_from_slice(&value);
            requests.extend_from_slice(b"\r\n");
        }
        client.send(requests);
        client.ask("mn\r\n", "MN\r\n");
    }
}

/// Asks `address` for `key` until it is answered: how often it was refused, and the answer.
fn ask_until_served(address: SocketAddr, key: &str) -> (u32, Option<Vec<u8>>) {
    let deadline = Instant::now() + PATIENCE;
    let mut refused = 0;
    while Instant::now() < deadline {
        match TcpStream::connect(address) {
            Ok(stream) => return (refused, Client::over(Stream::Tcp(stream)).get(key)),
            Err(_) => refused += 1,
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("it does not serve within {PATIENCE:?}");
}

#[test]
fn an_empty_node_refuses_clients_until_it_has_everything() {
    let _alone = machine_to_itself();
    let many = if long_form() { 1_000_000 } else { 50_000 };
    for (items, bytes) in [(many, 100), (200, 500_000)] {
        serve_when_loaded(items, bytes);
    }
}

fn serve_when_loaded(items: usize, bytes: usize) {
    let mut cluster = Plan::of(2).with(&["-m", "512"]).start();
    fill(&mut cluster.client(0), items, bytes);
    let last = format!("f{}", items - 1);
    cluster.wait_until_in_sync();
    for (dies, lives) in [(1, 0), (0, 1)] {
        let before = cluster.client(lives).stat("curr_items");
        cluster.nodes[dies].kill();
        let address = cluster.nodes[dies].address();
        let asking = thread::spawn({
            let last = last.clone();
            move || ask_until_served(address, &last)
        });
        let since = Instant::now();
        cluster.nodes[dies].start();
        let (refused, found) = asking.join().unwrap();
        let took = since.elapsed();
        assert!(found.is_some(), "it served before it had {last}: {}", cluster.nodes[dies].log());
        assert!(refused > 0, "it was never refused");
        assert_eq!(cluster.client(dies).stat("curr_items"), before);
        show(&format!(
            "an empty node beside {items} items of {bytes} bytes serves after {took:.2?}, with all of them"
        ));
        cluster.wait_until_in_sync();
    }
    if items <= 50_000 {
        cluster.wait_until_identical();
    }
    cluster.assert_nothing_was_repaired();
}

/// Restarts a node empty while `change` is done to the other again and again.
fn load_while(
    cluster: &mut Cluster,
    empty: usize,
    mut change: impl FnMut(&mut Client, u64) + Send,
) {
    let full = 1 - empty;
    cluster.nodes[empty].kill();
    let mut client = cluster.client(full);
    // Answered when the dead node is waited for no more.
    client.set("after_the_kill", b"v");
    let loaded = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut step = 0;
            while !loaded.load(Ordering::Relaxed) {
                change(&mut client, step);
                step += 1;
            }
        });
        cluster.nodes[empty].start();
        cluster.nodes[empty].wait_until_it_serves();
        loaded.store(true, Ordering::Relaxed);
    });
    cluster.wait_until_in_sync();
}

const ITEMS: u64 = 20_000;

#[test]
fn what_is_deleted_touched_and_written_while_a_node_loads_is_so_on_both() {
    let _alone = machine_to_itself();
    let mut cluster = Plan::of(2).start();
    for (round, empty) in [(0_u64, 1), (1, 0)] {
        fill(&mut cluster.client(1 - empty), 20_000, 100);
        let mut deleted = Vec::new();
        load_while(&mut cluster, empty, |client, step| {
            // Steps of a number that has no factor in common with that of the items.
            let key = |kind: u64| format!("f{}", (step * 7_919 + kind * 5_000) % ITEMS);
            client.send(format!("delete {}\r\n", key(0)));
            client.line();
            deleted.push(key(0));
            client.send(format!("touch {} {}\r\n", key(1), 1_000 + round));
            client.line();
            client.send(format!("set {} 0 0 3\r\nnew\r\n", key(2)));
            client.expect("STORED\r\n");
            deleted.retain(|deleted| *deleted != key(2));
        });
        let (_, held) = cluster.wait_until_identical();
        assert!(deleted.len() > 10, "{}", deleted.len());
        let returned: Vec<&String> = deleted.iter().filter(|key| held.contains_key(*key)).collect();
        assert!(returned.is_empty(), "{} of {}: {returned:?}", returned.len(), deleted.len());
        cluster.assert_nothing_was_repaired();
    }
}

#[test]
fn a_flush_while_a_node_loads_empties_both() {
    let _alone = machine_to_itself();
    let mut cluster = Plan::of(2).start();
    for empty in [1, 0] {
        fill(&mut cluster.client(1 - empty), 20_000, 100);
        let mut is_flushed = false;
        load_while(&mut cluster, empty, |client, step| {
            if step == 3 {
                client.ask("flush_all\r\n", "OK\r\n");
                is_flushed = true;
            }
            client.set(&format!("after{step}"), b"flushed");
        });
        assert!(is_flushed, "it loaded faster than three writes took");
        let (_, held) = cluster.wait_until_identical();
        let returned = held.keys().filter(|key| key.starts_with('f')).count();
        assert_eq!(returned, 0, "of {} items", held.len());
        assert!(held.contains_key("after3"), "what was written later is there");
    }
}

#[test]
fn a_source_serves_its_clients_while_another_node_loads() {
    let _alone = machine_to_itself();
    let items = if long_form() { 1_000_000 } else { 100_000 };
    let mut cluster = Plan::of(2).with(&["-m", "512", "--ack", "async"]).start();
    fill(&mut cluster.client(0), items, 100);
    let shape = Shape { clients: 2, pause: Duration::from_micros(200), ..Shape::default() };
    for (source, empty) in [(0, 1), (1, 0)] {
        cluster.wait_until_in_sync();
        cluster.nodes[empty].kill();
        let address = [cluster.nodes[source].address()];
        let before = Load::start(&format!("before{source}_"), &address, &shape);
        before.wait_for(2_000);
        let before = before.end();
        let during = Load::start(&format!("during{source}_"), &address, &shape);
        let since = Instant::now();
        cluster.nodes[empty].start();
        cluster.nodes[empty].wait_until_it_serves();
        let took = since.elapsed();
        let during = during.end();
        show(&format!(
            "full sync of {items} items in {took:.2?}; the source's p99.9 {:.2?} meanwhile, {:.2?} \
             before",
            during.p999(),
            before.p999()
        ));
        assert!(during.p999() < before.p999() * 10 + Duration::from_millis(100));
        cluster.wait_until_in_sync();
        // All of a million items are compared elsewhere.
        for ledger in [before, during] {
            ledger.assert_undisturbed();
            assert!(!ledger.promises.is_empty());
            let [mut one, mut other] = [source, empty].map(|node| cluster.client(node));
            for (key, promise) in &ledger.promises {
                let value = format!("{}:", promise.seq);
                let keeps = |client: &mut Client| {
                    client.get(key).is_some_and(|held| held.starts_with(value.as_bytes()))
                };
                assert!(keeps(&mut one), "{key} {value}");
                wait_until(&format!("{key} {value} is on both"), || keeps(&mut other));
            }
        }
    }
}

#[test]
fn a_client_port_that_is_taken_ends_the_start_with_its_reason() {
    let mut cluster = Plan::of(2).laid_out();
    let address = cluster.nodes[0].address();
    let _taken = TcpListener::bind(address).unwrap();
    cluster.nodes[0].start();
    assert!(!cluster.nodes[0].wait_until_it_ends().success());
    let said = cluster.nodes[0].log();
    assert!(said.contains(&format!("failed to listen on TCP port {}", address.port())), "{said}");
}

/// A story's node would end instead of serving.
#[test]
fn a_port_for_a_node_is_free_though_programs_are_started_meanwhile() {
    let is_done = AtomicBool::new(false);
    let start_programs = || {
        while !is_done.load(Ordering::Relaxed) {
            Command::new("true").status().unwrap();
        }
    };
    let taken = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(start_programs);
        }
        let mut ports = (0..2_000).map(|_| free_port());
        let taken = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_err());
        is_done.store(true, Ordering::Relaxed);
        taken
    });
    assert_eq!(taken, None);
}

#[test]
fn a_port_is_not_free_while_somebody_listens() {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    assert!(!is_free(listener.local_addr().unwrap().port()));
}
