//! That the runner gives no ratio, and says why, when two servers cannot be compared; and gives one when
//! they can. With memcached beside memcached: what is judged here is the runner.

#![expect(clippy::expect_used, reason = "a test that cannot go on stops and says why")]
#![allow(dead_code, reason = "the bench uses all of it")]

mod bare;
mod compare;
mod contender;
mod report;
mod scenario;

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compare::{Comparison, Plan, compare, take_turns};
use contender::{Contender, Crew, Office};
use nix::sys::signal::{Signal, kill};
use report::Report;
use scenario::{PLAIN, Scenario};
use support::cores::{Cores, stay_on};
use support::node::{MEMCACHED, Node, wait_until};

const SMALL: Scenario = Scenario { name: "small", keys: 1000, connections: 2, ..PLAIN };

fn plan() -> Plan {
    let cores = Cores::with(1).expect("a core for clients besides the server's");
    Plan { rounds: 2, duration: Duration::from_millis(50), cores, others_at_most: f64::INFINITY }
}

fn memcacheds() -> [Contender; 2] {
    [(); 2].map(|()| Contender::at(MEMCACHED.into()))
}

/// What is printed of a comparison.
fn printed(comparison: &Comparison, contenders: &[Contender; 2]) -> String {
    let mut report = Report::new(None);
    report.add(comparison, contenders);
    report.text
}

/// What is printed when memcached is compared with this program.
fn printed_against(program: PathBuf) -> String {
    let contenders = [Contender::at(MEMCACHED.into()), Contender::at(program)];
    printed(&compare(&SMALL, &contenders, &plan(), &Office::open()), &contenders)
}

/// What is printed when this has happened to the first of two servers that were ready to be asked.
fn printed_after(plan: &Plan, scenario: Scenario, happening: impl FnOnce(&mut Crew)) -> String {
    let (office, contenders) = (Office::open(), memcacheds());
    let mut crews = contenders
        .each_ref()
        .map(|contender| contender.start(&scenario, &plan.cores, &office).expect("a server"));
    happening(&mut crews[0]);
    let sides = take_turns(&scenario, crews, plan);
    printed(&Comparison { scenario, sides }, &contenders)
}

/// A directory with a program in it that runs this script of a shell.
fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("server");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    (directory, path)
}

/// Ends it, and leaves to whoever asks to find that out.
fn end(node: &Node) {
    node.signal(Signal::SIGKILL);
    wait_until("it has ended", || node.resident().is_err() && node.control().is_err());
}

/// What it answers to this command.
fn said(node: &Node, command: &str) -> Result<String, String> {
    node.control()?.ask(command)
}

#[track_caller]
fn assert_refused(printed: &str, why: &str) {
    assert!(printed.contains("| not compared |"), "{printed}");
    assert!(printed.contains(why), "not because of {why:?}: {printed}");
    assert!(!printed.contains("ratio"), "{printed}");
}

#[test]
fn two_that_answer_well_have_a_ratio() {
    let printed = printed_after(&plan(), SMALL, |_| {});
    assert!(printed.contains("| **ratio** |"), "{printed}");
    assert!(!printed.contains("not compared"), "{printed}");
}

#[test]
fn a_server_that_is_not_there_is_refused() {
    assert_refused(&printed_against("/nonexistent/server".into()), "No such file or directory");
}

#[test]
fn a_server_that_does_not_start_is_refused_with_its_words() {
    let (_directory, path) = script("echo 'out of | luck' >&2; echo today >&2; exit 1");
    assert_refused(&printed_against(path), r"did not start: out of \| luck / today");
}

#[test]
fn a_server_that_never_says_its_version_is_named_by_its_path() {
    let asked = r#"[ "$1" = -V ] && exec sleep 3600"#;
    let (_directory, path) = script(&format!("{asked}; exec {MEMCACHED} \"$@\""));
    let contender = Contender::at(path.clone());
    assert_eq!(contender.name, path.display().to_string());
}

#[test]
fn a_server_that_does_not_hold_all_it_was_given_is_refused() {
    let (_directory, path) = script(&format!("exec {MEMCACHED} \"$@\" -m 2"));
    let contenders = [Contender::at(MEMCACHED.into()), Contender::at(path)];
    let much = Scenario { value_len: 10_000, ..SMALL };
    let comparison = compare(&much, &contenders, &plan(), &Office::open());
    assert_refused(&printed(&comparison, &contenders), "of 1000 items");
}

#[test]
fn a_server_that_answers_otherwise_is_refused_with_its_answer() {
    let printed = printed_after(&plan(), SMALL, |crew| {
        assert_eq!(said(&crew.nodes[0], "flush_all").as_deref(), Ok("OK"));
    });
    assert_refused(&printed, r#"the reply "END"#);
}

#[test]
fn a_server_that_does_not_hold_in_the_end_what_it_was_given_is_refused() {
    let printed = printed_after(&plan(), SMALL, |crew| {
        assert_eq!(said(&crew.nodes[0], "set foreign 0 0 1\r\n1").as_deref(), Ok("STORED"));
    });
    assert_refused(&printed, "holds 1001 of 1000 items");
}

#[test]
fn a_server_that_has_ended_is_refused() {
    assert_refused(&printed_after(&plan(), SMALL, |crew| end(&crew.nodes[0])), "no connection");
}

#[test]
fn a_server_that_has_ended_has_nothing_to_tell() {
    let (plan, office) = (plan(), Office::open());
    let mut crew = memcacheds()[0].start(&SMALL, &plan.cores, &office).expect("a server");
    let mut control = crew.nodes[0].control().expect("a server");
    end(&crew.nodes[0]);
    assert!(control.told("").is_err());
    assert_eq!(crew.nodes[0].fill(1, 1), Err("cannot be connected to".to_owned()));
    assert_eq!(crew.nodes[0].resident(), Err("a server has ended".to_owned()));
    assert_eq!(crew.check(&SMALL), Err("a server has ended".to_owned()));
}

#[test]
fn a_server_that_ends_at_work_is_refused() {
    let plan = Plan { rounds: 1, duration: Duration::from_secs(2), ..plan() };
    let printed = printed_after(&plan, SMALL, |crew| {
        let killed = crew.nodes[0].id();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            kill(killed, Signal::SIGKILL).expect("a running process");
        });
    });
    let whys = ["closed the connection", "no reply: ", "does not read: "];
    let why = whys.into_iter().find(|why| printed.contains(why));
    assert_refused(&printed, why.unwrap_or("its end"));
}

#[test]
fn a_server_that_stands_still_is_refused() {
    let printed = printed_after(&plan(), SMALL, |crew| crew.nodes[0].signal(Signal::SIGSTOP));
    assert_refused(&printed, "no reply in 5 s");
}

#[test]
fn a_server_that_stands_still_when_asked_by_the_clock_is_refused() {
    let scenario = Scenario { rate: Some(1000.0), ..SMALL };
    let printed = printed_after(&plan(), scenario, |crew| crew.nodes[0].signal(Signal::SIGSTOP));
    assert_refused(&printed, "no reply in 5 s");
}

#[test]
fn an_error_in_answer_to_a_question_is_what_the_server_says() {
    let office = Office::open();
    let crew = memcacheds()[0].start(&SMALL, &plan().cores, &office).expect("a server");
    let told = crew.nodes[0].told("detail foreign");
    let why = told.expect_err("no such stats");
    assert!(why.starts_with(r#"says "CLIENT_ERROR usage: stats detail"#), "{why}");
}

#[test]
fn servers_whose_cores_others_use_are_refused() {
    let plan = Plan { others_at_most: 0.1, ..plan() };
    let contenders = memcacheds();
    let at_work = Arc::new(());
    let (until, cores) = (Arc::downgrade(&at_work), plan.cores.servers.clone());
    let other = std::thread::spawn(move || {
        stay_on(&cores);
        while until.strong_count() > 0 {
            std::hint::spin_loop();
        }
    });
    let comparison = compare(&SMALL, &contenders, &plan, &Office::open());
    drop(at_work);
    other.join().expect("somebody else");
    assert_refused(&printed(&comparison, &contenders), "short of cores: in ");
}

#[test]
fn more_threads_than_leave_a_core_for_clients_are_refused() {
    let cores = std::thread::available_parallelism().expect("the machine has cores").get();
    assert!(Cores::with(cores).is_none());
}
