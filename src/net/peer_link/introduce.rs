//! Who may connect: nothing is said on a connection, and nothing heard, before this is settled.
//!
//! Whoever dials speaks first, a magic line that no other protocol begins with, so that a port scan
//! or a health check is told nothing at all. With a secret both sides then prove that they know it:
//! each sends 32 random bytes, and each answers with a keyed digest of both, in which the direction
//! is named, so that nobody can hand a proof back to whom it came from. With TLS all this happens
//! inside it, and both sides must have shown a certificate of the operator's CA.
//!
//! ```text
//! dials                                   accepts
//! "twincached peer 1 s\n" 32 bytes   ->
//!                                    <-   "twincached peer 1 s\n" 32 bytes
//! HMAC-SHA-256("dials", both)        ->
//!                                    <-   HMAC-SHA-256("accepts", both)
//! ```
//!
//! Without a secret the two lines end in `o` and nothing follows them.
//!
//! The secret protects against who connects, not against who listens in or changes bytes on the
//! way: for that there is TLS.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use ring::hmac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::carrier::Stream;
use crate::net::tls::PeerTls;

/// Longest secret in bytes.
pub const SECRET_MAX: usize = 4096;

/// How long an introduction may take.
const TIME_MAX: Duration = Duration::from_secs(5);

const LINE: usize = 20;
const NONCE: usize = 32;
const PROOF: usize = 32;

type Line = [u8; LINE];

/// Nobody has to prove anything.
const OPEN: &Line = b"twincached peer 1 o\n";
/// Both sides prove that they know the secret.
const SECRET: &Line = b"twincached peer 1 s\n";

/// Why a connection is not a peer's.
#[derive(Debug)]
pub(super) enum Stranger {
    /// It broke, or the other side ended it.
    Gone(io::Error),
    /// It took too long.
    Slow,
    /// The TLS handshake failed.
    Tls(io::Error),
    /// What it says is no peer's talk.
    NoPeer,
    /// It wants a proof and we have no secret, or the other way round.
    OtherManner,
    /// Its proof is wrong.
    WrongSecret,
}

impl Stranger {
    /// Whether it may be anybody: a scan, a health check.
    pub(super) fn is_anybody(&self) -> bool {
        matches!(self, Stranger::Gone(_) | Stranger::Slow | Stranger::NoPeer)
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stranger::Gone(error) if error.kind() == io::ErrorKind::UnexpectedEof => f.write_str(
                "it ended the connection before it was known (another secret or certificate \
                 there, or no peer)",
            ),
            Stranger::Gone(error) => write!(f, "{error}"),
            Stranger::Slow => write!(f, "it did not say who it is within {} s", TIME_MAX.as_secs()),
            Stranger::Tls(error) => {
                write!(f, "TLS failed (--peer-tls-cert, -key and -ca): {error}")
            }
            Stranger::NoPeer => f.write_str("what it says is no peer's talk"),
            Stranger::OtherManner => f.write_str(
                "only one of the two sides has a secret (--peer-secret-file must be given to all \
                 nodes or to none)",
            ),
            Stranger::WrongSecret => {
                f.write_str("it has another secret (--peer-secret-file differs)")
            }
        }
    }
}

/// What this node demands of peers and shows them. Clones share it, and what it is replaced by.
#[derive(Clone, Debug, Default)]
pub struct Introductions {
    demands: Arc<RwLock<Arc<Demands>>>,
}

#[derive(Debug, Default)]
struct Demands {
    secret: Option<hmac::Key>,
    tls: Option<PeerTls>,
}

impl Introductions {
    /// Peers must know `secret`, if there is one, and speak `tls`, if there is that.
    #[must_use]
    pub fn new(secret: Option<&[u8]>, tls: Option<PeerTls>) -> Introductions {
        let key = |secret: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        let demands = Demands { secret: secret.map(key), tls };
        Introductions { demands: Arc::new(RwLock::new(Arc::new(demands))) }
    }

    /// Demands what `others` do, of connections to come.
    pub fn replace_by(&self, others: &Introductions) {
        let demands = others.now();
        *self.demands.write() = demands;
    }

    fn now(&self) -> Arc<Demands> {
        Arc::clone(&self.demands.read())
    }

    /// Finds out who has connected.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Stranger> {
        self.now().accept(stream).await
    }

    /// Makes ourselves known to whom we have dialled, and finds out who that is.
    pub(super) async fn dial(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Stranger> {
        self.now().dial(stream).await
    }
}

impl Demands {
    async fn accept(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Stranger> {
        let introduced = async {
            let mut stream: Box<dyn Stream> = match &self.tls {
                Some(tls) => Box::new(tls.accept(stream).await.map_err(Stranger::Tls)?),
                None => Box::new(stream),
            };
            self.be_met(&mut stream).await?;
            Ok(stream)
        };
        timeout(TIME_MAX, introduced).await.map_err(|_| Stranger::Slow)?
    }

    async fn dial(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Stranger> {
        let introduced = async {
            let mut stream: Box<dyn Stream> = match &self.tls {
                Some(tls) => Box::new(tls.dial(stream).await.map_err(Stranger::Tls)?),
                None => Box::new(stream),
            };
            self.meet(&mut stream).await?;
            Ok(stream)
        };
        timeout(TIME_MAX, introduced).await.map_err(|_| Stranger::Slow)?
    }

    async fn be_met(&self, stream: &mut impl Stream) -> Result<(), Stranger> {
        self.hear_line(stream).await?;
        let Some(secret) = &self.secret else { return say(stream, OPEN).await };
        let theirs: [u8; NONCE] = hear(stream).await?;
        let ours = nonce()?;
        say(stream, &[&SECRET[..], &ours].concat()).await?;
        let proof: [u8; PROOF] = hear(stream).await?;
        let both = [theirs, ours].concat();
        hmac::verify(secret, &[b"dials", &both[..]].concat(), &proof)
            .map_err(|_| Stranger::WrongSecret)?;
        say(stream, hmac::sign(secret, &[b"accepts", &both[..]].concat()).as_ref()).await
    }

    async fn meet(&self, stream: &mut impl Stream) -> Result<(), Stranger> {
        let Some(secret) = &self.secret else {
            say(stream, OPEN).await?;
            return self.hear_line(stream).await;
        };
        let ours = nonce()?;
        say(stream, &[&SECRET[..], &ours].concat()).await?;
        self.hear_line(stream).await?;
        let theirs: [u8; NONCE] = hear(stream).await?;
        let both = [ours, theirs].concat();
        say(stream, hmac::sign(secret, &[b"dials", &both[..]].concat()).as_ref()).await?;
        let proof: [u8; PROOF] = hear(stream).await?;
        hmac::verify(secret, &[b"accepts", &both[..]].concat(), &proof)
            .map_err(|_| Stranger::WrongSecret)
    }

    /// Hears the line with which a peer begins.
    async fn hear_line(&self, stream: &mut impl Stream) -> Result<(), Stranger> {
        let (expected, other) = if self.secret.is_some() { (SECRET, OPEN) } else { (OPEN, SECRET) };
        let mut line: Line = [0; LINE];
        let mut heard = 0;
        while heard < LINE {
            let read = stream.read(&mut line[heard..]).await.map_err(Stranger::Gone)?;
            if read == 0 {
                return Err(Stranger::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            heard += read;
            let begins = |known: &Line| known.starts_with(&line[..heard]);
            if !begins(expected) && !begins(other) {
                return Err(Stranger::NoPeer);
            }
        }
        if line == *expected { Ok(()) } else { Err(Stranger::OtherManner) }
    }
}

fn nonce() -> Result<[u8; NONCE], Stranger> {
    let mut bytes = [0; NONCE];
    getrandom::fill(&mut bytes).map_err(|error| Stranger::Gone(error.into()))?;
    Ok(bytes)
}

async fn hear<const LEN: usize>(stream: &mut impl Stream) -> Result<[u8; LEN], Stranger> {
    let mut bytes = [0; LEN];
    stream.read_exact(&mut bytes).await.map_err(Stranger::Gone)?;
    Ok(bytes)
}

async fn say(stream: &mut impl Stream, bytes: &[u8]) -> Result<(), Stranger> {
    stream.write_all(bytes).await.map_err(Stranger::Gone)?;
    stream.flush().await.map_err(Stranger::Gone)
}

#[cfg(test)]
mod tests;
