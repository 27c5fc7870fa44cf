//! Connections come to be: those that we dial, and those that others open to us.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::super::PeerListener;
use super::super::carrier::Stream;
use super::Driver;
use crate::limits::PEER_STRANGERS_MAX;
use crate::replication::{Event, PeerIndex, Reason};

/// How long connecting to an address may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Written bytes that are not acknowledged for this long mean a dead connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(4);

/// How long accepting rests when the machine had no descriptor or memory for it.
const BACK_OFF: Duration = Duration::from_millis(50);

impl Driver {
    pub(super) async fn dial(self: Rc<Driver>, peer: PeerIndex) {
        match self.reach(peer).await {
            Ok((stream, addr)) => {
                self.complaints.forget(&format!("peer {}", peer.0));
                self.open(stream, addr, Some(peer));
            }
            Err((reason, why)) => {
                // Nobody misses a peer that was removed while it was dialled.
                let is_missed = reason != Reason::Removed;
                let about = format!("peer {}", peer.0);
                if is_missed && self.complaints.is_new(&about, &why, self.now()) {
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
        let mut is_refused = true;
        for addr in addresses {
            let stream = match connect(addr).await {
                Ok(stream) => stream,
                Err(error) => {
                    is_refused &= error.kind() == io::ErrorKind::ConnectionRefused;
                    let reason = if is_refused { Reason::NotThere } else { Reason::Unreachable };
                    why = (reason, format!("{addr}: {error}"));
                    continue;
                }
            };
            is_refused = false;
            match self.introductions.dial(stream).await {
                Ok(stream) => return Ok((stream, addr)),
                Err(stranger) => why = (Reason::NotIntroduced, format!("{addr}: {stranger}")),
            }
        }
        Err(why)
    }

    pub(super) async fn accept_from(self: Rc<Driver>, listener: PeerListener) {
        let nonblocking = listener.socket.set_nonblocking(true);
        let socket = match nonblocking.and_then(|()| TcpListener::from_std(listener.socket)) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "{} cannot be polled", listener.addr),
        };
        loop {
            match socket.accept().await {
                Ok((stream, addr)) => {
                    self.let_in(stream, addr);
                    // It says at once who it is, if it is a peer.
                    yield_now().await;
                }
                Err(error) => {
                    if self.complaints.is_new("ourselves", &error.to_string(), self.now()) {
                        tracing::warn!("no connection can be accepted from peers: {error}");
                    }
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    /// Somebody has connected; if too many have of whom we know nothing, another one has to go.
    fn let_in(self: &Rc<Driver>, stream: TcpStream, addr: SocketAddr) {
        let number = self.strangers.borrow_mut().next();
        let driver = Rc::clone(self);
        let admission = self.spawn(async move {
            driver.admit(stream, addr).await;
            driver.strangers.borrow_mut().leave(number);
        });
        let mut strangers = self.strangers.borrow_mut();
        let Some(goes) = strangers.enter(number, addr.ip(), admission) else {
            return;
        };
        goes.abort();
        self.peers.count_stranger_sent_away();
        let what = "more connections than there is room for";
        if self.complaints.is_new("strangers", what, self.now()) {
            tracing::warn!(
                %addr,
                "{PEER_STRANGERS_MAX} connections to the port for peers do not say whose they are, \
                 and more come: the oldest are closed (who reaches that port?)"
            );
        }
    }

    /// Finds out whether who has connected is a peer.
    async fn admit(self: &Rc<Driver>, stream: TcpStream, addr: SocketAddr) {
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
