//! Conversations in frames: what the binary protocol's requests do to a server and are answered.

use super::*;
use crate::command::{ConnState, Transport};
use crate::limits::VERSION;
use crate::protocol::binary::sample::{Frame, Reply, replies};
use crate::settings::Settings;

/// A client that speaks frames, and numbers them.
struct Client {
    session: Session,
    server: Arc<Server>,
    opaque: u32,
    ended: bool,
}

fn frame(opcode: u8, cas: u64, opaque: u32, [extras, key, value]: [&[u8]; 3]) -> Vec<u8> {
    Frame { cas, opaque, ..Frame::new(opcode, extras, key, value) }.bytes()
}

impl Client {
    fn new(settings: Settings) -> Client {
        Client::of(&Arc::new(Server::new(settings)))
    }

    fn of(server: &Arc<Server>) -> Client {
        let now = server.clock.now().seconds();
        let addr = "tcp:127.0.0.1:1".to_owned();
        let connection =
            Arc::new(Connection::new(7, addr, None, Transport::Tcp, ConnState::NewCmd, now));
        let session = Session::new(Arc::clone(server), server.totals.register(), connection);
        Client { session, server: Arc::clone(server), opaque: 0, ended: false }
    }

    /// Sends bytes, at once and to the last one, and returns all that is answered.
    fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (mut front, mut replies) = (bytes, Vec::new());
        while !self.ended {
            let now = self.server.clock.now();
            let mut out = Vec::new();
            let received = self.session.receive(front, now, &mut out);
            front = &front[received.consumed..];
            let mut next = received.next;
            replies.append(&mut out);
            while next == Next::Resume {
                next = self.session.resume(now, &mut out);
                assert!(out.len() < OUTPUT_SOFT_MAX + (16 << 10), "a turn has an end");
                replies.append(&mut out);
            }
            match next {
                Next::Receive { .. } => break,
                Next::Yield => {}
                Next::Close(_) => self.ended = true,
                Next::Resume | Next::Lock | Next::Watch | Next::Shutdown(_) => panic!("{next:?}"),
            }
        }
        replies
    }

    /// Asks one thing and returns what is answered before a sign of life.
    fn all(&mut self, opcode: u8, cas: u64, body: [&[u8]; 3]) -> Vec<Reply> {
        self.opaque += 1;
        let mut bytes = frame(opcode, cas, self.opaque, body);
        bytes.extend_from_slice(&frame(0x0a, 0, u32::MAX, [b"", b"", b""]));
        let mut heard = replies(&self.say(&bytes));
        let noop = heard.pop().expect("the sign of life is answered");
        assert_eq!((noop.opcode, noop.opaque), (0x0a, u32::MAX));
        for answer in &heard {
            assert_eq!((answer.opcode, answer.opaque), (opcode, self.opaque));
        }
        heard
    }

    #[track_caller]
    fn one(&mut self, opcode: u8, cas: u64, body: [&[u8]; 3]) -> Reply {
        let mut all = self.all(opcode, cas, body);
        assert_eq!(all.len(), 1, "{opcode:#x}");
        all.remove(0)
    }

    /// Status of a request that is answered with no more than its status' text.
    #[track_caller]
    fn status(&mut self, opcode: u8, cas: u64, body: [&[u8]; 3]) -> u16 {
        let answer = self.one(opcode, cas, body);
        assert!(answer.extras.is_empty() && answer.key.is_empty());
        assert_eq!(answer.value.is_empty(), answer.status == 0);
        answer.status
    }

    #[track_caller]
    fn set(&mut self, key: &[u8], value: &[u8]) -> u64 {
        let stored = self.one(0x01, 0, [&EXTRAS, key, value]);
        assert_eq!((stored.status, stored.value.len()), (0, 0));
        stored.cas
    }

    fn value(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let answer = self.one(0x00, 0, [b"", key, b""]);
        (answer.status == 0).then_some(answer.value)
    }
}

const EXTRAS: [u8; 8] = [0, 0, 0, 9, 0, 0, 0, 0];
const NOTHING: [&[u8]; 3] = [b"", b"", b""];

fn counting(delta: u64, initial: u64, exptime: u32) -> Vec<u8> {
    [&delta.to_be_bytes()[..], &initial.to_be_bytes(), &exptime.to_be_bytes()].concat()
}

#[test]
fn a_get_counts_in_its_size_class_and_by_prefix_where_that_is_wanted() {
    let server = Arc::new(Server::new(Settings::default()));
    let mut client = Client::of(&server);
    client.one(0x01, 0, [&[0; 8], b"p:k", b"abc"]);
    client.one(0x00, 0, [b"", b"p:k", b""]);
    server.prefixes.enable(true);
    client.one(0x00, 0, [b"", b"p:k", b""]);
    client.one(0x00, 0, [b"", b"p:miss", b""]);
    let counts = server.totals.counts();
    assert_eq!(counts.class_hits.of(1), &2);
    assert_eq!((counts.cmd_get, counts.get_hits, counts.get_misses), (3, 2, 1));
    let prefixes = server.prefixes.all();
    assert_eq!(
        prefixes.iter().map(|(_, prefix)| (prefix.get, prefix.hit)).collect::<Vec<_>>(),
        [(2, 1)]
    );
}

#[test]
fn what_was_stored_is_fetched_with_flags_and_unique() {
    let mut client = Client::new(Settings::default());
    let unique = client.set(b"k", b"abc");
    assert_ne!(unique, 0);
    let hit = client.one(0x00, 0, [b"", b"k", b""]);
    assert_eq!(
        (hit.extras, hit.key, hit.value, hit.cas),
        (vec![0, 0, 0, 9], vec![], b"abc".to_vec(), unique)
    );
    let hit = client.one(0x0c, 0, [b"", b"k", b""]);
    assert_eq!((hit.key, hit.value, hit.cas), (b"k".to_vec(), b"abc".to_vec(), unique));
    assert_eq!(client.all(0x09, 0, [b"", b"k", b""]).len(), 1, "quiet hits are sent");
    assert_eq!(client.one(0x0c, 0, [b"", b"miss", b""]).key, b"miss");
    assert_eq!(client.status(0x00, 0, [b"", b"miss", b""]), 1);
    for quiet in [0x09, 0x0d] {
        assert_eq!(client.all(quiet, 0, [b"", b"miss", b""]), []);
    }
    let counts = client.server.totals.counts();
    assert_eq!((counts.cmd_get, counts.get_hits, counts.get_misses), (7, 3, 4));
    assert_eq!(counts.cmd_set, 1);
}

#[test]
fn a_key_may_hold_any_byte_and_is_out_of_reach_of_text() {
    let mut client = Client::new(Settings::default());
    let key = b"a b\r\nget c\0\xff";
    client.set(key, b"v");
    assert_eq!(client.value(key).as_deref(), Some(&b"v"[..]));
    let mut text = Client::of(&client.server);
    assert_eq!(text.say(b"get a b\r\n"), b"END\r\n");
}

#[test]
fn storage_stores_on_its_condition_only_and_says_which_one_failed() {
    let mut client = Client::new(Settings::default());
    assert_eq!(client.status(0x03, 0, [&EXTRAS, b"k", b"x"]), 1);
    assert_eq!(client.status(0x0e, 0, [b"", b"k", b"x"]), 5);
    assert_eq!(client.status(0x0f, 0, [b"", b"k", b"x"]), 5);
    assert_eq!(client.status(0x02, 0, [&EXTRAS, b"k", b"b"]), 0);
    assert_eq!(client.status(0x02, 0, [&EXTRAS, b"k", b"x"]), 2);
    assert_eq!(client.status(0x12, 0, [&EXTRAS, b"k", b"x"]), 2, "a quiet failure is told");
    assert_eq!(client.status(0x0e, 0, [b"", b"k", b"c"]), 0);
    assert_eq!(client.status(0x0f, 0, [b"", b"k", b"a"]), 0);
    assert_eq!(client.value(b"k").as_deref(), Some(&b"abc"[..]));
    for (quiet, extras) in [(0x11, &EXTRAS[..]), (0x13, &EXTRAS), (0x19, b""), (0x1a, b"")] {
        assert_eq!(client.all(quiet, 0, [extras, b"k", b"q"]), [], "{quiet:#x}");
    }
    assert_eq!(client.value(b"k").as_deref(), Some(&b"qqq"[..]));
    assert_eq!(client.status(0x1a, 0, [b"", b"miss", b"x"]), 5);
}

#[test]
fn a_unique_is_a_condition_of_every_change() {
    let mut client = Client::new(Settings::default());
    let old = client.set(b"k", b"1");
    let now = client.set(b"k", b"2");
    for (opcode, extras) in
        [(0x01, &EXTRAS[..]), (0x02, &EXTRAS), (0x03, &EXTRAS), (0x0e, b""), (0x0f, b"")]
    {
        assert_eq!(client.status(opcode, old, [extras, b"k", b"x"]), 2, "{opcode:#x}");
    }
    assert_eq!(client.status(0x05, old, [&counting(1, 0, 0), b"k", b""]), 2);
    assert_eq!(client.status(0x04, old, [b"", b"k", b""]), 2);
    assert_eq!(client.status(0x01, 7, [&EXTRAS, b"miss", b"x"]), 1);
    let counted = client.one(0x05, now, [&counting(1, 0, 0), b"k", b""]);
    assert_eq!((counted.status, &counted.value[..]), (0, &3_u64.to_be_bytes()[..]));
    assert_ne!(counted.cas, now);
    let added = client.one(0x02, counted.cas, [&EXTRAS, b"k", b"4"]);
    assert_eq!(added.status, 0, "an add over one version replaces it");
    assert_eq!(client.status(0x04, added.cas, [b"", b"k", b""]), 0);
}

#[test]
fn without_cas_uniques_are_zero() {
    let mut client = Client::new(Settings { cas: false, ..Settings::default() });
    assert_eq!(client.set(b"k", b"1"), 0);
    assert_eq!(client.one(0x00, 0, [b"", b"k", b""]).cas, 0);
    assert_eq!(client.one(0x05, 0, [&counting(1, 0, 0), b"k", b""]).cas, 0);
}

#[test]
fn without_cas_a_unique_is_no_condition_of_a_store_and_never_holds_for_other_changes() {
    let mut client = Client::new(Settings { cas: false, ..Settings::default() });
    client.set(b"k", b"1");
    assert_eq!(client.status(0x01, 9, [&EXTRAS, b"k", b"2"]), 0);
    assert_eq!(client.status(0x01, 9, [&EXTRAS, b"other", b"2"]), 0);
    assert_eq!(client.status(0x02, 9, [&EXTRAS, b"k", b"3"]), 2, "an add stays an add");
    assert_eq!(client.status(0x03, 9, [&EXTRAS, b"k", b"4"]), 0);
    assert_eq!(client.status(0x0e, 9, [b"", b"k", b"5"]), 0);
    assert_eq!(client.status(0x05, 9, [&counting(1, 0, 0), b"k", b""]), 2);
    assert_eq!(client.status(0x04, 9, [b"", b"k", b""]), 2);
    assert_eq!(client.value(b"k").as_deref(), Some(&b"45"[..]));
}

#[test]
fn counting_creates_what_is_not_there_unless_told_not_to() {
    let mut client = Client::new(Settings::default());
    let up = |delta, initial, exptime| counting(delta, initial, exptime);
    let number = |answer: Reply| u64::from_be_bytes(answer.value[..].try_into().unwrap());
    assert_eq!(client.status(0x05, 0, [&up(1, 7, u32::MAX), b"n", b""]), 1);
    assert_eq!(number(client.one(0x05, 0, [&up(1, 7, 0), b"n", b""])), 7, "delta is not applied");
    assert_eq!(number(client.one(0x05, 0, [&up(3, 7, u32::MAX), b"n", b""])), 10);
    assert_eq!(number(client.one(0x06, 0, [&up(11, 7, 0), b"n", b""])), 0);
    assert_eq!(client.all(0x15, 0, [&up(1, 1, 0), b"n", b""]), []);
    assert_eq!(client.all(0x16, 0, [&up(1, 1, 0), b"other", b""]), []);
    assert_eq!(client.value(b"other").as_deref(), Some(&b"1"[..]));
    client.set(b"t", b"abc");
    assert_eq!(client.status(0x15, 0, [&up(1, 1, 0), b"t", b""]), 6);
    let counts = client.server.totals.counts();
    assert_eq!((counts.incr_misses, counts.incr_hits, counts.decr_hits), (1, 2, 1));
    assert_eq!(counts.decr_misses, 0, "what was created was not missed");
}

#[test]
fn touches_answer_with_the_flags_and_change_no_unique() {
    let mut client = Client::new(Settings::default());
    let unique = client.set(b"k", b"abc");
    let soon: [u8; 4] = [0, 0, 0, 100];
    let touched = client.one(0x1c, 0, [&soon, b"k", b""]);
    assert_eq!((touched.extras, touched.value, touched.cas), (vec![0, 0, 0, 9], vec![], unique));
    let hit = client.one(0x1d, 0, [&soon, b"k", b""]);
    assert_eq!((hit.value, hit.cas), (b"abc".to_vec(), unique));
    assert_eq!(client.one(0x23, 0, [&soon, b"k", b""]).key, b"k");
    assert_eq!(client.status(0x1c, 0, [&soon, b"miss", b""]), 1);
    assert_eq!(client.status(0x1d, 0, [&soon, b"miss", b""]), 1);
    assert_eq!(client.one(0x23, 0, [&soon, b"miss", b""]).key, b"miss");
    for quiet in [0x1e, 0x24] {
        assert_eq!(client.all(quiet, 0, [&soon, b"miss", b""]), []);
        assert_eq!(client.all(quiet, 0, [&soon, b"k", b""]).len(), 1);
    }
    let counts = client.server.totals.counts();
    assert_eq!((counts.cmd_touch, counts.touch_hits, counts.touch_misses), (10, 5, 5));
    assert_eq!(counts.cmd_get, 0);
    client.server.clock.move_by(101);
    assert_eq!(client.value(b"k"), None, "the new exptime holds");
}

#[test]
fn the_largest_exptime_is_far_away_and_not_past() {
    let mut client = Client::new(Settings::default());
    let mut extras = EXTRAS;
    extras[4..].fill(0xff);
    assert_eq!(client.status(0x01, 0, [&extras, b"k", b"x"]), 0);
    assert!(client.value(b"k").is_some());
}

#[test]
fn delete_and_flush_answer_as_upstream() {
    let mut client = Client::new(Settings::default());
    client.set(b"k", b"x");
    assert_eq!(client.one(0x04, 0, [b"", b"k", b""]).cas, 0);
    assert_eq!(client.status(0x04, 0, [b"", b"k", b""]), 1);
    assert_eq!(client.status(0x14, 0, [b"", b"k", b""]), 1);
    client.set(b"k", b"x");
    assert_eq!(client.all(0x14, 0, [b"", b"k", b""]), []);
    client.set(b"k", b"x");
    assert_eq!(client.status(0x08, 0, [&[0, 0, 0, 50], b"", b""]), 0);
    assert!(client.value(b"k").is_some(), "not yet");
    client.server.clock.move_by(51);
    assert_eq!(client.value(b"k"), None);
    client.set(b"k", b"x");
    assert_eq!(client.all(0x18, 0, NOTHING), []);
    assert_eq!(client.value(b"k"), None);
    let mut client = Client::new(Settings { flush_enabled: false, ..Settings::default() });
    assert_eq!(client.status(0x08, 0, NOTHING), 0x20);
    assert_eq!(client.status(0x18, 0, NOTHING), 0x20);
}

#[test]
fn a_value_too_large_takes_the_old_one_along_only_in_a_set() {
    let mut client = Client::new(Settings { item_size_max: 1024, ..Settings::default() });
    let large = [b'x'; 2000];
    client.set(b"k", b"old");
    for (opcode, extras) in [(0x02, &EXTRAS[..]), (0x03, &EXTRAS), (0x0e, b""), (0x1a, b"")] {
        assert_eq!(client.status(opcode, 0, [extras, b"k", &large]), 3, "{opcode:#x}");
    }
    assert!(client.value(b"k").is_some());
    for (opcode, unique) in [(0x11, 0), (0x01, 0), (0x01, 1)] {
        client.set(b"k", b"old");
        assert_eq!(client.status(opcode, unique, [&EXTRAS, b"k", &large]), 3);
        assert_eq!(client.value(b"k"), None, "{opcode:#x} with cas {unique}");
    }
    let half = [b'x'; 600];
    client.set(b"k", &half);
    assert_eq!(client.status(0x0e, 0, [b"", b"k", &half]), 5);
    assert_eq!(client.server.totals.counts().store_too_large, 0, "upstream counts text only");
}

#[test]
fn statistics_are_told_name_by_name_and_unknown_ones_are_not_found() {
    let mut client = Client::new(Settings::default());
    let stats = client.all(0x10, 0, NOTHING);
    let pid = std::process::id().to_string();
    assert_eq!((&stats[0].key[..], &stats[0].value[..]), (&b"pid"[..], pid.as_bytes()));
    let end = stats.last().expect("an end");
    assert!(end.key.is_empty() && end.value.is_empty() && stats.len() > 80);
    for which in ["settings", "detail on", "items", "slabs", "sizes", "reset", "twincached"] {
        let answers = client.all(0x10, 0, [b"", which.as_bytes(), b""]);
        assert!(answers.iter().all(|answer| answer.status == 0), "{which}");
        assert!(answers.last().is_some_and(|end| end.key.is_empty() && end.value.is_empty()));
    }
    client.set(b"a:b", b"x");
    let dump = client.all(0x10, 0, [b"", b"detail dump", b""]);
    assert_eq!((dump.len(), &dump[0].key[..]), (2, &b"detailed"[..]));
    assert_eq!(dump[0].value, b"PREFIX a get 0 hit 0 set 1 del 0\r\nEND\r\n");
    for which in ["foo", "conns", "cachedump 1 1", "detail", "re"] {
        assert_eq!(client.status(0x10, 0, [b"", which.as_bytes(), b"skipped"]), 1, "{which}");
    }
    let mut client = Client::new(Settings { dump_enabled: false, ..Settings::default() });
    assert_eq!(client.status(0x10, 0, [b"", b"detail on", b""]), 1);
}

#[test]
fn version_and_quit_answer_and_nothing_is_heard_after_a_quit() {
    let mut client = Client::new(Settings::default());
    assert_eq!(client.one(0x0b, 0, NOTHING).value, VERSION.as_bytes());
    let flush = frame(0x08, 0, 9, NOTHING);
    for (opcode, answered) in [(0x07, 1), (0x17, 0)] {
        let mut leaver = Client::of(&client.server);
        let bytes = [&frame(opcode, 0, 5, NOTHING)[..], &flush].concat();
        assert_eq!(replies(&leaver.say(&bytes)).len(), answered, "{opcode:#x}");
        assert!(leaver.ended);
    }
    assert_eq!(client.server.totals.counts().cmd_flush, 0);
}

#[test]
fn what_cannot_be_done_is_unknown_and_what_cannot_be_is_the_end() {
    let mut client = Client::new(Settings::default());
    for opcode in [0x1b, 0x1f, 0x20, 0x25, 0x30, 0x3d, 0x40, 0xff] {
        assert_eq!(client.status(opcode, 0, NOTHING), 0x81, "{opcode:#x}");
    }
    for opcode in [0x21, 0x22] {
        assert_eq!(client.status(opcode, 0, [b"", b"PLAIN", b"\0u\0p"]), 0x81, "no login here");
    }
    assert_eq!(client.status(0x1b, 0, [b"extr", b"key", b"value"]), 0x81);
    let malformed = frame(0x00, 0, 5, [b"", b"", b""]);
    let answer = replies(&client.say(&[&malformed[..], &frame(0x0a, 0, 6, NOTHING)].concat()));
    assert_eq!((answer.len(), answer[0].status), (1, 4));
    assert!(client.ended);
}

#[test]
fn statistics_asked_for_by_a_malformed_frame_are_malformed_and_not_missing() {
    let server = Arc::new(Server::new(Settings::default()));
    let extras = frame(0x10, 0, 5, [b"extr", b"items", b""]);
    let mut short = frame(0x10, 0, 5, [b"", b"items", b""]);
    short[11] = 2;
    for (bytes, status) in [(extras, 0x04), (short, 0x81)] {
        let mut client = Client::of(&server);
        let answer = replies(&client.say(&bytes));
        assert_eq!((answer.len(), answer[0].status), (1, status));
        assert!(client.ended);
    }
}

#[test]
fn the_first_byte_or_the_listener_decides_what_is_spoken() {
    let server = Arc::new(Server::new(Settings::default()));
    let noop = frame(0x0a, 0, 5, NOTHING);
    let speaking = |protocol| {
        let mut client = Client::of(&server);
        client.session = client.session.speaking(protocol);
        client
    };
    assert_eq!(replies(&speaking(BindingProtocol::Auto).say(&noop)).len(), 1);
    assert_eq!(replies(&speaking(BindingProtocol::Binary).say(&noop)).len(), 1);
    // The opcode of a version has no LF in it.
    let line = [&frame(0x0b, 0, 5, NOTHING)[..], b"\r\n"].concat();
    assert_eq!(speaking(BindingProtocol::Ascii).say(&line), b"ERROR\r\n");
    let mut text = speaking(BindingProtocol::Binary);
    assert_eq!(text.say(b"version\r\n"), b"");
    assert!(!text.ended, "a header is waited for");
    assert_eq!(text.say(b"version\r\nversion\r\nversion\r\n"), b"");
    assert!(text.ended);
    let mut changed = speaking(BindingProtocol::Auto);
    changed.say(&noop);
    changed.say(b"get a\r\nget a\r\nget a\r\nget a\r\n");
    assert!(changed.ended, "what was decided stays so");
}

#[test]
fn a_large_value_comes_in_turns_and_whole() {
    let mut client = Client::new(Settings { item_size_max: 4 << 20, ..Settings::default() });
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.set(b"k", &large);
    for opcode in [0x00, 0x0c, 0x0d] {
        assert_eq!(client.one(opcode, 0, [b"", b"k", b""]).value, large);
    }
}
