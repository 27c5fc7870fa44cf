//! Bytes between clients' sockets and memory.
//!
//! A worker often has many transfers to make at the same time: reads of those who have spoken, then writes to
//! them. Each alone is a system call, and where the kernel's part is nine tenths of a small request, going
//! in and out of it is a tenth of that. Linux takes them together by [`ring`], where it is there (6.1 or later), the
//! operator has not switched it off, and no container's or system's policy forbids it; else they are made
//! one by one. What comes of them is the same.
//!
//! What is NOT here: whether a socket is worth it ([`super::poller`] knows), and what the bytes mean.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Once};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use crate::stats::WorkerCounters;

mod ring;

use ring::Ring;

/// Nobody waits within a transfer: what a socket cannot do now is tried again when it can.
const RECEIVE: MsgFlags = MsgFlags::MSG_DONTWAIT;
const SEND: MsgFlags = RECEIVE.union(MsgFlags::MSG_NOSIGNAL);

/// Fewer than these are not worth a ring: on Linux 6.18 a read costs as much with 4 as alone (0.7 us) and 0.5
/// us with 16, a write 3.6 instead of 3.9 us with 3 and 3.4 with 8; two alone cost a tenth more.
const BATCH_MIN: usize = 4;

/// A read or a write of one socket.
#[derive(Debug)]
pub(super) struct Transfer<'b> {
    socket: BorrowedFd<'b>,
    bytes: Bytes<'b>,
    /// Nothing as long as it has not been made.
    outcome: Option<io::Result<usize>>,
}

#[derive(Debug)]
enum Bytes<'b> {
    In(&'b mut [u8]),
    Out(&'b [u8]),
}

impl<'b> Transfer<'b> {
    /// A read of what there is.
    pub(super) fn receive(socket: BorrowedFd<'b>, into: &'b mut [u8]) -> Transfer<'b> {
        Transfer { socket, bytes: Bytes::In(into), outcome: None }
    }

    /// A write of as much as there is room for.
    pub(super) fn send(socket: BorrowedFd<'b>, bytes: &'b [u8]) -> Transfer<'b> {
        Transfer { socket, bytes: Bytes::Out(bytes), outcome: None }
    }

    /// Makes it, if it has not been made; returns how many bytes were read or written. Nothing read is the
    /// end of what the other side sends.
    ///
    /// # Errors
    /// There is nothing, or no room (`WouldBlock`), or the connection broke.
    pub(super) fn make(self) -> io::Result<usize> {
        let Transfer { socket, mut bytes, outcome } = self;
        outcome.unwrap_or_else(|| {
            loop {
                let made = match &mut bytes {
                    Bytes::In(into) => recv(socket.as_raw_fd(), into, RECEIVE),
                    Bytes::Out(bytes) => send(socket.as_raw_fd(), bytes, SEND),
                };
                match made {
                    Err(Errno::EINTR) => {}
                    made => return made.map_err(io::Error::from),
                }
            }
        })
    }
}

/// Makes transfers, together where that is possible.
#[derive(Debug)]
pub(super) struct Batcher {
    ring: Option<Ring>,
    counters: Arc<WorkerCounters>,
}

impl Batcher {
    /// One for the thread that calls this.
    pub(super) fn new(may_use_ring: bool, counters: Arc<WorkerCounters>) -> Batcher {
        static TOLD: Once = Once::new();
        let ring = may_use_ring.then(Ring::open).transpose().unwrap_or_else(|error| {
            TOLD.call_once(|| {
                tracing::info!(%error, "no io_uring: a system call for each read and write of a client");
            });
            None
        });
        Batcher { ring, counters }
    }

    #[cfg(test)]
    pub(super) fn is_together(&self) -> bool {
        self.ring.is_some()
    }

    /// Makes all transfers; returns what came of each.
    pub(super) fn make(&mut self, mut transfers: Vec<Transfer<'_>>) -> Vec<io::Result<usize>> {
        if let Some(ring) = self.ring.as_mut().filter(|_| transfers.len() >= BATCH_MIN) {
            match ring.make(&mut transfers) {
                Ok(()) => self.counters.batched_transfers.add(transfers.len() as u64),
                Err(error) => {
                    tracing::warn!(%error, "io_uring failed: a system call for each read and write from now on");
                    self.ring = None;
                }
            }
        }
        transfers.into_iter().map(Transfer::make).collect()
    }
}

#[cfg(test)]
mod tests;
