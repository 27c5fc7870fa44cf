//! The ten ways in which PHP loses sessions that live in two memcacheds, by their numbers: a pair
//! of ours keeps them, and two memcacheds lose them, or the story would show nothing.
//!
//! pecl memcache is meant where nothing else is said. Not here: nodes that die while pages run
//! ([`crate::outages`]).

use std::time::Duration;

use crate::crowd::{ALL, Crowd, Toll};
use crate::farm::{Farm, Plan};
use crate::server::Make;
use crate::setup::Setup;
use crate::site::Handler;
use crate::web::Web;

const A: usize = 0;
const B: usize = 1;

/// Enough that some of them have A, and some B, for their first server.
const SESSIONS: usize = 12;

fn pair(make: Make) -> Farm {
    Plan::of(make, 2).start()
}

fn web(farm: &Farm, handler: Handler) -> Web {
    Web::start(&Setup::recommended(handler).lines(&farm.addresses()), 1)
}

/// Lives the story with both makes.
#[track_caller]
fn kept_by_us_and_lost_by_memcached(story: impl Fn(Make) -> Toll) {
    let ours = story(Make::Twincached);
    assert!(ours.is_nothing(), "{ours:?}");
    let theirs = story(Make::Memcached);
    assert!(!theirs.is_nothing(), "a control that loses nothing shows nothing: {theirs:?}");
}

/// Whatever the server does, the client asks nobody else; but here the session is there again
/// when the server is. (Behind a balancer it is never away.)
#[test]
fn loss_1_a_session_with_one_server_is_back_when_the_server_is() {
    let story = |make| {
        let mut farm = pair(make);
        let setup = Setup { copies: 1, ..Setup::recommended(Handler::Memcache) };
        let web = Web::start(&setup.lines(&farm.addresses()), 1);
        let mut crowd = Crowd::of(&web, SESSIONS);
        for node in [A, B] {
            farm.nodes[node].kill();
            crowd.click(ALL);
            farm.bring_back(node);
        }
        crowd.click(ALL);
        crowd.toll()
    };
    let (ours, theirs) = (story(Make::Twincached), story(Make::Memcached));
    assert_eq!((ours.for_good, ours.lost_updates), (0, 0), "{ours:?}");
    assert!(ours.lost > 0, "the client learned to ask the other server: {ours:?}");
    assert_eq!(theirs.for_good, SESSIONS, "{theirs:?}");
}

fn a_server_returns_empty(handler: Handler) {
    kept_by_us_and_lost_by_memcached(|make| {
        let mut farm = pair(make);
        let web = web(&farm, handler);
        let mut crowd = Crowd::of(&web, SESSIONS);
        for node in [A, B] {
            farm.nodes[node].kill();
            farm.bring_back(node);
            crowd.click(ALL);
            crowd.click(ALL);
        }
        crowd.toll()
    });
}

#[test]
fn loss_2_a_server_returns_empty_with_pecl_memcache() {
    a_server_returns_empty(Handler::Memcache);
}

#[test]
fn loss_2_a_server_returns_empty_with_php_memcached() {
    a_server_returns_empty(Handler::Memcached);
}

fn both_servers_restart_and_nobody_clicks_between(handler: Handler) {
    kept_by_us_and_lost_by_memcached(|make| {
        let mut farm = pair(make);
        let web = web(&farm, handler);
        let mut crowd = Crowd::of(&web, SESSIONS);
        farm.nodes[B].kill();
        farm.bring_back(B);
        farm.nodes[A].kill();
        crowd.click(ALL);
        crowd.toll()
    });
}

#[test]
fn loss_3_b_restarts_empty_and_a_dies_before_the_session_is_touched_with_pecl_memcache() {
    both_servers_restart_and_nobody_clicks_between(Handler::Memcache);
}

#[test]
fn loss_3_b_restarts_empty_and_a_dies_before_the_session_is_touched_with_php_memcached() {
    both_servers_restart_and_nobody_clicks_between(Handler::Memcached);
}

fn a_frozen_server_thaws(frozen_for: Duration) {
    kept_by_us_and_lost_by_memcached(|make| {
        let mut farm = pair(make);
        let web = web(&farm, Handler::Memcache);
        let mut crowd = Crowd::of(&web, 4);
        crowd.click(ALL);
        for node in [A, B] {
            farm.nodes[node].freeze();
            let since = std::time::Instant::now();
            crowd.click(ALL);
            std::thread::sleep(frozen_for.saturating_sub(since.elapsed()));
            farm.nodes[node].thaw();
            farm.wait_until_in_sync();
            crowd.click(ALL);
            crowd.click(ALL);
        }
        let toll = crowd.toll();
        println!("    frozen {frozen_for:?}, {make:?}: {toll}");
        toll
    });
}

/// Longer than our server stands still without noticing.
#[test]
fn loss_4_a_frozen_server_thaws_and_knows_nothing_of_what_was_written() {
    a_frozen_server_thaws(Duration::from_secs(5));
}

/// An item that one memcached alone has lost, by an eviction or a deletion, is lost for PHP. On a
/// pair of ours a node cannot lose one alone, while both have the same memory.
#[test]
fn loss_5_an_item_is_evicted_on_its_first_server() {
    kept_by_us_and_lost_by_memcached(|make| {
        let farm = pair(make);
        let web = web(&farm, Handler::Memcache);
        let mut crowd = Crowd::of(&web, SESSIONS);
        farm.nodes[A].peek().fill(80 << 20);
        crowd.click(ALL);
        crowd.toll()
    });
}

#[test]
fn loss_6_a_session_is_written_while_its_first_server_is_away() {
    kept_by_us_and_lost_by_memcached(|make| {
        let mut farm = pair(make);
        let web = web(&farm, Handler::Memcache);
        let mut crowd = Crowd::of(&web, 0);
        for node in [A, B] {
            farm.nodes[node].kill();
            crowd.grow(&web, SESSIONS);
            farm.bring_back(node);
            crowd.click(ALL);
        }
        crowd.toll()
    });
}

fn replicas_are_not_touched(make: Make) -> Toll {
    const LIFETIME: Duration = Duration::from_secs(4);
    let mut farm = pair(make);
    let lines = Setup::recommended(Handler::Memcached).lines(&farm.addresses());
    let web = Web::start(&format!("{lines}session.gc_maxlifetime = 4\n"), 1);
    let mut crowd = Crowd::of(&web, SESSIONS);
    for _ in 0..6 {
        std::thread::sleep(LIFETIME / 4);
        crowd.look(ALL);
    }
    farm.nodes[A].kill();
    crowd.look(ALL);
    crowd.toll()
}

#[test]
fn loss_10_a_visited_session_of_php_memcached_expires_on_the_replica() {
    kept_by_us_and_lost_by_memcached(replicas_are_not_touched);
}
