//! `stats detail` and `stats cachedump`: lists of prefixes and of items.

use std::io::Write as _;

use super::super::admin::number;
use super::super::{PrefixCounts, Server};
use crate::clock::Now;
use crate::protocol::response::{Reject, Response};
use crate::protocol::text::meta_reply::is_one_word;
use crate::store::{Cursor, Scanned};

/// Upstream's numbers of slab classes end below this.
const CLASSES_END: u64 = 64;

/// `stats cachedump` stops here, as upstream's does.
const CACHEDUMP_MAX: usize = 2 << 20;

/// Items that one `stats cachedump` looks at before it stops: it runs in one go.
const CACHEDUMP_ITEMS_MAX: usize = 1 << 20;

/// Items looked at with one call of the store.
const SCAN_STEP: usize = 256;

/// `stats detail on|off|dump`.
pub(super) fn detail(server: &Server, action: Option<&[u8]>) -> Response {
    if !server.settings.dump_enabled {
        return Response::line("CLIENT_ERROR stats detail not allowed");
    }
    match action {
        Some(b"on") => server.prefixes.enable(true),
        Some(b"off") => server.prefixes.enable(false),
        Some(b"dump") => return Response::Listing(prefixes(server.prefixes.all())),
        _ => return Response::line("CLIENT_ERROR usage: stats detail on|off|dump"),
    }
    Response::Ok
}

fn prefixes(mut all: Vec<(Box<[u8]>, PrefixCounts)>) -> Vec<u8> {
    all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let mut out = Vec::new();
    for (prefix, counts) in all.iter().filter(|(prefix, _)| is_one_word(prefix)) {
        out.extend_from_slice(b"PREFIX ");
        out.extend_from_slice(prefix);
        let PrefixCounts { get, hit, set, del } = counts;
        let _infallible = write!(out, " get {get} hit {hit} set {set} del {del}\r\n");
    }
    out
}

/// `stats cachedump <class> <limit>`; limit 0 = no limit.
pub(super) fn cachedump(
    server: &Server,
    class: Option<&[u8]>,
    limit: Option<&[u8]>,
    now: Now,
) -> Response {
    if !server.settings.dump_enabled {
        return Response::line("CLIENT_ERROR stats cachedump not allowed");
    }
    let (Some(class), Some(limit)) = (class, limit) else {
        return Response::line("CLIENT_ERROR bad command line");
    };
    match (number(class), number(limit)) {
        (Some(class), Some(limit)) if class < CLASSES_END => {
            Response::Listing(items(server, class, limit, now))
        }
        (Some(_), Some(_)) => Response::line("CLIENT_ERROR Illegal slab id"),
        _ => Reject::BadFormat.into(),
    }
}

fn items(server: &Server, class: u64, limit: u64, now: Now) -> Vec<u8> {
    let limit = if limit == 0 { u64::MAX } else { limit };
    let (mut listed, mut looked_at) = (0, 0);
    let mut out = Vec::new();
    let mut scanned = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(from) = cursor.filter(|_| looked_at < CACHEDUMP_ITEMS_MAX) {
        cursor = server.store.scan(from, SCAN_STEP, now, &mut scanned);
        looked_at += SCAN_STEP;
        let in_class = |item: &Scanned| u64::from(item.found.class) == class;
        for item in scanned.drain(..).filter(in_class).filter(|item| is_one_word(&item.key)) {
            let end = out.len();
            push_item(&item, &mut out);
            if listed == limit || out.len() > CACHEDUMP_MAX {
                out.truncate(end);
                return out;
            }
            listed += 1;
        }
    }
    out
}

fn push_item(item: &Scanned, out: &mut Vec<u8>) {
    let expiry = item.found.expiry.second().map_or(0, |second| second.0);
    out.extend_from_slice(b"ITEM ");
    out.extend_from_slice(&item.key);
    let _infallible = write!(out, " [{} b; {expiry} s]\r\n", item.found.value_len);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, asked};
    use super::*;
    use crate::item::Expiry;
    use crate::limits::PREFIXES_MAX;
    use crate::settings::Settings;
    use crate::store::{Mode, Write};

    fn listing(server: &Server, args: &str) -> String {
        let Response::Listing(lines) = asked(server, args) else {
            panic!("stats {args} is a listing, not {:?}", asked(server, args));
        };
        String::from_utf8(lines).expect("text")
    }

    fn put(server: &Server, key: &[u8], value: &[u8], expiry: Expiry) {
        let write = Write::new(Mode::Set, value, 0, expiry);
        server.store.write(server.store.key(key), &write, NOW).expect("stored");
    }

    #[test]
    fn detail_counts_by_prefix_and_can_be_switched() {
        let server = Server::new(Settings::default());
        assert_eq!(asked(&server, "detail on"), Response::Ok);
        server.prefixes.count_set(b"b:1");
        server.prefixes.count_get(b"b:1", true);
        server.prefixes.count_get(b"a:1", false);
        server.prefixes.count_delete(b"a:1");
        server.prefixes.count_set(b"none");
        server.prefixes.count_set(b"evil\r\nPREFIX x:1");
        assert_eq!(asked(&server, "detail off"), Response::Ok);
        server.prefixes.count_set(b"b:1");
        assert_eq!(
            listing(&server, "detail dump"),
            "PREFIX a get 1 hit 0 set 0 del 1\r\nPREFIX b get 1 hit 1 set 1 del 0\r\n"
        );
        let usage = Response::line("CLIENT_ERROR usage: stats detail on|off|dump");
        for args in ["detail", "detail foo", "detail ON", "detail o"] {
            assert_eq!(asked(&server, args), usage, "stats {args}");
        }
    }

    #[test]
    fn clients_cannot_make_the_list_of_prefixes_grow_without_end() {
        let server = Server::new(Settings { detail_enabled: true, ..Settings::default() });
        for number in 0..100_000 {
            server.prefixes.count_set(format!("{number}:k").as_bytes());
        }
        assert_eq!(listing(&server, "detail dump").lines().count(), PREFIXES_MAX);
    }

    #[test]
    fn without_dumps_neither_details_nor_items_are_shown() {
        let server = Server::new(Settings { dump_enabled: false, ..Settings::default() });
        let detail = Response::line("CLIENT_ERROR stats detail not allowed");
        for args in ["detail", "detail on", "detail dump"] {
            assert_eq!(asked(&server, args), detail, "stats {args}");
        }
        assert!(!server.prefixes.is_enabled());
        let cachedump = Response::line("CLIENT_ERROR stats cachedump not allowed");
        for args in ["cachedump", "cachedump 1 0", "cachedump x"] {
            assert_eq!(asked(&server, args), cachedump, "stats {args}");
        }
    }

    #[test]
    fn cachedump_answers_bad_arguments_as_upstream() {
        let server = Server::new(Settings::default());
        let missing = Response::line("CLIENT_ERROR bad command line");
        let illegal = Response::line("CLIENT_ERROR Illegal slab id");
        for (args, wanted) in [
            ("cachedump", missing.clone()),
            ("cachedump 1", missing),
            ("cachedump x 1", Reject::BadFormat.into()),
            ("cachedump 1 x", Reject::BadFormat.into()),
            ("cachedump -1 0", Reject::BadFormat.into()),
            ("cachedump 1 -1", Reject::BadFormat.into()),
            ("cachedump 64 1", illegal.clone()),
            ("cachedump 99999999999999999999999 1", illegal),
            ("cachedump 0 0", Response::Listing(Vec::new())),
            ("cachedump 63 0", Response::Listing(Vec::new())),
            ("cachedump 5 2 3", Response::Listing(Vec::new())),
        ] {
            assert_eq!(asked(&server, args), wanted, "stats {args}");
        }
    }

    #[test]
    fn cachedump_lists_a_class_up_to_its_limit() {
        let server = Server::new(Settings::default());
        let expiry = Expiry::from_exptime(50, NOW, NOW);
        put(&server, b"a", b"abc", Expiry::NEVER);
        put(&server, b"b", b"", expiry);
        put(&server, b"gone", b"", Expiry::PAST);
        put(&server, b"large", &[b'x'; 500], Expiry::NEVER);
        put(&server, b"x [0 b; 0 s]\r\nITEM y", b"", Expiry::NEVER);
        let mut lines: Vec<String> =
            listing(&server, "cachedump 1 0").lines().map(str::to_owned).collect();
        lines.sort_unstable();
        let second = NOW.seconds().0 + 50;
        assert_eq!(lines, ["ITEM a [3 b; 0 s]".to_owned(), format!("ITEM b [0 b; {second} s]")]);
        assert_eq!(listing(&server, "cachedump 1 1").lines().count(), 1);
    }

    #[test]
    fn cachedump_ends_below_two_mebibytes_with_a_whole_line() {
        let server = Server::new(Settings::default());
        for number in 0..9_000 {
            put(&server, format!("{number:0250}").as_bytes(), b"", Expiry::NEVER);
        }
        let class = size_class_of_250();
        let all = listing(&server, &format!("cachedump {class} 0"));
        assert!(all.len() <= CACHEDUMP_MAX && all.len() > CACHEDUMP_MAX - 300, "{}", all.len());
        assert!(all.ends_with("\r\n"));
    }

    fn size_class_of_250() -> u8 {
        let size = crate::item::size_of(250, 0, 0, true);
        super::super::classes::size_classes(&Settings::default()).class_of(size)
    }
}
