//! Which address an answer leaves from, when a server listens on all addresses of its host.
//!
//! Behind a balancer that lets servers answer directly (LVS-DR, LVS-TUN) every server has the
//! service's address on its loopback interface beside its own. Left alone, the kernel sends from
//! the server's own, and a client that asked the service's hears nothing.
//!
//! Loopback has many addresses, for everybody. The long form adds two hosts in network namespaces,
//! which takes root.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use super::caller::{Heading, udp_port};
use crate::client::{PATIENCE, long_form, show};
use crate::server::{Program, Server};

/// Requests to each address.
const REQUESTS: u16 = 40;

/// How many requests were answered from the address that was asked, in all their datagrams.
fn answered_from(asked: SocketAddr) -> u16 {
    let anybody: IpAddr = if asked.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let client = UdpSocket::bind((anybody, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let is_right = |id: u16| {
        // One datagram, and some that are sent in one piece.
        let request = if id.is_multiple_of(2) { "version\r\n" } else { "stats\r\n" };
        client.send_to(&Heading::of(id).around(request.as_bytes()), asked).unwrap();
        let mut right = true;
        loop {
            let mut datagram = [0; 2000];
            let (len, from) = client.recv_from(&mut datagram).unwrap();
            let (heading, _) = Heading::read(&datagram[..len]).unwrap();
            assert_eq!(heading.id, id);
            right &= from == asked;
            if heading.sequence + 1 == heading.total {
                return right;
            }
        }
    };
    (0..REQUESTS).map(|id| u16::from(is_right(id))).sum()
}

fn start(program: Program, listen: &str) -> Server {
    let flags = ["-U", "-1", "-t", "2", "-l", listen];
    let own = ["--udp-allow", "127.0.0.0/8,::1,10.77.0.0/16,fd77::/16"];
    let own = if program == Program::Twincached { &own[..] } else { &[] };
    Server::start(program, &[&flags, own].concat())
}

/// Asks both servers, both listening on `listen`; we must answer from every address of `asked`.
fn ask(server: &Host, client: &Host, listen: &str, asked: &[&str]) {
    let programs = [Program::Twincached, Program::Oracle];
    let servers = programs.map(|program| server.inside(|| start(program, listen)));
    for asked in asked {
        let answered = servers.each_ref().map(|server| {
            let asked = SocketAddr::new(asked.parse().unwrap(), udp_port(server));
            client.inside(|| answered_from(asked))
        });
        let [ours, oracles] = answered;
        let place = client.name.as_deref().map_or("", |_| " of another host");
        show(&format!(
            "UDP on {listen}{place} asked on {asked}: answered from there {ours} of {REQUESTS}, \
             memcached {oracles}"
        ));
        assert_eq!(ours, REQUESTS, "answers from {asked}");
    }
}

/// A network of its own, or the one that this process is in.
struct Host {
    name: Option<String>,
}

impl Host {
    fn here() -> Host {
        Host { name: None }
    }

    fn new(role: &str) -> Host {
        let name = format!("twincached-{}-{role}", std::process::id());
        ip(&["netns", "add", &name]);
        let host = Host { name: Some(name) };
        host.ip(&["link", "set", "lo", "up"]);
        host
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.name()], arguments].concat());
    }

    /// Does something on this host: sockets and processes that begin there stay there.
    fn inside<T: Send>(&self, something: impl FnOnce() -> T + Send) -> T {
        let Some(name) = &self.name else { return something() };
        let on_a_thread_of_its_own = || {
            let namespace = File::open(format!("/run/netns/{name}")).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            something()
        };
        std::thread::scope(|scope| scope.spawn(on_a_thread_of_its_own).join().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output();
    let done = done.unwrap_or_else(|e| panic!("namespaces need `ip`, of Debian's iproute2: {e}"));
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "network namespaces need root: ip {arguments:?}: {complaint}");
}

/// A client and a server with a wire between them. The server has two addresses of its own, and on
/// its loopback interface a service's, to which the client's way leads over the server's first.
fn client_and_server() -> (Host, Host) {
    let (client, server) = (Host::new("client"), Host::new("server"));
    client.ip(&[
        "link",
        "add",
        "wire",
        "type",
        "veth",
        "peer",
        "name",
        "wire",
        "netns",
        server.name(),
    ]);
    let addresses = [
        (&client, "wire", ["10.77.0.1/24", "fd77::1/64"]),
        (&server, "wire", ["10.77.0.2/24", "fd77::2/64"]),
        (&server, "wire", ["10.77.0.3/24", "fd77::3/64"]),
        (&server, "lo", ["10.78.0.1/32", "fd78::1/128"]),
    ];
    for (host, interface, [four, six]) in addresses {
        host.ip(&["addr", "add", four, "dev", interface]);
        host.ip(&["addr", "add", six, "dev", interface, "nodad"]);
        host.ip(&["link", "set", interface, "up"]);
    }
    client.ip(&["route", "add", "10.78.0.1", "via", "10.77.0.2"]);
    client.ip(&["route", "add", "fd78::1", "via", "fd77::2"]);
    (client, server)
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let here = Host::here();
    ask(&here, &here, "0.0.0.0", &["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    ask(&here, &here, "[::]", &["::1"]);
    if long_form() {
        let (client, server) = client_and_server();
        ask(&server, &client, "0.0.0.0", &["10.77.0.2", "10.77.0.3", "10.78.0.1"]);
        ask(&server, &client, "[::]", &["fd77::2", "fd77::3", "fd78::1"]);
    }
}
