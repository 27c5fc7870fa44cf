//! One datagram's requests: heard apart from all others, answered message by message.
//!
//! The sender of a datagram may be anybody who writes another's address on it, and then the answer
//! goes to that other. In February 2018 memcached servers, whose answers were up to 51,200 times as
//! long as the questions, were made to send 1.35 Tb/s to a victim. So only sources that the operator
//! names (`--udp-allow`; by default those on this machine) are answered in full. To all
//! others goes at most one datagram for each of theirs, at most [`UDP_FACTOR_MAX`] times as long;
//! and they can neither flush nor ask for statistics. Operators' commands and those that take a
//! connection over are known to nobody here.

use super::session::{Next, Pledges, Session};
use crate::clock::Now;
use crate::limits::{UDP_FACTOR_MAX, UDP_REPLY_MAX};
use crate::protocol::request::Request;
use crate::protocol::udp::{HEADING_LEN, PIECE_MAX};

/// How far the source address of a datagram can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator names it.
    Allowed,
    /// It may be a victim's.
    Unproven,
}

impl Source {
    /// Longest answer, in bytes of messages, to a datagram of `len` bytes with its heading.
    fn allowance(self, len: usize) -> usize {
        match self {
            Source::Allowed => UDP_REPLY_MAX,
            Source::Unproven => PIECE_MAX.min(len * UDP_FACTOR_MAX - HEADING_LEN),
        }
    }

    /// Whether a request is not known from here.
    pub(super) fn refuses(self, request: &Request<'_>) -> bool {
        match request {
            Request::Quit | Request::Admin(_) | Request::Sasl(_) => true,
            Request::Stats(_) | Request::FlushAll { .. } => self == Source::Unproven,
            Request::Retrieve(_)
            | Request::RetrieveFrame(_)
            | Request::Store(_)
            | Request::Delete { .. }
            | Request::Arithmetic(_)
            | Request::Touch { .. }
            | Request::Noop
            | Request::MetaGet(_)
            | Request::MetaSet(_)
            | Request::MetaDelete(_)
            | Request::MetaArithmetic(_)
            | Request::MetaNoop
            | Request::MetaDebug(_)
            | Request::Version => false,
        }
    }
}

/// The requests of one datagram.
#[derive(Debug)]
pub struct Datagram<'s, 'd> {
    session: &'s mut Session,
    /// What has not been heard yet.
    rest: &'d [u8],
    source: Source,
    /// Bytes that may still be answered.
    allowance: usize,
}

impl<'s, 'd> Datagram<'s, 'd> {
    /// The requests in `payload`, which stands behind a heading. Whatever `session` heard before is
    /// forgotten.
    #[must_use]
    pub fn new(session: &'s mut Session, source: Source, payload: &'d [u8]) -> Datagram<'s, 'd> {
        session.begin_datagram(source);
        let allowance = source.allowance(HEADING_LEN + payload.len());
        Datagram { session, rest: payload, source, allowance }
    }

    /// Executes requests up to the next one that is answered, and appends the answer, all of it,
    /// to the empty `out`. When that stays empty, there is nothing more to be answered.
    pub fn next_message(&mut self, now: Now, out: &mut Vec<u8>) {
        while out.is_empty() && !self.rest.is_empty() {
            let received = self.session.receive(self.rest, now, out);
            self.rest = &self.rest[received.consumed..];
            let mut next = received.next;
            // A session goes on when what it has written is sent: each turn has paper of its own.
            let mut turn = Vec::new();
            while next == Next::Resume && out.len() <= self.allowance {
                next = self.session.resume(now, &mut turn);
                out.append(&mut turn);
            }
            if out.len() > self.allowance {
                out.clear();
                self.session.refuse_reply(out);
                self.rest = b"";
            }
            match next {
                Next::Receive { .. } => self.drop_rest(),
                Next::Yield | Next::Resume => {}
                Next::Close(_) | Next::Watch | Next::Lock | Next::Shutdown(_) => self.rest = b"",
            }
        }
        if !out.is_empty() && self.source == Source::Unproven {
            self.rest = b"";
        }
        self.allowance = self.allowance.saturating_sub(out.len());
    }

    /// What the message written last tells of.
    pub fn take_pledges(&mut self) -> Pledges {
        self.session.take_pledges()
    }

    /// Half a request is not waited for.
    fn drop_rest(&mut self) {
        if !self.rest.is_empty() {
            self.session.count_dropped();
            self.rest = b"";
        }
    }
}
