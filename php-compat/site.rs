//! A site: one session server, PHP in front of it, and visitors.
//!
//! [`Plan`] says what a story needs beyond README.md's lines; [`Plan::visit`] opens the site, lets
//! the story happen, and looks for complaints afterwards. Not here: the stories.

use std::time::Duration;

use tempfile::TempDir;

use crate::browser::Browser;
use crate::php::Php;
use crate::readme;
use crate::server::{Make, Server, Transport};

/// Which PHP extension keeps the sessions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    /// pecl memcache.
    Memcache,
    /// php-memcached, on libmemcached.
    Memcached,
}

/// What the extension speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Ascii,
}

/// One cell of the matrix.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) server: Make,
    pub(crate) handler: Handler,
    pub(crate) protocol: Protocol,
    pub(crate) transport: Transport,
}

/// A site to be.
pub(crate) struct Plan {
    cell: Cell,
    ini: String,
    workers: usize,
    flags: Vec<&'static str>,
    complaints: Complaints,
}

#[derive(PartialEq, Eq)]
enum Complaints {
    None,
    Expected,
}

/// A site that visitors can come to.
pub(crate) struct Site {
    pub(crate) cell: Cell,
    pub(crate) server: Server,
    php: Php,
    _dir: TempDir,
}

impl Plan {
    /// README.md's lines, one PHP process, no further flags for the server.
    pub(crate) fn of(cell: Cell) -> Plan {
        let (ini, flags) = (String::new(), Vec::new());
        Plan { cell, ini, workers: 1, flags, complaints: Complaints::None }
    }

    /// Adds an ini line.
    pub(crate) fn ini(mut self, line: &str) -> Plan {
        self.ini += line;
        self.ini += "\n";
        self
    }

    /// PHP processes that serve pages at the same time.
    pub(crate) fn workers(mut self, workers: usize) -> Plan {
        self.workers = workers;
        self
    }

    /// Adds flags for the server.
    pub(crate) fn flags(mut self, flags: &[&'static str]) -> Plan {
        self.flags.extend(flags);
        self
    }

    /// Says that PHP will complain in its error log; without complaint the story fails.
    pub(crate) fn php_complains(mut self) -> Plan {
        self.complaints = Complaints::Expected;
        self
    }

    /// Opens the site, lets `story` happen, closes it.
    ///
    /// # Panics
    /// When the story does, when PHP's error log is not as planned, or when the server did not
    /// end well.
    pub(crate) fn visit(self, story: impl FnOnce(&Site)) {
        let dir = tempfile::tempdir().unwrap();
        let Cell { server, handler, protocol, transport } = self.cell;
        let server = Server::start(server, transport, &self.flags, dir.path());
        let readme = readme::ini_lines(handler.heading(), server.address());
        let lines = format!("{readme}\n{}\n{}", handler.speak(protocol), self.ini);
        let php = Php::start(&lines, self.workers, dir.path());
        let site = Site { cell: self.cell, server, php, _dir: dir };
        story(&site);
        let errors = site.php.errors();
        assert_eq!(!errors.is_empty(), self.complaints == Complaints::Expected, "PHP: {errors}");
        site.server.stop();
    }
}

impl Site {
    /// A visitor who has not been here before.
    pub(crate) fn visitor(&self) -> Browser {
        Browser::new(self.php.port())
    }

    /// Whether the server holds the session of this visitor.
    pub(crate) fn keeps(&self, id: &str) -> bool {
        self.server.holds(&self.cell.handler.key(id))
    }

    /// Lets `time` pass for the sessions.
    pub(crate) fn let_time_pass(&self, time: Duration) {
        self.server.let_time_pass(time);
    }
}

impl Handler {
    /// The section of README.md.
    fn heading(self) -> &'static str {
        match self {
            Handler::Memcache => "pecl memcache",
            Handler::Memcached => "php-memcached",
        }
    }

    /// The line that chooses the protocol, whatever README.md recommends.
    fn speak(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Handler::Memcache, Protocol::Ascii) => "memcache.protocol = ascii",
            (Handler::Memcached, Protocol::Ascii) => "memcached.sess_binary_protocol = Off",
        }
    }

    /// The key of a session's data.
    fn key(self, id: &str) -> String {
        match self {
            Handler::Memcache => id.to_owned(),
            Handler::Memcached => format!("memc.sess.key.{id}"),
        }
    }

    /// The key of a session's lock.
    pub(crate) fn lock_key(self, id: &str) -> String {
        match self {
            Handler::Memcache => format!("{id}.lock"),
            Handler::Memcached => format!("memc.sess.key.lock.{id}"),
        }
    }
}
