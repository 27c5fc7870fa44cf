//! Eight tabs of one visitor count at once, on a pair whose nodes are far apart and whose clocks
//! differ: the client writes to both nodes, the nodes mirror what it wrote, and no late echo may
//! undo a later write.
//!
//! And the price that repcached had: a new session that waits for its own lock.

use std::time::{Duration, Instant};

use crate::farm::{Farm, Plan};
use crate::proxy::Proxy;
use crate::room;
use crate::server::{Address, Make};
use crate::setup::Setup;
use crate::site::{Handler, Protocol};
use crate::stories::{TABS, increments_lost};
use crate::web::Web;
use crate::{at_most, long_form, machine_to_itself};

const CLICKS_A_TAB: usize = 40;

/// A pair of which every byte between the nodes takes `millis`, and B's clock is ahead of A's.
fn pair(millis: u64, skew_ms: i64, flags: &[&str]) -> Farm {
    Plan::of(Make::Twincached, 2)
        .link_delay(Duration::from_millis(millis))
        .with_at(1, &["--test-clock-offset-ms", &skew_ms.to_string()])
        .with(flags)
        .start()
}

/// 320 increments; how many were lost.
fn lost_of_320(farm: &Farm, protocol: Protocol, told: &str) -> usize {
    let setup = Setup { protocol, ..Setup::recommended(Handler::Memcache) };
    let web = Web::start(&setup.lines(&farm.addresses()), TABS);
    let mut ann = web.visitor();
    ann.get("login.php?user=ann");
    let since = Instant::now();
    let lost = increments_lost(&ann, CLICKS_A_TAB);
    let took = since.elapsed().as_secs_f64();
    room::show(&format!("320 locked increments, {protocol:?}, {told}: {lost} lost, {took:.1} s"));
    lost
}

/// One run after the other, which measures each alone.
fn none_of_320_is_lost(protocol: Protocol, millis: u64) {
    // Over a slow link all is waiting, and takes no machine.
    let _alone = (millis < 20).then(machine_to_itself);
    let skews: &[i64] = if long_form() || millis == 0 { &[-200, 0, 200] } else { &[-200] };
    for &skew in skews {
        let farm = pair(millis, skew, &[]);
        let told = format!("link {millis} ms, clock {skew:+} ms");
        assert_eq!(lost_of_320(&farm, protocol, &told), 0, "{protocol:?}, {told}");
    }
}

#[test]
fn no_increment_is_lost_on_a_pair_without_delay_in_ascii() {
    none_of_320_is_lost(Protocol::Ascii, 0);
}

#[test]
fn no_increment_is_lost_on_a_pair_without_delay_in_binary() {
    none_of_320_is_lost(Protocol::Binary, 0);
}

#[test]
fn no_increment_is_lost_over_a_link_of_5_ms_in_ascii() {
    none_of_320_is_lost(Protocol::Ascii, 5);
}

#[test]
fn no_increment_is_lost_over_a_link_of_5_ms_in_binary() {
    none_of_320_is_lost(Protocol::Binary, 5);
}

#[test]
fn no_increment_is_lost_over_a_link_of_50_ms_in_ascii() {
    none_of_320_is_lost(Protocol::Ascii, 50);
}

#[test]
fn no_increment_is_lost_over_a_link_of_50_ms_in_binary() {
    none_of_320_is_lost(Protocol::Binary, 50);
}

/// The way from PHP to one of the nodes is longer: the lock is free at the other before the copy
/// arrives, and the next page writes first.
fn none_is_lost_where_a_node_is_far(setup: Setup, far: usize) {
    const VISITORS: usize = 4;
    let farm = pair(0, 0, &[]);
    let mut addresses = farm.addresses();
    let Address::Tcp(port) = addresses[far] else { unreachable!("a farm over TCP") };
    let way = Proxy::to(*port);
    way.delay(Duration::from_millis(5));
    let over_there = Address::Tcp(way.port);
    addresses[far] = &over_there;
    let web = Web::start(&setup.lines(&addresses), TABS);
    let lost_of_one = |_| {
        let mut ann = web.visitor();
        ann.get("login.php?user=ann");
        increments_lost(&ann, 10)
    };
    // The first node of each visitor is another one.
    let lost: usize = (0..VISITORS).map(lost_of_one).sum();
    let Setup { handler, protocol, .. } = setup;
    room::show(&format!(
        "{} locked increments, {handler:?}, {protocol:?}, node {far} 5 ms away: {lost} lost",
        VISITORS * TABS * 10
    ));
    assert_eq!(lost, 0, "{setup:?}");
}

#[test]
fn no_increment_of_pecl_memcache_is_lost_where_one_node_is_farther_than_the_other() {
    for (protocol, far) in [(Protocol::Ascii, 0), (Protocol::Binary, 1)] {
        let setup = Setup { protocol, ..Setup::recommended(Handler::Memcache) };
        none_is_lost_where_a_node_is_far(setup, far);
    }
}

/// Its copies wait in its memory until the page ends, when the lock is free.
#[test]
fn no_increment_of_php_memcached_is_lost_where_one_node_is_farther_than_the_other() {
    for far in [0, 1] {
        none_is_lost_where_a_node_is_far(Setup::recommended(Handler::Memcached), far);
    }
}

/// What waits for nobody lets an echo come late. It costs sessions whose first server is the one
/// with the slower clock: with each visitor that is another one.
#[test]
fn increments_are_lost_where_replies_wait_for_nobody_and_clocks_differ() {
    for (millis, visitors_max) in [(0, 2), (5, 20), (50, 2)] {
        let farms = [-200, 200].map(|skew| (skew, pair(millis, skew, &["--ack", "async"])));
        let mut runs = farms.iter().cycle().take(visitors_max).map(|(skew, farm)| {
            let told = format!("link {millis} ms, clock {skew:+} ms, --ack async");
            lost_of_320(farm, Protocol::Ascii, &told)
        });
        match millis {
            5 => assert!(runs.any(|lost| lost > 0), "then why wait at all?"),
            _ => runs.for_each(drop),
        }
    }
}

/// With locks that are mirrored, each new session waited for itself for 15 s.
#[test]
fn a_new_session_starts_at_once_whatever_the_redundancy() {
    const VISITORS: usize = 300;
    const LATE_MAX: Duration = Duration::from_millis(50);
    let _alone = machine_to_itself();
    for (protocol, copies) in
        [(Protocol::Ascii, 2), (Protocol::Ascii, 3), (Protocol::Binary, 2), (Protocol::Binary, 3)]
    {
        let farm = Plan::of(Make::Twincached, 2).start();
        let setup = Setup { protocol, copies, ..Setup::recommended(Handler::Memcache) };
        let web = Web::start(&setup.lines(&farm.addresses()), 1);
        let begin = |_| web.visitor().get("begin.php").parse().unwrap();
        let mut micros: Vec<u64> = (0..VISITORS).map(begin).collect();
        micros.sort_unstable();
        let (median, late) = (micros[VISITORS / 2], micros[VISITORS * 99 / 100]);
        room::show(&format!(
            "session_start of new visitors, {protocol:?}, redundancy {copies}: median {:.2} ms, \
             p99 {:.2} ms, longest {:.2} ms",
            millis(median),
            millis(late),
            millis(micros[VISITORS - 1])
        ));
        let late = Duration::from_micros(late);
        assert!(late < at_most(LATE_MAX), "{protocol:?}, redundancy {copies}: {late:?}");
        assert_eq!(web.errors(), "");
    }
}

fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1e3
}
