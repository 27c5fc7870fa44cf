//! A client's socket as its worker's own poller serves it: what the runtime knows nothing of.
//!
//! A read or write that cannot be done now wakes nobody: the [`Signals`] say when it is worth trying again,
//! and whoever sees that they have changed polls the client.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::acceptor::Stream;
use super::poller::Signals;
use super::tls::TlsSocket;
use super::transfer::Transfer;

/// A client's socket.
#[derive(Debug)]
pub(super) struct PlainSocket {
    stream: Stream,
    signals: Arc<Signals>,
}

impl PlainSocket {
    /// One that does not block.
    pub(super) fn new(stream: Stream, signals: &Arc<Signals>) -> PlainSocket {
        PlainSocket { stream, signals: Arc::clone(signals) }
    }

    /// Whether it is worth reading.
    pub(super) fn may_be_read(&self) -> bool {
        self.signals.may_be_read()
    }

    /// Whether it is worth writing.
    pub(super) fn may_be_written(&self) -> bool {
        self.signals.may_be_written()
    }

    /// Notes what came of a read for which there was so much `room`.
    pub(super) fn note_read(&self, read: &io::Result<usize>, room: usize) {
        match read {
            Ok(arrived) => self.signals.note_read(*arrived, room),
            Err(error) if is_for_later(error) => self.signals.note_empty(),
            Err(_) => {}
        }
    }

    /// Notes what came of a write.
    pub(super) fn note_write(&self, written: &io::Result<usize>) {
        if written.as_ref().is_err_and(is_for_later) {
            self.signals.note_full();
        }
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        if !self.signals.may_be_read() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = into.len();
        let read = Transfer::receive(self.as_fd(), into).make();
        self.note_read(&read, room);
        read
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.signals.may_be_written() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = Transfer::send(self.as_fd(), bytes).make();
        self.note_write(&written);
        written
    }
}

/// What the socket cannot do it may do when its signals have changed.
pub(super) fn is_for_later(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Not now.
fn later<T>(done: io::Result<T>) -> Poll<io::Result<T>> {
    match done {
        Err(ref error) if is_for_later(error) => Poll::Pending,
        done => Poll::Ready(done),
    }
}

impl AsFd for PlainSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for PlainSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.read(into.initialize_unfilled());
        later(read.map(|arrived| into.advance(arrived)))
    }
}

impl AsyncWrite for PlainSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        later(self.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        })
    }
}

/// What a client speaks through. Each byte of it is one of every idle connection's.
pub(super) enum ClientSocket {
    Plain(PlainSocket),
    Tls(Box<(TlsSocket<PlainSocket>, Arc<Signals>)>),
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientSocket::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            ClientSocket::Tls(socket) => Pin::new(&mut socket.0).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientSocket::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            ClientSocket::Tls(socket) => Pin::new(&mut socket.0).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientSocket::Plain(socket) => Pin::new(socket).poll_flush(cx),
            ClientSocket::Tls(socket) => Pin::new(&mut socket.0).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientSocket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            ClientSocket::Tls(socket) => Pin::new(&mut socket.0).poll_shutdown(cx),
        }
    }
}

impl ClientSocket {
    pub(super) fn signals(&self) -> &Arc<Signals> {
        match self {
            ClientSocket::Plain(socket) => &socket.signals,
            ClientSocket::Tls(socket) => &socket.1,
        }
    }

    /// Whether TLS's handshake is not over.
    pub(super) fn is_shaking_hands(&self) -> bool {
        matches!(self, ClientSocket::Tls(socket) if socket.0.is_shaking_hands())
    }
}
