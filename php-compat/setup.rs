//! How PHP is told to use a farm: README.md's lines for a pair of servers, and what a cell of the
//! matrix changes in them.

use crate::readme::{Lines, Section};
use crate::root;
use crate::server::Address;
use crate::site::{Handler, Protocol};

/// Which server a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashing {
    /// Modulo the number of servers.
    Standard,
    /// A ring.
    Consistent,
}

/// Ini lines as choices. A choice that an extension does not have must stay as
/// [`Setup::recommended`] leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) handler: Handler,
    pub(crate) protocol: Protocol,
    /// pecl memcache's redundancy; php-memcached's replicas and the first one.
    pub(crate) copies: u8,
    pub(crate) hashing: Hashing,
    pub(crate) persistent: bool,
    /// Keys begin with a word of the site's.
    pub(crate) prefix: bool,
    /// Values of 1,000 bytes are compressed, instead of 20,000 (pecl memcache).
    pub(crate) compression: bool,
    /// A session is one page's at a time (php-memcached; pecl memcache always locks).
    pub(crate) locking: bool,
    /// A server that fails is left for the others (php-memcached; pecl memcache always does).
    pub(crate) leaves_failed: bool,
}

impl Setup {
    /// What README.md recommends for a pair.
    pub(crate) fn recommended(handler: Handler) -> Setup {
        let protocol = match handler {
            Handler::Memcache => Protocol::Ascii,
            Handler::Memcached => Protocol::Binary,
        };
        Setup {
            handler,
            protocol,
            copies: 2,
            hashing: Hashing::Consistent,
            persistent: false,
            prefix: false,
            compression: false,
            locking: true,
            leaves_failed: true,
        }
    }

    /// The ini lines for these servers.
    pub(crate) fn lines(self, addresses: &[&Address]) -> String {
        let path: Vec<String> = addresses.iter().map(|address| self.server(address)).collect();
        let path = path.join(",");
        let pair = Section::under("A pair of servers");
        let (common, pair) = match self.handler {
            Handler::Memcache => {
                let web = |host| format!("tcp://{host}:11211?persistent=0&timeout=1");
                let example = format!("{},{}", web("web1"), web("web2"));
                (Section::under("pecl memcache").first(), pair.first().with(&example, &path))
            }
            Handler::Memcached => {
                let pair = pair.behind("For php-memcached");
                let common = Section::under("php-memcached").first();
                (common, pair.with("web1:11211,web2:11211", &path))
            }
        };
        let (Lines(common), Lines(pair)) = (common, pair);
        format!("{common}{pair}{}", self.choices())
    }

    fn server(self, address: &Address) -> String {
        // Whoever keeps connections remembers a failed server, by default for 15 s, even if it is
        // the last one.
        let manner = match self.persistent {
            false => "persistent=0&timeout=1",
            true => "persistent=1&timeout=1&retry_interval=0",
        };
        match (self.handler, address) {
            (Handler::Memcache, Address::Tcp(port) | Address::Udp(port, _)) => {
                format!("tcp://127.0.0.1:{port}?{manner}")
            }
            (Handler::Memcache, Address::Unix(path)) => {
                let path = root::inside(path);
                format!("unix://{}?{manner}", path.display())
            }
            (Handler::Memcached, Address::Tcp(port) | Address::Udp(port, _)) => {
                format!("127.0.0.1:{port}")
            }
            (Handler::Memcached, Address::Unix(path)) => root::inside(path).display().to_string(),
        }
    }

    /// The lines that differ from the recommended ones.
    fn choices(self) -> String {
        let usual = Setup::recommended(self.handler);
        let mut lines = String::new();
        let mut choose = |differs: bool, line: String| {
            if differs {
                lines += &line;
                lines.push('\n');
            }
        };
        match self.handler {
            Handler::Memcache => {
                let protocol = if self.protocol == Protocol::Ascii { "ascii" } else { "binary" };
                let (copies, hashing) = (self.copies, self.hashing.word());
                choose(self.protocol != usual.protocol, format!("memcache.protocol = {protocol}"));
                choose(copies != usual.copies, format!("memcache.session_redundancy = {copies}"));
                choose(
                    self.hashing != usual.hashing,
                    format!("memcache.hash_strategy = {hashing}"),
                );
                choose(self.prefix, "memcache.session_prefix_static_key = shop-".to_owned());
                choose(self.compression, "memcache.compress_threshold = 1000".to_owned());
                assert!(self.locking && self.leaves_failed, "no such line");
            }
            Handler::Memcached => {
                let off = |name: &str| format!("memcached.{name} = Off");
                let replicas = self.copies - 1;
                choose(self.protocol != usual.protocol, off("sess_binary_protocol"));
                choose(
                    self.copies != usual.copies,
                    format!("memcached.sess_number_of_replicas = {replicas}"),
                );
                choose(self.hashing != usual.hashing, off("sess_consistent_hash"));
                choose(self.persistent, "memcached.sess_persistent = On".to_owned());
                choose(self.prefix, "memcached.sess_prefix = shop-".to_owned());
                choose(!self.locking, off("sess_locking"));
                choose(!self.leaves_failed, off("sess_remove_failed_servers"));
                choose(!self.leaves_failed, "memcached.sess_server_failure_limit = 0".to_owned());
                assert!(!self.compression, "no such line");
            }
        }
        lines
    }

    /// The key of a session's data.
    pub(crate) fn key(self, id: &str) -> String {
        match (self.handler, self.prefix) {
            (_, true) => format!("shop-{id}"),
            (handler, false) => handler.key(id),
        }
    }

    /// The key of a session's lock.
    pub(crate) fn lock_key(self, id: &str) -> String {
        match (self.handler, self.prefix) {
            (Handler::Memcache, true) => format!("shop-{id}.lock"),
            (Handler::Memcached, true) => format!("shop-lock.{id}"),
            (handler, false) => handler.lock_key(id),
        }
    }
}

impl Hashing {
    fn word(self) -> &'static str {
        match self {
            Hashing::Standard => "standard",
            Hashing::Consistent => "consistent",
        }
    }
}
