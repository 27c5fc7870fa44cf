//! What we ask of the machine for this process: descriptors, core dumps, another user, memory
//! that is not swapped.

use std::ffi::CString;
use std::fs;
use std::net::SocketAddr;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::{User, geteuid, getuid, initgroups, setgid, setuid};

use super::os_error;
use crate::config::{Refusal, status};
use crate::limits::{ADMIN_CONNECTIONS_MAX, FDS_OF_OUR_OWN};
use crate::settings::Settings;

/// Descriptors a worker thread needs: its poller and what it is called by, its runtime's with their copies,
/// and the ring.
const FDS_A_WORKER: usize = 7;

/// Descriptors the admin port needs: listener, poller, wake-up and its copies, and its connections.
const FDS_OF_ADMIN: usize = 5 + ADMIN_CONNECTIONS_MAX;

/// Raises the limits for descriptors (`-c`), core dumps (`-r`) and locked memory (`-k`).
pub(super) fn raise_limits(settings: &Settings) -> Result<(), Refusal> {
    if settings.enable_coredumps {
        raise_core_limit()?;
    }
    if settings.lock_memory {
        // Only root may; whoever else may not lock either, and is told then.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
    raise_file_limit(settings)
}

fn raise_core_limit() -> Result<(), Refusal> {
    let core = Resource::RLIMIT_CORE;
    let refused = |error| os_error("failed to ensure corefile creation", &error);
    if setrlimit(core, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Ok(());
    }
    let (_, hard) = getrlimit(core).map_err(refused)?;
    setrlimit(core, hard, hard).map_err(refused)?;
    if hard == 0 {
        Err(os_error("failed to ensure corefile creation", &"limit is 0"))
    } else {
        Ok(())
    }
}

fn raise_file_limit(settings: &Settings) -> Result<(), Refusal> {
    let files = Resource::RLIMIT_NOFILE;
    let clients = settings.conn_limit as rlim_t;
    let admin = settings.admin_listen.map_or(0, |_| FDS_OF_ADMIN);
    let own = FDS_OF_OUR_OWN + FDS_A_WORKER * settings.threads + settings.listen.len() + admin;
    let wanted = clients + own as rlim_t;
    let (soft, hard) = getrlimit(files).map_err(|error| os_error("getrlimit", &error))?;
    if soft >= wanted || setrlimit(files, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    if hard >= clients && setrlimit(files, hard, hard).is_ok() {
        tracing::warn!(
            "the limit of {hard} open files leaves room for about {} connections, fewer than -c",
            hard.saturating_sub(own as rlim_t)
        );
        return Ok(());
    }
    Err(Refusal {
        message: format!(
            "failed to set rlimit for open files. Try starting as root or requesting smaller \
             maxconns value. (-c {clients} needs {wanted}, the hard limit is {hard})"
        ),
        status: status::OS_ERROR,
    })
}

/// Looks up the user to become. Who is not root stays who he is, as upstream has it.
pub(super) fn find_user(name: Option<&str>) -> Result<Option<User>, Refusal> {
    let Some(name) = name.filter(|_| getuid().is_root() || geteuid().is_root()) else {
        return Ok(None);
    };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        _ => Err(Refusal {
            message: format!("can't find the user {name} to switch to"),
            status: status::NO_USER,
        }),
    }
}

/// Gives up root's rights for good.
pub(super) fn become_user(user: Option<&User>) -> Result<(), Refusal> {
    let Some(user) = user else {
        return Ok(());
    };
    let refused = |error: &dyn std::fmt::Display| {
        os_error(&format!("failed to assume identity of user {}", user.name), error)
    };
    let name = CString::new(user.name.as_str()).map_err(|error| refused(&error))?;
    initgroups(&name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|error| refused(&error))
}

/// Keeps our memory from being swapped out, if the machine lets us.
pub(super) fn lock_memory() {
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        tracing::warn!("-k has no effect, mlockall failed: {}", error.desc());
    }
}

/// A node id that is the same whenever this node starts, so that its peers know it again, and most
/// probably no other node's.
pub(super) fn usual_node(listen: &[SocketAddr]) -> u8 {
    let machine = ["/etc/machine-id", "/proc/sys/kernel/hostname"].map(fs::read);
    let mut name: Vec<u8> = machine.into_iter().flatten().flatten().collect();
    for addr in listen {
        name.extend_from_slice(addr.to_string().as_bytes());
    }
    u8::try_from(1 + xxhash_rust::xxh3::xxh3_64(&name) % 254).unwrap_or(1)
}
