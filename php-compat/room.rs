//! A machine room of its own: a test that wants a site's real addresses and names, README.md's
//! balancer lines word for word, or ports that somebody else may have, plays itself again in there.
//!
//! [`enter`] runs this very test program once more, for the one test, where the network and
//! /etc/hosts are nobody else's. It needs no root: whoever makes a room is root inside. All hosts of
//! the room are addresses of its one loopback interface. Not here: what is put into the room.

use std::fs;
use std::io::{self, Write};
use std::process::Command;

use tempfile::TempDir;

/// Set inside.
const INSIDE: &str = "PHP_COMPAT_ROOM";

/// The hosts of a room, as README.md names them.
const HOSTS: [(&str, &str); 6] = [
    ("10.0.0.1", "web1"),
    ("10.0.0.2", "web2"),
    ("10.0.0.10", "sessions"),
    ("10.0.0.11", "session1"),
    ("10.0.0.12", "session2"),
    ("10.0.0.13", "session3"),
];

/// Lets `story` happen in a room of its own. `test` is the path of the test that calls this.
///
/// # Panics
/// When the story does, or no room can be made.
pub(crate) fn enter(test: &str, story: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        furnish();
        return story();
    }
    let (_crate, test) = test.split_once("::").unwrap();
    let played = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount"])
        .args(["setpriv", "--pdeathsig", "TERM"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare(1) and setpriv(1) of util-linux are needed");
    let [told, complaints] =
        [played.stdout, played.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(played.status.success(), "{test} in its room:\n{told}{complaints}");
    assert!(told.contains("1 passed"), "{test} is no test:\n{told}");
    for figure in complaints.lines().filter(|line| line.starts_with("    ")) {
        show(figure.trim());
    }
}

/// Says what a test measured, in a way that ./test looks for: lines that begin with a word, and stay
/// together.
pub(crate) fn show(figures: &str) {
    let lines: String = figures.lines().map(|line| format!("    {line}\n")).collect();
    // Unlike eprintln!, this is not kept back by libtest.
    let _ = io::stderr().write_all(lines.as_bytes());
}

/// Does something to the room, as its administrator.
///
/// # Panics
/// When it fails.
pub(crate) fn administer(program: &str, arguments: &[&str]) {
    let done = Command::new(program)
        .args(arguments)
        .env("PATH", path_of_administrators())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {complaint}");
}

/// PATH with the directories in which Debian keeps ip, nft and haproxy.
pub(crate) fn path_of_administrators() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn furnish() {
    let dir = TempDir::new().unwrap();
    let names: String = HOSTS.map(|(address, name)| format!("{address} {name}\n")).concat();
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{names}")).unwrap();
    // The mount holds the file after its name is gone.
    administer("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
    administer("ip", &["link", "set", "lo", "up"]);
    for (address, _) in HOSTS {
        administer("ip", &["address", "add", address, "dev", "lo"]);
    }
}
