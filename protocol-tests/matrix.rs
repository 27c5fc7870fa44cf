//! Who must log in meets the same gate whatever he speaks and wherever he comes in: protocol by
//! listener by credentials, under `-Y` and under `-S`.
//!
//! Every conversation says everything at once and is heard to its end, which the server makes.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::certificates::{ca, issue};
use crate::client::{Client, show};
use crate::frame::{self, request};
use crate::sasl::plain;
use crate::server::{Program, Server};
use crate::tls::ports;

/// What nobody outside may see.
const TREASURE: &[u8] = b"treasure";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// `-Y`.
    Text,
    /// `-S`.
    Sasl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Classic,
    Meta,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credentials {
    None,
    Wrong,
    Right,
}

impl Demand {
    const ALL: [Demand; 2] = [Demand::Text, Demand::Sasl];

    fn flags(self, users: &str) -> Vec<&str> {
        match self {
            Demand::Text => vec!["-Y", users],
            Demand::Sasl => vec!["-S", "--sasl-pwdb", users],
        }
    }

    /// The protocol by which one can log in, in the word of `-l`.
    fn protocol(self) -> &'static str {
        match self {
            Demand::Text => "ascii",
            Demand::Sasl => "binary",
        }
    }

    /// Whether one who says this is inside.
    fn admits(self, protocol: Protocol, credentials: Credentials) -> bool {
        (self == Demand::Sasl) == (protocol == Protocol::Binary)
            && credentials == Credentials::Right
    }
}

/// Everything that one of them says: the login, what an intruder would want, and a good-bye.
fn said(protocol: Protocol, credentials: Credentials) -> Vec<u8> {
    let password = if credentials == Credentials::Right { "secret" } else { "secrex" };
    let logs_in = credentials != Credentials::None;
    let mut said = Vec::new();
    if protocol == Protocol::Binary {
        if logs_in {
            said = request(&plain("anna", password));
        }
        said.extend(request("get key=k"));
        said.extend(request("set key=other value=x"));
        said.extend(request("quit"));
        // Where lines are read, this ends it.
        said.extend_from_slice(b"\nquit\r\n");
        return said;
    }
    if logs_in {
        said = format!("set any 0 0 11\r\nanna {password}\r\n").into_bytes();
    }
    said.extend_from_slice(match protocol {
        Protocol::Classic => b"get k\r\nset other 0 0 3\r\nx y\r\nstats\r\n",
        _ => b"mg k v\r\nms other 3\r\nx y\r\nme k\r\n",
    });
    said.extend_from_slice(b"quit\r\n");
    said
}

/// A way in.
enum Door<'s> {
    Plain(u16),
    Unix(&'s Server),
    /// With a certificate to show, or none.
    Tls(u16, Option<&'s str>),
}

impl Door<'_> {
    /// Says `said`, and returns all that is answered until the server closes.
    fn converse(&self, said: &[u8]) -> Vec<u8> {
        match self {
            Door::Plain(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
                all_words(Client::over(stream), said)
            }
            Door::Unix(server) => all_words(Client::of(server), said),
            Door::Tls(port, shown) => {
                let mut command = Command::new("openssl");
                command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")]);
                if let Some(file) = shown {
                    command.args(["-cert", file, "-key", file]);
                }
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                let mut openssl = command.spawn().unwrap();
                // It may have ended already, where it is refused.
                let _ = openssl.stdin.as_mut().unwrap().write_all(said);
                openssl.wait_with_output().unwrap().stdout
            }
        }
    }
}

fn all_words(mut client: Client, said: &[u8]) -> Vec<u8> {
    client.send(said);
    client.last_words().unwrap()
}

/// Certificates for a server and its clients, in files of certificate and key.
fn certify(dir: &TempDir) -> [String; 3] {
    let ca = ca();
    let path = |name| dir.path().join(name).to_string_lossy().into_owned();
    fs::write(path("ca"), ca.pem()).unwrap();
    for name in ["localhost", "client"] {
        let (chain, key) = issue(&ca, name);
        fs::write(path(name), chain + &key).unwrap();
    }
    [path("ca"), path("localhost"), path("client")]
}

/// Sends everybody through `doors`, and asks an insider what has become of the store.
fn try_doors(demand: Demand, doors: &[Door<'_>]) -> usize {
    use Credentials::{None, Right, Wrong};
    let right = if demand == Demand::Sasl { Protocol::Binary } else { Protocol::Classic };
    let mut conversations = 0;
    for (number, door) in doors.iter().enumerate() {
        for protocol in [Protocol::Classic, Protocol::Meta, Protocol::Binary] {
            for credentials in [None, Wrong, Right] {
                let heard = door.converse(&said(protocol, credentials));
                let what = format!(
                    "{demand:?}, door {number}, {protocol:?}, {credentials:?}: {}",
                    heard.escape_ascii()
                );
                let sees = heard.windows(TREASURE.len()).any(|word| word == TREASURE);
                assert_eq!(sees, demand.admits(protocol, credentials), "{what}");
                assert!(sees || is_refusal(&heard), "{what}");
                conversations += 1;
            }
        }
        let store = door.converse(&said(right, Right));
        assert!(store.windows(TREASURE.len()).any(|word| word == TREASURE), "it is still there");
    }
    conversations
}

/// Whether there is nothing in an answer but no.
fn is_refusal(heard: &[u8]) -> bool {
    if heard.first() != Some(&frame::REPLY_MAGIC) {
        return heard.split_inclusive(|&byte| byte == b'\n').all(|line| {
            line.starts_with(b"CLIENT_ERROR unauthenticated")
                || line.starts_with(b"CLIENT_ERROR authentication failure")
                || line.starts_with(b"CLIENT_ERROR bad authentication token format")
        });
    }
    frame::split(heard).all(|reply| reply.get(6..8) == Some(&[0, 0x20]))
}

/// Puts the treasure where everybody will look for it.
fn hide(demand: Demand, door: &Door<'_>) {
    let said = match demand {
        Demand::Text => {
            b"set any 0 0 11\r\nanna secret\r\nset k 0 0 8\r\ntreasure\r\nquit\r\n".to_vec()
        }
        Demand::Sasl => [
            request(&plain("anna", "secret")),
            request("set key=k value=treasure"),
            request("quit"),
        ]
        .concat(),
    };
    assert!(!door.converse(&said).is_empty());
}

#[test]
fn nobody_is_heard_before_the_login_whatever_he_speaks_and_wherever_he_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    let [ca, server_file, client_file] = certify(&dir);
    let users = dir.path().join("users").to_string_lossy().into_owned();
    fs::write(&users, "anna:secret\n").unwrap();
    let mut conversations = 0;
    for demand in Demand::ALL {
        let files = format!("ssl_chain_cert={server_file},ssl_ca_cert={ca}");
        let named = format!("notls:proto[{}]:127.0.0.1:0", demand.protocol());
        let mut flags = demand.flags(&users);
        flags.extend(["-Z", "-o", &files, "-l", "notls:127.0.0.1:0", "-l", &named]);
        flags.extend(["-l", "notls:proto[negotiating]:127.0.0.1:0"]);
        flags.extend(["-l", "notls:tag[inner]:127.0.0.1:0", "-l", "mtls:127.0.0.1:0"]);
        let server = Server::start(Program::Twincached, &flags);
        let ports = ports(&server);
        let [tls, auto, by_name, negotiating, tagged, mutual] = ports[..] else {
            panic!("{ports:?}")
        };
        let mut doors: Vec<_> = [auto, by_name, negotiating, tagged].map(Door::Plain).into();
        doors.extend([Door::Tls(tls, None), Door::Tls(mutual, Some(&client_file))]);
        hide(demand, &doors[0]);
        conversations += try_doors(demand, &doors);
        let unseen = Door::Tls(mutual, None).converse(&said(Protocol::Classic, Credentials::Right));
        assert_eq!(unseen, b"", "without a certificate the password is not even heard");

        let mut flags = demand.flags(&users);
        flags.extend(["-s", "{dir}/s"]);
        let server = Server::start(Program::Twincached, &flags);
        hide(demand, &Door::Unix(&server));
        conversations += try_doors(demand, &[Door::Unix(&server)]);
    }
    show(&format!("{conversations} conversations at the gate, none heard that should not be"));
}
