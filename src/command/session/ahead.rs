//! Requests that have come together: the memory they will need is fetched before they are executed.
//!
//! A client that sends sixteen requests at once would wait for the memory of sixteen buckets and items, one
//! after the other. So what is behind the first one is read through for keys, and the store has their
//! places fetched together ([`Store::look_ahead`](crate::store::Store::look_ahead)). Whatever is not a
//! whole request ends that; nothing is decided here, and reading it again in its turn costs a tenth of
//! what is saved.

use super::Session;
use super::speech::{Heard, Speech};
use crate::command::refusals;
use crate::protocol::request::Request;
use crate::store::Ahead;

impl Session {
    /// Looks ahead at the front of `input`, at most at `most` requests; returns how far it has looked.
    pub(super) fn look_ahead(&self, speech: &Speech, input: &[u8], most: u32) -> usize {
        let store = &self.server.store;
        let (mut speech, mut ahead, mut looked_to) = (speech.clone(), Ahead::default(), 0);
        for _ in 0..most {
            let heard = speech.decode(&input[looked_to..]);
            let Heard::Request { consumed, request, .. } = heard else { break };
            looked_to += consumed;
            let is_full = key_of(&request).is_some_and(|key| !ahead.add(store.key(key)));
            if is_full {
                break;
            }
        }
        store.look_ahead(&ahead);
        looked_to
    }
}

/// The key that `request` will look for: of several the first, for the others are looked at together.
fn key_of<'r>(request: &'r Request<'_>) -> Option<&'r [u8]> {
    match request {
        Request::Retrieve(wanted) => wanted.keys.clone().next(),
        Request::RetrieveFrame(wanted) => Some(wanted.key),
        Request::MetaGet(wanted) => Some(&wanted.key.bytes),
        other => refusals::key_of(other),
    }
}
