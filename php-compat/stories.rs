//! What visitors live through, told once for every cell of the matrix.
//!
//! A story speaks of pages and cookies; where it looks into the server (`keeps`, `plant`), it is to
//! show that the session really is there, or to be a page that died.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::browser::Browser;
use crate::server::Make;
use crate::site::{Cell, Handler, Plan, Protocol};

pub(crate) fn a_visitor_logs_in_and_comes_back(cell: Cell) {
    Plan::of(cell).visit(|site| {
        let mut ann = site.visitor();
        assert_eq!(ann.get("whoami.php"), "nobody");
        assert_eq!(ann.get("login.php?user=ann"), "ann");
        assert_eq!(ann.get("whoami.php"), "ann");
        assert_eq!(ann.get("whoami.php"), "ann");
        assert!(site.keeps(id_of(&ann)), "the session is in the server");
        assert_eq!(site.visitor().get("whoami.php"), "nobody");
    });
}

pub(crate) fn a_server_that_hears_no_other_protocol_keeps_the_session(cell: Cell) {
    Plan::of(cell).flags(&cell.protocol.only()).visit(|site| {
        let mut ann = site.visitor();
        assert_eq!(ann.get("login.php?user=ann"), "ann");
        assert_eq!(ann.get("whoami.php"), "ann");
    });
}

pub(crate) fn many_visitors_at_once_each_see_their_own_session(cell: Cell) {
    Plan::of(cell).workers(TABS).visit(|site| {
        thread::scope(|scope| {
            for tab in 0..TABS {
                scope.spawn(move || {
                    let mut visitors: Vec<_> = (0..6).map(|_| site.visitor()).collect();
                    for (number, visitor) in visitors.iter_mut().enumerate() {
                        visitor.get(&format!("login.php?user=visitor-{tab}-{number}"));
                    }
                    for _ in 0..4 {
                        for (number, visitor) in visitors.iter_mut().enumerate() {
                            let name = format!("visitor-{tab}-{number}");
                            assert_eq!(visitor.get("whoami.php"), name);
                        }
                    }
                });
            }
        });
    });
}

pub(crate) fn no_increment_is_lost_under_the_session_lock(cell: Cell) {
    Plan::of(cell).workers(TABS).visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        assert_eq!(increments_lost(&ann, 40), 0);
        assert_eq!(ann.get("whoami.php"), "ann");
    });
}

pub(crate) fn no_increment_is_lost_when_a_session_begins_in_many_tabs(cell: Cell) {
    // Strict mode would give each tab an id of its own.
    let plan = Plan::of(cell).workers(TABS).ini("session.use_strict_mode = 0");
    // An INCREMENT that creates is not one step in memcached 1.6.18: who comes second while the
    // first creates hears NOT_STORED. pecl memcache drops a server that says so, and cannot write.
    let plan = match (cell.server, cell.handler, cell.protocol) {
        (Make::Memcached, Handler::Memcache, Protocol::Binary) => plan.php_may_complain(),
        _ => plan,
    };
    plan.visit(|site| {
        let mut lost = 0;
        for number in 0..6 {
            let mut visitor = site.visitor();
            visitor.set_session_id(&format!("begunbegunbegunbegunbegun{number}"));
            lost += increments_lost(&visitor, 4);
        }
        let complaints = site.php_errors().matches("Failed to write session data").count();
        assert_eq!(lost, complaints, "increments were lost that PHP did not complain of");
    });
}

pub(crate) fn a_logged_out_session_is_gone_even_for_the_old_cookie(cell: Cell) {
    Plan::of(cell).visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        let mut thief = ann.clone();
        let id = id_of(&ann).to_owned();
        assert_eq!(ann.get("logout.php"), "goodbye");
        assert!(!site.keeps(&id), "the server forgot the session");
        assert_eq!(ann.session_id(), None);
        assert_eq!(ann.get("whoami.php"), "nobody");
        assert_eq!(thief.get("whoami.php"), "nobody");
    });
}

pub(crate) fn a_regenerated_id_carries_the_session_over(cell: Cell) {
    Plan::of(cell).visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        let mut old_tab = ann.clone();
        let new_id = ann.get("regenerate.php");
        assert_eq!(id_of(&ann), new_id);
        assert_ne!(id_of(&old_tab), new_id);
        assert_eq!(ann.get("whoami.php"), "ann");
        assert_eq!(old_tab.get("whoami.php"), "ann", "without forget=1 the old id stays good");

        let mut old_tab = ann.clone();
        ann.get("regenerate.php?forget=1");
        assert_eq!(ann.get("whoami.php"), "ann");
        assert!(!site.keeps(id_of(&old_tab)), "the server forgot the old id");
        assert_eq!(old_tab.get("whoami.php"), "nobody");
    });
}

pub(crate) fn a_session_expires_when_nobody_visits(cell: Cell) {
    // README.md's lifetime on a test clock; a real one where there is none.
    let (plan, lifetime) = match cell.has_a_test_clock() {
        true => (Plan::of(cell), 1440),
        false => (Plan::of(cell).ini("session.gc_maxlifetime = 5"), 5),
    };
    plan.visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        site.let_time_pass(Duration::from_secs(lifetime - 3));
        assert!(site.keeps(id_of(&ann)), "not before its time");
        site.let_time_pass(Duration::from_secs(5));
        assert!(!site.keeps(id_of(&ann)), "the server forgot the session");
        assert_eq!(ann.get("whoami.php"), "nobody");
    });
}

pub(crate) fn a_visited_session_outlives_its_lifetime(cell: Cell) {
    // In real time on both servers: pecl memcache sends the expiry as a moment of its own clock.
    Plan::of(cell).ini("session.gc_maxlifetime = 5").visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        for _ in 0..4 {
            thread::sleep(Duration::from_secs(2));
            assert_eq!(ann.get("whoami.php"), "ann");
        }
    });
}

pub(crate) fn an_empty_session_keeps_its_id_and_can_be_filled_later(cell: Cell) {
    Plan::of(cell).visit(|site| {
        let mut visitor = site.visitor();
        assert_eq!(visitor.get("empty.php"), "0");
        let id = id_of(&visitor).to_owned();
        assert!(site.keeps(&id), "a session of no bytes is a session");
        assert_eq!(visitor.get("empty.php"), "0");
        visitor.get("login.php?user=ann");
        assert_eq!(visitor.get("whoami.php"), "ann");
        assert_eq!(id_of(&visitor), id);
    });
}

pub(crate) fn a_session_over_the_item_limit_is_refused_and_the_old_one_is_gone(cell: Cell) {
    Plan::of(cell).php_complains().visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        let complaint = ann.post("store.php", &noise(1_200_000));
        assert!(complaint.contains("Failed to write session data"), "{complaint}");
        assert!(!site.keeps(id_of(&ann)), "rather none than the one before");
        assert_eq!(ann.get("whoami.php"), "nobody");
        ann.get("login.php?user=ann");
        assert_eq!(ann.get("whoami.php"), "ann", "and the site goes on");
    });
}

pub(crate) fn a_raised_item_limit_takes_the_large_session(cell: Cell) {
    Plan::of(cell).flags(&["-I", "4m"]).visit(|site| {
        let mut ann = site.visitor();
        let blob = noise(3_000_000);
        assert_eq!(ann.post("store.php", &blob), "stored");
        assert!(ann.get_bytes("fetch.php") == blob, "3 MB come back as they were");
    });
}

pub(crate) fn every_byte_and_every_size_comes_back_as_it_was(cell: Cell) {
    let all_bytes: Vec<u8> = (0..=255).cycle().take(64 * 256).collect();
    let mut blobs = vec![
        b"\r\nEND\r\n".to_vec(),
        b"VALUE memc.sess.key 0 5\r\nERROR\r\n\0\0\r\n.\r\n".to_vec(),
        all_bytes,
        vec![0; 300_000],
    ];
    // Around the sizes at which buffers are often split, and up to nearly the item limit.
    let sizes = [1, 255, 1023, 1024, 2047, 2048, 2049, 8192, 16_383, 16_385, 65_535, 65_537];
    blobs.extend(sizes.into_iter().chain([262_144, 1_000_000]).map(noise));
    Plan::of(cell).visit(|site| {
        let mut ann = site.visitor();
        for blob in &blobs {
            assert_eq!(ann.post("store.php", blob), "stored");
            let back = ann.get_bytes("fetch.php");
            assert!(&back == blob, "{} bytes came back as {} others", blob.len(), back.len());
        }
    });
}

pub(crate) fn the_lock_of_a_dead_page_frees_itself(cell: Cell) {
    Plan::of(cell).visit(|site| {
        let mut ann = site.visitor();
        ann.get("login.php?user=ann");
        let lock_flags = match cell.handler {
            Handler::Memcache => 768,
            Handler::Memcached => 0,
        };
        site.server.plant(&cell.handler.lock_key(id_of(&ann)), lock_flags, 2, "1");
        let start = Instant::now();
        assert_eq!(ann.get("whoami.php"), "ann", "the waiting page sees the whole session");
        // A lifetime of 2 seconds ends with a second of the server's clock, 1 to 2 seconds later.
        let waited = start.elapsed();
        assert!(waited > Duration::from_millis(900), "the lock held: {waited:?}");
        assert!(waited < Duration::from_secs(8), "waiting did not prolong it: {waited:?}");
    });
}

pub(crate) fn strict_mode_replaces_an_id_never_issued_where_the_extension_can(cell: Cell) {
    const FORGED: &str = "forgedforgedforgedforged22";
    Plan::of(cell).visit(|site| {
        let mut visitor = site.visitor();
        visitor.set_session_id(FORGED);
        visitor.get("login.php?user=ann");
        let replaced = id_of(&visitor) != FORGED;
        match cell.handler {
            Handler::Memcache => assert!(!replaced, "pecl memcache learned strict mode"),
            Handler::Memcached => {
                assert!(replaced, "the forged id was taken");
                assert!(!site.keeps(FORGED), "looking for it stored it");
            }
        }
        assert_eq!(visitor.get("whoami.php"), "ann");
    });
}

/// Browser tabs, and PHP processes, that are busy at the same time.
pub(crate) const TABS: usize = 8;

/// Clicks the counter of one session in all tabs at once; each number up to the last should be seen
/// once. Returns how many were not.
pub(crate) fn increments_lost(visitor: &Browser, clicks: usize) -> usize {
    let click =
        |mut tab: Browser| move || (0..clicks).map(|_| tab.get("count.php")).collect::<Vec<_>>();
    let counts: Vec<String> = thread::scope(|scope| {
        let tabs: Vec<_> = (0..TABS).map(|_| scope.spawn(click(visitor.clone()))).collect();
        tabs.into_iter().flat_map(|tab| tab.join().unwrap()).collect()
    });
    let seen: BTreeSet<usize> = counts.iter().map(|count| count.parse().unwrap()).collect();
    (1..=TABS * clicks).filter(|count| !seen.contains(count)).count()
}

pub(crate) fn id_of(browser: &Browser) -> &str {
    browser.session_id().expect("the site gave an id")
}

/// `length` bytes that do not compress, the same ones each time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
