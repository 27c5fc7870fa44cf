//! The Debian that PHP and memcached come from: this machine's, or another generation in a
//! directory of its own (`PHP_COMPAT_ROOT`), which chroot(1) makes their root.
//!
//! The server under test is never in there, so a path has two names: one out here and one inside.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

fn root() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(|| env::var_os("PHP_COMPAT_ROOT").map(PathBuf::from)).as_deref()
}

/// A program of that Debian.
pub(crate) fn program(name: &str) -> Command {
    match root() {
        None => Command::new(name),
        Some(root) => {
            let mut command = Command::new("chroot");
            command.arg(root).arg(name);
            command
        }
    }
}

/// A directory that its programs see, too.
pub(crate) fn directory() -> TempDir {
    match root() {
        None => tempfile::tempdir().unwrap(),
        Some(root) => tempfile::tempdir_in(root.join("tmp")).unwrap(),
    }
}

/// What its programs call `path`, which is in a [`directory`].
pub(crate) fn inside(path: &Path) -> PathBuf {
    match root() {
        None => path.to_owned(),
        Some(root) => Path::new("/").join(path.strip_prefix(root).expect("a path in the root")),
    }
}

/// How pecl memcache behaves; its version numbers went from 4 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Debian 12's 4.0.5.2: a miss on the first server is final.
    Older,
    /// Debian 13's 8.2: asks the second server, too.
    Newer,
}

impl Generation {
    /// That of the PHP which the stories run on.
    pub(crate) fn of_php() -> Generation {
        static FOUND: OnceLock<Generation> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let asked = program("php").args(["-r", "echo phpversion('memcache');"]).output();
            let version = String::from_utf8(asked.expect("php runs").stdout).unwrap();
            match version.split('.').next() {
                Some("4") => Generation::Older,
                Some("8") => Generation::Newer,
                _ => panic!("a pecl memcache that nobody has looked at: {version}"),
            }
        })
    }
}
