//! `/metrics`: the lists that `stats` answers clients with, in Prometheus' text format.
//!
//! Picture an exporter that asks `stats`, `stats settings`, `stats items`, `stats slabs`,
//! `stats twincached` and `stats replication` like any monitor, only without a socket between.
//! Nothing is counted here, so what Prometheus shows is what `stats` says.
//!
//! | file | families |
//! |---|---|
//! | [`memcached`] | `memcached_*`: names, types and labels of Prometheus' own memcached_exporter, so that its boards and alerts work when the job's target is this port |
//! | [`own`] | `twincached_*`: what only we count |
//! | [`replication`] | `twincached_replication_*` and `twincached_peer_*`, when there are peers |
//!
//! A group of families is one function that is given [`Lists`] and adds to an [`Exposition`], called in
//! [`exposition`]. There are two histograms: of waits for peers, and of a worker's turns, each of which
//! is a client's batch of requests and its answers. How long each request takes is not measured: a
//! clock read for each would be dearer than some of them.

mod family;
mod memcached;
mod own;
mod replication;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use prometheus::TextEncoder;

use crate::command::{ConnState, Connection, Server, Transport, stats};
use crate::protocol::response::{Response, Stat};
use family::{Distribution, Exposition};

/// Version 0.0.4 of the text format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families as text.
pub(super) fn exposition(server: &Server) -> prometheus::Result<String> {
    let lists = Lists::of(server);
    let mut exposition = Exposition::default();
    memcached::server(&lists, &mut exposition);
    memcached::commands(&lists, &mut exposition);
    memcached::settings(&lists, &mut exposition);
    memcached::items(&lists, &mut exposition);
    memcached::slabs(&lists, &mut exposition);
    own::server(&lists, &mut exposition);
    own::node(&lists, &mut exposition);
    replication::node(&lists, &mut exposition);
    replication::peers(&lists, &mut exposition);
    TextEncoder::new().encode_to_string(&exposition.families())
}

/// One list of statistics by name.
#[derive(Debug, Default)]
struct Stats(BTreeMap<String, String>);

/// One list a slab class, or a peer by its number in the list.
type Classes = BTreeMap<u8, Stats>;

/// What is asked for one scrape, all at one moment.
#[derive(Debug)]
struct Lists {
    /// `stats`, and the lines of `stats slabs` that are of no class.
    general: Stats,
    settings: Stats,
    items: Classes,
    slabs: Classes,
    own: Stats,
    /// `stats replication` without its peers.
    replication: Stats,
    peers: BTreeMap<String, Stats>,
}

impl Lists {
    fn of(server: &Server) -> Lists {
        let now = server.clock.now();
        let second = now.seconds();
        let (addr, state) = ("admin".to_owned(), ConnState::NewCmd);
        let asking = Connection::new(-1, addr, None, Transport::Tcp, state, second);
        let list = |which: &str| match stats(server, &asking, which.as_bytes(), now) {
            Response::Stats(list) => {
                let named = |stat: Stat| (stat.name.into_owned(), stat.value.to_string());
                Stats(list.into_iter().map(named).collect())
            }
            _ => Stats::default(),
        };
        let (items, _) = list("items").by_class("items:");
        let (slabs, of_all_slabs) = list("slabs").by_class("");
        let mut general = list("");
        general.0.extend(of_all_slabs.0);
        let (numbered, replication) = list("replication").by_class("peer");
        let peers = replication::named(numbered);
        let (settings, own) = (list("settings"), list("twincached"));
        Lists { general, settings, items, slabs, own, replication, peers }
    }
}

impl Stats {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The number under `name`; yes is 1 and no is 0.
    fn number(&self, name: &str) -> Option<f64> {
        match self.text(name)? {
            "yes" => Some(1.0),
            "no" => Some(0.0),
            text => text.parse().ok(),
        }
    }

    /// The histogram under `name`: the counts of its buckets as `<name>_le_50us`, what is longer as
    /// `<name>_longer`, and the sum as `<name>_us`. The count of all is what the buckets add up to: one
    /// that is counted by itself may be ahead of them.
    fn distribution(&self, name: &str) -> Option<Distribution> {
        let bucket = |(stat, count): (&String, &String)| {
            let micros = stat.strip_prefix(name)?.strip_prefix("_le_")?.strip_suffix("us")?;
            Some((micros.parse::<u32>().ok()?, count.parse().ok()?))
        };
        let buckets: BTreeMap<u32, u64> = self.0.iter().filter_map(bucket).collect();
        Some(Distribution {
            buckets: buckets.into_iter().map(|(us, count)| (f64::from(us) / 1e6, count)).collect(),
            above: self.text(&format!("{name}_longer"))?.parse().ok()?,
            sum: self.number(&format!("{name}_us"))? / 1e6,
        })
    }

    /// `<prefix><class>:<name>` by class, and what has no class.
    fn by_class(self, prefix: &str) -> (Classes, Stats) {
        let (mut classes, mut rest) = (Classes::new(), Stats::default());
        for (name, value) in self.0 {
            let of_class = name.strip_prefix(prefix).and_then(|name| name.split_once(':'));
            match of_class.and_then(|(class, name)| Some((class.parse().ok()?, name.to_owned()))) {
                Some((class, name)) => classes.entry(class).or_default().0.insert(name, value),
                None => rest.0.insert(name, value),
            };
        }
        (classes, rest)
    }
}
