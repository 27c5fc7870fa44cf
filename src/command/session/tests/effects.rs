//! What requests leave behind besides their answers: counts, log lines, and what becomes of the
//! connection.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::*;
use crate::watch::Categories;

/// Says `line` and returns what it added to the counters, by upstream's names.
fn counted(server: &Arc<Server>, client: &mut Client, line: &str) -> Vec<(&'static str, u64)> {
    let before: Vec<_> = server.totals.counts().named().collect();
    client.say(line.as_bytes());
    let after = server.totals.counts().named();
    after.zip(before).map(|((name, now), (_, was))| (name, now - was)).filter(|c| c.1 > 0).collect()
}

/// Observed on memcached 1.6.18: the sum of its counters before and after each line.
#[test]
fn every_command_counts_as_upstreams_does() {
    let settings = Settings { item_size_max: 1024, ..Settings::default() };
    let server = server(settings);
    let mut client = Client::of(&server);
    let too_large = format!("set k 0 0 2000\r\n{}\r\n", "x".repeat(2000));
    let expected: &[(&str, &[(&str, u64)])] = &[
        ("set k 0 0 1\r\n5\r\n", &[("cmd_set", 1)]),
        ("get k miss\r\n", &[("cmd_get", 2), ("get_hits", 1), ("get_misses", 1)]),
        ("gat 0 k miss\r\n", &[("cmd_touch", 2), ("touch_hits", 1), ("touch_misses", 1)]),
        ("touch k 0\r\n", &[("cmd_touch", 1), ("touch_hits", 1)]),
        ("touch miss 0\r\n", &[("cmd_touch", 1), ("touch_misses", 1)]),
        ("incr k 1\r\ndecr k 1\r\n", &[("incr_hits", 1), ("decr_hits", 1)]),
        ("incr miss 1\r\ndecr miss 1\r\n", &[("incr_misses", 1), ("decr_misses", 1)]),
        ("set k 0 0 1\r\nxx\r\n", &[("cmd_set", 1)]),
        ("cas miss 0 0 1 5\r\n1\r\n", &[("cmd_set", 1), ("cas_misses", 1)]),
        ("cas k 0 0 1 5\r\n1\r\n", &[("cmd_set", 1), ("cas_badval", 1)]),
        ("append miss 0 0 1\r\n1\r\n", &[("cmd_set", 1)]),
        ("set k 0 abc 1\r\n1\r\n", &[]),
        ("delete k\r\ndelete k\r\n", &[("delete_misses", 1), ("delete_hits", 1)]),
        ("set k 0 -1 1\r\n5\r\n", &[("cmd_set", 1)]),
        ("get k\r\n", &[("cmd_get", 1), ("get_misses", 1), ("get_expired", 1)]),
        (&too_large, &[("store_too_large", 1)]),
        ("flush_all abc\r\nflush_all 5\r\n", &[("cmd_flush", 2)]),
        ("set k 0 0 1\r\n5\r\nflush_all\r\n", &[("cmd_set", 1), ("cmd_flush", 1)]),
        ("get k\r\n", &[("cmd_get", 1), ("get_misses", 1), ("get_flushed", 1)]),
        ("version\r\nfoo\r\nget\r\n", &[]),
    ];
    for (line, counts) in expected {
        assert_eq!(counted(&server, &mut client, line), *counts, "{}", line.escape_debug());
    }
    let unique = {
        client.say(b"set k 0 0 1\r\n5\r\n");
        unique_of(&client.say(b"gets k\r\n"))
    };
    let cas = format!("cas k 0 0 1 {unique}\r\n6\r\n");
    assert_eq!(counted(&server, &mut client, &cas), [("cmd_set", 1), ("cas_hits", 1)]);
}

#[test]
fn a_command_of_each_family_counts_for_its_prefix_when_detail_is_on() {
    let server = server(Settings { detail_enabled: true, ..Settings::default() });
    Client::of(&server).say(
        b"set p:a 0 0 1\r\n1\r\nget p:a p:b plain\r\ngat 0 p:a\r\ndelete p:b\r\n\
          incr p:a 1\r\ntouch p:a 0\r\nset plain 0 0 1\r\nx\r\n",
    );
    let all = server.prefixes.all();
    assert_eq!(all.len(), 1);
    assert_eq!(&*all[0].0, b"p");
    let counts = all[0].1;
    assert_eq!((counts.get, counts.hit, counts.set, counts.del), (3, 2, 1, 1));
}

/// The log lines in `lines`, without time, number and size class.
fn events(lines: &[u8]) -> Vec<String> {
    let shown = |word: &&str| !["ts=", "gid=", "clsid="].iter().any(|name| word.starts_with(name));
    String::from_utf8_lossy(lines)
        .lines()
        .map(|line| line.split(' ').filter(shown).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn watchers_see_what_commands_do() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    let all = Categories::FETCHERS.with(Categories::MUTATIONS).with(Categories::DELETIONS);
    let mut watcher = server.watch.subscribe(all, 1 << 16).expect("a place");
    client.say(b"set k 0 100 3\r\nabc\r\nget k miss\r\nadd k 0 0 1\r\nx\r\n");
    client.say(b"delete k\r\ncas k 0 0 1 1\r\nx\r\ntouch k 5\r\nset k 0 0 2000000\r\n");
    let mut lines = Vec::new();
    watcher.drain(1 << 16, &mut lines);
    assert_eq!(
        events(&lines),
        [
            "type=item_get key=k status=not_found cfd=7 size=0",
            "type=item_store key=k status=stored cmd=set ttl=100 cfd=7 size=3",
            "type=item_get key=k status=found cfd=7 size=3",
            "type=item_get key=miss status=not_found cfd=7 size=0",
            "type=item_get key=k status=found cfd=7 size=3",
            "type=item_store key=k status=not_stored cmd=add ttl=0 cfd=7 size=1",
            "type=item_get key=k status=found cfd=7 size=3",
            "type=deleted key=k cmd=delete size=3",
            "type=item_get key=k status=not_found cfd=7 size=0",
            "type=item_store key=k status=not_found cmd=cas ttl=0 cfd=7 size=1",
            "type=item_get key=k status=not_found cfd=7 size=0",
            "type=item_store key=k status=too_large cmd=set ttl=0 cfd=7 size=0",
        ]
    );
}

#[test]
fn a_get_of_one_key_counts_in_its_size_class() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    client.say(b"set k 0 0 3\r\nabc\r\nget k\r\nget k\r\nget miss\r\n");
    assert_eq!(server.totals.counts().class_hits.of(1), &2);
}

#[test]
fn watching_changes_no_statistics() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    let _watcher = server.watch.subscribe(Categories::FETCHERS, 1 << 16).expect("a place");
    client.say(b"set k 0 0 3\r\nabc\r\nset k 0 0 3\r\nabc\r\nget k\r\ndelete k\r\n");
    let hits = server.totals.counts().class_hits;
    assert_eq!(hits.iter().sum::<u64>(), 1);
}

#[test]
fn a_listing_or_a_watch_behind_unsent_replies_is_refused() {
    let mut client = Client::of(&server(Settings::default()));
    for (line, refusal) in [
        ("lru_crawler metadump all", "ERROR cannot pipeline other commands before metadump\r\n"),
        ("lru_crawler mgdump all", "ERROR cannot pipeline other commands before mgdump\r\n"),
        ("watch", "ERROR cannot pipeline other commands before watch\r\n"),
    ] {
        let replies = client.say(format!("get k\r\n{line}\r\nget k\r\n").as_bytes());
        assert_eq!(String::from_utf8_lossy(&replies), format!("END\r\n{refusal}END\r\n"));
    }
    assert!(!client.watching);
}

#[test]
fn a_listing_ends_and_the_commands_behind_it_are_heard() {
    let mut client = Client::of(&server(Settings::default()));
    client.say(b"set k 0 0 1\r\nx\r\n");
    let replies = client.say(b"lru_crawler mgdump all\r\nget k\r\n");
    assert_eq!(replies, b"OK\r\nmg k\r\nEN\r\nVALUE k 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn a_watcher_gets_log_lines_whenever_it_is_resumed() {
    let server = server(Settings::default());
    let mut watcher = Client::of(&server);
    assert_eq!(watcher.say(b"watch fetchers\r\n"), b"OK\r\n");
    assert!(watcher.watching);
    Client::of(&server).say(b"get k\r\n");
    let mut out = Vec::new();
    assert_eq!(watcher.session.resume(watcher.now, &mut out), Next::Watch);
    assert_eq!(events(&out), ["type=item_get key=k status=not_found cfd=7 size=0"]);
    out.clear();
    assert_eq!(watcher.session.resume(watcher.now, &mut out), Next::Watch);
    assert!(out.is_empty());
}

#[test]
fn the_connection_shows_what_it_waits_for() {
    let mut client = Client::of(&server(Settings::default()));
    for (bytes, state) in [
        (&b"get k"[..], ConnState::Read),
        (b"\r\n", ConnState::Read),
        (b"set k 0 0 5\r\nab", ConnState::Nread),
        (b"cde\r\nset k x 0 5\r\nab", ConnState::Swallow),
        (b"cde\r\nquit\r\n", ConnState::Closing),
    ] {
        client.say(bytes);
        assert_eq!(client.session.connection.state(), state, "{}", bytes.escape_ascii());
    }
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a log of this level says of what `act` does.
fn logged(level: tracing::Level, act: impl FnOnce()) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Beside one subscriber alone, the thread that comes to a log line first decides for all whether it is
    // heard: that may be another test's, which hears nothing. With a second one all are asked.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    tracing::subscriber::with_default(subscriber, act);
    let text = String::from_utf8(log.0.lock().expect("no writer panicked").clone());
    text.expect("a log is text")
}

#[test]
fn twice_verbose_logs_commands_and_first_lines_of_answers_but_no_data() {
    let text = logged(tracing::Level::DEBUG, || {
        let server = server(Settings::default());
        let mut client = Client::of(&server);
        client.say(b"get quiet\r\n");
        server.verbosity.store(2, Ordering::Relaxed);
        client.say(b"set k 0 0 6\r\nsecret\r\nget k a\x1b[31m\r\n");
    });
    for line in ["<7 set k 0 0 6", ">7 STORED", "<7 get k a\\x1b[31m", ">7 VALUE k 0 6"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("secret") && !text.contains("quiet"), "{text}");
}

#[test]
fn meta_commands_count_as_their_kin_and_me_as_meta() {
    let server = server(Settings::default());
    let mut client = Client::of(&server);
    for (line, counts) in [
        ("mg k\r\n", &[("cmd_get", 1), ("get_misses", 1)][..]),
        ("mg k T5\r\n", &[("cmd_get", 1), ("get_misses", 1)]),
        ("mg new N5\r\n", &[("cmd_get", 1), ("get_hits", 1)]),
        ("mg newer N5 T5\r\n", &[("cmd_touch", 1), ("touch_hits", 1)]),
        ("ms k 1 q\r\n5\r\n", &[("cmd_set", 1)]),
        ("mg k\r\n", &[("cmd_get", 1), ("get_hits", 1)]),
        ("mg k T5\r\n", &[("cmd_touch", 1), ("touch_hits", 1)]),
        ("ma k q\r\n", &[("incr_hits", 1)]),
        ("ma k MD\r\n", &[("decr_hits", 1)]),
        ("ma k C1\r\n", &[]),
        ("ma no\r\n", &[("incr_misses", 1)]),
        ("ma n N5\r\n", &[]),
        ("ms k 1 C1\r\n5\r\n", &[("cmd_set", 1), ("cas_badval", 1)]),
        ("ms k 1 MA\r\nx\r\n", &[("cmd_set", 1)]),
        ("md k C1\r\n", &[("delete_misses", 1)]),
        ("md k I\r\n", &[]),
        ("md k x\r\n", &[("delete_hits", 1)]),
        ("md k\r\n", &[("delete_hits", 1)]),
        ("md k\r\n", &[("delete_misses", 1)]),
        ("mn\r\n", &[]),
        ("me k\r\n", &[("cmd_meta", 1)]),
    ] {
        assert_eq!(counted(&server, &mut client, line), counts, "{line}");
    }
}

#[test]
fn a_refusal_is_logged_once_with_its_reason_and_the_beginning_of_the_key() {
    let too_large = "set session-of-ann 0 0 2000000\r\n";
    let refused = |level| {
        logged(level, || {
            let server = server(Settings::default());
            // Behind a value that is too large nothing more is heard: each has a client of its own.
            for line in [too_large, too_large, "incr session-of-ann one\r\n", "nonsense\r\n"] {
                let mut client = Client::of(&server);
                client.say(line.as_bytes());
                client.say(line.as_bytes());
            }
        })
    };
    let usual = refused(tracing::Level::WARN);
    assert_eq!(usual.lines().count(), 1, "{usual}");
    let large = "SERVER_ERROR object too large for cache, key session... of 14 bytes";
    assert!(usual.contains(large) && usual.contains("client="), "{usual}");
    let more = refused(tracing::Level::INFO);
    for why in [large, "CLIENT_ERROR invalid numeric delta argument", "ERROR unknown command"] {
        assert_eq!(more.matches(why).count(), 1, "{why} in {more}");
    }
    assert!(!more.contains("of-ann") && !more.contains("nonsense"), "{more}");
}
