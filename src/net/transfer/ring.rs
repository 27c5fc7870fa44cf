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

use super::{Bytes, RECEIVE, SEND, Transfer};

/// Most transfers handed over at once, a power of two.
const AT_ONCE: u32 = 64;

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

    /// Makes transfers.
    ///
    /// # Errors
    /// The kernel refuses; those without an outcome have not been made, and the ring is of no more use.
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
            // says so of each, and we wait for that. What it has not taken stays in the queue, and as long as
            // anything is in there nothing more is handed over.
            unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
        }
        drop(queue);
        let (mut taken, mut made) = (0, 0);
        loop {
            for done in self.0.completion() {
                made += 1;
                let number = usize::try_from(done.user_data());
                if let Some(transfer) = number.ok().and_then(|number| transfers.get_mut(number)) {
                    let count = usize::try_from(done.result());
                    let error = |_| io::Error::from_raw_os_error(-done.result());
                    transfer.outcome = Some(count.map_err(error));
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

impl Transfer<'_> {
    fn entry(&mut self) -> Entry {
        let socket = types::Fd(self.socket.as_raw_fd());
        // Of more than that the socket is asked again.
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
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
