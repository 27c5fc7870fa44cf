//! The one list of options: letter, long name, what it takes, what is allowed, what it means.
//!
//! Command line, environment, file, help and `--dump-config` are all made from this list. The
//! `-o` list is in [`super::suboptions`]. What options demand of each other is in
//! [`super::check`].

use super::peers::PEER_OPTIONS;
use super::values::{bytes, mebibytes, no, number, octal, one_of, put, real, some, yes};
use super::{Draft, listen, status};
use crate::limits::ITEM_SIZE_MAX_RANGE;
use crate::settings::{BindingProtocol, Network};

/// One option.
#[derive(Debug)]
pub(super) struct Opt {
    /// memcached's letter, if it has one.
    pub(super) short: Option<char>,
    /// The key in the file and, in capitals, the name in the environment.
    pub(super) long: &'static str,
    pub(super) takes: Takes,
    /// As a text that `set` understands; empty when there is none.
    pub(super) default: &'static str,
    /// Ends the sentence "allowed: ".
    pub(super) allowed: &'static str,
    pub(super) help: &'static str,
    /// Checks a text and puts it into the draft; `None` when it is not allowed.
    pub(super) set: fn(&mut Draft, &str) -> Option<()>,
    /// Exit status for a value that is not allowed.
    pub(super) status: u8,
    /// False when it changes nothing here.
    pub(super) effect: bool,
    /// True when `--help` does not name it.
    pub(super) hidden: bool,
}

/// What an option takes; the text is what help calls it.
#[derive(Debug)]
pub(super) enum Takes {
    Flag,
    Count,
    Value(&'static str),
    Octal(&'static str),
    List(&'static str),
    Suboptions,
}

impl Opt {
    pub(super) const fn flag(
        long: &'static str,
        help: &'static str,
        set: fn(&mut Draft, &str) -> Option<()>,
    ) -> Opt {
        Opt {
            short: None,
            long,
            takes: Takes::Flag,
            default: "no",
            allowed: "yes or no",
            help,
            set,
            status: status::BAD_VALUE,
            effect: true,
            hidden: false,
        }
    }

    pub(super) const fn value(
        long: &'static str,
        takes: Takes,
        default: &'static str,
        allowed: &'static str,
        help: &'static str,
        set: fn(&mut Draft, &str) -> Option<()>,
    ) -> Opt {
        Opt { takes, default, allowed, ..Opt::flag(long, help, set) }
    }

    /// The path of a file.
    pub(super) const fn file(
        long: &'static str,
        allowed: &'static str,
        help: &'static str,
        set: fn(&mut Draft, &str) -> Option<()>,
    ) -> Opt {
        Opt::value(long, Takes::Value("file"), "", allowed, help, set)
    }

    pub(super) const fn short(self, letter: char) -> Opt {
        Opt { short: Some(letter), ..self }
    }

    const fn refused_with(self, status: u8) -> Opt {
        Opt { status, ..self }
    }

    const fn without_effect(self) -> Opt {
        Opt { effect: false, ..self }
    }

    pub(super) const fn hidden(self) -> Opt {
        Opt { hidden: true, ..self }
    }

    /// `-m (--memory-limit)`.
    pub(super) fn on_command_line(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter} (--{})", self.long),
            None => format!("--{}", self.long),
        }
    }

    /// The texts in a value from the command line or the environment: lists come with commas.
    pub(super) fn split(&self, text: &str) -> Vec<String> {
        match self.takes {
            Takes::List(_) => text.split([',', ';']).map(str::to_owned).collect(),
            Takes::Suboptions => text.split(',').map(str::to_owned).collect(),
            _ => vec![text.to_owned()],
        }
    }
}

const INT_MAX: u32 = i32::MAX as u32;

/// Longest path of a unix socket: `sun_path` is 108 bytes with its NUL.
const SOCKET_PATH_MAX: usize = 107;

/// A port: 0 turns the transport off, -1 leaves the choice to the kernel.
fn port(text: &str) -> Option<Option<i32>> {
    number(text, -1..=65535).map(Some)
}

/// All options, in the order of help.
pub(super) fn options() -> impl Iterator<Item = &'static Opt> {
    MEMCACHED_OPTIONS.iter().chain(PEER_OPTIONS)
}

/// memcached's own, and those of ours that go with them.
static MEMCACHED_OPTIONS: &[Opt] = &[
    Opt::value(
        "port",
        Takes::Value("num"),
        "11211",
        "-1 to 65535 (0 turns TCP off, -1 lets the kernel choose)",
        "TCP port to listen on; 0 turns TCP off, -1 lets the kernel choose",
        |d, v| put(&mut d.tcp_port, port(v)),
    )
    .short('p')
    .refused_with(status::USAGE),
    Opt::value(
        "udp-port",
        Takes::Value("num"),
        "0",
        "-1 to 65535 (0 turns UDP off, -1 lets the kernel choose)",
        "UDP port to listen on; 0 turns UDP off, -1 lets the kernel choose",
        |d, v| put(&mut d.udp_port, port(v)),
    )
    .short('U')
    .refused_with(status::USAGE),
    Opt::value(
        "udp-allow",
        Takes::List("net"),
        "127.0.0.0/8,::1/128",
        "networks as 192.0.2.0/24 or 2001:db8::/32, or single addresses",
        "networks whose UDP requests are answered in full, with commas or several times; to all \
         others goes at most one datagram, ten times as long as the request: their addresses may \
         be forged to turn long answers on somebody else",
        |d, v| {
            if !v.is_empty() {
                d.settings.udp_allow.push(Network::parse(v)?);
            }
            Some(())
        },
    ),
    Opt::value(
        "udp-rate",
        Takes::Value("num"),
        "0",
        "0 to 4294967295",
        "UDP requests heard in a second from one network, /24 or /56, that --udp-allow does not \
         name; 0 hears all",
        |d, v| put(&mut d.settings.udp_rate, number(v, 0..=u32::MAX)),
    ),
    Opt::file(
        "unix-socket",
        "a path of 1 to 107 bytes",
        "unix socket to listen on, instead of TCP and UDP",
        |d, v| {
            put(&mut d.settings.unix_socket, some(v).filter(|_| v.len() <= SOCKET_PATH_MAX))
        },
    )
    .short('s'),
    Opt::value(
        "unix-mask",
        Takes::Octal("mask"),
        "700",
        "0 to 777, in octal",
        "permissions of the unix socket, in octal",
        |d, v| put(&mut d.settings.unix_mask, octal(v)),
    )
    .short('a'),
    Opt::flag("enable-shutdown", "let clients stop the server with the shutdown command", |d, v| {
        put(&mut d.settings.enable_shutdown, yes(v))
    })
    .short('A'),
    Opt::value(
        "listen",
        Takes::List("addr"),
        "127.0.0.1",
        listen::ALLOWED,
        "addresses to listen on, with commas or several times: host, host:port, [IPv6]:port, * for all; \
         prefixes notls: btls: mtls: proto[ascii]: and tag[name]:",
        |d, v| {
            if !v.is_empty() {
                d.listen.push(v.to_owned());
            }
            Some(())
        },
    )
    .short('l'),
    Opt::flag("daemon", "run in the background", |d, v| put(&mut d.settings.daemon, yes(v)))
        .short('d'),
    Opt::flag("enable-coredumps", "raise the core file limit as far as possible", |d, v| {
        put(&mut d.settings.enable_coredumps, yes(v))
    })
    .short('r'),
    Opt::value(
        "user",
        Takes::Value("name"),
        "",
        "the name of a user",
        "user to become when started as root",
        |d, v| put(&mut d.settings.user, some(v)),
    )
    .short('u'),
    Opt::value(
        "memory-limit",
        Takes::Value("MiB"),
        "64",
        "1 to 1000000000 MiB, or GiB with a g",
        "memory for items, keys and their index",
        |d, v| put(&mut d.settings.memory_limit, mebibytes(v, 1..=1_000_000_000)),
    )
    .short('m'),
    Opt::flag("disable-evictions", "refuse to store when memory is full, instead of evicting", |d, v| {
        put(&mut d.settings.evictions, no(v))
    })
    .short('M'),
    Opt::value(
        "conn-limit",
        Takes::Value("num"),
        "1024",
        "1 to 2147483647",
        "most connections at once",
        |d, v| put(&mut d.settings.conn_limit, number(v, 1..=INT_MAX as usize)),
    )
    .short('c'),
    Opt::flag("lock-memory", "keep all memory out of swap", |d, v| {
        put(&mut d.settings.lock_memory, yes(v))
    })
    .short('k'),
    Opt::value(
        "verbose",
        Takes::Count,
        "0",
        "0 to 255",
        "say more than warnings: -v refusals and peers, -vv also commands and replies, -vvv all",
        |d, v| put(&mut d.settings.verbosity, number(v, 0..=255)),
    )
    .short('v'),
    Opt::file(
        "pidfile",
        "a path",
        "write the process id to this file",
        |d, v| put(&mut d.settings.pidfile, some(v)),
    )
    .short('P'),
    Opt::file(
        "port-file",
        "a path",
        "write the ports to this file once they are bound (also MEMCACHED_PORT_FILENAME)",
        |d, v| put(&mut d.settings.port_file, some(v)),
    ),
    Opt::value(
        "slab-growth-factor",
        Takes::Value("num"),
        "1.25",
        "a number greater than 1",
        "growth from one size class to the next in stats",
        |d, v| put(&mut d.settings.slab_growth_factor, real(v, |f| f > 1.0)),
    )
    .short('f'),
    Opt::value(
        "slab-min-size",
        Takes::Value("bytes"),
        "48",
        "1 to 1048576",
        "room for key, value and flags in the smallest size class in stats",
        |d, v| put(&mut d.settings.slab_min_size, number(v, 1..=1 << 20)),
    )
    .short('n'),
    Opt::flag(
        "enable-largepages",
        "accepted, without effect: large pages are used where the system lends them",
        |_, v| yes(v).map(|_| ()),
    )
    .short('L')
    .without_effect(),
    Opt::value(
        "prefix-delimiter",
        Takes::Value("char"),
        "",
        "one ASCII character",
        "delimiter between prefix and rest of a key in stats detail, which it switches on; \
         a colon if not given",
        |d, v| {
            let byte = v.bytes().next().filter(|_| v.len() == 1)?;
            d.settings.prefix_delimiter = byte;
            d.settings.detail_enabled = true;
            Some(())
        },
    )
    .short('D'),
    Opt::value(
        "threads",
        Takes::Value("num"),
        "4",
        "1 to 1024",
        "worker threads",
        |d, v| put(&mut d.settings.threads, number(v, 1..=1024)),
    )
    .short('t'),
    Opt::value(
        "max-reqs-per-event",
        Takes::Value("num"),
        "20",
        "1 to 2147483647",
        "requests a connection may make before others have their turn",
        |d, v| put(&mut d.settings.max_reqs_per_event, number(v, 1..=INT_MAX)),
    )
    .short('R'),
    Opt::flag(
        "disable-io-uring",
        "make a system call for each read and write of a client, also where Linux takes many in one",
        |d, v| put(&mut d.settings.io_uring, no(v)),
    ),
    Opt::flag("disable-cas", "show 0 as every cas unique and refuse cas", |d, v| {
        put(&mut d.settings.cas, no(v))
    })
    .short('C'),
    Opt::value(
        "listen-backlog",
        Takes::Value("num"),
        "1024",
        "0 to 2147483647",
        "connections that may wait to be accepted",
        |d, v| put(&mut d.settings.listen_backlog, number(v, 0..=INT_MAX)),
    )
    .short('b'),
    Opt::value(
        "protocol",
        Takes::Value("name"),
        "auto",
        "auto, ascii or binary",
        "protocol of the listeners: auto, ascii or binary",
        |d, v| {
            use BindingProtocol::{Ascii, Auto, Binary};
            let known = [("auto", Auto), ("ascii", Ascii), ("binary", Binary)];
            put(&mut d.protocol, one_of(v, known).map(Some))
        },
    )
    .short('B')
    .refused_with(status::USAGE),
    Opt::value(
        "max-item-size",
        Takes::Value("bytes"),
        "1m",
        "1024 to 1073741824 bytes, also with k, m or g, and at most half of --memory-limit",
        "largest item with its key and header, also with k, m or g",
        |d, v| {
            let (least, most) = ITEM_SIZE_MAX_RANGE;
            put(&mut d.settings.item_size_max, bytes(v).filter(|n| (least..=most).contains(n)))
        },
    )
    .short('I')
    .refused_with(status::USAGE),
    Opt::flag(
        "enable-sasl",
        "clients must log in by SASL, which the binary protocol has: PLAIN or CRAM-MD5",
        |d, v| put(&mut d.settings.sasl, yes(v)),
    )
    .short('S'),
    Opt::file(
        "sasl-pwdb",
        "a path",
        "users for -S: lines of user:password, the user with or without @host (also \
         MEMCACHED_SASL_PWDB)",
        |d, v| put(&mut d.settings.sasl_pwdb, some(v)),
    ),
    Opt::flag("disable-flush-all", "refuse flush_all", |d, v| {
        put(&mut d.settings.flush_enabled, no(v))
    })
    .short('F'),
    Opt::flag("disable-dumping", "refuse stats cachedump, metadump and mgdump", |d, v| {
        put(&mut d.settings.dump_enabled, no(v))
    })
    .short('X'),
    Opt::flag("disable-watch", "refuse watch", |d, v| put(&mut d.settings.watch_enabled, no(v)))
        .short('W'),
    Opt::file(
        "auth-file",
        "a path",
        "clients must log in with a user and password from this file: lines of user:password, at \
         most 8",
        |d, v| put(&mut d.settings.auth_file, some(v)),
    )
    .short('Y'),
    Opt::flag(
        "auth-allow-health-checks",
        "answer version and mn, in frames version and noop, before the login, so that balancers need \
         no password",
        |d, v| put(&mut d.settings.auth_allow_health_checks, yes(v)),
    ),
    Opt::file(
        "memory-file",
        "a path",
        "accepted, without effect",
        |d, v| put(&mut d.settings.shown.memory_file, some(v)),
    )
    .short('e')
    .without_effect(),
    Opt::flag("enable-ssl", "speak TLS over TCP, see ssl_chain_cert below", |d, v| {
        put(&mut d.settings.tls.enabled, yes(v))
    })
    .short('Z'),
    Opt::value(
        "napi-ids",
        Takes::Value("num"),
        "",
        "1 to 2147483647, and at most --threads",
        "accepted, without effect",
        |d, v| put(&mut d.settings.shown.napi_ids, number(v, 1..=INT_MAX).map(Some)),
    )
    .short('N')
    .without_effect(),
    Opt::value(
        "extended",
        Takes::Suboptions,
        "",
        "",
        "extended options with commas, see below",
        // Each of them has its own line in `suboptions`.
        |_, _| None,
    )
    .short('o'),
    Opt::flag("test-clock", "accept debugtime, which moves the clock", |d, v| {
        put(&mut d.settings.test_clock, yes(v))
    })
    .hidden(),
];
