//! Nodes that stand still for less than what sends their clients away.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, long_form, machine_to_itself, show, wait_until};
use crate::frame::request;
use crate::udp::caller::Caller;

use super::cluster::Plan;
use super::port::free_port;

/// What one client is answered, and when.
fn answer(client: &mut Client) -> (String, Instant) {
    let mut said = String::new();
    while !said.ends_with("END\r\n") {
        let line = client.line();
        assert!(!line.is_empty(), "the connection ended behind {said:?}");
        said.push_str(&String::from_utf8(line).unwrap());
    }
    (said, Instant::now())
}

/// A node that stood still for longer than two seconds sends its clients away.
const MOMENT_MAX: Duration = Duration::from_millis(1_700);

#[test]
fn a_node_that_stood_still_for_a_moment_answers_everybody_and_nobody_from_what_it_had() {
    let _alone = machine_to_itself();
    let rounds = if long_form() { 60 } else { 4 };
    let ports = [free_port(), free_port()];
    let [one, other] = ports.map(|port| port.to_string());
    let mut cluster =
        Plan::by_default(2).with_at(0, &["-U", &one]).with_at(1, &["-U", &other]).start();
    let mut longest = Duration::ZERO;
    let mut round = 0;
    let mut prolonged = 0;
    while round < rounds {
        let (frozen, writes) = (round % 2, 1 - round % 2);
        let mut early: Vec<_> = (0..20).map(|_| cluster.client(frozen)).collect();
        let mut framed = cluster.client(frozen);
        let mut caller = Caller::between("127.0.0.1", ([127, 0, 0, 1], ports[frozen]).into());
        early[0].set("k", b"old");
        early
            .iter_mut()
            .for_each(|client| assert_eq!(client.get("k").as_deref(), Some(&b"old"[..])));
        framed.ask_frame("noop", "noop");
        caller.ask("version\r\n").unwrap();
        let stalls = cluster.nodes[frozen].told("stalls");
        let begun = Instant::now();
        cluster.nodes[frozen].freeze();
        let mut writer = cluster.client(writes);
        writer.set("k", b"new");
        for number in 0..2_000 {
            writer.set(&format!("k{number}"), b"new");
        }
        thread::sleep(Duration::from_millis(300 + 50 * (round % 20) as u64));
        early.iter_mut().for_each(|client| client.send("get k\r\n"));
        framed.send(request("get key=k"));
        caller.say("get k\r\n");
        cluster.nodes[frozen].thaw();
        let thawed = Instant::now();
        if thawed - begun > MOMENT_MAX {
            prolonged += 1;
            assert!(prolonged < 20, "the machine is too crowded for a moment");
            cluster.wait_until_in_sync();
            continue;
        }
        round += 1;
        for client in &mut early {
            let (said, when) = answer(client);
            assert_eq!(said, "VALUE k 0 3\r\nnew\r\nEND\r\n");
            longest = longest.max(when - thawed);
        }
        framed.expect_frame("get flags=0 value=new cas={c=number}");
        assert!(caller.hear().unwrap().ends_with(b"new\r\nEND\r\n"));
        assert_eq!(cluster.nodes[frozen].told("stalls"), stalls, "{}", cluster.nodes[frozen].log());
        wait_until("it says so", || cluster.nodes[frozen].told("pauses") > 0);
        cluster.wait_until_in_sync();
    }
    show(&format!(
        "a node stands still for a moment, {rounds} times: its clients were answered with what others \
         wrote meanwhile, {longest:.1?} after it went on at the latest"
    ));
}

#[test]
fn what_waits_when_its_node_stands_still_is_answered_when_the_peer_has_it() {
    let _alone = machine_to_itself();
    let mut cluster = Plan::by_default(2).start();
    for (near, far) in [(0, 1), (1, 0)] {
        let mut writer = cluster.client(near);
        let fallbacks = cluster.nodes[near].told("ack_fallbacks");
        // The peer first, so that the answer cannot have come before.
        cluster.nodes[far].freeze();
        writer.send("set k 0 0 1\r\n1\r\n");
        let mut reader = cluster.client(near);
        wait_until("it is stored", || reader.get("k").is_some());
        cluster.nodes[near].freeze();
        cluster.nodes[far].thaw();
        thread::sleep(Duration::from_millis(800));
        cluster.nodes[near].thaw();
        writer.expect("STORED\r\n");
        assert_eq!(cluster.nodes[near].told("ack_fallbacks"), fallbacks);
        cluster.client(near).ask("delete k\r\n", "DELETED\r\n");
        cluster.wait_until_in_sync();
    }
}

#[test]
fn the_clock_that_a_test_moves_is_not_the_one_by_which_nodes_stand_still() {
    let cluster = Plan::of(2).with(&["--test-clock"]).start();
    let [mut here, mut there] = [0, 1].map(|node| cluster.client(node));
    here.ask("set k 0 30 1\r\n1\r\n", "STORED\r\n");
    here.ask("debugtime 40\r\n", "OK\r\n");
    assert_eq!(here.get("k"), None);
    assert!(there.get("k").is_some());
    here.set("k2", b"2");
    assert_eq!(there.get("k2").as_deref(), Some(&b"2"[..]));
    here.ask("debugtime p\r\n", "OK\r\n");
    thread::sleep(Duration::from_millis(2_300));
    here.set("k3", b"3");
    assert_eq!(there.get("k3").as_deref(), Some(&b"3"[..]));
    for node in &cluster.nodes {
        // A busy machine may let it stand still for a moment in truth, but not for so long.
        assert_eq!(["stalls", "peers_awaited"].map(|name| node.told(name)), [0, 1]);
    }
}
