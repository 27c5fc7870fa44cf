//! What one door alone has: UDP, which pecl memcache hardly uses, and the login.
//!
//! Here stands too what an extension cannot do, with the reason, so that a newer one that can is
//! noticed.

use crate::server::{Make, Transport};
use crate::site::{Cell, Handler, Plan, Protocol};

const fn udp(server: Make, protocol: Protocol) -> Cell {
    Cell { server, handler: Handler::Memcache, protocol, transport: Transport::Udp }
}

const fn sasl(server: Make, transport: Transport) -> Cell {
    Cell { server, handler: Handler::Memcached, protocol: Protocol::Sasl, transport }
}

/// The whole stories of a `udp://` save path are in the matrix; this is why they need no UDP.
#[test]
fn sessions_of_a_udp_save_path_go_over_tcp() {
    Plan::of(udp(Make::Twincached, Protocol::Ascii)).visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        assert_eq!(ann.get("whoami.php"), "ann");
        ann.get("regenerate.php?forget=1");
        ann.get("logout.php");
        assert!(site.server.counts("", "cmd_set") > 0);
        assert_eq!(site.server.counts("twincached", "udp_datagrams"), 0);
    });
}

#[test]
fn a_get_of_several_keys_goes_over_udp_and_finds_them_all() {
    Plan::of(udp(Make::Twincached, Protocol::Ascii)).visit(|site| {
        let mut visitor = site.visitor();
        let mut datagrams = 0;
        // One datagram each way; several back; several each way.
        for (keys, bytes, least) in [(3, 10, 1), (20, 400, 1), (300, 100, 2), (3, 100_000, 1)] {
            let found = visitor.get(&format!("pool.php?keys={keys}&bytes={bytes}"));
            assert_eq!(found, keys.to_string(), "of values of {bytes} bytes");
            let so_far = site.server.counts("twincached", "udp_datagrams");
            assert!(so_far >= datagrams + least, "{keys} keys by {} datagrams", so_far - datagrams);
            datagrams = so_far;
        }
    });
}

/// memcached 1.6.18 answers with a message for each key, which the extension takes for packet loss.
/// A few keys it finds all the same; of 300 it asks again without end.
#[test]
fn memcached_answers_a_get_of_several_keys_in_a_way_that_looks_like_packet_loss() {
    Plan::of(udp(Make::Memcached, Protocol::Ascii)).php_complains().visit(|site| {
        site.visitor().get("pool.php?keys=3&bytes=10");
        let errors = site.php_errors();
        assert!(errors.contains("UDP packet loss"), "{errors}");
    });
}

/// The extension's own words.
#[test]
fn pecl_memcache_sends_the_binary_protocol_over_tcp_only() {
    Plan::of(udp(Make::Twincached, Protocol::Binary)).php_complains().visit(|site| {
        assert_eq!(site.visitor().get("pool.php?keys=3&bytes=10"), "3");
        let errors = site.php_errors();
        assert!(errors.contains("binary protocol isn't support over UDP"), "{errors}");
        assert_eq!(site.server.counts("twincached", "udp_datagrams"), 0);
    });
}

fn without_the_right_login_no_session_starts_and_nothing_is_stored(server: Make) {
    let logins = [
        "memcached.sess_sasl_password = a-long-passworD",
        "memcached.sess_sasl_username = nobody",
        // Neither: the extension then sends no login at all.
        "memcached.sess_sasl_username = \nmemcached.sess_sasl_password = ",
    ];
    for login in logins {
        let plan = Plan::of(sasl(server, Transport::Tcp)).ini(login).php_complains();
        plan.visit(|site| {
            let mut ann = site.visitor();
            ann.refused("login.php?user=ann");
            let errors = site.php_errors();
            assert!(errors.contains("Failed to create session ID"), "{login}: {errors}");
            assert_eq!(ann.session_id(), None, "{login}");
            assert_eq!(site.server.counts("", "total_items"), 0, "{login}");
        });
    }
}

#[test]
fn without_the_right_login_no_session_starts_and_nothing_is_stored_in_twincached() {
    without_the_right_login_no_session_starts_and_nothing_is_stored(Make::Twincached);
}

#[test]
fn without_the_right_login_no_session_starts_and_nothing_is_stored_in_memcached() {
    without_the_right_login_no_session_starts_and_nothing_is_stored(Make::Memcached);
}

/// libmemcached 1.1.4 logs in where it connects over TCP. On a unix socket it sends its first
/// command at once, whichever server it talks to.
fn libmemcached_cannot_log_in_over_a_unix_socket(server: Make) {
    let plan = Plan::of(sasl(server, Transport::Unix)).php_complains();
    plan.visit(|site| {
        let logins_of_ours = 1;
        site.visitor().refused("whoami.php");
        let errors = site.php_errors();
        assert!(errors.contains("Failed to create session ID"), "{errors}");
        assert_eq!(site.server.counts("", "auth_cmds"), logins_of_ours, "no login was sent");
        assert_eq!(site.server.counts("", "auth_errors"), 0);
    });
}

#[test]
fn libmemcached_cannot_log_in_to_twincached_over_a_unix_socket() {
    libmemcached_cannot_log_in_over_a_unix_socket(Make::Twincached);
}

#[test]
fn libmemcached_cannot_log_in_to_memcached_over_a_unix_socket() {
    libmemcached_cannot_log_in_over_a_unix_socket(Make::Memcached);
}
