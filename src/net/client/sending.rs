//! How a client is told: what its socket does not take at once is kept.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::{Client, Step};
use crate::command::CloseReason;
use crate::limits::OUTPUT_SOFT_MAX;

impl Client {
    /// Sends the worker's reply buffer; what the socket does not take becomes the client's.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        let mut sent = 0;
        while sent < reply.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &reply[sent..]) {
                Poll::Ready(written) => sent += self.note_departure(&written)?,
                Poll::Pending => {
                    self.keep_output(&reply[sent..]);
                    break;
                }
            }
        }
        reply.clear();
        reply.shrink_to(4 * OUTPUT_SOFT_MAX);
        Ok(())
    }

    /// Sends what was left over.
    pub(super) fn poll_send_rest(&mut self, cx: &mut Context<'_>) -> Step {
        while let Some(kept) = self.kept.as_ref().filter(|kept| !kept.output.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &kept.output));
            let sent = self.note_departure(&written)?;
            let output = &mut self.kept().output;
            output.advance(sent);
            if output.is_empty() {
                *output = BytesMut::new();
            }
        }
        if self.unflushed {
            let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
            self.unflushed = false;
            flushed.map_err(|_| CloseReason::Error)?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn note_departure(
        &mut self,
        written: &io::Result<usize>,
    ) -> Result<usize, CloseReason> {
        match *written {
            Ok(0) | Err(_) => Err(CloseReason::Error),
            Ok(sent) => {
                self.unflushed = true;
                self.place.worker.counters.bytes_written.add(sent as u64);
                self.pulse.moved = self.place.worker.tick();
                Ok(sent)
            }
        }
    }
}
