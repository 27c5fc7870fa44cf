//! Every combination of ini lines that people run, on a pair and a triple of ours, each through one
//! session's whole life. The short form lives a slice in which each choice occurs.
//!
//! Not here: what happens in such a life in detail, on one server ([`crate::stories`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::farm::{Farm, Plan};
use crate::room;
use crate::server::{Make, Transport};
use crate::setup::{Hashing, Setup};
use crate::site::{Handler, Protocol};
use crate::stories::{TABS, id_of, increments_lost, noise};
use crate::web::Web;
use crate::{long_form, machine_to_itself};

const CLICKS_A_TAB: usize = 4;

const BOTH: [bool; 2] = [false, true];

/// All that make sense: php-memcached has replicas in binary only and its own switch for locks;
/// pecl memcache always locks, and compresses. More replicas than there are other servers make
/// php-memcached write to the first one twice, the second time without waiting: it loses increments
/// then, with memcached as with us.
fn cells(handler: Handler, nodes: u8) -> Vec<Setup> {
    let usual = Setup::recommended(handler);
    let mut cells = Vec::new();
    for protocol in [Protocol::Ascii, Protocol::Binary] {
        let copies_max = match (handler, protocol) {
            (Handler::Memcache, _) => 3,
            (Handler::Memcached, Protocol::Binary) => nodes,
            (Handler::Memcached, _) => 1,
        };
        for copies in 1..=copies_max {
            for hashing in [Hashing::Standard, Hashing::Consistent] {
                for (persistent, prefix, own) in every_three_choices() {
                    // php-memcached leaves the answers to its replicas' deletes unread on a
                    // connection that it keeps.
                    if handler == Handler::Memcached && persistent && copies > 1 {
                        continue;
                    }
                    let setup = Setup { protocol, copies, hashing, persistent, prefix, ..usual };
                    cells.push(match handler {
                        Handler::Memcache => Setup { compression: own, ..setup },
                        Handler::Memcached => Setup { locking: !own, ..setup },
                    });
                }
            }
        }
    }
    cells
}

fn every_three_choices() -> impl Iterator<Item = (bool, bool, bool)> {
    BOTH.into_iter()
        .flat_map(|one| BOTH.map(|two| (one, two)))
        .flat_map(|(one, two)| BOTH.map(|three| (one, two, three)))
}

/// Lives all cells, or one of eleven: with that step every choice meets every other.
fn live_all(handler: Handler, transport: Transport, nodes: u8) {
    const AT_ONCE: usize = 2;
    let _alone = machine_to_itself();
    let step = if long_form() { 1 } else { 11 };
    let cells: Vec<Setup> = cells(handler, nodes).into_iter().step_by(step).collect();
    let farm = Plan::of(Make::Twincached, nodes.into()).over(transport).start();
    let (next, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(setup) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    lost.fetch_add(live(*setup, &farm), Ordering::Relaxed);
                }
            });
        }
    });
    let (cells, lost) = (cells.len(), lost.into_inner());
    room::show(&format!(
        "{cells} cells of {handler:?} on {nodes} nodes over {transport:?}: {lost} of {} \
         increments lost",
        cells * TABS * CLICKS_A_TAB
    ));
    assert_eq!(lost, 0, "increments");
}

/// A session's whole life; how many increments under the lock were lost.
fn live(setup: Setup, farm: &Farm) -> usize {
    let web = Web::start(&setup.lines(&farm.addresses()), TABS);
    let mut ann = web.visitor();
    assert_eq!(ann.get("login.php?user=ann"), "ann", "{setup:?}");
    assert_eq!(ann.get("whoami.php"), "ann", "{setup:?}");

    let lost = increments_lost(&ann, CLICKS_A_TAB);

    // A value that compresses, one that does not, and none.
    for blob in [vec![b'a'; 30_000], noise(30_000), Vec::new()] {
        assert_eq!(ann.post("store.php", &blob), "stored", "{setup:?}");
        assert!(ann.get_bytes("fetch.php") == blob, "{setup:?}");
    }

    let old_tab = ann.clone();
    let new_id = ann.get("regenerate.php?forget=1");
    assert_eq!(
        (id_of(&ann), ann.clone().get("whoami.php").as_str()),
        (&*new_id, "ann"),
        "{setup:?}"
    );
    // Whatever PHP itself writes twice or once, all nodes hold it, and all forget it.
    let everywhere: Vec<usize> = (0..farm.nodes.len()).collect();
    farm.wait_until_held_by(&setup.key(&new_id), &everywhere);
    farm.wait_until_held_by(&setup.key(id_of(&old_tab)), &[]);
    farm.wait_until_held_by(&setup.lock_key(id_of(&old_tab)), &[]);

    assert_eq!(ann.get("logout.php"), "goodbye", "{setup:?}");
    farm.wait_until_held_by(&setup.key(&new_id), &[]);
    assert_eq!(web.errors(), "", "{setup:?}");
    if setup.locking { lost } else { 0 }
}

#[test]
fn every_way_to_set_pecl_memcache_up_lives_on_a_pair_over_tcp() {
    live_all(Handler::Memcache, Transport::Tcp, 2);
}

#[test]
fn every_way_to_set_pecl_memcache_up_lives_on_a_pair_over_unix_sockets() {
    live_all(Handler::Memcache, Transport::Unix, 2);
}

#[test]
fn every_way_to_set_pecl_memcache_up_lives_on_three_nodes() {
    live_all(Handler::Memcache, Transport::Tcp, 3);
}

#[test]
fn every_way_to_set_php_memcached_up_lives_on_a_pair_over_tcp() {
    live_all(Handler::Memcached, Transport::Tcp, 2);
}

#[test]
fn every_way_to_set_php_memcached_up_lives_on_a_pair_over_unix_sockets() {
    live_all(Handler::Memcached, Transport::Unix, 2);
}

#[test]
fn every_way_to_set_php_memcached_up_lives_on_three_nodes() {
    live_all(Handler::Memcached, Transport::Tcp, 3);
}

/// Expiry, touch and PHP's gc, which sends nothing, for the set-ups that README.md recommends.
fn expires_everywhere(handler: Handler) {
    let setup = Setup::recommended(handler);
    let farm = Plan::of(Make::Twincached, 2).start();
    // gc at every start: it must take nothing from anybody.
    let ini = "session.gc_probability = 1\nsession.gc_divisor = 1\nsession.gc_maxlifetime = 4\n";
    let web = Web::start(&format!("{}{ini}", setup.lines(&farm.addresses())), 1);
    let mut ann = web.visitor();
    ann.get("login.php?user=ann");
    // A page that only looks is a touch or a write, and counts for all nodes.
    for _ in 0..4 {
        thread::sleep(Duration::from_secs(2));
        assert_eq!(ann.get("whoami.php"), "ann");
        farm.wait_until_held_by(&setup.key(id_of(&ann)), &[0, 1]);
    }
    thread::sleep(Duration::from_millis(5_500));
    assert_eq!(farm.holders(&setup.key(id_of(&ann))), [], "it has expired everywhere");
    assert_eq!(ann.get("whoami.php"), "nobody");
}

#[test]
fn a_session_of_pecl_memcache_expires_on_both_nodes() {
    expires_everywhere(Handler::Memcache);
}

#[test]
fn a_session_of_php_memcached_expires_on_both_nodes() {
    expires_everywhere(Handler::Memcached);
}
