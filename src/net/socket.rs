//! A client's socket as its worker's own poller serves it: what the runtime knows nothing of.
//!
//! A read or write that cannot be done now wakes nobody: the [`Signals`] say when it is worth trying again,
//! and whoever sees that they have changed polls the client.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::acceptor::Stream;
use super::poller::Signals;
use super::tls::TlsSocket;

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

    /// Reads what is there; nothing is the end.
    ///
    /// # Errors
    /// There is nothing, or the connection broke.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        if !self.signals.may_be_read() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = retry(|| match &self.stream {
            Stream::Tcp(stream) => (&*stream).read(into),
            Stream::Unix(stream) => (&*stream).read(into),
        });
        match &read {
            Ok(arrived) => self.signals.note_read(*arrived, into.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.signals.note_empty(),
            Err(_) => {}
        }
        read
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.signals.may_be_written() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = retry(|| match &self.stream {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        });
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.signals.note_full();
        }
        written
    }
}

/// Again, if a signal came between.
fn retry(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Not now.
fn later<T>(done: io::Result<T>) -> Poll<io::Result<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
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
