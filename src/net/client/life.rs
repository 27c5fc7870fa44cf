//! A client's time awake, which ends with its connection or in the dormitory.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::super::acceptor::Stream;
use super::super::dormitory::Sleeper;
use super::super::tls::TlsSocket;
use super::Client;

/// What a client's bytes come through.
pub(in crate::net) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// What the runtime's poller knows nothing of any more; `None` where there is more to it.
    fn bare(self) -> Option<Stream>;
}

impl Socket for TcpStream {
    fn bare(self) -> Option<Stream> {
        self.into_std().ok().map(Stream::Tcp)
    }
}

impl Socket for UnixStream {
    fn bare(self) -> Option<Stream> {
        self.into_std().ok().map(Stream::Unix)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for TlsSocket<S> {
    fn bare(self) -> Option<Stream> {
        None
    }
}

/// A client that is awake: what its task runs.
pub(in crate::net) struct Life<S: Socket>(Option<Client<S>>);

impl<S: Socket> Life<S> {
    pub(in crate::net) fn of(client: Client<S>) -> Life<S> {
        Life(Some(client))
    }
}

impl<S: Socket> Future for Life<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |client| Pin::new(client).poll(cx))
    }
}

impl<S: Socket> Drop for Life<S> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take_if(|client| client.place.pulse.drowsy.take()) {
            let Client { place, stream, session, .. } = client;
            let worker = Rc::clone(&place.worker);
            if let Some(stream) = stream.bare() {
                worker.lay_down(Sleeper { place, stream, session });
            }
        }
    }
}
