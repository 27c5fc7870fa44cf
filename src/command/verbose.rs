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

/// Logs a command, of which the caller has cut the data block off.
pub(super) fn log_command(fd: i32, command: &[u8]) {
    tracing::debug!("<{fd} {}", shown(command));
}

/// Logs the beginning of an answer.
pub(super) fn log_reply(fd: i32, reply: &[u8]) {
    if !reply.is_empty() {
        tracing::debug!(">{fd} {}", shown(reply));
    }
}

fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(LOGGED_LINE_MAX)];
    format!("{}{}", cut.escape_ascii(), if cut.len() < bytes.len() { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_escaped_and_cut() {
        assert_eq!(shown(b"get a\x1b[2J\rb\n"), "get a\\x1b[2J\\rb\\n");
        let long = [b'x'; 1000];
        assert_eq!(shown(&long), "x".repeat(250) + "...");
    }
}
