//! Events in, effects out: everything the replica is told, and everything it wants done.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::carrier::{Carrier, Stream};
use super::complaints::{Changes, Complaints};
use super::introduce::Introductions;
use super::names::Names;
use super::report;
use super::{Order, PeerListener};
use crate::clock::Now;
use crate::command::{LockClerk, Peers, Server, Serving, random_node};
use crate::limits::PEER_STRANGERS_MAX;
use crate::replication::{
    Boot, Effect, Event, Line, LinkId, PeerIndex, Reason, Replica, ReplicaConfig, State, TICK,
};
use crate::settings::AfterSeparation;
use crate::store::MutationLog;

mod members;

/// How long connecting to an address may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How often the peers' state is shown to `stats`.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// How long what is logged gathers before it is sent, where nobody waits for that.
const GATHER: Duration = Duration::from_millis(1);

/// How many batches are on their way at once to a peer whose acknowledgements clients wait for. Without
/// a bound every set would be a batch, and wake four threads; one alone would make many sets wait for
/// nearly two round trips.
const UNDER_WAY_MAX: usize = 2;

/// Steps of something long in a tick, which leave others most of a core.
const STEPS_A_TICK: usize = 8;

/// How much longer we keep our core than others had it when we gave it away.
const OURS_TO_OTHERS: u32 = 4;

/// Written bytes that are not acknowledged for this long mean a dead connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(4);

/// How long accepting rests when the machine had no descriptor or memory for it.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long the last words may take to be sent.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// The peer link's one thread.
#[derive(Debug)]
pub(super) struct Driver {
    server: Arc<Server>,
    peers: Arc<Peers>,
    replica: RefCell<Replica>,
    carriers: RefCell<BTreeMap<LinkId, Carrier>>,
    /// The address of the connection that ended last.
    ended: Cell<Option<(LinkId, SocketAddr)>>,
    next_link: Cell<u64>,
    names: RefCell<Names>,
    introductions: Introductions,
    complaints: Complaints,
    changes: Changes,
    strangers: Semaphore,
    state: watch::Sender<State>,
    refuse: mpsc::UnboundedSender<String>,
    /// Somebody else has our node number, at this address.
    clash: Cell<Option<SocketAddr>>,
    /// Others have had their share of our core until then.
    keeps_core_until: Cell<Instant>,
    /// The replica has been told something.
    told: Notify,
    pub(super) writers: RefCell<JoinSet<()>>,
}

impl Driver {
    pub(super) fn new(
        server: Arc<Server>,
        peers: Arc<Peers>,
        introductions: Introductions,
        state: watch::Sender<State>,
        refuse: mpsc::UnboundedSender<String>,
    ) -> io::Result<Rc<Driver>> {
        let replica = replica(&server, &peers)?;
        let peering = &server.settings.peering;
        let names = Names::new(&peering.peers, peering.port);
        Ok(Rc::new(Driver {
            replica: RefCell::new(replica),
            names: RefCell::new(names),
            carriers: RefCell::default(),
            ended: Cell::default(),
            next_link: Cell::new(0),
            introductions,
            complaints: Complaints::default(),
            changes: Changes::default(),
            strangers: Semaphore::new(PEER_STRANGERS_MAX),
            state,
            refuse,
            clash: Cell::default(),
            keeps_core_until: Cell::new(Instant::now()),
            told: Notify::new(),
            writers: RefCell::default(),
            server,
            peers,
        }))
    }

    /// Speaks with peers until everything has been handed over.
    pub(super) async fn run(
        self: Rc<Driver>,
        listeners: Vec<PeerListener>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        for (peer, address) in self.names.borrow().all() {
            self.tell(Event::PeerAdded { peer, address });
        }
        for listener in listeners {
            spawn_local(Rc::clone(&self).accept_from(listener));
        }
        spawn_local(Rc::clone(&self).hear_the_log());
        spawn_local(Rc::clone(&self).look_up_again());
        spawn_local(Rc::clone(&self).hear_clients());
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut show = interval(SHOW_EVERY);
        show.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *self.state.borrow() != State::Drained {
            tokio::select! {
                _ = ticker.tick() => {
                    self.follow_roster();
                    self.tell(Event::Tick);
                    self.go_on().await;
                }
                _ = show.tick() => self.show(),
                Some(Order::Drain) = orders.recv() => self.tell(Event::Drain),
            }
        }
        let mut writers = self.writers.take();
        let farewell = async { while writers.join_next().await.is_some() {} };
        let _ = timeout(FAREWELL_MAX, farewell).await;
    }

    /// What takes longer than a moment goes on, in steps between which others have a turn.
    async fn go_on(self: &Rc<Driver>) {
        for _ in 0..STEPS_A_TICK {
            if !self.replica.borrow().is_busy() {
                return;
            }
            self.let_others_go_first();
            yield_now().await;
            self.tell(Event::Logged);
        }
    }

    /// Whether what goes or comes in is mostly a scan, for whose records nobody waits.
    pub(super) fn is_scanning(&self) -> bool {
        self.replica.borrow().is_scanning()
    }

    /// Lets others have our core, unless clients may wait for what we do. On a machine where many want
    /// it, whoever gives it away ten times gets it back after half a second: so most of the time is ours.
    pub(super) fn let_others_go_first(&self) {
        let are_clients_waiting = self.peers.are_awaited() && self.peers.in_sync() > 0;
        let since = Instant::now();
        if self.is_scanning() && !are_clients_waiting && since >= self.keeps_core_until.get() {
            std::thread::yield_now();
            let now = Instant::now();
            self.keeps_core_until.set(now + OURS_TO_OTHERS * now.duration_since(since));
        }
    }

    fn now(&self) -> Now {
        self.server.clock.unmoved()
    }

    /// Tells the replica what has happened and does what it wants done.
    pub(super) fn tell(self: &Rc<Driver>, event: Event<'_>) {
        let (mut effects, now) = (Vec::new(), self.now());
        self.replica.borrow_mut().handle(event, now, &mut effects);
        // First of all: whoever hears that the node is ready asks this.
        self.permit(now);
        for effect in effects {
            self.perform(effect);
        }
        if let Some(addr) = self.clash.take() {
            self.settle_clash(addr);
        }
        self.told.notify_one();
    }

    fn permit(&self, now: Now) {
        let replica = self.replica.borrow();
        let serving = match replica.state() {
            State::Loading => Serving::No,
            _ if replica.is_paused() => Serving::Soon,
            _ => Serving::Now,
        };
        self.peers.permit(serving, now);
    }

    fn perform(self: &Rc<Driver>, effect: Effect) {
        match effect {
            Effect::Send { link, bytes } => {
                if let Some(carrier) = self.carriers.borrow().get(&link) {
                    let room = carrier.send(bytes);
                    self.replica.borrow_mut().recycle(link, room);
                }
            }
            Effect::Close { link, reason } => {
                let carrier = self.carriers.borrow_mut().remove(&link);
                if let Some(carrier) = carrier {
                    self.ended.set(Some((link, carrier.addr)));
                    if reason == Reason::NodeClash {
                        self.clash.set(Some(carrier.addr));
                    }
                }
            }
            Effect::Dial { peer } => {
                spawn_local(Rc::clone(self).dial(peer));
            }
            Effect::Acknowledged { one, all, in_sync } => {
                self.peers.acknowledge(one, all, in_sync);
            }
            Effect::LockAnswer { id, answer } => {
                if let Some(locks) = &self.peers.locks {
                    locks.answer(id, answer);
                }
            }
            Effect::State(state) => {
                report::state(state);
                if let Some(locks) = self.peers.locks.as_ref().filter(|_| state != State::Ready) {
                    locks.forget_all(state == State::Drained);
                }
                self.show();
                self.state.send_replace(state);
            }
            Effect::Log(line) => self.log(&line),
        }
    }

    fn log(&self, line: &Line) {
        let (said, now) = (*line, self.now());
        match said {
            Line::Linked { node, .. } => {
                self.changes.tell(node, "linked", true, now, move || report::line(&said));
            }
            Line::InSync { node, in_sync } => {
                self.changes.tell(node, "in sync", in_sync, now, move || report::line(&said));
            }
            _ => report::line(line),
        }
        let Line::Unlinked { link, node, reason } = *line else { return };
        let addr = self.ended.get().filter(|(ended, _)| *ended == link).map(|(_, addr)| addr);
        let Some(addr) = addr else { return };
        let (name, advice) = (reason.name(), report::advice(reason));
        let node = (node != 0).then_some(node);
        if report::is_mistake(reason) {
            if self.complaints.is_new(&addr.ip().to_string(), name, self.now()) {
                tracing::error!(%addr, node, "peer refused ({name}): {advice}");
            }
        } else if let Some(node) = node.filter(|_| reason != Reason::Duplicate) {
            self.changes.tell(node, "linked", false, now, move || {
                tracing::info!(%addr, node, "peer unlinked ({name})");
            });
        } else if reason == Reason::Removed && self.complaints.is_new(&addr.to_string(), name, now)
        {
            tracing::info!(%addr, "a node that was removed wants to be a peer: refused");
        }
    }

    fn show(&self) {
        while self.writers.borrow_mut().try_join_next().is_some() {}
        self.changes.settle(self.now());
        self.peers.show(self.replica.borrow().status(self.now()));
    }

    /// A connection has ended by itself.
    pub(super) fn lost(self: &Rc<Driver>, link: LinkId) {
        let carrier = self.carriers.borrow_mut().remove(&link);
        if let Some(carrier) = carrier {
            self.ended.set(Some((link, carrier.addr)));
            drop(carrier);
            self.tell(Event::Closed { link });
        }
    }

    fn open(
        self: &Rc<Driver>,
        stream: Box<dyn Stream>,
        addr: SocketAddr,
        dialled: Option<PeerIndex>,
    ) {
        let link = LinkId(self.next_link.get());
        self.next_link.set(link.0 + 1);
        let carrier = Carrier::start(self, link, stream, addr);
        self.carriers.borrow_mut().insert(link, carrier);
        self.tell(Event::Opened { link, dialled });
    }

    async fn dial(self: Rc<Driver>, peer: PeerIndex) {
        match self.reach(peer).await {
            Ok((stream, addr)) => {
                self.complaints.forget(&format!("peer {}", peer.0));
                self.open(stream, addr, Some(peer));
            }
            Err((reason, why)) => {
                if self.complaints.is_new(&format!("peer {}", peer.0), &why, self.now()) {
                    tracing::warn!("no connection to a peer: {why}");
                }
                self.tell(Event::DialFailed { peer, reason });
            }
        }
    }

    /// An authenticated connection to `peer`, or why there is none.
    async fn reach(
        self: &Rc<Driver>,
        peer: PeerIndex,
    ) -> Result<(Box<dyn Stream>, SocketAddr), (Reason, String)> {
        self.look_up(peer).await.map_err(|why| (Reason::NotFound, why))?;
        let mut why = (Reason::Removed, "it is configured no longer".to_owned());
        let addresses = self.names.borrow().addresses(peer);
        for addr in addresses {
            let stream = match connect(addr).await {
                Ok(stream) => stream,
                Err(error) => {
                    why = (Reason::Unreachable, format!("{addr}: {error}"));
                    continue;
                }
            };
            match self.introductions.dial(stream).await {
                Ok(stream) => return Ok((stream, addr)),
                Err(stranger) => why = (Reason::NotIntroduced, format!("{addr}: {stranger}")),
            }
        }
        Err(why)
    }

    /// Tells of mutations as they are logged. If nobody waits for them, then of the first at once and
    /// after that no more often than [`GATHER`]: workers need not wake us meanwhile, and what has
    /// gathered goes together.
    async fn hear_the_log(self: Rc<Driver>) {
        let Some(log) = self.server.store.mutations() else { return };
        loop {
            let seen = log.last();
            self.tell(Event::Logged);
            if self.peers.are_awaited() {
                yield_now().await;
                while self.replica.borrow().is_held_back() {
                    self.told.notified().await;
                }
            } else {
                sleep(GATHER).await;
                if self.replica.borrow().is_gathering() {
                    continue;
                }
            }
            grown(log, seen).await;
        }
    }

    /// Tells of requests for exclusive lock keys.
    async fn hear_clients(self: Rc<Driver>) {
        let Some(locks) = &self.peers.locks else { return };
        loop {
            for (id, asked) in poll_fn(|cx| locks.poll_take(cx)).await {
                let (key, request) = (&asked.key[..], &asked.request[..]);
                self.tell(Event::LockAsked { id, key, request });
            }
            yield_now().await;
        }
    }

    async fn accept_from(self: Rc<Driver>, listener: PeerListener) {
        let nonblocking = listener.socket.set_nonblocking(true);
        let socket = match nonblocking.and_then(|()| TcpListener::from_std(listener.socket)) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "{} cannot be polled", listener.addr),
        };
        loop {
            match socket.accept().await {
                Ok((stream, addr)) => {
                    spawn_local(Rc::clone(&self).admit(stream, addr));
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a peer");
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    /// Finds out whether who has connected is a peer.
    async fn admit(self: Rc<Driver>, stream: TcpStream, addr: SocketAddr) {
        // With too many strangers at the door the next one is told nothing, as any other.
        let Ok(_place) = self.strangers.try_acquire() else { return };
        if let Err(error) = prepare(&stream) {
            return tracing::debug!(%addr, %error, "a connection cannot be used");
        }
        match self.introductions.accept(stream).await {
            Ok(stream) => self.open(stream, addr, None),
            Err(stranger) if stranger.is_anybody() => {
                tracing::debug!(%addr, "not a peer: {stranger}");
            }
            Err(stranger) => {
                let why = stranger.to_string();
                if self.complaints.is_new(&addr.ip().to_string(), &why, self.now()) {
                    tracing::error!(%addr, "peer refused: {why}");
                }
            }
        }
    }

    /// Somebody else has our node number.
    fn settle_clash(self: &Rc<Driver>, addr: SocketAddr) {
        let is_loading = self.replica.borrow().state() == State::Loading;
        let is_ours_to_choose = self.server.settings.peering.node == 0;
        if !is_loading || *self.state.borrow() != State::Loading {
            return;
        }
        if is_ours_to_choose {
            if let Err(error) = self.begin_anew() {
                tracing::error!(%error, "no other node id could be chosen");
            }
            return;
        }
        let ours: Vec<String> =
            self.server.settings.peering.listen.iter().map(SocketAddr::to_string).collect();
        // The main thread has gone: the server stops already.
        let _ = self.refuse.send(format!(
            "--node-id was given {}, which is the id of the peer at {addr}; this node is at {}; \
             allowed: a number from 1 to 254 that no other node has, or none",
            self.peers.node(),
            ours.join(", "),
        ));
    }

    /// Takes another node number, which only a node may that has written nothing.
    fn begin_anew(self: &Rc<Driver>) -> io::Result<()> {
        let taken: Vec<u8> = {
            let status = self.replica.borrow().status(self.now());
            let known = status.peers.iter().filter_map(|peer| peer.node);
            known.chain([self.peers.node()]).collect()
        };
        let node = loop {
            let node = random_node()?;
            if !taken.contains(&node) {
                break node;
            }
        };
        tracing::info!(node, "a peer has the node id that we had chosen: we take another");
        if let Some(log) = self.server.store.mutations() {
            log.renumber(node);
        }
        self.peers.renumber(node);
        self.carriers.borrow_mut().clear();
        self.replica.replace(replica(&self.server, &self.peers)?);
        let all = self.names.borrow().all();
        for (peer, address) in all {
            self.tell(Event::PeerAdded { peer, address });
        }
        Ok(())
    }
}

fn replica(server: &Arc<Server>, peers: &Peers) -> io::Result<Replica> {
    let peering = &server.settings.peering;
    let boot = Boot(u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?));
    let config = ReplicaConfig {
        ack_timeout: peering.ack_timeout,
        gather: if peers.are_awaited() { Duration::ZERO } else { GATHER },
        under_way_max: if peers.are_awaited() { UNDER_WAY_MAX } else { usize::MAX },
        bootstrap_timeout: peering.bootstrap_timeout,
        max_clock_skew: peering.clock_skew_max,
        horizon: peering.tombstone_horizon,
        wipes: peering.after_separation == AfterSeparation::Wipe,
        item_size_max: server.settings.item_size_max,
        agreed: peering.lock_agreement(),
        seed: getrandom::u64()?,
        ..ReplicaConfig::new(peers.node(), boot, &peering.cluster, Vec::new())
    };
    let (store, stability) = (server.store.clone(), Arc::clone(&peers.stability));
    let now = server.clock.unmoved();
    let replica = Replica::new(config, store, stability, now);
    Ok(match &peers.locks {
        Some(_) => replica.with_locks(Box::new(LockClerk::new(server, now))),
        None => replica,
    })
}

/// Waits until there is an entry after `seen`.
async fn grown(log: &MutationLog, seen: crate::version::Version) {
    poll_fn(|cx| match log.wake_after(seen, cx.waker()) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let connected = timeout(CONNECT_MAX, TcpStream::connect(addr)).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    prepare(&stream)?;
    Ok(stream)
}

/// Small frames go at once, and a peer that is gone is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNACKNOWLEDGED_MAX))
}
