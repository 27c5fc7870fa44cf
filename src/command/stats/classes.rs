//! `stats items`, `stats slabs`, `stats sizes`: what the store holds, by size.
//!
//! Our items do not live in slabs. Size classes and pages are shown as upstream would need them for
//! the same items, so that monitors that multiply pages with chunks get a picture that adds up;
//! `total_malloced` is what the store really took from the machine.

use std::collections::BTreeMap;

use super::super::Server;
use super::List;
use crate::clock::Now;
use crate::item::SizeClasses;
use crate::protocol::response::Stat;
use crate::settings::Settings;
use crate::store::ClassCounters;

/// Upstream's page, which chunks are cut from.
const PAGE_SIZE: usize = 1 << 20;

/// `stats items`.
pub(super) fn items(server: &Server, now: Now) -> Vec<Stat> {
    let segmented = server.settings.shown.lru_maintainer;
    let temporary = server.tuned.lock().temp_lru;
    let mut list = List::default();
    let hits = server.totals.counts().class_hits;
    for (class, counters) in server.store.classes(now) {
        if counters.number > 0 {
            items_of(class, &counters, *hits.of(class), segmented, temporary, &mut list);
        }
    }
    list.0
}

/// One class's items. All of them stand in the one LRU order we have, shown as upstream's cold
/// one; upstream shows the segments only while its maintainer thread runs.
fn items_of(
    class: u8,
    counters: &ClassCounters,
    hits: u64,
    segmented: bool,
    temporary: bool,
    list: &mut List,
) {
    let mut put = |field: &str, value: u64| list.put(format!("items:{class}:{field}"), value);
    put("number", counters.number);
    if segmented {
        put("number_hot", 0);
        put("number_warm", 0);
        put("number_cold", counters.number);
        if temporary {
            put("number_temp", 0);
        }
        put("age_hot", 0);
        put("age_warm", 0);
    }
    put("age", u64::from(counters.age));
    put("mem_requested", counters.mem_requested);
    put("evicted", counters.evicted);
    put("evicted_nonzero", counters.evicted_nonzero);
    put("evicted_time", u64::from(counters.evicted_time));
    put("outofmemory", counters.outofmemory);
    put("tailrepairs", 0);
    put("reclaimed", counters.reclaimed);
    put("expired_unfetched", counters.expired_unfetched);
    put("evicted_unfetched", counters.evicted_unfetched);
    if segmented {
        put("evicted_active", counters.evicted_active);
    }
    put("crawler_reclaimed", counters.crawler_reclaimed);
    put("crawler_items_checked", counters.crawler_items_checked);
    put("lrutail_reflocked", 0);
    if segmented {
        put("moves_to_cold", 0);
        put("moves_to_warm", 0);
        put("moves_within_lru", 0);
        put("direct_reclaims", counters.evicted.saturating_add(counters.reclaimed));
        put("hits_to_hot", 0);
        put("hits_to_warm", 0);
        put("hits_to_cold", hits);
        put("hits_to_temp", 0);
    }
}

/// `stats slabs`.
pub(super) fn slabs(server: &Server, now: Now) -> Vec<Stat> {
    let sizes = size_classes(&server.settings);
    let mut list = List::default();
    let mut active: u64 = 0;
    let hits = server.totals.counts().class_hits;
    let mut classes: BTreeMap<u8, ClassCounters> = server.store.classes(now).into_iter().collect();
    for (class, _) in (0..).zip(hits.iter()).filter(|(_, hits)| **hits > 0) {
        classes.entry(class).or_default();
    }
    for (class, counters) in classes {
        if let Some(chunk_size) = sizes.chunk_size(class) {
            slab_of(class, chunk_size, &counters, *hits.of(class), &mut list);
            active += 1;
        }
    }
    list.put("active_slabs", active);
    list.put("total_malloced", server.store.counters().total_malloced);
    list.0
}

/// The classes that the store counts by.
pub(in crate::command) fn size_classes(settings: &Settings) -> SizeClasses {
    SizeClasses::new(settings.slab_min_size, settings.slab_growth_factor)
}

/// One class: the fewest pages whose chunks hold its items, one at least, as upstream keeps a page
/// of a class that had items.
fn slab_of(class: u8, chunk_size: usize, counters: &ClassCounters, hits: u64, list: &mut List) {
    let mut put = |field: &str, value: u64| list.put(format!("{class}:{field}"), value);
    let per_page = (PAGE_SIZE / chunk_size).max(1) as u64;
    let pages = counters.number.div_ceil(per_page).max(1);
    let chunks = pages * per_page;
    put("chunk_size", chunk_size as u64);
    put("chunks_per_page", per_page);
    put("total_pages", pages);
    put("total_chunks", chunks);
    put("used_chunks", counters.number);
    put("free_chunks", chunks - counters.number);
    put("free_chunks_end", 0);
    put("get_hits", hits);
    put("cmd_set", counters.cmd_set);
    put("delete_hits", counters.delete_hits);
    put("incr_hits", counters.incr_hits);
    put("decr_hits", counters.decr_hits);
    put("cas_hits", counters.cas_hits);
    put("cas_badval", counters.cas_badval);
    put("touch_hits", counters.touch_hits);
}

/// `stats sizes`: items by size in steps of 32 bytes, counted when asked, with `-o track_sizes`.
pub(super) fn sizes(server: &Server) -> Vec<Stat> {
    let mut list = List::default();
    if server.settings.track_sizes {
        for (size, count) in server.store.sizes() {
            list.put(size.to_string(), count);
        }
    } else {
        list.put("sizes_status", "disabled");
    }
    list.0
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, names};
    use super::*;
    use crate::item::Expiry;
    use crate::settings::Shown;
    use crate::store::{Mode, Write};

    const ITEMS: &str = "number number_hot number_warm number_cold number_temp age_hot age_warm age \
        mem_requested evicted evicted_nonzero evicted_time outofmemory tailrepairs reclaimed \
        expired_unfetched evicted_unfetched evicted_active crawler_reclaimed \
        crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru \
        direct_reclaims hits_to_hot hits_to_warm hits_to_cold hits_to_temp";

    const SLABS: &str = "chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks \
        free_chunks_end get_hits cmd_set delete_hits incr_hits decr_hits cas_hits cas_badval \
        touch_hits";

    fn prefixed(prefix: &str, fields: &str, without: &[&str]) -> Vec<String> {
        let fields = fields.split_whitespace().filter(|field| !without.contains(field));
        fields.map(|field| format!("{prefix}{field}")).collect()
    }

    fn item_names(segmented: bool, temporary: bool) -> Vec<String> {
        let counters = ClassCounters { number: 3, ..ClassCounters::default() };
        let mut list = List::default();
        items_of(7, &counters, 5, segmented, temporary, &mut list);
        names(&list.0).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn names_of_items_are_upstreams_in_every_configuration() {
        assert_eq!(item_names(true, true), prefixed("items:7:", ITEMS, &[]));
        assert_eq!(item_names(true, false), prefixed("items:7:", ITEMS, &["number_temp"]));
        let of_segments: Vec<&str> = ITEMS
            .split_whitespace()
            .filter(|name| {
                ["number_", "age_", "evicted_active", "moves_", "direct_", "hits_"]
                    .iter()
                    .any(|start| name.starts_with(start))
            })
            .collect();
        assert_eq!(item_names(false, false), prefixed("items:7:", ITEMS, &of_segments));
    }

    #[test]
    fn names_of_slabs_are_upstreams_and_the_chunks_add_up() {
        let sizes = size_classes(&Settings::default());
        for class in 1..=sizes.count() {
            let chunk_size = sizes.chunk_size(class).expect("the class exists");
            for number in [0, 1, 2, 10_922, 10_923, 1_000_000] {
                let mut list = List::default();
                let counters = ClassCounters { number, ..ClassCounters::default() };
                slab_of(class, chunk_size, &counters, 0, &mut list);
                assert_eq!(names(&list.0), prefixed(&format!("{class}:"), SLABS, &[]));
                let value = |index: usize| list.0[index].value.to_string().parse::<u64>();
                let value = |index| value(index).expect("a number");
                assert_eq!(value(1) * value(2), value(3), "chunks a page times pages");
                assert_eq!(value(4) + value(5), value(3), "used and free chunks");
                assert_eq!(value(4), number);
                assert!(value(2) >= 1, "a shown class has a page");
            }
        }
    }

    #[test]
    fn the_first_class_is_cut_as_upstream_cuts_it() {
        let mut list = List::default();
        let counters = ClassCounters { number: 1, cmd_set: 1, ..ClassCounters::default() };
        slab_of(1, 96, &counters, 5, &mut list);
        let values: Vec<String> = list.0.iter().map(|stat| stat.value.to_string()).collect();
        assert_eq!(values[..8], ["96", "10922", "1", "10922", "1", "10921", "0", "5"]);
        assert_eq!(values[8], "1");
    }

    #[test]
    fn hits_are_shown_with_the_items_of_their_class() {
        let server = Server::new(Settings::default());
        let write = Write::new(Mode::Set, b"v", 0, Expiry::NEVER);
        server.store.write(server.store.key(b"k"), &write, server.clock.now()).expect("room");
        let counters = server.totals.register();
        counters.class_hits.of(1).add(2);
        counters.class_hits.of(2).bump();
        assert!(lines(&server, "items").contains(&"items:1:hits_to_cold 2".to_owned()));
    }

    #[test]
    fn a_class_that_was_only_read_since_the_reset_is_shown() {
        let server = Server::new(Settings::default());
        server.totals.register().class_hits.of(3).bump();
        assert!(lines(&server, "slabs").contains(&"3:get_hits 1".to_owned()));
        assert!(lines(&server, "slabs").contains(&"active_slabs 1".to_owned()));
    }

    #[test]
    fn an_empty_store_has_no_classes() {
        let server = Server::new(Settings::default());
        assert_eq!(lines(&server, "items"), Vec::<String>::new());
        assert_eq!(lines(&server, "slabs")[0], "active_slabs 0");
        let total = server.store.counters().total_malloced;
        assert_eq!(lines(&server, "slabs")[1], format!("total_malloced {total}"));
    }

    #[test]
    fn sizes_are_counted_only_when_asked_for_at_the_start() {
        let server = Server::new(Settings::default());
        assert_eq!(lines(&server, "sizes"), ["sizes_status disabled"]);
        let shown = Shown::default();
        let server = Server::new(Settings { track_sizes: true, shown, ..Settings::default() });
        assert_eq!(lines(&server, "sizes"), Vec::<String>::new());
    }
}
