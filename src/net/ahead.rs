//! Memory is touched before anybody needs it.
//!
//! The first touch of memory waits until the machine has found and zeroed it, and for large pages it may
//! have to move others together first. A thread of its own does that waiting: a worker's clients, or
//! those who wait until a node has loaded, would otherwise.
//!
//! What is NOT here: how much is touched, and when ([`crate::store`]).

use std::sync::Arc;
use std::{io, thread};

use crate::command::Server;

/// Starts the thread, which runs as long as the process.
///
/// # Errors
/// The machine refuses a thread.
pub fn touch_memory_ahead(server: &Arc<Server>) -> io::Result<()> {
    let store = server.store.clone();
    let forever = move || {
        loop {
            while store.touch_ahead() {}
            thread::park();
        }
    };
    thread::Builder::new().name("memory".to_owned()).spawn(forever).map(|_| ())
}
