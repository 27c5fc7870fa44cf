//! What is logged, and how it reads: upstream's lines (`logger.c`), except that microseconds are
//! padded to six digits, so that `ts` reads as a decimal number.

use std::io::Write as _;

use super::{Categories, Watch};
use crate::clock::Now;

/// A fetch of one key.
#[derive(Clone, Copy, Debug)]
pub struct ItemGet<'a> {
    /// The key asked for.
    pub key: &'a [u8],
    /// What became of it.
    pub status: GetStatus,
    /// Size class; 0 on a miss.
    pub class: u8,
    /// The client's file descriptor.
    pub fd: i32,
    /// Length of the value in bytes; 0 on a miss.
    pub size: usize,
}

/// What a fetch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetStatus {
    /// `not_found`
    NotFound,
    /// `found`
    Found,
    /// `flushed`
    Flushed,
    /// `expired`
    Expired,
}

/// A storage command.
#[derive(Clone, Copy, Debug)]
pub struct ItemStore<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What became of it.
    pub status: StoreStatus,
    /// Which command.
    pub command: StoreCommand,
    /// Seconds the item has to live; `None` = no expiry.
    pub ttl: Option<u32>,
    /// Size class.
    pub class: u8,
    /// The client's file descriptor.
    pub fd: i32,
    /// Length of the value in bytes.
    pub size: usize,
}

/// What became of a storage command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreStatus {
    /// `not_stored`
    NotStored,
    /// `stored`
    Stored,
    /// `exists`
    Exists,
    /// `not_found`
    NotFound,
    /// `too_large`
    TooLarge,
    /// `no_memory`
    NoMemory,
}

/// A storage command's name in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCommand {
    /// `add`
    Add,
    /// `set`
    Set,
    /// `replace`
    Replace,
    /// `append`
    Append,
    /// `prepend`
    Prepend,
    /// `cas`: set or replace with a version to compare.
    Cas,
}

/// A client's delete of an item that was there.
#[derive(Clone, Copy, Debug)]
pub struct Deleted<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Asked for by the meta command `md`, otherwise by `delete`.
    pub meta: bool,
    /// Size class.
    pub class: u8,
    /// Length of the deleted value in bytes.
    pub size: usize,
}

/// An eviction, as the store reports it.
#[derive(Clone, Copy, Debug)]
pub struct Eviction<'a> {
    /// The victim's key.
    pub key: &'a [u8],
    /// Whether it was ever fetched.
    pub fetched: bool,
    /// Seconds it had left; `None` = no expiry.
    pub ttl: Option<u32>,
    /// Seconds since its last access.
    pub idle: u32,
    /// Size class.
    pub class: u8,
    /// Length of its value in bytes.
    pub size: usize,
}

/// The client's end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// IP address without brackets, or `unix`.
    pub ip: &'a str,
    /// Port; 0 for a unix socket.
    pub port: u16,
    /// `tcp`, `udp`, or `local`.
    pub transport: &'static str,
    /// The connection's file descriptor.
    pub fd: i32,
}

impl Watch {
    /// Logs a fetch.
    pub fn item_get(&self, get: &ItemGet<'_>, now: Now) {
        self.log(Categories::FETCHERS, "item_get", now, |line| {
            push_key(get.key, line);
            let status = match get.status {
                GetStatus::NotFound => "not_found",
                GetStatus::Found => "found",
                GetStatus::Flushed => "flushed",
                GetStatus::Expired => "expired",
            };
            write!(line, " status={status} clsid={} cfd={} size={}", get.class, get.fd, get.size)
        });
    }

    /// Logs a storage command.
    pub fn item_store(&self, store: &ItemStore<'_>, now: Now) {
        self.log(Categories::MUTATIONS, "item_store", now, |line| {
            push_key(store.key, line);
            let status = match store.status {
                StoreStatus::NotStored => "not_stored",
                StoreStatus::Stored => "stored",
                StoreStatus::Exists => "exists",
                StoreStatus::NotFound => "not_found",
                StoreStatus::TooLarge => "too_large",
                StoreStatus::NoMemory => "no_memory",
            };
            let command = match store.command {
                StoreCommand::Add => "add",
                StoreCommand::Set => "set",
                StoreCommand::Replace => "replace",
                StoreCommand::Append => "append",
                StoreCommand::Prepend => "prepend",
                StoreCommand::Cas => "cas",
            };
            let ttl = store.ttl.unwrap_or(0);
            let ItemStore { class, fd, size, .. } = store;
            write!(
                line,
                " status={status} cmd={command} ttl={ttl} clsid={class} cfd={fd} size={size}"
            )
        });
    }

    /// Logs a delete.
    pub fn deleted(&self, deleted: &Deleted<'_>, now: Now) {
        self.log(Categories::DELETIONS, "deleted", now, |line| {
            push_key(deleted.key, line);
            let command = if deleted.meta { "md" } else { "delete" };
            write!(line, " cmd={command} clsid={} size={}", deleted.class, deleted.size)
        });
    }

    /// Logs an eviction. The store calls this under a shard lock: it renders and copies one line
    /// and waits for nobody but another line being copied.
    pub fn evicted(&self, eviction: &Eviction<'_>, now: Now) {
        self.log(Categories::EVICTIONS, "eviction", now, |line| {
            push_key(eviction.key, line);
            let fetched = if eviction.fetched { "yes" } else { "no" };
            let ttl = eviction.ttl.map_or(-1, i64::from);
            let Eviction { idle, class, size, .. } = eviction;
            write!(line, " fetch={fetched} ttl={ttl} la={idle} clsid={class} size={size}")
        });
    }

    /// Logs a connection that was accepted.
    pub fn conn_new(&self, remote: &Remote<'_>, now: Now) {
        self.log(Categories::CONNEVENTS, "conn_new", now, |line| {
            let Remote { ip, port, transport, fd } = remote;
            write!(line, " rip={ip} rport={port} transport={transport} cfd={fd}")
        });
    }

    /// Logs a connection that ended; `reason` is `error`, `normal`, `idle_timeout` or `shutdown`.
    pub fn conn_close(&self, remote: &Remote<'_>, reason: &'static str, now: Now) {
        self.log(Categories::CONNEVENTS, "conn_close", now, |line| {
            let Remote { ip, port, transport, fd } = remote;
            write!(line, " rip={ip} rport={port} transport={transport} reason={reason} cfd={fd}")
        });
    }
}

fn push_key(key: &[u8], line: &mut Vec<u8>) {
    line.extend_from_slice(b" key=");
    push_uri_encoded(key, line);
}

/// Appends `key` with every byte but letters, digits, `-`, `.`, `_` and `~` as `%XX`: what a dump
/// and a log line show of a key, whatever bytes it holds.
pub fn push_uri_encoded(key: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in key {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, drained, get, watching};
    use super::*;

    #[test]
    fn lines_are_upstreams_letter_for_letter() {
        let all = [
            Categories::FETCHERS,
            Categories::MUTATIONS,
            Categories::EVICTIONS,
            Categories::DELETIONS,
            Categories::CONNEVENTS,
        ];
        let (hub, mut watcher) =
            watching(all.into_iter().fold(Categories::default(), Categories::with));
        hub.item_get(&get(b"nope"), NOW);
        let (status, command) = (StoreStatus::Stored, StoreCommand::Set);
        let store =
            ItemStore { key: b"k", status, command, ttl: Some(10), class: 1, fd: 25, size: 1 };
        hub.item_store(&store, NOW);
        hub.deleted(&Deleted { key: b"k", meta: true, class: 1, size: 4 }, NOW);
        let eviction =
            Eviction { key: b"old", fetched: true, ttl: None, idle: 7, class: 2, size: 30 };
        hub.evicted(&eviction, NOW);
        let remote = Remote { ip: "127.0.0.1", port: 47944, transport: "tcp", fd: 25 };
        hub.conn_new(&remote, NOW);
        hub.conn_close(&remote, "normal", NOW);
        assert_eq!(
            drained(&mut watcher),
            "ts=1795227911.005580 gid=1 type=item_get key=nope status=not_found clsid=0 cfd=25 size=0\n\
             ts=1795227911.005580 gid=2 type=item_store key=k status=stored cmd=set ttl=10 clsid=1 cfd=25 size=1\n\
             ts=1795227911.005580 gid=3 type=deleted key=k cmd=md clsid=1 size=4\n\
             ts=1795227911.005580 gid=4 type=eviction key=old fetch=yes ttl=-1 la=7 clsid=2 size=30\n\
             ts=1795227911.005580 gid=5 type=conn_new rip=127.0.0.1 rport=47944 transport=tcp cfd=25\n\
             ts=1795227911.005580 gid=6 type=conn_close rip=127.0.0.1 rport=47944 transport=tcp reason=normal cfd=25\n"
        );
    }

    #[test]
    fn a_key_in_a_line_cannot_start_a_line_of_its_own() {
        let (hub, mut watcher) = watching(Categories::FETCHERS);
        hub.item_get(&get(b"a\r\nts=0 gid=0 type=x \xe9-_.~"), NOW);
        let lines = drained(&mut watcher);
        assert_eq!(lines.lines().count(), 1);
        assert!(lines.contains(" key=a%0D%0Ats%3D0%20gid%3D0%20type%3Dx%20%E9-_.~ "), "{lines}");
    }
}
