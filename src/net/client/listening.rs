//! Clients that have spoken at the same time: all are read, their requests are foreseen together, and then
//! each is answered. What is more than that is left to a turn of its own.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::super::socket::ClientSocket;
use super::{After, Client, Waiting};
use crate::command::{Foreseen, Next};
use crate::store::Key;

/// What was read of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Listened {
    /// So many bytes: they are to be answered.
    Bytes(usize),
    /// Something for a turn, or nothing.
    ForATurn,
    /// Nothing yet: the client has its turn when it calls.
    Later,
    /// The connection broke.
    Broken,
}

impl Client {
    /// Whether nothing is begun, and nothing over.
    pub(in crate::net) fn is_at_rest(&self) -> bool {
        matches!(self.next, Next::Receive { at_least: ..=1 })
            && self.kept.is_none()
            && !self.ended
            && self.waits_for() == Waiting::Request
    }

    /// Reads into `room` what has come from a client at rest.
    pub(in crate::net) fn listen(&mut self, room: &mut [u8]) -> Listened {
        if !self.is_at_rest() {
            let is_called = matches!(self.waits_for(), Waiting::Peers | Waiting::Turn);
            return if is_called { Listened::Later } else { Listened::ForATurn };
        }
        let ClientSocket::Plain(socket) = &self.stream else { return Listened::ForATurn };
        if room.is_empty() {
            return Listened::ForATurn;
        }
        let read = socket.read(room);
        match read {
            Err(ref error) if error.kind() == io::ErrorKind::WouldBlock => Listened::ForATurn,
            read => match (self.note_arrival(&read), read) {
                (Ok(()), Ok(arrived)) if arrived > 0 => Listened::Bytes(arrived),
                (Ok(()), _) => Listened::ForATurn,
                (Err(reason), _) => {
                    self.place.reason.set(reason);
                    Listened::Broken
                }
            },
        }
    }

    /// The first request of what was read, where it is whole.
    pub(in crate::net) fn foresee<'i>(&self, heard: &'i [u8]) -> Option<Foreseen<'i>> {
        // What panics here does so again where it is heard, and ends the client there.
        catch_unwind(AssertUnwindSafe(|| self.session.foresee(heard))).ok().flatten()
    }

    /// Answers what was read.
    pub(in crate::net) fn answer_heard(
        &mut self,
        heard: &[u8],
        foreseen: Option<(&Foreseen<'_>, &Key<'_>)>,
        reply: &mut Vec<u8>,
    ) -> After {
        let after = self.guarded(|client| {
            match client.may_be_answered()? {
                Some(now) => client.hear(heard, foreseen, now, reply),
                None => client.keep_input(heard),
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
        after
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
