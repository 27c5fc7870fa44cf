//! The ten ways in which PHP loses sessions that live in two memcacheds, by their numbers: a pair
//! of ours keeps them, and two memcacheds lose them, or the story would show nothing.
//!
//! pecl memcache is meant where nothing else is said. Not here: nodes that die while pages run
//! ([`crate::outages`]).

use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::{ALL, Crowd, Toll};
use crate::farm::{Farm, Plan};
use crate::machine_to_itself;
use crate::room;
use crate::root::Generation;
use crate::server::Make;
use crate::setup::Setup;
use crate::site::{Handler, Protocol};
use crate::stories::{TABS, id_of, increments_lost, noise};
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
    kept_by_us(true, story);
}

/// The same for a loss that the newer pecl avoids by itself: it asks the second server after a miss.
#[track_caller]
fn kept_by_us_and_lost_by_memcached_to_the_older_pecl(story: impl Fn(Make) -> Toll) {
    kept_by_us(Generation::of_php() == Generation::Older, story);
}

#[track_caller]
fn kept_by_us(is_lost_by_memcached: bool, story: impl Fn(Make) -> Toll) {
    let ours = story(Make::Twincached);
    assert!(ours.is_nothing(), "{ours:?}");
    let theirs = story(Make::Memcached);
    let loses = !theirs.is_nothing();
    assert_eq!(
        loses, is_lost_by_memcached,
        "a control that loses nothing shows nothing: {theirs:?}"
    );
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
    let asks_again = handler == Handler::Memcache && Generation::of_php() == Generation::Newer;
    kept_by_us(!asks_again, |make| {
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
        let mut farm = Plan::of(make, 2).impatient().start();
        let web = web(&farm, Handler::Memcache);
        let mut crowd = Crowd::of(&web, 4);
        crowd.click(ALL);
        for node in [A, B] {
            farm.nodes[node].freeze();
            let since = Instant::now();
            crowd.click(ALL);
            thread::sleep(frozen_for.saturating_sub(since.elapsed()));
            farm.nodes[node].thaw();
            farm.wait_until_in_sync();
            crowd.click(ALL);
            crowd.click(ALL);
        }
        let toll = crowd.toll();
        room::show(&format!("frozen {frozen_for:?}, {make:?}: {toll}"));
        // The client's timeout, and not the lock that it asked the frozen server for.
        let longest = toll.longest_wait;
        assert!(make == Make::Memcached || longest < Duration::from_secs(3), "{longest:?}");
        toll
    });
}

/// Longer than our server stands still without noticing.
#[test]
fn loss_4_a_frozen_server_thaws_and_knows_nothing_of_what_was_written() {
    a_frozen_server_thaws(Duration::from_secs(5));
}

/// A miss is final for the older pecl: what its first server alone has evicted is lost, though the
/// other has it, with our servers, too. A pair with the same memory evicts nothing alone.
#[test]
fn loss_5_what_the_first_server_alone_evicts_is_kept_by_equal_memory() {
    let story = |make, mebibytes: &str| {
        let farm = Plan::of(make, 2).with_at(A, &["-m", mebibytes]).start();
        let web = web(&farm, Handler::Memcache);
        let mut crowd = Crowd::of(&web, SESSIONS);
        let refused = farm.nodes[A].peek().fill(6 << 20);
        // memcached may refuse a few where all cores are busy; a node of ours has always something to evict.
        assert!(refused == 0 || make == Make::Memcached, "{refused} refused by {make:?}");
        crowd.click(ALL);
        crowd.toll()
    };
    let ours = story(Make::Twincached, "64");
    assert!(ours.is_nothing(), "{ours:?}");
    for make in [Make::Twincached, Make::Memcached] {
        let toll = story(make, "4");
        assert_eq!(toll.lost > 0, Generation::of_php() == Generation::Older, "{make:?}: {toll:?}");
    }
}

#[test]
fn loss_6_a_session_is_written_while_its_first_server_is_away() {
    kept_by_us_and_lost_by_memcached_to_the_older_pecl(|make| {
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

/// The client's own doing: after twice `memcache.lock_timeout` it goes on with an empty session,
/// and writes it. README.md's lines make that longer than any page.
#[test]
fn loss_7_a_lock_that_is_held_too_long_wipes_the_session_unless_the_timeout_is_as_recommended() {
    let story = |make, ini: &str| {
        let farm = pair(make);
        let lines = Setup::recommended(Handler::Memcache).lines(&farm.addresses());
        let web = Web::start(&format!("{lines}{ini}\n"), 6);
        let mut crowd = Crowd::of(&web, 1);
        crowd.click_in_tabs("slow.php?seconds=3", 6);
        crowd.look(ALL);
        crowd.toll()
    };
    // On a busy machine a process of `php -S` may accept several tabs before the others wake up: it makes
    // one page after the other, and none of them waits for the lock.
    let wipes =
        || (0..5).any(|_| !story(Make::Memcached, "memcache.lock_timeout = 1").is_nothing());
    let (ours, wiped) = thread::scope(|scope| {
        let wiped = scope.spawn(wipes);
        let ours = scope.spawn(|| story(Make::Twincached, ""));
        (ours.join().unwrap(), wiped.join().unwrap())
    });
    assert!(ours.is_nothing(), "{ours:?}");
    assert!(wiped, "the client learned not to wipe");
}

/// Both servers refuse it and forget the session that it was to replace; so does memcached, whose
/// default limit is ours. A raised limit is the cure, and others lose nothing.
#[test]
fn loss_8_a_session_over_the_item_limit_is_kept_by_a_raised_limit() {
    let story = |make, flags: &[&str]| {
        let farm = Plan::of(make, 2).with(flags).start();
        let web = web(&farm, Handler::Memcache);
        let mut others = Crowd::of(&web, SESSIONS);
        let mut ann = web.visitor();
        ann.get("login.php?user=ann");
        let said = ann.post("store.php", &noise(1_200_000));
        let user = ann.get("whoami.php");
        others.click(ALL);
        let held = farm.holders(id_of(&ann));
        assert!(others.toll().is_nothing());
        (said, user, held)
    };
    for make in [Make::Twincached, Make::Memcached] {
        let (said, user, _) = story(make, &[]);
        assert!(said.contains("Failed to write session data"), "{make:?}: {said}");
        assert_eq!(user, "nobody", "{make:?}: rather none than the one before");
    }
    let (said, user, held) = story(Make::Twincached, &["-I", "4m"]);
    assert_eq!((said.as_str(), user.as_str(), held), ("stored", "ann", vec![A, B]));
}

/// In how many of so many first clicks in eight tabs PHP could not write what it had counted.
fn first_clicks_lost(make: Make, copies: u8, visitors: u32, is_enough: fn(usize) -> bool) -> usize {
    let _alone = machine_to_itself();
    let farm = pair(make);
    let usual = Setup::recommended(Handler::Memcache);
    let setup = Setup { protocol: Protocol::Binary, copies, ..usual };
    let web = Web::start(&setup.lines(&farm.addresses()), TABS);
    let mut lost = 0;
    for number in 0..visitors {
        let mut visitor = web.visitor();
        visitor.set_session_id(&format!("begunbegunbegunbegun{number:06}"));
        lost += increments_lost(&visitor, 2);
        if is_enough(lost) {
            break;
        }
    }
    lost
}

#[test]
fn loss_9_nothing_is_lost_when_a_session_begins_in_many_tabs_in_binary() {
    assert_eq!(first_clicks_lost(Make::Twincached, 1, 100, |_| false), 0);
    assert!(first_clicks_lost(Make::Memcached, 1, 2_000, |lost| lost > 0) > 0);
}

/// Two tabs create one counter on one server, so the other copy makes no difference to memcached; to a
/// pair of ours it is one more way in which each other's first write may come.
#[test]
fn loss_9_nothing_is_lost_when_a_session_of_two_copies_begins_in_many_tabs_in_binary() {
    assert_eq!(first_clicks_lost(Make::Twincached, 2, 100, |_| false), 0);
}

fn replicas_are_not_touched(make: Make) -> Toll {
    const LIFETIME: Duration = Duration::from_secs(4);
    let mut farm = pair(make);
    let lines = Setup::recommended(Handler::Memcached).lines(&farm.addresses());
    let web = Web::start(&format!("{lines}session.gc_maxlifetime = 4\n"), 1);
    let mut crowd = Crowd::of(&web, SESSIONS);
    for _ in 0..6 {
        thread::sleep(LIFETIME / 4);
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
