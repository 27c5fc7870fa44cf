//! TLS between nodes: both sides show a certificate of the operator's CA.
//!
//! A node is whoever has such a certificate; under which name it is dialled says nothing (one list
//! of peers serves all nodes, and often it is one of addresses). So names in certificates are not
//! compared with anything.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::config::{self, TlsError};
use crate::settings;

/// The TLS spoken with peers, ready-made.
pub struct PeerTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTls").finish_non_exhaustive()
    }
}

impl PeerTls {
    /// Reads the files that the operator named.
    ///
    /// # Errors
    /// [`TlsError`]: the server must not start.
    pub fn load(files: &settings::PeerTls) -> Result<PeerTls, TlsError> {
        let wrong =
            |error: &dyn std::fmt::Display| TlsError::peer("--peer-tls-cert", &files.cert, error);
        let chain = config::peer_certificates("--peer-tls-cert", &files.cert)?;
        let key = config::peer_key("--peer-tls-key", &files.key)?;
        let mut roots = RootCertStore::empty();
        for certificate in config::peer_certificates("--peer-tls-ca", &files.ca)? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::peer("--peer-tls-ca", &files.ca, &error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| TlsError::peer("--peer-tls-ca", &files.ca, &error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| wrong(&error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| wrong(&error))?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| wrong(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyOfOurs { roots, provider }))
            .with_client_auth_cert(chain, key)
            .map_err(|error| wrong(&error))?;
        Ok(PeerTls {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            name: ServerName::try_from("peer.twincached").map_err(|error| wrong(&error))?,
        })
    }

    /// Speaks TLS with who has connected.
    ///
    /// # Errors
    /// It does not, or has no certificate of ours.
    pub(in crate::net) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        Ok(self.acceptor.accept(stream).await?.into())
    }

    /// Speaks TLS with whom we have dialled.
    ///
    /// # Errors
    /// It does not, or has no certificate of ours.
    pub(in crate::net) async fn dial(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        Ok(self.connector.connect(self.name.clone(), stream).await?.into())
    }
}

/// Whoever has a certificate of our CA for servers is a peer, whatever the name in it.
#[derive(Debug)]
struct AnyOfOurs {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyOfOurs {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Only TLS 1.3 is spoken.
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
