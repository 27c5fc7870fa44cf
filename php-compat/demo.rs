//! The demo that README.md opens with: its page, its buttons, its end.
//!
//! It is started as a newcomer starts it. Not here: what a balancer and its nodes have to stand.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
                visitor.kills(node);
                for _ in 0..8 {
                    let page = visitor.counts();
                    assert!(!page.was_served_by(node), "a killed node serves");
                }
                visitor.press("start", node);
                visitor.counts_until(|page| page.was_served_by(node));
            }
            let log = demo.output();
            assert_eq!(log.matches("kill -9 ").count(), 4, "{log}");
            let ended = demo.interrupt_until_it_ends();
            assert!(ended.success(), "Ctrl-C: {ended}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "more than its log is left");
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
fn a_page_under_way_is_not_cut_off_when_the_balancer_takes_its_node_for_dead() {
    room::enter(
        concat!(
            module_path!(),
            "::a_page_under_way_is_not_cut_off_when_the_balancer_takes_its_node_for_dead"
        ),
        || {
            let dir = TempDir::new().unwrap();
            let mut demo = start(dir.path());
            let pid =
                Pid::from_raw(kept_by_the_demo(dir.path(), "web-1.pid").trim().parse().unwrap());
            kill(pid, Signal::SIGSTOP).unwrap();
            // Two at once: round robin sends one of them to each web node.
            let visits =
                [(); 2].map(|()| std::thread::spawn(|| Page(Browser::new(PORTS.start).get(""))));
            let web_1 = PORTS.start + 1;
            until(|| has_bytes_to_read(web_1));
            room::administer("nft", &[&refuse_who_connects_to(web_1)]);
            demo.wait_until(|_| {
                let log = kept_by_the_demo(dir.path(), "balancer.log");
                log.contains("web/web-1 is DOWN").then_some(())
            });
            kill(pid, Signal::SIGCONT).unwrap();
            let pages = visits.map(|visit| visit.join().unwrap());
            assert!(pages.iter().any(|page| page.was_served_by("web-1")), "web-1 was cut off");
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

/// Starts the demo, which keeps its pids and logs in a directory that it makes in `dir`.
fn start(dir: &Path) -> Process {
    let mut command = Command::new(DEMO);
    command.env("TMPDIR", dir);
    command.env("TWINCACHED", env!("CARGO_BIN_EXE_twincached"));
    let mut demo = Process::start(&command, dir.join("demo.log"));
    demo.wait_until(|output| output.contains("Open http://127.0.0.1:8080/").then_some(()));
    demo
}

/// What stands in a file of the demo that was started in `dir`.
fn kept_by_the_demo(dir: &Path, name: &str) -> String {
    let mut files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().join(name));
    fs::read_to_string(files.find(|file| file.exists()).unwrap()).unwrap()
}

/// The commands of nftables with which a port's connections go on, but no new ones are made.
fn refuse_who_connects_to(port: u16) -> String {
    format!(
        "add table ip demo; \
         add chain ip demo in {{ type filter hook input priority 0; }}; \
         add rule ip demo in tcp dport {port} ct state new reject"
    )
}

/// Whether somebody has sent `port` of this machine what has not been read.
fn has_bytes_to_read(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (established, unread) = (fields[3] == "01", !fields[4].ends_with(":00000000"));
        fields[1].ends_with(&local) && established && unread
    })
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
        self.counts_unless_cut_off().expect("a whole page")
    }

    fn counts_until(&mut self, reached: impl Fn(&Page) -> bool) {
        until(|| reached(&self.counts()));
    }

    /// Kills the node, and waits until that has happened.
    fn kills(&mut self, node: &str) {
        self.press("kill", node);
        let is_web_node = node.starts_with("web");
        until(|| {
            let page = if is_web_node { self.counts_unless_cut_off() } else { Some(self.counts()) };
            page.is_some_and(|page| page.shows(node, "killed"))
        });
    }

    /// As [`Visitor::counts`]; None when the web node died in the middle of its answer, which no
    /// balancer can ask for again.
    fn counts_unless_cut_off(&mut self) -> Option<Page> {
        let page = Page(self.browser.get(""));
        if !page.0.trim_end().ends_with("</script>") {
            // The counter was written before the page was sent.
            self.count += 1;
            return None;
        }
        let count: u64 = page.text_of("count").parse().unwrap();
        assert!((1..=RETRIES + 1).contains(&(count - self.count)), "{} {}", self.count, page.0);
        self.count = count;
        Some(page)
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
