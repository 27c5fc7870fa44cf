//! What stands before the session nodes when PHP is told of one address only: README.md's HAProxy
//! or nftables lines, with the ports of a farm's nodes in place of README.md's hosts.
//!
//! Both need a [`room`] of their own, in which they have the address that README.md names. Neither
//! remembers who went where. Not here: the nodes ([`crate::farm`]), and what PHP is told.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::farm::Farm;
use crate::node::PATIENCE;
use crate::process::Process;
use crate::readme::{Lines, Section};
use crate::room;
use crate::root;
use crate::server::Address;
use crate::site::{Handler, Protocol};
use crate::web::Web;

/// Which balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Haproxy,
    Nftables,
}

/// A balancer at work.
pub(crate) struct Front {
    kind: Kind,
    haproxy: Option<Process>,
    dir: TempDir,
}

impl Front {
    /// README.md's lines for this balancer, before all nodes of the farm.
    pub(crate) fn open(kind: Kind, farm: &Farm) -> Front {
        let dir = TempDir::new().unwrap();
        let haproxy = (kind == Kind::Haproxy).then(|| {
            let file = dir.path().join("haproxy.cfg");
            let example = "session1 10.0.0.11:11211";
            write_haproxy_file(&file, &haproxy_lines("haproxy", example, &ports(farm)));
            haproxy(&file, dir.path(), ADDRESS)
        });
        let front = Front { kind, haproxy, dir };
        if kind == Kind::Nftables {
            front.send_to(&ports(farm));
        }
        front
    }

    /// README.md's HAProxy before the web servers, on port [`SITE`], and before a farm's nodes, if
    /// there is one address for them, the same HAProxy or nftables.
    pub(crate) fn before_a_site(sessions: Option<(Kind, &Farm)>, webs: &[Web]) -> Front {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("haproxy.cfg");
        let (kind, nodes) = match sessions {
            Some((kind, farm)) => (kind, ports(farm)),
            None => (Kind::Haproxy, Vec::new()),
        };
        let behind_haproxy = if kind == Kind::Haproxy { &nodes[..] } else { &[] };
        let sessions = haproxy_lines("haproxy", "session1 10.0.0.11:11211", behind_haproxy);
        let webs: Vec<u16> = webs.iter().map(Web::port).collect();
        let site = haproxy_lines("haproxy site", "web1 10.0.0.1:8080", &webs);
        write_haproxy_file(&file, &(sessions + &site));
        let haproxy = haproxy(&file, dir.path(), "127.0.0.1:80");
        let front = Front { kind, haproxy: Some(haproxy), dir };
        if kind == Kind::Nftables {
            front.send_to(&nodes);
        }
        front
    }

    /// Has it know which nodes are there now: of nftables' rule an operator takes dead nodes out;
    /// HAProxy finds out by itself, and who is there again is waited for.
    pub(crate) fn knows(&self, farm: &Farm) {
        let nodes = ports(farm).into_iter().zip(&farm.nodes);
        let there = nodes.filter(|(_, node)| node.is_started()).map(|(port, _)| port);
        match self.kind {
            Kind::Nftables => self.send_to(&there.collect::<Vec<_>>()),
            Kind::Haproxy => {
                let there: Vec<_> = there.map(|port| format!("sessions,at-{port},UP")).collect();
                let deadline = Instant::now() + PATIENCE;
                while !there.iter().all(|node| self.states().contains(node)) {
                    assert!(Instant::now() < deadline, "{there:?} but {:?}", self.states());
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    /// What HAProxy's log says of servers that were taken for dead though they did not refuse
    /// connections, and of times when there was none.
    pub(crate) fn surprises(&self) -> Vec<String> {
        let log = self.haproxy.as_ref().map_or_else(String::new, Process::output);
        let is_surprise = |line: &&str| {
            line.contains("is DOWN") && !line.contains("Connection refused")
                || line.contains("has no server available")
        };
        log.lines().filter(is_surprise).map(str::to_owned).collect()
    }

    /// HAProxy's servers as `backend,server,state`.
    fn states(&self) -> Vec<String> {
        let mut stats = UnixStream::connect(self.dir.path().join("stats")).expect("HAProxy runs");
        stats.write_all(b"show stat\n").unwrap();
        let mut table = String::new();
        stats.read_to_string(&mut table).unwrap();
        let state = |row: &str| {
            let cells: Vec<_> = row.split(',').collect();
            (cells.len() > 17).then(|| [cells[0], cells[1], cells[17]].join(","))
        };
        table.lines().filter_map(state).collect()
    }

    /// Sends all that come to a port on which nobody listens.
    pub(crate) fn shut(&self) {
        assert!(self.kind == Kind::Nftables, "HAProxy knows better");
        self.send_to(&[1]);
    }

    fn send_to(&self, ports: &[u16]) {
        let file = self.dir.path().join("nftables.conf");
        fs::write(&file, nftables_lines(ports)).unwrap();
        room::administer("nft", &["-f", file.to_str().unwrap()]);
    }
}

/// HAProxy with this file, which has it listen there.
fn haproxy(file: &Path, dir: &Path, address: &str) -> Process {
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file).env("PATH", room::path_of_administrators());
    let mut process = Process::start(&command, dir.join("haproxy.log"));
    process.wait_until(|_| TcpStream::connect(address).ok());
    process
}

/// The ini lines for a farm behind one address.
pub(crate) fn lines(handler: Handler, protocol: Protocol) -> String {
    lines_of(HEADING, handler, protocol)
}

/// The ini lines for a web server with a node beside it.
pub(crate) fn lines_beside(handler: Handler, node: &Address) -> String {
    let Address::Unix(path) = node else { panic!("it is beside") };
    let lines = Lines(lines_of("A node on every web server", handler, Protocol::Ascii));
    lines.with("/run/twincached/socket", root::inside(path).to_str().unwrap()).0
}

fn lines_of(heading: &str, handler: Handler, protocol: Protocol) -> String {
    let section = Section::under(heading);
    let (Lines(common), Lines(one), binary) = match handler {
        Handler::Memcache => {
            (Section::under("pecl memcache").first(), section.first(), "memcache.protocol = binary")
        }
        Handler::Memcached => (
            Section::under("php-memcached").first(),
            section.behind("For php-memcached"),
            "memcached.sess_binary_protocol = On",
        ),
    };
    let speak = if protocol == Protocol::Ascii { "" } else { binary };
    format!("{common}{one}{speak}\n")
}

/// The port of the site in README.md.
pub(crate) const SITE: u16 = 80;

const HEADING: &str = "One address";

/// The address that README.md names.
const ADDRESS: &str = "10.0.0.10:11211";

/// README.md's lines, and a socket by which the harness learns what HAProxy knows.
fn write_haproxy_file(file: &Path, lines: &str) {
    let stats = file.with_file_name("stats");
    fs::write(file, format!("global\n    stats socket {}\n{lines}", stats.display())).unwrap();
}

/// The lines of one block, with a server on each port in place of its example.
fn haproxy_lines(block: &str, example: &str, ports: &[u16]) -> String {
    let Lines(lines) = Section::under(HEADING).block(block);
    let is_server = |line: &&str| line.trim_start().starts_with("server ");
    let (servers, others): (Vec<_>, Vec<_>) = lines.lines().partition(is_server);
    assert!(servers[0].contains(example), "{}", servers[0]);
    let server = |port: &u16| servers[0].replace(example, &format!("at-{port} 127.0.0.1:{port}"));
    let lines = others.into_iter().map(str::to_owned).chain(ports.iter().map(server));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn nftables_lines(ports: &[u16]) -> String {
    const EXAMPLE: &str = "mod 2 map { 0 : 10.0.0.11 . 11211, 1 : 10.0.0.12 . 11211 }";
    let places = ports.iter().enumerate().map(|(at, port)| format!("{at} : 127.0.0.1 . {port}"));
    let places = places.collect::<Vec<_>>().join(", ");
    let map = format!("mod {} map {{ {places} }}", ports.len());
    Section::under(HEADING).block("nft").with(EXAMPLE, &map).0
}

fn ports(farm: &Farm) -> Vec<u16> {
    let port = |address: &&Address| match address {
        Address::Tcp(port) => *port,
        Address::Unix(_) | Address::Udp(..) => panic!("a balancer is before TCP"),
    };
    farm.addresses().iter().map(port).collect()
}
