//! PHP as most sites run it: php-fpm with a fixed number of processes (`pm = static`), which keep from
//! page to page what the extension keeps, behind a web server that speaks FastCGI to them.
//!
//! The web server is HAProxy, because the stories have it anyway. Not here: `php -S`
//! ([`crate::php`]), which all other stories run.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::php::{Files, Php};
use crate::port::free_port;
use crate::process::Process;
use crate::room;
use crate::root::{self, Generation};

/// Starts php-fpm with one pool of so many processes and the ini `lines`, and a web server before it;
/// their files are in `dir`.
pub(crate) fn start(lines: &str, workers: usize, dir: &Path) -> Php {
    let Files { errors, pages, scan } = Files::lay(lines, dir);
    let socket = dir.join("fpm.sock");
    let pool = dir.join("fpm.conf");
    fs::write(&pool, pool_lines(&root::inside(&socket), workers)).unwrap();
    let mut command = root::program(match Generation::of_php() {
        Generation::Older => "php-fpm8.2",
        Generation::Newer => "php-fpm8.4",
    });
    // Whoever is root here may also be root in the pool.
    command.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]);
    command.arg(root::inside(&pool)).env("PHP_INI_SCAN_DIR", scan);
    command.env("PATH", room::path_of_administrators());
    let mut fpm = Process::start(&command, dir.join("fpm.log"));
    fpm.wait_until(|_| UnixStream::connect(&socket).ok());
    let port = free_port();
    let file = dir.join("site.cfg");
    fs::write(&file, site_lines(port, &root::inside(&pages), &socket)).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file).env("PATH", room::path_of_administrators());
    let mut site = Process::start(&command, dir.join("site.log"));
    site.wait_until(|_| TcpStream::connect(("127.0.0.1", port)).ok());
    Php::behind(port, errors, fpm, site)
}

/// One pool, whose log says of each page what `php -S` does.
fn pool_lines(socket: &Path, workers: usize) -> String {
    let beside = |name| socket.with_file_name(name).display().to_string();
    format!(
        "[global]\nerror_log = {}\n[site]\nuser = root\ngroup = root\n\
         listen = {}\npm = static\npm.max_children = {workers}\n\
         access.log = {}\naccess.format = \"page [%s]: %r\"\n",
        beside("fpm-errors.log"),
        socket.display(),
        beside("fpm.log")
    )
}

/// A connection a page: one that is kept would keep its process from other visitors' pages.
fn site_lines(port: u16, pages: &Path, socket: &Path) -> String {
    format!(
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 2m\n    timeout server 2m\n\
         fcgi-app php\n    docroot {}\n    no option keep-conn\n\
         listen site\n    bind 127.0.0.1:{port}\n    use-fcgi-app php\n    \
         server fpm unix@{} proto fcgi\n",
        pages.display(),
        socket.display()
    )
}
