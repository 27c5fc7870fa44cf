//! The TLS certificates as commands see them: they can be read again, and have an age.
//!
//! Files and TLS are known to floors above; what reads them again comes from there as a function.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::clock::{Now, UnixSeconds};

type ReadAgain = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The certificates in use.
pub struct Certificates {
    read_again: ReadAgain,
    read_at: AtomicU32,
}

impl Certificates {
    /// Certificates that were read at `now`. `read_again` puts newly read ones in their place for
    /// connections to come, or changes nothing and says why.
    #[must_use]
    pub fn new(
        now: Now,
        read_again: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Certificates {
        let read_at = AtomicU32::new(now.seconds().0);
        Certificates { read_again: Box::new(read_again), read_at }
    }

    /// Reads the certificates again (`refresh_certs`, SIGHUP).
    ///
    /// # Errors
    /// What is wrong with the files; the old certificates stay.
    pub fn refresh(&self, now: Now) -> Result<(), String> {
        (self.read_again)()?;
        self.read_at.store(now.seconds().0, Ordering::Relaxed);
        Ok(())
    }

    /// Seconds since the certificates in use were read.
    #[must_use]
    pub fn age(&self, now: Now) -> u32 {
        now.seconds().since(UnixSeconds(self.read_at.load(Ordering::Relaxed)))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("read_at", &self.read_at).finish_non_exhaustive()
    }
}
