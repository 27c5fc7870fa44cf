//! `-S`: who may log in by SASL, and what frames are answered until then.

use std::fs;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::{Client, wait_until};
use crate::server::{Program, Server};

const GET: u8 = 0x00;
const LIST: u8 = 0x20;
const START: u8 = 0x21;
const STEP: u8 = 0x22;

const FAILURE: (u16, &[u8]) = (0x20, b"Auth failure.");
const AUTHENTICATED: (u16, &[u8]) = (0x00, b"Authenticated");

/// A file of users, outside of the server's own directory.
struct Users(TempDir);

impl Users {
    fn of(lines: &str) -> Users {
        let users = Users(tempfile::tempdir().unwrap());
        fs::write(users.path(), lines).unwrap();
        users
    }

    fn path(&self) -> String {
        self.0.path().join("users").to_string_lossy().into_owned()
    }

    fn start(&self) -> Server {
        Server::start(Program::Twincached, &["-S", "--sasl-pwdb", &self.path()])
    }
}

pub(crate) fn frame(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = u32::try_from(extras.len() + key.len() + value.len()).unwrap();
    let mut frame = vec![0x80, opcode];
    frame.extend_from_slice(&u16::try_from(key.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&[u8::try_from(extras.len()).unwrap(), 0, 0, 0]);
    frame.extend_from_slice(&body.to_be_bytes());
    frame.extend_from_slice(&[0; 12]);
    [&frame, extras, key, value].concat()
}

pub(crate) fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

/// Sends a frame and takes its answer apart: status, and what stands behind the header.
fn ask(client: &mut Client, frame: &[u8]) -> (u16, Vec<u8>) {
    client.send(frame);
    let header = client.bytes(24);
    let length = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
    (u16::from_be_bytes([header[6], header[7]]), client.bytes(length))
}

#[track_caller]
fn assert_answer(client: &mut Client, frame: &[u8], (status, text): (u16, &[u8])) {
    let (got, body) = ask(client, frame);
    let body = body.escape_ascii().to_string();
    assert_eq!((got, body.as_str()), (status, text.escape_ascii().to_string().as_str()));
}

#[test]
fn before_the_login_frames_are_refused_as_the_oracle_refuses_them() {
    let users = Users::of("anna:secret\n");
    let servers = [users.start(), Server::start(Program::Oracle, &["-S", "-B", "binary"])];
    let ends = [
        frame(GET, b"", b"k", b""),
        frame(0x01, &[0; 8], b"k", &[b'x'; 100]),
        frame(0x07, b"", b"", b""),
        frame(0x0a, b"", b"", b""),
        frame(0x10, b"", b"", b""),
        frame(0x55, b"", b"k", b""),
    ];
    let goes_on = [
        (frame(START, b"", b"NONE", b"x"), FAILURE),
        (frame(START, b"", &[b'x'; 32], b"x"), FAILURE),
        (frame(START, b"", &[b'x'; 33], b"x"), (0x04, &b"Invalid arguments"[..])),
        (frame(STEP, b"", b"PLAIN", b"x"), FAILURE),
        (frame(START, b"", b"PLAIN", &plain("anna", "wrong")), FAILURE),
    ];
    for server in &servers {
        for frame in &ends {
            let mut client = Client::of(server);
            assert_answer(&mut client, frame, FAILURE);
            assert_eq!(client.last_words().as_deref(), Some(&b""[..]));
        }
        // A third failure would end the connection with us.
        for some in goes_on.chunks(2) {
            let mut client = Client::of(server);
            for (frame, answer) in some {
                assert_answer(&mut client, frame, *answer);
            }
        }
        let mut client = Client::of(server);
        assert_eq!(ask(&mut client, &frame(0x0b, b"", b"", b"")).0, 0, "a version is told");
        for malformed in [frame(LIST, b"", b"k", b""), frame(START, b"", b"", b"x")] {
            let mut client = Client::of(server);
            assert_answer(&mut client, &malformed, (0x04, b"Invalid arguments"));
            assert_eq!(client.last_words().as_deref(), Some(&b""[..]));
        }
        let mut text = Client::of(server);
        text.send("version\r\nget key\r\nget key\r\n");
        assert_eq!(text.last_words().as_deref(), Some(&b""[..]));
    }
}

#[test]
fn after_the_login_frames_are_heard_until_another_login_fails() {
    let server = Users::of("# users\nanna@somewhere:secret:more\n").start();
    let mut client = Client::of(&server);
    assert_answer(&mut client, &frame(LIST, b"", b"", b""), (0, b"CRAM-MD5 PLAIN"));
    let right = frame(START, b"", b"PLAIN", &plain("anna", "secret"));
    assert_answer(&mut client, &right, AUTHENTICATED);
    assert_eq!(ask(&mut client, &frame(0x01, &[0; 8], b"k", b"v")).0, 0);
    assert_answer(&mut client, &frame(GET, b"", b"k", b""), (0, b"\0\0\0\0v"));
    let wrong = frame(START, b"", b"PLAIN", &plain("anna", "wrong"));
    assert_answer(&mut client, &wrong, FAILURE);
    assert_answer(&mut client, &frame(GET, b"", b"k", b""), FAILURE);
    assert_eq!(client.last_words().as_deref(), Some(&b""[..]));

    let mut client = Client::of(&server);
    assert_answer(&mut client, &wrong, FAILURE);
    assert_answer(&mut client, &wrong, FAILURE);
    assert_answer(&mut client, &frame(GET, b"", b"k", b""), FAILURE);
}

#[test]
fn the_third_failed_login_is_answered_and_ends_the_connection() {
    let server = Users::of("anna:secret\n").start();
    let mut client = Client::of(&server);
    let wrong = frame(START, b"", b"PLAIN", &plain("anna", "wrong"));
    for _ in 0..3 {
        assert_answer(&mut client, &wrong, FAILURE);
    }
    assert_eq!(client.last_words().as_deref(), Some(&b""[..]));
}

#[test]
fn cram_md5_sends_no_password() {
    let server = Users::of("anna:secret\n").start();
    let mut client = Client::of(&server);
    let (status, challenge) = ask(&mut client, &frame(START, b"", b"CRAM-MD5", b""));
    assert_eq!(status, 0x21);
    let mut mac = Hmac::<Md5>::new_from_slice(b"secret").unwrap();
    mac.update(&challenge);
    let digest: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let response = format!("anna {digest}");
    let step = frame(STEP, b"", b"CRAM-MD5", response.as_bytes());
    assert_answer(&mut client, &step, AUTHENTICATED);
    assert_answer(&mut Client::of(&server), &step, FAILURE);
}

#[test]
fn after_sighup_the_new_users_are_known() {
    let users = Users::of("anna:secret\n");
    let server = users.start();
    fs::write(users.path(), "bert:secret\n").unwrap();
    kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGHUP).unwrap();
    let status = |user| {
        let login = frame(START, b"", b"PLAIN", &plain(user, "secret"));
        ask(&mut Client::of(&server), &login).0
    };
    wait_until("the new user is known", || status("bert") == 0);
    assert_eq!(status("anna"), 0x20);
}

#[test]
fn without_users_or_with_udp_there_is_no_start() {
    let users = Users::of("anna secret\n").path();
    let cases: [(&[&str], &str); 3] = [
        (&["-S"], "exit status: 64"),
        (&["-S", "--sasl-pwdb", "/nonexistent/users"], "exit status: 1"),
        (&["-S", "--sasl-pwdb", &users, "-U", "11211"], "exit status: 64"),
    ];
    for (flags, complaint) in cases {
        let refused = Server::try_start(Program::Twincached, flags).err().expect("no start");
        assert!(refused.contains(complaint), "{flags:?}: {refused}");
    }
}
