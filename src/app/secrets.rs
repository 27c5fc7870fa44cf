//! Files with secrets: users and their passwords, certificates and their keys. Read at the start,
//! with the rights we were started with, and again on SIGHUP with those of the user we became.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::Refusal;
use crate::clock::Now;
use crate::command::{Certificates, Server};
use crate::config::status;
use crate::credentials::{Credentials, Format};
use crate::limits::{AUTH_LINE_MAX, SASL_USERS_MAX};
use crate::net::{Introductions, PeerTls, SECRET_MAX, Tls};
use crate::settings::Settings;

/// Longer files are not read: every line may have its longest length, and as many comments besides.
const USERS_FILE_MAX: usize = 2 * SASL_USERS_MAX * AUTH_LINE_MAX;

/// Shorter secrets could be guessed by somebody who has seen one proof.
const SECRET_MIN: usize = 16;

/// A file of users, and the option that names it.
struct UsersFile<'s> {
    option: &'static str,
    format: Format,
    path: &'s Path,
}

impl<'s> UsersFile<'s> {
    /// The file that the settings demand, if clients must log in.
    fn of(settings: &'s Settings) -> Option<UsersFile<'s>> {
        if let Some(path) = &settings.auth_file {
            Some(UsersFile { option: "-Y (--auth-file)", format: Format::AuthFile, path })
        } else {
            let path = settings.sasl_pwdb.as_ref().filter(|_| settings.sasl)?;
            let option = "--sasl-pwdb (MEMCACHED_SASL_PWDB)";
            Some(UsersFile { option, format: Format::SaslPasswords, path })
        }
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        let read = fs::File::open(self.path)
            .and_then(|file| file.take(USERS_FILE_MAX as u64 + 1).read_to_end(&mut text));
        match read {
            Err(error) => Err(self.wrong(&error)),
            Ok(length) if length > USERS_FILE_MAX => {
                Err(self.wrong(&format!("it is longer than {USERS_FILE_MAX} bytes")))
            }
            Ok(_) => Ok(text),
        }
    }

    fn wrong(&self, why: &dyn std::fmt::Display) -> String {
        format!("{} was given \"{}\": {why}", self.option, self.path.display())
    }
}

/// The users of `-Y` or `-S`, if either was given.
pub(super) fn credentials(settings: &Settings) -> Result<Option<Credentials>, Refusal> {
    let Some(file) = UsersFile::of(settings) else { return Ok(None) };
    let credentials = Credentials::new(file.format, &file.read().map_err(bad)?);
    credentials.map(Some).map_err(|malformed| bad(file.wrong(&malformed)))
}

/// The certificates of `-Z`, if it was given.
pub(super) fn tls(settings: &Settings) -> Result<Option<Arc<Tls>>, Refusal> {
    let tls = Tls::load(settings).map_err(|error| bad(error.to_string()))?;
    Ok(tls.map(Arc::new))
}

/// What commands may do with the certificates that were read at `now`.
pub(super) fn certificates(tls: Arc<Tls>, now: Now) -> Certificates {
    Certificates::new(now, move || tls.refresh().map_err(|error| error.to_string()))
}

/// What peers must show and are shown.
pub(super) fn introductions(settings: &Settings) -> Result<Introductions, Refusal> {
    let peering = &settings.peering;
    let tls = peering.tls.as_ref().filter(|_| peering.enabled).map(PeerTls::load).transpose();
    let tls = tls.map_err(|error| bad(error.to_string()))?;
    let file = peering.secret_file.as_ref().filter(|_| peering.enabled);
    let secret = file.map(|path| read_secret(path)).transpose()?;
    Ok(Introductions::new(secret.as_deref(), tls))
}

/// The secret in a file, without the line's end that editors put behind it.
fn read_secret(path: &Path) -> Result<Vec<u8>, Refusal> {
    let wrong = |why: &dyn std::fmt::Display| {
        bad(format!("--peer-secret-file was given \"{}\": {why}", path.display()))
    };
    let mut text = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(SECRET_MAX as u64 + 3).read_to_end(&mut text))
        .map_err(|error| wrong(&error))?;
    let secret = text.trim_ascii_end();
    if (SECRET_MIN..=SECRET_MAX).contains(&secret.len()) {
        return Ok(secret.to_vec());
    }
    Err(wrong(&format!("it has {} bytes; allowed: {SECRET_MIN} to {SECRET_MAX}", secret.len())))
}

/// Reads everything again. A file that is wrong changes nothing, and is complained about.
pub(super) fn reload(server: &Server, introductions: &Introductions) {
    if let (Some(credentials), Some(file)) = (&server.credentials, UsersFile::of(&server.settings))
    {
        let replaced = file.read().and_then(|text| {
            credentials.replace(&text).map_err(|malformed| file.wrong(&malformed))
        });
        match replaced {
            Ok(()) => tracing::info!("SIGHUP: users read again"),
            Err(why) => tracing::error!("SIGHUP: {why}; the users stay as they were"),
        }
    }
    if let Some(certificates) = &server.certificates {
        match certificates.refresh(server.clock.now()) {
            Ok(()) => tracing::info!("SIGHUP: certificates read again"),
            Err(why) => tracing::error!("SIGHUP: {why}; the certificates stay as they were"),
        }
    }
    let peering = &server.settings.peering;
    let has_proofs = peering.enabled && (peering.secret_file.is_some() || peering.tls.is_some());
    if has_proofs {
        match self::introductions(&server.settings) {
            Ok(again) => {
                introductions.replace_by(&again);
                tracing::info!(
                    "SIGHUP: what peers must prove read again, for connections to come; peers that are \
                     linked stay so"
                );
            }
            Err(Refusal { message, .. }) => {
                tracing::error!("SIGHUP: {message}; what peers must prove stays as it was");
            }
        }
    }
    if server.credentials.is_none() && server.certificates.is_none() && !has_proofs {
        tracing::info!("SIGHUP: there is nothing to reload");
    }
}

fn bad(message: String) -> Refusal {
    Refusal { message, status: status::BAD_VALUE }
}
