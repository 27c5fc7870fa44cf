//! Memory is touched before anybody needs it.
//!
//! The first touch of memory waits until the machine has found and zeroed it, and for large pages it may
//! have to move others together first; a virtual machine may have given the memory back to its host, and
//! then a large page is milliseconds in which the core does nothing else. A thread of its own does that
//! waiting: a worker's clients, or those who wait until a node has loaded, would otherwise.
//!
//! A node that loads needs more memory at once than ever again. Meanwhile a second thread does the
//! touching, which has only what cores nobody else wants: whoever wakes takes its core in the middle of a
//! page. It holds no lock of ours then, and where all cores are busy the node does with small pages. Once
//! the node serves, memory is touched by the first thread, which has its share like any other. (Before Linux
//! 6.4 a page is touched under the kernel's lock of all the process's memory: there other threads that
//! want more of it may wait for that page.)
//!
//! What is NOT here: how much is touched, and when ([`crate::store`]).

use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{io, thread};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::command::Server;
use crate::readiness::Phase;
use crate::store::Ream;

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
            while server.store.touch_ahead(|ream| Some(ream.touched())) {}
            thread::park();
        }
    };
    thread::Builder::new().name("memory".to_owned()).spawn(forever).map(|_| ())
}

/// Touches memory until the node has loaded, by a thread for that alone: who has stepped back behind all
/// others must not step forward again without a privilege.
fn touch_while_loading(server: &Server) {
    let is_loading = || matches!(server.readiness.phase(), Phase::Starting | Phase::Loading);
    let (give, given) = mpsc::channel::<Ream>();
    let (hand_back, handed_back) = mpsc::channel();
    let behind_all_others = move || {
        step_back();
        given.into_iter().try_for_each(|ream| hand_back.send(ream.touched()))
    };
    // Where the machine refuses the thread, memory is touched when the node has loaded.
    let spare = thread::Builder::new().name("memory-idle".to_owned()).spawn(behind_all_others);
    while spare.is_ok() && is_loading() {
        let touch = |ream| give.send(ream).ok().and_then(|()| handed_back.recv().ok());
        if !server.store.touch_ahead(touch) {
            thread::park_timeout(LOOK);
        }
    }
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
