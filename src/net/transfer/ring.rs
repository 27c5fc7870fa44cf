//! Many transfers in one system call, by `io_uring`.
//!
//! It is used as a longer system call, not as a way to do things later: all that was handed over is done when
//! the call returns. So the memory of a transfer is its caller's before and after, and nothing is under way
//! when a connection is closed.

use std::io;
use std::os::fd::AsRawFd;
use std::process::abort;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

use nix::errno::Errno;

use super::{Bytes, RECEIVE, SEND, Transfer};

/// Most transfers handed over at once, a power of two.
const AT_ONCE: u32 = 64;

/// Most bytes of a transfer: Linux moves no more at a time, `MAX_RW_COUNT` with the smallest pages.
const LEN_MAX: u32 = 0x7fff_f000;

/// A thread's means to hand over transfers.
pub(super) struct Ring(IoUring);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// One for the thread that calls this.
    ///
    /// # Errors
    /// The machine does not have it, or does not allow it.
    pub(super) fn open() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        builder.build(AT_ONCE).map(Ring)
    }

    /// Makes transfers. One without an outcome has not been made.
    ///
    /// # Errors
    /// The kernel refuses. The ring is of no more use.
    pub(super) fn make(&mut self, transfers: &mut [Transfer<'_>]) -> io::Result<()> {
        transfers.chunks_mut(AT_ONCE as usize).try_for_each(|chunk| self.make_at_once(chunk))
    }

    #[expect(unsafe_code, reason = "the kernel is handed memory that is borrowed here")]
    fn make_at_once(&mut self, transfers: &mut [Transfer<'_>]) -> io::Result<()> {
        let mut queue = self.0.submission();
        if !queue.is_empty() {
            return Err(io::Error::other("what was refused before is still in the queue"));
        }
        for (number, transfer) in transfers.iter_mut().enumerate() {
            let entry = transfer.entry().user_data(number as u64);
            // SAFETY: the entry names memory and a socket that the transfer borrows, and the transfer is
            // borrowed until this function returns. By then the kernel is done with every entry it has taken: it
            // says so of each, and we wait for that (not long, by MSG_DONTWAIT). What it has not taken
            // stays in the queue, and as long as anything is in there nothing more is handed over.
            unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
        }
        drop(queue);
        let (mut taken, mut made) = (0, 0);
        loop {
            for done in self.0.completion() {
                made += 1;
                let number = usize::try_from(done.user_data());
                if let Some(transfer) = number.ok().and_then(|number| transfers.get_mut(number)) {
                    transfer.outcome = outcome(done.result());
                }
            }
            if made == transfers.len() {
                return Ok(());
            }
            match self.0.submit_and_wait(transfers.len() - made) {
                Ok(more) => taken += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if taken == made => return Err(error),
                // It has taken what it does not say it is done with, and may write into memory that will soon be
                // another's. No kernel does: what cannot be done at once it says so of.
                Err(_) => abort(),
            }
        }
    }
}

/// What the kernel says came of a transfer; nothing, if it could not prepare for it or was interrupted.
fn outcome(result: i32) -> Option<io::Result<usize>> {
    match usize::try_from(result) {
        Ok(count) => Some(Ok(count)),
        Err(_) => match Errno::from_raw(-result) {
            Errno::EINTR | Errno::ENOMEM | Errno::ECANCELED | Errno::EINVAL => None,
            error => Some(Err(error.into())),
        },
    }
}

impl Transfer<'_> {
    fn entry(&mut self) -> Entry {
        let socket = types::Fd(self.socket.as_raw_fd());
        // The kernel refuses more at a time, and takes less.
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(LEN_MAX);
        match &mut self.bytes {
            Bytes::In(into) => {
                let len = len(into);
                opcode::Recv::new(socket, into.as_mut_ptr(), len).flags(RECEIVE.bits()).build()
            }
            Bytes::Out(bytes) => {
                let len = len(bytes);
                opcode::Send::new(socket, bytes.as_ptr(), len).flags(SEND.bits()).build()
            }
        }
    }
}
