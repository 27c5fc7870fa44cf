//! Fifty visitors at once behind the balancer, while one session node after the other is killed and
//! started again, or frozen for a while: what they notice.
//!
//! The short form has a few deaths, the long one (`./test deaths`) a hundred, or as many as
//! `PHP_COMPAT_DEATHS` says. Not here: stories in which one thing happens at a time
//! ([`crate::one_address`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::browser::Browser;
use crate::farm::{Farm, Plan};
use crate::front::{self, Front, Kind};
use crate::one_address::NODE_FLAGS;
use crate::room;
use crate::server::{Make, Transport};
use crate::setup::Setup;
use crate::site::Handler::{self, Memcache, Memcached};
use crate::site::Protocol::{self, Ascii, Binary};
use crate::web::{Customer, Seen, Web};

use self::Before::{Checked, Haproxy, Unchecked};

const VISITORS: usize = 50;
/// How long a visitor looks at a page.
const LOOKS: Duration = Duration::from_millis(150);
/// How long a dead or frozen node stays so, and how long all are well between two blows.
const DEAD: Duration = Duration::from_millis(400);
const AWAY: Duration = Duration::from_secs(5);
const FROZEN: Duration = Duration::from_secs(4);
const WELL: Duration = Duration::from_millis(400);
/// For how long pages wait that found no lock of a dead page, and how long such a lock lives in
/// README.md's lines for one address.
const LONG: Duration = Duration::from_millis(1_500);
const LOCK_LIFE: Duration = Duration::from_secs(5);
/// PHP processes of each of the two web servers.
const WORKERS: usize = 8;

/// What happens to one node after the other.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Death,
    /// A death after which nobody starts the node again for a while.
    Absence,
    /// SIGSTOP, and SIGCONT when it has been missed.
    Freeze,
}

impl Blow {
    fn times(self) -> usize {
        let deaths = std::env::var("PHP_COMPAT_DEATHS").map_or(3, |number| number.parse().unwrap());
        match self {
            Blow::Death => deaths,
            Blow::Absence | Blow::Freeze => deaths.div_ceil(5),
        }
    }

    /// `tell` is called whenever a node has been gone for a while, and when it is there again.
    fn strike(self, farm: &mut Farm, node: usize, tell: impl Fn(&Farm)) {
        match self {
            Blow::Death | Blow::Absence => {
                farm.nodes[node].kill();
                thread::sleep(DEAD);
                tell(farm);
                if matches!(self, Blow::Absence) {
                    thread::sleep(AWAY);
                }
                farm.bring_back(node);
            }
            Blow::Freeze => {
                farm.nodes[node].freeze();
                thread::sleep(FROZEN);
                farm.nodes[node].thaw();
                farm.wait_until_in_sync();
            }
        }
        tell(farm);
    }
}

/// What visitors noticed.
#[derive(Default)]
struct Noticed {
    pages: usize,
    /// Pages for nobody, though the visitor had logged in.
    logged_out: usize,
    /// Pages that did not know of a click that an earlier page had confirmed.
    stale: usize,
    /// Pages that were errors, by what they said.
    errors: BTreeMap<String, usize>,
    /// When they came, as minutes, seconds and milliseconds in the nodes' logs.
    when: Vec<String>,
    /// Those of more than [`LONG`].
    waits: Vec<Duration>,
    longest_wait: Duration,
}

impl Noticed {
    fn note(&mut self, seen: Seen, waited: Duration) {
        self.pages += 1;
        self.longest_wait = self.longest_wait.max(waited);
        self.waits.extend((waited > LONG).then_some(waited));
        match seen {
            Seen::User => (),
            Seen::Nobody => self.logged_out += 1,
            Seen::Stale => self.stale += 1,
            Seen::Trouble(what) => {
                *self.errors.entry(what).or_default() += 1;
                self.when.push(now());
            }
        }
    }

    fn and(mut self, other: Noticed) -> Noticed {
        self.pages += other.pages;
        self.logged_out += other.logged_out;
        self.stale += other.stale;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
        self.when.extend(other.when);
        self.waits.extend(other.waits);
        for (what, times) in other.errors {
            *self.errors.entry(what).or_default() += times;
        }
        self
    }
}

impl fmt::Display for Noticed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Noticed { pages, logged_out, stale, errors, waits, longest_wait, when: _ } = self;
        let longer_than =
            |lives: u32| waits.iter().filter(|wait| **wait > LONG + lives * LOCK_LIFE).count();
        write!(
            f,
            "{pages} pages, logged out {logged_out}, clicks forgotten {stale}, errors {errors:?}, \
             longest wait {:.2} s, pages that waited for more than {LONG:?} {}, than one lock's life \
             more {}, than two {}",
            longest_wait.as_secs_f64(),
            longer_than(0),
            longer_than(1),
            longer_than(2)
        )
    }
}

/// The time of day without its hour.
fn now() -> String {
    let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    format!("{:02}:{:02}.{:03}", millis / 60_000 % 60, millis / 1000 % 60, millis % 1000)
}

/// What stands before so many nodes of one address.
#[derive(Clone, Copy)]
enum Before {
    Haproxy(usize),
    /// nftables, with a checker that takes a dead node out of the rule after [`DEAD`], which is as
    /// long as HAProxy's takes at most, and puts it back when it serves.
    Checked(usize),
    /// nftables, and a rule that nobody changes.
    Unchecked(usize),
}

impl Before {
    fn nodes(self) -> usize {
        let (Haproxy(nodes) | Checked(nodes) | Unchecked(nodes)) = self;
        nodes
    }

    fn kind(self) -> Kind {
        match self {
            Haproxy(_) => Kind::Haproxy,
            Checked(_) | Unchecked(_) => Kind::Nftables,
        }
    }
}

/// How two web servers reach the session nodes.
enum Way {
    /// By one address.
    OneAddress(Before, Handler, Protocol),
    /// By the two addresses of a pair, as README.md has it.
    Pair(Handler),
    /// Each by the unix socket of the node beside it.
    Beside(Handler),
}

impl Way {
    fn opened(&self) -> (Farm, [Web; 2], Front) {
        let two = || Plan::of(Make::Twincached, 2);
        let (farm, lines) = match *self {
            Way::OneAddress(before, handler, protocol) => {
                let farm = Plan::of(Make::Twincached, before.nodes()).with(&NODE_FLAGS).start();
                (farm, [0, 1].map(|_| front::lines(handler, protocol)))
            }
            Way::Pair(handler) => {
                let farm = two().impatient().start();
                let lines = Setup::recommended(handler).lines(&farm.addresses());
                (farm, [lines.clone(), lines])
            }
            Way::Beside(handler) => {
                let farm = two().over(Transport::Unix).with(&NODE_FLAGS).start();
                let lines = [0, 1]
                    .map(|web: usize| front::lines_beside(handler, farm.nodes[web].address()));
                (farm, lines)
            }
        };
        let webs = lines.map(|lines| Web::start(&lines, WORKERS));
        let front = match self {
            Way::OneAddress(before, ..) => {
                Front::before_a_site(Some((before.kind(), &farm)), &webs)
            }
            Way::Pair(_) | Way::Beside(_) => Front::before_a_site(None, &webs),
        };
        (farm, webs, front)
    }

    /// Has whoever looks after the nodes look. Of a pair or a node beside nobody does.
    fn tell(&self, front: &Front, farm: &Farm) {
        match self {
            Way::OneAddress(Haproxy(_) | Checked(_), ..) => front.knows(farm),
            Way::OneAddress(Unchecked(_), ..) | Way::Pair(_) | Way::Beside(_) => (),
        }
    }

    /// How many errors there may be. A web server whose own node is dead is a way like the other to
    /// the balancer, which can choose it each time that it asks again; and a rule that still names a
    /// dead node can choose that one each time.
    fn errors_borne(&self, pages: usize) -> usize {
        match self {
            Way::OneAddress(Haproxy(_), ..) | Way::Pair(_) => 0,
            Way::OneAddress(Checked(_) | Unchecked(_), ..) | Way::Beside(_) => pages / 100,
        }
    }
}

fn nobody_notices(test: &str, way: &Way, blow: Blow) {
    room::enter(test, || {
        let (mut farm, webs, front) = way.opened();
        let log_in =
            |number| Customer::log_in(Browser::new(front::SITE), &format!("visitor-{number}")).0;
        let customers: Vec<_> = (0..VISITORS).map(log_in).collect();
        let over = AtomicBool::new(false);
        let noticed = thread::scope(|scope| {
            let visit = |customer| {
                let over = &over;
                scope.spawn(move || clicks_until(over, customer))
            };
            let visitors: Vec<_> = customers.into_iter().map(visit).collect();
            for time in 0..blow.times() {
                thread::sleep(WELL);
                let node = time % farm.nodes.len();
                blow.strike(&mut farm, node, |farm| way.tell(&front, farm));
            }
            thread::sleep(WELL);
            over.store(true, Ordering::Relaxed);
            visitors.into_iter().map(|it| it.join().unwrap()).fold(Noticed::default(), Noticed::and)
        });
        let retried: usize = webs.iter().map(|web| web.answered(503)).sum();
        room::show(&format!(
            "{test}: {} times {blow:?}, {VISITORS} visitors, {noticed}; \
             {retried} error pages asked for again",
            blow.times()
        ));
        assert_eq!(noticed.logged_out, 0, "sessions lost");
        assert_eq!(noticed.stale, 0, "confirmed clicks forgotten");
        let errors: usize = noticed.errors.values().sum();
        assert!(
            errors <= way.errors_borne(noticed.pages),
            "{:?} at {:?}; HAProxy: {:#?}; nodes: {:#?}",
            noticed.errors,
            noticed.when,
            front.surprises(),
            farm.warnings()
        );
    });
}

/// One visitor, who clicks until it is over.
fn clicks_until(over: &AtomicBool, mut customer: Customer) -> Noticed {
    let mut noticed = Noticed::default();
    while !over.load(Ordering::Relaxed) {
        thread::sleep(LOOKS);
        let since = Instant::now();
        let (seen, _) = customer.click_carefully();
        noticed.note(seen, since.elapsed());
    }
    noticed
}

macro_rules! ways {
    ($($test:ident: $way:expr, $blow:expr;)*) => {
        $(#[test]
        fn $test() {
            nobody_notices(concat!(module_path!(), "::", stringify!($test)), &$way, $blow);
        })*
    };
}

ways! {
    one_address_with_memcache_in_ascii: Way::OneAddress(Haproxy(2), Memcache, Ascii), Blow::Death;
    one_address_with_memcache_in_binary: Way::OneAddress(Haproxy(2), Memcache, Binary), Blow::Death;
    one_address_with_php_memcached_in_ascii: Way::OneAddress(Haproxy(2), Memcached, Ascii), Blow::Death;
    one_address_with_php_memcached_in_binary: Way::OneAddress(Haproxy(2), Memcached, Binary), Blow::Death;
    one_address_of_three_with_memcache: Way::OneAddress(Haproxy(3), Memcache, Ascii), Blow::Death;
    one_address_of_three_with_php_memcached: Way::OneAddress(Haproxy(3), Memcached, Binary), Blow::Death;
    a_checked_rule_with_memcache: Way::OneAddress(Checked(2), Memcache, Ascii), Blow::Death;
    a_checked_rule_with_php_memcached: Way::OneAddress(Checked(2), Memcached, Binary), Blow::Death;
    a_checked_rule_of_three_with_memcache: Way::OneAddress(Checked(3), Memcache, Ascii), Blow::Death;
    a_checked_rule_of_three_with_php_memcached:
        Way::OneAddress(Checked(3), Memcached, Binary), Blow::Death;
    an_unchecked_rule_with_memcache: Way::OneAddress(Unchecked(2), Memcache, Ascii), Blow::Death;
    an_unchecked_rule_with_php_memcached: Way::OneAddress(Unchecked(2), Memcached, Binary), Blow::Death;
    an_unchecked_rule_of_three_with_memcache:
        Way::OneAddress(Unchecked(3), Memcache, Ascii), Blow::Death;
    an_unchecked_rule_of_three_with_php_memcached:
        Way::OneAddress(Unchecked(3), Memcached, Binary), Blow::Death;
    a_pair_with_memcache: Way::Pair(Memcache), Blow::Death;
    a_pair_with_php_memcached: Way::Pair(Memcached), Blow::Death;
    a_node_beside_each_web_server_with_memcache: Way::Beside(Memcache), Blow::Death;
    a_node_beside_each_web_server_with_php_memcached: Way::Beside(Memcached), Blow::Death;
    a_frozen_node_behind_one_address_with_memcache:
        Way::OneAddress(Haproxy(2), Memcache, Ascii), Blow::Freeze;
    a_frozen_node_behind_one_address_with_php_memcached:
        Way::OneAddress(Haproxy(2), Memcached, Binary), Blow::Freeze;
    a_frozen_node_of_three_with_memcache: Way::OneAddress(Haproxy(3), Memcache, Ascii), Blow::Freeze;
    a_frozen_node_of_three_with_php_memcached:
        Way::OneAddress(Haproxy(3), Memcached, Binary), Blow::Freeze;
    a_long_absence_behind_a_checked_rule_with_memcache:
        Way::OneAddress(Checked(2), Memcache, Ascii), Blow::Absence;
    a_long_absence_behind_a_checked_rule_with_php_memcached:
        Way::OneAddress(Checked(2), Memcached, Binary), Blow::Absence;
    a_long_absence_behind_an_unchecked_rule_with_memcache:
        Way::OneAddress(Unchecked(2), Memcache, Ascii), Blow::Absence;
    a_long_absence_behind_an_unchecked_rule_with_php_memcached:
        Way::OneAddress(Unchecked(2), Memcached, Binary), Blow::Absence;
}
