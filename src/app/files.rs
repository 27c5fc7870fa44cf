//! The files by which others find a running server: pid file (`-P`) and port file
//! (`MEMCACHED_PORT_FILENAME`). Both appear whole: written beside their place, then renamed.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid};

use crate::net::Listener;

/// Our pid file; with `-d` it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    remove: bool,
}

impl PidFile {
    /// Writes our process number to `path`. A file that cannot be written is a warning, as
    /// upstream has it.
    pub(super) fn write(path: &Path, remove: bool) -> Option<PidFile> {
        if let Some(pid) = live_pid(path) {
            tracing::warn!(
                "the pid file {} names a running process already: {pid}",
                path.display()
            );
        }
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        match replace(&path, ".tmp", &format!("{}\n", getpid())) {
            Ok(()) => Some(PidFile { path, remove }),
            Err(error) => {
                tracing::warn!("cannot write the pid file {}: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove the pid file {}: {error}", self.path.display());
        }
    }
}

/// The process that the pid file names, when it is alive and another than ours.
fn live_pid(path: &Path) -> Option<Pid> {
    let pid = Pid::from_raw(fs::read_to_string(path).ok()?.trim().parse().ok()?);
    (pid.as_raw() > 0 && pid != getpid() && kill(pid, None).is_ok()).then_some(pid)
}

/// Writes which port each TCP listener got.
pub(super) fn write_ports(path: &Path, listeners: &[Listener]) -> io::Result<()> {
    let mut lines = String::new();
    for addr in listeners.iter().filter_map(|listener| listener.about.addr) {
        let family = if addr.is_ipv4() { "INET" } else { "INET6" };
        let _ = writeln!(lines, "TCP {family}: {}", addr.port());
    }
    replace(path, ".lck", &lines)
}

/// Puts a file with `content` at `path` in one step.
fn replace(path: &Path, suffix: &str, content: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}
