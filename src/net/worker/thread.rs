//! A worker's thread: it is started, watched and waited for from others.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::{io, thread};

use nix::sys::prctl::set_timerslack;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::command::{Server, Stop};
use crate::net::acceptor::Arrival;
use crate::net::datagram::DatagramSocket;
use crate::replication::State;
use crate::store::MutationLog;

/// A running worker, as the rest of the server sees it.
#[derive(Debug)]
pub struct WorkerThread {
    thread: thread::JoinHandle<()>,
    /// Where connections are dealt to it.
    pub(in crate::net) arrivals: mpsc::UnboundedSender<Arrival>,
    pub(in crate::net) ticks: Arc<AtomicU32>,
}

impl WorkerThread {
    /// Starts a worker, which serves until `stop` is cancelled: the connections dealt to it, and
    /// what comes to its `datagrams`, as long as the node's `state` allows it.
    ///
    /// # Errors
    /// The machine refuses a thread or a poller.
    pub fn start(
        index: usize,
        server: &Arc<Server>,
        datagrams: Vec<DatagramSocket>,
        stop_requests: mpsc::UnboundedSender<Stop>,
        stop: CancellationToken,
        state: watch::Receiver<State>,
    ) -> io::Result<WorkerThread> {
        let (arrivals, dealt) = mpsc::unbounded_channel();
        let ticks = Arc::new(AtomicU32::new(0));
        let (server, ticks_there) = (Arc::clone(server), Arc::clone(&ticks));
        let (started, start) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            MutationLog::wake_when_told();
            // A moment of moderation is as long as it is meant to be, not 50 us longer.
            if let Err(error) = set_timerslack(1) {
                tracing::debug!(%error, "a worker rests longer than it wants to");
            }
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_park(MutationLog::wake_reader)
                .build_local(LocalOptions::default());
            let worker = Worker::new(server, ticks_there, stop_requests).map(Rc::new);
            let prepared = runtime.and_then(|runtime| {
                let worker = worker?;
                let bell = runtime.block_on(async { worker.bell_for(&datagrams) })?;
                Ok((runtime, worker, bell))
            });
            let (runtime, worker, bell) = match prepared {
                Ok(prepared) => prepared,
                Err(error) => return drop(started.send(Err(error))),
            };
            drop(started.send(Ok(())));
            runtime.block_on(worker.serve(dealt, bell, datagrams, stop, state));
        })?;
        start.recv().map_err(|_| io::Error::other("the worker thread died"))??;
        Ok(WorkerThread { thread, arrivals, ticks })
    }

    /// A number that grows as long as the worker gets round to looking after its clients.
    #[must_use]
    pub fn rounds(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.ticks)
    }

    /// Waits for the worker's end.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker thread had panicked");
        }
    }
}
