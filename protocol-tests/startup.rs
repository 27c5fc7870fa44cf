//! What the program says and binds before it serves: version, refusals, the address it listens on
//! when none is given. Its life after that is in [`crate::lifecycle`], the options one by one in the
//! configuration room.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::client::{Client, wait_until};
use crate::server::{Program, Server};

const PROGRAM: &str = env!("CARGO_BIN_EXE_twincached");

fn run_to_its_end(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Starts the program as an operator would, without the harness's `-l`, until it listens.
fn start_plainly(dir: &Path, args: &[&str]) -> (Child, u16) {
    let port_file = dir.join("port");
    let child = Command::new(PROGRAM)
        .args(args)
        .env("MEMCACHED_PORT_FILENAME", &port_file)
        .stdin(Stdio::null())
        .stdout(fs::File::create(dir.join("stdout")).unwrap())
        .stderr(fs::File::create(dir.join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let mut port = None;
    wait_until("the port file", || {
        let text = fs::read_to_string(&port_file).unwrap_or_default();
        port = text.lines().find_map(|line| line.strip_prefix("TCP INET: ")?.parse().ok());
        port.is_some()
    });
    (child, port.unwrap())
}

/// The local addresses, in the hexadecimal of `/proc/net/tcp`, that listen on `port`.
fn listening_addresses(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let table6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let listens = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, at) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        let same_port = u16::from_str_radix(at, 16) == Ok(port);
        (same_port && state == "0A").then(|| address.to_string())
    };
    table.lines().chain(table6.lines()).filter_map(listens).collect()
}

#[test]
fn without_an_address_only_loopback_is_listened_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, port) = start_plainly(dir.path(), &["-p", "-1"]);
    let addresses = listening_addresses(port);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!addresses.is_empty());
    for address in addresses {
        let loopback = ["0100007F", "00000000000000000000000001000000"];
        assert!(loopback.contains(&address.as_str()), "it listens on {address}");
    }
}

#[test]
fn the_version_is_memcacheds_with_ours_behind() {
    let output = run_to_its_end(&["-V"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let version = said.trim_end().rsplit(' ').next().unwrap();
    assert!(version.starts_with("1.6.45-") && version.len() <= 23, "{said}");
    let help = String::from_utf8(run_to_its_end(&["-h"]).stdout).unwrap();
    assert_eq!(help.lines().next(), said.lines().next(), "-h starts with the line of -V");
    let server = Server::start(Program::Twincached, &[]);
    Client::of(&server).ask("version\r\n", format!("VERSION {version}\r\n"));
}

#[test]
fn check_config_refuses_what_a_start_would_refuse_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users").to_string_lossy().into_owned();
    fs::write(&file, "anna secret\n").unwrap();
    let chain = format!("ssl_chain_cert={file},ssl_key={file}");
    let wrong: [&[&str]; 4] = [
        &["-Y", &file],
        &["-Y", "/nonexistent/users"],
        &["-S", "--sasl-pwdb", &file],
        &["-Z", "-o", &chain],
    ];
    for args in wrong {
        let start = run_to_its_end(&[args, &["-l", "127.0.0.1", "-p", "-1"]].concat());
        let check = run_to_its_end(&[args, &["--check-config"]].concat());
        assert_eq!(check.status.code(), Some(1), "{args:?}");
        assert_eq!(check.status, start.status, "{args:?}");
        let said = String::from_utf8(check.stderr).unwrap();
        assert!(String::from_utf8(start.stderr).unwrap().contains(said.trim_end()), "{said}");
        assert!(said.contains("users"), "{said}");
    }
    fs::write(&file, "anna:secret\n").unwrap();
    let check = run_to_its_end(&["-Y", &file, "--check-config"]);
    assert_eq!(check.stdout, b"twincached: the configuration is valid\n");
    assert!(check.status.success());
}

#[test]
fn a_wrong_option_is_named_and_no_port_is_bound() {
    let dir = tempfile::tempdir().unwrap();
    let port_file = dir.path().join("port");
    let wrong: [&[&str]; 4] = [&["-m", "much"], &["-t", "0"], &["-o", "no_such"], &["-c", "-5"]];
    for args in wrong {
        let output = Command::new(PROGRAM)
            .args(["-l", "127.0.0.1", "-p", "-1"])
            .args(args)
            .env("MEMCACHED_PORT_FILENAME", &port_file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 64)), "{args:?}: {}", output.status);
        assert!(said.contains(args[1]) && said.contains(&args[0][..2]), "{args:?}: {said}");
        assert!(!port_file.exists(), "{args:?}: a port was bound");
    }
}
