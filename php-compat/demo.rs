//! The demo that README.md opens with: its page, its buttons, its end.
//!
//! It is started as a newcomer starts it. Not here: what a balancer and its nodes have to stand.

use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::browser::Browser;
use crate::process::Process;
use crate::room;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/run");

/// The page's port, and those of the nodes behind it.
const PORTS: std::ops::Range<u16> = 8080..8090;

/// How often the demo's balancer asks again.
const RETRIES: u64 = 3;

/// How long a node may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_counter_of_the_demo_goes_on_whichever_node_is_killed() {
    room::enter(
        concat!(module_path!(), "::the_counter_of_the_demo_goes_on_whichever_node_is_killed"),
        || {
            let dir = TempDir::new().unwrap();
            let mut demo = start(dir.path());
            let mut visitor = Visitor { browser: Browser::new(PORTS.start), count: 0 };
            for node in ["web-1", "web-2", "session-1", "session-2"] {
                visitor.counts_until(|page| page.was_served_by(node));
            }
            for node in ["session-1", "web-1", "session-2", "web-2"] {
                visitor.press("kill", node);
                visitor.counts_until(|page| page.shows(node, "killed"));
                for _ in 0..8 {
                    let page = visitor.counts();
                    assert!(!page.was_served_by(node), "a killed node serves");
                }
                visitor.press("start", node);
                visitor.counts_until(|page| page.was_served_by(node));
            }
            let log = demo.output();
            assert_eq!(log.matches("kill -9 ").count(), 4, "{log}");
            let ended = demo.signal(Signal::SIGINT);
            assert!(ended.success(), "Ctrl-C: {ended}");
            for port in PORTS {
                assert!(
                    TcpStream::connect(("127.0.0.1", port)).is_err(),
                    "port {port} is still open"
                );
            }
        },
    );
}

#[test]
fn without_any_session_node_the_demo_says_so_and_goes_on_when_one_is_there() {
    room::enter(
        concat!(
            module_path!(),
            "::without_any_session_node_the_demo_says_so_and_goes_on_when_one_is_there"
        ),
        || {
            let dir = TempDir::new().unwrap();
            let _demo = start(dir.path());
            let mut visitor = Visitor { browser: Browser::new(PORTS.start), count: 0 };
            visitor.counts();
            visitor.press("kill", "session-1");
            visitor.press("kill", "session-2");
            visitor.sees_until(|page| page.0.contains("no session node is there"));
            visitor.press("start", "session-2");
            visitor.count = 0;
            visitor.sees_until(|page| page.was_served_by("session-2"));
        },
    );
}

#[test]
fn the_demo_names_the_packages_that_are_missing() {
    let dir = TempDir::new().unwrap();
    for program in ["bash", "dirname", "grep"] {
        symlink(Path::new("/usr/bin").join(program), dir.path().join(program)).unwrap();
    }
    // haproxy stays missing when /usr/sbin, where Debian has it, is not looked into.
    let refused = Command::new("bash").arg(DEMO).env("PATH", dir.path()).output().unwrap();
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(complaint.contains("apt-get install php-cli php-memcache"), "{complaint}");
}

#[test]
fn the_demo_names_the_port_that_somebody_else_has() {
    room::enter(
        concat!(module_path!(), "::the_demo_names_the_port_that_somebody_else_has"),
        || {
            let _taken = std::net::TcpListener::bind(("127.0.0.1", PORTS.end - 1)).unwrap();
            let refused = Command::new(DEMO).output().unwrap();
            let complaint = String::from_utf8(refused.stderr).unwrap();
            assert!(!refused.status.success());
            assert!(complaint.contains("port 8089 is in use"), "{complaint}");
        },
    );
}

fn start(dir: &Path) -> Process {
    let mut command = Command::new(DEMO);
    command.env("TWINCACHED", env!("CARGO_BIN_EXE_twincached"));
    let mut demo = Process::start(&command, dir.join("demo.log"));
    demo.wait_until(|output| output.contains("Open http://127.0.0.1:8080/").then_some(()));
    demo
}

/// Somebody who looks at the demo's page.
struct Visitor {
    browser: Browser,
    count: u64,
}

impl Visitor {
    /// Asks for the page, on which the counter must have gone on: by one, or by one more for each
    /// time that the balancer asked again because a node died under the page.
    fn counts(&mut self) -> Page {
        let page = Page(self.browser.get(""));
        let count: u64 = page.text_of("count").parse().unwrap();
        assert!((1..=RETRIES + 1).contains(&(count - self.count)), "{} {}", self.count, page.0);
        self.count = count;
        page
    }

    fn counts_until(&mut self, reached: impl Fn(&Page) -> bool) {
        until(|| reached(&self.counts()));
    }

    /// As [`Visitor::counts_until`], whatever becomes of the counter.
    fn sees_until(&mut self, reached: impl Fn(&Page) -> bool) {
        until(|| reached(&Page(self.browser.visit("").1)));
    }

    fn press(&mut self, verb: &str, node: &str) {
        self.browser.press(&format!("verb={verb}&node={node}"));
    }
}

struct Page(String);

impl Page {
    fn text_of(&self, id: &str) -> &str {
        let (_, rest) = self.0.split_once(&format!(" id=\"{id}\">")).unwrap_or_default();
        rest.split('<').next().unwrap()
    }

    fn shows(&self, node: &str, state: &str) -> bool {
        self.text_of(node) == state
    }

    fn was_served_by(&self, node: &str) -> bool {
        self.text_of("web") == node || self.text_of("session") == node
    }
}

fn until(mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}
