use super::*;
use crate::command::{Certificates, ConnState, Connection, Transport};
use crate::settings::{Settings, Shown};

const NOW: Now = Now::from_unix_seconds(1_800_000_100);

const VERBS: [(&str, AdminVerb); 9] = [
    ("cache_memlimit", AdminVerb::CacheMemlimit),
    ("extstore", AdminVerb::Extstore),
    ("lru", AdminVerb::Lru),
    ("lru_crawler", AdminVerb::LruCrawler),
    ("refresh_certs", AdminVerb::RefreshCerts),
    ("shutdown", AdminVerb::Shutdown),
    ("slabs", AdminVerb::Slabs),
    ("verbosity", AdminVerb::Verbosity),
    ("watch", AdminVerb::Watch),
];

fn outcome(server: &Server, line: &str) -> AdminOutcome {
    let (name, args) = line.split_once(' ').unwrap_or((line, ""));
    let verb = VERBS.iter().find(|(known, _)| *known == name).expect("a known verb").1;
    admin(server, &AdminRequest { verb, args: args.as_bytes() }, NOW)
}

/// The answer as the text protocol writes it.
fn answer(server: &Server, line: &str) -> String {
    match outcome(server, line) {
        AdminOutcome::Reply(Response::Ok) => "OK".to_owned(),
        AdminOutcome::Reply(Response::Line(line)) => line.into_owned(),
        AdminOutcome::Reply(Response::Reject(Reject::UnknownCommand)) => "ERROR".to_owned(),
        AdminOutcome::Reply(Response::Reject(Reject::BadFormat)) => "BCLF".to_owned(),
        AdminOutcome::Reply(other) => panic!("{line}: {other:?} is not an operator's answer"),
        AdminOutcome::Shutdown(stop) => format!("stop {stop:?}"),
        AdminOutcome::Watch(_) => "OK watching".to_owned(),
        AdminOutcome::Dump(dump) => format!("OK {}", dump.command()),
    }
}

fn check(server: &Server, table: &[(&str, &str)]) {
    for (line, wanted) in table {
        assert_eq!(answer(server, line), *wanted, "{line}");
    }
}

/// The value that `stats settings` shows.
fn setting(server: &Server, name: &str) -> String {
    let addr = "tcp:127.0.0.1:4711".to_owned();
    let client = Connection::new(9, addr, None, Transport::Tcp, ConnState::NewCmd, NOW.seconds());
    let Response::Stats(list) = super::super::stats(server, &client, b"settings", NOW) else {
        panic!("stats settings is a list")
    };
    list.iter().find(|stat| stat.name == name).expect("a setting").value.to_string()
}

#[test]
fn slabs_answers_as_upstream_does_without_spare_pages() {
    let server = Server::new(Settings::default());
    check(
        &server,
        &[
            ("slabs", "ERROR"),
            ("slabs foo", "ERROR"),
            ("slabs reassign", "ERROR"),
            ("slabs reassign 1", "ERROR"),
            ("slabs reassign 1 2 3", "ERROR"),
            ("slabs reassign 1 2", "NOSPARE source class has no spare pages"),
            ("slabs reassign 0 2", "NOSPARE source class has no spare pages"),
            ("slabs reassign 1 0", "NOSPARE source class has no spare pages"),
            ("slabs reassign 39 1", "NOSPARE source class has no spare pages"),
            ("slabs reassign 1 1", "SAME src and dst class are identical"),
            ("slabs reassign -1 -1", "SAME src and dst class are identical"),
            ("slabs reassign 40 1", "BADCLASS invalid src or dst class id"),
            ("slabs reassign -1 1", "BADCLASS invalid src or dst class id"),
            ("slabs reassign 1 9223372036854775807", "BADCLASS invalid src or dst class id"),
            ("slabs reassign x 2", "BCLF"),
            ("slabs reassign 1 99999999999999999999", "BCLF"),
            ("slabs automove", "ERROR"),
            ("slabs automove 0", "OK"),
            ("slabs automove 2", "OK"),
            ("slabs automove 3", "ERROR"),
            ("slabs automove 99999999999999999999", "ERROR"),
            ("slabs automove x", "BCLF"),
            ("slabs automove -1", "BCLF"),
            ("slabs automove ratio", "ERROR"),
            ("slabs automove ratio x", "ERROR"),
            ("slabs automove ratio nan", "ERROR"),
            ("slabs automove ratio 1e400", "ERROR"),
            ("slabs automove ratio 0.5", "OK"),
            ("slabs automove freeratio 0.125", "OK"),
            ("slabs automove freeratio", "ERROR"),
            ("slabs automove window", "ERROR"),
            ("slabs automove window x", "ERROR"),
            ("slabs automove window 2", "CLIENT_ERROR automove window too low or too high"),
            ("slabs automove window 1801", "CLIENT_ERROR automove window too low or too high"),
            ("slabs automove window 1800", "OK"),
        ],
    );
    for (name, wanted) in [
        ("slab_automove", "2"),
        ("slab_automove_ratio", "0.50"),
        ("slab_automove_freeratio", "0.125"),
        ("slab_automove_window", "1800"),
    ] {
        assert_eq!(setting(&server, name), wanted, "{name}");
    }
    let shown = Shown { slab_reassign: false, ..Shown::default() };
    let without = Server::new(Settings { shown, ..Settings::default() });
    check(
        &without,
        &[
            ("slabs reassign 1 2", "CLIENT_ERROR slab reassignment disabled"),
            ("slabs reassign x x", "CLIENT_ERROR slab reassignment disabled"),
            ("slabs reassign 1", "ERROR"),
        ],
    );
}

#[test]
fn lru_answers_as_upstream_and_shows_what_was_set() {
    let server = Server::new(Settings::default());
    check(
        &server,
        &[
            ("lru", "ERROR"),
            ("lru foo", "ERROR"),
            ("lru mode", "ERROR"),
            ("lru mode x", "ERROR"),
            ("lru mode flat", "OK"),
            ("lru temp_ttl", "ERROR"),
            ("lru temp_ttl x", "ERROR"),
            ("lru temp_ttl 5", "OK"),
            ("lru temp_ttl -1", "OK"),
            ("lru tune", "ERROR"),
            ("lru tune 10 20 0.1", "ERROR"),
            ("lru tune 50 50 0.1 2", "ERROR hot and warm pcts must not exceed 80"),
            ("lru tune 18446744073709551615 1 1 1", "ERROR hot and warm pcts must not exceed 80"),
            ("lru tune 10 20 0 2", "ERROR hot/warm age factors must be greater than 0"),
            ("lru tune 10 20 1 -2", "ERROR hot/warm age factors must be greater than 0"),
            ("lru tune x 20 1 2", "ERROR"),
            ("lru tune 1 20 nan inf", "ERROR"),
            ("lru tune 10 30 0.5 3", "OK"),
        ],
    );
    for (name, wanted) in [
        ("lru_segmented", "no"),
        ("temp_lru", "no"),
        ("temporary_ttl", "5"),
        ("hot_lru_pct", "10"),
        ("warm_lru_pct", "30"),
        ("hot_max_factor", "0.50"),
        ("warm_max_factor", "3.00"),
    ] {
        assert_eq!(setting(&server, name), wanted, "{name}");
    }
    let shown = Shown { lru_maintainer: false, ..Shown::default() };
    let flat = Server::new(Settings { shown, ..Settings::default() });
    check(&flat, &[("lru mode flat", "ERROR"), ("lru temp_ttl 5", "ERROR")]);
    assert_eq!(setting(&flat, "lru_segmented"), "no");
}

#[test]
fn the_crawlers_commands_answer_as_upstream() {
    let server = Server::new(Settings::default());
    check(
        &server,
        &[
            ("lru_crawler", "ERROR"),
            ("lru_crawler foo", "ERROR"),
            ("lru_crawler enable x", "ERROR"),
            ("lru_crawler enable", "ERROR failed to start lru crawler thread"),
            ("lru_crawler sleep", "ERROR"),
            ("lru_crawler sleep x", "BCLF"),
            ("lru_crawler sleep 1000001", "CLIENT_ERROR sleep must be one second or less"),
            (
                "lru_crawler sleep 99999999999999999999",
                "CLIENT_ERROR sleep must be one second or less",
            ),
            ("lru_crawler sleep 5", "OK"),
            ("lru_crawler sleep 5 6", "ERROR"),
            ("lru_crawler tocrawl", "ERROR"),
            ("lru_crawler tocrawl -1", "BCLF"),
            ("lru_crawler tocrawl 7", "OK"),
            ("lru_crawler crawl", "ERROR"),
            ("lru_crawler crawl 1", "OK"),
            ("lru_crawler crawl 1,2,", "OK"),
            ("lru_crawler crawl all", "OK"),
            ("lru_crawler crawl hash", "ERROR an unknown error happened"),
            ("lru_crawler crawl ,", "NOTSTARTED no items to crawl"),
            ("lru_crawler crawl 0", "BADCLASS invalid class id"),
            ("lru_crawler crawl 64", "BADCLASS invalid class id"),
            ("lru_crawler crawl x", "BADCLASS invalid class id"),
            ("lru_crawler metadump", "ERROR"),
            ("lru_crawler metadump all", "OK metadump"),
            ("lru_crawler metadump hash", "OK metadump"),
            ("lru_crawler metadump 63", "OK metadump"),
            ("lru_crawler metadump x", "BADCLASS invalid class id"),
            ("lru_crawler mgdump 1,2", "OK mgdump"),
            ("lru_crawler mgdump", "ERROR"),
            ("lru_crawler disable", "OK"),
            ("lru_crawler disable", "OK"),
            ("lru_crawler crawl 1", "CLIENT_ERROR lru crawler disabled"),
            ("lru_crawler metadump x", "CLIENT_ERROR lru crawler disabled"),
        ],
    );
    assert_eq!(setting(&server, "lru_crawler"), "no");
    assert_eq!(setting(&server, "lru_crawler_sleep"), "5");
    assert_eq!(setting(&server, "lru_crawler_tocrawl"), "7");
    check(&server, &[("lru_crawler enable", "OK")]);

    let quiet = Server::new(Settings { dump_enabled: false, ..Settings::default() });
    check(
        &quiet,
        &[
            ("lru_crawler metadump x", "ERROR metadump not allowed"),
            ("lru_crawler mgdump all", "ERROR key dump not allowed"),
        ],
    );
}

#[test]
fn the_memory_limit_moves_within_its_bounds() {
    let server = Server::new(Settings::default());
    check(
        &server,
        &[
            ("cache_memlimit", "ERROR"),
            ("cache_memlimit x", "ERROR"),
            ("cache_memlimit -1", "ERROR"),
            ("cache_memlimit 1 2 3", "ERROR"),
            ("cache_memlimit 7", "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m"),
            (
                "cache_memlimit 1000000001",
                "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
            ),
            (
                "cache_memlimit 99999999999999999999",
                "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
            ),
            ("cache_memlimit 100", "OK"),
        ],
    );
    assert_eq!(server.store.memory_limit(), 100 << 20);
    assert_eq!(setting(&server, "maxbytes"), (100 << 20).to_string());
}

#[test]
fn verbosity_is_clamped_to_two() {
    let server = Server::new(Settings::default());
    check(
        &server,
        &[
            ("verbosity", "BCLF"),
            ("verbosity x", "BCLF"),
            ("verbosity -1", "BCLF"),
            ("verbosity 1 2 3", "OK"),
            ("verbosity 99999999999999999999", "OK"),
        ],
    );
    assert_eq!(setting(&server, "verbosity"), "2");
}

#[test]
fn shutdown_works_only_when_it_was_allowed() {
    let refused = "SERVER_ERROR: shutdown not enabled";
    let server = Server::new(Settings::default());
    check(
        &server,
        &[("shutdown", refused), ("shutdown graceful", refused), ("shutdown x", refused)],
    );
    let server = Server::new(Settings { enable_shutdown: true, ..Settings::default() });
    let invalid = "CLIENT_ERROR invalid shutdown mode";
    check(
        &server,
        &[
            ("shutdown", "stop Now"),
            ("shutdown graceful", "stop Graceful"),
            ("shutdown x", invalid),
            ("shutdown graceful x", invalid),
            ("shutdown noreply", invalid),
        ],
    );
}

#[test]
fn what_does_not_exist_here_says_so() {
    let server = Server::new(Settings::default());
    check(
        &server,
        &[
            ("extstore", "ERROR"),
            ("extstore item_size 5", "ERROR"),
            ("extstore free_memchunks 1 2", "ERROR"),
            ("refresh_certs", "Error TLS not enabled"),
            ("watch", "OK watching"),
            ("watch fetchers evictions", "OK watching"),
            ("watch foo", "ERROR"),
        ],
    );
}

#[test]
fn certificates_are_read_again_or_the_reason_is_told_in_one_line() {
    let mut server = Server::new(Settings::default());
    let before = Now::from_unix_seconds(NOW.seconds().0 - 50);
    server.certificates = Some(Certificates::new(before, || Ok(())));
    assert_eq!(server.certificates.as_ref().unwrap().age(NOW), 50);
    check(&server, &[("refresh_certs", "OK"), ("refresh_certs now", "OK")]);
    assert_eq!(server.certificates.as_ref().unwrap().age(NOW), 0);
    let wrong = || Err("no file \"a\r\nb\"".to_owned());
    server.certificates = Some(Certificates::new(before, wrong));
    check(&server, &[("refresh_certs", r#"Error no file "a??b""#)]);
    assert_eq!(server.certificates.as_ref().unwrap().age(NOW), 50);
}

#[test]
fn no_combination_of_missing_and_garbage_arguments_leaves_the_known_answers() {
    let sub_commands = [
        "",
        "reassign",
        "automove",
        "automove ratio",
        "automove freeratio",
        "automove window",
        "mode",
        "tune",
        "tune 1",
        "temp_ttl",
        "enable",
        "disable",
        "sleep",
        "tocrawl",
        "crawl",
        "metadump",
        "mgdump",
        "graceful",
        "item_size",
        "fetchers",
    ];
    let garbage = [
        "",
        "0",
        "-1",
        "1",
        "63",
        "256",
        "4294967296",
        "18446744073709551616",
        "1e3",
        "0x10",
        "+1",
        "1,2",
        ",",
        "%s%n",
        "all",
        "noreply",
        "nan",
        "inf",
        "-inf",
        "\u{fffd}",
        "\u{0}",
        "é",
    ];
    let servers = [true, false].map(|on| {
        let shown = Shown { lru_maintainer: on, slab_reassign: on, ..Shown::default() };
        let enable_shutdown = on;
        Server::new(Settings { enable_shutdown, dump_enabled: on, shown, ..Settings::default() })
    });
    let mut probes = 0;
    for server in &servers {
        for (verb, _) in VERBS {
            for sub_command in sub_commands {
                for one in garbage {
                    for other in garbage {
                        answer(
                            server,
                            &format!("{verb} {sub_command} {one} {other} {one} {other}"),
                        );
                        answer(server, &format!("{verb} {sub_command} {one} {other}"));
                        probes += 2;
                    }
                }
            }
        }
        let pcts = setting(server, "hot_lru_pct").parse::<u64>().expect("a number");
        assert!(pcts <= 80, "no garbage was taken as a setting");
    }
    assert!(probes > 100_000);
}
