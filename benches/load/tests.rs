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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compare::{Comparison, Plan, compare, take_turns};
use contender::{Contender, Crew, Office};
use nix::sys::signal::Signal;
use report::Report;
use scenario::{PLAIN, Scenario};
use support::cores::{Cores, stay_on};
use support::node::{MEMCACHED, Node, wait_until};
use support::{STORED, key_digits};

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

/// What is printed when this has happened to the second of two servers that were ready to be asked.
fn printed_after(happening: impl FnOnce(&mut Crew)) -> String {
    let (plan, office, contenders) = (plan(), Office::open(), memcacheds());
    let mut crews = contenders
        .each_ref()
        .map(|contender| contender.start(&SMALL, &plan.cores, &office).expect("a server"));
    happening(&mut crews[1]);
    let sides = take_turns(&SMALL, crews, &plan);
    printed(&Comparison { scenario: SMALL, sides }, &contenders)
}

/// A directory with a program in it that runs this script of a shell.
fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("server");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    (directory, path)
}

fn end(node: &mut Node) {
    node.signal(Signal::SIGKILL);
    wait_until("it has ended", || !node.is_alive());
}

#[track_caller]
fn assert_refused(printed: &str, why: &str) {
    assert!(printed.contains("| not compared |"), "{printed}");
    assert!(printed.contains(why), "not because of {why:?}: {printed}");
    assert!(!printed.contains("ratio"), "{printed}");
}

#[test]
fn two_that_answer_well_have_a_ratio() {
    let printed = printed_after(|_| {});
    assert!(printed.contains("| **ratio** |"), "{printed}");
    assert!(!printed.contains("not compared"), "{printed}");
}

#[test]
fn a_server_that_is_not_there_is_refused() {
    assert_refused(&printed_against("/nonexistent/server".into()), "No such file or directory");
}

#[test]
fn a_server_that_does_not_start_is_refused_with_its_words() {
    let (_directory, path) = script("echo out of luck >&2; exit 1");
    assert_refused(&printed_against(path), "did not start: out of luck");
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
    let printed = printed_after(|crew| {
        let said = crew.nodes[0].control().and_then(|mut control| control.ask("flush_all"));
        assert_eq!(said.as_deref(), Ok("OK"));
    });
    assert_refused(&printed, r#"the reply "END"#);
}

#[test]
fn a_server_that_has_lost_an_item_which_nobody_asked_for_is_refused() {
    let (plan, office) = (plan(), Office::open());
    let mut crew = memcacheds()[0].start(&SMALL, &plan.cores, &office).expect("a server");
    assert_eq!(crew.check(&SMALL), Ok(()));
    let key = [&STORED[..], &key_digits(0)].concat();
    let delete = format!("delete {}", String::from_utf8(key).expect("keys are ASCII"));
    let said = crew.nodes[0].control().and_then(|mut control| control.ask(&delete));
    assert_eq!(said.as_deref(), Ok("DELETED"));
    assert_eq!(crew.check(&SMALL), Err("holds 999 of 1000 items".to_owned()));
}

#[test]
fn a_server_that_ends_is_refused() {
    let printed = printed_after(|crew| end(&mut crew.nodes[0]));
    assert_refused(&printed, "no connection");
}

#[test]
fn a_server_that_ends_between_questions_is_refused() {
    let (plan, office) = (plan(), Office::open());
    let mut crew = memcacheds()[0].start(&SMALL, &plan.cores, &office).expect("a server");
    let node = &mut crew.nodes[0];
    let mut control = node.control().expect("a server");
    end(node);
    assert!(control.told("").is_err());
    assert_eq!(node.fill(1, 1), Err("cannot be connected to".to_owned()));
    assert!(node.resident().is_err());
    assert_eq!(crew.check(&SMALL), Err("a server has ended".to_owned()));
}

#[test]
fn a_server_that_ends_at_work_is_refused() {
    let (_directory, path) = script(&format!("exec timeout -s KILL 1 {MEMCACHED} \"$@\""));
    let contenders = [Contender::at(MEMCACHED.into()), Contender::at(path)];
    let plan = Plan { duration: Duration::from_secs(2), ..plan() };
    let comparison = compare(&SMALL, &contenders, &plan, &Office::open());
    // Which word it was at when it ended is its own affair.
    assert_refused(&printed(&comparison, &contenders), &format!("{}: ", contenders[1].name));
}

#[test]
fn servers_whose_cores_others_use_are_refused() {
    let plan = Plan { others_at_most: 0.1, ..plan() };
    let (is_over, servers) = (AtomicBool::new(false), plan.cores.servers.clone());
    let contenders = memcacheds();
    let comparison = std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(&servers);
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let comparison = compare(&SMALL, &contenders, &plan, &Office::open());
        is_over.store(true, Ordering::Relaxed);
        comparison
    });
    assert_refused(
        &printed(&comparison, &contenders),
        "short of cores: in 6 of 6 rounds others used",
    );
}

#[test]
fn more_threads_than_leave_a_core_for_clients_are_refused() {
    let cores = std::thread::available_parallelism().expect("the machine has cores").get();
    assert!(Cores::with(cores).is_none());
}
