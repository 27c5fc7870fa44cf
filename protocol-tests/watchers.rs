//! Connections that are sent much: dumps and `watch` streams, read or not.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::attacks::{Finish, slowest_answer};
use crate::client::{Client, machine_to_itself, rss_kib, show, wait_until};
use crate::server::{Program, Server};

/// The release of July 2026: a dump that nobody reads.
#[test]
fn dumps_that_nobody_reads_are_bounded_and_hold_up_nobody() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "256"]);
    let mut client = Client::of(&server);
    for number in 0..200_000 {
        client.send(format!("set key-with-a-long-name-{number} 0 0 1 noreply\r\nx\r\n"));
    }
    assert!(client.is_served());
    let before = rss_kib(&server);
    let stalled: Vec<Client> = (0..10)
        .map(|number| {
            let mut stalled = Client::of(&server);
            let kind = ["metadump", "mgdump"][number % 2];
            stalled.send(format!("lru_crawler {kind} all\r\n"));
            stalled
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for round in 0..200 {
        let since = Instant::now();
        client.set("other", format!("{round}").as_bytes());
        slowest = slowest.max(since.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!(
        "10 dumps of 200,000 items that nobody reads: RSS + {grown} KiB; another client's slowest \
         set {slowest:?}"
    ));
    assert!(grown <= 10 * 2 * 1024, "RSS + {grown} KiB");
    drop(stalled);
    wait_until("the stalled dumps are closed", || client.stat("curr_connections") == 1);
    client.send("lru_crawler metadump all\r\n");
    client.expect("OK\r\n");
    let mut keys = 0;
    while client.line().starts_with(b"key=") {
        keys += 1;
    }
    assert_eq!(keys, 200_001, "a dump that is read is whole");
}

#[test]
fn watchers_that_do_not_read_lose_lines_and_hold_up_nobody() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    assert!(client.is_served());
    let before = rss_kib(&server);
    let mut watchers: Vec<Client> = (0..5).map(|_| Client::of(&server)).collect();
    for watcher in &mut watchers {
        watcher.ask("watch fetchers mutations\r\n", "OK\r\n");
    }
    let key = "k".repeat(200);
    for _ in 0..500 {
        client.send(format!("get {}\r\n", format!("{key} ").repeat(100)));
        client.expect("END\r\n");
    }
    let grown = rss_kib(&server).saturating_sub(before);
    show(&format!("5 watchers that do not read, 50,000 gets: RSS + {grown} KiB"));
    assert!(grown <= 16 * 1024, "RSS + {grown} KiB");
    wait_until("lost lines are counted", || {
        client.stat("log_watcher_skipped") + client.stat("log_worker_dropped") > 0
    });
    let mut told = false;
    for _ in 0..100_000 {
        let line = watchers[0].line();
        if line.windows(8).any(|part| part == b"skipped=") {
            told = true;
            break;
        }
        watchers[0].set_patience(Duration::from_secs(2));
        if line.is_empty() {
            client.ask("get after\r\n", "END\r\n");
        }
    }
    assert!(told, "a watcher that reads again is told what it lost");
}

#[test]
fn watchers_may_come_and_go_under_load() {
    let mut server = Server::start(Program::Twincached, &[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| slowest_answer(&server, &done));
        let finish = Finish(&done);
        for round in 0..200 {
            let mut watcher = Client::of(&server);
            watcher.ask("watch fetchers mutations deletions connevents\r\n", "OK\r\n");
            if round % 2 == 0 {
                assert!(watcher.line().starts_with(b"ts="));
            }
        }
        drop(finish);
        load.join().unwrap();
    });
    assert_eq!(server.complaint(), None);
}

#[test]
fn the_twenty_first_watcher_is_refused() {
    let server = Server::start(Program::Twincached, &[]);
    let mut watchers: Vec<Client> = (0..20).map(|_| Client::of(&server)).collect();
    for watcher in &mut watchers {
        watcher.ask("watch\r\n", "OK\r\n");
    }
    let mut client = Client::of(&server);
    client.ask("watch\r\n", "WATCHER_TOO_MANY log watcher limit reached\r\n");
    assert!(client.is_served());
    drop(watchers);
    wait_until("the watchers' places are free", || client.stat("log_watchers") == 0);
    client.ask("watch\r\n", "OK\r\n");
}
