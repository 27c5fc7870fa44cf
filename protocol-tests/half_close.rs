//! Clients that send requests with bare line feeds and shut their writing half before they read, as
//! ldirectord's check and `printf ... | nc -N` do: they get every answer, and then the end.
//!
//! Over TCP, a unix socket and TLS; the first two with memcached as well. A datagram has no halves:
//! that one with bare line feeds is answered stands in `udp/text.conv` and `udp/meta.conv`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::{Client, PATIENCE, show};
use crate::frame;
use crate::pattern::escape;
use crate::server::{Program, Server};
use crate::tls::Office;

const HIT: &str = "VALUE k 0 1\r\nv\r\nEND\r\n";

/// What is sent, and what is answered, in classic and meta commands.
const TEXT: &[(&str, &str)] = &[
    ("", ""),
    ("get k\n", HIT),
    ("get k\r\n", HIT),
    ("get none\nget k\nincr none 1\n", "END\r\nVALUE k 0 1\r\nv\r\nEND\r\nNOT_FOUND\r\n"),
    ("set q 0 0 1\nx\r\nget q\ndelete q\n", "STORED\r\nVALUE q 0 1\r\nx\r\nEND\r\nDELETED\r\n"),
    ("set q 0 0 1 noreply\nx\r\ndelete q\n", "DELETED\r\n"),
    ("get k\nquit\nget k\n", HIT),
    ("foo\nget none\n", "ERROR\r\nEND\r\n"),
    ("mg k v\nmg none v\nmd none\n", "VA 1\r\nv\r\nEN\r\nNF\r\n"),
    ("ms q 1\nx\r\nmg q v k\nmd q q\n", "HD\r\nVA 1 kq\r\nx\r\n"),
    // The last one comes in part: the others are answered, and it is as if it had not come.
    ("get k\nget k", HIT),
    ("get k\ndelete k\r", HIT),
    ("get k\nset k 0 0 10\nhalf", HIT),
    ("get k\nset k 0 0 4\nhalf", HIT),
    ("get k\nset k 0 0 4\nhalf\r", HIT),
    ("mg k v\nmg k v", "VA 1\r\nv\r\n"),
    ("mg k v\nms k 4\nhalf", "VA 1\r\nv\r\n"),
    ("g", ""),
    ("set k 0 0 4\nha", ""),
];

/// The same in frames, behind them bytes that are none, and the answers as [`frame::show`] tells them.
const BINARY: &[(&[&str], &[u8], &str)] = &[
    (&["noop"], b"", "noop status=0x00 cas=0"),
    (
        &["get key=none opaque=1", "delete key=none opaque=2", "noop opaque=3"],
        b"",
        "get status=0x01 value=Not\\sfound cas=0 opaque=1; \
         delete status=0x01 value=Not\\sfound cas=0 opaque=2; noop status=0x00 cas=0 opaque=3",
    ),
    (
        &["getq key=none", "deleteq key=none", "noop"],
        b"",
        "deleteq status=0x01 value=Not\\sfound cas=0; noop status=0x00 cas=0",
    ),
    (&["noop opaque=1"], b"\x80", "noop status=0x00 cas=0 opaque=1"),
    (&["noop opaque=1"], b"\x80\x0a\0\0\0\0\0\0\0\0\0", "noop status=0x00 cas=0 opaque=1"),
    (&["noop", "append key=k bodylen=9 value=half"], b"", "noop status=0x00 cas=0"),
    (&["set key=k bodylen=99 value=half"], b"", ""),
];

/// Where memcached 1.6.18 forgets an answer: one that waits for the next when half a request ends
/// the connection, and before the login all refusals in one packet but the last.
const LOST_BY_MEMCACHED: &[&str] =
    &["mg k v\nms k 4\nhalf", "set x 0 0 7\nfoo baz\r\nget none\n", "get key\nmg key v\n"];

/// How a client ends his half under TLS.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    /// TLS's good-bye, and the end of the stream.
    Both,
    /// Only the good-bye.
    GoodBye,
    /// Only the end of the stream, as many clients do.
    Cut,
}

/// A way to a server.
enum Way<'s> {
    Plain(&'s Server),
    Tls(&'s Server, &'s Arc<ClientConfig>, Farewell),
}

impl Way<'_> {
    /// Sends, ends the writing half, and hears until the end.
    fn exchange(&self, sent: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        match self {
            Way::Plain(server) => {
                let mut stream = server.connect();
                stream.set_timeout(PATIENCE);
                stream.write_all(sent).unwrap();
                stream.half_close().unwrap();
                stream.read_to_end(&mut heard).unwrap();
            }
            Way::Tls(server, config, farewell) => {
                let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                stream.conn.complete_io(&mut stream.sock).unwrap();
                stream.write_all(sent).unwrap();
                if !matches!(farewell, Farewell::Cut) {
                    stream.conn.send_close_notify();
                }
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut stream.sock).unwrap();
                }
                if !matches!(farewell, Farewell::GoodBye) {
                    // The server may have closed at the good-bye already.
                    let _ = stream.sock.shutdown(Shutdown::Write);
                }
                // An end without TLS's good-bye would be an error.
                stream.read_to_end(&mut heard).unwrap();
            }
        }
        heard
    }
}

/// Checks one exchange, and says whether it is answered in full: memcached must fail exactly where
/// it is known to.
fn check(way: &Way<'_>, what: &str, sent: &[u8], heard: &str, answer: &str) -> bool {
    let lost = LOST_BY_MEMCACHED.iter().any(|lost| lost.as_bytes() == sent);
    let by_oracle = matches!(way, Way::Plain(server) if server.program() == Program::Oracle);
    let in_full = heard == answer;
    assert_eq!(in_full, !(by_oracle && lost), "{what}: {}: {heard} for {answer}", escape(sent));
    in_full
}

fn check_text(way: &Way<'_>, what: &str, sent: &str, answer: &str) -> bool {
    let heard = escape(&way.exchange(sent.as_bytes()));
    check(way, what, sent.as_bytes(), &heard, &escape(answer.as_bytes()))
}

/// Makes every exchange and shows how many were answered in full.
fn exchange_all(way: &Way<'_>, what: &str) {
    let mut answered = 1;
    for (sent, answer) in TEXT {
        answered += usize::from(check_text(way, what, sent, answer));
    }
    for (frames, behind, answer) in BINARY {
        let frames = frames.iter().flat_map(|line| frame::request(line));
        let sent: Vec<u8> = frames.chain(behind.iter().copied()).collect();
        let heard = frame::show(&way.exchange(&sent));
        answered += usize::from(check(way, what, &sent, &heard, answer));
    }
    // More answers than any buffer holds, to requests that came long before.
    let many = way.exchange(&b"get big\n".repeat(500));
    assert_eq!(many.len(), 500 * ("VALUE big 0 20000\r\n".len() + 20_000 + "\r\nEND\r\n".len()));
    assert!(way.exchange(b"get k\n") == HIT.as_bytes(), "{what}: half a request changed something");
    let all = TEXT.len() + BINARY.len() + 1;
    show(&format!("half-closed on {what}: {answered} of {all} exchanges answered in full"));
}

#[test]
fn who_shuts_his_writing_half_gets_every_answer_and_the_end_over_tcp_and_unix_sockets() {
    for program in [Program::Twincached, Program::Oracle] {
        for (place, flags) in [("TCP", &[][..]), ("a unix socket", &["-s", "{dir}/s"])] {
            let server = Server::start(program, flags);
            let mut client = Client::of(&server);
            client.set("k", b"v");
            client.set("big", &[b'v'; 20_000]);
            let what = format!("{program:?}, {place}");
            exchange_all(&Way::Plain(&server), &what);
        }
    }
}

#[test]
fn who_shuts_his_writing_half_gets_every_answer_and_the_end_over_tls() {
    let office = Office::open();
    let server = office.start(&[]);
    for version in [&TLS12, &TLS13] {
        let config = office.client(&[version], None);
        let way = |farewell| Way::Tls(&server, &config, farewell);
        let value = format!("set big 0 0 20000\n{}\r\n", "v".repeat(20_000));
        assert_eq!(way(Farewell::Both).exchange(value.as_bytes()), b"STORED\r\n");
        assert_eq!(way(Farewell::Both).exchange(b"set k 0 0 1\nv\r\n"), b"STORED\r\n");
        for farewell in [Farewell::Both, Farewell::GoodBye, Farewell::Cut] {
            let what = format!("{:?}, {farewell:?}", version.version);
            exchange_all(&way(farewell), &what);
        }
    }
}

#[test]
fn who_logs_in_and_shuts_his_writing_half_gets_every_answer_too() {
    const STORED_AND_MISSED: &str = "STORED\r\nEND\r\nEN\r\n";
    const REFUSED: &str = "CLIENT_ERROR unauthenticated\r\n";
    let cases = [
        ("set x 0 0 7\nfoo bar\r\nget none\nmg none v\n", STORED_AND_MISSED),
        ("set x 0 0 7\nfoo bar\r\nget none\nmg none v\nget no", STORED_AND_MISSED),
        (
            "set x 0 0 7\nfoo baz\r\nget none\n",
            "CLIENT_ERROR authentication failure\r\nCLIENT_ERROR unauthenticated\r\n",
        ),
        ("version\n", REFUSED),
        ("get key\nmg key v\n", "CLIENT_ERROR unauthenticated\r\nCLIENT_ERROR unauthenticated\r\n"),
        ("get key\nset x 0 0 7\nfoo", REFUSED),
        ("set x 0 0 7\nfoo bar", ""),
        ("get key", ""),
        ("", ""),
    ];
    let office = Office::open();
    let users = office.path("users");
    fs::write(&users, "foo:bar\n").unwrap();
    let users = users.to_string_lossy();
    let login = ["-Y", &*users];
    let config = office.client(&[&TLS13], None);
    let tls = office.start(&login);
    let tcp = Server::start(Program::Twincached, &login);
    let unix = Server::start(Program::Twincached, &[&login[..], &["-s", "{dir}/s"]].concat());
    let oracle = Server::start(Program::Oracle, &login);
    let ways = [
        ("TLS", Way::Tls(&tls, &config, Farewell::Both)),
        ("TCP", Way::Plain(&tcp)),
        ("a unix socket", Way::Plain(&unix)),
        ("memcached", Way::Plain(&oracle)),
    ];
    for (name, way) in ways {
        for (sent, answer) in cases {
            check_text(&way, name, sent, answer);
        }
    }
}
