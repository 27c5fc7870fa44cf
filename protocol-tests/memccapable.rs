//! The compliance test of libmemcached, as the distribution ships it.

use std::process::Command;

use crate::client::show;
use crate::server::{Program, Server};

#[test]
fn memccapable_passes_all_its_text_tests() {
    passes_27("-a");
}

#[test]
fn memccapable_passes_all_its_binary_tests() {
    passes_27("-b");
}

fn passes_27(protocol: &str) {
    let server = Server::start(Program::Twincached, &[]);
    let port = server.port().to_string();
    let output = Command::new("memccapable")
        .args(["-h", "127.0.0.1", "-p", &port, protocol])
        .output()
        .unwrap_or_else(|error| panic!("libmemcached-tools must be installed: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let passed = said.matches("[pass]").count();
    show(&format!("memccapable {protocol}: {passed} of 27 pass"));
    assert!(output.status.success() && passed == 27 && !said.contains("[FAIL]"), "{said}");
}
