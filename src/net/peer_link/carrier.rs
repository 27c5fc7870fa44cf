//! One connection's bytes: a task that reads and a task that writes.

use std::cell::{Cell, RefCell};
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::timeout;

use super::driver::Driver;
use crate::replication::{Event, LinkId};

/// Bytes read at a time.
const READ: usize = 256 << 10;

/// After so many bytes of a scan, some 0.1 ms, others that want our core have a turn: a thread that is
/// never idle keeps it for milliseconds, and they may be a worker whose client waits.
const TURN: usize = 16 << 10;

/// Bytes of room for outgoing bytes that are kept for the next: as much as a link is given to send at
/// a time, so that a busy one does not ask the machine for memory again and again.
const ROOM_KEPT: usize = 2 << 20;

/// How long what has been said before the end may take to be sent.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// A connection to a peer, in clear or in TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// An open, authenticated connection.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) addr: SocketAddr,
    outgoing: Rc<Outgoing>,
    reader: AbortHandle,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: RefCell<Vec<u8>>,
    /// Nothing will be added.
    ended: Cell<bool>,
    changed: Notify,
}

impl Carrier {
    /// Carries bytes between `stream` and the driver until one of them ends it.
    pub(super) fn start(
        driver: &Rc<Driver>,
        link: LinkId,
        stream: Box<dyn Stream>,
        addr: SocketAddr,
    ) -> Carrier {
        let (reader, writer) = tokio::io::split(stream);
        let outgoing = Rc::<Outgoing>::default();
        let reading = read(Rc::clone(driver), link, reader);
        let reader = driver.spawn(reading);
        let writing = write(Rc::clone(driver), link, writer, Rc::clone(&outgoing));
        driver.writers.borrow_mut().spawn_local(driver.watched(writing));
        Carrier { addr, outgoing, reader }
    }

    /// Takes what is to be sent, and gives back room for more.
    pub(super) fn send(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let mut outgoing = self.outgoing.bytes.borrow_mut();
        if outgoing.is_empty() {
            mem::swap(&mut *outgoing, &mut bytes);
        } else {
            outgoing.extend_from_slice(&bytes);
        }
        self.outgoing.changed.notify_one();
        bytes
    }
}

impl Drop for Carrier {
    /// What has been said is still sent, as far as that goes quickly.
    fn drop(&mut self) {
        self.reader.abort();
        self.outgoing.ended.set(true);
        self.outgoing.changed.notify_one();
    }
}

async fn read(driver: Rc<Driver>, link: LinkId, mut from: ReadHalf<Box<dyn Stream>>) {
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return driver.lost(link),
            Ok(read) => {
                let piece = if driver.is_at_length() { TURN } else { READ };
                for bytes in buffer[..read].chunks(piece) {
                    driver.tell(Event::Received { link, bytes });
                    driver.let_others_go_first();
                }
            }
        }
        yield_now().await;
    }
}

async fn write(
    driver: Rc<Driver>,
    link: LinkId,
    mut to: WriteHalf<Box<dyn Stream>>,
    outgoing: Rc<Outgoing>,
) {
    loop {
        let mut batch = mem::take(&mut *outgoing.bytes.borrow_mut());
        if batch.is_empty() {
            if outgoing.ended.get() {
                let _ = timeout(FAREWELL_MAX, to.shutdown()).await;
                return;
            }
            outgoing.changed.notified().await;
            continue;
        }
        let written = tokio::select! {
            written = send(&mut to, &batch) => written,
            () = too_late(&outgoing) => return,
        };
        driver.let_others_go_first();
        if written.is_err() {
            return driver.lost(link);
        }
        batch.clear();
        batch.shrink_to(ROOM_KEPT);
        driver.give_back(link, batch);
        if outgoing.bytes.borrow().is_empty() && !outgoing.ended.get() {
            driver.tell(Event::Sendable { link });
        }
    }
}

async fn send(to: &mut WriteHalf<Box<dyn Stream>>, batch: &[u8]) -> std::io::Result<()> {
    to.write_all(batch).await?;
    to.flush().await
}

/// Waits until a connection that has been closed has had its time to say so.
async fn too_late(outgoing: &Outgoing) {
    while !outgoing.ended.get() {
        outgoing.changed.notified().await;
    }
    tokio::time::sleep(FAREWELL_MAX).await;
}
