//! `-S`: who may log in by SASL, and what frames are answered until then.

use std::fs;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::{Client, wait_until};
use crate::frame::{HEADER_LEN, request};
use crate::server::{Program, Server};

const FAILURE: &str = "sasl_auth status=0x20";

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

/// A login by PLAIN.
pub(crate) fn plain(user: &str, password: &str) -> String {
    format!("sasl_auth key=PLAIN value=\\0{user}\\0{password}")
}

#[track_caller]
fn assert_closed(client: &mut Client) {
    assert_eq!(client.last_words().as_deref(), Some(&b""[..]));
}

#[test]
fn before_the_login_frames_are_refused_as_the_oracle_refuses_them() {
    let users = Users::of("anna:secret\n");
    let servers = [users.start(), Server::start(Program::Oracle, &["-S", "-B", "binary"])];
    let goes_on = [
        ("sasl_auth key=NONE value=x", FAILURE),
        ("sasl_auth key={x*32} value=x", FAILURE),
        ("sasl_auth key={x*33} value=x", "sasl_auth status=0x04"),
        ("sasl_step key=PLAIN value=x", "sasl_step status=0x20"),
        (&plain("anna", "wrong"), FAILURE),
        ("version", "version value={word}"),
    ];
    let ends = [
        ("get key=k", "get status=0x20"),
        ("set key=k value={x*100}", "set status=0x20"),
        ("quit", "quit status=0x20"),
        ("noop", "noop status=0x20"),
        ("stat", "stat status=0x20"),
        ("0x55 key=k", "0x55 status=0x20"),
        ("sasl_list key=k", "sasl_list status=0x04"),
        ("sasl_auth value=x", "sasl_auth status=0x04"),
    ];
    for server in &servers {
        // A third failure would end the connection with us.
        for some in goes_on.chunks(2) {
            let mut client = Client::of(server);
            for (request, reply) in some {
                client.ask_frame(request, reply);
            }
        }
        for (request, reply) in ends {
            let mut client = Client::of(server);
            client.ask_frame(request, reply);
            assert_closed(&mut client);
        }
        let mut text = Client::of(server);
        text.send("version\r\nget key\r\nget key\r\n");
        assert_closed(&mut text);
    }
}

#[test]
fn after_the_login_frames_are_heard_until_another_login_fails() {
    let server = Users::of("# users\nanna@somewhere:secret:more\n").start();
    let wrong = plain("anna", "wrong");
    let mut client = Client::of(&server);
    client.ask_frame("sasl_list", "sasl_list value=CRAM-MD5\\sPLAIN");
    client.ask_frame(&plain("anna", "secret"), "sasl_auth value=Authenticated");
    client.ask_frame("set key=k value=v", "set cas={number}");
    client.ask_frame("get key=k", "get flags=0 value=v cas={number}");
    client.ask_frame(&wrong, FAILURE);
    client.ask_frame("get key=k", "get status=0x20");
    assert_closed(&mut client);

    let mut client = Client::of(&server);
    client.ask_frame(&wrong, FAILURE);
    client.ask_frame(&wrong, FAILURE);
    client.ask_frame("get key=k", "get status=0x20");
}

#[test]
fn the_third_failed_login_is_answered_and_ends_the_connection() {
    let server = Users::of("anna:secret\n").start();
    let mut client = Client::of(&server);
    for _ in 0..3 {
        client.ask_frame(&plain("anna", "wrong"), FAILURE);
    }
    assert_closed(&mut client);
}

#[test]
fn cram_md5_sends_no_password() {
    let server = Users::of("anna:secret\n").start();
    let mut client = Client::of(&server);
    client.send(request("sasl_auth key=CRAM-MD5"));
    let reply = client.frame();
    let (header, challenge) = reply.split_at(HEADER_LEN);
    assert_eq!(header[6..8], [0, 0x21]);
    let mut mac = Hmac::<Md5>::new_from_slice(b"secret").unwrap();
    mac.update(challenge);
    let digest: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let step = format!("sasl_step key=CRAM-MD5 value=anna\\s{digest}");
    client.ask_frame(&step, "sasl_step value=Authenticated");
    Client::of(&server).ask_frame(&step, "sasl_step status=0x20");
}

#[test]
fn after_sighup_the_new_users_are_known() {
    let users = Users::of("anna:secret\n");
    let server = users.start();
    fs::write(users.path(), "bert:secret\n").unwrap();
    kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGHUP).unwrap();
    wait_until("the new user is known", || {
        let mut client = Client::of(&server);
        client.send(request(&plain("bert", "secret")));
        client.frame()[6..8] == [0, 0]
    });
    Client::of(&server).ask_frame(&plain("anna", "secret"), FAILURE);
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
