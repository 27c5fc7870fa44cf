//! What is asked of a client that is served together with others: for what it is ready, what its first request
//! will need, its answer, and whether it wants a turn of its own besides.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;

use super::super::socket::{ClientSocket, PlainSocket, is_for_later};
use super::{After, Client, Waiting};
use crate::command::{CloseReason, Foreseen, Next};
use crate::store::Key;

/// For what a client is ready whose socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Readiness {
    /// To be read with others.
    ToBeRead,
    /// For a turn of its own.
    ForATurn,
    /// For nothing yet: it has its turn when it calls.
    Later,
}

/// What was read of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Listened {
    /// So many bytes: they are to be answered.
    Bytes(usize),
    /// Something for a turn, or nothing.
    ForATurn,
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

    /// For what it is ready, now that its socket is.
    pub(in crate::net) fn readiness(&self) -> Readiness {
        if self.is_at_rest() {
            match self.plain() {
                Some(socket) if socket.may_be_read() => Readiness::ToBeRead,
                _ => Readiness::ForATurn,
            }
        } else if matches!(self.waits_for(), Waiting::Peers | Waiting::Turn) {
            Readiness::Later
        } else {
            Readiness::ForATurn
        }
    }

    /// The socket that bytes can be moved from and to together with others'.
    pub(in crate::net) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.plain().map(AsFd::as_fd)
    }

    fn plain(&self) -> Option<&PlainSocket> {
        match &self.stream {
            ClientSocket::Plain(socket) => Some(socket),
            ClientSocket::Tls(_) => None,
        }
    }

    /// Notes what was read of a client at rest where there was so much `room`.
    pub(in crate::net) fn listen(&mut self, read: &io::Result<usize>, room: usize) -> Listened {
        if let Some(socket) = self.plain() {
            socket.note_read(read, room);
        }
        if read.as_ref().is_err_and(is_for_later) {
            return Listened::ForATurn;
        }
        match (self.note_arrival(read), read) {
            (Ok(()), &Ok(arrived)) if arrived > 0 => Listened::Bytes(arrived),
            (Ok(()), _) => Listened::ForATurn,
            (Err(reason), _) => {
                self.place.reason.set(reason);
                Listened::Broken
            }
        }
    }

    /// The first request of what was read, where it is whole.
    pub(in crate::net) fn foresee<'i>(&self, heard: &'i [u8]) -> Option<Foreseen<'i>> {
        // What panics here does so again where it is heard, and ends the client there.
        catch_unwind(AssertUnwindSafe(|| self.session.foresee(heard))).ok().flatten()
    }

    /// Answers what was read. What stands in `reply` then is to be sent.
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
            client.hold(reply);
            client.look_for_peers()
        });
        if after == After::Goes {
            reply.clear();
        }
        after
    }

    /// Looks whether peers have what was answered, where that waits for them.
    pub(in crate::net) fn ask_peers(&mut self) -> After {
        if self.is_held() { self.guarded(Client::look_for_peers) } else { After::Waits }
    }

    fn look_for_peers(&mut self) -> Poll<Result<Infallible, CloseReason>> {
        if self.is_held() {
            let waker = Waker::from(Arc::clone(self.signals()));
            ready!(self.poll_acknowledged(&mut Context::from_waker(&waker)));
        }
        Poll::Pending
    }

    /// What is left to be sent, if peers need not be waited for and nothing keeps it from being sent together with
    /// others'.
    pub(in crate::net) fn take_released(&mut self) -> Option<BytesMut> {
        let may_be_sent = self.plain()?.may_be_written() && !self.is_held();
        let kept = self.kept.as_mut().filter(|kept| may_be_sent && !kept.output.is_empty())?;
        let output = std::mem::take(&mut kept.output);
        self.kept.take_if(|kept| kept.is_nothing());
        Some(output)
    }

    /// Notes how much of the `reply` was sent, and keeps the rest.
    pub(in crate::net) fn tell(&mut self, sent: &io::Result<usize>, reply: &[u8]) -> After {
        if let Some(socket) = self.plain() {
            socket.note_write(sent);
        }
        let sent = match sent {
            Err(error) if is_for_later(error) => Ok(0),
            sent => self.note_departure(sent),
        };
        match sent {
            Ok(sent) => {
                // A plain socket keeps nothing back.
                self.unflushed = false;
                self.keep_output(&reply[sent..]);
                After::Waits
            }
            Err(reason) => {
                self.place.reason.set(reason);
                After::Goes
            }
        }
    }

    /// Whether more is to be done for who has been answered than to wait: for peers, or the next request.
    pub(in crate::net) fn wants_turn(&self) -> bool {
        // Of TLS's socket alone it cannot be seen whether more has come.
        let rests = self.is_at_rest() && self.plain().is_some_and(|socket| !socket.may_be_read());
        !self.is_held() && (!rests || self.place.worker.is_draining())
    }

    /// What was answered waits for peers.
    fn is_held(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.held.is_some())
    }
}
