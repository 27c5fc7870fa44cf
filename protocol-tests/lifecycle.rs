//! How the server starts, tells the world that it runs, and stops.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid, getsid};
use tempfile::TempDir;

use crate::client::{Client, wait_until};
use crate::server::{Program, Server};

/// Stopping takes less than this.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

fn program(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twincached"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TWINCACHED_")) {
        command.env_remove(name);
    }
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A start that is expected to end by itself.
fn refused_start(flags: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = program(flags).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn signal(server: &Server, signal: Signal) {
    let pid = i32::try_from(server.pid()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The value of a line such as `Uid:` of a process's status file.
fn status_of(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_start_by_hand_says_in_three_lines_where_how_much_and_how_to_stop() {
    let mut child = Killed(program(&["-p", "-1", "-m", "100", "-c", "77"]).spawn().unwrap());
    let pid = child.0.id();
    let mut stdout = child.0.stdout.take().unwrap();
    let mut said = String::new();
    while said.lines().count() < 3 || !said.ends_with('\n') {
        let mut piece = [0; 512];
        let length = stdout.read(&mut piece).unwrap();
        assert_ne!(length, 0, "it ended after saying {said:?}");
        said += std::str::from_utf8(&piece[..length]).unwrap();
    }
    let lines: Vec<&str> = said.lines().collect();
    let address = lines[0].split_once(" listens on ").unwrap().1;
    assert!(std::net::TcpStream::connect(address).is_ok(), "{said}");
    assert!(lines[1].contains("100 MiB") && lines[1].contains("77 connections"), "{said}");
    assert!(lines[2].contains(&format!("kill {pid}")), "{said}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn every_stop_signal_ends_it_quickly_with_status_0_and_closes_every_connection() {
    for (stop, says) in [
        (Signal::SIGINT, "Signal handled: Interrupt."),
        (Signal::SIGTERM, "Signal handled: Terminated."),
        (Signal::SIGUSR1, "Gracefully stopping"),
    ] {
        let mut server = Server::start(Program::Twincached, &[]);
        let mut clients: Vec<Client> = (0..50).map(|_| Client::of(&server)).collect();
        clients.iter_mut().for_each(|client| assert!(client.is_served()));
        clients[7].send("set half 0 0 10\r\nabc");
        let since = Instant::now();
        signal(&server, stop);
        assert_eq!(server.wait_until_it_ends().code(), Some(0));
        assert!(since.elapsed() < STOP_DEADLINE, "{stop} took {:?}", since.elapsed());
        assert!(server.stderr().contains(says), "{stop}: {}", server.stderr());
        for client in &mut clients {
            assert_eq!(client.last_words().as_deref(), Some(&b""[..]));
        }
    }
}

#[test]
fn neither_a_hangup_nor_a_broken_pipe_stops_it() {
    let server = Server::start(Program::Twincached, &["-v"]);
    let mut client = Client::of(&server);
    client.set("k", b"v");
    signal(&server, Signal::SIGHUP);
    signal(&server, Signal::SIGPIPE);
    wait_until("the hangup is logged", || server.stderr().contains("SIGHUP"));
    assert_eq!(client.get("k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn the_shutdown_command_ends_it_with_status_0_when_it_is_enabled() {
    for request in ["shutdown\r\n", "shutdown graceful\r\n"] {
        let mut server = Server::start(Program::Twincached, &["-A"]);
        let mut client = Client::of(&server);
        client.send(request);
        assert_eq!(client.last_words().as_deref(), Some(&b""[..]));
        assert_eq!(server.wait_until_it_ends().code(), Some(0));
    }
}

#[test]
fn a_taken_address_is_named_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Program::Twincached, &[]);
    let port = server.port().to_string();
    let pid_file = dir.path().join("pid").to_string_lossy().into_owned();
    for background in [&[][..], &["-d"]] {
        let flags = [&["-p", &port, "-P", &pid_file], background].concat();
        let (code, said) = refused_start(&flags);
        assert_eq!(code, Some(71));
        let wanted = format!(
            "failed to listen on TCP port {port}: Address already in use (127.0.0.1:{port})\n"
        );
        assert!(said.ends_with(&wanted), "{said}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A server in the background, killed by its pid file.
struct Background {
    dir: TempDir,
    pid: u32,
}

impl Background {
    fn start(flags: &[&str]) -> Background {
        let dir = tempfile::tempdir().unwrap();
        let mut command = program(&["-d", "-p", "-1", "-P", "pid"]);
        command.args(flags).current_dir(dir.path()).env("MEMCACHED_PORT_FILENAME", "port");
        // Without -v the child lets go of our ends of its output, or this would wait for ever.
        let Output { status, stderr, .. } = command.output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let pid = fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
        Background { dir, pid }
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.pid).unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = kill(self.nix_pid(), Signal::SIGKILL);
    }
}

#[test]
fn in_the_background_it_serves_without_terminal_and_takes_its_pid_file_along() {
    let server = Background::start(&[]);
    let port = fs::read_to_string(server.dir.path().join("port")).unwrap();
    let port: u16 = port.trim().strip_prefix("TCP INET: ").unwrap().parse().unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut stream, b"version\r\n").unwrap();
    let mut heard = [0; 8];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"VERSION ");

    assert_eq!(getsid(Some(server.nix_pid())), Ok(server.nix_pid()), "it leads a session");
    let proc = format!("/proc/{}", server.pid);
    assert_eq!(fs::read_link(format!("{proc}/cwd")).unwrap().to_str(), Some("/"));
    for stream in 0..3 {
        let to = fs::read_link(format!("{proc}/fd/{stream}")).unwrap();
        assert_eq!(to.to_str(), Some("/dev/null"));
    }
    kill(server.nix_pid(), Signal::SIGTERM).unwrap();
    wait_until("the pid file is gone", || !server.dir.path().join("pid").exists());
}

#[test]
fn in_the_foreground_the_pid_file_stays() {
    let mut server = Server::start(Program::Twincached, &["-P", "{dir}/pid"]);
    let path = server.file("pid");
    wait_until("the pid file is there", || path.exists());
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", server.pid()));
    signal(&server, Signal::SIGTERM);
    server.wait_until_it_ends();
    assert!(path.exists());
}

#[test]
fn a_pid_file_that_names_a_live_process_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    fs::write(&path, format!("{}\n", std::process::id())).unwrap();
    let server = Server::start(Program::Twincached, &["-P", &path.to_string_lossy()]);
    let ours = format!("names a running process already: {}", std::process::id());
    wait_until("the warning is there", || server.stderr().contains(&ours));
}

#[test]
fn root_becomes_the_user_asked_for_and_whoever_is_not_root_stays_who_he_is() {
    let (nobody, me) = (User::from_name("nobody").unwrap().unwrap(), geteuid());
    let wanted = if me.is_root() { nobody.uid } else { me };
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let socket = dir.path().join("s").to_string_lossy().into_owned();
    let server = Server::start(Program::Twincached, &["-u", "nobody", "-s", &socket, "-a", "0750"]);
    let uids = status_of(server.pid(), "Uid:");
    assert!(uids.split_whitespace().all(|uid| uid == wanted.to_string()), "{uids}");
    let file = fs::metadata(&socket).unwrap();
    assert_eq!((file.uid(), file.mode() & 0o777), (wanted.as_raw(), 0o750));
    assert_eq!(server.stderr(), "");
}

#[test]
fn root_without_a_user_is_warned_about_and_an_unknown_user_is_refused() {
    if geteuid().is_root() {
        let server = Server::start(Program::Twincached, &[]);
        assert!(server.stderr().contains("running as root"), "{}", server.stderr());
        let (code, said) = refused_start(&["-p", "-1", "-u", "no_such_user"]);
        assert_eq!(code, Some(67));
        assert_eq!(said, "can't find the user no_such_user to switch to\n");
    } else {
        let server = Server::start(Program::Twincached, &["-u", "no_such_user"]);
        assert_eq!(server.stderr(), "", "who is not root becomes nobody else");
    }
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_c_needs() {
    let dir = tempfile::tempdir().unwrap();
    let port_file = dir.path().join("port");
    let start = "ulimit -Sn 64; exec \"$0\" -p -1 -c 200";
    let mut command = Command::new("sh");
    command.args(["-c", start, env!("CARGO_BIN_EXE_twincached")]);
    command.env("MEMCACHED_PORT_FILENAME", &port_file);
    let child = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until("it listens", || port_file.exists());
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.0.id())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let soft: u32 = files.split_whitespace().next().unwrap().parse().unwrap();
    assert!(soft > 200, "{soft} leaves none for our own");
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_alive_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = program(&["-p", "-1"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "4000000");
    let child = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let ready = hear();
    assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
    let address = ready.trim().rsplit(' ').next().unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok(), "{ready}");
    assert_eq!(hear(), "WATCHDOG=1\n");
    assert_eq!(hear(), "WATCHDOG=1\n");
    kill(Pid::from_raw(i32::try_from(child.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    while hear() != "STOPPING=1\n" {}
}

#[test]
fn an_address_that_others_reach_is_warned_about_in_one_line_and_loopback_is_not() {
    let server = Server::start(Program::Twincached, &["-l", "0.0.0.0"]);
    let warnings = |server: &Server| {
        let stderr = server.stderr();
        stderr.lines().filter(|line| line.contains("without authentication")).count()
    };
    assert_eq!(warnings(&server), 1, "{}", server.stderr());
    let server = Server::start(Program::Twincached, &[]);
    assert_eq!(warnings(&server), 0, "{}", server.stderr());
}
