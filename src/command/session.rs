//! One client's conversation, without its socket.
//!
//! `net` calls [`Session::receive`] with what has arrived and [`Session::resume`] when a reply has
//! been sent and more was waiting. Both append to the reply buffer and stop when it is time to
//! send. Bytes that were not consumed are the caller's to keep until more have come.
//!
//! Between the bytes and whoever understands them stands one [`Gate`], whatever is spoken.

mod ahead;
mod gate;
mod locks;
mod next;
mod pledges;
mod speech;

use std::sync::Arc;

use super::datagram::Source;
use super::dump::Dump;
use super::execute::{Context, Outcome, execute};
use super::refusals::{self, Refusal};
use super::retrieval::Retrieval;
use super::watching::Watcher;
use super::{Connection, LockRequest, Server, verbose};
use crate::clock::Now;
use crate::limits::OUTPUT_SOFT_MAX;
use crate::protocol::request::Request;
use crate::protocol::response::{Reject, Response};
use crate::protocol::{Manner, Step, binary};
use crate::settings::BindingProtocol;
use crate::stats::WorkerCounters;
use crate::store::{Ahead, Key};
use crate::version::Version;
pub use ahead::Foreseen;
use gate::{Gate, Login};
use next::Progress;
pub use next::{CloseReason, Next, Received, Stop};
pub use pledges::Pledges;
use speech::Speech;

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
    /// What the clerk executes next lets no lock go.
    is_late: bool,
    /// A request that is decided elsewhere.
    lock_request: Option<LockRequest>,
    /// When all that had come was executed last: what comes at once was asked at once, before an answer was
    /// heard.
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
            is_late: false,
            lock_request: None,
            asked: Now::from_unix_micros(0),
        }
    }

    /// The session speaks what its listener says, unless clients can log in by one protocol only.
    #[must_use]
    pub fn speaking(self, protocol: BindingProtocol) -> Session {
        let protocol = self.gate.protocol().unwrap_or(protocol);
        Session { protocol, ..self }
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
        self.receive_foreseen(input, None, now, out)
    }

    /// The same, of which the first request may have been foreseen, and its key looked for.
    pub fn receive_foreseen(
        &mut self,
        input: &[u8],
        foreseen: Option<(&Foreseen<'_>, &Key<'_>)>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Received {
        let Some(&first) = input.first() else {
            return Received { consumed: 0, next: Next::Receive { at_least: 1 } };
        };
        let settings = &self.server.settings;
        let begin = || Speech::begin(self.protocol, first, settings);
        let mut speech = self.speech.take().unwrap_or_else(begin);
        let foreseen = foreseen.map(|(foreseen, key)| (&foreseen.0, key));
        let received = self.hear(&mut speech, input, foreseen, now, out);
        self.connection.set_state(next::state(received.next, &speech));
        self.speech = Some(speech);
        received
    }

    /// Forgets everything: what comes next stands in a datagram of its own, and is answered
    /// request by request.
    pub(super) fn begin_datagram(&mut self, source: Source) {
        self.datagram = Some(Envelope { source, manner: Manner::ANSWERED });
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
            manner: Manner::ANSWERED,
            asked: self.asked,
            ahead: None,
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

    fn hear(
        &mut self,
        speech: &mut Speech,
        input: &[u8],
        mut foreseen: Option<(&Step<'_>, &Key<'_>)>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Received {
        let verbose = verbose::is_verbose(&self.server);
        let mut consumed = 0;
        let mut heard: u32 = 0;
        let (mut requests, mut ahead) = (Vec::new(), Ahead::default());
        let mut decoded = requests.iter().zip(ahead.keys());
        let next = loop {
            let front = &input[consumed..];
            let before = out.len();
            // What is said at a shut gate may be a password.
            let logged = verbose && self.gate.is_open();
            let decoded_before = foreseen.take().or_else(|| decoded.next());
            let (len, next) = match self.hear_one(speech, decoded_before, front, now, out) {
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
                break Next::Receive { at_least: 1 };
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
            if !self.gate.is_open() {
                decoded = [].iter().zip(&[]);
            } else if decoded.len() == 0 {
                let most = self.server.settings.max_reqs_per_event - heard;
                requests = Session::decode_ahead(speech, &input[consumed..], most);
                ahead = ahead::look_ahead(&self.server, requests.iter().map(Some));
                decoded = requests.iter().zip(ahead.keys());
            }
        };
        if heard > 0 {
            self.connection.command_began(now.seconds());
            if consumed == input.len() {
                self.asked = now;
            }
        }
        if matches!(next, Next::Close(_) | Next::Shutdown(_)) {
            consumed = input.len();
        }
        Received { consumed, next }
    }

    /// Hears what is at the front, which may have been decoded, as far as the gate lets it pass.
    fn hear_one(
        &mut self,
        speech: &mut Speech,
        decoded: Option<(&Step<'_>, &Key<'_>)>,
        front: &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) -> Progress {
        // A request is long and stays where it was decoded.
        match self.gate.login() {
            None => match decoded {
                Some((decoded, key)) => self.heed(decoded, Some(key), front, now, out),
                None => self.heed(&speech.decode(front), None, front, now, out),
            },
            Some(Login::Text) => {
                let (server, counters) = (&*self.server, &*self.counters);
                let (connection, asked) = (&*self.connection, self.asked);
                let (manner, ahead) = (Manner::ANSWERED, None);
                let context = Context { server, counters, connection, now, manner, asked, ahead };
                self.gate.knock(&context, front, out)
            }
            Some(Login::Sasl) => {
                let heard = speech.decode_outside(front, &self.server.settings);
                self.heed(&heard, None, front, now, out)
            }
        }
    }

    /// Does what was heard at the front, whose key may have been looked for.
    fn heed(
        &mut self,
        heard: &Step<'_>,
        ahead: Option<&Key<'_>>,
        front: &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) -> Progress {
        match *heard {
            Step::Wait { at_least } => Progress::Wait { at_least },
            Step::Skip { consumed } => Progress::Skip(consumed),
            Step::Request { ref request, .. } if self.frees_too_early(request) => Progress::Later,
            Step::Request { consumed, ref request, manner } => {
                let next = match self.is_decided_elsewhere(request, &front[..consumed]) {
                    true => Some(Next::Lock),
                    false => self.answer(request, manner, ahead, now, out),
                };
                Progress::Done(consumed, next)
            }
            Step::Reject { consumed, reject, manner } => {
                self.tell_refusal(Refusal::Request(reject), None, now);
                manner.write(&reject.into(), out);
                Progress::Done(consumed, None)
            }
            Step::Close { answer } => {
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
        ahead: Option<&Key<'_>>,
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
            manner,
            asked: self.asked,
            ahead,
        };
        if let Request::Sasl(step) = request
            && let Manner::Frames(echo) = manner
            && self.server.settings.sasl
        {
            binary::encode::sasl(&self.gate.sasl(&context, step), echo, out);
            return self.gate.gives_up();
        }
        let outcome = self.answer_late(request, out);
        let outcome = outcome.unwrap_or_else(|| execute(&context, request, out));
        let (turn, next) = match outcome {
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
