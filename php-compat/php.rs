//! PHP as a web server over `pages/`, with nothing in its configuration but the distribution's
//! files and the lines it is given: they are put in a file of their own in the scan directory, as
//! README.md tells people to do.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Process;
use crate::root;

/// A running `php -S`, or php-fpm ([`crate::fpm`]).
pub(crate) struct Php {
    port: u16,
    errors: PathBuf,
    process: Process,
    /// The web server before it, where it is none itself.
    _before: Option<Process>,
}

/// What PHP finds in a directory of its own.
pub(crate) struct Files {
    pub(crate) errors: PathBuf,
    pub(crate) pages: PathBuf,
    /// For PHP_INI_SCAN_DIR.
    pub(crate) scan: String,
}

impl Files {
    /// The pages, and the ini `lines`, in `dir`.
    pub(crate) fn lay(lines: &str, dir: &Path) -> Files {
        let errors = dir.join("php-errors.log");
        let scan = dir.join("conf.d");
        fs::create_dir(&scan).unwrap();
        fs::write(scan.join("90-sessions.ini"), lines).unwrap();
        fs::write(
            scan.join("91-harness.ini"),
            format!(
                "display_errors = Off\nlog_errors = On\nerror_log = {}\n",
                root::inside(&errors).display()
            ),
        )
        .unwrap();
        // The empty first element stands for the directory that PHP was built with.
        let scan = format!(":{}", root::inside(&scan).display());
        Files { errors, pages: copy_of_the_pages(dir), scan }
    }
}

impl Php {
    /// Starts PHP with `workers` processes and the ini `lines`; its files are in `dir`.
    pub(crate) fn start(lines: &str, workers: usize, dir: &Path) -> Php {
        let Files { errors, pages, scan } = Files::lay(lines, dir);
        let mut command = root::program("php");
        command
            .args(["-S", "127.0.0.1:0", "-t"])
            .arg(root::inside(&pages))
            .env("PHP_INI_SCAN_DIR", scan)
            .env("PHP_CLI_SERVER_WORKERS", workers.to_string());
        let mut process = Process::start(&command, dir.join("php.log"));
        let port = process.wait_until(|output| {
            let (_, rest) = output.split_once("Development Server (http://127.0.0.1:")?;
            let (port, _) = rest.split_once(") started")?;
            Some(port.parse().unwrap())
        });
        Php { port, errors, process, _before: None }
    }

    /// PHP as a process behind a web server on `port`.
    pub(crate) fn behind(port: u16, errors: PathBuf, process: Process, before: Process) -> Php {
        Php { port, errors, process, _before: Some(before) }
    }

    /// Where it takes HTTP requests, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many pages were answered with this status so far.
    pub(crate) fn answered(&self, status: u16) -> usize {
        self.process.output().matches(&format!(" [{status}]: ")).count()
    }

    /// Every warning and error of its pages so far.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

/// The pages where PHP sees them, whatever its root.
fn copy_of_the_pages(dir: &Path) -> PathBuf {
    let copy = dir.join("pages");
    fs::create_dir(&copy).unwrap();
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/php-compat/pages");
    for page in fs::read_dir(pages).unwrap() {
        let page = page.unwrap();
        fs::copy(page.path(), copy.join(page.file_name())).unwrap();
    }
    copy
}
