//! UDP: one socket a worker and address, all of one address in one `SO_REUSEPORT` group. The
//! kernel deals datagrams to them by sender, so the requests of one sender meet one worker and are
//! answered in their order.
//!
//! Picture a counter that is opened whenever letters have come: a batch is taken in, each letter
//! is answered by itself and its answer put into the out-tray, and the tray is emptied. Nothing of
//! a letter is kept. An answer leaves from the address that was written on the letter: behind a
//! balancer that is not the address the kernel would choose.
//!
//! What is NOT here: headings ([`crate::protocol::udp`]), and who is answered how much
//! ([`crate::command::Datagram`]).

mod post;
mod rate;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::{spawn_local, yield_now};
use tokio::time::sleep;

use super::acks::{Held, Verdict};
use super::listener::{About, ListenError};
use super::worker::Worker;
use crate::command::{ConnState, Connection, Datagram, Pledges, Session, Source, Transport};
use crate::limits::{OUTPUT_SOFT_MAX, UDP_SOCKET_BUFFER};
use crate::protocol::udp;
use crate::replication::State;
use crate::settings::{Listen, Network};
use crate::version::Version;
use post::{Inbox, Letter, Outbox};
use rate::Rates;
pub(super) use rate::network;

/// How long a socket rests that the machine had no memory for.
const BACK_OFF: Duration = Duration::from_millis(10);

/// Batches of answers that may wait for peers before new letters do.
const LATE_MAX: usize = 256;

/// Ports below this belong to services, which ask nothing.
const CLIENT_PORTS: u16 = 1024;

/// One worker's socket of a UDP address.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    /// What all sockets of the address have heard from whom.
    rates: Arc<Rates>,
    /// What is known of it apart from the socket.
    pub about: Arc<About>,
}

/// Binds `count` sockets to one address.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub fn listen_udp(listen: &Listen, count: usize) -> Result<Vec<DatagramSocket>, ListenError> {
    let bound = || -> io::Result<Vec<DatagramSocket>> {
        // Sockets that share an address would share it with another server of the same user, too.
        // One that does not share finds out whether there is another, and the port to take.
        let scout = udp_socket(listen.addr)?;
        scout.bind(&listen.addr.into())?;
        let addr = scout.local_addr()?.as_socket().unwrap_or(listen.addr);
        drop(scout);
        let rates = Arc::new(Rates::new());
        (0..count).map(|_| bind(addr, listen, &rates)).collect()
    };
    bound().map_err(|error| ListenError::Udp(listen.addr, error))
}

fn udp_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind(addr: SocketAddr, listen: &Listen, rates: &Arc<Rates>) -> io::Result<DatagramSocket> {
    let socket = udp_socket(addr)?;
    socket.set_reuse_port(true)?;
    // The kernel gives what it may; with less, more answers are lost.
    let _ = socket.set_recv_buffer_size(UDP_SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_SOCKET_BUFFER);
    if addr.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    socket.bind(&addr.into())?;
    let about = About {
        name: name(addr).into(),
        transport: Transport::Udp,
        addr: Some(addr),
        protocol: listen.protocol,
        tls: None,
        fd: socket.as_raw_fd(),
    };
    Ok(DatagramSocket { socket, rates: Arc::clone(rates), about: Arc::new(about) })
}

/// `udp:ip:port` or `udp6:[ip]:port`.
fn name(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(addr) => format!("udp:{addr}"),
        SocketAddr::V6(addr) => format!("udp6:[{}]:{}", addr.ip(), addr.port()),
    }
}

/// Answers datagrams until the future is dropped; those that come while the node's `state` forbids
/// it are dropped.
pub(super) async fn answer_datagrams(
    worker: Rc<Worker>,
    socket: DatagramSocket,
    state: watch::Receiver<State>,
) {
    let DatagramSocket { socket, rates, about } = socket;
    let socket = match UdpSocket::from_std(socket.into()) {
        Ok(socket) => Rc::new(socket),
        Err(error) => return tracing::error!(%error, "{} cannot be polled", about.name),
    };
    let listed = Arc::new(Connection::new(
        about.fd,
        about.name.to_string(),
        None,
        Transport::Udp,
        ConnState::Read,
        worker.now().seconds(),
    ));
    let _listed = worker.list(&listed);
    let session = worker.session(&listed).speaking(about.protocol);
    let mut counter = Counter {
        worker,
        session,
        about,
        rates,
        outbox: Outbox::default(),
        waiting: Rc::default(),
    };
    let mut inbox = Inbox::new();
    loop {
        let received = match socket.readable().await {
            Ok(()) => socket.try_io(Interest::READABLE, || inbox.receive(socket.as_raw_fd())),
            Err(error) => Err(error),
        };
        if received.is_ok() {
            poll_fn(|cx| counter.worker.poll_serving(cx)).await;
        }
        match received {
            Ok(()) if *state.borrow() != State::Ready || counter.worker.stopping() => {
                counter.drop_all(&inbox);
            }
            Ok(()) => counter.answer(&inbox, &socket).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(%error, "{} cannot receive", counter.about.name);
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Where letters are answered.
struct Counter {
    worker: Rc<Worker>,
    session: Session,
    about: Arc<About>,
    rates: Arc<Rates>,
    outbox: Outbox,
    /// Batches of answers that wait for peers.
    waiting: Rc<Cell<usize>>,
}

/// Answers that wait for peers.
#[derive(Debug, Default)]
struct Late {
    held: Option<Held>,
    outbox: Outbox,
    /// What is answered instead if peers do not have it in time, and clients are to hear that.
    instead: Outbox,
    /// Changes that would be refused so.
    changes: u64,
}

impl Counter {
    /// Answers a batch; the worker's other clients have their turn after it, and whenever the
    /// out-tray is full.
    async fn answer(&mut self, inbox: &Inbox, socket: &Rc<UdpSocket>) {
        let mut message = Vec::new();
        let mut late = Late::default();
        for letter in inbox.letters() {
            let counters = &self.worker.counters;
            counters.bytes_read.add(letter.content.len() as u64);
            counters.udp_datagrams.bump();
            let Some((request, source)) = self.open(&letter) else {
                counters.udp_dropped.bump();
                continue;
            };
            if source == Source::Unproven && !self.is_within_rate(letter.from.ip()) {
                counters.udp_rate_limited.bump();
                continue;
            }
            let mut rest = Datagram::new(&mut self.session, source, request.payload);
            let mut is_late = false;
            loop {
                message.clear();
                let now = self.worker.now();
                let answered = AssertUnwindSafe(|| rest.next_message(now, &mut message));
                if catch_unwind(answered).is_err() {
                    self.worker.counters.panics.bump();
                    break;
                }
                let pledges = rest.take_pledges();
                if let Some(held) = self.worker.hold(Pledges::default) {
                    (is_late, late.held) = (true, Some(held));
                }
                if message.is_empty() {
                    break;
                }
                if is_late {
                    late.outbox.put(&letter, |out| udp::write(request.id, &message, out));
                    if self.worker.may_withdraw() {
                        let (instead, changes) = pledges.rewrite(&message, Version(0));
                        late.instead.put(&letter, |out| udp::write(request.id, &instead, out));
                        late.changes += changes;
                    }
                    continue;
                }
                self.outbox.put(&letter, |out| udp::write(request.id, &message, out));
                if self.outbox.len() >= OUTPUT_SOFT_MAX {
                    self.outbox.send(socket, &self.worker.counters).await;
                    yield_now().await;
                }
            }
            message.shrink_to(4 * OUTPUT_SOFT_MAX);
        }
        self.outbox.send(socket, &self.worker.counters).await;
        if let Some(held) = late.held.take() {
            self.send_late(held, late, socket).await;
        }
        yield_now().await;
    }

    /// Sends answers that tell of changes once peers have them; others do not wait for that, unless
    /// too much waits already.
    async fn send_late(&self, mut held: Held, late: Late, socket: &Rc<UdpSocket>) {
        let (worker, socket, waiting) =
            (Rc::clone(&self.worker), Rc::clone(socket), Rc::clone(&self.waiting));
        waiting.set(waiting.get() + 1);
        let is_full = waiting.get() > LATE_MAX;
        let sent = async move {
            let Late { mut outbox, mut instead, changes, .. } = late;
            match worker.wait_for_peers(&mut held).await {
                Verdict::Send => outbox.send(&socket, &worker.counters).await,
                Verdict::Withdraw => {
                    worker.count_refused(changes);
                    instead.send(&socket, &worker.counters).await;
                }
                Verdict::Drop => {}
            }
            waiting.set(waiting.get() - 1);
        };
        if is_full {
            sent.await;
        } else {
            spawn_local(sent);
        }
    }

    /// Nobody may be answered now.
    fn drop_all(&self, inbox: &Inbox) {
        for letter in inbox.letters() {
            self.worker.counters.bytes_read.add(letter.content.len() as u64);
            self.worker.counters.udp_datagrams.bump();
            self.worker.counters.udp_dropped.bump();
        }
    }

    /// The request in a letter, and how far its sender can be relied on.
    ///
    /// Senders whose port is a service's or our own are no clients: answering them could begin an
    /// endless exchange of error messages with another server, for which somebody has forged one
    /// letter.
    fn open<'l>(&self, letter: &Letter<'l>) -> Option<(udp::Request<'l>, Source)> {
        let ours = self.about.addr.map(|addr| addr.port());
        if letter.from.port() < CLIENT_PORTS || Some(letter.from.port()) == ours {
            return None;
        }
        let allowed = &self.worker.settings().udp_allow;
        Some((udp::Request::read(letter.content)?, source_of(letter.from.ip(), allowed)))
    }

    fn is_within_rate(&self, source: IpAddr) -> bool {
        let most = self.worker.settings().udp_rate;
        most == 0 || self.rates.admits(source, most, self.worker.now().seconds())
    }
}

fn source_of(addr: IpAddr, allowed: &[Network]) -> Source {
    if allowed.iter().any(|network| network.contains(addr)) {
        Source::Allowed
    } else {
        Source::Unproven
    }
}

#[cfg(test)]
mod tests;
