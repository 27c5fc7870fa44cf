//! A site: one session server, PHP in front of it, and visitors.
//!
//! [`Plan`] says what a story needs beyond README.md's lines; [`Plan::visit`] opens the site, lets
//! the story happen, and looks for complaints afterwards. Not here: the stories.

use std::time::Duration;

use tempfile::TempDir;

use crate::browser::Browser;
use crate::php::Php;
use crate::readme::{Lines, Section};
use crate::root;
use crate::server::{Address, Door, Make, Server, Transport};

/// Which PHP extension keeps the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    /// pecl memcache.
    Memcache,
    /// php-memcached, on libmemcached.
    Memcached,
}

/// What the extension speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Ascii,
    Binary,
    /// Binary, after a login.
    Sasl,
}

/// One cell of the matrix.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) server: Make,
    pub(crate) handler: Handler,
    pub(crate) protocol: Protocol,
    pub(crate) transport: Transport,
}

impl Cell {
    /// As [`Make::has_a_test_clock`].
    pub(crate) fn has_a_test_clock(self) -> bool {
        self.server.has_a_test_clock(self.protocol.door())
    }
}

/// A site to be.
pub(crate) struct Plan {
    cell: Cell,
    ini: String,
    workers: usize,
    flags: Vec<&'static str>,
    complaints: Complaints,
}

enum Complaints {
    None,
    Expected,
    Possible,
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

    /// Says that PHP can complain in its error log, which the story then has to look into.
    pub(crate) fn php_may_complain(mut self) -> Plan {
        self.complaints = Complaints::Possible;
        self
    }

    /// Opens the site, lets `story` happen, closes it.
    ///
    /// # Panics
    /// When the story does, when PHP's error log is not as planned, or when the server did not
    /// end well.
    pub(crate) fn visit(self, story: impl FnOnce(&Site)) {
        let dir = root::directory();
        let Cell { server, handler, protocol, transport } = self.cell;
        let server = Server::start(server, transport, protocol.door(), &self.flags, dir.path());
        let section = Section::under(handler.heading());
        let Lines(connect) = connect(&section, server.address());
        let Lines(speak) = speak(&section, protocol);
        let lines = format!("{connect}\n{speak}\n{}", self.ini);
        let php = Php::start(&lines, self.workers, dir.path());
        let site = Site { cell: self.cell, server, php, _dir: dir };
        story(&site);
        let errors = site.php.errors();
        let as_planned = match self.complaints {
            Complaints::None => errors.is_empty(),
            Complaints::Expected => !errors.is_empty(),
            Complaints::Possible => true,
        };
        assert!(as_planned, "PHP: {errors:?}");
        site.server.stop();
    }
}

impl Site {
    /// A visitor who has not been here before.
    pub(crate) fn visitor(&self) -> Browser {
        Browser::new(self.php.port())
    }

    /// What PHP has complained of so far.
    pub(crate) fn php_errors(&self) -> String {
        self.php.errors()
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

impl Protocol {
    fn door(self) -> Door {
        match self {
            Protocol::Ascii | Protocol::Binary => Door::Open,
            Protocol::Sasl => Door::Sasl,
        }
    }

    /// The flags of a server that hears this protocol and no other.
    pub(crate) fn only(self) -> [&'static str; 2] {
        match self {
            Protocol::Ascii => ["-B", "ascii"],
            Protocol::Binary | Protocol::Sasl => ["-B", "binary"],
        }
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

    /// The key of a session's data.
    pub(crate) fn key(self, id: &str) -> String {
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

/// README.md's lines for a server at this address.
fn connect(section: &Section, address: &Address) -> Lines {
    const TCP_EXAMPLE: &str = "127.0.0.1:11211";
    const UNIX_EXAMPLE: &str = "/run/twincached/socket";
    const UDP_EXAMPLE: &str = "localhost:11211?udp_port=11211";
    let change = match address {
        Address::Tcp(port) => {
            return section.first().with(TCP_EXAMPLE, &format!("127.0.0.1:{port}"));
        }
        Address::Unix(path) => {
            let path = root::inside(path);
            let path = path.to_str().unwrap();
            section.behind("Over a unix socket").with(UNIX_EXAMPLE, path)
        }
        Address::Udp(tcp, udp) => {
            let address = format!("127.0.0.1:{tcp}?udp_port={udp}");
            section.behind("With a `udp://` save path").with(UDP_EXAMPLE, &address)
        }
    };
    Lines(section.first().0 + &change.0)
}

/// README.md's lines for this protocol; the first lines are for ascii.
fn speak(section: &Section, protocol: Protocol) -> Lines {
    match protocol {
        Protocol::Ascii => Lines(String::new()),
        Protocol::Binary => section.behind("In the binary protocol"),
        Protocol::Sasl => section.behind("With a login"),
    }
}
