//! A watching connection's end of the log stream.

/// A watcher. Dropping it ends its subscription.
#[derive(Debug)]
pub struct Watcher {}

impl Watcher {
    /// Appends the log lines that have come in, about [`crate::limits::OUTPUT_SOFT_MAX`] bytes at
    /// most.
    pub fn drain(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }
}
