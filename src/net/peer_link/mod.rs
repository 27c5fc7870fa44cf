//! The peer link: the thread that carries what [`crate::replication`] has to say to other nodes.
//!
//! Picture the postman of the letter writer in [`crate::replication`]: he opens connections, finds
//! out whether whoever is at the other end may read our letters at all, carries bytes both ways,
//! looks at the clock, and knows nothing of what the letters say. All of it happens on one thread
//! of its own, so that workers never wait for peers.
//!
//! | file | what |
//! |---|---|
//! | `driver` | events in, effects out |
//! | `carrier` | one connection's bytes |
//! | `introduce` | who may connect: magic, secret, TLS |
//! | `strangers` | whoever is at the door, and is not known yet |
//! | `names` | which addresses the operator's names stand for |
//! | `report` `complaints` | what the log says of it, and how often |
//!
//! What is NOT here: workers that hold back replies ([`super::acks`]).

mod carrier;
mod complaints;
mod driver;
mod introduce;
mod names;
mod report;
mod strangers;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::{io, thread};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use super::listener::ListenError;
use crate::command::{Peers, Server};
use crate::replication::State;
use driver::Driver;
pub use introduce::{Introductions, SECRET_MAX};

/// Sockets on which peers find us.
#[derive(Debug)]
pub struct PeerListener {
    socket: TcpListener,
    /// With the port.
    pub addr: SocketAddr,
}

/// Listens for peers.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub fn listen_for_peers(addr: SocketAddr) -> Result<PeerListener, ListenError> {
    let bound = || -> io::Result<PeerListener> {
        let socket = super::listener::bind_tcp(addr)?;
        socket.listen(BACKLOG)?;
        let addr = socket.local_addr()?.as_socket().unwrap_or(addr);
        Ok(PeerListener { socket: socket.into(), addr })
    };
    bound().map_err(|error| ListenError::Tcp(addr, error))
}

/// Connections of peers that wait to be accepted.
const BACKLOG: i32 = 64;

/// What the rest of the server asks of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Hand everything over and end.
    Drain,
}

/// The running link.
#[derive(Debug)]
pub struct PeerLink {
    thread: thread::JoinHandle<()>,
    orders: mpsc::UnboundedSender<Order>,
    /// Whether the node may serve clients. Its end, before [`PeerLink::drain`], is the thread's: by a
    /// mistake of ours.
    pub state: watch::Receiver<State>,
    /// Why the node must not run at all, should that turn out.
    pub refusals: mpsc::UnboundedReceiver<String>,
    /// Grows as long as the thread gets round to looking at the time.
    pub rounds: Arc<AtomicU32>,
}

impl PeerLink {
    /// Starts to speak with peers.
    ///
    /// # Errors
    /// The machine refuses a thread or a poller, or has no random bytes.
    pub fn start(
        server: &Arc<Server>,
        peers: &Arc<Peers>,
        listeners: Vec<PeerListener>,
        introductions: Introductions,
    ) -> io::Result<PeerLink> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (refuse, refusals) = mpsc::unbounded_channel();
        let (tell_state, state) = watch::channel(State::Loading);
        let (server, peers) = (Arc::clone(server), Arc::clone(peers));
        let rounds = Arc::<AtomicU32>::default();
        let counted = Arc::clone(&rounds);
        let (started, start) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name("peers".to_owned()).spawn(move || {
            let runtime =
                Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let driver = Driver::new(server, peers, introductions, tell_state, refuse, counted);
            let driver = match driver {
                Ok(driver) => driver,
                Err(error) => return drop(started.send(Err(error))),
            };
            drop(started.send(Ok(())));
            runtime.block_on(driver.run(listeners, ordered));
        })?;
        start.recv().map_err(|_| io::Error::other("the thread for peers died"))??;
        Ok(PeerLink { thread, orders, state, refusals, rounds })
    }

    /// Hands everything over to the peers and ends. A peer that does not take it is waited for ten
    /// seconds, and one that does not read what was said to it two more.
    pub fn drain(self) {
        // A thread that has ended has nothing to hand over.
        let _ = self.orders.send(Order::Drain);
        if self.thread.join().is_err() {
            tracing::error!("the thread for peers had panicked");
        }
    }
}
