//! The gate from outside and inside: by text, by SASL, and by what should not pass at all.

mod lengths;

use std::sync::Arc;

use super::*;
use crate::command::{
    ConnState, Connection, Datagram, Received, Server, Session, Source, Transport,
};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use crate::credentials::{Credentials, Format};
use crate::limits::SASL_DATA_MAX;
use crate::settings::BindingProtocol::{Ascii, Auto, Binary};

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
        |lru_crawler metadump all|lru_crawler mgdump all|watch|watch fetchers|debugtime +99\
        |mg key v|mg key s v t|md key|ma number|mn now|me key|quit now|extstore item_age 5\
        |set key 0 0|nonsense|GET / HTTP/1.1|set key 0 0 -1|set key 0 0 99999999";
    let blocks = ["add", "set", "replace", "append", "prepend", "cas", "setx", "ms"]
        .map(|verb| format!("{verb} key 0 0 3 1\r\nnew\r\n").into_bytes());
    let frames = (0..=u8::MAX).map(|opcode| {
        let mut frame = vec![0x80, opcode, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3];
        frame.resize(24, 0);
        frame.extend_from_slice(b"key");
        frame
    });
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
fn the_third_failed_sasl_login_is_answered_and_ends_the_connection() {
    let server = sasl_server(Settings::default());
    let mut client = Client::of(&server, Auto);
    for _ in 0..2 {
        assert_eq!(client.one(START, b"PLAIN", WRONG), failure());
    }
    assert_eq!(client.one(START, b"PLAIN", RIGHT), authenticated());
    for failed in 1..=3 {
        let (_, next) = client.tell(&frame(START, b"PLAIN", WRONG));
        let closed = next == Next::Close(CloseReason::Error);
        assert_eq!(closed, failed == 3, "after {failed} failures: {next:?}");
    }
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

/// Status, value and opaque of an answer that has neither extras nor key.
#[derive(Debug, PartialEq, Eq)]
struct Framed(u16, String);

fn framed(mut answers: &[u8]) -> Vec<Framed> {
    let mut frames = Vec::new();
    while let Some((header, body)) = answers.split_first_chunk::<24>() {
        let length = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
        let status = u16::from_be_bytes([header[6], header[7]]);
        frames.push(Framed(status, String::from_utf8(body[..length].to_vec()).unwrap()));
        answers = &body[length..];
    }
    assert!(answers.is_empty(), "half an answer");
    frames
}

fn frame(opcode: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = u32::try_from(key.len() + value.len()).unwrap();
    let mut frame = vec![0x80, opcode];
    frame.extend_from_slice(&u16::try_from(key.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&body.to_be_bytes());
    frame.resize(24, 0);
    [&frame, key, value].concat()
}

fn sasl_server(settings: Settings) -> Arc<Server> {
    let settings = Settings { sasl: true, ..settings };
    let mut server = Server::new(settings);
    let users = Credentials::new(Format::SaslPasswords, b"anna@web1:secret\n").unwrap();
    server.credentials = Some(users);
    Arc::new(server)
}

impl Client {
    /// The answers to frames, and whether the connection ended.
    fn ask(&mut self, bytes: &[u8]) -> (Vec<Framed>, bool) {
        let (answers, next) = self.tell(bytes);
        (framed(&answers), matches!(next, Next::Close(_)))
    }

    #[track_caller]
    fn one(&mut self, opcode: u8, key: &[u8], value: &[u8]) -> (u16, String) {
        let (mut answers, ended) = self.ask(&frame(opcode, key, value));
        assert!(!ended && answers.len() == 1, "{answers:?}");
        let Framed(status, text) = answers.remove(0);
        (status, text)
    }

    /// Whether a get is answered; afterwards the connection has ended if it was not.
    fn is_inside(&mut self) -> bool {
        match self.ask(&frame(0x00, b"key", b"")) {
            (answers, false) => {
                assert_eq!(answers, [Framed(0x01, "Not found".to_owned())]);
                true
            }
            (answers, true) => {
                assert_eq!(answers, [Framed(0x20, "Auth failure.".to_owned())]);
                false
            }
        }
    }
}

const LIST: u8 = 0x20;
const START: u8 = 0x21;
const STEP: u8 = 0x22;
const RIGHT: &[u8] = b"\0anna\0secret";
const WRONG: &[u8] = b"\0anna\0secrex";

fn authenticated() -> (u16, String) {
    (0, "Authenticated".to_owned())
}

fn failure() -> (u16, String) {
    (0x20, "Auth failure.".to_owned())
}

#[test]
fn before_a_sasl_login_every_frame_but_a_login_and_a_version_is_refused_and_ends_it() {
    let server = sasl_server(Settings::default());
    for opcode in (0..=u8::MAX).filter(|opcode| ![LIST, START, STEP, 0x0b].contains(opcode)) {
        for listener in [Auto, Ascii, Binary] {
            let mut client = Client::of(&server, listener);
            let (answers, ended) = client
                .ask(&[frame(opcode, b"key", b"value"), frame(START, b"PLAIN", RIGHT)].concat());
            assert_eq!(answers, [Framed(0x20, "Auth failure.".to_owned())], "{opcode:#x}");
            assert!(ended, "{opcode:#x}");
        }
    }
    let mut client = Client::of(&server, Auto);
    assert!(client.one(0x0b, b"", b"").1.starts_with("1.6."));
    assert_eq!(client.one(LIST, b"", b""), (0, "CRAM-MD5 PLAIN".to_owned()));
    assert_eq!(server.store.counters().curr_items, 0);
}

#[test]
fn before_a_sasl_login_the_body_of_a_refused_frame_is_not_waited_for() {
    let server = sasl_server(Settings::default());
    let mut header = frame(0x01, b"key", b"");
    header[8..12].copy_from_slice(&1_000_000_u32.to_be_bytes());
    let (answers, ended) = Client::of(&server, Auto).ask(&header[..24]);
    assert_eq!(answers, [Framed(0x20, "Auth failure.".to_owned())]);
    assert!(ended);
}

#[test]
fn with_sasl_text_ends_the_connection_without_a_word() {
    let server = sasl_server(Settings::default());
    for listener in [Auto, Ascii, Binary] {
        let mut client = Client::of(&server, listener);
        let (heard, next) = client.say(b"set any 0 0 11\r\nanna secret\r\nget any\r\n");
        assert_eq!((heard.as_str(), next), ("", Next::Close(CloseReason::Error)));
    }
}

#[test]
fn a_sasl_login_opens_and_a_failed_one_shuts_again() {
    let server = sasl_server(Settings::default());
    let mut client = Client::of(&server, Auto);
    assert_eq!(client.one(START, b"PLAIN", WRONG), failure());
    assert_eq!(client.one(START, b"PLAIN", WRONG), failure());
    assert_eq!(client.one(START, b"PLAIN", RIGHT), authenticated());
    assert!(client.is_inside());
    assert_eq!(client.one(START, b"PLAIN", RIGHT), authenticated());
    assert_eq!(client.one(LIST, b"", b""), (0, "CRAM-MD5 PLAIN".to_owned()));
    assert!(client.is_inside());
    assert_eq!(client.one(START, b"PLAIN", WRONG), failure());
    assert!(!client.is_inside(), "a failed login shuts the gate");
    let counts = server.totals.counts();
    assert_eq!((counts.auth_cmds, counts.auth_errors), (5, 3));
}

#[test]
fn a_login_that_is_only_begun_lets_nobody_in() {
    for (mechanism, opened) in [(&b"PLAIN"[..], false), (b"PLAIN", true), (b"CRAM-MD5", true)] {
        let server = sasl_server(Settings::default());
        let mut client = Client::of(&server, Auto);
        if opened {
            assert_eq!(client.one(START, b"PLAIN", RIGHT), authenticated());
        }
        assert_eq!(client.one(START, mechanism, b"").0, 0x21);
        assert!(!client.is_inside(), "{}", mechanism.escape_ascii());
    }
}

#[test]
fn plain_may_take_a_step_and_cram_md5_must() {
    let server = sasl_server(Settings::default());
    let mut client = Client::of(&server, Auto);
    assert_eq!(client.one(START, b"plain", b""), (0x21, String::new()));
    assert_eq!(client.one(STEP, b"plain", RIGHT), authenticated());
    assert!(client.is_inside());
    let (status, challenge) = client.one(START, b"CRAM-MD5", b"");
    assert_eq!(status, 0x21);
    let mut mac = Hmac::<Md5>::new_from_slice(b"secret").unwrap();
    mac.update(challenge.as_bytes());
    let digest: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let response = format!("anna {digest}");
    assert_eq!(client.one(STEP, b"CRAM-MD5", response.as_bytes()), authenticated());
    assert!(client.is_inside());
    assert_eq!(client.one(STEP, b"CRAM-MD5", response.as_bytes()), failure());
    assert!(!client.is_inside(), "a challenge is answered once");
}

#[test]
fn malformed_logins_are_refused_and_the_next_frame_is_heard() {
    let server = sasl_server(Settings::default());
    let invalid = (0x04, "Invalid arguments".to_owned());
    let cases = [
        (STEP, &b"PLAIN"[..], RIGHT.to_vec(), failure()),
        (START, b"SCRAM-SHA-1", RIGHT.to_vec(), failure()),
        (START, b"PLAIN", vec![0; 9], failure()),
        (START, b"CRAM-MD5", b"anna".to_vec(), failure()),
        (START, &[b'x'; 33], RIGHT.to_vec(), invalid.clone()),
        (START, b"PLAIN", vec![b'x'; SASL_DATA_MAX + 1], invalid.clone()),
        (STEP, b"PLAIN", vec![b'x'; SASL_DATA_MAX + 1], invalid),
    ];
    for (opcode, mechanism, data, expected) in cases {
        let mut client = Client::of(&server, Auto);
        assert_eq!(client.one(opcode, mechanism, &data), expected);
        assert_eq!(client.one(START, b"PLAIN", RIGHT), authenticated());
        assert_eq!(client.one(opcode, mechanism, &data), expected);
        assert!(!client.is_inside(), "{opcode:#x} {}", mechanism.escape_ascii());
    }
}

#[test]
fn a_sign_of_life_is_answered_before_a_sasl_login_only_when_the_operator_says_so() {
    let settings = Settings { auth_allow_health_checks: true, ..Settings::default() };
    let mut client = Client::of(&sasl_server(settings), Auto);
    assert_eq!(client.one(0x0a, b"", b""), (0, String::new()));
    assert!(!client.is_inside());
    let (answers, ended) =
        Client::of(&sasl_server(Settings::default()), Auto).ask(&frame(0x0a, b"", b""));
    assert_eq!(answers, [Framed(0x20, "Auth failure.".to_owned())]);
    assert!(ended);
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
