//! `-Z`: TLS over TCP, its certificates, and what stalls and breaks it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;

use crate::client::{Client, PATIENCE, show, wait_until};
use crate::server::{Program, Server};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "the tests' CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(ca: &Ca, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

/// Certificates, and the folder that they are in.
struct Office {
    dir: TempDir,
    ca: Ca,
    client_ca: Ca,
}

impl Office {
    fn open() -> Office {
        let office = Office { dir: tempfile::tempdir().unwrap(), ca: ca(), client_ca: ca() };
        fs::write(office.path("ca.pem"), office.ca.pem()).unwrap();
        fs::write(office.path("client-ca.pem"), office.client_ca.pem()).unwrap();
        office.certify();
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new certificate for the server.
    fn certify(&self) {
        let (chain, key) = issue(&self.ca, "localhost");
        fs::write(self.path("both.pem"), chain + &key).unwrap();
    }

    /// A server with these certificates.
    fn start(&self, flags: &[&str]) -> Server {
        let (both, ca) = (self.path("both.pem"), self.path("client-ca.pem"));
        let files = format!("ssl_chain_cert={},ssl_ca_cert={}", both.display(), ca.display());
        Server::start(Program::Twincached, &[&["-Z", "-o", files.as_str()], flags].concat())
    }

    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: Option<&Ca>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shows {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let (chain, key) = issue(ca, "client");
                let chain = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        })
    }
}

/// A client that speaks TLS.
struct Caller(StreamOwned<ClientConnection, TcpStream>);

impl Caller {
    fn of(port: u16, config: &Arc<ClientConfig>) -> Caller {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        Caller(StreamOwned::new(connection, stream))
    }

    fn ask(&mut self, request: &[u8], answer: &[u8]) -> std::io::Result<()> {
        self.0.write_all(request)?;
        let mut heard = vec![0; answer.len()];
        self.0.read_exact(&mut heard)?;
        assert!(heard == answer, "{}", heard.escape_ascii());
        Ok(())
    }

    fn is_served(&mut self) -> bool {
        self.ask(b"get nothing\r\n", b"END\r\n").is_ok()
    }

    fn shown(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// The ports of all listeners, in the order in which they were named.
pub(crate) fn ports(server: &Server) -> Vec<u16> {
    let file = fs::read_to_string(server.file("port")).unwrap();
    file.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn sessions_are_kept_over_both_versions_of_tls() {
    let office = Office::open();
    let server = office.start(&[]);
    for versions in [&[&TLS12], &[&TLS13]] {
        let mut caller = Caller::of(server.port(), &office.client(versions, None));
        caller.ask(b"set k 0 0 3\r\nabc\r\n", b"STORED\r\n").unwrap();
        caller.ask(b"get k\r\n", b"VALUE k 0 3\r\nabc\r\nEND\r\n").unwrap();
        caller.ask(b"quit\r\n", b"").unwrap();
        let mut rest = Vec::new();
        caller.0.read_to_end(&mut rest).expect("TLS's good-bye, not a cut line");
        assert!(rest.is_empty());
    }
}

#[test]
fn openssl_shakes_hands_in_1_2_and_1_3_and_not_below() {
    let office = Office::open();
    let server = office.start(&[]);
    let ca = office.path("ca.pem");
    for (version, served) in [("-tls1_2", true), ("-tls1_3", true), ("-tls1_1", false)] {
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", version, "-CAfile"])
            .arg(&ca)
            .args(["-servername", "localhost", "-verify_hostname", "localhost", "-connect"])
            .arg(format!("127.0.0.1:{}", server.port()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl must be installed");
        // It may have ended already, where it is not served.
        let _ = openssl.stdin.as_mut().unwrap().write_all(b"get nothing\r\nquit\r\n");
        let output = openssl.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said == "END\r\n", served, "{version}: {said} {output:?}");
    }
}

#[test]
fn a_listener_may_demand_a_certificate_ask_for_none_or_speak_in_clear() {
    let office = Office::open();
    let flags = ["-l", "mtls:127.0.0.1:0", "-l", "btls:127.0.0.1:0,notls:127.0.0.1:0"];
    let server = office.start(&flags);
    let ports = ports(&server);
    let stranger = ca();
    let served = |port, shows| Caller::of(port, &office.client(BOTH, shows)).is_served();
    let [as_set, mutual, basic, clear] = ports[..] else { panic!("{ports:?}") };
    for port in [as_set, basic] {
        assert!(served(port, None) && served(port, Some(&stranger)));
    }
    assert!(served(mutual, Some(&office.client_ca)));
    assert!(!served(mutual, None) && !served(mutual, Some(&stranger)));
    assert!(!served(clear, None));
    let mut plain = TcpStream::connect(("127.0.0.1", clear)).unwrap();
    plain.write_all(b"get nothing\r\nquit\r\n").unwrap();
    let mut heard = String::new();
    plain.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "END\r\n");
}

#[test]
fn verify_mode_two_refuses_who_shows_no_certificate_and_nothing_is_answered_in_clear() {
    let office = Office::open();
    let server = office.start(&["-o", "ssl_verify_mode=2"]);
    let served = |shows| Caller::of(server.port(), &office.client(BOTH, shows)).is_served();
    assert!(served(Some(&office.client_ca)) && !served(None) && !served(Some(&ca())));
    for request in [&b"version\r\nget k\r\n"[..], b"\x80\x0b", &[b'x'; 5000]] {
        let mut plain = Client::of(&server);
        plain.try_send(request, PATIENCE);
        let heard = plain.last_words().expect("it is closed");
        assert!(heard.is_empty() || heard.starts_with(&[0x15, 3]), "{}", heard.escape_ascii());
    }
    let mut caller = Caller::of(server.port(), &office.client(BOTH, Some(&office.client_ca)));
    caller.0.write_all(b"stats\r\n").unwrap();
    let mut stats = String::new();
    while !stats.ends_with("END\r\n") {
        let mut piece = [0; 4096];
        let read = caller.0.read(&mut piece).unwrap();
        stats += std::str::from_utf8(&piece[..read]).unwrap();
    }
    assert!(stats.contains("STAT ssl_handshake_errors 5\r\n"), "{stats}");
    assert!(stats.contains("STAT ssl_proto_errors 0\r\n"), "{stats}");
    assert!(stats.contains("STAT time_since_server_cert_refresh "), "{stats}");
    assert!(!stats.contains("ssl_new_sessions"), "only with the session cache: {stats}");
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_and_the_old_ones_go_on() {
    let office = Office::open();
    let server = office.start(&[]);
    let config = office.client(BOTH, None);
    let call = || {
        let mut caller = Caller::of(server.port(), &config);
        assert!(caller.is_served());
        caller
    };
    let mut old = call();
    office.certify();
    old.ask(b"refresh_certs\r\n", b"OK\r\n").unwrap();
    let new = call();
    assert_ne!(new.shown(), old.shown());
    assert!(old.is_served());

    fs::write(office.path("both.pem"), "half a fi").unwrap();
    call().ask(b"refresh_certs\r\n", b"Error -o ssl_chain_cert was given").unwrap();
    assert_eq!(call().shown(), new.shown());

    office.certify();
    kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGHUP).unwrap();
    wait_until("the third certificate is shown", || call().shown() != new.shown());
    assert!(old.is_served());
}

#[test]
fn a_storm_of_new_certificates_drops_no_connection() {
    let office = Office::open();
    let server = office.start(&["-t", "2"]);
    let config = office.client(BOTH, None);
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut old = Caller::of(server.port(), &config);
                while !over.load(Ordering::Relaxed) {
                    assert!(old.is_served());
                    assert!(Caller::of(server.port(), &config).is_served());
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut operator = Caller::of(server.port(), &config);
        for turn in 0..100 {
            office.certify();
            operator.ask(b"refresh_certs\r\n", b"OK\r\n").unwrap();
            let before = rounds.load(Ordering::Relaxed);
            wait_until("clients go on", || rounds.load(Ordering::Relaxed) > before || turn == 0);
        }
        over.store(true, Ordering::Relaxed);
    });
    let rounds = rounds.load(Ordering::Relaxed);
    show(&format!("100 new certificates, {rounds} rounds of calls, none dropped"));
}

#[test]
fn handshakes_that_stall_keep_nobody_waiting() {
    let office = Office::open();
    let server = office.start(&["-t", "1"]);
    let stalled: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
            stream.write_all(&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..n % 10]).unwrap();
            stream
        })
        .collect();
    let mut caller = Caller::of(server.port(), &office.client(BOTH, None));
    for _ in 0..100 {
        assert!(caller.is_served());
    }
    drop(stalled);
}

#[test]
fn a_pipeline_of_large_values_reaches_a_reader_who_takes_his_time() {
    let office = Office::open();
    let server = office.start(&["-t", "1"]);
    let config = office.client(BOTH, None);
    let mut caller = Caller::of(server.port(), &config);
    let value = "v".repeat(1_000_000);
    let stored = format!("set k 0 0 {}\r\n{value}\r\n", value.len());
    caller.ask(stored.as_bytes(), b"STORED\r\n").unwrap();
    caller.0.write_all(&b"get k\r\n".repeat(20)).unwrap();
    assert!(Caller::of(server.port(), &config).is_served(), "others are served meanwhile");
    let answer = format!("VALUE k 0 {}\r\n{value}\r\nEND\r\n", value.len());
    for _ in 0..20 {
        caller.ask(b"", answer.as_bytes()).unwrap();
    }
    assert!(caller.is_served());
}

#[test]
fn what_is_wrong_with_the_files_refuses_the_start_by_name() {
    let office = Office::open();
    let both = office.path("both.pem").to_string_lossy().into_owned();
    let ca = office.path("ca.pem").to_string_lossy().into_owned();
    let cases = [
        ("ssl_chain_cert=/nonexistent".to_owned(), "/nonexistent"),
        (format!("ssl_chain_cert={ca}"), "ssl_key"),
        (format!("ssl_chain_cert={both},ssl_verify_mode=2"), "ssl_ca_cert"),
        (format!("ssl_chain_cert={both},ssl_ciphers=RC4"), "ssl_ciphers"),
    ];
    for (options, complaint) in cases {
        let refused = Server::try_start(Program::Twincached, &["-Z", "-o", &options]);
        let refused = refused.err().expect("it does not start");
        assert!(refused.contains("exit status: 1"), "{refused}");
        assert!(refused.contains(complaint), "{refused}");
    }
}
