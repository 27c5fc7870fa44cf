//! The files by which others find a running server: pid file (`-P`) and port file
//! (`MEMCACHED_PORT_FILENAME`). Both appear whole: written beside their place, then renamed.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid};

use crate::command::Transport;
use crate::net::About;

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
    let lives = pid.as_raw() > 0 && kill(pid, None) != Err(Errno::ESRCH);
    (lives && pid != getpid()).then_some(pid)
}

/// Writes which port each address got.
pub(super) fn write_ports(path: &Path, addresses: &[Arc<About>]) -> io::Result<()> {
    let mut lines = String::new();
    for about in addresses {
        let Some(addr) = about.addr else { continue };
        let transport = if about.transport == Transport::Udp { "UDP" } else { "TCP" };
        let family = if addr.is_ipv4() { "INET" } else { "INET6" };
        let _ = writeln!(lines, "{transport} {family}: {}", addr.port());
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::{listen_tcp, listen_udp, listen_unix};
    use crate::settings::{BindingProtocol, Listen};

    #[test]
    fn the_pid_file_names_us_and_is_removed_only_in_the_background() {
        let dir = tempfile::tempdir().unwrap();
        for remove in [true, false] {
            let path = dir.path().join("pid");
            let file = PidFile::write(&path, remove).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
            drop(file);
            assert_eq!(path.exists(), !remove);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        assert!(PidFile::write(&dir.path().join("none/pid"), true).is_none());
    }

    #[test]
    fn only_a_live_process_that_is_not_ours_is_warned_about() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let live = |content: &str| {
            fs::write(&path, content).unwrap();
            live_pid(&path)
        };
        let parent = nix::unistd::getppid();
        assert_eq!(live(&format!("{parent}\n")), Some(parent));
        for not_live in [std::process::id().to_string().as_str(), "0", "-1", "", "2147483647"] {
            assert_eq!(live(not_live), None, "{not_live}");
        }
    }

    #[test]
    fn the_port_file_names_the_port_of_every_address() {
        let dir = tempfile::tempdir().unwrap();
        let addr = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
        let tcp = listen_tcp(&Listen::from(addr), 16).unwrap();
        let unix = listen_unix(&dir.path().join("s"), 0o700, BindingProtocol::Auto, 16).unwrap();
        let port = tcp.about.addr.unwrap().port();
        let path = dir.path().join("ports");
        let udp = listen_udp(&Listen::from(addr), 2).unwrap();
        let udp_port = udp[0].about.addr.unwrap().port();
        assert_eq!(udp[1].about.addr, udp[0].about.addr);
        let addresses = [&tcp.about, &unix.about, &udp[0].about].map(Arc::clone);
        write_ports(&path, &addresses).unwrap();
        let expected = format!("TCP INET: {port}\nUDP INET: {udp_port}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert!(!dir.path().join("ports.lck").exists());
    }
}
