//! How a client is heard: what is read, when it is enough for the session, and what is kept of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, ReadBuf};

use super::super::worker::Buffers;
use super::{Client, Step, own};
use crate::clock::Now;
use crate::command::{CloseReason, Foreseen, Next, Serving};
use crate::limits::READ_BUFFER;
use crate::store::Key;

/// The least room made when a request is gathered in the client's own memory.
const GATHER_MIN: usize = 4 << 10;

impl Client {
    /// Reads once, and lets the session hear what there is when it is enough.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        at_least: usize,
    ) -> Step {
        let kept = self.input().len();
        let at_least = at_least.max(kept + 1);
        if at_least > buffers.input.len() {
            return self.poll_gather(cx, buffers, at_least);
        }
        let mut free = ReadBuf::new(&mut buffers.input[kept..]);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut free));
        let arrived = free.filled().len();
        let all = kept + arrived;
        self.note_arrival(&read.map(|()| arrived))?;
        let is_enough = self.ended || all >= at_least;
        match self.may_be_answered()? {
            Some(now) if is_enough && !self.ended => {
                buffers.input[..kept].copy_from_slice(self.input());
                self.hear(&buffers.input[..all], None, now, &mut buffers.reply);
            }
            now => {
                self.kept().input.extend_from_slice(&buffers.input[kept..all]);
                if let Some(now) = now.filter(|_| is_enough) {
                    self.hear_kept(now, buffers);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether what has just been read may be answered, and what time it is. It may have been sent while the
    /// node stood still: then it is to be kept, and heard as soon as clients may be answered.
    pub(super) fn may_be_answered(&mut self) -> Result<Option<Now>, CloseReason> {
        let (serving, now) = self.place.worker.look();
        match serving {
            Serving::Now => Ok(Some(now)),
            Serving::Soon => {
                (self.next, self.yielded) = (Next::Yield, true);
                Ok(None)
            }
            Serving::No => Err(CloseReason::Shutdown),
        }
    }

    /// Lets the session hear what has come, of which the first request may have been foreseen.
    pub(super) fn hear(
        &mut self,
        heard: &[u8],
        foreseen: Option<(&Foreseen<'_>, &Key<'_>)>,
        now: Now,
        reply: &mut Vec<u8>,
    ) {
        let received = self.session.receive_foreseen(heard, foreseen, now, reply);
        self.next = received.next;
        self.keep_input(&heard[received.consumed..]);
    }

    /// Reads once, and keeps what came: the request does not fit the shared buffer.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        at_least: usize,
    ) -> Step {
        let mut free = ReadBuf::new(&mut buffers.input);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut free));
        let arrived = free.filled().len();
        self.note_arrival(&read.map(|()| arrived))?;
        let missing = at_least - self.input().len();
        let input = &mut self.kept().input;
        input.reserve(missing.clamp(arrived.max(GATHER_MIN), READ_BUFFER));
        input.extend_from_slice(&buffers.input[..arrived]);
        let is_enough = self.ended || self.input().len() >= at_least;
        if let Some(now) = self.may_be_answered()?.filter(|_| is_enough) {
            self.hear_kept(now, buffers);
        }
        Poll::Ready(Ok(()))
    }

    /// Counts what a read brought; nothing means that the client has ended its half.
    pub(super) fn note_arrival(&mut self, read: &io::Result<usize>) -> Result<(), CloseReason> {
        match read {
            Ok(0) => self.ended = true,
            Ok(arrived) => {
                self.place.worker.counters.bytes_read.add(*arrived as u64);
                self.pulse.moved = self.place.worker.tick();
                self.pulse.heard = self.pulse.heard.wrapping_add(1);
            }
            Err(_) => return Err(CloseReason::Error),
        }
        Ok(())
    }

    /// Lets the session hear what the client keeps in its own memory.
    pub(super) fn hear_kept(&mut self, now: Now, buffers: &mut Buffers) {
        let input = &mut self.kept.get_or_insert_default().input;
        let received = self.session.receive(input, now, &mut buffers.reply);
        self.next = received.next;
        input.advance(received.consumed);
        if input.is_empty() || !matches!(self.next, Next::Yield) {
            *input = own(input);
        }
    }
}
