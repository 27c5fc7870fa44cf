//! A client that says one stream to two servers: to one in one piece, to the other in many.

use std::sync::Arc;

use super::choices::{Choices, Dice};
use crate::clock::Now;
use crate::command::{CloseReason, ConnState, Connection, Next, Server, Session, Transport};
use crate::credentials::{Credentials, Format};
use crate::limits::{OUTPUT_SOFT_MAX, READ_BUFFER};
use crate::settings::{BindingProtocol, Settings};

/// When everything happens.
pub(super) const NOW: Now = Now::from_unix_seconds(1_800_000_000);

/// So little memory makes a store of one shard, whose versions do not depend on where the secret
/// seed of its hash puts a key.
const MEMORY: usize = 8 << 20;

/// The servers, and how the stream is cut.
#[derive(Debug)]
pub(super) struct Plan {
    settings: Settings,
    listener: BindingProtocol,
    cuts: u16,
}

impl Plan {
    pub(super) fn read(choices: &mut Choices<'_>, listener: BindingProtocol) -> Plan {
        let (bits, cuts) = (choices.byte(), choices.short());
        let has = |bit: u8| bits >> bit & 1 == 1;
        let by_frames = has(4) || listener == BindingProtocol::Binary;
        let settings = Settings {
            memory_limit: MEMORY,
            threads: 1,
            cas: !has(0),
            item_size_max: if has(1) { 1 << 10 } else { 1 << 20 },
            max_reqs_per_event: if has(2) { 2 } else { 20 },
            auth_file: (has(3) && !by_frames).then(|| "users".into()),
            sasl: has(3) && by_frames,
            auth_allow_health_checks: has(2),
            detail_enabled: has(5),
            enable_shutdown: has(6),
            ..Settings::default()
        };
        let listener = if has(7) { BindingProtocol::Auto } else { listener };
        Plan { settings, listener, cuts }
    }

    /// Whether frames are all that is heard, whatever the listener.
    pub(super) fn demands_frames(&self) -> bool {
        self.settings.sasl
    }

    /// A new server of this plan.
    pub(super) fn server(&self) -> Arc<Server> {
        let mut server = Server::new(self.settings.clone());
        let format = if self.settings.sasl { Format::SaslPasswords } else { Format::AuthFile };
        let demands_login = self.settings.sasl || self.settings.auth_file.is_some();
        server.credentials = demands_login
            .then(|| Credentials::new(format, b"anna:secret\n").expect("the file is right"));
        Arc::new(server)
    }

    /// A new server's only client.
    pub(super) fn client(&self) -> Client {
        Client::new(session(&self.server(), Transport::Tcp).speaking(self.listener), &self.settings)
    }

    /// What is answered when `stream` comes in one piece, and when it comes in many.
    pub(super) fn hear_twice(&self, stream: &[u8]) -> [Heard; 2] {
        let (mut in_one, mut in_many) = (self.client(), self.client());
        in_one.send(stream);
        let (mut dice, mut rest) = (Dice::new(self.cuts), stream);
        while !rest.is_empty() {
            let end = [1, 8, 64, 1024][dice.below(4)];
            let (piece, after) = rest.split_at((1 + dice.below(end)).min(rest.len()));
            in_many.send(piece);
            rest = after;
        }
        [in_one.heard, in_many.heard]
    }
}

/// A session of `server` that has heard nothing yet.
pub(super) fn session(server: &Arc<Server>, transport: Transport) -> Session {
    let (addr, now) = ("tcp:192.0.2.1:1".to_owned(), NOW.seconds());
    let connection = Connection::new(7, addr, None, transport, ConnState::NewCmd, now);
    Session::new(Arc::clone(server), server.totals.register(), Arc::new(connection))
}

/// What a client got.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) answers: Vec<u8>,
    pub(super) end: Option<End>,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed(CloseReason),
    Watches,
    Shutdown,
}

/// A client's end of a session. Panics when the session breaks what it promises to `net`.
#[derive(Debug)]
pub(super) struct Client {
    session: Session,
    waiting: Vec<u8>,
    at_least: usize,
    /// Bytes that a request may need to be gathered.
    gathered_max: usize,
    heard: Heard,
}

impl Client {
    fn new(session: Session, settings: &Settings) -> Client {
        let gathered_max = READ_BUFFER + settings.item_size_max;
        let (waiting, heard) = (Vec::new(), Heard::default());
        Client { session, waiting, at_least: 1, gathered_max, heard }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        while self.heard.end.is_none() && self.waiting.len() >= self.at_least {
            self.take_turn();
        }
    }

    fn take_turn(&mut self) {
        let mut out = Vec::new();
        let received = self.session.receive(&self.waiting, NOW, &mut out);
        let mut next = received.next;
        let went_on = received.consumed > 0 || next == Next::Resume;
        self.waiting.drain(..received.consumed);
        loop {
            assert!(out.len() <= 2 * OUTPUT_SOFT_MAX, "{} bytes are to be sent", out.len());
            self.heard.answers.append(&mut out);
            if next != Next::Resume {
                break;
            }
            next = self.session.resume(NOW, &mut out);
        }
        match next {
            Next::Receive { at_least } => {
                assert!(at_least > self.waiting.len(), "the session waits for what it has");
                assert!(at_least <= self.gathered_max, "{at_least} bytes are waited for");
                self.at_least = at_least;
            }
            Next::Yield | Next::Resume => {
                assert!(went_on, "the session yields and has done nothing");
                self.at_least = 1;
            }
            Next::Lock => panic!("without peers no lock is decided elsewhere"),
            Next::Watch => self.heard.end = Some(End::Watches),
            Next::Close(reason) => self.heard.end = Some(End::Closed(reason)),
            Next::Shutdown(_) => self.heard.end = Some(End::Shutdown),
        }
    }
}
