//! Requests that have come together: the memory they will need is fetched before they are executed.
//!
//! A client that sends sixteen requests at once would wait for the memory of sixteen buckets and items, one
//! after the other. So what is behind the first one is decoded before it is executed, and the store has the
//! places of its keys fetched together ([`Store::look_ahead`](crate::store::Store::look_ahead)).
//!
//! Only whole requests are, and none behind which something is to be skipped: so whoever drops them may
//! decode them again where they stand, with the decoder that has not seen them.

use super::Session;
use super::speech::Speech;
use crate::command::refusals;
use crate::protocol::Step;
use crate::protocol::request::Request;
use crate::store::{Ahead, GROUP_KEYS_MAX};

impl Session {
    /// The next requests at the front of `input`, at most `most` of them.
    pub(super) fn decode_ahead<'i>(
        speech: &Speech,
        mut input: &'i [u8],
        most: u32,
    ) -> Vec<Step<'i>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(GROUP_KEYS_MAX);
        let mut speech = speech.clone();
        let mut requests = Vec::with_capacity(most);
        while requests.len() < most {
            let heard = speech.decode(input);
            let Step::Request { consumed, .. } = heard else { break };
            if speech.is_swallowing() {
                break;
            }
            input = &input[consumed..];
            requests.push(heard);
        }
        requests
    }

    /// The keys of `requests`, one each, whose items are being fetched; the empty key for a request without.
    pub(super) fn look_ahead<'r>(&self, requests: &'r [Step<'_>]) -> Ahead<'r> {
        let store = &self.server.store;
        let key = |heard| store.key(key_of(heard).unwrap_or_default());
        let mut ahead = requests.iter().map(key).collect();
        store.look_ahead(&mut ahead);
        ahead
    }
}

/// The key that what was heard will look for: of several the first, for the others are looked at together.
fn key_of<'r>(heard: &'r Step<'_>) -> Option<&'r [u8]> {
    let Step::Request { request, .. } = heard else { return None };
    match request {
        Request::Retrieve(wanted) => wanted.keys.clone().next(),
        Request::RetrieveFrame(wanted) => Some(wanted.key),
        Request::MetaGet(wanted) => Some(&wanted.key.bytes),
        other => refusals::key_of(other),
    }
}
