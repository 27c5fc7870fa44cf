//! From the files that `-o ssl_*` names to a configuration of rustls.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::ciphers;
use crate::settings;

/// `ssl_verify_mode`: no client is asked for a certificate.
pub(super) const VERIFY_NONE: u8 = 0;
/// `ssl_verify_mode`: a client may show a certificate, which must then be good.
const VERIFY_REQUEST: u8 = 1;
/// `ssl_verify_mode`: a client must show a good certificate. 3 ("once") is the same here: rustls
/// never asks again.
pub(super) const VERIFY_REQUIRE: u8 = 2;

/// `ssl_keyformat`.
const KEY_IN_DER: u8 = 2;

/// `ssl_min_version`.
const TLS_1_3: u8 = 3;

/// What is wrong with the TLS options or the files they name.
#[derive(Debug)]
pub struct TlsError {
    option: &'static str,
    value: String,
    why: String,
}

impl TlsError {
    fn file(option: &'static str, path: &Path, why: impl fmt::Display) -> TlsError {
        TlsError { option, value: path.display().to_string(), why: why.to_string() }
    }

    /// A file for the TLS with peers.
    pub(super) fn peer(option: &'static str, path: &Path, why: &dyn fmt::Display) -> TlsError {
        TlsError::file(option, path, why)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = if self.option.starts_with("--") { "" } else { "-o " };
        write!(f, "{of}{} was given \"{}\": {}", self.option, self.value, self.why)
    }
}

impl std::error::Error for TlsError {}

/// What stands in the files.
pub(super) struct Files {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_cas: Option<Arc<RootCertStore>>,
}

impl Files {
    /// Reads the files that will be needed.
    pub(super) fn read(tls: &settings::Tls, wants_mutual: bool) -> Result<Files, TlsError> {
        let chain_file = required("ssl_chain_cert", tls.chain_cert.as_deref(), "-Z")?;
        let chain = certificates("ssl_chain_cert", chain_file)?;
        let key = private_key(tls, chain_file)?;
        let client_cas = match tls.ca_cert.as_deref() {
            Some(file) => Some(Arc::new(trusted(file)?)),
            None if wants_mutual => return Err(no_cas("mtls: in -l")),
            None if tls.verify_mode != VERIFY_NONE => return Err(no_cas("ssl_verify_mode")),
            None => None,
        };
        Ok(Files { chain, key, client_cas })
    }
}

fn required<'a>(
    option: &'static str,
    file: Option<&'a Path>,
    by: &str,
) -> Result<&'a Path, TlsError> {
    file.ok_or_else(|| TlsError {
        option,
        value: String::new(),
        why: format!("{by} needs it; allowed: a file in PEM format"),
    })
}

fn no_cas(by: &str) -> TlsError {
    TlsError {
        option: "ssl_ca_cert",
        value: String::new(),
        why: format!("{by} needs it; allowed: a file of client CAs in PEM format"),
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::file(option, path, error))
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(option, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::file(option, path, "there is no certificate in PEM format in it")),
        Err(error) => Err(TlsError::file(option, path, error)),
    }
}

/// The certificates in a file for the TLS with peers.
pub(super) fn peer_certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(option, path)
}

/// The key in a file for the TLS with peers.
pub(super) fn peer_key(
    option: &'static str,
    path: &Path,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(option, path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            TlsError::file(option, path, "there is no unencrypted private key in PEM format in it")
        }
        error => TlsError::file(option, path, error),
    })
}

fn private_key(tls: &settings::Tls, chain_file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (option, path) = match tls.key.as_deref() {
        Some(path) => ("ssl_key", path),
        None => ("ssl_chain_cert", chain_file),
    };
    let bytes = read(option, path)?;
    if option == "ssl_key" && tls.keyformat == KEY_IN_DER {
        let unknown =
            |_| TlsError::file(option, path, "there is no private key in DER format in it");
        return PrivateKeyDer::try_from(bytes).map_err(unknown);
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if option == "ssl_key" => {
            TlsError::file(option, path, "there is no unencrypted private key in PEM format in it")
        }
        pem::Error::NoItemsFound => TlsError::file(
            option,
            path,
            "there is no unencrypted private key beside the certificates in it; \
             allowed: with -o ssl_key=file",
        ),
        error => TlsError::file(option, path, error),
    })
}

fn trusted(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ssl_ca_cert", path)? {
        roots.add(certificate).map_err(|error| TlsError::file("ssl_ca_cert", path, error))?;
    }
    Ok(roots)
}

/// A configuration that asks clients for what `verify_mode` says.
pub(super) fn build(
    tls: &settings::Tls,
    files: &Files,
    verify_mode: u8,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider(tls)?);
    let versions: &[&SupportedProtocolVersion] =
        if tls.min_version >= TLS_1_3 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let chain_file = tls.chain_cert.as_deref().unwrap_or(Path::new(""));
    let unusable = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let key_file = tls.key.as_deref().unwrap_or(chain_file);
            let why = "it is not the key of the certificate in ssl_chain_cert";
            TlsError::file("ssl_key", key_file, why)
        }
        error => TlsError::file("ssl_chain_cert", chain_file, error),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = match verifier(tls, files, provider, verify_mode)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(files.chain.clone(), files.key.clone_key()).map_err(unusable)?;
    if !tls.session_cache {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn provider(tls: &settings::Tls) -> Result<CryptoProvider, TlsError> {
    let provider = default_provider();
    let Some(list) = &tls.ciphers else { return Ok(provider) };
    let cipher_suites = ciphers::chosen(list).ok_or_else(|| TlsError {
        option: "ssl_ciphers",
        value: list.clone(),
        why: format!("it leaves no cipher for TLS 1.2; allowed: some of {}", ciphers::names()),
    })?;
    Ok(CryptoProvider { cipher_suites, ..provider })
}

fn verifier(
    tls: &settings::Tls,
    files: &Files,
    provider: Arc<CryptoProvider>,
    verify_mode: u8,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if verify_mode == VERIFY_NONE {
        return Ok(None);
    }
    let roots = files.client_cas.clone().ok_or_else(|| no_cas("ssl_verify_mode"))?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if verify_mode == VERIFY_REQUEST {
        builder = builder.allow_unauthenticated();
    }
    let file = tls.ca_cert.as_deref().unwrap_or(Path::new(""));
    builder.build().map(Some).map_err(|error| TlsError::file("ssl_ca_cert", file, error))
}
