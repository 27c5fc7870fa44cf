//! Nodes that are killed and restarted while pages run, for every client that asks another node:
//! nobody is logged out, and no click is forgotten.
//!
//! Not here: what memcached makes of the same ([`crate::losses`], [`crate::toll`]).

use std::thread;
use std::time::Duration;

use crate::crowd::{ALL, Crowd};
use crate::farm::{Farm, Plan};
use crate::room;
use crate::server::{Make, Transport};
use crate::setup::Setup;
use crate::site::{Handler, Protocol};
use crate::web::Web;
use crate::{at_most, machine_to_itself};

const SESSIONS: usize = 24;

/// Processes of a pool of php-fpm.
const POOL: usize = 4;

/// Where no server is frozen.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Longer than our server stands still without noticing.
const FROZEN: Duration = Duration::from_secs(5);

/// Those that leave a server which is gone. Not one with persistent connections: a PHP process that
/// slept while both nodes were restarted finds both connections ended, and begins an empty session.
fn clients() -> Vec<Setup> {
    let pecl = Setup::recommended(Handler::Memcache);
    vec![
        pecl,
        Setup { protocol: Protocol::Binary, ..pecl },
        Setup { copies: 3, ..pecl },
        Setup::recommended(Handler::Memcached),
    ]
}

/// Every client, on so many nodes, through `story`; what it cost.
fn through(nodes: usize, transport: Transport, story: impl Fn(&mut Farm, &Web, &mut Crowd)) {
    let _alone = machine_to_itself();
    for setup in clients() {
        let mut farm = Plan::of(Make::Twincached, nodes).over(transport).start();
        let web = Web::start(&setup.lines(&farm.addresses()), 8);
        let mut crowd = Crowd::of(&web, SESSIONS);
        crowd.click(ALL);
        story(&mut farm, &web, &mut crowd);
        crowd.click(ALL);
        let toll = crowd.toll();
        room::show(&format!("{nodes} nodes, {:?} {:?}: {toll}", setup.handler, setup.protocol));
        // A connection that breaks in the middle is an error page of php-memcached's; the next click
        // finds the session as it was.
        match setup.handler {
            Handler::Memcache => assert!(toll.is_nothing(), "{setup:?}: {toll:?}"),
            Handler::Memcached => {
                assert_eq!((toll.for_good, toll.lost_updates), (0, 0), "{toll:?}");
                assert!(
                    toll.troubles.iter().all(|trouble| trouble.starts_with("503 ")),
                    "{toll:?}"
                );
            }
        }
        assert!(toll.longest_wait < at_most(WAIT_MAX), "{setup:?}: {toll:?}");
    }
}

#[test]
fn a_pair_whose_nodes_are_killed_between_requests_loses_nobody() {
    through(2, Transport::Unix, |farm, web, crowd| {
        for node in [0, 1, 0] {
            farm.nodes[node].kill();
            crowd.click(ALL);
            crowd.grow(web, 4);
            farm.bring_back(node);
        }
    });
}

#[test]
fn a_pair_whose_nodes_are_killed_in_the_middle_of_requests_loses_nobody() {
    through(2, Transport::Tcp, |farm, _, crowd| {
        for node in [0, 1, 0, 1] {
            crowd.click_during(|| farm.nodes[node].kill());
            crowd.click_during(|| farm.bring_back(node));
        }
    });
}

#[test]
fn a_pair_whose_nodes_are_restarted_in_turn_loses_nobody() {
    through(2, Transport::Tcp, |farm, _, crowd| {
        // A restart takes 30 ms: a page must not meet two of them.
        for node in [0, 1, 0, 1] {
            crowd.click_during(|| assert!(farm.nodes[node].stop().success()));
            crowd.click_during(|| farm.bring_back(node));
        }
    });
}

#[test]
fn three_nodes_of_which_any_one_is_dead_lose_nobody() {
    through(3, Transport::Tcp, |farm, web, crowd| {
        for node in [0, 1, 2] {
            crowd.click_during(|| farm.nodes[node].kill());
            crowd.click(ALL);
            crowd.grow(web, 4);
            farm.bring_back(node);
        }
    });
}

/// Two web servers with a pool each, whose processes live on from page to page. Not with persistent
/// connections of pecl memcache, for the reason that [`clients`] gives: which process serves a page is
/// chance, and one that none of the pages between two deaths came to has slept.
#[test]
fn pools_of_php_fpm_whose_nodes_are_killed_lose_nobody() {
    let _alone = machine_to_itself();
    for setup in [Handler::Memcache, Handler::Memcached].map(Setup::recommended) {
        let mut farm = Plan::of(Make::Twincached, 2).start();
        let lines = setup.lines(&farm.addresses());
        let webs = [0, 1].map(|_| Web::of_fpm(&lines, POOL));
        let mut crowds = webs.each_ref().map(|web| Crowd::of(web, SESSIONS));
        for node in [0, 1, 0, 1] {
            let [one, other] = &mut crowds;
            one.click_during(|| other.click_during(|| farm.nodes[node].kill()));
            crowds.iter_mut().for_each(|crowd| crowd.click(ALL));
            farm.bring_back(node);
        }
        for toll in crowds.map(Crowd::toll) {
            room::show(&format!("php-fpm, {:?}: {toll}", setup.handler));
            assert_eq!((toll.for_good, toll.lost_updates), (0, 0), "{setup:?}: {toll:?}");
            let are_errors = toll.troubles.iter().all(|trouble| trouble.starts_with("503 "));
            assert!(are_errors, "{setup:?}: {toll:?}");
        }
    }
}

/// The kernel accepts connections for a process that stands still, so libmemcached does not take the
/// server for gone: it waits 5 s for each answer, and goes on when the node does. (pecl memcache, which
/// leaves it after its `timeout`, is in [`crate::losses`], number 4.)
#[test]
fn a_frozen_node_keeps_php_memcached_waiting_and_nothing_is_forgotten() {
    let _alone = machine_to_itself();
    let mut farm = Plan::of(Make::Twincached, 2).impatient().start();
    let setup = Setup::recommended(Handler::Memcached);
    let web = Web::start(&setup.lines(&farm.addresses()), 8);
    let mut crowd = Crowd::of(&web, SESSIONS);
    crowd.click(ALL);
    for node in [0, 1] {
        crowd.click_during(|| {
            farm.nodes[node].freeze();
            thread::sleep(FROZEN);
            farm.nodes[node].thaw();
            farm.wait_until_in_sync();
        });
        crowd.click(ALL);
    }
    let toll = crowd.toll();
    room::show(&format!("php-memcached, each node frozen {FROZEN:?}: {toll}, {:?}", toll.troubles));
    assert_eq!((toll.for_good, toll.lost_updates), (0, 0), "{toll:?}");
    assert!(toll.troubles.iter().all(|trouble| trouble.starts_with("503 ")), "{toll:?}");
}
