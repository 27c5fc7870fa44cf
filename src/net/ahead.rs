//! Memory is touched before anybody needs it.
//!
//! The first touch of memory waits until the machine has found and zeroed it, and for large pages it may
//! have to move others together first; a virtual machine may have given the memory back to its host, and
//! then a large page is milliseconds in which the core does nothing else. A thread of its own does that
//! waiting: a worker's clients, or those who wait until a node has loaded, would otherwise.
//!
//! A node that loads needs more memory at once than ever again. Meanwhile a second thread does the
//! touching, which has only what cores nobody else wants: whoever wakes takes its core in the middle of a
//! page. Where all cores are busy the node does with small pages, and that thread may not run for seconds:
//! not even to end, when the process is killed. So it holds nothing that clients wait for: no lock of ours,
//! not the kernel's of all memory ([`LOCKS_ALL_MEMORY_BEFORE`]), and no connection, which would stay open as
//! long as it lives. (Who waits for the process itself may see it end that much later.) Once the node serves,
//! memory is touched by the first thread, which has its share like any other.
//!
//! What is NOT here: how much is touched, and when ([`crate::store`]).

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{fs, io, thread};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::close;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::command::Server;
use crate::readiness::Phase;
use crate::store::Ream;

/// How often a thread that has nothing to touch sees whether the node has loaded.
const LOOK: Duration = Duration::from_millis(50);

/// Linux before this version touches a page under the lock of all the process's memory: other threads
/// that want more of it would wait for one that is never let on a core (`CONFIG_PER_VMA_LOCK`).
const LOCKS_ALL_MEMORY_BEFORE: (u32, u32) = (6, 4);

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
    let (say, said) = mpsc::channel();
    let behind_all_others = move || {
        if let Err(error) = step_back() {
            tracing::debug!(%error, "memory is touched ahead with a common priority");
            return;
        }
        let _ = say.send(());
        let _ = given.into_iter().try_for_each(|ream| hand_back.send(ream.touched()));
    };
    let spare = thread::Builder::new().name("memory-idle".to_owned()).spawn(behind_all_others);
    // Where the machine refuses that, this thread touches memory from the beginning.
    if spare.is_err() || said.recv().is_err() {
        return;
    }
    while is_loading() {
        let touch = |ream| give.send(ream).ok().and_then(|()| handed_back.recv().ok());
        if !server.store.touch_ahead(touch) {
            thread::park_timeout(LOOK);
        }
    }
}

/// Leaves the core to whoever else wants it, and the process's files to the other threads: a killed process
/// hangs up when the last thread that has them has ended.
fn step_back() -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    if version_of(&release).is_none_or(|version| version < LOCKS_ALL_MEMORY_BEFORE) {
        return Err(io::Error::other("this version of Linux touches one page at a time"));
    }
    leave_files()?;
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
        .map_err(io::Error::other)
}

/// The first two numbers of Linux's release.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Gives this thread a table of files of its own, which is empty: standard input, output and error are left
/// as well.
fn leave_files() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    let names = fs::read_dir("/proc/thread-self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<OsString>>>()?;
    let fds = names.iter().filter_map(|name| name.to_str()?.parse::<RawFd>().ok());
    // The directory that was read is among them, and is closed already.
    let failed = fds.map(close).filter(Result::is_err).count();
    debug_assert!(failed <= 1, "{failed} files of ours could not be closed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_steps_back_has_the_policy_of_the_idle_and_keeps_no_connection_open() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let spare = thread::spawn(move || {
            let stepped_back = step_back();
            let policy = thread_priority::thread_schedule_policy().unwrap();
            tell.send((nix::unistd::gettid(), stepped_back, policy)).unwrap();
            ended.recv()
        });
        let (tid, stepped_back, policy) = told.recv().unwrap();
        let files = fs::read_dir(format!("/proc/self/task/{tid}/fd")).unwrap().count();
        drop(end);
        let _ = spare.join().unwrap();
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if is_refused() {
            assert!(stepped_back.is_err() && policy != idle, "{policy:?}");
        } else {
            assert_eq!((policy, files), (idle, 0), "{stepped_back:?}");
        }
        fs::File::open("/dev/null").expect("other threads have their files");
    }

    /// An older Linux refuses it, and some containers do.
    fn is_refused() -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let may_leave_files = thread::spawn(|| unshare(CloneFlags::CLONE_FILES).is_ok());
        version_of(&release).unwrap() < LOCKS_ALL_MEMORY_BEFORE || !may_leave_files.join().unwrap()
    }

    #[test]
    fn a_release_of_linux_is_told_by_its_first_two_numbers() {
        let old = ["6.1.0-37-amd64", "5.15.167.4-microsoft-standard-WSL2", "6.3", "4.19.0"];
        for release in old {
            assert!(version_of(release).unwrap() < LOCKS_ALL_MEMORY_BEFORE, "{release}");
        }
        for release in ["6.4.0", "6.12.57+deb13-amd64\n", "6.18.44-fc-v445", "10.0-rc1"] {
            assert!(version_of(release).unwrap() >= LOCKS_ALL_MEMORY_BEFORE, "{release}");
        }
        for release in ["", "six.four", "6", "6.x"] {
            assert_eq!(version_of(release), None, "{release}");
        }
    }
}
