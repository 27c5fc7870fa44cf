//! What PHP's user sees when something is refused, and that nobody else loses anything by it: ini
//! lines that are wrong, keys and values that no server takes, a node without memory.
//!
//! Not here: the item limit ([`crate::losses`], number 8).

use crate::crowd::{ALL, Crowd};
use crate::farm::{Farm, Plan};
use crate::port::free_port;
use crate::server::Make;
use crate::setup::Setup;
use crate::site::Handler;
use crate::stories::noise;
use crate::web::Web;

const SESSIONS: usize = 12;

fn web(farm: &Farm, handler: Handler, ini: &str) -> Web {
    let lines = Setup::recommended(handler).lines(&farm.addresses());
    Web::start(&format!("{lines}{ini}\n"), 1)
}

/// What PHP says on a page that starts a session, with this save path.
fn said_of(handler: &str, save_path: &str) -> (String, String) {
    let lines = format!("session.save_handler = {handler}\nsession.save_path = \"{save_path}\"\n");
    let web = Web::start(&lines, 1);
    let (status, _) = web.visitor().visit("login.php?user=ann");
    (status, web.errors())
}

#[test]
fn a_wrong_save_path_is_php_s_own_warning() {
    let port = free_port();
    let none = said_of("memcache", &format!("tcp://127.0.0.1:{port}"));
    assert!(none.1.contains("Failed to write session data (memcache)"), "{none:?}");
    let none = said_of("memcached", &format!("127.0.0.1:{port}"));
    assert!(none.1.contains("Failed to create session ID"), "{none:?}");
    let weightless = said_of("memcache", "tcp://127.0.0.1:11211?weight=0");
    assert!(weightless.1.contains("Failed to initialize storage module"), "{weightless:?}");
}

/// An id that no server takes as a key: pecl memcache waits for a lock that it cannot get, twice its
/// timeout; php-memcached says no.
#[test]
fn an_id_of_odd_bytes_harms_nobody_else() {
    for handler in [Handler::Memcache, Handler::Memcached] {
        let farm = Plan::of(Make::Twincached, 2).start();
        let hasty = "memcache.lock_timeout = 1\nmemcached.sess_lock_retries = 2";
        let web = web(&farm, handler, hasty);
        let mut crowd = Crowd::of(&web, SESSIONS);
        let long = "x".repeat(251);
        for odd in ["a%20b", "a%0d%0adelete%20x", "%00", "%ff%fe", "a,b-", &long] {
            let mut visitor = web.visitor();
            visitor.set_session_id(odd);
            visitor.visit("login.php?user=odd");
        }
        crowd.click(ALL);
        let toll = crowd.toll();
        assert!(toll.is_nothing(), "{handler:?}: {toll:?}");
    }
}

fn nodes_without_memory_refuse_and_lose_nothing(handler: Handler) {
    let farm = Plan::of(Make::Twincached, 2).with(&["-M", "-m", "8"]).start();
    let web = web(&farm, handler, "");
    let mut crowd = Crowd::of(&web, SESSIONS);
    let blob = noise(400_000);
    let said: Vec<String> = (0..60).map(|_| web.visitor().post("store.php", &blob)).collect();
    let refused = said.iter().filter(|said| *said != "stored").collect::<Vec<_>>();
    assert!(!refused.is_empty(), "24 MB fitted in 8");
    assert!(
        refused.iter().all(|said| said.contains("Failed to write session data")),
        "{refused:?}"
    );
    crowd.look(ALL);
    let toll = crowd.toll();
    assert_eq!(toll.lost, 0, "{toll:?}");
}

#[test]
fn nodes_out_of_memory_that_may_not_evict_refuse_and_lose_nothing_of_pecl_memcache() {
    nodes_without_memory_refuse_and_lose_nothing(Handler::Memcache);
}

#[test]
fn nodes_out_of_memory_that_may_not_evict_refuse_and_lose_nothing_of_php_memcached() {
    nodes_without_memory_refuse_and_lose_nothing(Handler::Memcached);
}

/// Without `-vv`, which shows every command, as memcached's does.
#[test]
fn a_server_s_log_says_nothing_of_what_sessions_hold() {
    let farm = Plan::of(Make::Twincached, 2).start();
    let web = web(&farm, Handler::Memcache, "");
    let mut ann = web.visitor();
    ann.get("login.php?user=the-secret-of-ann");
    ann.post("store.php", &[b"another-secret".as_slice(), &noise(1_200_000)].concat());
    let id = ann.session_id().unwrap();
    for node in &farm.nodes {
        let log = node.log();
        assert!(!log.contains("secret") && !log.contains(id), "{log}");
    }
}
