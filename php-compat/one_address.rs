//! Several nodes behind one address, and nobody who remembers where a visitor went last time: what
//! one node was told, the next must know, and a lock taken on one must hold on all.
//!
//! The nodes run as README.md has them for this. Not here: many deaths under many visitors
//! ([`crate::deaths`]).

use std::thread;
use std::time::Duration;

use crate::browser::Browser;
use crate::farm::{Farm, Plan};
use crate::front::{self, Front, Kind};
use crate::readme::Lines;
use crate::room;
use crate::server::Make;
use crate::site::{Handler, Protocol};
use crate::web::{Customer, Seen, Web};

/// The nodes' options, as in README.md.
pub(crate) const NODE_FLAGS: [&str; 6] =
    ["--ack", "all", "--ack-timeout", "2500", "--lock-policy", "exclusive"];

/// PHP processes of each of the two web servers, and tabs that click at the same time.
const TABS: usize = 8;
const CLICKS: usize = 20;

/// A site with one address for its sessions.
struct Site {
    farm: Farm,
    front: Front,
    webs: [Web; 2],
}

impl Site {
    fn open(kind: Kind, handler: Handler, protocol: Protocol, nodes: usize) -> Site {
        let farm = Plan::of(Make::Twincached, nodes).with(&NODE_FLAGS).start();
        let front = Front::open(kind, &farm);
        let lines = front::lines(handler, protocol);
        Site { farm, front, webs: [0, 1].map(|_| Web::start(&lines, TABS / 2)) }
    }

    fn customer(&self, name: &str) -> Customer {
        Customer::log_in(self.webs[0].visitor(), name).0
    }

    /// This visitor at each of the web servers.
    fn at_both(&self, visitor: &Browser) -> [Browser; 2] {
        [0, 1].map(|web: usize| visitor.clone().at(self.webs[web].port()))
    }
}

fn any_request_may_reach_any_node(site: &Site) {
    let gets = |site: &Site| -> Vec<u64> {
        site.farm.nodes.iter().map(|node| node.counts("", "get_hits")).collect()
    };
    let before = gets(site);
    let mut ann = site.webs[0].visitor();
    ann.get("login.php?user=ann");
    for mut tab in site.at_both(&ann) {
        for _ in 0..2 * site.farm.nodes.len() {
            assert_eq!(tab.get("whoami.php"), "ann");
        }
    }
    for (node, (before, after)) in before.into_iter().zip(gets(site)).enumerate() {
        assert!(after > before, "node {node} was asked for nothing");
    }
}

fn no_increment_is_lost_under_the_lock(site: &Site) {
    let mut ann = site.webs[0].visitor();
    ann.get("login.php?user=ann");
    thread::scope(|scope| {
        let click = |mut tab: Browser| {
            (0..CLICKS).for_each(|_| {
                tab.get("count.php");
            });
        };
        for tab in 0..TABS {
            let visitor = site.at_both(&ann)[tab % 2].clone();
            scope.spawn(move || click(visitor));
        }
    });
    let count: usize = ann.get("count.php").parse().unwrap();
    assert_eq!(TABS * CLICKS + 1 - count, 0, "increments lost");
}

fn a_regenerated_id_and_a_logout_are_known_everywhere(site: &Site) {
    let mut ann = site.webs[0].visitor();
    ann.get("login.php?user=ann");
    let old = ann.clone();
    ann.get("regenerate.php?forget=1");
    for _ in 0..site.farm.nodes.len() {
        for mut tab in site.at_both(&ann) {
            assert_eq!(tab.get("whoami.php"), "ann");
        }
        for mut tab in site.at_both(&old) {
            assert_eq!(tab.get("whoami.php"), "nobody", "the old id is good for nothing");
        }
    }
    let thief = ann.clone();
    ann.get("logout.php");
    for _ in 0..site.farm.nodes.len() {
        for mut tab in site.at_both(&thief) {
            assert_eq!(tab.get("whoami.php"), "nobody");
        }
    }
}

fn a_killed_node_takes_no_session_along(site: &mut Site) {
    let mut customers: Vec<_> =
        (0..6).map(|number| site.customer(&format!("visitor-{number}"))).collect();
    for node in 0..site.farm.nodes.len() {
        site.farm.nodes[node].kill();
        site.front.knows(&site.farm);
        everybody_clicks(site, &mut customers, &format!("node {node} is dead"));
        site.farm.bring_back(node);
        site.front.knows(&site.farm);
        everybody_clicks(site, &mut customers, &format!("node {node} is back"));
    }
}

/// Everybody clicks twice. A page may have lost its connection, and is asked for again then, as the
/// web servers' balancer does; its visitor may be neither logged out nor find an earlier click gone.
fn everybody_clicks(site: &Site, customers: &mut [Customer], when: &str) {
    const ASKS: usize = 10;
    for customer in customers {
        for _ in 0..2 {
            let mut asked = (0..ASKS).map(|_| customer.click_carefully().0);
            let seen = asked.find(|seen| !matches!(seen, Seen::Trouble(_)));
            let errors = || site.webs.each_ref().map(Web::errors).concat();
            assert_eq!(seen, Some(Seen::User), "{when}: {}", errors());
        }
    }
}

fn told(test: &str, kind: Kind, handler: Handler, protocol: Protocol, nodes: usize) {
    room::enter(test, || {
        let mut site = Site::open(kind, handler, protocol, nodes);
        any_request_may_reach_any_node(&site);
        no_increment_is_lost_under_the_lock(&site);
        a_regenerated_id_and_a_logout_are_known_everywhere(&site);
        let errors = site.webs.each_ref().map(Web::errors).concat();
        assert_eq!(errors, "", "while nobody dies, PHP has nothing to complain of");
        a_killed_node_takes_no_session_along(&mut site);
    });
}

/// A page begins while no node can be reached, and ends when one can; what its visitor is afterwards.
fn who_is_it_after_a_page_without_a_session(lines: &str) -> String {
    let mut farm = Plan::of(Make::Twincached, 2).with(&NODE_FLAGS).start();
    let front = Front::open(Kind::Nftables, &farm);
    let web = Web::start(lines, 2);
    let mut ann = web.visitor();
    ann.get("login.php?user=ann");
    front.shut();
    let mut tab = ann.clone();
    let late = thread::spawn(move || tab.get("late.php"));
    thread::sleep(Duration::from_millis(500));
    front.knows(&farm);
    assert_eq!(late.join().unwrap(), "nobody", "pecl memcache makes an empty session of a failure");
    farm.wait_until_in_sync();
    ann.get("whoami.php")
}

#[test]
fn a_page_that_could_not_read_its_session_does_not_overwrite_it() {
    let test = "a_page_that_could_not_read_its_session_does_not_overwrite_it";
    room::enter(&format!("{}::{test}", module_path!()), || {
        let lines = front::lines(Handler::Memcache, Protocol::Ascii);
        assert_eq!(who_is_it_after_a_page_without_a_session(&lines), "ann");
    });
}

/// Why README.md has that option.
#[test]
fn without_retry_interval_a_page_that_could_not_read_its_session_overwrites_it() {
    let test = "without_retry_interval_a_page_that_could_not_read_its_session_overwrites_it";
    room::enter(&format!("{}::{test}", module_path!()), || {
        let lines = Lines(front::lines(Handler::Memcache, Protocol::Ascii));
        let lines = lines.with("retry_interval=-1", "retry_interval=1");
        assert_eq!(who_is_it_after_a_page_without_a_session(&lines.0), "nobody");
    });
}

/// One cell: all stories, on a pair and on a triple.
macro_rules! cell {
    ($cell:ident: $kind:ident, $handler:ident, $protocol:ident) => {
        mod $cell {
            use super::told;
            use crate::front::Kind::$kind;
            use crate::site::{Handler::$handler, Protocol::$protocol};

            #[test]
            fn two_nodes_are_one_server_to_the_visitors() {
                let test = concat!(module_path!(), "::two_nodes_are_one_server_to_the_visitors");
                told(test, $kind, $handler, $protocol, 2);
            }

            #[test]
            fn three_nodes_are_one_server_to_the_visitors() {
                let test = concat!(module_path!(), "::three_nodes_are_one_server_to_the_visitors");
                told(test, $kind, $handler, $protocol, 3);
            }
        }
    };
}

cell!(haproxy_memcache_ascii: Haproxy, Memcache, Ascii);
cell!(haproxy_memcache_binary: Haproxy, Memcache, Binary);
cell!(haproxy_php_memcached_ascii: Haproxy, Memcached, Ascii);
cell!(haproxy_php_memcached_binary: Haproxy, Memcached, Binary);
cell!(nftables_memcache_ascii: Nftables, Memcache, Ascii);
cell!(nftables_memcache_binary: Nftables, Memcache, Binary);
cell!(nftables_php_memcached_ascii: Nftables, Memcached, Ascii);
cell!(nftables_php_memcached_binary: Nftables, Memcached, Binary);
