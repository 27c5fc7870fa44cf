//! Which addresses the operator's names of peers stand for.
//!
//! An address is a peer. A name is one, too, until it turns out to stand for several addresses:
//! then each of them is one (a name in the DNS for all nodes of a cluster). Addresses of both
//! families are taken to be two ways to the same peers, of which the more numerous family is tried
//! first.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::net::SocketAddr;

use crate::limits::PEER_ADDRESSES_MAX;
use crate::replication::PeerIndex;
use crate::settings::PeerName;

/// What has to be told of a peer that is configured or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added(PeerIndex, String),
    Removed(PeerIndex),
}

/// All peers that are configured.
#[derive(Debug)]
pub(super) struct Names {
    names: Vec<Name>,
    next: u32,
}

#[derive(Debug)]
struct Name {
    name: PeerName,
    port: u16,
    /// The peers it stands for; a name that has not been resolved is one peer without an address.
    peers: BTreeMap<PeerIndex, Vec<SocketAddr>>,
}

impl Names {
    /// The peers that the operator named, those without a port on `port`.
    pub(super) fn new(names: &[PeerName], port: u16) -> Names {
        let named = names.iter().zip(0..);
        let names: Vec<Name> = named
            .map(|(name, index)| Name {
                port: name.port.unwrap_or(port),
                peers: BTreeMap::from([(PeerIndex(index), Vec::new())]),
                name: name.clone(),
            })
            .collect();
        Names { next: u32::try_from(names.len()).unwrap_or(u32::MAX), names }
    }

    /// One more name.
    pub(super) fn add(&mut self, name: PeerName, port: u16) -> Change {
        let peer = PeerIndex(self.next);
        self.next += 1;
        let port = name.port.unwrap_or(port);
        let name = Name { name, port, peers: BTreeMap::from([(peer, Vec::new())]) };
        let label = name.label(&[]);
        self.names.push(name);
        Change::Added(peer, label)
    }

    /// A name less; the peers that it stood for.
    pub(super) fn remove(&mut self, gone: &PeerName, port: u16) -> Vec<PeerIndex> {
        let (gone, kept) = mem::take(&mut self.names)
            .into_iter()
            .partition::<Vec<_>, _>(|held| gone.is_same(&held.name, port));
        self.names = kept;
        gone.iter().flat_map(|name| name.peers.keys().copied()).collect()
    }

    /// All peers, and what people call them.
    pub(super) fn all(&self) -> Vec<(PeerIndex, String)> {
        let of = |name: &Name| -> Vec<(PeerIndex, String)> {
            name.peers.iter().map(|(peer, addresses)| (*peer, name.label(addresses))).collect()
        };
        self.names.iter().flat_map(of).collect()
    }

    /// What has to be looked up to reach `peer`.
    pub(super) fn target(&self, peer: PeerIndex) -> Option<(String, u16)> {
        let name = self.names.iter().find(|name| name.peers.contains_key(&peer))?;
        Some((name.name.host.clone(), name.port))
    }

    /// Names that may stand for other addresses by now, one peer of each.
    pub(super) fn changeable(&self) -> Vec<PeerIndex> {
        let names = self.names.iter().filter(|name| name.name.ip().is_none());
        names.filter_map(|name| name.peers.keys().next().copied()).collect()
    }

    /// Where `peer` is found, in the order in which to try.
    pub(super) fn addresses(&self, peer: PeerIndex) -> Vec<SocketAddr> {
        let of_name = self.names.iter().find_map(|name| name.peers.get(&peer));
        of_name.cloned().unwrap_or_default()
    }

    /// The name that `peer` belongs to stands for `found`. Without any nothing changes.
    pub(super) fn resolved(&mut self, peer: PeerIndex, found: &[SocketAddr]) -> Vec<Change> {
        let next = &mut self.next;
        let name = self.names.iter_mut().find(|name| name.peers.contains_key(&peer));
        let Some(name) = name.filter(|_| !found.is_empty()) else { return Vec::new() };
        let mut wanted = by_rank(found);
        let mut free = Vec::new();
        for (peer, held) in &mut name.peers {
            let same = wanted.iter().position(|new| new.first() == held.first());
            match same {
                Some(at) => *held = wanted.remove(at),
                None => free.push(*peer),
            }
        }
        let mut changes = Vec::new();
        // A peer whose address is gone takes over a new one: most often it is the same, restarted.
        for addresses in wanted {
            let peer = if free.is_empty() {
                let peer = PeerIndex(*next);
                *next += 1;
                changes.push(Change::Added(peer, name.name_of(addresses.first())));
                peer
            } else {
                free.remove(0)
            };
            name.peers.insert(peer, addresses);
        }
        for peer in free {
            name.peers.remove(&peer);
            changes.push(Change::Removed(peer));
        }
        changes
    }
}

impl Name {
    fn label(&self, addresses: &[SocketAddr]) -> String {
        match self.peers.len() {
            1 => format!("{}", PeerName { port: Some(self.port), ..self.name.clone() }),
            _ => self.name_of(addresses.first()),
        }
    }

    fn name_of(&self, address: Option<&SocketAddr>) -> String {
        let name = PeerName { port: Some(self.port), ..self.name.clone() };
        address.map_or_else(|| name.to_string(), |address| format!("{name}={address}"))
    }
}

/// The peers that these addresses stand for, each with its addresses in the order of trying.
fn by_rank(found: &[SocketAddr]) -> Vec<Vec<SocketAddr>> {
    let (mut four, mut six): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().partition(|address| address.is_ipv4());
    for family in [&mut four, &mut six] {
        family.sort_unstable();
        family.dedup();
    }
    let (first, second) = if six.len() > four.len() { (six, four) } else { (four, six) };
    let mut peers: Vec<Vec<SocketAddr>> =
        first.into_iter().take(PEER_ADDRESSES_MAX).map(|address| vec![address]).collect();
    for (peer, address) in peers.iter_mut().zip(second) {
        peer.push(address);
    }
    peers
}

/// Looks a host up.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Names {
        let list: Vec<PeerName> = list.iter().map(|name| PeerName::parse(name).unwrap()).collect();
        Names::new(&list, 11212)
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_is_one_peer_until_it_stands_for_several_addresses() {
        let mut names = names(&["192.0.2.9", "nodes:5"]);
        let all = |names: &Names| {
            names.all().into_iter().map(|(peer, label)| (peer.0, label)).collect::<Vec<_>>()
        };
        assert_eq!(all(&names), [(0, "192.0.2.9:11212".to_owned()), (1, "nodes:5".to_owned())]);
        assert_eq!(names.changeable(), [PeerIndex(1)]);
        assert_eq!(names.target(PeerIndex(1)), Some(("nodes".to_owned(), 5)));
        let found = addresses(&["192.0.2.2:5", "192.0.2.1:5"]);
        let changes = names.resolved(PeerIndex(1), &found);
        assert_eq!(changes, [Change::Added(PeerIndex(2), "nodes:5=192.0.2.2:5".to_owned())]);
        assert_eq!(names.addresses(PeerIndex(1)), addresses(&["192.0.2.1:5"]));
        assert_eq!(names.resolved(PeerIndex(2), &found), []);
    }

    #[test]
    fn whose_address_has_changed_is_the_same_peer_and_who_is_gone_is_removed() {
        let mut names = names(&["nodes:5"]);
        names.resolved(PeerIndex(0), &addresses(&["192.0.2.1:5", "192.0.2.2:5", "192.0.2.3:5"]));
        let changes = names.resolved(PeerIndex(0), &addresses(&["192.0.2.2:5", "192.0.2.4:5"]));
        assert_eq!(names.addresses(PeerIndex(0)), addresses(&["192.0.2.4:5"]));
        assert_eq!(names.addresses(PeerIndex(1)), addresses(&["192.0.2.2:5"]));
        assert_eq!(changes, [Change::Removed(PeerIndex(2))]);
        assert_eq!(names.resolved(PeerIndex(0), &[]), [], "nothing found is nothing learned");
    }

    #[test]
    fn a_name_added_later_is_a_peer_of_its_own_and_goes_with_all_its_addresses() {
        let mut names = names(&["192.0.2.9"]);
        let name = |text: &str| PeerName::parse(text).unwrap();
        let added = names.add(name("nodes"), 11212);
        assert_eq!(added, Change::Added(PeerIndex(1), "nodes:11212".to_owned()));
        names.resolved(PeerIndex(1), &addresses(&["192.0.2.1:11212", "192.0.2.2:11212"]));
        assert_eq!(names.remove(&name("nodes:11212"), 11212), [PeerIndex(1), PeerIndex(2)]);
        assert_eq!(names.remove(&name("nodes"), 11212), []);
        assert_eq!(names.remove(&name("192.0.2.9"), 11212), [PeerIndex(0)]);
        let again = names.add(name("192.0.2.9"), 11212);
        assert_eq!(again, Change::Added(PeerIndex(3), "192.0.2.9:11212".to_owned()));
        assert_eq!(names.all().len(), 1);
    }

    #[test]
    fn two_families_are_two_ways_to_the_same_peers() {
        let mut names = names(&["localhost"]);
        let changes = names.resolved(PeerIndex(0), &addresses(&["[::1]:5", "127.0.0.1:5"]));
        assert_eq!(changes, []);
        assert_eq!(names.addresses(PeerIndex(0)), addresses(&["127.0.0.1:5", "[::1]:5"]));
        let six = addresses(&["[::1]:5", "[::2]:5", "127.0.0.1:5"]);
        assert_eq!(
            by_rank(&six),
            [addresses(&["[::1]:5", "127.0.0.1:5"]), addresses(&["[::2]:5"])]
        );
    }
}
