//! One client's conversation, without its socket.
//!
//! `net` calls [`Session::receive`] with what has arrived and [`Session::resume`] when a reply has
//! been sent and more was waiting. Both append to the reply buffer and stop when it is time to
//! send. Bytes that were not consumed are the caller's to keep until more have come.
//!
//! Between the bytes and whoever understands them stands one [`Gate`], whatever is spoken.

mod gate;
mod pledges;
mod speech;

use std::sync::Arc;

use super::datagram::Source;
use super::dump::Dump;
use super::execute::{Context, Outcome, execute};
use super::refusals::{self, Refusal};
use super::retrieval::Retrieval;
use super::watching::Watcher;
use super::{ConnState, Connection, LockRequest, Locks, Server, verbose};
use crate::clock::Now;
use crate::limits::OUTPUT_SOFT_MAX;
use crate::protocol::binary;
use crate::protocol::request::Request;
use crate::protocol::response::{Reject, Response};
use crate::settings::BindingProtocol;
use crate::stats::WorkerCounters;
use crate::store::MutationLog;
use crate::version::Version;
use gate::{Gate, Login};
pub use pledges::Pledges;
use speech::{Heard, Manner, Speech};

/// What the session needs next, once the reply buffer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes: call [`Session::receive`] when all unconsumed bytes and the new ones together
    /// are at least `at_least` long (or the client has ended its half).
    Receive {
        /// Total length below which calling again would be useless.
        at_least: usize,
    },
    /// The reply goes on: send what there is, then call [`Session::resume`].
    Resume,
    /// The next request is decided elsewhere: send what there is, wait until peers have what that
    /// tells of, have [`Session::take_lock_request`] decided, send the answer, then call
    /// [`Session::receive`] with what was left.
    Lock,
    /// `-R` requests were executed and input may hold more: send, let other connections have
    /// their turn, then call [`Session::receive`] with what was left.
    Yield,
    /// The connection watches: send, then call [`Session::resume`] now and then (log lines), and
    /// close when the client does. Input is ignored.
    Watch,
    /// Send what there is and close.
    Close(CloseReason),
    /// Send what there is, close, and stop the server.
    Shutdown(Stop),
}

/// Why a connection ends, in the words of `watch connevents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// `quit`, or the client hung up between commands.
    Normal,
    /// The stream cannot be understood or bounded any more.
    Error,
    /// `-o idle_timeout`.
    IdleTimeout,
    /// The server stops.
    Shutdown,
}

/// How the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At once, as on SIGINT.
    Now,
    /// As on SIGUSR1.
    Graceful,
}

/// What [`Session::receive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What comes next.
    pub next: Next,
}

/// What became of the bytes at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not yet a whole request.
    Wait {
        /// Length below which hearing them again would be useless.
        at_least: usize,
    },
    /// So many are part of what nobody wants.
    Skip(usize),
    /// What was said before must be acknowledged first.
    Later,
    /// So many were a request. It has been answered, and this comes next if it is not the next
    /// request.
    Done(usize, Option<Next>),
}

/// Whose turn it is.
#[derive(Debug)]
enum Turn {
    /// The client's: requests are heard.
    Client,
    /// Ours: the rest of a get is to be written. Boxed, for it is rare and long, and every idle
    /// connection has room for a turn.
    Retrieval(Box<Retrieval>),
    /// Ours: the rest of a listing is to be written.
    Dump(Dump),
    /// Ours for good: log lines.
    Watch(Watcher),
}

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    server: Arc<Server>,
    counters: Arc<WorkerCounters>,
    connection: Arc<Connection>,
    protocol: BindingProtocol,
    gate: Gate,
    /// Decided by the first byte.
    speech: Option<Speech>,
    turn: Turn,
    /// What the answers of this batch tell of, where the operator wants to hear that no peer has it.
    pledges: Pledges,
    /// The last change that was made without a word, while a no-op may still ask for it.
    unsaid: Version,
    /// The datagram being heard, when it is not a connection that speaks.
    datagram: Option<Envelope>,
    /// Requests for lock keys are executed here, whosever client sent them.
    is_clerk: bool,
    /// What the clerk executed last may have taken a lock.
    took_lock: bool,
    /// A request that is decided elsewhere.
    lock_request: Option<LockRequest>,
    /// When the last request was executed.
    asked: Now,
}

/// What a session needs to know of a datagram besides what it carries.
#[derive(Clone, Copy, Debug)]
struct Envelope {
    source: Source,
    /// How its last request is answered.
    manner: Manner,
}

impl Session {
    /// A session that has heard nothing yet and speaks what `-B` says.
    #[must_use]
    pub fn new(
        server: Arc<Server>,
        counters: Arc<WorkerCounters>,
        connection: Arc<Connection>,
    ) -> Session {
        let gate = Gate::new(&server.settings);
        let protocol = gate.protocol().unwrap_or(server.settings.protocol);
        Session {
            server,
            counters,
            connection,
            protocol,
            gate,
            speech: None,
            turn: Turn::Client,
            pledges: Pledges::default(),
            unsaid: Version(0),
            datagram: None,
            is_clerk: false,
            took_lock: false,
            lock_request: None,
            asked: Now::from_unix_micros(0),
        }
    }

    /// The session of the clerk who executes requests for lock keys, in whatever protocol they come.
    pub(super) fn of_clerk(
        server: Arc<Server>,
        counters: Arc<WorkerCounters>,
        connection: Arc<Connection>,
    ) -> Session {
        let session = Session::new(server, counters, connection);
        let (gate, protocol) = (Gate::opened(), BindingProtocol::Auto);
        Session { gate, protocol, is_clerk: true, ..session }
    }

    /// What comes next is a request of its own.
    pub(super) fn begin_request(&mut self) {
        self.speech = None;
        self.turn = Turn::Client;
    }

    /// Whether what the clerk executed last may have taken a lock, and let none go.
    pub(super) fn took_lock(&self) -> bool {
        self.took_lock
    }

    /// The request that is to be decided elsewhere.
    pub fn take_lock_request(&mut self) -> Option<LockRequest> {
        self.lock_request.take()
    }

    /// The session speaks what its listener says, unless clients can log in by one protocol only.
    #[must_use]
    pub fn speaking(self, protocol: BindingProtocol) -> Session {
        let protocol = self.gate.protocol().unwrap_or(protocol);
        Session { protocol, ..self }
    }

    /// Whether frames are spoken, not lines.
    fn is_framed(&self) -> bool {
        matches!(self.speech, Some(Speech::Binary(_)))
    }

    /// Lets a test's client in without a login, to speak text.
    #[cfg(test)]
    pub(super) fn let_in(&mut self) {
        self.gate.open_for_tests();
        self.protocol = BindingProtocol::Ascii;
    }

    /// Executes the complete requests at the front of `input`, appending replies to `out`.
    /// Replies that `out` holds already count as unsent ones of this batch.
    pub fn receive(&mut self, input: &[u8], now: Now, out: &mut Vec<u8>) -> Received {
        let Some(&first) = input.first() else {
            return Received { consumed: 0, next: Next::Receive { at_least: 1 } };
        };
        let settings = &self.server.settings;
        let begin = || Speech::begin(self.protocol, first, settings);
        let mut speech = self.speech.take().unwrap_or_else(begin);
        let received = self.hear(&mut speech, input, now, out);
        self.connection.set_state(state(received.next, &speech));
        self.speech = Some(speech);
        received
    }

    /// Forgets everything: what comes next stands in a datagram of its own, and is answered
    /// request by request.
    pub(super) fn begin_datagram(&mut self, source: Source) {
        let manner = Manner::Lines { noreply: false };
        self.datagram = Some(Envelope { source, manner });
        self.gate = Gate::new(&self.server.settings);
        self.speech = None;
        self.turn = Turn::Client;
    }

    /// Answers the last request of a datagram that its answer is too long.
    pub(super) fn refuse_reply(&self, out: &mut Vec<u8>) {
        if let Some(Envelope { manner, .. }) = self.datagram {
            self.counters.udp_replies_refused.bump();
            manner.write(&Reject::TooLargeForUdp.into(), out);
        }
    }

    /// Counts a datagram that ended within a request.
    pub(super) fn count_dropped(&self) {
        self.counters.udp_dropped.bump();
    }

    /// Goes on with a reply that did not fit, once `out` has been sent.
    pub fn resume(&mut self, now: Now, out: &mut Vec<u8>) -> Next {
        let server = &self.server;
        let context = Context {
            server,
            counters: &self.counters,
            connection: &self.connection,
            now,
            framed: self.is_framed(),
            asked: self.asked,
        };
        let more = match &mut self.turn {
            Turn::Client => false,
            Turn::Retrieval(rest) => rest.more(&context, out),
            Turn::Dump(dump) => dump.more(server, now, out),
            Turn::Watch(watcher) => {
                watcher.drain(out);
                return Next::Watch;
            }
        };
        if more {
            return Next::Resume;
        }
        self.turn = Turn::Client;
        // Input that came behind the request has not been looked at yet.
        Next::Yield
    }

    fn hear(&mut self, speech: &mut Speech, input: &[u8], now: Now, out: &mut Vec<u8>) -> Received {
        let verbose = verbose::is_verbose(&self.server);
        let mut consumed = 0;
        let mut heard: u32 = 0;
        let next = loop {
            let front = &input[consumed..];
            let before = out.len();
            // What is said at a shut gate may be a password.
            let logged = verbose && self.gate.is_open();
            let (len, next) = match self.hear_one(speech, front, now, out) {
                Progress::Wait { at_least } => break Next::Receive { at_least },
                Progress::Skip(len) => {
                    consumed += len;
                    continue;
                }
                Progress::Later => break Next::Yield,
                Progress::Done(len, next) => (len, next),
            };
            if logged {
                verbose::log_command(self.connection.fd, speech.without_data(front));
                verbose::log_reply(self.connection.fd, speech.without_data(&out[before..]));
            }
            consumed += len;
            heard += 1;
            if let Some(next) = next {
                break next;
            }
            if consumed == input.len() {
                continue;
            }
            if self.datagram.is_some() {
                break Next::Yield;
            }
            if heard >= self.server.settings.max_reqs_per_event {
                self.counters.conn_yields.bump();
                break Next::Yield;
            }
            if out.len() >= OUTPUT_SOFT_MAX {
                break Next::Yield;
            }
        };
        if heard > 0 {
            self.connection.command_began(now.seconds());
        }
        if matches!(next, Next::Close(_) | Next::Shutdown(_)) {
            consumed = input.len();
        }
        Received { consumed, next }
    }

    /// Hears what is at the front, as far as the gate lets it pass.
    fn hear_one(
        &mut self,
        speech: &mut Speech,
        front: &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) -> Progress {
        let heard = match self.gate.login() {
            None => speech.decode(front),
            Some(Login::Text) => {
                let framed = false;
                let (server, counters) = (&*self.server, &*self.counters);
                let (connection, asked) = (&*self.connection, self.asked);
                let context = Context { server, counters, connection, now, framed, asked };
                return self.gate.knock(&context, front, out);
            }
            Some(Login::Sasl) => speech.decode_outside(front, &self.server.settings),
        };
        match heard {
            Heard::Wait { at_least } => Progress::Wait { at_least },
            Heard::Skip { consumed } => Progress::Skip(consumed),
            Heard::Request { request, .. } if self.frees_too_early(&request) => Progress::Later,
            Heard::Request { consumed, request, manner } => {
                let next = match self.is_decided_elsewhere(&request, &front[..consumed]) {
                    true => Some(Next::Lock),
                    false => self.answer(&request, manner, now, out),
                };
                Progress::Done(consumed, next)
            }
            Heard::Reject { consumed, reject, manner } => {
                self.tell_refusal(Refusal::Request(reject), None, now);
                manner.write(&reject.into(), out);
                Progress::Done(consumed, None)
            }
            Heard::Close { answer } => {
                let why = match answer {
                    Some((reject, _)) => Refusal::Request(reject),
                    None if self.gate.is_open() => Refusal::Request(Reject::BadFormat),
                    None => Refusal::NOT_LOGGED_IN,
                };
                self.tell_refusal(why, None, now);
                if let Some((reject, manner)) = answer {
                    manner.write_refusal(reject, out);
                }
                Progress::Done(front.len(), Some(Next::Close(CloseReason::Error)))
            }
        }
    }

    /// Keeps a request that changes an exclusive lock key.
    fn is_decided_elsewhere(&mut self, request: &Request<'_>, bytes: &[u8]) -> bool {
        if self.is_clerk {
            self.took_lock = Locks::takes(request);
        }
        if self.is_clerk || self.datagram.is_some() {
            return false;
        }
        let Some(locks) = self.server.locks() else { return false };
        let key = locks.key_of(request);
        let asked = |key: &[u8]| LockRequest { key: key.to_vec(), request: bytes.to_vec() };
        self.lock_request = key.map(asked);
        if self.lock_request.is_some() {
            // The lock may protect what was written before, even if nothing was said of that.
            MutationLog::remember_logged_here(std::mem::take(&mut self.unsaid));
        }
        self.lock_request.is_some()
    }

    /// Whether `request` lets a lock go that stays on this node, and peers do not have yet what this
    /// batch wrote: whoever gets the lock may write that again, on any node.
    fn frees_too_early(&mut self, request: &Request<'_>) -> bool {
        let written = self.unsaid.max(MutationLog::logged_here());
        if written == Version(0) || self.is_clerk || self.datagram.is_some() {
            return false;
        }
        let server = &self.server;
        let is_awaited = server.peers.as_ref().is_some_and(|peers| peers.are_awaited());
        let is_local = |key| server.store.is_local(server.store.key(key));
        if !is_awaited
            || Locks::takes(request)
            || !Locks::changed_key(request).is_some_and(is_local)
        {
            return false;
        }
        MutationLog::remember_logged_here(std::mem::take(&mut self.unsaid));
        true
    }

    /// Has the operator know whom we refuse. Whoever sends a datagram may be somebody else.
    fn tell_refusal(&self, why: Refusal, key: Option<&[u8]>, now: Now) {
        if self.datagram.is_none() {
            self.server.refusals.tell(&self.connection, why, key, now);
        }
    }

    /// Executes `request` and writes its answer; returns what comes next, if that is not the
    /// next request.
    fn execute(
        &mut self,
        request: &Request<'_>,
        manner: Manner,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Option<Next> {
        if let Some(envelope) = &mut self.datagram {
            envelope.manner = manner;
            if envelope.source.refuses(request) {
                manner.write(&Reject::UnknownCommand.into(), out);
                return None;
            }
            // It cannot be waited for, and what came twice would be executed twice.
            if self.server.locks().is_some_and(|locks| locks.key_of(request).is_some()) {
                manner.write(&Reject::LockByUdp.into(), out);
                return None;
            }
        }
        let context = Context {
            server: &self.server,
            counters: &self.counters,
            connection: &self.connection,
            now,
            framed: matches!(manner, Manner::Frames(_)),
            asked: std::mem::replace(&mut self.asked, now),
        };
        if let (Request::Sasl(step), Manner::Frames(echo)) = (request, manner)
            && self.server.settings.sasl
        {
            binary::encode::sasl(&self.gate.sasl(&context, step), echo, out);
            return self.gate.gives_up();
        }
        let (turn, next) = match execute(&context, request, out) {
            Outcome::Reply(response) => {
                if let Response::Reject(reject) = response {
                    self.tell_refusal(Refusal::Request(reject), refusals::key_of(request), now);
                }
                manner.write(&response, out);
                return None;
            }
            Outcome::Written => return None,
            Outcome::Begun(rest) => (Turn::Retrieval(Box::new(rest)), Next::Resume),
            Outcome::Quit => {
                manner.write_farewell(out);
                return Some(Next::Close(CloseReason::Normal));
            }
            Outcome::Shutdown(stop) => return Some(Next::Shutdown(stop)),
            Outcome::Dump(dump) => {
                if refuse_pipelined(dump.command(), manner, out) {
                    return None;
                }
                (Turn::Dump(dump), Next::Resume)
            }
            Outcome::Watch(watcher) => {
                if refuse_pipelined("watch", manner, out) {
                    return None;
                }
                (Turn::Watch(watcher), Next::Watch)
            }
        };
        self.turn = turn;
        Some(next)
    }
}

/// What `stats conns` shows while the session waits for `next`.
fn state(next: Next, speech: &Speech) -> ConnState {
    match next {
        Next::Receive { .. } if speech.is_swallowing() => ConnState::Swallow,
        Next::Receive { .. } if speech.is_in_data() => ConnState::Nread,
        Next::Receive { .. } => ConnState::Read,
        Next::Yield => ConnState::NewCmd,
        Next::Resume | Next::Lock => ConnState::Mwrite,
        Next::Watch => ConnState::Watch,
        Next::Close(_) | Next::Shutdown(_) => ConnState::Closing,
    }
}

/// A listing or a log stream takes the connection over: refused behind unsent replies, begun with
/// `OK` otherwise.
fn refuse_pipelined(command: &'static str, manner: Manner, out: &mut Vec<u8>) -> bool {
    let pending = !out.is_empty();
    let answer =
        if pending { Reject::CannotPipeline { before: command }.into() } else { Response::Ok };
    manner.write(&answer, out);
    pending
}

#[cfg(test)]
mod frames;
#[cfg(test)]
mod tests;
