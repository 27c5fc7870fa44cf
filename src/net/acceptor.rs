//! The acceptor: takes connections from the listeners and deals them out to the workers in turn.
//!
//! A connection needs one of the `-c` seats. Without one it is told so and closed, or (with
//! `-o no_maxconns_fast`) nothing is accepted until a seat is free. Without a file descriptor the
//! one held in reserve is given up for a moment, so that the client can be told instead of waiting
//! in the kernel's queue, and so that accepting never spins.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use nix::errno::Errno;
use socket2::Socket;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;

use super::listener::{About, Listener, tcp_name};
use super::worker::WorkerThread;
use crate::clock::UnixSeconds;
use crate::command::{ConnState, Connection, Server, Serving};
use crate::replication::State;
use crate::stats::WorkerCounters;

/// What a client is told that finds no seat or no descriptor.
const REFUSAL: &[u8] = b"ERROR Too many open connections\r\n";

/// How long accepting rests when the machine had no descriptor or memory for it.
const BACK_OFF: Duration = Duration::from_millis(10);

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: Stream,
    /// The client's address as `stats conns` shows it.
    pub(super) peer: String,
    pub(super) listener: Arc<About>,
    pub(super) seat: OwnedSemaphorePermit,
}

/// An accepted socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(std::net::TcpStream),
    Unix(UnixStream),
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Accepts for all listeners, on one thread.
#[derive(Debug)]
pub struct Acceptor {
    server: Arc<Server>,
    counters: Arc<WorkerCounters>,
    seats: Arc<Semaphore>,
    workers: Vec<mpsc::UnboundedSender<Arrival>>,
    next: Cell<usize>,
    reserve: RefCell<Option<File>>,
    last_complaint: Cell<UnixSeconds>,
}

impl Acceptor {
    /// An acceptor that deals to `workers`.
    #[must_use]
    pub fn new(server: &Arc<Server>, workers: &[WorkerThread]) -> Acceptor {
        Acceptor {
            server: Arc::clone(server),
            counters: server.totals.register(),
            seats: Arc::new(Semaphore::new(server.settings.conn_limit)),
            workers: workers.iter().map(|worker| worker.arrivals.clone()).collect(),
            next: Cell::new(0),
            reserve: RefCell::new(File::open("/dev/null").ok()),
            last_complaint: Cell::default(),
        }
    }

    /// Accepts from `listener`, whenever the node's `state` allows it, until the future is dropped.
    ///
    /// # Errors
    /// The listener cannot be opened or polled.
    pub async fn accept_from(
        self: Rc<Acceptor>,
        listener: Listener,
        mut state: watch::Receiver<State>,
    ) -> io::Result<()> {
        let _listed = self.list(&listener.about);
        loop {
            if state.wait_for(|state| *state == State::Ready).await.is_err() {
                // Whoever told us of the state has gone: the server stops.
                return std::future::pending().await;
            }
            listener.open().map_err(|error| io::Error::other(error.to_string()))?;
            let door = Door::open(listener.socket.try_clone()?, &listener.about)?;
            // Whatever is new: it may be ready for the second time. Those who wait in the kernel's
            // queue had come to a node that stood still, and may have given up since.
            let as_it_was = state.clone();
            tokio::select! {
                () = self.serve(&door, &listener.about, &as_it_was) => {}
                Ok(()) = state.changed() => {}
            }
            if listener.about.addr.is_some() {
                drop(door);
                listener.close()?;
            } else {
                // A unix socket, once closed, could not be opened again. Its queue is emptied past the
                // poller, which may not know of it yet.
                while listener.socket.accept().is_ok() {}
                tokio::select! {
                    () = turn_away(&door) => {}
                    Ok(_) = state.wait_for(|state| *state == State::Ready) => {}
                }
            }
        }
    }

    async fn serve(&self, door: &Door, about: &Arc<About>, state: &watch::Receiver<State>) {
        loop {
            match poll_fn(|cx| door.poll_accept(cx)).await {
                Ok(_) if self.is_of_before(state) => {}
                Ok((stream, peer)) => self.seat(stream, peer, about).await,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.complain(&error);
                    if is_want_of_descriptors(&error) {
                        self.refuse_without_descriptor(door);
                    }
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    /// Whether what has been accepted may have come to a node that stood still.
    fn is_of_before(&self, state: &watch::Receiver<State>) -> bool {
        let stood_still = || {
            let now = self.server.clock.unmoved();
            self.server.peers.as_ref().is_some_and(|peers| peers.serving(now) == Serving::No)
        };
        state.has_changed().is_ok_and(|changed| changed) || stood_still()
    }

    fn list(&self, about: &About) -> Listed {
        let connection = Connection::new(
            about.fd,
            about.name.to_string(),
            None,
            about.transport,
            ConnState::Listening,
            self.server.clock.now().seconds(),
        );
        Listed::new(&self.server, &Arc::new(connection))
    }

    /// Finds a seat for an accepted connection and a worker to serve it.
    async fn seat(&self, stream: Stream, peer: String, listener: &Arc<About>) {
        let seat = match Arc::clone(&self.seats).try_acquire_owned() {
            Ok(seat) => seat,
            Err(_) if self.server.settings.maxconns_fast => {
                self.counters.rejected_connections.bump();
                return refuse(stream);
            }
            Err(_) => match self.wait_for_seat().await {
                Some(seat) => seat,
                None => return,
            },
        };
        self.counters.total_connections.bump();
        let arrival = Arrival { stream, peer, listener: Arc::clone(listener), seat };
        let turn = self.next.get();
        self.next.set((turn + 1) % self.workers.len());
        // A worker that is gone means that the server stops; the connection is closed unserved.
        let _ = self.workers[turn].send(arrival);
    }

    /// `-o no_maxconns_fast`: nobody else is accepted until a seat is free.
    async fn wait_for_seat(&self) -> Option<OwnedSemaphorePermit> {
        let since = self.server.clock.now();
        self.server.listen_disabled_num.fetch_add(1, Ordering::Relaxed);
        self.server.accepting.store(0, Ordering::Relaxed);
        let seat = Arc::clone(&self.seats).acquire_owned().await.ok();
        self.server.accepting.store(1, Ordering::Relaxed);
        let waited = self.server.clock.now().unix_micros().saturating_sub(since.unix_micros());
        self.server.listen_disabled_us.fetch_add(waited, Ordering::Relaxed);
        seat
    }

    /// Says at most once a second that accepting failed.
    fn complain(&self, error: &io::Error) {
        let now = self.server.clock.now().seconds();
        if now != self.last_complaint.replace(now) {
            tracing::warn!(%error, "cannot accept a connection");
        }
    }

    /// Gives up the reserved descriptor for a moment to tell the next client that there is none.
    fn refuse_without_descriptor(&self, door: &Door) {
        self.server.accept_emfile.fetch_add(1, Ordering::Relaxed);
        let mut reserve = self.reserve.borrow_mut();
        let mut now_or_never = Context::from_waker(Waker::noop());
        if reserve.take().is_some()
            && let Poll::Ready(Ok((stream, _peer))) = door.poll_accept(&mut now_or_never)
        {
            refuse(stream);
        }
        *reserve = File::open("/dev/null").ok();
    }
}

/// A socket in the list of connections that is no client's; it leaves the list when this is
/// dropped.
pub(super) struct Listed {
    server: Arc<Server>,
    fd: RawFd,
}

impl Listed {
    pub(super) fn new(server: &Arc<Server>, connection: &Arc<Connection>) -> Listed {
        server.connections.insert(connection.fd, Arc::clone(connection));
        Listed { server: Arc::clone(server), fd: connection.fd }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.server.connections.remove(&self.fd);
    }
}

/// A listening socket that can be waited for.
#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    fn open(socket: Socket, about: &About) -> io::Result<Door> {
        match about.addr {
            Some(_) => TcpListener::from_std(socket.into()).map(Door::Tcp),
            None => UnixListener::from_std(socket.into()).map(Door::Unix),
        }
    }

    /// An accepted connection, free of this thread's poller, and the client's address as
    /// `stats conns` shows it.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, String)>> {
        Poll::Ready(match self {
            Door::Tcp(listener) => ready!(listener.poll_accept(cx))
                .and_then(|(stream, peer)| Ok((Stream::Tcp(stream.into_std()?), tcp_name(peer)))),
            Door::Unix(listener) => ready!(listener.poll_accept(cx)).and_then(|(stream, _)| {
                Ok((Stream::Unix(stream.into_std()?), "?:<AF 0>".to_owned()))
            }),
        })
    }
}

/// Closes what is accepted.
async fn turn_away(door: &Door) {
    loop {
        if poll_fn(|cx| door.poll_accept(cx)).await.is_err() {
            sleep(BACK_OFF).await;
        }
    }
}

/// Tells a client that there is no place, and closes.
fn refuse(stream: Stream) {
    // A fresh socket's buffer takes one line; a client that is gone needs none.
    let _ = match stream {
        Stream::Tcp(mut stream) => stream.write_all(REFUSAL),
        Stream::Unix(mut stream) => stream.write_all(REFUSAL),
    };
}

/// Whether an accept failed for the one connection that was next: it is gone, others may come.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO))
}

/// Whether this process or the machine has no file descriptor left.
fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::EMFILE | Errno::ENFILE))
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::net::listen_tcp;
    use crate::settings::{Listen, Settings};

    #[tokio::test]
    async fn who_comes_while_there_is_no_descriptor_is_told_so_and_the_reserve_is_there_again() {
        let server = Arc::new(Server::new(Settings::default()));
        let acceptor = Acceptor::new(&server, &[]);
        let addr = "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap();
        let listener = listen_tcp(&Listen::from(addr), 16).unwrap();
        listener.open().unwrap();
        let addr = listener.about.addr.unwrap();
        let door = Door::open(listener.socket, &listener.about).unwrap();
        let mut clients: Vec<_> =
            (0..4).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        // The poller knows that somebody waits only once it has been asked.
        let _served = poll_fn(|cx| door.poll_accept(cx)).await.unwrap();
        for (client, round) in clients[1..].iter_mut().zip(1..) {
            acceptor.refuse_without_descriptor(&door);
            let mut heard = Vec::new();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, REFUSAL);
            assert!(acceptor.reserve.borrow().is_some());
            assert_eq!(server.accept_emfile.load(Ordering::Relaxed), round);
        }
    }

    #[test]
    fn only_a_want_of_descriptors_takes_the_reserve_and_only_a_lost_connection_no_rest() {
        let of = io::Error::from_raw_os_error;
        for number in [Errno::EMFILE, Errno::ENFILE] {
            assert!(is_want_of_descriptors(&of(number as i32)));
            assert!(!is_of_one_connection(&of(number as i32)));
        }
        for number in [Errno::ENOBUFS, Errno::ENOMEM, Errno::EINVAL] {
            assert!(!is_want_of_descriptors(&of(number as i32)));
            assert!(!is_of_one_connection(&of(number as i32)));
        }
        assert!(is_of_one_connection(&of(Errno::ECONNABORTED as i32)));
    }
}
