//! A client whose socket does not take what it is told.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, duplex};
use tokio::sync::{Semaphore, mpsc};

use super::super::worker::Worker;
use super::*;
use crate::command::{Connection, Server, Transport};
use crate::settings::Settings;

/// A client that has asked for the version and is gone before it can be told.
struct Gone {
    asked: bool,
}

impl AsyncRead for Gone {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.asked, true) {
            into.put_slice(b"version\r\n");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gone {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _reply: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn client<S: AsyncRead + AsyncWrite + Unpin>(worker: &Rc<Worker>, fd: i32, s: S) -> Client<S> {
    let now = worker.now().seconds();
    let (addr, state) = ("tcp:192.0.2.1:1".to_owned(), ConnState::NewCmd);
    let listed = Arc::new(Connection::new(fd, addr, None, Transport::Tcp, state, now));
    let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let session = worker.session(&listed);
    Client::new(Place::new(worker, listed, seat), s, session)
}

/// Serves a client until its connection is to be closed.
async fn live(client: Client<impl AsyncRead + AsyncWrite + Unpin>, buffers: &mut Buffers) {
    let mut client = client;
    std::future::poll_fn(|cx| client.take_turn(cx, buffers)).await;
}

#[tokio::test]
async fn a_reply_that_cannot_be_sent_is_never_sent_to_somebody_else() {
    let server = Arc::new(Server::new(Settings::default()));
    let (stop_requests, _stop_requested) = mpsc::unbounded_channel();
    let worker = Rc::new(Worker::new(server, Arc::default(), stop_requests).unwrap());
    let mut buffers = Buffers { input: vec![0; READ_BUFFER].into(), reply: Vec::new() };
    live(client(&worker, 1, Gone { asked: false }), &mut buffers).await;

    let (mut caller, theirs) = duplex(1024);
    tokio::io::AsyncWriteExt::write_all(&mut caller, b"no_such_command x\r\nquit\r\n")
        .await
        .unwrap();
    live(client(&worker, 2, theirs), &mut buffers).await;
    let mut heard = Vec::new();
    caller.read_to_end(&mut heard).await.unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), "ERROR\r\n");
}
