//! Who is at the door: connections to the port for peers of which we do not know yet whose they are.
//!
//! There is room for a few. A peer introduces itself within milliseconds, while somebody who only
//! holds his connection open stays for seconds; so where there is no room for one more, it is made:
//! of the network that most of them come from, whoever is there for longest goes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::limits::PEER_STRANGERS_MAX;
use crate::net::network;

/// Connections that have not been introduced, in the order in which they came; `S` sends one away.
#[derive(Debug)]
pub(super) struct Strangers<S> {
    came: u64,
    here: BTreeMap<u64, (IpAddr, S)>,
}

impl<S> Default for Strangers<S> {
    fn default() -> Strangers<S> {
        Strangers { came: 0, here: BTreeMap::new() }
    }
}

impl<S> Strangers<S> {
    /// The number of the next that comes.
    pub(super) fn next(&mut self) -> u64 {
        self.came += 1;
        self.came
    }

    /// One more is here. Who has to go for it.
    pub(super) fn enter(&mut self, number: u64, source: IpAddr, stranger: S) -> Option<S> {
        let goes = (self.here.len() >= PEER_STRANGERS_MAX).then(|| self.one_too_many()).flatten();
        let goes = goes.and_then(|goes| self.here.remove(&goes));
        self.here.insert(number, (network(source), stranger));
        goes.map(|(_, stranger)| stranger)
    }

    /// We know whose it is, or it has gone.
    pub(super) fn leave(&mut self, number: u64) {
        self.here.remove(&number);
    }

    fn one_too_many(&self) -> Option<u64> {
        let mut networks: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
        for (number, (network, _)) in &self.here {
            networks.entry(*network).or_insert((0, *number)).0 += 1;
        }
        let crowd = networks.into_values().max_by_key(|(count, first)| (*count, u64::MAX - first));
        crowd.map(|(_, first)| first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// As many as there is room for, from there.
    fn full_of(from: &str) -> Strangers<u64> {
        let mut strangers = Strangers::default();
        for _ in 0..PEER_STRANGERS_MAX {
            let number = strangers.next();
            assert_eq!(strangers.enter(number, source(from), number), None);
        }
        strangers
    }

    #[test]
    fn who_comes_when_there_is_no_room_is_let_in_and_who_came_first_goes() {
        let mut strangers = full_of("192.0.2.1");
        for first in 1..=200 {
            let number = strangers.next();
            assert_eq!(strangers.enter(number, source("192.0.2.1"), number), Some(first));
            assert_eq!(strangers.here.len(), PEER_STRANGERS_MAX);
        }
    }

    #[test]
    fn a_crowd_from_one_network_sends_away_nobody_but_its_own() {
        let mut strangers = Strangers::default();
        let peer = strangers.next();
        strangers.enter(peer, source("198.51.100.7"), peer);
        for last in 0..500_u64 {
            let number = strangers.next();
            let from = format!("192.0.2.{}", last % 250);
            assert_ne!(strangers.enter(number, source(&from), number), Some(peer));
        }
        assert!(strangers.here.contains_key(&peer));
    }

    #[test]
    fn of_networks_with_as_many_the_one_loses_somebody_who_came_first() {
        let mut strangers = Strangers::default();
        for number in 0..PEER_STRANGERS_MAX {
            let from = if number % 2 == 0 { "192.0.2.1" } else { "198.51.100.7" };
            let number = strangers.next();
            assert_eq!(strangers.enter(number, source(from), number), None);
        }
        let number = strangers.next();
        assert_eq!(strangers.enter(number, source("203.0.113.9"), number), Some(1));
    }

    #[test]
    fn who_has_been_introduced_takes_no_room() {
        let mut strangers = full_of("192.0.2.1");
        strangers.leave(3);
        let number = strangers.next();
        assert_eq!(strangers.enter(number, source("192.0.2.1"), number), None);
    }
}
