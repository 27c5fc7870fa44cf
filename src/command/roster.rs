//! Who is a peer, as operators want it: what they named at the start and what they changed since.
//!
//! Workers change it, at a client's command; the replication thread comes by and takes what has
//! been changed. A change lasts as long as the process: the next start reads the options again.
//!
//! What is NOT here: which nodes the names lead to, and how they are ([`crate::replication`]).

use std::fmt;
use std::mem;

use parking_lot::Mutex;

use crate::limits::PEERS_MAX;
use crate::settings::{PeerName, Peering};

/// What an operator has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This is a peer from now on.
    Added(PeerName),
    /// This is a peer no longer.
    Removed(PeerName),
    /// The node with this number, which no name leads to, is a peer no longer.
    Forgotten(u8),
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// It is a peer already.
    Known(PeerName),
    /// It is none.
    Unknown(PeerName, Vec<PeerName>),
    /// There are as many as there may be.
    TooMany,
    /// It is on another machine, and nobody would have to prove who he is; what is allowed.
    Unproven(PeerName, String),
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unchanged::Known(name) => write!(f, "{name} is a peer already"),
            Unchanged::Unknown(name, names) if names.is_empty() => {
                write!(f, "{name} is no peer; there is none")
            }
            Unchanged::Unknown(name, names) => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                write!(f, "{name} is no peer; there are {}", names.join(", "))
            }
            Unchanged::TooMany => write!(f, "there are {PEERS_MAX} peers; allowed: at most that"),
            Unchanged::Unproven(name, why) => write!(f, "{name} {why}"),
        }
    }
}

/// The list.
#[derive(Debug, Default)]
pub struct Roster {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    names: Vec<PeerName>,
    changes: Vec<Change>,
}

impl Roster {
    /// The names given at the start.
    pub(super) fn new(peering: &Peering) -> Roster {
        let inner = Inner { names: peering.peers.clone(), changes: Vec::new() };
        Roster { inner: Mutex::new(inner) }
    }

    /// One more peer.
    ///
    /// # Errors
    /// It is one already, there may be no more, or whoever is there would have to prove nothing.
    pub fn add(&self, name: PeerName, peering: &Peering) -> Result<(), Unchanged> {
        if let Some(why) = peering.unproven(&name) {
            return Err(Unchanged::Unproven(name, why));
        }
        let mut inner = self.inner.lock();
        if inner.names.iter().any(|held| held.is_same(&name, peering.port)) {
            return Err(Unchanged::Known(name));
        }
        if inner.names.len() >= PEERS_MAX {
            return Err(Unchanged::TooMany);
        }
        inner.names.push(name.clone());
        inner.changes.push(Change::Added(name));
        Ok(())
    }

    /// A peer less.
    ///
    /// # Errors
    /// It is none.
    pub fn remove(&self, name: PeerName, peering: &Peering) -> Result<(), Unchanged> {
        let mut inner = self.inner.lock();
        let before = inner.names.len();
        inner.names.retain(|held| !held.is_same(&name, peering.port));
        if inner.names.len() == before {
            return Err(Unchanged::Unknown(name, inner.names.clone()));
        }
        inner.changes.push(Change::Removed(name));
        Ok(())
    }

    /// A node less that no name leads to.
    pub fn forget(&self, node: u8) {
        self.inner.lock().changes.push(Change::Forgotten(node));
    }

    /// What has been changed since this was last asked.
    #[must_use]
    pub fn take_changes(&self) -> Vec<Change> {
        mem::take(&mut self.inner.lock().changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    #[test]
    fn a_peer_is_added_once_and_removed_by_any_way_to_write_it() {
        let peering = Peering { peers: vec![name("localhost")], ..Peering::default() };
        let roster = Roster::new(&peering);
        let again = roster.add(name("localhost:11212"), &peering);
        assert_eq!(again, Err(Unchanged::Known(name("localhost:11212"))));
        roster.add(name("127.0.0.1:5"), &peering).unwrap();
        let unknown = roster.remove(name("127.0.0.1:6"), &peering).unwrap_err().to_string();
        assert_eq!(unknown, "127.0.0.1:6 is no peer; there are localhost, 127.0.0.1:5");
        roster.remove(name("localhost:11212"), &peering).unwrap();
        roster.forget(9);
        let changes = [
            Change::Added(name("127.0.0.1:5")),
            Change::Removed(name("localhost:11212")),
            Change::Forgotten(9),
        ];
        assert_eq!(roster.take_changes(), changes);
        assert_eq!(roster.take_changes(), []);
    }

    #[test]
    fn another_machine_is_added_only_where_peers_must_prove_who_they_are() {
        let open = Peering::default();
        let refused = Roster::new(&open).add(name("web3"), &open).unwrap_err().to_string();
        assert!(refused.starts_with("web3 is another machine, and nobody would"), "{refused}");
        assert!(refused.contains("--peer-secret-file"), "{refused}");
        let secret = Peering { secret_file: Some("secret".into()), ..Peering::default() };
        assert_eq!(Roster::new(&secret).add(name("web3"), &secret), Ok(()));
    }

    #[test]
    fn there_are_no_more_peers_than_at_a_start() {
        let peering = Peering::default();
        let roster = Roster::new(&peering);
        for port in 1..=PEERS_MAX {
            roster.add(name(&format!("127.0.0.1:{port}")), &peering).unwrap();
        }
        assert_eq!(roster.add(name("127.0.0.1:99"), &peering), Err(Unchanged::TooMany));
    }
}
