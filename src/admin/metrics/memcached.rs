//! The families of Prometheus' memcached_exporter, letter for letter: names, types and labels are
//! its interface, odd ones included (two counters of seconds, and slab counters without `_total`).
//! Left out are its groups for extstore and for the proxy, which memcached itself shows only where
//! they are switched on.

use super::family::{Exposition, Family, Kind, Row, counter, gauge};
use super::{Lists, Stats};

const SERVER: &[Row] = &[
    counter("uptime", "memcached_uptime_seconds", "Seconds since the server started."),
    gauge("time", "memcached_time_seconds", "The server's clock in Unix seconds."),
    counter(
        "rusage_user",
        "memcached_process_user_cpu_seconds_total",
        "Processor time of the process in user mode.",
    ),
    counter(
        "rusage_system",
        "memcached_process_system_cpu_seconds_total",
        "Processor time of the process in the kernel.",
    ),
    gauge("bytes", "memcached_current_bytes", "Bytes of the items stored now."),
    gauge("limit_maxbytes", "memcached_limit_bytes", "Bytes that items may take (-m)."),
    gauge("curr_items", "memcached_current_items", "Items stored now."),
    counter("total_items", "memcached_items_total", "Items stored since the start."),
    counter("bytes_read", "memcached_read_bytes_total", "Bytes received from clients."),
    counter("bytes_written", "memcached_written_bytes_total", "Bytes sent to clients."),
    gauge("curr_connections", "memcached_current_connections", "Client connections open now."),
    counter("total_connections", "memcached_connections_total", "Connections accepted."),
    counter(
        "rejected_connections",
        "memcached_connections_rejected_total",
        "Connections refused because -c were open.",
    ),
    counter(
        "conn_yields",
        "memcached_connections_yielded_total",
        "Times a connection had to let others have their turn (-R).",
    ),
    counter(
        "listen_disabled_num",
        "memcached_connections_listener_disabled_total",
        "Times accepting was switched off because -c were open.",
    ),
    counter("evictions", "memcached_items_evicted_total", "Live items pushed out for room."),
    counter(
        "reclaimed",
        "memcached_items_reclaimed_total",
        "Expired items whose memory was reused.",
    ),
    counter(
        "store_too_large",
        "memcached_item_too_large_total",
        "Items refused because they exceeded -I.",
    ),
    counter(
        "store_no_memory",
        "memcached_item_no_memory_total",
        "Items refused because there was no memory.",
    ),
    counter(
        "direct_reclaims",
        "memcached_direct_reclaims_total",
        "Items that a worker evicted or reclaimed for room.",
    ),
    counter(
        "lru_crawler_starts",
        "memcached_lru_crawler_starts_total",
        "Times a crawl over the items began.",
    ),
    counter(
        "crawler_reclaimed",
        "memcached_lru_crawler_reclaimed_total",
        "Expired items found without anybody asking for them.",
    ),
    counter(
        "crawler_items_checked",
        "memcached_lru_crawler_items_checked_total",
        "Items looked at for their expiry.",
    ),
    counter(
        "moves_to_cold",
        "memcached_lru_crawler_moves_to_cold_total",
        "Always 0: there is one LRU order.",
    ),
    counter(
        "moves_to_warm",
        "memcached_lru_crawler_moves_to_warm_total",
        "Always 0: there is one LRU order.",
    ),
    counter(
        "moves_within_lru",
        "memcached_lru_crawler_moves_within_lru_total",
        "Always 0: there is one LRU order.",
    ),
    gauge("total_malloced", "memcached_malloced_bytes", "Memory taken for items from the machine."),
    gauge(
        "accepting_conns",
        "memcached_accepting_connections",
        "1 while connections are accepted, 0 while -c are open.",
    ),
];

const CRAWLER: &[Row] = &[
    gauge("lru_crawler", "memcached_lru_crawler_enabled", "As stats settings shows lru_crawler."),
    gauge(
        "lru_crawler_sleep",
        "memcached_lru_crawler_sleep",
        "As stats settings shows lru_crawler_sleep.",
    ),
    gauge(
        "lru_crawler_tocrawl",
        "memcached_lru_crawler_to_crawl",
        "As stats settings shows lru_crawler_tocrawl.",
    ),
    gauge(
        "lru_maintainer_thread",
        "memcached_lru_crawler_maintainer_thread",
        "As stats settings shows lru_maintainer_thread.",
    ),
    gauge(
        "hot_lru_pct",
        "memcached_lru_crawler_hot_percent",
        "As stats settings shows hot_lru_pct.",
    ),
    gauge(
        "warm_lru_pct",
        "memcached_lru_crawler_warm_percent",
        "As stats settings shows warm_lru_pct.",
    ),
    gauge(
        "hot_max_factor",
        "memcached_lru_crawler_hot_max_factor",
        "As stats settings shows hot_max_factor.",
    ),
    gauge(
        "warm_max_factor",
        "memcached_lru_crawler_warm_max_factor",
        "As stats settings shows warm_max_factor.",
    ),
];

const ITEMS: &[Row] = &[
    gauge("number", "memcached_slab_current_items", "Items of the class stored now."),
    gauge("age", "memcached_slab_items_age_seconds", "Age of the class's oldest item."),
    counter(
        "crawler_reclaimed",
        "memcached_slab_items_crawler_reclaimed_total",
        "Expired items found without anybody asking for them.",
    ),
    counter("evicted", "memcached_slab_items_evicted_total", "Live items pushed out for room."),
    counter(
        "evicted_nonzero",
        "memcached_slab_items_evicted_nonzero_total",
        "Live items with an expiry pushed out for room.",
    ),
    counter(
        "evicted_time",
        "memcached_slab_items_evicted_time_seconds",
        "How long the item evicted last had not been asked for.",
    ),
    counter(
        "evicted_unfetched",
        "memcached_slab_items_evicted_unfetched_total",
        "Items pushed out that nobody had asked for.",
    ),
    counter(
        "expired_unfetched",
        "memcached_slab_items_expired_unfetched_total",
        "Items expired that nobody had asked for.",
    ),
    counter(
        "outofmemory",
        "memcached_slab_items_outofmemory_total",
        "Items refused because there was no memory.",
    ),
    counter(
        "reclaimed",
        "memcached_slab_items_reclaimed_total",
        "Expired items whose memory was reused.",
    ),
    counter(
        "tailrepairs",
        "memcached_slab_items_tailrepairs_total",
        "Always 0: no item can be stuck.",
    ),
    counter("mem_requested", "memcached_slab_mem_requested_bytes", "Bytes of the class's items."),
    counter(
        "moves_to_cold",
        "memcached_slab_items_moves_to_cold",
        "Always 0: there is one LRU order.",
    ),
    counter(
        "moves_to_warm",
        "memcached_slab_items_moves_to_warm",
        "Always 0: there is one LRU order.",
    ),
    counter(
        "moves_within_lru",
        "memcached_slab_items_moves_within_lru",
        "Always 0: there is one LRU order.",
    ),
    gauge("number_hot", "memcached_slab_hot_items", "Always 0: there is one LRU order."),
    gauge("number_warm", "memcached_slab_warm_items", "Always 0: there is one LRU order."),
    gauge("number_cold", "memcached_slab_cold_items", "Items of the class: all are in one order."),
    gauge("number_temp", "memcached_slab_temporary_items", "Always 0: there is one LRU order."),
    gauge("age_hot", "memcached_slab_hot_age_seconds", "Always 0: there is one LRU order."),
    gauge("age_warm", "memcached_slab_warm_age_seconds", "Always 0: there is one LRU order."),
];

const SLABS: &[Row] = &[
    gauge("chunk_size", "memcached_slab_chunk_size_bytes", "Largest item of the class."),
    gauge("chunks_per_page", "memcached_slab_chunks_per_page", "Such items in a MiB."),
    gauge("total_pages", "memcached_slab_current_pages", "Pages that memcached would need."),
    gauge("total_chunks", "memcached_slab_current_chunks", "Chunks in these pages."),
    gauge("used_chunks", "memcached_slab_chunks_used", "Chunks with an item."),
    gauge("free_chunks", "memcached_slab_chunks_free", "Chunks without."),
    gauge("free_chunks_end", "memcached_slab_chunks_free_end", "Always 0."),
];

/// Commands that hit or miss.
const HIT_OR_MISS: [&str; 6] = ["get", "delete", "incr", "decr", "cas", "touch"];

/// The server as a whole.
pub(super) fn server(lists: &Lists, exposition: &mut Exposition) {
    let mut up = Family::new(Kind::Gauge, "memcached_up", "1: the server answers.");
    up.put(&[], Some(1.0));
    exposition.add(up);
    let mut version =
        Family::new(Kind::Gauge, "memcached_version", "1 under the server's version.");
    let label = lists.general.text("version").unwrap_or_default();
    version.put(&[("version", label)], Some(1.0));
    exposition.add(version);
    exposition.add_rows(SERVER, &lists.general);
}

/// Requests by command and outcome.
pub(super) fn commands(lists: &Lists, exposition: &mut Exposition) {
    let stats = &lists.general;
    let mut family = Family::new(
        Kind::Counter,
        "memcached_commands_total",
        "Requests by command and by what became of them.",
    );
    let mut put = |command, status, value| {
        family.put(&[("command", command), ("status", status)], value);
    };
    for command in HIT_OR_MISS {
        put(command, "hit", stats.number(&format!("{command}_hits")));
        put(command, "miss", stats.number(&format!("{command}_misses")));
    }
    put("cas", "badval", stats.number("cas_badval"));
    put("flush", "hit", stats.number("cmd_flush"));
    put("set", "hit", without(stats, "cmd_set", &["cas_hits", "cas_misses", "cas_badval"]));
    exposition.add(family);
}

/// What was chosen at the start or since.
pub(super) fn settings(lists: &Lists, exposition: &mut Exposition) {
    let stats = &lists.settings;
    let connections = [gauge(
        "maxconns",
        "memcached_max_connections",
        "Client connections allowed at once (-c).",
    )];
    exposition.add_rows(&connections, stats);
    if stats.text("lru_crawler") == Some("yes") {
        exposition.add_rows(CRAWLER, stats);
    }
}

/// Items by slab class.
pub(super) fn items(lists: &Lists, exposition: &mut Exposition) {
    exposition.add_rows_by("slab", ITEMS, &lists.items);
    let mut hits = Family::new(
        Kind::Counter,
        "memcached_slab_lru_hits_total",
        "Hits by LRU: all are in the one shown as cold.",
    );
    for (class, stats) in &lists.items {
        for (stat, lru) in [
            ("hits_to_hot", "hot"),
            ("hits_to_warm", "warm"),
            ("hits_to_cold", "cold"),
            ("hits_to_temp", "temporary"),
        ] {
            hits.put(&[("slab", &class.to_string()), ("lru", lru)], stats.number(stat));
        }
    }
    exposition.add(hits);
}

/// Memory and requests by slab class.
pub(super) fn slabs(lists: &Lists, exposition: &mut Exposition) {
    exposition.add_rows_by("slab", SLABS, &lists.slabs);
    let mut commands = Family::new(
        Kind::Counter,
        "memcached_slab_commands_total",
        "Requests by class, command and what became of them.",
    );
    for (class, stats) in &lists.slabs {
        let class = class.to_string();
        let mut put = |command, status, value| {
            let labels = [("slab", class.as_str()), ("command", command), ("status", status)];
            commands.put(&labels, value);
        };
        for command in HIT_OR_MISS {
            put(command, "hit", stats.number(&format!("{command}_hits")));
        }
        put("cas", "badval", stats.number("cas_badval"));
        put("set", "hit", without(stats, "cmd_set", &["cas_hits", "cas_badval"]));
    }
    exposition.add(commands);
}

/// `all` without the `parts` that it includes. Counted one after the other, they may be ahead of it
/// for a moment.
fn without(stats: &Stats, all: &str, parts: &[&str]) -> Option<f64> {
    let parts = parts.iter().map(|part| stats.number(part)).sum::<Option<f64>>()?;
    Some((stats.number(all)? - parts).max(0.0))
}
