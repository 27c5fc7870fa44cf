//! What `-vv` logs: each command line and the first line of each answer, never a data block.
//!
//! Bytes of clients are escaped and cut, so that no key can forge a log line or flood the log.

use std::sync::atomic::Ordering;

use super::Server;
use crate::limits::LOGGED_LINE_MAX;

/// `-v` count from which commands are logged.
const VERBOSE: u8 = 2;

/// Whether commands are logged now.
pub(super) fn is_verbose(server: &Server) -> bool {
    server.verbosity.load(Ordering::Relaxed) >= VERBOSE
}

/// Logs the command at the front of `input`.
pub(super) fn log_command(fd: i32, input: &[u8]) {
    tracing::debug!("<{fd} {}", first_line(input));
}

/// Logs the answer at the front of `reply`.
pub(super) fn log_reply(fd: i32, reply: &[u8]) {
    if !reply.is_empty() {
        tracing::debug!(">{fd} {}", first_line(reply));
    }
}

/// The first line, cut and escaped.
fn first_line(bytes: &[u8]) -> String {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let cut = &line[..line.len().min(LOGGED_LINE_MAX)];
    format!("{}{}", cut.escape_ascii(), if cut.len() < line.len() { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_line_is_escaped_and_cut_and_ends_before_the_data() {
        assert_eq!(first_line(b"VALUE k 0 6\r\nsecret\r\nEND\r\n"), "VALUE k 0 6");
        assert_eq!(first_line(b"get a\x1b[2J\rb\r\n"), "get a\\x1b[2J\\rb");
        let long = [b'x'; 1000];
        assert_eq!(first_line(&long), "x".repeat(250) + "...");
    }
}
