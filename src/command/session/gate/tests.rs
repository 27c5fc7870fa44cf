//! The gate from outside and inside: by text, and by what should not pass at all. By SASL is in
//! [`sasl`].

mod lengths;
mod sasl;

use std::sync::Arc;

use super::*;
use crate::command::{
    ConnState, Connection, Datagram, Received, Server, Session, Source, Transport,
};
use crate::credentials::{Credentials, Format};
use crate::settings::BindingProtocol::{Ascii, Auto, Binary};
use sasl::{Framed, RIGHT, START, frame, framed, sasl_server};

const LOGIN: &[u8] = b"set any 0 0 11\r\nanna secret\r\n";
const REFUSED: &str = "CLIENT_ERROR unauthenticated\r\n";

fn text_login() -> Settings {
    Settings {
        auth_file: Some("/etc/users".into()),
        enable_shutdown: true,
        test_clock: true,
        ..Settings::default()
    }
}

fn server(settings: Settings) -> Arc<Server> {
    let mut server = Server::new(settings);
    server.credentials = Some(Credentials::new(Format::AuthFile, b"anna:secret\n").unwrap());
    Arc::new(server)
}

/// A client's end of a session.
struct Client {
    session: Session,
    server: Arc<Server>,
    waiting: Vec<u8>,
}

impl Client {
    fn of(server: &Arc<Server>, listener: BindingProtocol) -> Client {
        let (addr, now) = ("tcp:192.0.2.1:1".to_owned(), server.clock.now().seconds());
        let connection = Connection::new(7, addr, None, Transport::Tcp, ConnState::NewCmd, now);
        let counters = server.totals.register();
        let session = Session::new(Arc::clone(server), counters, Arc::new(connection));
        let session = session.speaking(listener);
        Client { session, server: Arc::clone(server), waiting: Vec::new() }
    }

    /// What is answered in text to `bytes`, and what the session wants next.
    fn say(&mut self, bytes: &[u8]) -> (String, Next) {
        let (out, next) = self.tell(bytes);
        (String::from_utf8(out).unwrap(), next)
    }

    fn tell(&mut self, bytes: &[u8]) -> (Vec<u8>, Next) {
        self.waiting.extend_from_slice(bytes);
        let (mut out, now) = (Vec::new(), self.server.clock.now());
        loop {
            let Received { consumed, next } = self.session.receive(&self.waiting, now, &mut out);
            self.waiting.drain(..consumed);
            if next != Next::Yield {
                return (out, next);
            }
        }
    }
}

/// One request of every kind, in every protocol.
fn requests() -> Vec<Vec<u8>> {
    let lines = "get key|gets key|gat 0 key|gats 0 key|delete key|incr number 1|decr number 1\
        |touch key 1|flush_all|flush_all 0 noreply|version|verbosity 1|stats|stats settings\
        |stats reset|stats conns|stats items|stats cachedump 1 0|shutdown|shutdown graceful\
        |cache_memlimit 100|refresh_certs|slabs reassign 1 2|lru mode flat\
        |lru_crawler metadump all|lru_crawler mgdump all|watch|watch fetchers|debugtime +99|peers\
        |peers add 127.0.0.1:1\
        |mg key v|mg key s v t|md key|ma number|mn now|me key|quit now|extstore item_age 5\
        |set key 0 0|nonsense|GET / HTTP/1.1|set key 0 0 -1|set key 0 0 99999999";
    let blocks = ["add", "set", "replace", "append", "prepend", "cas", "setx", "ms"]
        .map(|verb| format!("{verb} key 0 0 3 1\r\nnew\r\n").into_bytes());
    let frames = (0..=u8::MAX).map(|opcode| frame(opcode, b"key", b""));
    let lines = lines.split('|').map(|line| format!("{}\r\n", line.trim()).into_bytes());
    lines.chain(blocks).chain(frames).collect()
}

/// Whether an answer says nothing but no.
fn is_refusal(answer: &[u8]) -> bool {
    if answer.first() == Some(&0x81) {
        return framed(answer).iter().all(|Framed(status, _)| [0x20, 0x04].contains(status));
    }
    let lines = std::str::from_utf8(answer).unwrap().lines();
    let refusals = [
        "CLIENT_ERROR unauthenticated",
        "CLIENT_ERROR auth token too long",
        "CLIENT_ERROR bad authentication token format",
    ];
    lines.into_iter().all(|line| refusals.contains(&line))
}

fn stored(server: &Arc<Server>) -> (u64, String) {
    let store = server.store.counters();
    let mut open = Client::of(server, Auto);
    open.session.let_in();
    (store.curr_items, open.say(b"get key number\r\n").0)
}

#[test]
fn before_the_login_nothing_is_heard_in_any_protocol_on_any_listener() {
    let by_text = server(text_login());
    let by_sasl = server(Settings { sasl: true, ..text_login() });
    let only_sasl = server(Settings { auth_file: None, sasl: true, ..text_login() });
    let without_users = Arc::new(Server::new(text_login()));
    for server in [&by_text, &by_sasl, &only_sasl, &without_users] {
        let mut inside = Client::of(server, Auto);
        inside.session.let_in();
        inside.say(b"set key 0 0 3\r\nold\r\nset number 0 0 1\r\n5\r\n");
        let before = stored(server);
        assert_eq!(before.0, 2);
        for listener in [Auto, Ascii, Binary] {
            for request in requests() {
                let mut client = Client::of(server, listener);
                let (answer, next) = client.tell(&[&request[..], b"get key\r\n"].concat());
                let what = format!("{}: {}", request.escape_ascii(), answer.escape_ascii());
                assert!(!matches!(next, Next::Shutdown(_) | Next::Watch | Next::Resume), "{what}");
                assert!(is_refusal(&answer), "{what}");
                assert_eq!(stored(server), before, "{what}");
            }
        }
    }
}

#[test]
fn a_login_opens_its_own_connection_in_text_and_stores_nothing() {
    for listener in [Auto, Ascii, Binary] {
        let server = server(text_login());
        let (mut client, mut other) =
            (Client::of(&server, listener), Client::of(&server, listener));
        let (answer, _) = client.say(&[LOGIN, b"get any\r\nmg any v\r\n"].concat());
        assert!(answer.starts_with("STORED\r\nEND\r\n"), "{answer}");
        assert_eq!(other.say(b"get any\r\n").0, REFUSED);
        assert_eq!(
            client.say(b"set any 0 0 1\r\nx\r\nget any\r\n").0,
            "STORED\r\nVALUE any 0 1\r\nx\r\nEND\r\n"
        );
    }
}

#[test]
fn a_login_may_be_tried_again_until_the_third_failure_ends_the_connection() {
    const WRONG: &[u8] = b"set any 0 0 11\r\nanna wrong!\r\n";
    let server = server(text_login());
    let mut client = Client::of(&server, Auto);
    let mut fails = |next| {
        assert_eq!(client.say(WRONG), ("CLIENT_ERROR authentication failure\r\n".to_owned(), next));
    };
    fails(Next::Receive { at_least: 1 });
    fails(Next::Receive { at_least: 1 });
    fails(Next::Close(CloseReason::Error));
    let mut client = Client::of(&server, Auto);
    let (answers, next) = client.say(&[WRONG, WRONG, LOGIN].concat());
    assert!(answers.ends_with("STORED\r\n"), "{answers}");
    assert_eq!(next, Next::Receive { at_least: 1 });
    let counts = server.totals.counts();
    assert_eq!((counts.auth_cmds, counts.auth_errors, counts.cmd_set), (6, 5, 0));
}

#[test]
fn nothing_behind_the_third_failed_login_is_heard() {
    const WRONG: &[u8] = b"set any 0 0 11\r\nanna wrong!\r\n";
    let server = server(text_login());
    let mut client = Client::of(&server, Auto);
    let (answers, next) = client.say(&[WRONG, WRONG, WRONG, LOGIN, b"get any\r\n"].concat());
    assert_eq!(answers, "CLIENT_ERROR authentication failure\r\n".repeat(3));
    assert_eq!(next, Next::Close(CloseReason::Error));
}

#[test]
fn a_login_that_comes_byte_by_byte_is_heard() {
    let server = server(text_login());
    let mut client = Client::of(&server, Auto);
    let heard: String = LOGIN.iter().map(|byte| client.say(&[*byte]).0).collect();
    assert_eq!(heard, "STORED\r\n");
}

#[test]
fn new_users_are_for_new_logins_and_who_is_inside_stays() {
    let server = server(text_login());
    let mut inside = Client::of(&server, Auto);
    inside.say(LOGIN);
    server.credentials.as_ref().unwrap().replace(b"bert:secret\n").unwrap();
    assert_eq!(inside.say(b"get key\r\n").0, "END\r\n");
    let mut outside = Client::of(&server, Auto);
    assert_eq!(outside.say(LOGIN).0, "CLIENT_ERROR authentication failure\r\n");
    assert_eq!(outside.say(b"set any 0 0 11\r\nbert secret\r\n").0, "STORED\r\n");
}

#[test]
fn health_checks_pass_only_when_the_operator_says_so() {
    let strict = server(text_login());
    assert_eq!(Client::of(&strict, Auto).say(b"version\r\n").0, REFUSED);
    let lenient = server(Settings { auth_allow_health_checks: true, ..text_login() });
    let mut client = Client::of(&lenient, Auto);
    let (answer, _) = client.say(b"version\r\nmn\r\nget key\r\n");
    assert!(answer.starts_with("VERSION 1.6"), "{answer}");
    assert!(answer.ends_with(&format!("\r\nMN\r\n{REFUSED}")), "{answer}");
}

#[test]
fn who_floods_the_gate_yields_to_others() {
    let server = server(text_login());
    let mut client = Client::of(&server, Auto);
    client.say(&b"version\r\n".repeat(100));
    assert!(server.totals.counts().conn_yields >= 4);
}

#[test]
fn a_login_by_datagram_is_forgotten_with_the_datagram() {
    for (server, login, get) in [
        (server(text_login()), LOGIN.to_vec(), b"get any\r\n".to_vec()),
        (sasl_server(Settings::default()), frame(START, b"PLAIN", RIGHT), frame(0x00, b"k", b"")),
    ] {
        let mut client = Client::of(&server, Auto);
        for payload in [&login, &get] {
            let mut heard = Vec::new();
            let now = server.clock.now();
            let mut datagram = Datagram::new(&mut client.session, Source::Allowed, payload);
            datagram.next_message(now, &mut heard);
            if payload == &get {
                let refused = String::from_utf8_lossy(&heard).contains("unauthenticated")
                    || heard.get(7) == Some(&0x20);
                assert!(refused, "{}", heard.escape_ascii());
            }
        }
    }
}
