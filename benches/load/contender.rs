//! Servers under comparison: started with the same flags, filled with the same items, and asked at
//! the end whether they still have them.

use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::bare;
use crate::scenario::{Over, Scenario};
use crate::support::cores::{Cores, stay_on};
use crate::support::node::{
    ENDED, FAREWELL, Node, Told, is_in_time, is_in_time_or_never, number, peering,
};
use crate::support::port::free_port;
use crate::support::socket::Transport;

/// Memory of each server: nobody has to evict.
const MEGABYTES: &str = "4096";

/// Connections that each server takes.
const SEATS: &str = "12000";

/// With fewer items their share of the memory says nothing.
const ITEMS_MIN: u32 = 10_000;

/// Fewer than this are the bench's own and the server's.
const OWN_CONNECTIONS_MAX: u64 = 100;

/// The name of the server in `bare`.
const BARE: &str = "bare";

const MIB: f64 = (1 << 20) as f64;

const SETTLED_AFTER_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// A program that serves.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// Mirrors writes to its peers; to others the client writes itself.
    pub(crate) has_peers: bool,
    /// The server in `bare`.
    is_bare: bool,
}

impl Contender {
    /// The program at this path, named as it names itself.
    ///
    /// [`BARE`] is this program, as a server that keeps nothing.
    pub(crate) fn at(program: PathBuf) -> Contender {
        if program == Path::new(BARE) {
            let program = std::env::current_exe().expect("this program");
            return Contender { name: BARE.to_owned(), program, has_peers: false, is_bare: true };
        }
        let version = version(&program).unwrap_or_default();
        let has_peers = version.contains("-tc");
        let name = match version {
            _ if has_peers => "twincached".to_owned(),
            version if version.is_empty() => program.display().to_string(),
            version => version,
        };
        Contender { name, program, has_peers, is_bare: false }
    }

    /// Servers for a scenario, filled; or why there are none.
    pub(crate) fn start(
        &self,
        scenario: &Scenario,
        cores: &Cores,
        office: &Office,
    ) -> Result<Crew, String> {
        let mut flags = vec!["-m", MEGABYTES, "-c", SEATS, "-t"];
        let threads = cores.servers.len().to_string();
        flags.push(&threads);
        if self.is_bare {
            flags.push(bare::OPTION);
        }
        let flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
        let ports: Vec<u16> = (0..scenario.copies).map(|_| free_port()).collect();
        let mut nodes = Vec::new();
        let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
        stay_on(&cores.servers);
        for &own in &ports {
            let port = free_port();
            addr.set_port(port);
            let mut flags = flags.clone();
            if self.has_peers && scenario.copies > 1 {
                flags.extend(peering(own, &ports));
            }
            match scenario.over {
                Over::Tcp => {}
                Over::Udp => flags.extend(["-U".to_owned(), port.to_string()]),
                Over::Tls => {
                    addr.set_port(free_port());
                    flags.extend(office.flags(port, addr.port()));
                }
            }
            nodes.push(Node::memcached(&self.program, port, &flags));
        }
        stay_on(&cores.clients);
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|node| node.and_then(Node::try_serving))
            .collect::<Result<_, _>>()?;
        let transport = match scenario.over {
            Over::Tcp => Transport::Tcp,
            Over::Udp => Transport::Udp,
            Over::Tls => Transport::Tls(Arc::clone(&office.client)),
        };
        let mut servers: Vec<SocketAddr> = nodes.iter().map(Node::addr).collect();
        if scenario.over == Over::Tls {
            servers = vec![addr];
        }
        if self.has_peers {
            servers.truncate(1);
        }
        let mut crew = Crew { nodes, servers, transport, mirrors: self.has_peers, a_unit: None };
        crew.fill(scenario)?;
        Ok(crew)
    }
}

/// What a program says its name and version are. One that does not end by itself is ended.
fn version(program: &Path) -> io::Result<String> {
    let mut words = tempfile::tempfile()?;
    let mut command = Command::new(program);
    command.arg("-V").stdin(Stdio::null()).stdout(words.try_clone()?).stderr(Stdio::null());
    let mut process = command.spawn()?;
    if !is_in_time(FAREWELL, || process.try_wait().is_ok_and(|status| status.is_some())) {
        process.kill()?;
    }
    process.wait()?;
    let mut version = String::new();
    words.rewind()?;
    words.read_to_string(&mut version)?;
    Ok(version.trim().to_owned())
}

/// Running servers that hold the same items.
pub(crate) struct Crew {
    pub(crate) nodes: Vec<Node>,
    /// Those that a client speaks to.
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) transport: Transport,
    mirrors: bool,
    /// Bytes of memory an item, or an idle connection where there are such.
    pub(crate) a_unit: Option<f64>,
}

impl Crew {
    fn fill(&mut self, scenario: &Scenario) -> Result<(), String> {
        if self.mirrors && scenario.copies > 1 {
            let others = scenario.copies as u64 - 1;
            let is_linked = |told: &Told| number(told, "peers_in_sync") == others;
            if !self.all_say("replication", is_linked)? {
                return Err("the peers did not find each other".to_owned());
            }
        }
        let empty = self.nodes[0].resident()?;
        let filled = if self.mirrors { 1 } else { self.nodes.len() };
        for node in &self.nodes[..filled] {
            node.fill(scenario.keys, scenario.value_len)?;
        }
        let is_settled = |told: &Told| {
            number(told, "curr_items") == u64::from(scenario.keys)
                && number(told, "hash_is_expanding") == 0
        };
        if !self.all_say("", is_settled)? {
            return Err(format!("did not take {} items", scenario.keys));
        }
        if scenario.idle == 0 && scenario.keys >= ITEMS_MIN {
            let grown = self.nodes[0].resident()? - empty;
            self.a_unit = Some(grown * MIB / f64::from(scenario.keys));
        }
        Ok(())
    }

    /// Whether every server comes to say so of itself, in this section of its stats.
    fn all_say(&self, section: &str, is_so: impl Fn(&Told) -> bool) -> Result<bool, String> {
        for node in &self.nodes {
            let says_so = || node.told(section).map(|told| is_so(&told));
            if !is_in_time_or_never(SETTLED_AFTER_MAX, says_so)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Those who are connected and say nothing, for as long as the result is held.
    pub(crate) fn seat_idle(&mut self, scenario: &Scenario) -> Result<Vec<TcpStream>, String> {
        if scenario.idle == 0 {
            return Ok(Vec::new());
        }
        let node = &self.nodes[0];
        let in_time = |is_so: &dyn Fn(u64) -> bool| {
            is_in_time_or_never(SETTLED_AFTER_MAX, || {
                node.told("").map(|told| is_so(number(&told, "curr_connections")))
            })
        };
        if !in_time(&|seated| seated < OWN_CONNECTIONS_MAX)? {
            return Err("does not let go of connections".to_owned());
        }
        let empty = node.resident()?;
        let idle: Vec<TcpStream> = (0..scenario.idle)
            .map(|_| TcpStream::connect(node.addr()))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("an idle connection: {error}"))?;
        if !in_time(&|seated| seated > scenario.idle as u64)? {
            return Err(format!("did not take {} connections", scenario.idle));
        }
        let grown = node.resident()? - empty;
        self.a_unit.get_or_insert(grown * MIB / scenario.idle as f64);
        Ok(idle)
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.nodes.iter().map(Node::cpu_seconds).sum()
    }

    /// Whether every server runs and has every item.
    pub(crate) fn check(&mut self, scenario: &Scenario) -> Result<(), String> {
        for node in &mut self.nodes {
            if !node.is_alive() {
                return Err(ENDED.to_owned());
            }
            let keys = u64::from(scenario.keys);
            let mut held = 0;
            let has_all = is_in_time_or_never(SETTLED_AFTER_MAX / 10, || {
                held = node.items()?;
                Ok::<bool, String>(held == keys)
            })?;
            if !has_all {
                return Err(format!("holds {held} of {keys} items"));
            }
        }
        Ok(())
    }
}

/// Where certificates are made.
pub(crate) struct Office {
    directory: tempfile::TempDir,
    client: Arc<ClientConfig>,
}

impl Office {
    pub(crate) fn open() -> Office {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = made.expect("a certificate");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let save = |name: &str, text: String| {
            fs::write(directory.path().join(name), text).expect("a file");
        };
        save("cert.pem", cert.pem());
        save("key.pem", signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(cert.der().to_vec())).expect("our certificate");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Office { directory, client: Arc::new(client) }
    }

    /// Flags for a server in clear on one port and with TLS on another.
    fn flags(&self, clear: u16, tls: u16) -> Vec<String> {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let files = format!("ssl_chain_cert={},ssl_key={}", path("cert.pem"), path("key.pem"));
        let listen = format!("127.0.0.1:{tls},notls:127.0.0.1:{clear}");
        ["-Z", "-o", &files, "-l", &listen].map(str::to_owned).to_vec()
    }
}
