//! A worker: one thread, which owns the connections dealt to it until they end. No request ever crosses
//! to another thread.
//!
//! All connections of a worker share its buffers: they are served on one thread, and leave nothing in them
//! behind. Those who have sent a request each are served [`together`]; who needs more has a turn alone.
//!
//! A worker waits in its own [`Poller`], and goes the [`round`]s of those who are ready. So a client needs
//! no task of a runtime, and a silent one takes 0.6 KiB. The runtime is for datagrams: where a
//! worker has some, it waits in the runtime, which waits in the poller among others.
//!
//! Time limits cost a connection no timer: once a tick the worker looks at every client that is within
//! something and ends those that have stood still for too long.
//!
//! What is NOT here: a client's turn ([`super::client`]), and replies that wait for peers
//! ([`super::acks`]).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{spawn_local, unconstrained};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acceptor::{Arrival, Listed};
use super::acks::{Cloakroom, Held, Verdict};
use super::client::{Client, Place};
use super::datagram::{DatagramSocket, answer_datagrams};
use super::poller::{Bell, Poller, READY_AT_ONCE, Signals};
use super::socket::{ClientSocket, PlainSocket};
use super::transfer::Batcher;
use crate::clock::Now;
use crate::command::{
    CloseReason, ConnState, Connection, LockAnswer, LockRequest, Pledges, Server, Serving, Session,
    Stop,
};
use crate::limits::READ_BUFFER;
use crate::replication::State;
use crate::settings::Settings;
use crate::stats::WorkerCounters;
use crate::store::MutationLog;

mod care;
mod clients;
mod drain;
mod moderation;
mod round;
mod thread;
mod together;

use clients::Clients;
use moderation::Moderation;
pub use thread::WorkerThread;
use together::Together;

/// How often a worker looks after its clients.
const TICK: Duration = Duration::from_millis(500);

/// Turns of clients after which peers are told of what was logged in them: a fraction of a millisecond.
/// The next one is timed: of clients who ask by turns it is another one each time, unless they are as
/// many as this or a multiple.
const TURNS_UNTOLD_MAX: u32 = 31;

/// What clients are read into and answered into who have a turn.
#[derive(Debug)]
pub(super) struct Buffers {
    pub(super) input: Box<[u8]>,
    pub(super) reply: Vec<u8>,
}

/// What the clients of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    server: Arc<Server>,
    pub(super) counters: Arc<WorkerCounters>,
    buffers: RefCell<Buffers>,
    together: RefCell<Together>,
    moderation: RefCell<Moderation>,
    ticks: Arc<AtomicU32>,
    /// Clients' turns until peers are told, and one is timed.
    turns_left: Cell<u32>,
    /// When the turn began that is being timed.
    began: Cell<Now>,
    stopping: Cell<bool>,
    stop_requests: mpsc::UnboundedSender<Stop>,
    poller: Poller,
    clients: RefCell<Clients>,
    /// Somebody may be at the door.
    is_door_knocked: Cell<bool>,
    /// Who is to be woken, and when.
    alarms: RefCell<Vec<(Instant, Waker)>>,
    /// When clients are looked after next.
    next_tick: Cell<Instant>,
    /// Where replies wait for peers, when there may be any.
    cloakroom: Option<Cloakroom>,
}

impl Worker {
    pub(super) fn new(
        server: Arc<Server>,
        ticks: Arc<AtomicU32>,
        stop_requests: mpsc::UnboundedSender<Stop>,
    ) -> io::Result<Worker> {
        let counters = server.totals.register();
        let poller = Poller::open()?;
        let peers = server.peers.as_ref();
        let cloakroom = peers.map(|peers| Cloakroom::new(peers, poller.calls().knocker()));
        let input = vec![0; READ_BUFFER].into_boxed_slice();
        let began = server.clock.unmoved();
        let batcher = Batcher::new(server.settings.io_uring, Arc::clone(&counters));
        Ok(Worker {
            server,
            counters,
            buffers: RefCell::new(Buffers { input, reply: Vec::new() }),
            together: RefCell::new(Together::new(batcher)),
            moderation: RefCell::new(Moderation::new()),
            ticks,
            turns_left: Cell::new(TURNS_UNTOLD_MAX),
            began: Cell::new(began),
            stopping: Cell::new(false),
            stop_requests,
            poller,
            clients: RefCell::default(),
            is_door_knocked: Cell::new(true),
            alarms: RefCell::default(),
            next_tick: Cell::new(Instant::now() + TICK),
            cloakroom,
        })
    }

    /// A client has its turn. Where there is always another one, the worker never rests, and peers
    /// must hear of what it logs all the same.
    pub(super) fn begin_turn(&self) {
        self.turns_left.set(self.turns_left.get() - 1);
        if self.turns_left.get() == 0 {
            self.begin_timed_turn();
        }
    }

    #[cold]
    fn begin_timed_turn(&self) {
        self.turns_left.set(TURNS_UNTOLD_MAX);
        MutationLog::wake_reader();
        self.began.set(self.server.clock.unmoved());
    }

    /// The turn is over.
    pub(super) fn end_turn(&self) {
        if self.turns_left.get() == TURNS_UNTOLD_MAX {
            self.end_timed_turn();
        }
    }

    #[cold]
    fn end_timed_turn(&self) {
        let now = self.server.clock.unmoved().unix_micros();
        self.counters.count_turn(now.saturating_sub(self.began.get().unix_micros()));
    }

    pub(super) fn now(&self) -> Now {
        self.server.clock.now()
    }

    /// Ticks since the start: real time, which `debugtime` does not move.
    pub(super) fn tick(&self) -> u32 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Clients are to go: the server stops, or may lack what its peers have.
    pub(super) fn stopping(&self) -> bool {
        self.stopping.get() || self.serving() == Serving::No
    }

    /// The same, of what the worker itself knows.
    pub(super) fn is_draining(&self) -> bool {
        self.stopping.get()
    }

    /// Whether clients may be answered from what we have.
    pub(super) fn serving(&self) -> Serving {
        self.look().0
    }

    /// The same, and what time it is: with one look at the clock.
    pub(super) fn look(&self) -> (Serving, Now) {
        let unmoved = self.server.clock.unmoved();
        let peers = self.server.peers.as_ref();
        let serving = peers.map_or(Serving::Now, |peers| peers.serving(unmoved));
        (serving, self.server.clock.as_moved(unmoved))
    }

    /// Waits until clients may be answered, or are to go.
    pub(super) fn poll_serving(&self, cx: &mut Context<'_>) -> Poll<()> {
        let now = || self.server.clock.unmoved();
        self.cloakroom.as_ref().map_or(Poll::Ready(()), |room| room.poll_serving(now(), cx))
    }

    /// Whether what has just been answered on this thread must wait for peers.
    pub(super) fn hold(&self, pledges: impl FnOnce() -> Pledges) -> Option<Held> {
        self.cloakroom.as_ref()?.hold(pledges())
    }

    /// Has a request for an exclusive lock key decided.
    pub(super) fn ask_lock(&self, request: LockRequest) -> Option<LockAnswer> {
        Some(self.server.peers.as_ref()?.locks.as_ref()?.ask(request))
    }

    /// Waits for peers.
    pub(super) fn poll_held(&self, held: &mut Held, cx: &mut Context<'_>) -> Poll<Verdict> {
        let now = self.server.clock.unmoved();
        self.cloakroom.as_ref().map_or(Poll::Ready(Verdict::Send), |room| room.poll(held, now, cx))
    }

    /// Waits until a moment that is not far.
    pub(super) fn poll_at(&self, moment: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= moment {
            return Poll::Ready(());
        }
        let mut alarms = self.alarms.borrow_mut();
        let is_set = |(at, who): &(Instant, Waker)| *at == moment && who.will_wake(cx.waker());
        if !alarms.iter().any(is_set) {
            alarms.push((moment, cx.waker().clone()));
        }
        Poll::Pending
    }

    /// Waits for peers.
    pub(super) async fn wait_for_peers(&self, held: &mut Held) -> Verdict {
        poll_fn(|cx| self.poll_held(held, cx)).await
    }

    /// Whether answers are withdrawn that peers have not acknowledged in time.
    pub(super) fn may_withdraw(&self) -> bool {
        self.server.peers.as_ref().is_some_and(|peers| peers.withhold_unacknowledged())
    }

    /// Answers to so many changes have been withdrawn.
    pub(super) fn count_refused(&self, changes: u64) {
        if let Some(peers) = &self.server.peers {
            peers.count_refused(changes);
        }
    }

    /// A client has asked the server to stop.
    pub(super) fn ask_to_stop(&self, stop: Stop) {
        // Nobody listens any more: the server is stopping already.
        let _ = self.stop_requests.send(stop);
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.server.settings
    }

    /// Shows a socket that is no client's among the connections until the result is dropped.
    pub(super) fn list(&self, connection: &Arc<Connection>) -> Listed {
        Listed::new(&self.server, connection)
    }

    /// A conversation that has not begun.
    pub(super) fn session(&self, listed: &Arc<Connection>) -> Session {
        let (server, counters) = (Arc::clone(&self.server), Arc::clone(&self.counters));
        Session::new(server, counters, Arc::clone(listed))
    }

    /// Begins to serve a connection.
    fn admit(self: &Rc<Worker>, arrival: Arrival) {
        let Arrival { stream, peer, listener, seat } = arrival;
        let fd = stream.as_raw_fd();
        let listed = Arc::new(Connection::new(
            fd,
            peer,
            Some(Arc::clone(&listener.name)),
            listener.transport,
            ConnState::NewCmd,
            self.now().seconds(),
        ));
        let session = self.session(&listed).speaking(listener.protocol);
        let place = Place::new(self, listed, seat);
        let mut clients = self.clients.borrow_mut();
        let signals = Arc::new(Signals::new(clients.next_key(), self.poller.calls()));
        let watched = self.poller.watch(&stream, &signals).and_then(|()| match listener.tls {
            // What it wants to send is not only what it was given to send.
            Some(_) => self.poller.watch_room(&stream, &signals, true),
            None => Ok(()),
        });
        if let Err(error) = watched {
            return tracing::warn!(%error, "a connection could not be polled and is closed");
        }
        let plain = PlainSocket::new(stream, &signals);
        let socket = match &listener.tls {
            None => Some(ClientSocket::Plain(plain)),
            Some(tls) => {
                let tls = tls.socket(plain, &self.counters);
                tls.map(|tls| ClientSocket::Tls(Box::new((tls, signals))))
            }
        };
        if let Some(socket) = socket {
            clients.insert(Client::new(place, socket, session));
        }
    }

    /// A connection has come.
    pub(super) fn enlist(&self, listed: &Arc<Connection>) {
        self.server.log_opened(listed, self.now());
        self.server.connections.insert(listed.fd, Arc::clone(listed));
    }

    /// A client is about to close its socket: nobody may find its descriptor's number any more.
    pub(super) fn leave(&self, listed: &Connection, reason: CloseReason) {
        tracing::debug!(fd = listed.fd, ?reason, "connection closed");
        self.server.connections.remove(&listed.fd);
        self.server.log_closed(listed, reason, self.now());
    }

    /// The state has changed. Who is ready may have been loading since it was last looked at, and
    /// what its clients have sent may be older than what it has loaded.
    fn end_those_of_before(&self, state: &mut watch::Receiver<State>) {
        if matches!(*state.borrow_and_update(), State::Loading | State::Ready) {
            self.clients.borrow_mut().end(|_| Some(CloseReason::Shutdown));
        }
    }

    /// Lets connections in as the node's state allows it, until the server stops.
    async fn mind_the_door(
        self: &Rc<Worker>,
        mut arrivals: mpsc::UnboundedReceiver<Arrival>,
        mut state: watch::Receiver<State>,
        stop: CancellationToken,
    ) {
        let mut admitted = 0;
        loop {
            if admitted == READY_AT_ONCE {
                admitted = 0;
                let_clients_go_first().await;
            }
            tokio::select! {
                Some(arrival) = arrivals.recv() => {
                    admitted += 1;
                    if state.has_changed().is_ok_and(|changed| changed) {
                        self.end_those_of_before(&mut state);
                    }
                    if *state.borrow() == State::Ready {
                        self.admit(arrival);
                    }
                }
                Ok(()) = state.changed() => self.end_those_of_before(&mut state),
                () = stop.cancelled() => return,
            }
        }
    }

    /// What has a runtime that serves datagrams come back to the poller.
    fn bell_for(&self, datagrams: &[DatagramSocket]) -> io::Result<Option<Bell>> {
        (!datagrams.is_empty()).then(|| self.poller.bell()).transpose()
    }

    async fn serve(
        self: Rc<Worker>,
        arrivals: mpsc::UnboundedReceiver<Arrival>,
        bell: Option<Bell>,
        datagrams: Vec<DatagramSocket>,
        stop: CancellationToken,
        state: watch::Receiver<State>,
    ) {
        for socket in datagrams {
            spawn_local(answer_datagrams(Rc::clone(&self), socket, state.clone()));
        }
        let knocker = self.poller.calls().knocker();
        let mut knocked = Context::from_waker(&knocker);
        // Out of the runtime nobody gives it another budget of steps (tokio's coop).
        let mut door = pin!(unconstrained(self.mind_the_door(arrivals, state, stop)));
        while !self.is_door_knocked.take() || door.as_mut().poll(&mut knocked).is_pending() {
            self.go_round(bell.as_ref(), None).await;
        }
        self.drain(bell.as_ref()).await;
    }
}

/// Those who are in are served before more are let in.
async fn let_clients_go_first() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
