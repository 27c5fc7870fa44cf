//! README.md's lines for three servers, of which any two die.

use crate::crowd::{Crowd, Toll};
use crate::farm::{Farm, Plan};
use crate::readme::{Lines, Section};
use crate::server::{Address, Make};
use crate::setup::Setup;
use crate::site::Handler;
use crate::web::Web;

const VISITORS: usize = 30;

/// The lines of a pair, and what differs for three.
fn lines(handler: Handler, farm: &Farm) -> String {
    let addresses = farm.addresses();
    let section = Section::under("Three servers");
    let three = match handler {
        Handler::Memcache => section.first(),
        Handler::Memcached => section.behind("For php-memcached"),
    };
    let ports = addresses.iter().map(|address| match address {
        Address::Tcp(port) => *port,
        Address::Unix(_) | Address::Udp(..) => panic!("three servers are on three machines"),
    });
    let in_places = |Lines(lines): Lines, (number, port)| {
        Lines(lines).with(&format!("web{}:11211", number + 1), &format!("127.0.0.1:{port}"))
    };
    let Lines(three) = ports.enumerate().fold(three, in_places);
    Setup::recommended(handler).lines(&addresses[..2]) + &three
}

fn nobody_is_logged_out(handler: Handler) {
    let mut farm = Plan::of(Make::Twincached, 3).start();
    let web = Web::start(&lines(handler, &farm), 1);
    let mut crowd = Crowd::of(&web, VISITORS);
    for dying in [[0, 1], [1, 2], [2, 0]] {
        for node in dying {
            farm.nodes[node].kill();
            crowd.click(1);
        }
        for node in dying {
            farm.nodes[node].start();
        }
        farm.wait_until_in_sync();
        crowd.click(1);
    }
    let Toll { lost, for_good, lost_updates, .. } = crowd.toll();
    assert_eq!((lost, for_good, lost_updates), (0, 0, 0), "lost, for good, lost updates");
}

#[test]
fn whichever_two_of_three_die_nobody_is_logged_out_with_memcache() {
    nobody_is_logged_out(Handler::Memcache);
}

#[test]
fn whichever_two_of_three_die_nobody_is_logged_out_with_php_memcached() {
    nobody_is_logged_out(Handler::Memcached);
}
