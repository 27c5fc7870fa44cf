//! Conversations with a session: bytes in, replies out, no sockets. Every conversation is held
//! three ways: line by line, byte by byte, and all in one piece.

mod effects;
mod locks;
mod meta;
mod turns;

use super::*;
use crate::command::{ConnState, Transport};
use crate::settings::Settings;

/// A client, its session, and a connection between them that sends what it is given at once.
struct Client {
    session: Session,
    now: Now,
    /// Sent and not consumed.
    waiting: Vec<u8>,
    /// Total length of `waiting` below which the session needs not be asked.
    at_least: usize,
    replies: Vec<u8>,
    /// The longest piece of reply the session wanted sent at once.
    longest_send: usize,
    ended: Option<Next>,
    watching: bool,
}

fn server(settings: Settings) -> Arc<Server> {
    Arc::new(Server::new(settings))
}

impl Client {
    fn of(server: &Arc<Server>) -> Client {
        let now = server.clock.now();
        let connection = Connection::new(
            7,
            "tcp:127.0.0.1:1".to_owned(),
            None,
            Transport::Tcp,
            ConnState::NewCmd,
            now.seconds(),
        );
        let counters = server.totals.register();
        Client {
            session: Session::new(Arc::clone(server), counters, Arc::new(connection)),
            now,
            waiting: Vec::new(),
            at_least: 1,
            replies: Vec::new(),
            longest_send: 0,
            ended: None,
            watching: false,
        }
    }

    /// Sends `bytes` and returns what has been answered since.
    fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.waiting.extend_from_slice(bytes);
        while self.ended.is_none() && !self.watching && self.waiting.len() >= self.at_least {
            let mut out = Vec::new();
            let received = self.session.receive(&self.waiting, self.now, &mut out);
            self.waiting.drain(..received.consumed);
            let mut next = received.next;
            loop {
                self.longest_send = self.longest_send.max(out.len());
                self.replies.append(&mut out);
                if next != Next::Resume {
                    break;
                }
                next = self.session.resume(self.now, &mut out);
            }
            match next {
                Next::Receive { at_least } => self.at_least = at_least,
                Next::Yield | Next::Resume => self.at_least = 1,
                Next::Lock => panic!("no test has exclusive locks"),
                Next::Watch => self.watching = true,
                Next::Close(_) | Next::Shutdown(_) => self.ended = Some(next),
            }
            if self.waiting.is_empty() {
                break;
            }
        }
        std::mem::take(&mut self.replies)
    }
}

/// Holds a conversation with a server of `settings` in three ways.
#[track_caller]
fn converse_with(settings: &Settings, conversation: &[(&str, &str)]) {
    let mut by_line = Client::of(&server(settings.clone()));
    let mut by_byte = Client::of(&server(settings.clone()));
    for &(line, reply) in conversation {
        let heard = by_line.say(line.as_bytes());
        assert_eq!(heard.escape_ascii().to_string(), reply.escape_default().to_string(), "{line}");
        let mut heard = Vec::new();
        for byte in line.as_bytes().chunks(1) {
            heard.append(&mut by_byte.say(byte));
        }
        let heard = String::from_utf8_lossy(&heard);
        assert_eq!(heard, reply, "byte by byte: {line}");
    }
    let lines: String = conversation.iter().map(|&(line, _)| line).collect();
    let replies: String = conversation.iter().map(|&(_, reply)| reply).collect();
    let heard = Client::of(&server(settings.clone())).say(lines.as_bytes());
    assert_eq!(String::from_utf8_lossy(&heard), replies, "in one piece");
}

#[track_caller]
fn converse(conversation: &[(&str, &str)]) {
    converse_with(&Settings::default(), conversation);
}

const MALFORMED: &str = "CLIENT_ERROR bad command line format\r\n";

#[test]
fn what_was_stored_is_fetched() {
    converse(&[
        ("get k\r\n", "END\r\n"),
        ("set k 5 0 3\r\nabc\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 5 3\r\nabc\r\nEND\r\n"),
        ("set e 0 0 0\r\n\r\n", "STORED\r\n"),
        (
            "get e miss k e\r\n",
            "VALUE e 0 0\r\n\r\nVALUE k 5 3\r\nabc\r\nVALUE e 0 0\r\n\r\nEND\r\n",
        ),
        ("gat 0 k miss\r\n", "VALUE k 5 3\r\nabc\r\nEND\r\n"),
        ("set k 4294967295 0 4\r\n\r\n\r\n\r\n", "STORED\r\n"),
        ("get k\n", "VALUE k 4294967295 4\r\n\r\n\r\n\r\nEND\r\n"),
        ("set k 0 -1 1\r\nx\r\n", "STORED\r\n"),
        ("get k\r\n", "END\r\n"),
        ("set noreply 0 0 1\r\nx\r\n", "STORED\r\n"),
        ("gat 0 noreply\r\n", "VALUE noreply 0 1\r\nx\r\nEND\r\n"),
        ("get\r\n", MALFORMED),
        ("gat 0\r\n", MALFORMED),
        ("gat x k\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
    ]);
}

#[test]
fn storage_commands_store_on_their_condition_only() {
    converse(&[
        ("replace k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
        ("append k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
        ("prepend k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
        ("add k 1 0 1\r\nx\r\n", "STORED\r\n"),
        ("add k 0 0 1\r\ny\r\n", "NOT_STORED\r\n"),
        ("append k 9 9 1\r\nz\r\n", "STORED\r\n"),
        ("prepend k 9 9 1\r\nw\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 1 3\r\nwxz\r\nEND\r\n"),
        ("replace k 0 0 1 noreply\r\nr\r\n", ""),
        ("get k\r\n", "VALUE k 0 1\r\nr\r\nEND\r\n"),
        ("cas miss 0 0 1 1\r\nx\r\n", "NOT_FOUND\r\n"),
        ("cas k 0 0 1 0\r\nx\r\n", "EXISTS\r\n"),
        ("cas k 0 0 1\r\nx\r\n", MALFORMED),
        ("add k 0 0 1 noreply\r\ny\r\n", ""),
        ("cas miss 0 0 1 1 noreply\r\nx\r\n", ""),
    ]);
}

/// The cas unique in the reply to a gets of one key.
fn unique_of(reply: &[u8]) -> String {
    let head = String::from_utf8_lossy(reply);
    head.lines().next().and_then(|line| line.split(' ').nth(4)).expect("a unique").to_owned()
}

#[test]
fn cas_stores_over_the_unique_that_gets_showed_and_no_other() {
    let mut client = Client::of(&server(Settings::default()));
    client.say(b"set k 0 0 1\r\na\r\n");
    let unique = unique_of(&client.say(b"gets k\r\n"));
    client.say(b"touch k 100\r\n");
    assert_eq!(unique_of(&client.say(b"gats 0 k\r\n")), unique, "a touch is no change");
    let cas = format!("cas k 0 0 1 {unique}\r\nb\r\n");
    assert_eq!(client.say(cas.as_bytes()), b"STORED\r\n");
    assert_eq!(client.say(cas.as_bytes()), b"EXISTS\r\n");
    assert_ne!(unique_of(&client.say(b"gets k\r\n")), unique);
}

#[test]
fn without_cas_every_unique_is_shown_as_zero() {
    let settings = Settings { cas: false, ..Settings::default() };
    converse_with(
        &settings,
        &[
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("gets k\r\n", "VALUE k 0 1 0\r\na\r\nEND\r\n"),
            ("cas k 0 0 1 0\r\nb\r\n", "EXISTS\r\n"),
            ("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
        ],
    );
}

#[test]
fn refused_storage_lines_are_answered_and_leave_no_command_behind() {
    let over = "k".repeat(251);
    converse(&[
        ("set k 0 0 3\r\nold\r\n", "STORED\r\n"),
        (&format!("set {over} 0 0 9\r\nflush_all\r\n"), MALFORMED),
        ("set k 4294967296 0 9\r\nflush_all\r\n", MALFORMED),
        ("set k 0 x 9 noreply\r\nflush_all\r\n", ""),
        ("set k 0 0 3\r\nabcdef\r\n", &format!("CLIENT_ERROR bad data chunk\r\n{MALFORMED}")),
        ("set k 0 0 3 noreply\r\nabcde", ""),
        ("get k\r\n", "VALUE k 0 3\r\nold\r\nEND\r\n"),
        (
            "set k 0 0 -1\r\nversion\r\n",
            &format!("{MALFORMED}VERSION {}\r\n", crate::limits::VERSION),
        ),
        ("set k 0 0 4294967296 noreply\r\n", MALFORMED),
        ("set k 0 0\r\n", MALFORMED),
        ("set a\rb 0 0 1\r\nx\r\n", MALFORMED),
    ]);
}

#[test]
fn a_value_too_large_takes_the_old_one_along_only_in_a_set() {
    let settings = Settings { item_size_max: 1024, ..Settings::default() };
    let (header, data) = ("0 0 2000", "x".repeat(2000));
    let refused = "SERVER_ERROR object too large for cache\r\n";
    let mut conversation = Vec::new();
    for command in ["add", "replace", "append", "prepend"] {
        conversation.push((format!("{command} k {header}\r\n{data}\r\n"), refused));
    }
    conversation.push((format!("cas k {header} 1\r\n{data}\r\n"), refused));
    conversation.push(("get k\r\n".to_owned(), "VALUE k 0 3\r\nold\r\nEND\r\n"));
    conversation.push((format!("set k {header} noreply\r\n{data}\r\n"), ""));
    conversation.push(("get k\r\n".to_owned(), "END\r\n"));
    conversation.push((format!("set k {header}\r\n{data}\r\n"), refused));
    let mut all = vec![("set k 0 0 3\r\nold\r\n", "STORED\r\n")];
    all.extend(conversation.iter().map(|(line, reply)| (line.as_str(), *reply)));
    converse_with(&settings, &all);
}

#[test]
fn an_append_that_grows_an_item_too_large_is_not_stored() {
    let settings = Settings { item_size_max: 1024, ..Settings::default() };
    let piece = "x".repeat(600);
    converse_with(
        &settings,
        &[
            (&format!("set k 0 0 600\r\n{piece}\r\n"), "STORED\r\n"),
            (&format!("append k 0 0 600\r\n{piece}\r\n"), "NOT_STORED\r\n"),
            ("append k 0 0 1\r\ny\r\n", "STORED\r\n"),
        ],
    );
}

#[test]
fn delete_tells_whether_there_was_an_item() {
    let usage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
    converse(&[
        ("delete k\r\n", "NOT_FOUND\r\n"),
        ("set k 0 0 1\r\nx\r\n", "STORED\r\n"),
        ("delete k 5\r\n", usage),
        ("delete k noreply foo\r\n", usage),
        ("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n"),
        ("delete k 0\r\n", "DELETED\r\n"),
        ("delete k noreply\r\n", ""),
        ("delete noreply\r\n", "NOT_FOUND\r\n"),
        ("delete\r\n", MALFORMED),
    ]);
}

#[test]
fn incr_wraps_and_decr_stops_at_zero() {
    converse(&[
        ("incr n 1\r\n", "NOT_FOUND\r\n"),
        ("set n 0 0 20\r\n18446744073709551615\r\n", "STORED\r\n"),
        ("incr n 3\r\n", "2\r\n"),
        ("decr n 5\r\n", "0\r\n"),
        ("incr n 10 noreply\r\n", ""),
        ("decr n 1\r\n", "9\r\n"),
        ("incr n abc\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n"),
        ("decr n -1\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n"),
        ("set t 0 0 3\r\nabc\r\n", "STORED\r\n"),
        ("incr t 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
        ("incr t 1 noreply\r\n", ""),
        ("incr n\r\n", MALFORMED),
        ("decr\r\n", MALFORMED),
    ]);
}

#[test]
fn touch_and_flush_all_answer_as_upstream() {
    converse(&[
        ("touch k 0\r\n", "NOT_FOUND\r\n"),
        ("set k 0 0 1\r\nx\r\n", "STORED\r\n"),
        ("touch k 100\r\n", "TOUCHED\r\n"),
        ("touch k 100 noreply\r\n", ""),
        ("touch k abc\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
        ("touch k\r\n", MALFORMED),
        ("touch k -1\r\n", "TOUCHED\r\n"),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\nx\r\n", "STORED\r\n"),
        ("flush_all abc\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
        ("flush_all 100\r\n", "OK\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n"),
        ("flush_all noreply\r\n", ""),
        ("get k\r\n", "END\r\n"),
        ("set k 0 0 1\r\nx\r\n", "STORED\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n"),
        ("flush_all -1\r\n", "OK\r\n"),
        ("get k\r\n", "END\r\n"),
    ]);
    let settings = Settings { flush_enabled: false, ..Settings::default() };
    converse_with(
        &settings,
        &[
            ("flush_all\r\n", "CLIENT_ERROR flush_all not allowed\r\n"),
            ("flush_all abc\r\n", "CLIENT_ERROR flush_all not allowed\r\n"),
        ],
    );
}

#[test]
fn what_nobody_knows_is_an_error() {
    converse(&[
        ("foo\r\n", "ERROR\r\n"),
        ("GET k\r\n", "ERROR\r\n"),
        (" get k\r\n", "ERROR\r\n"),
        ("foo noreply\r\n", ""),
        ("\r\n", MALFORMED),
        ("debugtime 5\r\n", "ERROR\r\n"),
        ("debugpanic\r\n", "ERROR\r\n"),
        ("version 1 2\r\n", &format!("VERSION {}\r\n", crate::limits::VERSION)),
    ]);
}

#[test]
fn one_key_too_long_is_the_whole_answer_to_a_get() {
    let line = format!("get k k {} k\r\n", "x".repeat(251));
    converse(&[
        ("set k 0 0 1\r\nx\r\n", "STORED\r\n"),
        (&line, MALFORMED),
        ("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n"),
    ]);
}

#[test]
fn quit_sends_what_was_answered_and_hears_nothing_more() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    assert_eq!(client.say(b"set k 0 0 1\r\nx\r\nquit foo\r\nflush_all\r\n"), b"STORED\r\n");
    assert_eq!(client.ended, Some(Next::Close(CloseReason::Normal)));
    assert_eq!(Client::of(&server).say(b"get k\r\n"), b"VALUE k 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn other_protocols_are_closed_without_an_answer() {
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[b'x'; 3000]] {
        let mut client = Client::of(&server(Settings::default()));
        assert_eq!(client.say(bytes), b"");
        assert_eq!(client.ended, Some(Next::Close(CloseReason::Error)));
    }
}

#[test]
fn a_binary_byte_after_the_first_or_on_a_text_listener_is_text() {
    let settings = Settings { protocol: BindingProtocol::Ascii, ..Settings::default() };
    converse_with(&settings, &[("\u{80}\u{80}\r\n", "ERROR\r\n")]);
    converse(&[("version\r\n", &format!("VERSION {}\r\n", crate::limits::VERSION))]);
    let mut client = Client::of(&server(Settings::default()));
    client.say(b"get k\r\n");
    assert_eq!(client.say(b"\x80\x01\x02\r\n"), b"ERROR\r\n");
}

#[test]
fn the_clock_moves_for_tests_only() {
    let server = server(Settings { test_clock: true, ..Settings::default() });
    let mut client = Client::of(&server);
    client.say(b"set k 0 100 1\r\nx\r\n");
    assert_eq!(client.say(b"debugtime p\r\ndebugtime +101\r\n"), b"OK\r\nOK\r\n");
    client.now = server.clock.now();
    assert_eq!(client.say(b"get k\r\n"), b"END\r\n");
    assert_eq!(
        client.say(b"debugtime r\r\ndebugtime\r\ndebugtime x\r\n"),
        b"OK\r\nERROR\r\nERROR\r\n"
    );
}

#[test]
#[should_panic(expected = "asked to panic")]
fn debugpanic_panics_for_tests() {
    let server = server(Settings { test_clock: true, ..Settings::default() });
    Client::of(&server).say(b"debugpanic\r\n");
}
