//! `stats settings`: what was chosen at the start and what was changed since.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::super::Server;
use super::{List, yes_no};
use crate::protocol::response::{Stat, StatValue};
use crate::settings::{BindingProtocol, Settings};

/// `stats settings`.
pub(super) fn settings(server: &Server) -> Vec<Stat> {
    let mut list = List::default();
    listening(server, &mut list);
    limits(&server.settings, &mut list);
    memory(server, &mut list);
    buffers(&server.settings, &mut list);
    external(server, &mut list);
    tls(&server.settings, &mut list);
    let napi_ids = server.settings.shown.napi_ids;
    list.put("num_napi_ids", napi_ids.map_or("(null)".into(), StatValue::from));
    list.put("memory_file", path(server.settings.shown.memory_file.as_deref(), "(null)"));
    list.put("client_flags_size", size_of::<u32>());
    list.0
}

/// A path; `absent` where upstream prints a C null.
fn path(path: Option<&Path>, absent: &'static str) -> StatValue {
    path.map_or(absent.into(), |path| path.display().to_string().into())
}

fn text(text: Option<&String>, absent: &'static str) -> StatValue {
    text.map_or(absent.into(), |text| text.clone().into())
}

fn port(number: i32) -> StatValue {
    u64::try_from(number).map_or_else(|_| number.to_string().into(), StatValue::Number)
}

fn listening(server: &Server, list: &mut List) {
    let settings = &server.settings;
    list.put("maxbytes", server.store.memory_limit());
    list.put("maxconns", settings.conn_limit);
    list.put("tcpport", port(settings.tcp_port));
    list.put("udpport", port(settings.udp_port));
    list.put("inter", text(settings.inter.as_ref(), "NULL"));
    list.put("verbosity", u64::from(server.verbosity.load(Ordering::Relaxed)));
    list.put("oldest", 0_u64);
    list.put("evictions", if settings.evictions { "on" } else { "off" });
    list.put("domain_socket", path(settings.unix_socket.as_deref(), "NULL"));
    list.put("umask", format!("{:o}", settings.unix_mask));
    list.put("shutdown_command", yes_no(settings.enable_shutdown));
    list.put("growth_factor", StatValue::decimal(settings.slab_growth_factor, 2));
    list.put("chunk_size", settings.slab_min_size);
    list.put("num_threads", settings.threads);
    list.put("num_threads_per_udp", settings.threads);
    list.put("stat_key_prefix", char::from(settings.prefix_delimiter).to_string());
    list.put("detail_enabled", yes_no(server.prefixes.is_enabled()));
}

fn limits(settings: &Settings, list: &mut List) {
    list.put("reqs_per_event", settings.max_reqs_per_event);
    list.put("cas_enabled", yes_no(settings.cas));
    list.put("tcp_backlog", settings.listen_backlog);
    let protocol = match settings.protocol {
        BindingProtocol::Auto => "auto-negotiate",
        BindingProtocol::Ascii => "ascii",
        BindingProtocol::Binary => "binary",
    };
    list.put("binding_protocol", protocol);
    list.put("auth_enabled_sasl", yes_no(settings.sasl));
    list.put("auth_enabled_ascii", path(settings.auth_file.as_deref(), "no"));
    list.put("item_size_max", settings.item_size_max);
    list.put("maxconns_fast", yes_no(settings.maxconns_fast));
}

fn memory(server: &Server, list: &mut List) {
    let settings = &server.settings;
    let shown = &settings.shown;
    let tuned = server.tuned.lock().clone();
    list.put("hashpower_init", shown.hashpower_init);
    list.put("slab_reassign", yes_no(shown.slab_reassign));
    list.put("slab_automove", tuned.slab_automove);
    list.put("slab_automove_ratio", StatValue::decimal(tuned.slab_automove_ratio, 2));
    list.put("slab_automove_window", tuned.slab_automove_window);
    list.put("slab_chunk_max", shown.slab_chunk_max);
    list.put("lru_crawler", yes_no(tuned.lru_crawler));
    list.put("lru_crawler_sleep", tuned.lru_crawler_sleep);
    list.put("lru_crawler_tocrawl", tuned.lru_crawler_tocrawl);
    list.put("tail_repair_time", shown.tail_repair_time);
    list.put("flush_enabled", yes_no(settings.flush_enabled));
    list.put("dump_enabled", yes_no(settings.dump_enabled));
    list.put("hash_algorithm", shown.hash_algorithm.clone());
    list.put("lru_maintainer_thread", yes_no(shown.lru_maintainer));
    list.put("lru_segmented", yes_no(tuned.lru_segmented));
    list.put("hot_lru_pct", tuned.hot_lru_pct);
    list.put("warm_lru_pct", tuned.warm_lru_pct);
    list.put("hot_max_factor", StatValue::decimal(tuned.hot_max_factor, 2));
    list.put("warm_max_factor", StatValue::decimal(tuned.warm_max_factor, 2));
    list.put("temp_lru", yes_no(tuned.temp_lru));
    list.put("temporary_ttl", tuned.temporary_ttl);
}

fn buffers(settings: &Settings, list: &mut List) {
    let shown = &settings.shown;
    list.put("idle_timeout", settings.idle_timeout);
    list.put("watcher_logbuf_size", shown.watcher_logbuf_size);
    list.put("worker_logbuf_size", shown.worker_logbuf_size);
    list.put("read_buf_mem_limit", shown.read_buf_mem_limit);
    list.put("track_sizes", yes_no(settings.track_sizes));
    list.put("inline_ascii_response", "no");
    if shown.drop_privileges {
        list.put("drop_privileges", "yes");
    }
}

fn external(server: &Server, list: &mut List) {
    let ext = &server.settings.shown.ext;
    list.put("ext_item_size", ext.item_size);
    list.put("ext_item_age", ext.item_age);
    list.put("ext_low_ttl", ext.low_ttl);
    list.put("ext_recache_rate", ext.recache_rate);
    list.put("ext_wbuf_size", ext.wbuf_size);
    list.put("ext_compact_under", ext.compact_under);
    list.put("ext_drop_under", ext.drop_under);
    list.put("ext_max_sleep", ext.max_sleep);
    list.put("ext_max_frag", StatValue::decimal(ext.max_frag, 2));
    let freeratio = server.tuned.lock().slab_automove_freeratio;
    list.put("slab_automove_freeratio", StatValue::decimal(freeratio, 3));
    list.put("ext_drop_unread", yes_no(ext.drop_unread));
}

fn tls(settings: &Settings, list: &mut List) {
    let tls = &settings.tls;
    list.put("ssl_enabled", yes_no(tls.enabled));
    list.put("ssl_chain_cert", path(tls.chain_cert.as_deref(), "(null)"));
    list.put("ssl_key", path(tls.key.as_deref(), "(null)"));
    list.put("ssl_verify_mode", u64::from(tls.verify_mode));
    list.put("ssl_keyformat", u64::from(tls.keyformat));
    list.put("ssl_ciphers", text(tls.ciphers.as_ref(), "NULL"));
    list.put("ssl_ca_cert", path(tls.ca_cert.as_deref(), "NULL"));
    list.put("ssl_wbuf_size", tls.wbuf_size);
    list.put("ssl_session_cache", yes_no(tls.session_cache));
    list.put("ssl_kernel_tls", yes_no(tls.kernel_tls));
    let min_version = match tls.min_version {
        0 => "tlsv1.0",
        1 => "tlsv1.1",
        2 => "tlsv1.2",
        _ => "tlsv1.3",
    };
    list.put("ssl_min_version", min_version);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, value};
    use super::*;

    /// What memcached 1.6.18 answers with `-l 127.0.0.1`, as changed by 1.6.45: the automove
    /// window is 10, and `client_flags_size` is new.
    const UPSTREAM: &str = "maxbytes 67108864,maxconns 1024,tcpport 11211,udpport 0,\
        inter 127.0.0.1,verbosity 0,oldest 0,evictions on,domain_socket NULL,umask 700,\
        shutdown_command no,growth_factor 1.25,chunk_size 48,num_threads 4,num_threads_per_udp 4,\
        stat_key_prefix :,detail_enabled no,reqs_per_event 20,cas_enabled yes,tcp_backlog 1024,\
        binding_protocol auto-negotiate,auth_enabled_sasl no,auth_enabled_ascii no,\
        item_size_max 1048576,maxconns_fast yes,hashpower_init 0,slab_reassign yes,\
        slab_automove 1,slab_automove_ratio 0.80,slab_automove_window 10,slab_chunk_max 524288,\
        lru_crawler yes,lru_crawler_sleep 100,lru_crawler_tocrawl 0,tail_repair_time 0,\
        flush_enabled yes,dump_enabled yes,hash_algorithm murmur3,lru_maintainer_thread yes,\
        lru_segmented yes,hot_lru_pct 20,warm_lru_pct 40,hot_max_factor 0.20,\
        warm_max_factor 2.00,temp_lru no,temporary_ttl 61,idle_timeout 0,\
        watcher_logbuf_size 262144,worker_logbuf_size 65536,read_buf_mem_limit 0,track_sizes no,\
        inline_ascii_response no,ext_item_size 512,ext_item_age 4294967295,ext_low_ttl 0,\
        ext_recache_rate 2000,ext_wbuf_size 4194304,ext_compact_under 0,ext_drop_under 0,\
        ext_max_sleep 1000000,ext_max_frag 0.80,slab_automove_freeratio 0.010,ext_drop_unread no,\
        ssl_enabled no,ssl_chain_cert (null),ssl_key (null),ssl_verify_mode 0,ssl_keyformat 1,\
        ssl_ciphers NULL,ssl_ca_cert NULL,ssl_wbuf_size 16384,ssl_session_cache no,\
        ssl_kernel_tls no,ssl_min_version tlsv1.2,num_napi_ids (null),memory_file (null),\
        client_flags_size 4";

    #[test]
    fn names_order_and_values_at_defaults_are_upstreams_seventy_seven() {
        let inter = Some("127.0.0.1".to_owned());
        let server = Server::new(Settings { inter, ..Settings::default() });
        let shown = lines(&server, "settings");
        assert_eq!(shown, UPSTREAM.split(',').collect::<Vec<_>>());
        assert_eq!(shown.len(), 77);
    }

    #[test]
    fn what_was_given_is_what_is_shown() {
        let settings = Settings {
            tcp_port: -1,
            unix_socket: Some("/run/tc.sock".into()),
            unix_mask: 0o77,
            evictions: false,
            cas: false,
            protocol: BindingProtocol::Ascii,
            prefix_delimiter: b'/',
            detail_enabled: true,
            slab_growth_factor: 1.5,
            auth_file: Some("/etc/users".into()),
            ..Settings::default()
        };
        let server = Server::new(settings);
        for (name, wanted) in [
            ("tcpport", "-1"),
            ("inter", "NULL"),
            ("domain_socket", "/run/tc.sock"),
            ("umask", "77"),
            ("evictions", "off"),
            ("cas_enabled", "no"),
            ("binding_protocol", "ascii"),
            ("stat_key_prefix", "/"),
            ("detail_enabled", "yes"),
            ("growth_factor", "1.50"),
            ("auth_enabled_ascii", "/etc/users"),
        ] {
            assert_eq!(value(&server, "settings", name), wanted, "{name}");
        }
    }
}
