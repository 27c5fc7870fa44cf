//! Memory is touched before anybody needs it.
//!
//! The first touch of memory waits until the machine has found and zeroed it, and for large pages it may
//! have to move others together first; a virtual machine may have given the memory back to its host, and
//! then a large page is milliseconds in which the core does nothing else. A thread of its own does that
//! waiting: a worker's clients, or those who wait until a node has loaded, would otherwise.
//!
//! A node that loads needs more memory at once than ever again. Meanwhile that thread has only what cores
//! nobody else wants: whoever wakes takes its core in the middle of a page. The node has no clients yet
//! who could wait for what it holds when that happens, and where all cores are busy the node does with
//! small pages. Once it serves, the thread has its share like any other.
//!
//! What is NOT here: how much is touched, and when ([`crate::store`]).

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::command::Server;
use crate::readiness::Phase;

/// How often a thread that has nothing to touch sees whether the node has loaded.
const LOOK: Duration = Duration::from_millis(50);

/// Starts the thread, which runs as long as the process.
///
/// # Errors
/// The machine refuses a thread.
pub fn touch_memory_ahead(server: &Arc<Server>) -> io::Result<()> {
    let server = Arc::clone(server);
    let forever = move || {
        if server.peers.is_some() {
            touch_while_loading(&server);
        }
        loop {
            while server.store.touch_ahead() {}
            thread::park();
        }
    };
    thread::Builder::new().name(NAME.to_owned()).spawn(forever).map(|_| ())
}

const NAME: &str = "memory";

/// Touches memory until the node has loaded, on a thread for that alone: who has stepped back behind all
/// others must not step forward again without a privilege.
fn touch_while_loading(server: &Arc<Server>) {
    let loading = Arc::clone(server);
    let until_loaded = move || {
        step_back();
        while matches!(loading.readiness.phase(), Phase::Starting | Phase::Loading) {
            if !loading.store.touch_ahead() {
                thread::park_timeout(LOOK);
            }
        }
    };
    let started = thread::Builder::new().name(NAME.to_owned()).spawn(until_loaded);
    // Without it, and if it panicked, memory is touched as ever.
    let _ = started.map(thread::JoinHandle::join);
}

/// Leaves the core to whoever else wants it.
fn step_back() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Where the machine refuses that, memory is touched all the same.
    if let Err(error) =
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
    {
        tracing::debug!(%error, "memory is touched ahead with a common priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_steps_back_has_the_policy_of_the_idle() {
        let policy = thread::spawn(|| {
            step_back();
            thread_priority::thread_schedule_policy().unwrap()
        });
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(policy.join().unwrap(), idle);
    }
}
