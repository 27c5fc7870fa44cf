//! What memcached_exporter has no name for: `twincached_` and the statistic's own name, with `_total`
//! when it is a count.

use super::Lists;
use super::family::{Exposition, Family, Kind, Row, counter, gauge};

/// From `stats`.
const SERVER: &[Row] = &[
    counter("cmd_meta", "twincached_cmd_meta_total", "Meta commands."),
    counter("get_expired", "twincached_get_expired_total", "Misses because the item had expired."),
    counter("get_flushed", "twincached_get_flushed_total", "Misses because of a flush_all."),
    counter("auth_cmds", "twincached_auth_cmds_total", "Logins tried."),
    counter("auth_errors", "twincached_auth_errors_total", "Logins refused."),
    counter("idle_kicks", "twincached_idle_kicks_total", "Connections closed for idleness."),
    counter(
        "time_in_listen_disabled_us",
        "twincached_time_in_listen_disabled_us_total",
        "Microseconds during which nothing was accepted because -c were open.",
    ),
    gauge("threads", "twincached_threads", "Worker threads (-t)."),
    counter(
        "expired_unfetched",
        "twincached_expired_unfetched_total",
        "Items expired that nobody had asked for.",
    ),
    counter(
        "evicted_unfetched",
        "twincached_evicted_unfetched_total",
        "Items evicted that nobody had asked for.",
    ),
    counter(
        "evicted_active",
        "twincached_evicted_active_total",
        "Items evicted although they had been asked for lately.",
    ),
    gauge("log_watchers", "twincached_log_watchers", "Clients that watch the log."),
    counter(
        "log_watcher_skipped",
        "twincached_log_watcher_skipped_total",
        "Log lines that watchers were too slow for.",
    ),
    counter("ssl_new_sessions", "twincached_ssl_new_sessions_total", "TLS sessions begun."),
    counter(
        "ssl_handshake_errors",
        "twincached_ssl_handshake_errors_total",
        "TLS handshakes that failed.",
    ),
    counter("ssl_proto_errors", "twincached_ssl_proto_errors_total", "TLS connections that broke."),
    gauge(
        "time_since_server_cert_refresh",
        "twincached_time_since_server_cert_refresh",
        "Seconds since the certificates were read.",
    ),
];

/// From `stats twincached`.
pub(super) const NODE: &[Row] = &[
    gauge("node", "twincached_node", "The node's number among its peers; 0 without peers."),
    gauge("ready", "twincached_ready", "1 while clients should come."),
    gauge("draining", "twincached_draining", "1 while the server stops."),
    counter(
        "batched_transfers",
        "twincached_batched_transfers_total",
        "Reads and writes of clients' sockets that were made with others in one system call.",
    ),
    counter(
        "moderated_rounds",
        "twincached_moderated_rounds_total",
        "Rests of 30 us of workers near their limit, in which more clients could come.",
    ),
    counter("panics", "twincached_panics_total", "Bugs that ended a connection."),
    counter("udp_datagrams", "twincached_udp_datagrams_total", "Datagrams received."),
    counter("udp_dropped", "twincached_udp_dropped_total", "Datagrams not answered."),
    counter(
        "udp_replies_refused",
        "twincached_udp_replies_refused_total",
        "Answers too long for a source that may be forged.",
    ),
    counter(
        "udp_rate_limited",
        "twincached_udp_rate_limited_total",
        "Datagrams not answered because their source had asked too often (--udp-rate).",
    ),
    counter(
        "accept_emfile",
        "twincached_accept_emfile_total",
        "Connections refused for want of file descriptors.",
    ),
    gauge("memory_limit", "twincached_memory_limit", "Bytes that items may take (-m)."),
    gauge("memory_taken", "twincached_memory_taken", "Bytes taken for items from the machine."),
    gauge("pinned_bytes", "twincached_pinned_bytes", "Bytes of large values that are being sent."),
    gauge("index_bytes", "twincached_index_bytes", "Bytes of the hash table."),
    gauge("prefixes", "twincached_prefixes", "Key prefixes that are counted (stats detail)."),
];

/// What `stats` has beyond memcached_exporter.
pub(super) fn server(lists: &Lists, exposition: &mut Exposition) {
    exposition.add_rows(SERVER, &lists.general);
}

/// What only `stats twincached` has.
pub(super) fn node(lists: &Lists, exposition: &mut Exposition) {
    let mut build =
        Family::new(Kind::Gauge, "twincached_build_info", "1 under twincached's own version.");
    let label = lists.own.text("twincached_version").unwrap_or_default();
    build.put(&[("version", label)], Some(1.0));
    exposition.add(build);
    exposition.add_rows(NODE, &lists.own);
    if let Some(turns) = lists.own.distribution("turn") {
        exposition.add_histogram(
            "twincached_turn_seconds",
            "How long a worker executed and answered what one client had sent (and read and sent it, if not together with others'); one turn in 31.",
            turns,
        );
    }
}
