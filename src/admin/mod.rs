//! The admin port (`--admin-listen`): what balancers and monitors ask over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while every thread gets round to its work, else 503 and which one does not |
//! | `/readyz` | 200 while clients should come, else 503 and why not |
//! | `/metrics` | the statistics for Prometheus |
//! | `/` | this list |
//!
//! It has a thread of its own. On a worker's, a scrape would hold up clients; on the main thread's,
//! it would hold up accepting them, nobody could say that the main thread is stuck, and the port
//! would fall silent in the drain, just when `/readyz` has something to say.
//!
//! Not here: TLS and passwords. The port shows counts, never keys or values, and takes no orders; it
//! belongs on loopback or behind a firewall.

mod health;
mod http;
mod metrics;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, LocalOptions};
use tokio_util::sync::CancellationToken;

pub use health::Heartbeat;

use crate::command::Server;
use health::Health;

/// A bound admin port that nobody answers yet.
#[derive(Debug)]
pub struct AdminListener {
    socket: TcpListener,
    /// Where it listens, with the port that the kernel chose.
    pub addr: SocketAddr,
}

/// The admin port cannot be had.
#[derive(Debug)]
pub struct AdminError {
    addr: SocketAddr,
    error: io::Error,
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdminError { addr, error } = self;
        write!(f, "failed to listen on {addr} for the admin port (--admin-listen): {error}")
    }
}

impl std::error::Error for AdminError {}

impl AdminListener {
    /// Binds `addr`.
    ///
    /// # Errors
    /// The address is taken, not ours, or not allowed.
    pub fn bind(addr: SocketAddr) -> Result<AdminListener, AdminError> {
        let bound = || {
            let socket = TcpListener::bind(addr)?;
            socket.set_nonblocking(true)?;
            let addr = socket.local_addr()?;
            Ok(AdminListener { socket, addr })
        };
        bound().map_err(|error| AdminError { addr, error })
    }
}

/// What every answer is made from.
#[derive(Debug)]
struct Site {
    server: Arc<Server>,
    health: Health,
}

/// The running admin port, as the rest of the server sees it.
#[derive(Debug)]
pub struct AdminThread {
    thread: thread::JoinHandle<()>,
    stop: CancellationToken,
}

impl AdminThread {
    /// Starts to answer on `listener`; the threads behind `heartbeats` are those whose standstill
    /// makes the process unhealthy.
    ///
    /// # Errors
    /// The machine refuses a thread or a poller.
    pub fn start(
        listener: AdminListener,
        server: &Arc<Server>,
        heartbeats: Vec<Heartbeat>,
    ) -> io::Result<AdminThread> {
        let stop = CancellationToken::new();
        let (server, stopped) = (Arc::clone(server), stop.clone());
        let (started, start) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let runtime =
                Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let listening = {
                let _inside = runtime.enter();
                tokio::net::TcpListener::from_std(listener.socket)
            };
            let listener = match listening {
                Ok(listener) => listener,
                Err(error) => return drop(started.send(Err(error))),
            };
            drop(started.send(Ok(())));
            let site = Rc::new(Site { server, health: Health::of(heartbeats) });
            runtime.block_on(http::serve(&site, &listener, &stopped));
        })?;
        start.recv().map_err(|_| io::Error::other("the admin thread died"))??;
        Ok(AdminThread { thread, stop })
    }

    /// Closes the port, and with it what was being answered.
    pub fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            tracing::error!("the admin thread had panicked");
        }
    }
}
