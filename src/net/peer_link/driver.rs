//! Events in, effects out: everything the replica is told, and everything it wants done.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet, spawn_local, yield_now};
use tokio::time::{Instant, sleep, timeout};

use super::carrier::{Carrier, Stream};
use super::complaints::{Changes, Complaints};
use super::introduce::Introductions;
use super::names::Names;
use super::report;
use super::strangers::Strangers;
use super::{Order, PeerListener};
use crate::clock::Now;
use crate::command::{LockClerk, Peers, Server, Serving};
use crate::replication::{
    Boot, Effect, Event, LinkId, PeerIndex, Reason, Replica, ReplicaConfig, State,
};
use crate::settings::AfterSeparation;
use pace::GATHER;

mod doors;
mod identity;
mod journal;
mod members;
mod pace;

/// How many batches are on their way at once to a peer whose acknowledgements clients wait for. Without
/// a bound every set would be a batch, and wake four threads; one alone would make many sets wait for
/// nearly two round trips.
const UNDER_WAY_MAX: usize = 2;

/// Steps of a scan, of some 0.1 ms each, in a row when nobody waits to serve clients. Sums, where all
/// serve, go on by one.
const STEPS_OF_A_SCAN: usize = 4;

/// How long others have the core for themselves after those: clients may be waiting for it, and for
/// what we do when we are not at something long.
const REST: Duration = Duration::from_millis(1);

/// How much longer we keep our core than others had it when we gave it away and they were many.
const OURS_TO_OTHERS: u32 = 4;

/// Who gets the core back later than that gave it to many: to a worker and a client it is gone for a
/// kernel's tick each at most (4 ms with 250 a second), and they are whom it is given away for.
const MANY: Duration = Duration::from_millis(10);

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
    strangers: RefCell<Strangers<AbortHandle>>,
    state: watch::Sender<State>,
    refuse: mpsc::UnboundedSender<String>,
    /// It has been said that clients are not served.
    turned_away: Cell<bool>,
    /// Somebody else has our node number, at this address.
    clash: Cell<Option<SocketAddr>>,
    /// Others have had their share of our core until then.
    keeps_core_until: Cell<Instant>,
    /// The replica has been told something.
    told: Notify,
    /// It has something long to do.
    busy: Notify,
    pub(super) writers: RefCell<JoinSet<()>>,
    /// Ticks, for whoever watches over the thread.
    rounds: Arc<AtomicU32>,
    /// A task has panicked: what we know may be half true, and nobody is to act on it.
    is_broken: Cell<bool>,
    broke: Notify,
}

impl Driver {
    pub(super) fn new(
        server: Arc<Server>,
        peers: Arc<Peers>,
        introductions: Introductions,
        state: watch::Sender<State>,
        refuse: mpsc::UnboundedSender<String>,
        rounds: Arc<AtomicU32>,
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
            strangers: RefCell::default(),
            state,
            refuse,
            turned_away: Cell::default(),
            clash: Cell::default(),
            keeps_core_until: Cell::new(Instant::now()),
            told: Notify::new(),
            busy: Notify::new(),
            writers: RefCell::default(),
            rounds,
            is_broken: Cell::default(),
            broke: Notify::new(),
            server,
            peers,
        }))
    }

    /// Speaks with peers until everything has been handed over, or a task has panicked: half a peer
    /// link is none.
    pub(super) async fn run(
        self: Rc<Driver>,
        listeners: Vec<PeerListener>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        for (peer, address) in self.names.borrow().all() {
            self.tell(Event::PeerAdded { peer, address });
        }
        for listener in listeners {
            self.spawn(Rc::clone(&self).accept_from(listener));
        }
        if self.peers.are_awaited() {
            self.spawn(Rc::clone(&self).keep_time());
            self.spawn(Rc::clone(&self).hear_the_log());
        } else {
            self.spawn(Rc::clone(&self).gather_the_log());
        }
        self.spawn(Rc::clone(&self).look_up_again());
        self.spawn(Rc::clone(&self).hear_clients());
        self.spawn(Rc::clone(&self).go_on());
        let mut state = self.state.subscribe();
        while *state.borrow_and_update() != State::Drained {
            tokio::select! {
                () = self.broke.notified() => return,
                Ok(()) = state.changed() => {}
                Some(Order::Drain) = orders.recv() => self.tell(Event::Drain),
            }
        }
        let mut writers = self.writers.take();
        let farewell = async { while writers.join_next().await.is_some() {} };
        let _ = timeout(FAREWELL_MAX, farewell).await;
    }

    /// Starts a task with whose panic the thread ends.
    pub(super) fn spawn(
        self: &Rc<Driver>,
        task: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        spawn_local(self.watched(task)).abort_handle()
    }

    /// The task, watched over: its panic ends the thread.
    pub(super) fn watched(
        self: &Rc<Driver>,
        task: impl Future<Output = ()> + 'static,
    ) -> impl Future<Output = ()> + 'static {
        let watch = Watch(Rc::clone(self));
        async move {
            task.await;
            drop(watch);
        }
    }

    /// What takes longer than a moment goes on, in steps between which others have a turn.
    async fn go_on(self: Rc<Driver>) {
        loop {
            self.busy.notified().await;
            let mut steps = 0;
            while self.replica.borrow().is_busy() {
                self.tell(Event::Leisure);
                self.let_others_go_first();
                steps += 1;
                if steps < self.steps_in_a_row() {
                    yield_now().await;
                } else {
                    sleep(REST).await;
                    steps = 0;
                }
            }
        }
    }

    /// How many steps of something long there are before a rest. Whoever loads waits for a scan. For sums
    /// that are made without one nobody waits, not even where nobody is in sync: whom we have scanned takes
    /// in the last of it then, and our clients wait for the core, or for his first acknowledgements.
    fn steps_in_a_row(&self) -> usize {
        let replica = self.replica.borrow();
        if !replica.is_scanning() {
            1
        } else if self.peers.in_sync() == 0 || replica.is_anybody_loading() {
            usize::MAX
        } else {
            STEPS_OF_A_SCAN
        }
    }

    /// Whether what goes or comes in is mostly a scan, for whose records nobody waits.
    pub(super) fn is_at_length(&self) -> bool {
        self.replica.borrow().is_at_length()
    }

    /// Whether our clients may wait for what we do. Who loads has none, whatever he is in sync with.
    fn are_clients_waiting(&self) -> bool {
        let is_loading = self.replica.borrow().state() == State::Loading;
        !is_loading && self.peers.are_awaited() && self.peers.in_sync() > 0
    }

    /// Lets others have our core, unless clients may wait for what we do. On a machine where many want
    /// it, whoever gives it away ten times gets it back after half a second: so most of the time is ours.
    pub(super) fn let_others_go_first(&self) {
        if !self.is_at_length() || self.are_clients_waiting() {
            return;
        }
        let since = Instant::now();
        if since >= self.keeps_core_until.get() {
            std::thread::yield_now();
            let now = Instant::now();
            let theirs = now.duration_since(since);
            if theirs > MANY {
                self.keeps_core_until.set(now + OURS_TO_OTHERS * theirs);
            }
        }
    }

    fn now(&self) -> Now {
        self.server.clock.unmoved()
    }

    /// Tells the replica what has happened and does what it wants done.
    pub(super) fn tell(self: &Rc<Driver>, event: Event<'_>) {
        if self.is_broken.get() {
            return;
        }
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
        if self.replica.borrow().is_busy() {
            self.busy.notify_one();
        }
    }

    /// Gives back the room of what has been sent: what is said next is written there, while the processor still
    /// has it in its caches.
    pub(super) fn give_back(&self, link: LinkId, room: Vec<u8>) {
        self.replica.borrow_mut().recycle(link, room);
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
                self.spawn(Rc::clone(self).dial(peer));
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
                let again = self.turned_away.replace(state == State::Loading);
                report::state(state, again);
                if let Some(locks) = self.peers.locks.as_ref().filter(|_| state != State::Ready) {
                    locks.forget_all(state == State::Drained);
                }
                self.show();
                self.state.send_replace(state);
            }
            Effect::Log(line) => self.log(&line),
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
}

/// Sees a task end.
struct Watch(Rc<Driver>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_broken.set(true);
            self.0.broke.notify_one();
        }
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
        policy: peering.lock_agreement(),
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

#[cfg(test)]
mod tests;
