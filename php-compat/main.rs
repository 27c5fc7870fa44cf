//! Real PHP, real pages, real cookies: the stories of a site whose sessions live in this server.
//!
//! Picture a [`site`]: a session [`server`] (ours, or the distribution's memcached as oracle), a
//! [`php`] web server in front of it whose ini lines are the ones that README.md shows
//! ([`readme`]), and [`browser`]s that click through `pages/`. A story ([`stories`]) is told once
//! and lived in every cell of the matrix: handler x protocol x transport x server. What passes on
//! the oracle and fails on us is our bug; what fails on both is a story told wrong. What only one
//! way to reach a server has, or has not, is told in [`doors`]. [`demo`] presses the buttons of
//! README.md's demo. Who needs ports and addresses of his own enters a [`room`].
//!
//! Picture, where servers die, a [`farm`] of session [`node`]s that are killed, frozen and started
//! again, and a [`web`] server that was told of all of them ([`setup`]).
//!
//! Picture, where PHP knows one address only, a [`front`] before the farm: stories of it are in
//! [`one_address`], and fifty visitors at once, while nodes die, in [`deaths`].
//!
//! Not here: what the bytes on the wire must be (`protocol-tests/`).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness that cannot go on must fail its test"
)]
#![expect(clippy::disallowed_methods, reason = "deadlines of the harness, not of the server")]

mod browser;
mod crowd;
mod deaths;
mod demo;
mod doors;
mod farm;
mod fpm;
mod front;
mod increments;
mod losses;
mod matrix;
mod node;
mod one_address;
mod outages;
mod peek;
mod php;
#[path = "../protocol-tests/replication/port.rs"]
mod port;
mod process;
#[path = "../protocol-tests/replication/proxy.rs"]
#[expect(dead_code, reason = "wires are only slow here, never cut")]
mod proxy;
mod readme;
mod refusals;
mod room;
mod root;
mod server;
mod setup;
mod site;
mod stories;
mod toll;
mod triple;
mod web;

/// Whether everything runs that there is, however long it takes (`./test php`).
fn long_form() -> bool {
    std::env::var_os("PHP_COMPAT_LONG").is_some()
}

/// How long something may take that is to take no longer than `aim`. The short form is run beside
/// whatever the machine has to do: there it is enough that nobody waits for a lock's or a client's end.
fn at_most(aim: std::time::Duration) -> std::time::Duration {
    const BESIDE_OTHERS: std::time::Duration = std::time::Duration::from_secs(3);
    if long_form() { aim } else { aim.max(BESIDE_OTHERS) }
}

/// Whoever holds it has the other stories of dying servers wait: a dozen sites at once are more than
/// a small machine can do in the time that is measured here.
fn machine_to_itself() -> std::sync::MutexGuard<'static, ()> {
    static MACHINE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One cell's tests: every story, lived on both servers.
macro_rules! cell {
    ($cell:ident: $handler:ident, $protocol:ident, $transport:ident) => {
        mod $cell {
            cell!(@server twincached, Twincached, $handler, $protocol, $transport);
            cell!(@server memcached, Memcached, $handler, $protocol, $transport);
        }
    };
    (@server $name:ident, $server:ident, $handler:ident, $protocol:ident, $transport:ident) => {
        mod $name {
            use crate::site::{Cell, Handler, Protocol};
            use crate::server::{Make, Transport};

            const CELL: Cell = Cell {
                server: Make::$server,
                handler: Handler::$handler,
                protocol: Protocol::$protocol,
                transport: Transport::$transport,
            };

            cell!(@stories
                a_visitor_logs_in_and_comes_back
                a_server_that_hears_no_other_protocol_keeps_the_session
                many_visitors_at_once_each_see_their_own_session
                no_increment_is_lost_under_the_session_lock
                no_increment_is_lost_when_a_session_begins_in_many_tabs
                a_logged_out_session_is_gone_even_for_the_old_cookie
                a_regenerated_id_carries_the_session_over
                a_session_expires_when_nobody_visits
                a_visited_session_outlives_its_lifetime
                an_empty_session_keeps_its_id_and_can_be_filled_later
                a_session_over_the_item_limit_is_refused_and_the_old_one_is_gone
                a_raised_item_limit_takes_the_large_session
                every_byte_and_every_size_comes_back_as_it_was
                the_lock_of_a_dead_page_frees_itself
                strict_mode_replaces_an_id_never_issued_where_the_extension_can
            );
        }
    };
    (@stories $($story:ident)*) => {
        $(#[test]
        fn $story() {
            crate::stories::$story(CELL);
        })*
    };
}

cell!(memcache_ascii_tcp: Memcache, Ascii, Tcp);
cell!(memcache_ascii_unix: Memcache, Ascii, Unix);
cell!(memcache_ascii_udp: Memcache, Ascii, Udp);
cell!(memcache_binary_tcp: Memcache, Binary, Tcp);
cell!(memcache_binary_unix: Memcache, Binary, Unix);
cell!(php_memcached_ascii_tcp: Memcached, Ascii, Tcp);
cell!(php_memcached_ascii_unix: Memcached, Ascii, Unix);
cell!(php_memcached_binary_tcp: Memcached, Binary, Tcp);
cell!(php_memcached_binary_unix: Memcached, Binary, Unix);
cell!(php_memcached_sasl_tcp: Memcached, Sasl, Tcp);
