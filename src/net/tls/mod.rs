//! TLS: certificates that can be replaced while the server runs, and the socket that speaks it.
//!
//! Picture [`Tls`] as a rack with three ready-made configurations, one for each kind of listener
//! (as `-Z` says, `btls:`, `mtls:`), all made from the same files. A new connection takes a copy of
//! its configuration and keeps it; [`Tls::refresh`] fills the rack anew for those that come later,
//! or leaves it as it is when a file is wrong.
//!
//! [`TlsSocket`] is a plain stream to whoever reads it: the handshake is the beginning of the first
//! read, in the worker that owns the connection, which ends it when it takes too long.
//!
//! What is NOT here: TLS on unix sockets and UDP, which memcached does not speak either.

mod ciphers;
mod config;
mod peer;
mod socket;

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::settings::{self, ListenTls, Settings};
use crate::stats::WorkerCounters;

pub use config::TlsError;
pub use peer::PeerTls;
pub(super) use socket::TlsSocket;

/// The certificates in use, and what clients must show.
#[derive(Debug)]
pub struct Tls {
    settings: settings::Tls,
    wants_mutual: bool,
    configs: RwLock<Configs>,
}

/// One configuration for each kind of listener.
#[derive(Debug)]
struct Configs {
    as_set: Arc<ServerConfig>,
    basic: Arc<ServerConfig>,
    /// Only when a listener is `mtls:`, which takes a file of client CAs.
    mutual: Option<Arc<ServerConfig>>,
}

impl Configs {
    fn load(settings: &settings::Tls, wants_mutual: bool) -> Result<Configs, TlsError> {
        let files = config::Files::read(settings, wants_mutual)?;
        let mutual = || config::build(settings, &files, config::VERIFY_REQUIRE);
        Ok(Configs {
            as_set: config::build(settings, &files, settings.verify_mode)?,
            basic: config::build(settings, &files, config::VERIFY_NONE)?,
            mutual: wants_mutual.then(mutual).transpose()?,
        })
    }
}

impl Tls {
    /// Reads the files that `-o ssl_*` names; `None` without `-Z`.
    ///
    /// # Errors
    /// [`TlsError`]: the server must not start.
    pub fn load(settings: &Settings) -> Result<Option<Tls>, TlsError> {
        if !settings.tls.enabled {
            return Ok(None);
        }
        let wants_mutual = settings.listen.iter().any(|listen| listen.tls == ListenTls::Mutual);
        let configs = Configs::load(&settings.tls, wants_mutual)?;
        Ok(Some(Tls {
            settings: settings.tls.clone(),
            wants_mutual,
            configs: RwLock::new(configs),
        }))
    }

    /// Reads the files again, for connections that come from now on.
    ///
    /// # Errors
    /// [`TlsError`]: nothing has changed.
    pub fn refresh(&self) -> Result<(), TlsError> {
        let configs = Configs::load(&self.settings, self.wants_mutual)?;
        *self.configs.write() = configs;
        Ok(())
    }
}

/// The TLS of one listener.
#[derive(Debug)]
pub(super) struct ListenerTls {
    tls: Arc<Tls>,
    kind: ListenTls,
}

impl ListenerTls {
    pub(super) fn new(tls: &Arc<Tls>, kind: ListenTls) -> ListenerTls {
        ListenerTls { tls: Arc::clone(tls), kind }
    }

    /// Speaks TLS over `stream`. `None` when nothing was loaded for such a listener: the connection
    /// must not be served.
    pub(super) fn socket<S>(
        &self,
        stream: S,
        counters: &Arc<WorkerCounters>,
    ) -> Option<TlsSocket<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let configs = self.tls.configs.read();
        let config = match self.kind {
            ListenTls::Default => &configs.as_set,
            ListenTls::Basic => &configs.basic,
            ListenTls::Mutual => configs.mutual.as_ref()?,
            ListenTls::Off => return None,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        Some(TlsSocket::new(acceptor.accept(stream), Arc::clone(counters)))
    }
}

#[cfg(test)]
pub(super) mod tests;
