//! One client: a socket and the [`Session`] that talks over it.
//!
//! Picture a clerk with one desk for all customers: bytes are read onto the worker's shared
//! buffers, the session answers into the worker's shared reply buffers, and the reply is sent, all
//! within one round. Only what cannot be finished then (a request of which the rest has
//! not come, a reply that the client does not take) moves into the client's own memory, and it is
//! given back as soon as it is done with. An idle client owns no buffer.
//!
//! A turn does all that can be done now ([`Client::take_turn`]), a step after the other until one of them
//! has to wait. Of most turns the steps are the same three, and no waiting: for these there is a shorter way
//! ([`listening`]). How bytes come and go stands in [`receiving`] and [`sending`].
//!
//! Whoever waits is told when that is over, whatever it is for:
//!
//! | waits for | who gives the next turn |
//! |---|---|
//! | bytes, or room in the socket | the poller, by what it notes in the [`Signals`] |
//! | peers to have a change, the node to serve again | the cloakroom wakes it |
//! | a lock to be decided | the replication thread wakes it |
//! | its turn among others | it wakes itself |
//! | a watcher's pace | the worker's alarms wake it |
//!
//! To wake a client is to have its worker find its key on a list.
//!
//! While a reply waits to be sent nothing is read and nothing is executed, so a client that never
//! reads holds at most one reply buffer's worth.
//!
//! What is NOT here: what requests mean ([`crate::command`]), and when a silent client is given up
//! ([`super::worker`] looks at every client's [`Pulse`] once a tick).

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::acks::{Held, Verdict};
use super::poller::Signals;
use super::socket::ClientSocket;
use super::worker::Buffers;
use crate::command::{CloseReason, ConnState, LockAnswer, Next, Session};
use crate::limits::{READS_A_TURN, RESUMES_A_TURN};
use crate::store::MutationLog;

mod listening;
mod place;
mod pulse;
mod receiving;
mod sending;

pub(super) use listening::{Listened, Readiness};
pub(super) use place::Place;
pub(super) use pulse::{Pulse, Waiting};

/// How often a watcher is handed what has been logged.
const WATCH_PACE: Duration = Duration::from_millis(50);

/// One client.
pub(super) struct Client {
    place: Place,
    stream: ClientSocket,
    session: Session,
    pulse: Pulse,
    next: Next,
    /// What could not be finished at once.
    kept: Option<Box<Kept>>,
    /// What was sent may still wait inside the stream, as TLS has it.
    unflushed: bool,
    /// The client has ended its half; what is complete is still answered.
    ended: bool,
    /// It has given way to other connections since the session asked for that.
    yielded: bool,
    /// It is on the worker's list of those who may be within something.
    pub(super) is_looked_after: bool,
}

/// What is begun: of a client who waits for its next request there is nothing.
#[derive(Default)]
struct Kept {
    /// Received and not consumed.
    input: BytesMut,
    /// Answered and not sent.
    output: BytesMut,
    /// What was answered waits for peers.
    held: Option<Held>,
    /// A request that is being decided elsewhere.
    lock: Option<LockAnswer>,
    /// When a watcher is to be handed what has been logged.
    pace: Option<Instant>,
}

impl Kept {
    fn is_nothing(&self) -> bool {
        self.input.is_empty()
            && self.output.is_empty()
            && self.held.is_none()
            && self.lock.is_none()
            && self.pace.is_none()
    }
}

/// What becomes of a client after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum After {
    /// It waits, and has another turn when that is over.
    Waits,
    /// Its connection is to be closed, for the reason that stands in its place.
    Goes,
}

type Step = Poll<Result<(), CloseReason>>;

impl Client {
    pub(super) fn new(place: Place, stream: ClientSocket, session: Session) -> Client {
        let pulse = Pulse { moved: place.worker.tick(), heard: 0 };
        Client {
            place,
            stream,
            session,
            pulse,
            next: Next::Receive { at_least: 1 },
            kept: None,
            unflushed: false,
            ended: false,
            yielded: false,
            is_looked_after: false,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn stream(&self) -> &ClientSocket {
        &self.stream
    }

    pub(super) fn signals(&self) -> &Arc<Signals> {
        self.stream.signals()
    }

    pub(super) fn pulse(&self) -> Pulse {
        self.pulse
    }

    /// Does all that can be done now.
    pub(super) fn take_turn(&mut self, buffers: &mut Buffers) -> After {
        let waker = Waker::from(Arc::clone(self.signals()));
        let mut cx = Context::from_waker(&waker);
        let after = self.guarded(|client| client.poll_life(&mut cx, buffers));
        // However this turn ended: what was answered in it is nobody else's to read.
        buffers.reply.clear();
        after
    }

    #[cfg(test)]
    pub(super) fn owns_nothing(&self) -> bool {
        self.kept.is_none()
    }

    /// A turn, with what it costs counted, and what ends it noted.
    fn guarded(
        &mut self,
        turn: impl FnOnce(&mut Self) -> Poll<Result<Infallible, CloseReason>>,
    ) -> After {
        let worker = Rc::clone(&self.place.worker);
        worker.begin_turn();
        let lived = catch_unwind(AssertUnwindSafe(|| turn(self)));
        worker.end_turn();
        let reason = match lived {
            Ok(Poll::Pending) => {
                self.kept.take_if(|kept| kept.is_nothing());
                return After::Waits;
            }
            Ok(Poll::Ready(Err(reason))) => reason,
            Err(_panic) => {
                worker.counters.panics.bump();
                CloseReason::Error
            }
        };
        self.place.reason.set(reason);
        After::Goes
    }

    fn kept(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    /// Received and not consumed.
    fn input(&self) -> &[u8] {
        self.kept.as_ref().map_or(&[], |kept| &kept.input)
    }

    fn keep_input(&mut self, rest: &[u8]) {
        if !rest.is_empty() || self.kept.is_some() {
            self.kept().input = own(rest);
        }
    }

    fn keep_output(&mut self, rest: &[u8]) {
        if !rest.is_empty() || self.kept.is_some() {
            self.kept().output = own(rest);
        }
    }

    /// Does all that can be done now; ends only with the reason to close.
    fn poll_life(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<Result<Infallible, CloseReason>> {
        let (mut resumes, mut reads) = (0, 0);
        loop {
            ready!(self.poll_acknowledged(cx));
            ready!(self.poll_send_rest(cx))?;
            if let Next::Receive { .. } = self.next {
                // What comes in is judged then: most often nothing does.
                if self.ended {
                    return Poll::Ready(Err(CloseReason::Normal));
                } else if self.place.worker.is_draining() {
                    return Poll::Ready(Err(CloseReason::Shutdown));
                }
            } else {
                ready!(self.place.worker.poll_serving(cx));
            }
            match self.next {
                Next::Yield | Next::Watch if self.place.worker.stopping() => {
                    return Poll::Ready(Err(CloseReason::Shutdown));
                }
                Next::Receive { .. } | Next::Watch if reads == READS_A_TURN => {
                    return let_others_go_first(cx);
                }
                Next::Receive { at_least } => {
                    reads += 1;
                    ready!(self.poll_receive(cx, buffers, at_least))?;
                }
                Next::Yield => {
                    if !self.yielded {
                        self.yielded = true;
                        return let_others_go_first(cx);
                    }
                    self.yielded = false;
                    self.hear_kept(self.place.worker.now(), buffers);
                }
                Next::Resume => {
                    resumes += 1;
                    if resumes > RESUMES_A_TURN {
                        return let_others_go_first(cx);
                    }
                    self.next = self.session.resume(self.place.worker.now(), &mut buffers.reply);
                }
                Next::Lock => ready!(self.poll_lock(cx, &mut buffers.reply))?,
                Next::Watch => {
                    reads += 1;
                    ready!(self.poll_watch(cx, buffers))?;
                }
                Next::Close(reason) => return Poll::Ready(Err(reason)),
                Next::Shutdown(stop) => {
                    self.place.worker.ask_to_stop(stop);
                    return Poll::Ready(Err(CloseReason::Shutdown));
                }
            }
            self.answer(cx, &mut buffers.reply)?;
        }
    }

    /// Sends what was answered, or keeps it until peers have what it tells of.
    fn answer(&mut self, cx: &mut Context<'_>, reply: &mut Vec<u8>) -> Result<(), CloseReason> {
        self.hold(reply);
        self.send(cx, reply)
    }

    /// Keeps what was answered if peers must have what it tells of first.
    fn hold(&mut self, reply: &mut Vec<u8>) {
        if let Some(held) = self.place.worker.hold(|| self.session.take_pledges()) {
            self.kept().held = Some(held);
            self.keep_output(reply);
            reply.clear();
        }
    }

    /// Waits for peers, where there is something to wait for.
    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(kept) = &mut self.kept else { return Poll::Ready(()) };
        let Some(held) = &mut kept.held else { return Poll::Ready(()) };
        match ready!(self.place.worker.poll_held(held, cx)) {
            Verdict::Send => {}
            Verdict::Withdraw => {
                let (instead, next) = self.session.withdraw(&held.pledges, &kept.output, self.next);
                (kept.output, self.next) = (own(&instead), next);
            }
            Verdict::Drop => {
                kept.output = BytesMut::new();
                self.next = Next::Close(CloseReason::Shutdown);
            }
        }
        kept.held = None;
        Poll::Ready(())
    }

    /// Waits until a request has been decided that nobody may decide alone.
    fn poll_lock(&mut self, cx: &mut Context<'_>, reply: &mut Vec<u8>) -> Step {
        if self.kept().lock.is_none() {
            let request = self.session.take_lock_request();
            self.kept().lock = request.and_then(|request| self.place.worker.ask_lock(request));
        }
        let answer = match &self.kept().lock {
            Some(lock) => ready!(lock.poll(cx)),
            None => None,
        };
        self.kept().lock = None;
        let Some(answer) = answer else { return Poll::Ready(Err(CloseReason::Shutdown)) };
        reply.extend_from_slice(&answer);
        (self.next, self.yielded) = (Next::Yield, true);
        Poll::Ready(Ok(()))
    }

    /// Ignores what a watcher sends, and asks for log lines when it is time.
    fn poll_watch(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Step {
        self.keep_input(&[]);
        let mut ignored = ReadBuf::new(&mut buffers.input);
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut ignored) {
            let arrived = ignored.filled().len();
            self.note_arrival(&read.map(|()| arrived))?;
            return Poll::Ready(if self.ended { Err(CloseReason::Normal) } else { Ok(()) });
        }
        let due = *self.kept().pace.get_or_insert_with(|| Instant::now() + WATCH_PACE);
        ready!(self.place.worker.poll_at(due, cx));
        self.kept().pace = None;
        self.next = self.session.resume(self.place.worker.now(), &mut buffers.reply);
        Poll::Ready(Ok(()))
    }

    /// For what the client waits.
    pub(super) fn waits_for(&self) -> Waiting {
        let kept = self.kept.as_ref();
        if kept.is_some_and(|kept| kept.held.is_some() || kept.lock.is_some()) {
            Waiting::Peers
        } else if self.unflushed || kept.is_some_and(|kept| !kept.output.is_empty()) {
            Waiting::Reader
        } else {
            match self.next {
                Next::Watch => Waiting::Log,
                Next::Receive { .. } if self.stream.is_shaking_hands() => Waiting::Handshake,
                Next::Receive { .. } if self.is_between_requests() => Waiting::Request,
                Next::Receive { .. } => Waiting::Rest,
                _ => Waiting::Turn,
            }
        }
    }

    fn is_between_requests(&self) -> bool {
        self.input().is_empty() && self.place.listed.state() != ConnState::Swallow
    }
}

/// The client has another turn after the sockets have been looked at. The worker may not rest for a while:
/// peers are to hear now of what it has logged.
fn let_others_go_first<T>(cx: &mut Context<'_>) -> Poll<T> {
    MutationLog::wake_reader();
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// A copy of exactly this size; of nothing, no memory at all.
fn own(bytes: &[u8]) -> BytesMut {
    if bytes.is_empty() { BytesMut::new() } else { BytesMut::from(bytes) }
}
