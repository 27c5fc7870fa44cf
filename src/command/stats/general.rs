//! `stats`: the process and what all workers and the store counted; `stats twincached`: what only
//! we count.

use std::sync::atomic::Ordering;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::super::Server;
use super::List;
use crate::clock::Now;
use crate::limits::VERSION;
use crate::protocol::response::{Stat, StatValue};
use crate::readiness::Phase;
use crate::stats::Counts;
use crate::store::StoreCounters;

/// There is no libevent here; monitors expect `x.y.z`, people read the rest.
const EVENT_LIBRARY: &str = "0.0.0-tokio";

/// `stats`. At most [`crate::limits::STATS_REPLY_MAX`] bytes once rendered, whatever was counted.
pub(super) fn general(server: &Server, now: Now) -> Vec<Stat> {
    let counts = server.totals.counts();
    let store = server.store.counters();
    let mut list = List::default();
    process(server, now, &mut list);
    connections(server, &counts, &mut list);
    commands(server, &counts, &mut list);
    limits(server, &counts, &store, &mut list);
    background(server, &mut list);
    tls(server, &counts, now, &mut list);
    list.put_zeros(&["unexpected_napi_ids", "round_robin_fallback"]);
    items(server, &store, &mut list);
    super::replication::repcached(server, &mut list);
    list.0
}

fn process(server: &Server, now: Now, list: &mut List) {
    list.put("pid", std::process::id());
    list.put("uptime", now.seconds().since(server.clock.started().seconds()));
    list.put("time", now.seconds().0);
    list.put("version", VERSION);
    list.put("libevent", EVENT_LIBRARY);
    list.put("pointer_size", usize::BITS);
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
    list.put("rusage_user", seconds(usage.as_ref().map(nix::sys::resource::Usage::user_time)));
    list.put("rusage_system", seconds(usage.as_ref().map(nix::sys::resource::Usage::system_time)));
}

/// Seconds with six decimal places; 0 when the system does not tell.
fn seconds(time: Option<TimeVal>) -> StatValue {
    let micros = time.map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_usec());
    StatValue::Decimal { scaled: micros, places: 6 }
}

fn connections(server: &Server, counts: &Counts, list: &mut List) {
    let structures = server.connections.len();
    let clients = server.connections.iter().filter(|entry| entry.listen_addr.is_some()).count();
    list.put("max_connections", server.settings.conn_limit);
    list.put("curr_connections", clients);
    list.put("total_connections", counts.total_connections);
    if server.settings.maxconns_fast {
        list.put("rejected_connections", counts.rejected_connections);
    }
    list.put("connection_structures", structures);
    list.put_zeros(&[
        "response_obj_oom",
        "response_obj_count",
        "response_obj_bytes",
        "read_buf_count",
        "read_buf_bytes",
        "read_buf_bytes_free",
        "read_buf_oom",
        "reserved_fds",
    ]);
}

fn commands(server: &Server, counts: &Counts, list: &mut List) {
    for (name, count) in counts.named().take_while(|&(name, _)| name != "idle_kicks") {
        list.put(name, count);
    }
    if server.settings.idle_timeout > 0 {
        list.put("idle_kicks", counts.idle_kicks);
    }
    list.put("bytes_read", counts.bytes_read);
    list.put("bytes_written", counts.bytes_written);
}

fn limits(server: &Server, counts: &Counts, store: &StoreCounters, list: &mut List) {
    list.put("limit_maxbytes", server.store.memory_limit());
    list.put("accepting_conns", u64::from(server.accepting.load(Ordering::Relaxed)));
    list.put("listen_disabled_num", server.listen_disabled_num.load(Ordering::Relaxed));
    list.put("time_in_listen_disabled_us", server.listen_disabled_us.load(Ordering::Relaxed));
    list.put("threads", server.settings.threads);
    list.put("conn_yields", counts.conn_yields);
    list.put("hash_power_level", store.hash_power_level);
    list.put("hash_bytes", store.hash_bytes);
    list.put_zeros(&["hash_is_expanding"]);
}

fn background(server: &Server, list: &mut List) {
    let shown = &server.settings.shown;
    if shown.slab_reassign {
        list.put_zeros(&[
            "slab_reassign_rescues",
            "slab_reassign_chunk_rescues",
            "slab_reassign_inline_reclaim",
            "slab_reassign_busy_items",
            "slab_reassign_busy_deletes",
            "slab_reassign_busy_nomem",
            "slab_reassign_last_busy_status",
            "slab_reassign_running",
            "slabs_moved",
        ]);
    }
    let tuned = server.tuned.lock().clone();
    if tuned.lru_crawler {
        list.put_zeros(&["lru_crawler_running"]);
        list.put("lru_crawler_starts", tuned.lru_crawler_starts);
    }
    if shown.lru_maintainer {
        list.put_zeros(&["lru_maintainer_juggles"]);
    }
    let log = server.watch.counts();
    list.put_zeros(&["malloc_fails", "log_worker_dropped"]);
    list.put("log_worker_written", log.written);
    list.put("log_watcher_skipped", log.skipped);
    list.put("log_watcher_sent", log.sent);
    list.put("log_watchers", log.watchers);
}

fn tls(server: &Server, counts: &Counts, now: Now, list: &mut List) {
    let Some(certificates) = &server.certificates else { return };
    if server.settings.tls.session_cache {
        list.put("ssl_new_sessions", counts.ssl_new_sessions);
    }
    list.put("ssl_handshake_errors", counts.ssl_handshake_errors);
    list.put("ssl_proto_errors", counts.ssl_proto_errors);
    list.put("time_since_server_cert_refresh", certificates.age(now));
}

fn items(server: &Server, store: &StoreCounters, list: &mut List) {
    let maintainer = server.settings.shown.lru_maintainer;
    list.put("bytes", store.bytes);
    list.put("curr_items", store.curr_items);
    list.put("total_items", store.total_items);
    list.put_zeros(&["slab_global_page_pool"]);
    list.put("expired_unfetched", store.expired_unfetched);
    list.put("evicted_unfetched", store.evicted_unfetched);
    if maintainer {
        list.put("evicted_active", store.evicted_active);
    }
    list.put("evictions", store.evictions);
    list.put("reclaimed", store.reclaimed);
    list.put("crawler_reclaimed", store.crawler_reclaimed);
    list.put("crawler_items_checked", store.crawler_items_checked);
    list.put_zeros(&["lrutail_reflocked"]);
    if maintainer {
        list.put_zeros(&["moves_to_cold", "moves_to_warm", "moves_within_lru"]);
        list.put("direct_reclaims", store.evictions.saturating_add(store.reclaimed));
        list.put_zeros(&["lru_bumps_dropped"]);
    }
}

/// `stats twincached`.
pub(super) fn twincached(server: &Server) -> Vec<Stat> {
    let store = server.store.counters();
    let mut list = List::default();
    list.put("twincached_version", env!("CARGO_PKG_VERSION"));
    list.put("node", server.peers.as_ref().map_or(0, |peers| u64::from(peers.node())));
    let phase = server.readiness.phase();
    list.put("ready", u64::from(phase == Phase::Ready));
    list.put("draining", u64::from(phase == Phase::Draining));
    let counts = server.totals.counts();
    list.put("batched_transfers", counts.batched_transfers);
    list.put("moderated_rounds", counts.moderated_rounds);
    list.put("panics", counts.panics);
    list.put("udp_datagrams", counts.udp_datagrams);
    list.put("udp_dropped", counts.udp_dropped);
    list.put("udp_replies_refused", counts.udp_replies_refused);
    list.put("udp_rate_limited", counts.udp_rate_limited);
    list.put("accept_emfile", server.accept_emfile.load(Ordering::Relaxed));
    list.put("memory_limit", server.store.memory_limit());
    list.put("memory_taken", store.total_malloced);
    list.put("pinned_bytes", store.pinned_bytes);
    list.put("index_bytes", store.hash_bytes);
    list.put("prefixes", server.prefixes.all().len());
    for (name, count) in counts.named().filter(|(name, _)| name.starts_with("turn_")) {
        list.put(name, count);
    }
    list.0
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, asked, lines, names, value};
    use super::*;
    use crate::command::Certificates;
    use crate::limits::STATS_REPLY_MAX;
    use crate::protocol::response::Response;
    use crate::settings::{Settings, Shown};

    /// COMPATIBILITY section 10; `?x` is there when x, at defaults or not.
    const UPSTREAM: &str = "pid uptime time version libevent pointer_size rusage_user rusage_system \
        max_connections curr_connections total_connections rejected_connections \
        connection_structures response_obj_oom response_obj_count response_obj_bytes \
        read_buf_count read_buf_bytes read_buf_bytes_free read_buf_oom reserved_fds cmd_get \
        cmd_set cmd_flush cmd_touch cmd_meta get_hits get_misses get_expired get_flushed \
        delete_misses delete_hits incr_misses incr_hits decr_misses decr_hits cas_misses \
        cas_hits cas_badval touch_hits touch_misses store_too_large store_no_memory auth_cmds \
        auth_errors bytes_read bytes_written limit_maxbytes accepting_conns listen_disabled_num \
        time_in_listen_disabled_us threads conn_yields hash_power_level hash_bytes \
        hash_is_expanding slab_reassign_rescues slab_reassign_chunk_rescues \
        slab_reassign_inline_reclaim slab_reassign_busy_items slab_reassign_busy_deletes \
        slab_reassign_busy_nomem slab_reassign_last_busy_status slab_reassign_running \
        slabs_moved lru_crawler_running lru_crawler_starts lru_maintainer_juggles malloc_fails \
        log_worker_dropped log_worker_written log_watcher_skipped log_watcher_sent log_watchers \
        unexpected_napi_ids round_robin_fallback bytes curr_items total_items \
        slab_global_page_pool expired_unfetched evicted_unfetched evicted_active evictions \
        reclaimed crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold \
        moves_to_warm moves_within_lru direct_reclaims lru_bumps_dropped";

    fn upstream() -> Vec<&'static str> {
        UPSTREAM.split_whitespace().collect()
    }

    #[test]
    fn names_and_order_are_upstreams_ninety_three() {
        let server = Server::new(Settings::default());
        let list = general(&server, NOW);
        assert_eq!(names(&list), upstream());
        assert_eq!(list.len(), 93);
    }

    #[test]
    fn without_crawler_and_maintainer_there_are_eighty_four() {
        let shown = Shown { lru_crawler: false, lru_maintainer: false, ..Shown::default() };
        let server = Server::new(Settings { shown, ..Settings::default() });
        let list = general(&server, NOW);
        assert_eq!(list.len(), 84);
        let gone =
            ["lru_crawler_", "lru_maintainer_", "evicted_active", "moves_", "direct_", "lru_b"];
        let left = upstream().into_iter().filter(|name| !gone.iter().any(|g| name.starts_with(g)));
        assert_eq!(names(&list), left.collect::<Vec<_>>());
    }

    #[test]
    fn names_come_and_go_with_the_options_that_upstream_ties_them_to() {
        let shown = Shown { slab_reassign: false, ..Shown::default() };
        let settings =
            Settings { idle_timeout: 5, maxconns_fast: false, shown, ..Settings::default() };
        let server = Server::new(settings);
        let list = general(&server, NOW);
        let names = names(&list);
        assert!(!names.iter().any(|name| name.starts_with("slab") && name.contains("_re")));
        assert!(!names.contains(&"rejected_connections"));
        let kicks = names.iter().position(|&name| name == "idle_kicks").expect("idle_kicks");
        assert_eq!(&names[kicks - 1..=kicks + 1], ["auth_errors", "idle_kicks", "bytes_read"]);
        server.tuned.lock().lru_crawler = false;
        assert!(!lines(&server, "").iter().any(|line| line.starts_with("lru_crawler")));
    }

    fn with_tls(settings: Settings) -> Server {
        let mut server = Server::new(settings);
        server.certificates = Some(Certificates::new(NOW, || Ok(())));
        server
    }

    #[test]
    fn tls_adds_three_lines_and_a_session_cache_a_fourth() {
        let shown = Shown { lru_crawler: false, lru_maintainer: false, ..Shown::default() };
        let mut settings = Settings { shown, ..Settings::default() };
        assert_eq!(general(&with_tls(settings.clone()), NOW).len(), 87);
        settings.tls.session_cache = true;
        let server = with_tls(settings);
        let list = general(&server, NOW.plus(std::time::Duration::from_secs(9)));
        let names = names(&list);
        let first = names.iter().position(|&name| name == "ssl_new_sessions").expect("its line");
        assert_eq!(
            &names[first - 1..=first + 4],
            [
                "log_watchers",
                "ssl_new_sessions",
                "ssl_handshake_errors",
                "ssl_proto_errors",
                "time_since_server_cert_refresh",
                "unexpected_napi_ids"
            ]
        );
        assert_eq!(list[first + 3].value, StatValue::from(9_u32));
    }

    /// What can never have more than ten digits.
    const SMALL: [&str; 10] = [
        "pid",
        "uptime",
        "time",
        "pointer_size",
        "max_connections",
        "curr_connections",
        "connection_structures",
        "accepting_conns",
        "threads",
        "time_since_server_cert_refresh",
    ];

    #[test]
    fn the_reply_fits_a_monitors_buffer_even_when_every_count_has_twenty_digits() {
        let mut settings = Settings { idle_timeout: 5, ..Settings::default() };
        settings.tls.session_cache = true;
        for server in [Server::new(settings.clone()), with_tls(settings)] {
            let list = general(&server, NOW);
            let lines = list.iter().map(|Stat { name, value }| {
                let value = match value {
                    StatValue::Text(text) => text.len(),
                    _ if SMALL.contains(&name.as_ref()) => u32::MAX.to_string().len(),
                    _ => u64::MAX.to_string().len(),
                };
                "STAT  \r\n".len() + name.len() + value
            });
            let bytes = lines.sum::<usize>() + "END\r\n".len();
            assert!(bytes <= STATS_REPLY_MAX, "{bytes}");
        }
    }

    #[test]
    fn values_have_the_forms_that_monitors_parse() {
        let server = Server::new(Settings::default());
        server.totals.register().get_hits.add(5);
        assert_eq!(value(&server, "", "get_hits"), "5");
        assert_eq!(value(&server, "", "pid"), std::process::id().to_string());
        assert_eq!(value(&server, "", "time"), NOW.seconds().0.to_string());
        for name in ["rusage_user", "rusage_system"] {
            let value = value(&server, "", name);
            let (whole, micros) = value.split_once('.').expect("seconds.micros");
            assert!(whole.parse::<u64>().is_ok() && micros.len() == 6, "{value}");
        }
        for line in lines(&server, "") {
            assert_eq!(line.split(' ').count(), 2, "{line}: a monitor drops longer lines");
        }
    }

    #[test]
    fn our_own_additions_stand_apart() {
        let server = Server::new(Settings::default());
        server.totals.register().panics.bump();
        assert_eq!(value(&server, "twincached", "panics"), "1");
        let Response::Stats(plain) = asked(&server, "") else { panic!("stats is a list") };
        for own in names(&twincached(&server)) {
            assert!(!names(&plain).contains(&own), "{own}");
        }
    }
}
