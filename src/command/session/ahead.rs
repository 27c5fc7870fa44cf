//! Requests that have come together: the memory they will need is fetched before they are executed.
//!
//! A client that sends sixteen requests at once would wait for the memory of sixteen buckets and items, one
//! after the other. So what is behind the first one is decoded before it is executed, and the store has the
//! places of its keys fetched together ([`Store::look_ahead`](crate::store::Store::look_ahead)).
//!
//! So is the first request of each of several clients who have spoken at the same time: [`Session::foresee`].
//!
//! Only whole requests are, and none behind which something is to be skipped: so whoever drops them may
//! decode them again where they stand, with the decoder that has not seen them.

use super::Session;
use super::speech::Speech;
use crate::command::{Server, refusals};
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
            let Some((consumed, heard)) = decode_whole(&mut speech, input) else { break };
            input = &input[consumed..];
            requests.push(heard);
        }
        requests
    }

    /// The request at the front of `input`, which the next call of [`Session::receive_foreseen`] is to hear.
    #[must_use]
    pub fn foresee<'i>(&self, input: &'i [u8]) -> Option<Foreseen<'i>> {
        let speech = self.speech.as_ref().filter(|_| self.gate.is_open())?;
        decode_whole(&mut speech.clone(), input).map(|(_, heard)| Foreseen(heard))
    }
}

/// A request that was decoded before its turn.
#[derive(Debug)]
pub struct Foreseen<'i>(pub(super) Step<'i>);

impl Foreseen<'_> {
    /// The keys of `foreseen`, one each, whose items are being fetched; the empty key where none is looked for.
    pub fn look_ahead<'f>(server: &Server, foreseen: &'f [Option<Self>]) -> Ahead<'f> {
        let heard = |foreseen: &'f Option<Self>| Some(&foreseen.as_ref()?.0);
        look_ahead(server, foreseen.iter().map(heard))
    }
}

/// The keys of `requests`, one each, whose items are being fetched; the empty key where none is looked for.
pub(super) fn look_ahead<'r, 'i: 'r>(
    server: &Server,
    requests: impl Iterator<Item = Option<&'r Step<'i>>>,
) -> Ahead<'r> {
    let key = |heard: Option<_>| server.store.key(heard.and_then(key_of).unwrap_or_default());
    let mut ahead = requests.map(key).collect();
    server.store.look_ahead(&mut ahead);
    ahead
}

/// The request at the front of `input`, and its length.
fn decode_whole<'i>(speech: &mut Speech, input: &'i [u8]) -> Option<(usize, Step<'i>)> {
    let heard = speech.decode(input);
    let Step::Request { consumed, .. } = heard else { return None };
    (!speech.is_swallowing()).then_some((consumed, heard))
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
