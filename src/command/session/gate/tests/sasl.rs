//! The gate by SASL: frames only, and no more than a login of them.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use super::*;
use crate::limits::SASL_DATA_MAX;
use crate::protocol::binary::sample::{Frame, Reply, replies};

/// Status and value of an answer that has neither extras nor key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framed(pub(super) u16, pub(super) String);

pub(super) fn framed(answers: &[u8]) -> Vec<Framed> {
    let framed = |reply: Reply| {
        assert!(reply.extras.is_empty() && reply.key.is_empty());
        Framed(reply.status, String::from_utf8(reply.value).unwrap())
    };
    replies(answers).into_iter().map(framed).collect()
}

pub(super) fn frame(opcode: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    Frame::new(opcode, b"", key, value).bytes()
}

pub(super) fn sasl_server(settings: Settings) -> Arc<Server> {
    let settings = Settings { sasl: true, ..settings };
    let mut server = Server::new(settings);
    let users = Credentials::new(Format::SaslPasswords, b"anna@web1:secret\n").unwrap();
    server.credentials = Some(users);
    Arc::new(server)
}

impl Client {
    /// The answers to frames, and whether the connection ended.
    pub(super) fn ask(&mut self, bytes: &[u8]) -> (Vec<Framed>, bool) {
        let (answers, next) = self.tell(bytes);
        (framed(&answers), matches!(next, Next::Close(_)))
    }

    #[track_caller]
    pub(super) fn one(&mut self, opcode: u8, key: &[u8], value: &[u8]) -> (u16, String) {
        let (mut answers, ended) = self.ask(&frame(opcode, key, value));
        assert!(!ended && answers.len() == 1, "{answers:?}");
        let Framed(status, text) = answers.remove(0);
        (status, text)
    }

    /// Whether a get is answered; afterwards the connection has ended if it was not.
    pub(super) fn is_inside(&mut self) -> bool {
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

pub(super) const LIST: u8 = 0x20;
pub(super) const START: u8 = 0x21;
pub(super) const STEP: u8 = 0x22;
pub(super) const RIGHT: &[u8] = b"\0anna\0secret";
pub(super) const WRONG: &[u8] = b"\0anna\0secrex";

pub(super) fn authenticated() -> (u16, String) {
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
