//! Listings of all items (`lru_crawler metadump`, `mgdump`), written in bounded pieces.
//!
//! A dump holds no item and no lock between two pieces: only where it stands. Items that are there
//! from its beginning to its end are listed; those that come or go meanwhile may be.

use std::io::Write as _;

use super::Server;
use crate::clock::Now;
use crate::limits::OUTPUT_SOFT_MAX;
use crate::protocol::text::meta_reply::push_key;
use crate::store::{Cursor, Scanned};
use crate::watch::push_uri_encoded;

/// Items looked at with one call of the store: their lines overshoot a piece by no more than this.
const SCAN_STEP: usize = 64;

/// Items looked at for one piece, however few of them are listed.
const PIECE_ITEMS_MAX: usize = 16 << 10;

/// How items are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpForm {
    /// `metadump`: what is known about each item.
    Meta,
    /// `mgdump`: meta get commands that fetch each item.
    Mg,
}

/// Size classes by number, 1 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classes(u64);

impl Classes {
    /// Every class.
    pub(super) const ALL: Classes = Classes(!1);

    /// Classes from `1,2,3`; `None` when one of them cannot exist.
    pub(super) fn parse(list: &[u8]) -> Option<Classes> {
        let mut classes = Classes(0);
        for number in list.split(|&byte| byte == b',').filter(|number| !number.is_empty()) {
            let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
            if !(1..64).contains(&number) {
                return None;
            }
            classes.0 |= 1 << number;
        }
        Some(classes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn contain(self, class: u8) -> bool {
        1_u64.checked_shl(u32::from(class)).is_some_and(|bit| self.0 & bit != 0)
    }
}

/// A listing under way.
#[derive(Debug)]
pub struct Dump {
    form: DumpForm,
    classes: Classes,
    /// Where it goes on; `None` once the end mark is written.
    cursor: Option<Cursor>,
}

impl Dump {
    /// A listing that begins with the first item.
    pub(super) fn new(form: DumpForm, classes: Classes) -> Dump {
        Dump { form, classes, cursor: Some(Cursor::default()) }
    }

    /// The command's name, for `ERROR cannot pipeline other commands before metadump`.
    #[must_use]
    pub fn command(&self) -> &'static str {
        match self.form {
            DumpForm::Meta => "metadump",
            DumpForm::Mg => "mgdump",
        }
    }

    /// Appends the next lines to `out`, about [`OUTPUT_SOFT_MAX`] bytes, and the end mark when
    /// there are no more; returns whether there are more.
    pub fn more(&mut self, server: &Server, now: Now, out: &mut Vec<u8>) -> bool {
        let full = out.len() + OUTPUT_SOFT_MAX;
        let mut scanned = Vec::with_capacity(SCAN_STEP);
        let mut looked_at = 0;
        while let Some(from) = self.cursor {
            if out.len() >= full || looked_at >= PIECE_ITEMS_MAX {
                return true;
            }
            self.cursor = server.store.scan(from, SCAN_STEP, now, &mut scanned);
            looked_at += SCAN_STEP;
            for item in scanned.drain(..).filter(|item| self.classes.contain(item.found.class)) {
                match self.form {
                    DumpForm::Meta => push_meta(&item, server.settings.cas, now, out),
                    DumpForm::Mg => push_mg(&item, out),
                }
            }
            if self.cursor.is_none() {
                out.extend_from_slice(match self.form {
                    DumpForm::Meta => b"END\r\n",
                    DumpForm::Mg => b"EN\r\n",
                });
            }
        }
        false
    }
}

/// A line of `metadump`: its end is a space and LF, as upstream's since 1.6.43.
fn push_meta(item: &Scanned, cas: bool, now: Now, out: &mut Vec<u8>) {
    out.extend_from_slice(b"key=");
    push_uri_encoded(&item.key, out);
    let found = &item.found;
    let expiry = found.expiry.second().map_or(-1, |second| i64::from(second.0));
    let last_access = now.seconds().0.saturating_sub(found.idle);
    let unique = if cas { found.version.0 } else { 0 };
    let fetched = if found.fetched { "yes" } else { "no" };
    let _infallible = writeln!(
        out,
        " exp={expiry} la={last_access} cas={unique} fetch={fetched} cls={} size={} flags={} ",
        found.class, found.size, found.flags
    );
}

/// A line of `mgdump`. A key that would not read as one word comes in base64, whatever protocol
/// stored it.
fn push_mg(item: &Scanned, out: &mut Vec<u8>) {
    out.extend_from_slice(b"mg ");
    let in_base64 = push_key(&item.key, item.found.binary_key, out);
    out.extend_from_slice(if in_base64 { b" b\r\n" } else { b"\r\n" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Expiry;
    use crate::settings::Settings;
    use crate::store::{Mode, Write};

    const NOW: Now = Now::from_unix_seconds(1_800_000_100);

    fn put(server: &Server, key: &[u8], binary_key: bool, expiry: Expiry) -> u64 {
        let write = Write { binary_key, ..Write::new(Mode::Set, b"abc", 5, expiry) };
        server.store.write(server.store.key(key), &write, NOW).expect("stored").version.0
    }

    fn dumped(server: &Server, form: DumpForm, classes: Classes) -> String {
        let mut dump = Dump::new(form, classes);
        let mut out = Vec::new();
        while dump.more(server, NOW, &mut out) {}
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_metadump_line_is_upstreams() {
        let server = Server::new(Settings::default());
        let cas = put(&server, b"a b\xe9", true, Expiry::NEVER);
        assert_eq!(
            dumped(&server, DumpForm::Meta, Classes::ALL),
            format!(
                "key=a%20b%E9 exp=-1 la=1800000100 cas={cas} fetch=no cls=1 size=70 flags=5 \nEND\r\n"
            )
        );
    }

    #[test]
    fn a_metadump_tells_expiry_and_hides_cas_uniques_that_are_switched_off() {
        let server = Server::new(Settings { cas: false, ..Settings::default() });
        put(&server, b"k", false, Expiry::from_exptime(60, NOW, NOW));
        put(&server, b"gone", false, Expiry::PAST);
        let dump = dumped(&server, DumpForm::Meta, Classes::ALL);
        assert!(dump.starts_with("key=k exp=1800000160 la=1800000100 cas=0 fetch=no "), "{dump}");
        assert_eq!(dump.lines().count(), 2, "the expired item is not listed");
    }

    #[test]
    fn an_mgdump_spells_every_key_so_that_it_can_be_asked_for() {
        let server = Server::new(Settings::default());
        for (key, binary) in
            [(&b"plain"[..], false), (b"\xff\xfe", true), (b"x\r\nflush_all", false)]
        {
            put(&server, key, binary, Expiry::NEVER);
        }
        let dump = dumped(&server, DumpForm::Mg, Classes::ALL);
        let mut lines: Vec<&str> = dump.split("\r\n").collect();
        assert_eq!(lines.split_off(lines.len() - 2), ["EN", ""], "the end mark comes last");
        lines.sort_unstable();
        assert_eq!(lines, ["mg //4= b", "mg eA0KZmx1c2hfYWxs b", "mg plain"]);
    }

    #[test]
    fn only_the_classes_asked_for_are_listed() {
        let server = Server::new(Settings::default());
        put(&server, b"small", false, Expiry::NEVER);
        let of = |list: &[u8]| {
            dumped(&server, DumpForm::Mg, Classes::parse(list).expect("valid classes"))
        };
        assert_eq!(of(b"1"), "mg small\r\nEN\r\n");
        assert_eq!(of(b"3,1,"), "mg small\r\nEN\r\n");
        assert_eq!(of(b"2,63"), "EN\r\n");
    }

    #[test]
    fn classes_are_one_to_sixty_three() {
        for bad in [&b"0"[..], b"64", b"-1", b"x", b"1,x", b"1,64", b"99999999999", b"\xff"] {
            assert_eq!(Classes::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        assert!(Classes::parse(b",").is_some_and(Classes::is_empty));
        assert!(!Classes::ALL.contain(0) && Classes::ALL.contain(63) && !Classes::ALL.contain(255));
    }

    #[test]
    fn a_dump_comes_in_bounded_pieces_that_together_list_every_item_once() {
        let server = Server::new(Settings::default());
        for number in 0..2_000 {
            put(&server, format!("{number:0250}").as_bytes(), false, Expiry::NEVER);
        }
        let mut dump = Dump::new(DumpForm::Mg, Classes::ALL);
        let mut all = Vec::new();
        let mut more = true;
        while more {
            let mut piece = Vec::new();
            more = dump.more(&server, NOW, &mut piece);
            assert!(piece.len() <= OUTPUT_SOFT_MAX + SCAN_STEP * 1024, "{}", piece.len());
            all.extend_from_slice(&piece);
        }
        let all = String::from_utf8(all).expect("ASCII");
        let mut keys: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("mg ")).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 2_000);
        assert!(all.ends_with("EN\r\n"));
        assert!(!dump.more(&server, NOW, &mut Vec::new()), "a finished dump stays finished");
    }
}
