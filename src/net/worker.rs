//! A worker: one thread with one current-thread runtime, which owns the connections dealt to it
//! until they end. No request ever crosses to another thread.
//!
//! All connections of a worker share one buffer to read into and one to answer into: a connection
//! is polled by one thread and leaves nothing in them between two polls.
//!
//! A client is awake, with a task, or asleep in the [dormitory](super::dormitory). It comes asleep, is
//! woken by what arrives for it, and lies down again when it has been silent for a while.
//!
//! Time limits cost a connection no timer: once a tick the worker looks at every client's pulse
//! and ends those that have stood still for too long.
//!
//! What is NOT here: a client's turn ([`super::client`]), and replies that wait for peers
//! ([`super::acks`]).

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::acceptor::{Arrival, Listed, Stream};
use super::acks::{Cloakroom, Held, Verdict};
use super::client::{Client, Life, Pulse, Socket, Waiting};
use super::datagram::{DatagramSocket, answer_datagrams};
use super::dormitory::{Bell, Dormitory, Place, Sleeper, WOKEN_AT_ONCE};
use crate::clock::Now;
use crate::command::{
    CloseReason, ConnState, Connection, LockAnswer, LockRequest, Pledges, Server, Serving, Session,
    Stop, Transport,
};
use crate::limits::{DRAIN_MAX, READ_BUFFER, REPLY_STALL_MAX, REQUEST_STALL_MAX};
use crate::replication::State;
use crate::settings::Settings;
use crate::stats::WorkerCounters;
use crate::store::MutationLog;

mod thread;

pub use thread::WorkerThread;

/// How often a worker looks after its clients.
const TICK: Duration = Duration::from_millis(500);

/// How long a silent client is kept awake: longer than from one request of a page to the next.
const AWAKE_MAX: Duration = Duration::from_secs(5);

/// When the node stops: who has said nothing for so long will say nothing, and how long others are heard.
const SILENT: Duration = Duration::from_millis(50);
const HEARD_OUT_MAX: Duration = Duration::from_millis(200);

/// Turns of clients after which peers are told of what was logged in them: a fraction of a millisecond.
/// The next one is timed: of clients who ask by turns it is another one each time, unless they are as
/// many as this or a multiple.
const TURNS_UNTOLD_MAX: u32 = 31;

/// What all connections of a worker read into and answer into.
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
    ticks: Arc<AtomicU32>,
    /// Clients' turns until peers are told, and one is timed.
    turns_left: Cell<u32>,
    /// When the turn began that is being timed.
    began: Cell<Now>,
    stopping: Cell<bool>,
    stop_requests: mpsc::UnboundedSender<Stop>,
    members: RefCell<HashMap<RawFd, Member>>,
    dormitory: Dormitory,
    last_left: Notify,
    /// Where replies wait for peers, when there may be any.
    cloakroom: Option<Rc<Cloakroom>>,
}

/// A client that is awake.
#[derive(Debug)]
struct Member {
    pulse: Rc<Pulse>,
    listed: Arc<Connection>,
    task: AbortHandle,
    may_sleep: Cell<bool>,
}

impl Worker {
    pub(super) fn new(
        server: Arc<Server>,
        ticks: Arc<AtomicU32>,
        stop_requests: mpsc::UnboundedSender<Stop>,
    ) -> io::Result<Worker> {
        let counters = server.totals.register();
        let cloakroom = server.peers.as_ref().map(|peers| Rc::new(Cloakroom::new(peers)));
        let input = vec![0; READ_BUFFER].into_boxed_slice();
        let began = server.clock.unmoved();
        Ok(Worker {
            server,
            counters,
            buffers: RefCell::new(Buffers { input, reply: Vec::new() }),
            ticks,
            turns_left: Cell::new(TURNS_UNTOLD_MAX),
            began: Cell::new(began),
            stopping: Cell::new(false),
            stop_requests,
            members: RefCell::default(),
            dormitory: Dormitory::open()?,
            last_left: Notify::new(),
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

    /// The shared buffers, for the length of one poll.
    pub(super) fn buffers(&self) -> RefMut<'_, Buffers> {
        self.buffers.borrow_mut()
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
        match (stream, &listener.tls) {
            (Stream::Tcp(stream), Some(tls)) => {
                if let Some(stream) = self.pollable(tokio::net::TcpStream::from_std(stream))
                    && let Some(stream) = tls.socket(stream, &self.counters)
                {
                    self.start(Client::new(place, stream, session), false);
                }
            }
            (stream, _) => self.lay_down(Sleeper { place, stream, session }),
        }
    }

    /// Lets a client sleep until something arrives for it.
    pub(super) fn lay_down(&self, sleeper: Sleeper) {
        self.members.borrow_mut().remove(&sleeper.place.listed.fd);
        if !self.stopping.get() {
            self.pollable(self.dormitory.take_in(sleeper));
        }
    }

    /// Gives those a task for whom something has arrived; returns whether there may be more.
    fn wake_sleepers(self: &Rc<Worker>) -> bool {
        let woken = self.dormitory.woken();
        let may_be_more = woken.len() == WOKEN_AT_ONCE;
        for Sleeper { place, stream, session } in woken {
            place.pulse.moved.set(self.tick());
            match stream {
                Stream::Tcp(stream) => {
                    if let Some(stream) = self.pollable(tokio::net::TcpStream::from_std(stream)) {
                        self.start(Client::new(place, stream, session), true);
                    }
                }
                Stream::Unix(stream) => {
                    if let Some(stream) = self.pollable(tokio::net::UnixStream::from_std(stream)) {
                        self.start(Client::new(place, stream, session), true);
                    }
                }
            }
        }
        may_be_more
    }

    fn pollable<T>(&self, polled: io::Result<T>) -> Option<T> {
        polled
            .inspect_err(|error| {
                tracing::warn!(%error, "a connection could not be polled and is closed");
            })
            .ok()
    }

    fn start<S: Socket + 'static>(self: &Rc<Worker>, client: Client<S>, may_sleep: bool) {
        let place = client.place();
        let (pulse, listed) = (Rc::clone(&place.pulse), Arc::clone(&place.listed));
        let fd = listed.fd;
        let task = spawn_local(Life::of(client)).abort_handle();
        let may_sleep = Cell::new(may_sleep);
        self.members.borrow_mut().insert(fd, Member { pulse, listed, task, may_sleep });
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
        let mut members = self.members.borrow_mut();
        members.remove(&listed.fd);
        if members.is_empty() {
            self.last_left.notify_one();
        }
    }

    /// Ends the clients that have stood still for too long.
    fn look_after_clients(&self) {
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let now = self.now().seconds();
        let idle_timeout = self.server.settings.idle_timeout;
        if let Some(cloakroom) = &self.cloakroom {
            cloakroom.call_due(self.server.clock.unmoved());
        }
        let is_idle = |listed: &Connection| {
            idle_timeout > 0
                && listed.transport == Transport::Tcp
                && now.since(listed.last_command()) > idle_timeout
        };
        for member in self.members.borrow().values() {
            let still = TICK * tick.wrapping_sub(member.pulse.moved.get());
            match member.pulse.waiting.get() {
                Waiting::Reader if still > REPLY_STALL_MAX => member.end(CloseReason::Error),
                Waiting::Rest if still > REQUEST_STALL_MAX => member.end(CloseReason::Error),
                Waiting::Request if is_idle(&member.listed) => {
                    self.counters.idle_kicks.bump();
                    member.end(CloseReason::IdleTimeout);
                }
                Waiting::Request if member.may_sleep.get() && still > AWAKE_MAX => member.doze(),
                _ => {}
            }
        }
        if idle_timeout > 0 {
            self.dormitory.end(|place| {
                is_idle(&place.listed).then(|| {
                    self.counters.idle_kicks.bump();
                    CloseReason::IdleTimeout
                })
            });
        }
    }

    /// Has replies called that wait for peers, whenever those have come further.
    async fn call_whenever_rung(self: Rc<Worker>, cloakroom: Rc<Cloakroom>) {
        loop {
            cloakroom.rung().await;
            cloakroom.call_due(self.server.clock.unmoved());
        }
    }

    /// The state has changed. Who is ready may have been loading since it was last looked at, and
    /// what its clients have sent may be older than what it has loaded.
    fn end_those_of_before(&self, state: &mut watch::Receiver<State>) {
        if matches!(*state.borrow_and_update(), State::Loading | State::Ready) {
            self.dormitory.end(|_| Some(CloseReason::Shutdown));
            for member in self.members.borrow().values() {
                member.end(CloseReason::Shutdown);
            }
        }
    }

    /// Ends every client, those last whose reply is being sent.
    async fn drain(&self) {
        self.dormitory.end(|_| Some(CloseReason::Shutdown));
        self.hear_out().await;
        self.stopping.set(true);
        for member in self.members.borrow().values() {
            if !matches!(
                member.pulse.waiting.get(),
                Waiting::Reader | Waiting::Peers | Waiting::Turn
            ) {
                member.end(CloseReason::Shutdown);
            }
        }
        let last_left = async {
            while !self.members.borrow().is_empty() {
                self.last_left.notified().await;
            }
        };
        if timeout(DRAIN_MAX, last_left).await.is_err() {
            tracing::info!("stopped before every reply had been taken");
        }
    }

    /// Ends clients as they fall silent, and waits a little for that. PHP asks for a session in three
    /// requests, sent one after the other: who has heard the first answer, and not the last, makes an
    /// empty session of it.
    async fn hear_out(&self) {
        let until = Instant::now() + HEARD_OUT_MAX;
        let mut heard = self.heard_lately();
        while !heard.is_empty() && Instant::now() < until {
            sleep(SILENT).await;
            let now = self.heard_lately();
            heard.retain(|fd, reads| now.get(fd) == Some(reads));
            for fd in heard.keys() {
                if let Some(member) = self.members.borrow().get(fd) {
                    member.end(CloseReason::Shutdown);
                }
            }
            let is_ended = |fd: &RawFd| heard.contains_key(fd);
            heard = now.into_iter().filter(|(fd, _)| !is_ended(fd)).collect();
        }
    }

    /// Clients of whom something was heard in this tick or the last, and may follow soon, with how
    /// often.
    fn heard_lately(&self) -> HashMap<RawFd, u32> {
        let members = self.members.borrow();
        let is_lately = |pulse: &Pulse| self.tick().wrapping_sub(pulse.moved.get()) <= 1;
        let may_follow = |pulse: &Pulse| {
            matches!(pulse.waiting.get(), Waiting::Request | Waiting::Rest) && is_lately(pulse)
        };
        let lately = members.iter().filter(|(_, member)| may_follow(&member.pulse));
        lately.map(|(fd, member)| (*fd, member.pulse.heard.get())).collect()
    }

    async fn serve(
        self: Rc<Worker>,
        mut arrivals: mpsc::UnboundedReceiver<Arrival>,
        bell: Bell,
        datagrams: Vec<DatagramSocket>,
        stop: CancellationToken,
        mut state: watch::Receiver<State>,
    ) {
        for socket in datagrams {
            spawn_local(answer_datagrams(Rc::clone(&self), socket, state.clone()));
        }
        if let Some(cloakroom) = self.cloakroom.clone() {
            spawn_local(Rc::clone(&self).call_whenever_rung(cloakroom));
        }
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(arrival) = arrivals.recv() => {
                    if state.has_changed().is_ok_and(|changed| changed) {
                        self.end_those_of_before(&mut state);
                    }
                    if *state.borrow() == State::Ready {
                        self.admit(arrival);
                    }
                }
                Ok(()) = state.changed() => self.end_those_of_before(&mut state),
                Ok(mut rung) = bell.readable() => {
                    if !self.wake_sleepers() {
                        rung.clear_ready();
                    }
                }
                _ = ticker.tick() => self.look_after_clients(),
                () = stop.cancelled() => break,
            }
        }
        self.drain().await;
    }
}

impl Member {
    /// The task is dropped, but not its connection, the next time the runtime comes to it.
    fn doze(&self) {
        self.pulse.drowsy.set(true);
        self.task.abort();
    }

    /// The task is dropped, and its connection closed, the next time the runtime comes to it: even if
    /// it was about to sleep, or would be.
    fn end(&self, reason: CloseReason) {
        self.may_sleep.set(false);
        self.pulse.drowsy.set(false);
        self.pulse.reason.set(reason);
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
