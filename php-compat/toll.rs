//! What it costs a site's visitors when its session nodes die: the table of twelve set-ups, for us
//! and for memcached in the same run.
//!
//! Each site has two nodes and sixty visitors, of whom every other one is busy: clicks after each
//! event. A is killed and comes back (a memcached: empty), then B is killed and comes back. At the
//! end everybody has clicked with B away and with both there.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use crate::crowd::{ALL, BUSY, COLUMNS, Crowd, Toll};
use crate::farm::{Farm, Plan};
use crate::room;
use crate::root::Generation;
use crate::server::Make;
use crate::setup::{Hashing, Setup};
use crate::site::{Handler, Protocol};
use crate::web::Web;
use crate::{at_most, machine_to_itself};

const SESSIONS: usize = 60;
/// No server is frozen.
const WAIT_MAX: Duration = Duration::from_millis(500);
const A: usize = 0;
const B: usize = 1;

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
    more("memcached, 2 replicas", Setup { copies: 3, ..libmemcached }, Asks::Both);
    let default = Setup { copies: 1, leaves_failed: false, ..libmemcached };
    more("memcached binary, its defaults", default, Asks::One);
    more("memcached ascii", Setup { protocol: Protocol::Ascii, ..default }, Asks::One);
    cells
}

fn toll(make: Make, setup: Setup) -> Toll {
    let mut farm: Farm = Plan::of(make, 2).start();
    let web = Web::start(&setup.lines(&farm.addresses()), 1);
    let mut crowd = Crowd::of(&web, SESSIONS);
    crowd.click(ALL);
    farm.nodes[A].kill();
    crowd.click(BUSY);
    farm.bring_back(A);
    crowd.click(BUSY);
    farm.nodes[B].kill();
    crowd.click(ALL);
    farm.bring_back(B);
    crowd.click(ALL);
    crowd.toll()
}

/// Nobody is lost for good, whatever PHP was told; and nobody at all whose client asks both nodes.
#[test]
fn the_toll_of_two_deaths_in_twelve_set_ups() {
    let _alone = machine_to_itself();
    let cells = set_ups();
    let tolls: Vec<(Toll, Toll)> = thread::scope(|scope| {
        let play = |setup| move || (toll(Make::Twincached, setup), toll(Make::Memcached, setup));
        let plays: Vec<_> = cells.iter().map(|cell| scope.spawn(play(cell.1))).collect();
        plays.into_iter().map(|play| play.join().unwrap()).collect()
    });
    let mut table = format!(
        "A is killed, comes back, B is killed, comes back ({:?} pecl)\n\
         {:<32} {:<42} {:<42}\n{:<32} {COLUMNS} {COLUMNS}\n",
        Generation::of_php(),
        "on",
        "twincached",
        "memcached",
        "set-up"
    );
    let (mut ours, mut theirs) = (Toll::default(), Toll::default());
    for ((name, ..), (our, their)) in cells.iter().zip(&tolls) {
        let _ = writeln!(table, "{name:<32} {our} {their}");
        ours.add(our);
        theirs.add(their);
    }
    room::show(&format!("{table}{:<32} {ours} {theirs}", "in all"));
    for ((name, _, asks), (our, _)) in cells.iter().zip(&tolls) {
        assert_eq!(our.for_good, 0, "{name}");
        assert_eq!(our.lost_updates, 0, "{name}");
        if *asks == Asks::Both {
            assert_eq!(our.lost, 0, "{name}");
        }
        assert!(our.longest_wait < at_most(WAIT_MAX), "{name}: {:?}", our.longest_wait);
    }
    assert!(theirs.for_good > 0, "a control that loses nothing shows nothing");
}
