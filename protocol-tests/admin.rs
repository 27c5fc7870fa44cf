//! The admin port: what balancers and monitors are answered over HTTP, and that nobody on it can
//! hold up anybody.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use crate::client::{Client, PATIENCE, open_files, wait_until};
use crate::exposition::{self, Series};
use crate::server::{Program, Server};

/// What the server allows one connection (its `ADMIN_REQUEST_MAX`), and how many at once
/// (`ADMIN_CONNECTIONS_MAX`).
const REQUEST_MAX: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 32;

/// A server with an admin port on a port that the kernel chooses.
fn start(flags: &[&str]) -> (Server, SocketAddr) {
    let flags = [&["-v", "--admin-listen", "127.0.0.1:0"], flags].concat();
    let server = Server::start(Program::Twincached, &flags);
    let addr = admin_address(&server);
    (server, addr)
}

/// Where its log says that the admin port is.
fn admin_address(server: &Server) -> SocketAddr {
    let mut addr = None;
    wait_until("the admin port is named", || {
        addr = address_in(&server.stderr());
        addr.is_some()
    });
    addr.unwrap()
}

/// The admin port's address, once a log names it.
pub(crate) fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("the admin port is http://")?;
    rest.split_once('/').map(|(addr, _)| addr.parse().unwrap())
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that comes until the server closes.
fn hear(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("not closed: {error}"),
        _ => String::from_utf8(heard).unwrap(),
    }
}

/// Sends `request` and reads one answer, after which the server must close.
fn ask(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = dial(addr);
    stream.write_all(request.as_bytes()).unwrap();
    let heard = hear(&mut stream);
    let parted = heard.split_once("\r\n\r\n");
    let (head, body) = parted.unwrap_or_else(|| panic!("{request:?} got {heard:?}"));
    let status = head.strip_prefix("HTTP/1.").and_then(|head| head.get(2..5));
    let status = status.and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{request:?} got {heard:?}"));
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n"))
}

pub(crate) fn scrape(addr: SocketAddr) -> Series {
    let answer = get(addr, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    exposition::read(&answer.body).unwrap()
}

fn as_text(number: f64) -> String {
    number.to_string()
}

fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap();
    tasks.map(|task| name(task.unwrap()).trim().to_owned()).collect()
}

#[test]
fn every_path_answers_a_get_and_a_head_is_the_same_without_the_body() {
    let (_server, addr) = start(&[]);
    for (path, says) in [
        ("/", "/metrics"),
        ("/healthz", "ok\n"),
        ("/readyz", "ok\n"),
        ("/metrics", "memcached_up 1\n"),
        ("/metrics?target=localhost:11211", "memcached_up 1\n"),
        ("http://elsewhere.example/readyz", "ok\n"),
    ] {
        let answer = get(addr, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.contains(says), "{path}: {}", answer.body);
        assert!(answer.head.contains("content-type: text/plain; "), "{path}: {}", answer.head);
        assert!(answer.head.contains("connection: close"), "{path}: {}", answer.head);
        let head = ask(addr, &format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        let lengths = [&head.head, &answer.head]
            .map(|head| head.lines().any(|line| line.starts_with("content-length: ")));
        assert_eq!(lengths, [true, true], "{path}");
    }
}

#[test]
fn other_paths_are_not_found_and_other_methods_not_allowed() {
    let (_server, addr) = start(&[]);
    for path in ["/nowhere", "/metrics/", "/../healthz", "/healthz/..", "*"] {
        let answer = get(addr, path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "SHUTDOWN"] {
        let body = "Host: x\r\nContent-Length: 5\r\n\r\nstop\n";
        let answer = ask(addr, &format!("{method} /metrics HTTP/1.1\r\n{body}"));
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get, head"), "{method}: {}", answer.head);
        assert_eq!(ask(addr, &format!("{method} /x HTTP/1.1\r\n{body}")).status, 404, "{method}");
    }
}

#[test]
fn simple_checkers_are_understood() {
    let (_server, addr) = start(&[]);
    let mut stream = dial(addr);
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let heard = hear(&mut stream);
    assert!(heard.starts_with("HTTP/1.0 200 OK\r\n") && heard.ends_with("ok\n"), "{heard}");
    let two = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    let answer = ask(addr, &two);
    assert_eq!(answer.body, "ok\n", "one connection, one request");
}

#[test]
fn huge_heads_and_what_is_no_http_are_refused_and_change_nothing() {
    let (mut server, addr) = start(&[]);
    let name = "x".repeat(9 << 10);
    assert_eq!(ask(addr, &format!("GET / HTTP/1.1\r\nX: {name}\r\n\r\n")).status, 431);
    assert_eq!(ask(addr, &format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65))).status, 431);
    let endless = ask(addr, &format!("GET /{name} HTTP/1.1\r\n\r\n")).status;
    assert!([414, 431].contains(&endless), "{endless}");
    for garbage in ["get k\r\n\r\n", "\u{1}\u{2}\u{3}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        assert_eq!(ask(addr, garbage).status, 400, "{garbage:?}");
    }
    for silent in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}\0\u{5}hello"] {
        let mut stream = dial(addr);
        stream.write_all(silent.as_bytes()).unwrap();
        hear(&mut stream);
    }
    assert_eq!(get(addr, "/healthz").status, 200);
    assert_eq!(server.complaint(), None);
}

#[test]
fn a_request_that_trickles_in_is_ended_while_everybody_else_is_served() {
    let (server, addr) = start(&[]);
    let mut client = Client::of(&server);
    let since = Instant::now();
    let mut slow = dial(addr);
    let mut silent = dial(addr);
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let ended = loop {
        assert!(client.is_served());
        assert_eq!(get(addr, "/healthz").status, 200);
        if slow.write_all(b"a: b\r\n").is_err() {
            break since.elapsed();
        }
        match slow.read(&mut [0; 64]) {
            Ok(0) => break since.elapsed(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break since.elapsed(),
            Ok(_) => panic!("half a request was answered"),
        }
        assert!(since.elapsed() < PATIENCE, "it goes on for ever");
    };
    assert!(ended >= REQUEST_MAX - Duration::from_millis(200), "ended after only {ended:?}");
    assert_eq!(hear(&mut silent), "", "who says nothing is not heard for ever either");
    assert!(since.elapsed() < 2 * REQUEST_MAX, "{:?}", since.elapsed());
}

#[test]
fn a_crowd_of_silent_connections_holds_a_bounded_number_of_descriptors_and_no_client() {
    let (server, addr) = start(&[]);
    let mut client = Client::of(&server);
    assert!(client.is_served());
    let before = open_files(&server);
    let crowd: Vec<TcpStream> = (0..CONNECTIONS_MAX + 20).map(|_| dial(addr)).collect();
    wait_until("the seats are taken", || open_files(&server) == before + CONNECTIONS_MAX);
    for _ in 0..100 {
        assert!(client.is_served());
    }
    assert!(open_files(&server) <= before + CONNECTIONS_MAX);
    assert_eq!(get(addr, "/healthz").status, 200, "a monitor's turn comes");
    drop(crowd);
    wait_until("the crowd is gone", || open_files(&server) == before);
}

#[test]
fn the_metrics_move_with_traffic_and_say_what_stats_says() {
    let (server, addr) = start(&["-m", "100"]);
    let mut client = Client::of(&server);
    assert!(client.is_served());
    let before = scrape(addr);
    let command = |command: &str, status: &str| {
        format!("memcached_commands_total{{command={command:?},status={status:?}}}")
    };
    assert_eq!(as_text(before[&command("get", "hit")]), "0");
    client.set("sess_0123", b"secret");
    client.set("sess_4567", &vec![b'x'; 5000]);
    assert!(client.get("sess_0123").is_some() && client.get("sess_4567").is_some());
    assert!(client.get("nothing").is_none());
    client.ask("cas sess_0123 0 0 1 1\r\nx\r\n", "EXISTS\r\n");
    client.ask("incr nothing 1\r\n", "NOT_FOUND\r\n");
    client.ask("delete sess_4567\r\n", "DELETED\r\n");
    let after = scrape(addr);
    for (series, wanted) in [
        (command("get", "hit"), "2"),
        (command("get", "miss"), "1"),
        (command("set", "hit"), "2"),
        (command("cas", "badval"), "1"),
        (command("incr", "miss"), "1"),
        (command("delete", "hit"), "1"),
        ("memcached_current_items".to_owned(), "1"),
        ("memcached_limit_bytes".to_owned(), "104857600"),
        ("twincached_ready".to_owned(), "1"),
    ] {
        assert_eq!(as_text(after[&series]), wanted, "{series}");
    }
    let stats = client.stats("");
    let settings = client.stats("settings");
    let own = client.stats("twincached");
    for (series, stat) in [
        ("memcached_current_items", &stats["curr_items"]),
        ("memcached_items_total", &stats["total_items"]),
        ("memcached_current_bytes", &stats["bytes"]),
        ("memcached_current_connections", &stats["curr_connections"]),
        ("memcached_connections_total", &stats["total_connections"]),
        ("memcached_max_connections", &settings["maxconns"]),
        ("memcached_lru_crawler_hot_percent", &settings["hot_lru_pct"]),
        ("twincached_memory_taken", &own["memory_taken"]),
        ("twincached_index_bytes", &own["index_bytes"]),
    ] {
        assert_eq!(&as_text(after[series]), stat, "{series}");
    }
    let text = get(addr, "/metrics").body;
    assert!(!text.contains("sess_") && !text.contains("secret"), "no key and no value is shown");
    assert_eq!(after["memcached_connections_total"], before["memcached_connections_total"]);
}

#[test]
fn every_class_of_stats_is_a_label_of_the_metrics_with_the_same_values() {
    let (server, addr) = start(&[]);
    let mut client = Client::of(&server);
    for (key, length) in [("a", 10), ("b", 10), ("c", 1000), ("d", 100_000)] {
        client.set(key, &vec![b'x'; length]);
    }
    assert!(client.get("c").is_some());
    let series = scrape(addr);
    let mut compared = 0;
    let mut compare = |class: &str, family: &str, value: &String| {
        let series = &series[&format!("memcached_slab_{family}{{slab={class:?}}}")];
        assert_eq!(&as_text(*series), value, "{family} of class {class}");
        compared += 1;
    };
    for (name, value) in client.stats("items") {
        let mut words = name.splitn(3, ':').skip(1);
        match (words.next().unwrap(), words.next().unwrap()) {
            (class, "number") => compare(class, "current_items", &value),
            (class, "mem_requested") => compare(class, "mem_requested_bytes", &value),
            (class, "evicted") => compare(class, "items_evicted_total", &value),
            _ => {}
        }
    }
    for (name, value) in client.stats("slabs") {
        let Some((class, name)) = name.split_once(':') else { continue };
        match name {
            "chunk_size" => compare(class, "chunk_size_bytes", &value),
            "used_chunks" => compare(class, "chunks_used", &value),
            "total_pages" => compare(class, "current_pages", &value),
            _ => {}
        }
    }
    assert_eq!(compared, 3 * 6, "three classes, six families");
}

#[test]
fn many_scrapes_leave_nothing_open_and_do_not_count_as_clients() {
    let (server, addr) = start(&[]);
    let mut client = Client::of(&server);
    let before = (client.stat("curr_connections"), client.stat("total_connections"));
    let files = open_files(&server);
    for _ in 0..200 {
        scrape(addr);
    }
    wait_until("every descriptor is closed", || open_files(&server) == files);
    assert_eq!((client.stat("curr_connections"), client.stat("total_connections")), before);
}

fn terminate(server: &Server) {
    kill(Pid::from_raw(i32::try_from(server.pid()).unwrap()), Signal::SIGTERM).unwrap();
}

/// What `/readyz` says while a server stops that has a reply to be taken; `None` when it had ended
/// before it could be asked.
fn said_in_the_drain() -> Option<String> {
    let (mut server, addr) = start(&[]);
    let mut client = Client::of(&server);
    client.set("large", &vec![b'x'; 1_000_000]);
    client.send(format!("get{}\r\n", " large".repeat(50)));
    client.bytes(1_000_000);
    terminate(&server);
    let mut said = None;
    while said.is_none() && TcpStream::connect(addr).is_ok() {
        let mut stream = TcpStream::connect(addr).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = String::new();
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
        if asked.and_then(|()| stream.read_to_string(&mut heard)).is_ok() && heard.contains(" 503 ")
        {
            said = Some(heard);
        }
    }
    assert_eq!(server.wait_until_it_ends().code(), Some(0));
    said
}

#[test]
fn a_server_that_drains_is_not_ready_and_says_so_until_the_end() {
    // The drain takes half a second, which a busy machine may let pass unseen.
    let said = (0..20).find_map(|_| said_in_the_drain()).expect("a drain that could be asked");
    assert!(said.contains("draining"), "{said}");
}

#[test]
fn nobody_on_the_admin_port_delays_the_stop() {
    let (mut server, addr) = start(&[]);
    let mut silent: Vec<TcpStream> = (0..CONNECTIONS_MAX + 5).map(|_| dial(addr)).collect();
    silent[0].write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let since = Instant::now();
    terminate(&server);
    assert_eq!(server.wait_until_it_ends().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

#[test]
fn a_taken_admin_port_is_named_before_anything_is_bound_for_clients() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let client_port = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = client_port.local_addr().unwrap().port().to_string();
    // Both are taken: which one is complained about tells which is bound first.
    let refused = Server::try_start(Program::Twincached, &["-p", &port, "--admin-listen", &addr]);
    let Err(said) = refused else { panic!("it started on a taken port") };
    assert!(said.contains("exit status: 71"), "{said}");
    let wanted = format!("failed to listen on {addr} for the admin port (--admin-listen): ");
    assert!(said.contains(&wanted) && said.contains("already in use"), "{said}");
}

#[test]
fn without_the_option_there_is_no_admin_port() {
    let server = Server::start(Program::Twincached, &["-v"]);
    assert!(!server.stderr().contains("admin port"), "{}", server.stderr());
    assert!(!threads(&server).contains(&"admin".to_owned()));
    let (server, _) = start(&[]);
    assert!(threads(&server).contains(&"admin".to_owned()), "{:?}", threads(&server));
}

#[test]
fn an_admin_port_that_others_reach_is_warned_about_in_one_line_and_loopback_is_not() {
    for (listen, wanted) in [("0.0.0.0:0", 1), ("127.0.0.1:0", 0), ("[::1]:0", 0)] {
        let server = Server::start(Program::Twincached, &["--admin-listen", listen]);
        let stderr = server.stderr();
        let warnings = stderr.lines().filter(|line| line.contains("the admin port listens on"));
        assert_eq!(warnings.count(), wanted, "{listen}: {stderr}");
    }
}

#[test]
fn whoever_answers_on_it_has_no_rights_left() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let socket = dir.path().join("s").to_string_lossy().into_owned();
    let (server, addr) = start(&["-u", "nobody", "-s", &socket]);
    assert_eq!(get(addr, "/healthz").status, 200);
    let me = geteuid();
    let wanted = if me.is_root() { User::from_name("nobody").unwrap().unwrap().uid } else { me };
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        assert!(uids.split_whitespace().all(|uid| uid == wanted.to_string()), "{status}");
        threads += 1;
    }
    assert!(threads >= 3, "main, admin and workers");
}
