use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::clock::Now;
use crate::item::Expiry;
use crate::settings::Settings;
use crate::store::{Mode, Write};

/// What memcached_exporter shows of a memcached 1.6, slab classes included: name, type, labels.
const EXPORTER: &str = "
    memcached_accepting_connections gauge
    memcached_commands_total counter command status
    memcached_connections_listener_disabled_total counter
    memcached_connections_rejected_total counter
    memcached_connections_total counter
    memcached_connections_yielded_total counter
    memcached_current_bytes gauge
    memcached_current_connections gauge
    memcached_current_items gauge
    memcached_direct_reclaims_total counter
    memcached_item_no_memory_total counter
    memcached_item_too_large_total counter
    memcached_items_evicted_total counter
    memcached_items_reclaimed_total counter
    memcached_items_total counter
    memcached_limit_bytes gauge
    memcached_lru_crawler_enabled gauge
    memcached_lru_crawler_hot_max_factor gauge
    memcached_lru_crawler_hot_percent gauge
    memcached_lru_crawler_items_checked_total counter
    memcached_lru_crawler_maintainer_thread gauge
    memcached_lru_crawler_moves_to_cold_total counter
    memcached_lru_crawler_moves_to_warm_total counter
    memcached_lru_crawler_moves_within_lru_total counter
    memcached_lru_crawler_reclaimed_total counter
    memcached_lru_crawler_sleep gauge
    memcached_lru_crawler_starts_total counter
    memcached_lru_crawler_to_crawl gauge
    memcached_lru_crawler_warm_max_factor gauge
    memcached_lru_crawler_warm_percent gauge
    memcached_malloced_bytes gauge
    memcached_max_connections gauge
    memcached_process_system_cpu_seconds_total counter
    memcached_process_user_cpu_seconds_total counter
    memcached_read_bytes_total counter
    memcached_slab_chunk_size_bytes gauge slab
    memcached_slab_chunks_free gauge slab
    memcached_slab_chunks_free_end gauge slab
    memcached_slab_chunks_per_page gauge slab
    memcached_slab_chunks_used gauge slab
    memcached_slab_cold_items gauge slab
    memcached_slab_commands_total counter slab command status
    memcached_slab_current_chunks gauge slab
    memcached_slab_current_items gauge slab
    memcached_slab_current_pages gauge slab
    memcached_slab_hot_age_seconds gauge slab
    memcached_slab_hot_items gauge slab
    memcached_slab_items_age_seconds gauge slab
    memcached_slab_items_crawler_reclaimed_total counter slab
    memcached_slab_items_evicted_nonzero_total counter slab
    memcached_slab_items_evicted_time_seconds counter slab
    memcached_slab_items_evicted_total counter slab
    memcached_slab_items_evicted_unfetched_total counter slab
    memcached_slab_items_expired_unfetched_total counter slab
    memcached_slab_items_moves_to_cold counter slab
    memcached_slab_items_moves_to_warm counter slab
    memcached_slab_items_moves_within_lru counter slab
    memcached_slab_items_outofmemory_total counter slab
    memcached_slab_items_reclaimed_total counter slab
    memcached_slab_items_tailrepairs_total counter slab
    memcached_slab_lru_hits_total counter slab lru
    memcached_slab_mem_requested_bytes counter slab
    memcached_slab_temporary_items gauge slab
    memcached_slab_warm_age_seconds gauge slab
    memcached_slab_warm_items gauge slab
    memcached_time_seconds gauge
    memcached_up gauge
    memcached_uptime_seconds counter
    memcached_version gauge version
    memcached_written_bytes_total counter";

fn put(server: &Server, key: &[u8], length: usize) {
    let now: Now = server.clock.now();
    let value = vec![b'x'; length];
    let write = Write::new(Mode::Set, &value, 0, Expiry::NEVER);
    server.store.write(server.store.key(key), &write, now).expect("stored");
}

fn with_items() -> Server {
    let server = Server::new(Settings::default());
    server.tuned.lock().temp_lru = true;
    put(&server, b"small", 10);
    put(&server, b"large", 3000);
    server
}

/// The samples by `name{labels}`.
pub(super) fn samples(server: &Server) -> BTreeMap<String, f64> {
    let text = exposition(server).expect("every family has a name and a value");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("series and value");
            (series.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn value(server: &Server, series: &str) -> f64 {
    *samples(server).get(series).unwrap_or_else(|| panic!("{series} is shown"))
}

/// `name type label...` of every family that starts with `prefix`.
pub(super) fn interface(server: &Server, prefix: &str) -> BTreeSet<String> {
    let text = exposition(server).expect("every family has a name and a value");
    let mut families = BTreeSet::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(family) = line.strip_prefix("# TYPE ") else { continue };
        let sample = lines.next().expect("a family has a sample");
        let labels = sample.split_once('{').map_or("", |(_, rest)| rest);
        let labels = labels.split("\",").filter_map(|label| label.split_once('='));
        let names: Vec<&str> = labels.map(|(name, _)| name).collect();
        families.insert(format!("{family} {}", names.join(" ")).trim_end().to_owned());
    }
    families.retain(|family| family.starts_with(prefix));
    families
}

#[test]
fn what_the_exporter_shows_of_memcached_is_shown_under_the_same_names_and_nothing_else() {
    let wanted: BTreeSet<String> = EXPORTER
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(interface(&with_items(), "memcached_"), wanted);
}

#[test]
fn every_command_and_every_outcome_the_exporter_knows_has_its_series() {
    let samples = samples(&with_items());
    let mut wanted = vec![("cas", "badval"), ("flush", "hit"), ("set", "hit")];
    for command in ["get", "delete", "incr", "decr", "cas", "touch"] {
        wanted.extend([(command, "hit"), (command, "miss")]);
    }
    for (command, status) in &wanted {
        let series =
            format!("memcached_commands_total{{command=\"{command}\",status=\"{status}\"}}");
        assert!(samples.contains_key(&series), "{series}");
    }
    let shown = samples.keys().filter(|series| series.starts_with("memcached_commands_total"));
    assert_eq!(shown.count(), wanted.len());
    let of_slabs = samples.keys().filter(|series| series.starts_with("memcached_slab_commands"));
    assert_eq!(of_slabs.count(), 2 * 8, "six hits, badval and set for each of two classes");
}

#[test]
fn sets_are_what_cmd_set_counts_without_the_cas_in_it() {
    let server = Server::new(Settings::default());
    let counters = server.totals.register();
    counters.cmd_set.add(10);
    counters.cas_hits.add(3);
    counters.cas_misses.add(2);
    counters.cas_badval.add(1);
    let set = "memcached_commands_total{command=\"set\",status=\"hit\"}";
    assert_eq!(value(&server, set).to_bits(), 4_f64.to_bits());
    counters.cas_hits.add(50);
    assert_eq!(value(&server, set).to_bits(), 0_f64.to_bits(), "a counter is never negative");
}

#[test]
fn classes_are_told_apart_by_their_label() {
    let server = with_items();
    let samples = samples(&server);
    let items: Vec<(&str, f64)> = samples
        .iter()
        .filter_map(|(series, &value)| {
            let class = series.strip_prefix("memcached_slab_current_items{slab=\"")?;
            Some((class.strip_suffix("\"}")?, value))
        })
        .collect();
    assert_eq!(items.len(), 2, "{items:?}");
    assert!(items.iter().all(|&(class, value)| class.parse::<u8>().is_ok() && value > 0.5));
    let empty = Server::new(Settings::default());
    assert!(!interface(&empty, "memcached_").iter().any(|family| family.contains("_slab_")));
}

#[test]
fn what_an_option_switches_off_is_not_shown() {
    let server = Server::new(Settings { maxconns_fast: false, ..Settings::default() });
    server.tuned.lock().lru_crawler = false;
    let shown = interface(&server, "memcached_");
    assert!(!shown.iter().any(|family| family.contains("rejected")), "{shown:?}");
    let settings = ["_enabled", "_sleep", "_to_crawl", "_thread", "_percent", "_max_factor"];
    for family in shown {
        assert!(!settings.iter().any(|end| family.contains(end)), "{family}");
    }
}

#[test]
fn yes_no_seconds_and_fractions_become_numbers() {
    let server = Server::new(Settings::default());
    let version = format!("memcached_version{{version=\"{}\"}}", crate::limits::VERSION);
    let build = format!("twincached_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    for (series, wanted) in [
        ("memcached_lru_crawler_enabled", 1.0_f64),
        ("memcached_lru_crawler_hot_max_factor", 0.2),
        ("memcached_limit_bytes", 67_108_864.0),
        (&version, 1.0),
        ("memcached_up", 1.0),
        (&build, 1.0),
    ] {
        assert_eq!(value(&server, series).to_bits(), wanted.to_bits(), "{series}");
    }
    assert!(value(&server, "memcached_process_user_cpu_seconds_total") < 100_000.0);
}

#[test]
fn nothing_of_stats_twincached_is_left_out() {
    let server = Server::new(Settings::default());
    let lists = Lists::of(&server);
    let shown: BTreeSet<&str> = own::NODE.iter().map(|row| row.stat).collect();
    let mut listed: BTreeSet<&str> = lists.own.0.keys().map(String::as_str).collect();
    assert!(listed.remove("twincached_version"), "it is build_info's label");
    listed.retain(|stat| !stat.starts_with("turn_"));
    assert_eq!(shown, listed);
}

#[test]
fn a_turn_is_in_every_bucket_that_is_as_long_as_it() {
    let server = Server::new(Settings::default());
    let counters = server.totals.register();
    [7, 10, 11, 2_000_000].into_iter().for_each(|micros| counters.count_turn(micros));
    for (series, wanted) in [
        ("bucket{le=\"0.00001\"}", 2.0),
        ("bucket{le=\"0.00002\"}", 3.0),
        ("bucket{le=\"1\"}", 3.0),
        ("bucket{le=\"+Inf\"}", 4.0),
        ("count", 4.0),
        ("sum", 2.000_028),
    ] {
        let found = value(&server, &format!("twincached_turn_seconds_{series}"));
        assert_eq!(found.to_bits(), f64::to_bits(wanted), "{series}");
    }
}

#[test]
fn our_own_names_are_the_statistics_and_counts_end_in_total() {
    for family in interface(&with_items(), "twincached_") {
        let mut words = family.split(' ');
        let (name, kind) = (words.next().expect("a name"), words.next().expect("a type"));
        assert_eq!(name.ends_with("_total"), kind == "counter", "{family}");
    }
    for row in own::NODE {
        let stat = row.name.strip_prefix("twincached_").expect("the prefix");
        assert_eq!(stat.strip_suffix("_total").unwrap_or(stat), row.stat);
    }
}
