//! `-Y`: who may log in by text, what is said until then, and what happens when the users change.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::{Client, machine_to_itself, rss_kib, show, wait_until};
use crate::pattern::escape;
use crate::server::{Program, Server};

/// A file of users, outside of the server's own directory.
struct Users(TempDir);

impl Users {
    fn of(lines: &str) -> Users {
        let users = Users(tempfile::tempdir().unwrap());
        users.become_(lines);
        users
    }

    fn become_(&self, lines: &str) {
        fs::write(self.path(), lines).unwrap();
    }

    fn path(&self) -> String {
        self.0.path().join("users").to_string_lossy().into_owned()
    }

    fn start(&self, program: Program, flags: &[&str]) -> Server {
        Server::start(program, &[&["-Y", self.path().as_str()], flags].concat())
    }
}

fn login(user: &str, password: &str) -> String {
    let token = format!("{user} {password}");
    format!("set any 0 0 {}\r\n{token}\r\n", token.len())
}

fn hang_up(server: &Server) {
    kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGHUP).unwrap();
}

/// What a client who has not logged in is told: sent, said by us and by the oracle. Without a third
/// text the oracle says the same. `<end>`: the connection is closed.
const AT_THE_GATE: &[(&str, &str, Option<&str>)] = &[
    ("set k 0 0 7\r\nfoo bar\r\n", "STORED\r\n", None),
    ("set k 0 0 7 noreply\r\nfoo bar\r\n", "STORED\r\n", None),
    ("set k x y 7 a b\r\nfoo bar\r\n", "STORED\r\n", None),
    ("set k 0 0 7\nfoo bar\r\n", "STORED\r\n", None),
    ("set k 0 0 8\r\n foo bar\r\n", "STORED\r\n", None),
    ("set k 0 0 13\r\nfoo bar extra\r\n", "STORED\r\n", None),
    ("set k 0 0 9\r\nbaz qu:ux\r\n", "STORED\r\n", None),
    ("set k 0 0 7\r\nfoo baX\r\n", "CLIENT_ERROR authentication failure\r\n", None),
    ("set k 0 0 3\r\nfoo\r\n", "CLIENT_ERROR bad authentication token format\r\n", None),
    ("set k 0 0 0\r\n\r\n", "CLIENT_ERROR bad authentication token format\r\n", None),
    ("set k 0 0 5\r\nfoo bar", "CLIENT_ERROR bad command line termination\r\n", None),
    ("set k 0 0 -1\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("set k 0 0 7x\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("set k 0 0\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("SET k 0 0 7\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("setfoo k 0 0 7\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("add k 0 0 7\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("ms key 7\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("mg key v\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("md key q\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("ma key N0 q\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("me key\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("mn key\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("get key\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("version\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    ("flush_all\r\n", "CLIENT_ERROR unauthenticated\r\n", None),
    // 1.6.45: numbers have no sign, and a command no spaces before it.
    ("set k 0 0 +7\r\nfoo bar\r\n", "CLIENT_ERROR unauthenticated\r\n", Some("STORED\r\n")),
    (" set k 0 0 7\r\nfoo bar\r\n", "CLIENT_ERROR unauthenticated\r\n", Some("STORED\r\n")),
    // 1.6.45: a token that is too long is not waited for.
    ("set k 0 0 100000000\r\n", "CLIENT_ERROR auth token too long\r\n", Some("")),
    // 1.6.45: what is too short to be a login ends the connection.
    ("mn\r\n", "<end>", Some("CLIENT_ERROR unauthenticated\r\n")),
    ("quit\r\n", "<end>", Some("CLIENT_ERROR unauthenticated\r\n")),
    ("\n\n\n\n", "<end>", Some("CLIENT_ERROR unauthenticated\r\n")),
];

#[test]
fn at_the_gate_we_say_what_the_oracle_says_and_where_not_1_6_45_says_it() {
    let users = Users::of("foo:bar\nbaz:qu:ux");
    let servers = [Program::Twincached, Program::Oracle].map(|program| users.start(program, &[]));
    for (sent, ours, oracles) in AT_THE_GATE {
        for (server, expected) in servers.iter().zip([*ours, oracles.unwrap_or(ours)]) {
            let mut client = Client::of(server);
            client.send(sent);
            let what =
                format!("{}, expected {}", escape(sent.as_bytes()), escape(expected.as_bytes()));
            match expected {
                "<end>" => assert_eq!(client.last_words().as_deref(), Some(&b""[..]), "{what}"),
                "" => {
                    client.set_patience(Duration::from_millis(200));
                    assert_eq!(client.last_words(), None, "{what}");
                }
                answer => client.expect(answer),
            }
        }
    }
}

#[test]
fn after_the_login_every_command_is_heard_and_before_it_none_over_tcp_and_unix() {
    let users = Users::of("foo:bar\n");
    let socket = users.0.path().join("s").to_string_lossy().into_owned();
    for flags in [&[][..], &["-s", socket.as_str()]] {
        let server = users.start(Program::Twincached, flags);
        let (mut inside, mut outside) = (Client::of(&server), Client::of(&server));
        inside.ask(login("foo", "bar") + "set k 0 0 1\r\nx\r\n", "STORED\r\nSTORED\r\n");
        let unauthenticated = "CLIENT_ERROR unauthenticated\r\n";
        outside.ask("delete k\r\nget any\r\nstats\r\n", unauthenticated.repeat(3));
        assert_eq!(inside.get("k").as_deref(), Some(&b"x"[..]));
        assert_eq!(inside.get("any"), None, "a login stores nothing");
        outside.ask(login("foo", "wrong"), "CLIENT_ERROR authentication failure\r\n");
        assert_eq!((inside.stat("auth_cmds"), inside.stat("auth_errors")), (2, 1));
        let settings = inside.stats("settings");
        assert_eq!(settings["auth_enabled_ascii"], users.path());
        assert_eq!(settings["binding_protocol"], "ascii");
    }
}

#[test]
fn a_binary_frame_at_the_gate_gets_nothing() {
    let server = Users::of("foo:bar\n").start(Program::Twincached, &[]);
    for opcode in [0x00, 0x01, 0x07, 0x0b, 0x10, 0x20, 0x21] {
        let mut client = Client::of(&server);
        client.send([&[0x80, opcode][..], &[0; 22]].concat());
        client.set_patience(Duration::from_millis(50));
        assert_eq!(client.last_words(), None, "opcode {opcode:#x}");
    }
}

#[test]
fn balancers_may_look_without_a_password_only_when_the_operator_says_so() {
    let users = Users::of("foo:bar\n");
    let lenient = users.start(Program::Twincached, &["--auth-allow-health-checks"]);
    let mut client = Client::of(&lenient);
    assert!(client.is_served());
    client.ask("mn\r\nget k\r\n", "MN\r\nCLIENT_ERROR unauthenticated\r\n");
    assert!(!Client::of(&users.start(Program::Twincached, &[])).is_served());
}

#[test]
fn a_file_that_cannot_be_used_refuses_the_start_by_name_and_tells_no_password() {
    let cases = [
        ("foo:bar\nhunter2\n", "line 2: there is no colon"),
        ("foo:\n", "line 1: there is no password"),
        ("", "it names no user"),
        (&"foo:hunter2\n".repeat(9), "line 9: there are more than 8 users"),
    ];
    for (lines, complaint) in cases {
        let users = Users::of(lines);
        let refused = Server::try_start(Program::Twincached, &["-Y", &users.path()]);
        let refused = refused.err().expect("it does not start");
        assert!(refused.contains("exit status: 1"), "{refused}");
        assert!(refused.contains(&users.path()) && refused.contains(complaint), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let missing = Server::try_start(Program::Twincached, &["-Y", "/nonexistent/users"]);
    let missing = missing.err().expect("it does not start");
    assert!(missing.contains("exit status: 1"), "{missing}");
    assert!(missing.contains("/nonexistent/users"), "{missing}");
}

#[test]
fn after_sighup_the_new_users_are_known_and_a_bad_file_changes_nothing() {
    let users = Users::of("foo:bar\n");
    let server = users.start(Program::Twincached, &[]);
    let mut inside = Client::of(&server);
    inside.ask(login("foo", "bar"), "STORED\r\n");
    let knows = |user, password| {
        let mut client = Client::of(&server);
        client.send(login(user, password));
        client.line() == b"STORED\r\n"
    };
    users.become_("foo:new\nbaz:qux\n");
    hang_up(&server);
    wait_until("the new users are known", || knows("baz", "qux"));
    assert!(knows("foo", "new") && !knows("foo", "bar"));

    users.become_("foo:newest\nhunter2\n");
    hang_up(&server);
    wait_until("it complains", || server.stderr().contains("line 2"));
    fs::remove_file(users.path()).unwrap();
    hang_up(&server);
    wait_until("it complains", || server.stderr().contains("No such file"));
    assert!(knows("foo", "new") && knows("baz", "qux") && !knows("foo", "newest"));
    assert!(inside.is_served(), "who is inside stays");
    assert!(!server.stderr().contains("hunter2"));
}

#[test]
fn a_storm_of_reloads_fails_no_login() {
    let users = Users::of("foo:bar\n");
    let server = users.start(Program::Twincached, &["-t", "2"]);
    let (over, logins) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    Client::of(&server).ask(login("foo", "bar"), "STORED\r\n");
                    logins.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for turn in 0..200 {
            users.become_(["foo:bar\n", "other:user\nfoo:bar\n", "broken"][turn % 3]);
            hang_up(&server);
            let before = logins.load(Ordering::Relaxed);
            wait_until("logins go on", || logins.load(Ordering::Relaxed) > before);
        }
        over.store(true, Ordering::Relaxed);
    });
    show(&format!("200 reloads, {} logins, none failed", logins.load(Ordering::Relaxed)));
}

#[test]
fn who_has_not_logged_in_cannot_make_the_server_keep_anything() {
    let _machine = machine_to_itself();
    let server = Users::of("foo:bar\n").start(Program::Twincached, &["-t", "1"]);
    let before = rss_kib(&server);
    let mut stalled = Vec::new();
    for request in ["set k 0 0 16384\r\n", "set k 0 0 100000000\r\n", &"x".repeat(2048)] {
        for _ in 0..100 {
            let mut client = Client::of(&server);
            client.send(request);
            stalled.push(client);
        }
    }
    for _ in 0..20 {
        let mut client = Client::of(&server);
        client.try_send(&[b'x'; 1 << 20], Duration::from_millis(200));
        assert_eq!(client.last_words().as_deref(), Some(&b""[..]), "no line, no connection");
        client = Client::of(&server);
        client.try_send(&b"\n".repeat(4_000), Duration::from_millis(200));
        assert_eq!(client.last_words().as_deref(), Some(&b""[..]));
    }
    let mut inside = Client::of(&server);
    inside.ask(login("foo", "bar"), "STORED\r\n");
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("300 stalled clients at the gate: +{grown} KiB"));
    assert!(grown < 8 << 10, "{grown} KiB for 300 clients");
    assert_eq!(inside.stat("curr_items"), 0);
}

#[test]
fn no_password_is_logged_however_much_is() {
    let server = Users::of("foo:hunter2\n").start(Program::Twincached, &["-vvv"]);
    let mut client = Client::of(&server);
    client.ask("set k 0 0 3\r\nfoo hunter2\r\n", "CLIENT_ERROR bad command line termination\r\n");
    let mut client = Client::of(&server);
    client.ask(login("foo", "hunter2x"), "CLIENT_ERROR authentication failure\r\n");
    client.ask(login("foo", "hunter2"), "STORED\r\n");
    client.ask("get logged\r\n", "END\r\n");
    wait_until("commands are logged", || server.stderr().contains("get logged"));
    assert!(!server.stderr().contains("unter"), "{}", server.stderr());
}
