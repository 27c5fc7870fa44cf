//! A stream that speaks TLS and looks like a plain one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use crate::stats::WorkerCounters;

/// A connection's TLS, with its handshake still to come or done.
pub(in crate::net) struct TlsSocket<S: AsyncRead + AsyncWrite + Unpin> {
    state: State<S>,
    counters: Arc<WorkerCounters>,
}

enum State<S> {
    Handshake(Box<Accept<S>>),
    Open(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsSocket<S> {
    pub(super) fn new(accept: Accept<S>, counters: Arc<WorkerCounters>) -> TlsSocket<S> {
        TlsSocket { state: State::Handshake(Box::new(accept)), counters }
    }

    /// Whether the handshake is not over: whoever reads gives a client so long for it.
    pub(in crate::net) fn is_shaking_hands(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// The stream, once the handshake is done.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut TlsStream<S>>> {
        if let State::Handshake(accept) = &mut self.state {
            match ready!(Pin::new(&mut **accept).poll(cx)) {
                Ok(stream) => {
                    if stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed) {
                        self.counters.ssl_new_sessions.bump();
                    }
                    self.state = State::Open(Box::new(stream));
                }
                Err(error) => {
                    self.counters.ssl_handshake_errors.bump();
                    tracing::debug!(%error, "TLS handshake failed");
                    return Poll::Ready(Err(error));
                }
            }
        }
        match &mut self.state {
            State::Open(stream) => Poll::Ready(Ok(stream)),
            State::Handshake(_) => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let stream = ready!(socket.poll_open(cx))?;
        match ready!(Pin::new(stream).poll_read(cx, buf)) {
            // Many clients hang up without TLS's good-bye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                socket.counters.ssl_proto_errors.bump();
                tracing::debug!(%error, "TLS broke off");
                Poll::Ready(Err(error))
            }
            read => Poll::Ready(read),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_write(cx, buf)
    }

    /// What was written may wait here, encrypted: it is sent when this is ready.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for TlsSocket<S> {
    /// Says TLS's good-bye, as far as the socket takes it at once: without it a client cannot tell
    /// our end from somebody cutting the line.
    fn drop(&mut self) {
        if let State::Open(stream) = &mut self.state {
            let mut now_or_never = Context::from_waker(Waker::noop());
            let _ = Pin::new(stream).poll_shutdown(&mut now_or_never);
        }
    }
}
