//! What it costs a site's visitors when its session nodes die: the table of twelve set-ups, for us
//! and for memcached in the same run.
//!
//! Each site has two nodes and sixty visitors, of whom every other one is busy: clicks after each
//! event. A is killed and comes back (a memcached: empty), then B is killed and comes back. At the
//! end everybody has clicked with B away and with both there.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::farm::{Farm, Plan};
use crate::root::Generation;
use crate::server::Make;
use crate::setup::{Hashing, Setup};
use crate::site::{Handler, Protocol};
use crate::web::{Customer, Seen, Web};

const SESSIONS: usize = 60;
const A: usize = 0;
const B: usize = 1;

/// What happened to the visitors of one site.
#[derive(Clone, Debug, Default)]
struct Toll {
    sessions: usize,
    /// Visitors who at some time were not seen as who they are.
    lost: usize,
    /// Those who are not, now that all nodes are there again.
    for_good: usize,
    /// Clicks that a later page did not know of.
    lost_updates: usize,
    longest_wait: Duration,
}

impl Toll {
    fn add(&mut self, other: &Toll) {
        self.sessions += other.sessions;
        self.lost += other.lost;
        self.for_good += other.for_good;
        self.lost_updates += other.lost_updates;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Toll { sessions, lost, for_good, lost_updates, longest_wait } = self;
        let wait = format!("{:.2} s", longest_wait.as_secs_f64());
        write!(f, "{sessions:>8} {lost:>5} {for_good:>8} {lost_updates:>8} {wait:>8}")
    }
}

/// Whether the client asks the other node at all when one is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Both,
    One,
}

/// The twelve set-ups.
fn set_ups() -> Vec<(String, Setup, Asks)> {
    let pecl = Setup::recommended(Handler::Memcache);
    let libmemcached = Setup::recommended(Handler::Memcached);
    let mut cells = Vec::new();
    for (name, protocol) in [("ascii", Protocol::Ascii), ("binary", Protocol::Binary)] {
        for copies in 1..=3 {
            let asks = if copies == 1 { Asks::One } else { Asks::Both };
            let name = format!("memcache {name}, redundancy {copies}");
            cells.push((name, Setup { protocol, copies, ..pecl }, asks));
        }
    }
    let mut more = |name: &str, setup, asks| cells.push((name.to_owned(), setup, asks));
    let standard = Setup { hashing: Hashing::Standard, ..pecl };
    more("memcache ascii, standard crc32", standard, Asks::Both);
    more("memcache ascii, persistent", Setup { persistent: true, ..pecl }, Asks::Both);
    more("memcached as recommended", libmemcached, Asks::Both);
    let copies_3 = Setup { copies: 3, ..libmemcached };
    more("memcached, 2 replicas", copies_3, Asks::Both);
    let default = Setup { copies: 1, leaves_failed: false, ..libmemcached };
    more("memcached binary, its defaults", default, Asks::One);
    more("memcached ascii", Setup { protocol: Protocol::Ascii, ..default }, Asks::One);
    cells
}

/// Visitors of one site, and what they have seen so far.
struct Crowd {
    customers: Vec<(Customer, bool)>,
    toll: Toll,
}

impl Crowd {
    fn of(web: &Web) -> Crowd {
        let mut toll = Toll { sessions: SESSIONS, ..Toll::default() };
        let log_in = |number: usize| {
            let (customer, took) = Customer::log_in(web.visitor(), &format!("customer{number}"));
            toll.longest_wait = toll.longest_wait.max(took);
            (customer, false)
        };
        Crowd { customers: (0..SESSIONS).map(log_in).collect(), toll }
    }

    /// Every `step`th visitor clicks; how many were not seen as who they are.
    fn click(&mut self, step: usize) -> usize {
        let mut unseen = 0;
        for (customer, is_lost) in self.customers.iter_mut().step_by(step) {
            let (seen, took) = customer.click();
            self.toll.longest_wait = self.toll.longest_wait.max(took);
            match seen {
                Seen::User => {}
                Seen::Stale => self.toll.lost_updates += 1,
                Seen::Nobody | Seen::Trouble(_) => {
                    unseen += 1;
                    *is_lost = true;
                }
            }
        }
        unseen
    }
}

/// Every other visitor.
const BUSY: usize = 2;
const ALL: usize = 1;

fn toll(make: Make, setup: Setup) -> Toll {
    let mut farm: Farm = Plan::of(make, 2).start();
    let web = Web::start(&setup.lines(&farm.addresses()), 1);
    let mut crowd = Crowd::of(&web);
    crowd.click(ALL);
    farm.nodes[A].kill();
    crowd.click(BUSY);
    farm.bring_back(A);
    crowd.click(BUSY);
    farm.nodes[B].kill();
    crowd.click(ALL);
    farm.bring_back(B);
    crowd.toll.for_good = crowd.click(ALL);
    let Crowd { customers, mut toll } = crowd;
    toll.lost = customers.iter().filter(|(_, is_lost)| *is_lost).count();
    toll
}

/// Nobody is lost for good, whatever PHP was told; and nobody at all whose client asks both nodes.
#[test]
fn the_toll_of_two_deaths_in_twelve_set_ups() {
    let cells = set_ups();
    let tolls: Vec<(Toll, Toll)> = thread::scope(|scope| {
        let play = |setup| move || (toll(Make::Twincached, setup), toll(Make::Memcached, setup));
        let plays: Vec<_> = cells.iter().map(|cell| scope.spawn(play(cell.1))).collect();
        plays.into_iter().map(|play| play.join().unwrap()).collect()
    });
    println!();
    println!(
        "    A is killed, comes back, B is killed, comes back ({:?} pecl)",
        Generation::of_php()
    );
    let columns = "sessions  lost for good  updates  longest";
    println!("    {:<32} {:<42} {:<42}", "", "twincached", "memcached");
    println!("    {:<32} {columns} {columns}", "");
    let (mut ours, mut theirs) = (Toll::default(), Toll::default());
    for ((name, ..), (our, their)) in cells.iter().zip(&tolls) {
        println!("    {name:<32} {our} {their}");
        ours.add(our);
        theirs.add(their);
    }
    println!("    {:<32} {ours} {theirs}", "in all");
    for ((name, _, asks), (our, _)) in cells.iter().zip(&tolls) {
        assert_eq!(our.for_good, 0, "{name}");
        assert_eq!(our.lost_updates, 0, "{name}");
        if *asks == Asks::Both {
            assert_eq!(our.lost, 0, "{name}");
        }
        assert!(our.longest_wait < Duration::from_millis(500), "{name}: {:?}", our.longest_wait);
    }
    assert!(theirs.for_good > 0, "a control that loses nothing shows nothing");
}
