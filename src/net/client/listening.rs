//! Clients that have spoken at the same time: all are read, their requests are foreseen together, and then
//! each is answered. What is more than that is left to a turn of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::super::poller::Signals;
use super::super::socket::ClientSocket;
use super::{Client, Waiting};
use crate::command::{CloseReason, Foreseen, Next, Serving};
use crate::store::Key;

impl Client<ClientSocket> {
    pub(in crate::net) fn signals(&self) -> &Arc<Signals> {
        self.stream.signals()
    }

    /// For what the client waits, on its socket, too.
    pub(in crate::net) fn waits_for(&self) -> Waiting {
        match self.waiting() {
            Waiting::Request if self.stream.is_shaking_hands() => Waiting::Handshake,
            waiting => waiting,
        }
    }

    /// Nothing is begun, and nothing is over.
    fn is_at_rest(&self) -> bool {
        matches!(self.next, Next::Receive { at_least: ..=1 })
            && self.kept.is_none()
            && !self.ended
            && self.waiting() == Waiting::Request
    }

    /// Reads into `room` what has come from a client at rest; `None` where that, or what came, is for a turn.
    pub(in crate::net) fn listen(&mut self, room: &mut [u8]) -> Option<usize> {
        let ClientSocket::Plain(socket) = &self.stream else { return None };
        if !self.is_at_rest() || room.is_empty() {
            return None;
        }
        let read = socket.read(room);
        if read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
            return None;
        }
        if let Err(reason) = self.note_arrival(&read) {
            // It is told once only: a turn that read again would take it for an end.
            self.next = Next::Close(reason);
        }
        read.ok().filter(|&arrived| arrived > 0)
    }

    /// The first request of what was read, where it is whole.
    pub(in crate::net) fn foresee<'i>(&self, heard: &'i [u8]) -> Option<Foreseen<'i>> {
        // What panics here does so again where it is heard, and ends the client there.
        catch_unwind(AssertUnwindSafe(|| self.session.foresee(heard))).ok().flatten()
    }

    /// Answers what was read; whether the connection is to be closed.
    pub(in crate::net) fn answer_heard(
        &mut self,
        heard: &[u8],
        foreseen: Option<(&Foreseen<'_>, &Key<'_>)>,
        reply: &mut Vec<u8>,
    ) -> Poll<()> {
        let lived = self.guarded(|client| {
            let (serving, now) = client.place.worker.look();
            match serving {
                Serving::No => return Poll::Ready(Err(CloseReason::Shutdown)),
                Serving::Soon => {
                    client.keep_input(heard);
                    (client.next, client.yielded) = (Next::Yield, true);
                }
                Serving::Now => client.hear(heard, foreseen, now, reply),
            }
            // A plain socket wakes nobody, and keeps nothing back.
            client.answer(&mut Context::from_waker(Waker::noop()), reply)?;
            client.unflushed = false;
            if client.is_held() {
                let waker = Waker::from(Arc::clone(client.signals()));
                ready!(client.poll_acknowledged(&mut Context::from_waker(&waker)));
            }
            Poll::Pending
        });
        reply.clear();
        lived
    }

    /// Whether more is to be done for who has been answered than to wait: for peers, or the next request.
    pub(in crate::net) fn wants_turn(&self) -> bool {
        let rests = self.is_at_rest() && !self.signals().may_be_read();
        !self.is_held() && (!rests || self.place.worker.is_draining())
    }

    /// What was answered waits for peers, who will call.
    fn is_held(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.held.is_some())
    }
}
