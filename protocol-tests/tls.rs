//! `-Z`: TLS over TCP, its certificates, and what stalls and breaks it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::certificates::{self, BOTH, Ca, ca, issue};
use crate::client::{Client, PATIENCE, long_form, show, wait_until};
use crate::server::{Program, Server};

/// Certificates, and the folder that they are in.
pub(crate) struct Office {
    dir: TempDir,
    ca: Ca,
    client_ca: Ca,
}

impl Office {
    pub(crate) fn open() -> Office {
        let office = Office { dir: tempfile::tempdir().unwrap(), ca: ca(), client_ca: ca() };
        fs::write(office.path("ca.pem"), office.ca.pem()).unwrap();
        fs::write(office.path("client-ca.pem"), office.client_ca.pem()).unwrap();
        office.certify();
        office
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new certificate for the server.
    fn certify(&self) {
        let (chain, key) = issue(&self.ca, "localhost");
        fs::write(self.path("both.pem"), chain + &key).unwrap();
    }

    /// A server with these certificates.
    pub(crate) fn start(&self, flags: &[&str]) -> Server {
        let (both, ca) = (self.path("both.pem"), self.path("client-ca.pem"));
        let files = format!("ssl_chain_cert={},ssl_ca_cert={}", both.display(), ca.display());
        Server::start(Program::Twincached, &[&["-Z", "-o", files.as_str()], flags].concat())
    }

    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: Option<&Ca>,
    ) -> Arc<ClientConfig> {
        certificates::client(&self.ca, versions, shows)
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

    fn stats(&mut self) -> String {
        self.0.write_all(b"stats\r\n").unwrap();
        let mut stats = String::new();
        while !stats.ends_with("END\r\n") {
            let mut piece = [0; 4096];
            let read = self.0.read(&mut piece).unwrap();
            stats += std::str::from_utf8(&piece[..read]).unwrap();
        }
        stats
    }

    fn stat(&mut self, name: &str) -> usize {
        let stats = self.stats();
        let value = stats.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
        value.unwrap_or_else(|| panic!("no `{name}` in stats")).parse().unwrap()
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
    let stats = caller.stats();
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
    let turns = if long_form() { 1_000 } else { 100 };
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
        for turn in 0..turns {
            office.certify();
            operator.ask(b"refresh_certs\r\n", b"OK\r\n").unwrap();
            let before = rounds.load(Ordering::Relaxed);
            wait_until("clients go on", || rounds.load(Ordering::Relaxed) > before || turn == 0);
        }
        over.store(true, Ordering::Relaxed);
    });
    let rounds = rounds.load(Ordering::Relaxed);
    show(&format!("{turns} new certificates, {rounds} rounds of calls, none dropped"));
}

/// Connections whose handshake stalls: before its first byte, in it, or behind a good hello.
fn stall(port: u16, config: &Arc<ClientConfig>, n: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::clone(config), name).unwrap().write_tls(&mut hello).unwrap();
    let said = [0, 1, 5, 9, hello.len() / 2, hello.len()][n % 6];
    stream.write_all(&hello[..said]).unwrap();
    stream
}

#[test]
fn a_stalled_or_dripping_handshake_is_ended_after_ten_seconds_and_blocks_nobody() {
    const STALLED: usize = 300;
    let office = Office::open();
    let server = office.start(&["-t", "1"]);
    let config = office.client(BOTH, None);
    let since = Instant::now();
    let mut open: Vec<TcpStream> = (0..STALLED).map(|n| stall(server.port(), &config, n)).collect();
    let mut dripping = stall(server.port(), &config, 1);
    let mut caller = Caller::of(server.port(), &config);
    let (mut calls, mut slowest, mut first_end) = (0, Duration::ZERO, None);
    while !open.is_empty() {
        assert!(since.elapsed() < Duration::from_secs(20), "{} are still open", open.len());
        let asked = Instant::now();
        assert!(caller.is_served() && Caller::of(server.port(), &config).is_served());
        slowest = slowest.max(asked.elapsed());
        calls += 1;
        // A handshake may take long, but not by a byte now and then.
        let _ = dripping.write_all(b"\x03");
        // What is heard before the end is the server's part of the handshake.
        let is_open = |mut stream: &TcpStream| loop {
            match stream.read(&mut [0; 4096]) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        };
        open.retain(|stream| is_open(stream));
        if open.len() < STALLED {
            first_end.get_or_insert(since.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (first_end, last_end) = (first_end.unwrap(), since.elapsed());
    show(&format!(
        "{STALLED} TLS handshakes stall: ended after {first_end:.1?} to {last_end:.1?}; meanwhile \
         {calls} new clients and as many requests of an old one, slowest pair {slowest:?}"
    ));
    assert!(first_end > Duration::from_secs(9), "{first_end:?}");
    assert!(slowest < Duration::from_secs(5), "somebody waited for a handshake: {slowest:?}");
    wait_until("the dripping one has been ended, too", || dripping.write_all(b"\x03").is_err());
    let errors = Caller::of(server.port(), &config).stat("ssl_handshake_errors");
    assert_eq!(errors, STALLED + 1);
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
