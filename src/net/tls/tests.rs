//! Handshakes with a real client over a pipe in memory, and certificates made for the occasion.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ListenerTls, Tls, TlsError, TlsSocket};
use crate::settings::{self, Listen, ListenTls, Settings};
use crate::stats::WorkerCounters;

#[path = "../../../protocol-tests/certificates.rs"]
mod certificates;
use certificates::{BOTH, Ca, ca, issue};

/// What the pipe between client and server holds.
const PIPE: usize = 16 << 10;

fn mutual() -> Listen {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Listen { tls: ListenTls::Mutual, ..Listen::from(any_port) }
}

/// A folder with what a server needs, and the CA that clients know.
struct Office {
    dir: tempfile::TempDir,
    ca: Ca,
    client_ca: Ca,
}

impl Office {
    fn open() -> Office {
        let (dir, ca, client_ca) = (tempfile::tempdir().unwrap(), ca(), ca());
        let office = Office { dir, ca, client_ca };
        office.put("ca.pem", office.client_ca.pem());
        office.certify();
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Gives the server a new certificate.
    fn certify(&self) {
        let (chain, key) = issue(&self.ca, "localhost");
        self.put("chain.pem", chain);
        self.put("key.pem", key);
    }

    fn tls(&self) -> settings::Tls {
        settings::Tls {
            enabled: true,
            chain_cert: Some(self.path("chain.pem")),
            key: Some(self.path("key.pem")),
            ca_cert: Some(self.path("ca.pem")),
            ..settings::Tls::default()
        }
    }

    fn load(&self, tls: settings::Tls) -> Result<Arc<Tls>, TlsError> {
        let listen = if tls.ca_cert.is_some() { vec![mutual()] } else { Vec::new() };
        let settings = Settings { tls, listen, ..Settings::default() };
        Tls::load(&settings).map(|tls| Arc::new(tls.expect("-Z was given")))
    }

    /// A client that knows the server's CA and shows a certificate signed by `shows`.
    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: Option<&Ca>,
    ) -> Arc<ClientConfig> {
        certificates::client(&self.ca, versions, shows)
    }
}

/// What a listener needs, for tests of whoever serves it, and a client of that.
pub(in crate::net) fn any_tls() -> (ListenerTls, ClientConnection) {
    let office = Office::open();
    let tls = ListenerTls::new(&office.load(office.tls()).unwrap(), ListenTls::Default);
    let name = ServerName::try_from("localhost").unwrap();
    (tls, ClientConnection::new(office.client(BOTH, None), name).unwrap())
}

/// Both ends of a connection on which something was said and answered.
struct Call {
    client: TlsStream<DuplexStream>,
    server: TlsSocket<DuplexStream>,
}

impl Call {
    async fn speak(&mut self) -> io::Result<()> {
        let (client, server) = (&mut self.client, &mut self.server);
        let (mut asked, mut answered) = ([0; 4], [0; 4]);
        client.write_all(b"ping").await?;
        server.read_exact(&mut asked).await?;
        server.write_all(b"pong").await?;
        server.flush().await?;
        client.read_exact(&mut answered).await?;
        assert_eq!((&asked, &answered), (b"ping", b"pong"));
        Ok(())
    }

    fn version(&self) -> Option<ProtocolVersion> {
        self.client.get_ref().1.protocol_version()
    }

    fn resumed(&self) -> bool {
        self.client.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that the server showed.
    fn shown(&self) -> CertificateDer<'static> {
        self.client.get_ref().1.peer_certificates().unwrap()[0].clone()
    }
}

struct Line<'t> {
    tls: &'t Arc<Tls>,
    counters: Arc<WorkerCounters>,
}

impl<'t> Line<'t> {
    fn to(tls: &'t Arc<Tls>) -> Line<'t> {
        Line { tls, counters: Arc::default() }
    }

    fn socket(&self, listen: ListenTls) -> (DuplexStream, TlsSocket<DuplexStream>) {
        let (client_end, server_end) = duplex(PIPE);
        let server = ListenerTls::new(self.tls, listen).socket(server_end, &self.counters);
        (client_end, server.expect("loaded for such a listener"))
    }

    /// Connects, and speaks once; the server's error when it has one.
    async fn call(&self, listen: ListenTls, client: &Arc<ClientConfig>) -> io::Result<Call> {
        let (client_end, mut server) = self.socket(listen);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(client));
        let (connected, served) = tokio::join!(
            async {
                let mut client = connector.connect(name, client_end).await?;
                client.write_all(b"hi").await?;
                io::Result::Ok(client)
            },
            async {
                let mut greeting = [0; 2];
                server.read_exact(&mut greeting).await?;
                server.flush().await
            }
        );
        served?;
        let mut call = Call { client: connected?, server };
        call.speak().await?;
        Ok(call)
    }
}

#[tokio::test]
async fn both_versions_are_spoken_unless_the_minimum_forbids_one() {
    let office = Office::open();
    let tls = office.load(office.tls()).unwrap();
    let strict = office.load(settings::Tls { min_version: 3, ..office.tls() }).unwrap();
    let cases =
        [(&TLS12, ProtocolVersion::TLSv1_2, false), (&TLS13, ProtocolVersion::TLSv1_3, true)];
    for (version, spoken, also_strict) in cases {
        let client = office.client(&[version], None);
        let call = Line::to(&tls).call(ListenTls::Default, &client).await.unwrap();
        assert_eq!(call.version(), Some(spoken));
        let call = Line::to(&strict).call(ListenTls::Default, &client).await;
        assert_eq!(call.is_ok(), also_strict, "{spoken:?}");
    }
}

#[tokio::test]
async fn the_verify_mode_and_the_listener_say_which_clients_are_served() {
    let office = Office::open();
    let stranger = ca();
    let shows = [None, Some(&office.client_ca), Some(&stranger)];
    let cases = [
        (ListenTls::Default, 0, [true, true, true]),
        (ListenTls::Default, 1, [true, true, false]),
        (ListenTls::Default, 2, [false, true, false]),
        (ListenTls::Default, 3, [false, true, false]),
        (ListenTls::Basic, 2, [true, true, true]),
        (ListenTls::Mutual, 0, [false, true, false]),
        (ListenTls::Mutual, 1, [false, true, false]),
    ];
    for (listen, verify_mode, expected) in cases {
        let tls = office.load(settings::Tls { verify_mode, ..office.tls() }).unwrap();
        for versions in [&[&TLS12], &[&TLS13]] {
            let line = Line::to(&tls);
            let mut served = [false; 3];
            for (served, shows) in served.iter_mut().zip(shows) {
                let client = office.client(versions, shows);
                *served = line.call(listen, &client).await.is_ok();
            }
            let what = format!("{listen:?}, ssl_verify_mode {verify_mode}, {versions:?}");
            assert_eq!(served, expected, "{what}");
            let refused = expected.iter().filter(|served| !*served).count();
            assert_eq!(line.counters.ssl_handshake_errors.count(), refused as u64, "{what}");
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_the_old_ones_go_on() {
    let office = Office::open();
    let tls = office.load(office.tls()).unwrap();
    let (line, client) = (Line::to(&tls), office.client(BOTH, None));
    let mut old = line.call(ListenTls::Default, &client).await.unwrap();
    office.certify();
    tls.refresh().unwrap();
    let new = line.call(ListenTls::Default, &client).await.unwrap();
    assert_ne!(new.shown(), old.shown());
    old.speak().await.unwrap();
}

#[tokio::test]
async fn a_bad_new_certificate_or_key_keeps_the_old_one() {
    let office = Office::open();
    let tls = office.load(office.tls()).unwrap();
    let (line, client) = (Line::to(&tls), office.client(BOTH, None));
    let before = line.call(ListenTls::Default, &client).await.unwrap().shown();
    for name in ["chain.pem", "key.pem", "ca.pem"] {
        let good = fs::read(office.path(name)).unwrap();
        let other = issue(&office.ca, "localhost");
        office.put("key.pem", &other.1);
        office.put(name, "half a fi");
        assert!(tls.refresh().is_err(), "{name}");
        office.put(name, good);
        let after = line.call(ListenTls::Default, &client).await.unwrap().shown();
        assert_eq!(after, before, "{name}");
    }
}

#[tokio::test]
async fn the_key_may_be_der_or_stand_in_the_chain_file() {
    let office = Office::open();
    let pem = fs::read_to_string(office.path("key.pem")).unwrap();
    office.put("key.der", KeyPair::from_pem(&pem).unwrap().serialized_der());
    let chain = fs::read_to_string(office.path("chain.pem")).unwrap();
    office.put("both.pem", format!("{pem}{chain}"));
    let der = settings::Tls { key: Some(office.path("key.der")), keyformat: 2, ..office.tls() };
    let both =
        settings::Tls { key: None, chain_cert: Some(office.path("both.pem")), ..office.tls() };
    for tls in [der, both] {
        let tls = office.load(tls).unwrap();
        let client = office.client(BOTH, None);
        Line::to(&tls).call(ListenTls::Default, &client).await.unwrap();
    }
}

#[test]
fn what_is_wrong_is_told_with_option_and_file() {
    let office = Office::open();
    office.put("empty", "");
    office.put("other-key.pem", issue(&office.ca, "x").1);
    office.put("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let path = |name| Some(office.path(name));
    let tls = || office.tls();
    let cases = [
        (settings::Tls { chain_cert: None, ..tls() }, "ssl_chain_cert", "\"\""),
        (settings::Tls { chain_cert: path("none"), ..tls() }, "ssl_chain_cert", "No such file"),
        (
            settings::Tls { chain_cert: path("key.pem"), ..tls() },
            "ssl_chain_cert",
            "no certificate",
        ),
        (
            settings::Tls { chain_cert: path("broken.pem"), ..tls() },
            "ssl_chain_cert",
            "certificate",
        ),
        (settings::Tls { key: None, ..tls() }, "ssl_chain_cert", "-o ssl_key=file"),
        (settings::Tls { key: path("none"), ..tls() }, "ssl_key", "No such file"),
        (
            settings::Tls { key: path("chain.pem"), ..tls() },
            "ssl_key",
            "no unencrypted private key",
        ),
        (settings::Tls { key: path("other-key.pem"), ..tls() }, "ssl_key", "not the key of"),
        (settings::Tls { keyformat: 2, ..tls() }, "ssl_key", "DER"),
        (settings::Tls { ca_cert: path("none"), ..tls() }, "ssl_ca_cert", "No such file"),
        (settings::Tls { ca_cert: path("empty"), ..tls() }, "ssl_ca_cert", "no certificate"),
        (
            settings::Tls { ca_cert: None, verify_mode: 1, ..tls() },
            "ssl_ca_cert",
            "ssl_verify_mode",
        ),
        (settings::Tls { ciphers: Some("RC4-MD5".into()), ..tls() }, "ssl_ciphers", "\"RC4-MD5\""),
    ];
    for (tls, option, part) in cases {
        let message = office.load(tls).unwrap_err().to_string();
        assert!(message.starts_with(&format!("-o {option} was given ")), "{message}");
        assert!(message.contains(part), "{message}: {part}");
    }
    let settings = Settings {
        tls: settings::Tls { ca_cert: None, ..tls() },
        listen: vec![mutual()],
        ..Settings::default()
    };
    let message = Tls::load(&settings).unwrap_err().to_string();
    assert!(message.contains("ssl_ca_cert") && message.contains("mtls:"), "{message}");
}

#[test]
fn without_z_no_file_is_read() {
    let tls = settings::Tls { chain_cert: Some("/nonexistent".into()), ..settings::Tls::default() };
    let settings = Settings { tls, ..Settings::default() };
    assert!(Tls::load(&settings).unwrap().is_none());
}

#[tokio::test]
async fn the_cipher_list_limits_what_is_spoken() {
    let office = Office::open();
    let client = office.client(&[&TLS12], None);
    for (list, spoken) in [("ECDHE-ECDSA-AES128-GCM-SHA256", true), ("ECDHE+aRSA", false)] {
        let tls = settings::Tls { ciphers: Some(list.into()), ..office.tls() };
        let tls = office.load(tls).unwrap();
        let call = Line::to(&tls).call(ListenTls::Default, &client).await;
        assert_eq!(call.is_ok(), spoken, "{list}: the certificate is ECDSA");
    }
}

#[tokio::test]
async fn a_session_is_resumed_only_with_the_session_cache() {
    let office = Office::open();
    for (session_cache, versions) in
        [(false, &[&TLS12]), (false, &[&TLS13]), (true, &[&TLS12]), (true, &[&TLS13])]
    {
        let tls = office.load(settings::Tls { session_cache, ..office.tls() }).unwrap();
        let (line, client) = (Line::to(&tls), office.client(versions, None));
        assert!(!line.call(ListenTls::Default, &client).await.unwrap().resumed());
        let second = line.call(ListenTls::Default, &client).await.unwrap();
        assert_eq!(second.resumed(), session_cache, "{versions:?}");
        let new = if session_cache { 1 } else { 2 };
        assert_eq!(line.counters.ssl_new_sessions.count(), new);
    }
}

#[tokio::test]
async fn a_session_without_certificate_is_not_resumed_where_one_is_required() {
    let office = Office::open();
    let tls = office.load(settings::Tls { session_cache: true, ..office.tls() }).unwrap();
    for versions in [&[&TLS12], &[&TLS13]] {
        let (line, client) = (Line::to(&tls), office.client(versions, None));
        line.call(ListenTls::Basic, &client).await.unwrap();
        assert!(line.call(ListenTls::Mutual, &client).await.is_err());
    }
}

#[tokio::test]
async fn what_is_no_tls_gets_an_alert_and_an_end() {
    let office = Office::open();
    let tls = office.load(office.tls()).unwrap();
    let line = Line::to(&tls);
    for said in [&b"get k\r\n"[..], b"\x80\x0b", &[0; 999], &[0x16; 999]] {
        let (mut client, mut server) = line.socket(ListenTls::Default);
        client.write_all(said).await.unwrap();
        client.shutdown().await.unwrap();
        assert!(server.read(&mut [0; 9]).await.is_err());
        drop(server);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert!(!heard.starts_with(b"E"), "an answer in clear: {heard:?}");
    }
    assert_eq!(line.counters.ssl_handshake_errors.count(), 4);
    assert_eq!(line.counters.ssl_proto_errors.count(), 0);
}

#[tokio::test]
async fn garbage_after_the_handshake_is_a_protocol_error_and_hanging_up_is_an_end() {
    let office = Office::open();
    let tls = office.load(office.tls()).unwrap();
    let (line, client) = (Line::to(&tls), office.client(BOTH, None));
    let mut call = line.call(ListenTls::Default, &client).await.unwrap();
    call.client.get_mut().0.write_all(&[0x17, 3, 3, 0, 4, 1, 2, 3, 4]).await.unwrap();
    assert!(call.server.read(&mut [0; 9]).await.is_err());
    assert_eq!(line.counters.ssl_proto_errors.count(), 1);

    let Call { client: cut, mut server } = line.call(ListenTls::Default, &client).await.unwrap();
    drop(cut.into_inner().0);
    assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(line.counters.ssl_proto_errors.count(), 1);
}

#[tokio::test]
async fn a_large_reply_arrives_whole_and_the_end_is_told() {
    let office = Office::open();
    let tls = office.load(office.tls()).unwrap();
    let client = office.client(BOTH, None);
    let mut call = Line::to(&tls).call(ListenTls::Default, &client).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let mut heard = Vec::new();
    let Call { client, server } = &mut call;
    let (_, read) = tokio::join!(
        async {
            server.write_all(&sent).await.unwrap();
            server.flush().await.unwrap();
        },
        async {
            heard.resize(sent.len(), 0);
            client.read_exact(&mut heard).await
        }
    );
    read.unwrap();
    assert!(heard == sent);
    let Call { mut client, server } = call;
    drop(server);
    assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 0, "a good-bye, not a cut");
}
