//! What clients sent to a node that stood still, and then gave up: it must not happen when the node
//! goes on. PHP's lock would be taken for a page that has long asked the other node.

use std::thread;
use std::time::Duration;

use crate::client::{Client, long_form};

use super::cluster::Plan;

/// Longer than a node stands still without noticing.
const STILL: Duration = Duration::from_millis(2_300);

/// Several pairs at once: a thread that wakes late must miss nothing either.
fn what_was_sent_to_a_frozen_node_does_not_happen(flags: &[&str]) {
    const CLIENTS: usize = 20;
    const PAIRS: usize = 6;
    let rounds = if long_form() { 20 } else { 2 };
    let mut pairs: Vec<_> = (0..PAIRS).map(|_| Plan::of(2).with(flags).start()).collect();
    for round in 0..rounds {
        let frozen = round % 2;
        for pair in &pairs {
            pair.nodes[frozen].freeze();
            for client in 0..CLIENTS {
                let stream = pair.nodes[frozen].try_connect().unwrap();
                Client::over(stream).send(format!("set {client}.lock 0 0 1\r\n1\r\n"));
            }
        }
        thread::sleep(STILL);
        pairs.iter().for_each(|pair| pair.nodes[frozen].thaw());
        for pair in &mut pairs {
            pair.wait_until_in_sync();
            // Every worker has had its turn.
            for _ in 0..8 {
                pair.nodes[frozen].wait_until_it_serves();
            }
            let mut client = pair.client(frozen);
            for late in 0..CLIENTS {
                assert_eq!(client.get(&format!("{late}.lock")), None, "the lock of client {late}");
            }
        }
    }
}

#[test]
fn what_was_sent_over_tcp_to_a_frozen_node_does_not_happen() {
    what_was_sent_to_a_frozen_node_does_not_happen(&[]);
}

#[test]
fn what_was_sent_over_a_unix_socket_to_a_frozen_node_does_not_happen() {
    what_was_sent_to_a_frozen_node_does_not_happen(&["-s", "{dir}/socket"]);
}
