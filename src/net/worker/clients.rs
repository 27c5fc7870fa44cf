//! A worker's clients, by the keys that the poller tells of.

use slab::Slab;

use super::super::client::{Client, Waiting};
use crate::command::CloseReason;

/// A worker's clients.
#[derive(Default)]
pub(super) struct Clients {
    /// In boxes, so that the places kept for more of them are small.
    by_key: Slab<Box<Client>>,
    /// Those who are within something, and some who were.
    looked_after: Vec<usize>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("clients", &self.by_key.len()).finish_non_exhaustive()
    }
}

impl Clients {
    /// The key of the client that is inserted next.
    pub(super) fn next_key(&self) -> usize {
        self.by_key.vacant_key()
    }

    pub(super) fn insert(&mut self, client: Client) {
        let key = self.by_key.insert(Box::new(client));
        self.look_after(key);
    }

    /// A client, unless it has gone: then it may be another that has its key now.
    pub(super) fn get(&mut self, key: usize) -> Option<&mut Client> {
        self.by_key.get_mut(key).map(|client| &mut **client)
    }

    /// The same, to look at it only: so several can be looked at.
    pub(super) fn look_at(&self, key: usize) -> Option<&Client> {
        self.by_key.get(key).map(|client| &**client)
    }

    /// Closes a client's connection, for the reason that stands in its place.
    pub(super) fn close(&mut self, key: usize) {
        drop(self.by_key.try_remove(key));
    }

    /// Sees to it that a client is looked at once a tick as long as it is within something.
    pub(super) fn look_after(&mut self, key: usize) {
        let Some(client) = self.by_key.get_mut(key) else { return };
        if !client.is_looked_after && client.waits_for() != Waiting::Request {
            client.is_looked_after = true;
            self.looked_after.push(key);
        }
    }

    /// Ends those within something that `reason` gives a reason for.
    pub(super) fn end_looked_after(&mut self, reason: impl Fn(&Client) -> Option<CloseReason>) {
        let mut looked_after = std::mem::take(&mut self.looked_after);
        for &key in &looked_after {
            if let Some(client) = self.by_key.get_mut(key) {
                client.is_looked_after = false;
            }
        }
        looked_after.retain(|&key| {
            // A key that stands there twice is that of two clients, of whom one has gone.
            let client = self.by_key.get_mut(key).filter(|client| !client.is_looked_after);
            let Some(client) = client else { return false };
            if let Some(reason) = reason(client) {
                client.place().reason.set(reason);
                self.by_key.remove(key);
                return false;
            }
            client.is_looked_after = client.waits_for() != Waiting::Request;
            client.is_looked_after
        });
        self.looked_after = looked_after;
    }

    /// Ends those that `reason` gives a reason for.
    pub(super) fn end(&mut self, reason: impl Fn(&Client) -> Option<CloseReason>) {
        self.by_key.retain(|_, client| {
            let reason = reason(client);
            reason.inspect(|&reason| client.place().reason.set(reason)).is_none()
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Client)> {
        self.by_key.iter().map(|(key, client)| (key, &**client))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}
