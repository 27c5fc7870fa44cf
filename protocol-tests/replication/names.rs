//! One name for all nodes, which leads to another address when a node has moved.
//!
//! Names are looked up in an `/etc/hosts` that only this story sees: its thread, and the nodes that it
//! starts, have mounts of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::client::wait_until;

use super::cluster::Cluster;
use super::node::Node;
use super::port::free_port;

/// Plays `story` where the returned path of a file is what names are looked up in.
fn with_hosts_of_its_own(story: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let hosts: PathBuf = dir.path().join("hosts");
    fs::write(&hosts, "").unwrap();
    let on_a_thread_of_its_own = || {
        unshare(CloneFlags::CLONE_NEWNS)
            .unwrap_or_else(|error| panic!("mounts of one's own need root: {error}"));
        mount(&["--make-rprivate", "/"]);
        mount(&["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
        story(&hosts);
    };
    std::thread::scope(|scope| scope.spawn(on_a_thread_of_its_own).join().unwrap());
}

fn mount(arguments: &[&str]) {
    let done = Command::new("mount").args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "mount {arguments:?}: {complaint}");
}

/// `nodes` leads to these of the loopback network's machines.
fn lead_to(hosts: &Path, machines: &[u8]) {
    let lines = machines.iter().map(|machine| format!("127.0.0.{machine} nodes\n"));
    fs::write(hosts, lines.collect::<String>()).unwrap();
}

/// A node that expects its peers at one of the loopback network's machines, and has the number of it.
fn node_at(machine: u8, peer_port: u16) -> Node {
    let (number, listen) = (machine.to_string(), format!("127.0.0.{machine}"));
    let name = format!("nodes:{peer_port}");
    let flags = ["--node-id", &number, "--replication-listen", &listen, "--peer", &name];
    let others = ["--peer-insecure", "--ack-timeout", "1000"];
    Node::new(peer_port, &flags.into_iter().chain(others).map(str::to_owned).collect::<Vec<_>>())
}

/// Whether the addresses that a node knows lead to exactly these machines, its own among them. A node
/// that it has met and that no address leads to any more is `unknown`.
fn knows(cluster: &Cluster, node: usize, machines: &[u8]) -> bool {
    let stats = cluster.client(node).stats("replication");
    let addresses = stats.iter().filter_map(|(name, address)| {
        let peer = name.strip_suffix(":address")?;
        (address != "unknown").then(|| stats[&format!("{peer}:node")].parse::<u8>().unwrap())
    });
    let mut found: Vec<u8> = addresses.collect();
    found.sort_unstable();
    found == machines
}

#[test]
fn one_name_leads_to_all_nodes_and_to_the_next_address_of_one_that_has_moved() {
    with_hosts_of_its_own(|hosts| {
        let port = free_port();
        lead_to(hosts, &[1, 2]);
        let mut nodes = vec![node_at(1, port), node_at(2, port)];
        nodes.iter_mut().for_each(Node::start);
        let mut cluster = Cluster::of(nodes);
        cluster.wait_until_in_sync();
        for node in [0, 1] {
            wait_until("both addresses have been met", || knows(&cluster, node, &[1, 2]));
        }
        cluster.client(0).set("k", b"v");

        for (dies, machines) in [(1, [1, 3]), (0, [3, 4])] {
            let lives = 1 - dies;
            cluster.nodes[dies].kill();
            wait_until("its death is told", || cluster.nodes[lives].told("peers_in_sync") == 0);
            lead_to(hosts, &machines);
            let next = machines.into_iter().max().unwrap();
            cluster.nodes[dies] = node_at(next, port);
            cluster.nodes[dies].start();
            cluster.wait_until_in_sync();
            for node in [lives, dies] {
                // Who cannot be reached is looked for: nobody waits for the next regular look-up.
                wait_until("the next address has been met", || knows(&cluster, node, &machines));
            }
            let name = format!("written{next}");
            cluster.client(lives).set(&name, b"v");
            assert_eq!(cluster.client(dies).get(&name).as_deref(), Some(&b"v"[..]));
            assert_eq!(cluster.client(dies).get("k").as_deref(), Some(&b"v"[..]));
        }
        cluster.wait_until_identical();
        cluster.assert_nothing_was_repaired();
    });
}
