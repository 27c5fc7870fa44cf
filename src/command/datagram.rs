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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::{ConnState, Connection, Peers, Server, Transport};
    use crate::settings::{LockPolicy, Settings};

    fn session(policy: LockPolicy) -> (Arc<Server>, Session) {
        let mut settings = Settings::default();
        (settings.peering.enabled, settings.peering.lock_policy) = (true, policy);
        let peers = Peers::new(&settings.peering, 7);
        let server = Arc::new(Server::with_peers(settings, peers));
        let at = server.clock.now().seconds();
        let from = "udp:127.0.0.1:1".to_owned();
        let connection = Connection::new(7, from, None, Transport::Udp, ConnState::NewCmd, at);
        let session =
            Session::new(Arc::clone(&server), server.totals.register(), Arc::new(connection));
        (server, session)
    }

    fn say(server: &Server, session: &mut Session, payload: &[u8]) -> Vec<u8> {
        let (now, mut heard) = (server.clock.now(), Vec::new());
        let mut datagram = Datagram::new(session, Source::Allowed, payload);
        loop {
            let mut message = Vec::new();
            datagram.next_message(now, &mut message);
            if message.is_empty() {
                return heard;
            }
            heard.append(&mut message);
        }
    }

    #[test]
    fn an_exclusive_lock_key_is_read_by_datagrams_and_changed_by_none() {
        const REFUSED: &str = "SERVER_ERROR lock keys are not changed by udp\r\n";
        let (server, mut session) = session(LockPolicy::Exclusive);
        for request in [
            "add sess.lock 0 0 1\r\n1\r\n",
            "set sess.lock 0 0 1\r\n1\r\n",
            "incr sess.lock 1\r\n",
            "delete sess.lock\r\n",
            "touch sess.lock 10\r\n",
            "ms sess.lock 1 ME\r\n1\r\n",
            "ma sess.lock N0\r\n",
            "md sess.lock\r\n",
            "mg sess.lock N30\r\n",
        ] {
            let heard = say(&server, &mut session, request.as_bytes());
            assert_eq!(String::from_utf8_lossy(&heard), REFUSED, "{request}");
        }
        // An add of the binary protocol, with flags and no time to live.
        let add = [&b"\x80\x02\0\x09\x08\0\0\0\0\0\0\x12"[..], &[0; 20], b"sess.lock1"].concat();
        let heard = say(&server, &mut session, &add);
        assert_eq!(heard.get(6..8), Some(&b"\0\x81"[..]), "{}", heard.escape_ascii());

        assert_eq!(say(&server, &mut session, b"get sess.lock\r\n"), b"END\r\n");
        assert_eq!(say(&server, &mut session, b"set sess 0 0 1\r\n1\r\n"), b"STORED\r\n");
    }

    #[test]
    fn where_locks_are_not_exclusive_datagrams_change_their_keys() {
        for policy in [LockPolicy::Local, LockPolicy::Replicated] {
            let (server, mut session) = session(policy);
            let heard = say(&server, &mut session, b"add sess.lock 0 0 1\r\n1\r\n");
            assert_eq!(heard, b"STORED\r\n", "{policy:?}");
        }
    }
}
