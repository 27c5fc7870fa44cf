//! The `-o` list: memcached's names and defaults. Most of them tune machinery that does not exist
//! here: those are checked as upstream checks them, shown in `stats settings`, and otherwise do
//! nothing, so that an existing start-up line keeps working.

use super::values::{nearest, number, put, real, some, yes};
use super::{Draft, Refusal};
use crate::settings::Shown;

/// One name in the `-o` list.
struct Sub {
    name: &'static str,
    /// The text that the bare name stands for; `None` when a value must follow.
    bare: Option<&'static str>,
    /// The text that `no_` and the name stand for, where there is such a form.
    no: Option<&'static str>,
    allowed: &'static str,
    /// For `--help`; empty when it has no effect or is not offered yet.
    help: &'static str,
    effect: bool,
    set: fn(&mut Draft, &str) -> Option<()>,
}

const fn switch(name: &'static str, set: fn(&mut Draft, &str) -> Option<()>) -> Sub {
    Sub {
        name,
        bare: Some("yes"),
        no: Some("no"),
        allowed: "yes or no",
        help: "",
        effect: false,
        set,
    }
}

const fn value(
    name: &'static str,
    allowed: &'static str,
    set: fn(&mut Draft, &str) -> Option<()>,
) -> Sub {
    Sub { bare: None, no: None, allowed, ..switch(name, set) }
}

impl Sub {
    const fn effective(self, help: &'static str) -> Sub {
        Sub { help, effect: true, ..self }
    }
}

const PERCENT: &str = "1 to 79";
const U32: &str = "0 to 4294967295";
const KIB: &str = "1 to 1048576 KiB";
const PATH: &str = "a path";
const ABOVE_ZERO: &str = "a number greater than 0";

/// memcached's page size, which `no_chunked_items` and `no_modern` make the largest chunk.
const SLAB_PAGE: usize = 1 << 20;

fn kib(text: &str) -> Option<usize> {
    number(text, 1..=1 << 20).map(|n: usize| n << 10)
}

fn u32(text: &str) -> Option<u32> {
    number(text, 0..=u32::MAX)
}

fn old_defaults(d: &mut Draft) {
    d.settings.maxconns_fast = false;
    let shown = &mut d.settings.shown;
    if shown.slab_chunk_max == Shown::default().slab_chunk_max {
        shown.slab_chunk_max = SLAB_PAGE;
    }
    shown.slab_reassign = false;
    shown.slab_automove = 0;
    shown.lru_segmented = false;
    shown.lru_crawler = false;
    shown.lru_maintainer = false;
    "jenkins".clone_into(&mut shown.hash_algorithm);
}

static SUBOPTIONS: &[Sub] = &[
    switch("maxconns_fast", |d, v| put(&mut d.settings.maxconns_fast, yes(v)))
        .effective("tell a connection over -c so and close it (default on)"),
    value("idle_timeout", "0 to 4294967295 seconds", |d, v| {
        put(&mut d.settings.idle_timeout, u32(v))
    })
    .effective("close TCP connections idle for so many seconds (default 0, never)"),
    switch("track_sizes", |d, v| put(&mut d.settings.track_sizes, yes(v)))
        .effective("answer stats sizes"),
    switch("modern", |d, v| {
        if !yes(v)? {
            old_defaults(d);
        }
        Some(())
    })
    .effective("no_modern shows memcached 1.4's defaults and waits instead of refusing over -c"),
    value("ssl_chain_cert", PATH, |d, v| put(&mut d.settings.tls.chain_cert, some(v)))
        .effective("certificate chain, in PEM format"),
    value("ssl_key", PATH, |d, v| put(&mut d.settings.tls.key, some(v)))
        .effective("private key, when it is not in the file of the chain"),
    value("ssl_keyformat", "PEM or DER", |d, v| {
        d.settings.tls.keyformat = match v {
            "PEM" | "1" => 1,
            "DER" | "2" => 2,
            _ => return None,
        };
        Some(())
    })
    .effective("PEM or DER (default PEM)"),
    value("ssl_verify_mode", "0 to 3", |d, v| {
        put(&mut d.settings.tls.verify_mode, number(v, 0..=3))
    })
    .effective("client certificates: 0 no (default), 1 may be shown, 2 and 3 must be"),
    value("ssl_ca_cert", PATH, |d, v| put(&mut d.settings.tls.ca_cert, some(v)))
        .effective("CAs of client certificates, in PEM format"),
    value("ssl_ciphers", "a cipher list", |d, v| put(&mut d.settings.tls.ciphers, some(v)))
        .effective("ciphers for TLS 1.2, in OpenSSL's words"),
    value("ssl_min_version", "0 to 3", |d, v| {
        put(&mut d.settings.tls.min_version, number(v, 0..=3))
    })
    .effective("oldest TLS spoken: 2 for 1.2 (default), 3 for 1.3"),
    switch("ssl_session_cache", |d, v| put(&mut d.settings.tls.session_cache, yes(v)))
        .effective("let clients resume TLS sessions (default off)"),
    value("ssl_wbuf_size", KIB, |d, v| put(&mut d.settings.tls.wbuf_size, kib(v))),
    switch("ssl_kernel_tls", |d, v| put(&mut d.settings.tls.kernel_tls, yes(v))),
    value("hashpower", "12 to 32", |d, v| {
        put(&mut d.settings.shown.hashpower_init, number(v, 12..=32))
    }),
    switch("hashexpand", |_, v| yes(v).map(|_| ())),
    value("hash_algorithm", "jenkins, murmur3 or xxh3", |d, v| {
        let known = ["jenkins", "murmur3", "xxh3"].contains(&v);
        put(&mut d.settings.shown.hash_algorithm, known.then(|| v.to_owned()))
    }),
    value("tail_repair_time", "10 to 2147483647 seconds", |d, v| {
        put(&mut d.settings.shown.tail_repair_time, number(v, 10..=2_147_483_647))
    }),
    switch("slab_reassign", |d, v| put(&mut d.settings.shown.slab_reassign, yes(v))),
    Sub {
        bare: Some("1"),
        no: Some("0"),
        ..value("slab_automove", "0 to 2", |d, v| {
            put(&mut d.settings.shown.slab_automove, number(v, 0..=2))
        })
    },
    value("slab_automove_ratio", "a number greater than 0 and less than 1", |d, v| {
        put(&mut d.settings.shown.slab_automove_ratio, real(v, |f| f > 0.0 && f < 1.0))
    }),
    value("slab_automove_window", "3 to 2147483647", |d, v| {
        put(&mut d.settings.shown.slab_automove_window, number(v, 3..=2_147_483_647))
    }),
    value("slab_automove_freeratio", ABOVE_ZERO, |d, v| {
        put(&mut d.settings.shown.ext.automove_freeratio, real(v, |f| f > 0.0))
    }),
    value("slab_chunk_max", "1 to 1073741824", |d, v| {
        put(&mut d.settings.shown.slab_chunk_max, number(v, 1..=1 << 30))
    }),
    value("slab_sizes", "sizes in bytes with - between them", |_, v| {
        v.split('-').all(|size| number(size, 1..=1_u32 << 30).is_some()).then_some(())
    }),
    switch("chunked_items", |d, v| {
        if !yes(v)? {
            d.settings.shown.slab_chunk_max = SLAB_PAGE;
        }
        Some(())
    }),
    switch("lru_crawler", |d, v| put(&mut d.settings.shown.lru_crawler, yes(v))),
    value("lru_crawler_sleep", "0 to 1000000 microseconds", |d, v| {
        put(&mut d.settings.shown.lru_crawler_sleep, number(v, 0..=1_000_000))
    }),
    value("lru_crawler_tocrawl", U32, |d, v| {
        put(&mut d.settings.shown.lru_crawler_tocrawl, u32(v))
    }),
    switch("lru_maintainer", |d, v| {
        put(&mut d.settings.shown.lru_maintainer, yes(v))?;
        d.settings.shown.lru_segmented = d.settings.shown.lru_maintainer;
        Some(())
    }),
    value("hot_lru_pct", PERCENT, |d, v| put(&mut d.settings.shown.hot_lru_pct, number(v, 1..=79))),
    value("warm_lru_pct", PERCENT, |d, v| {
        put(&mut d.settings.shown.warm_lru_pct, number(v, 1..=79))
    }),
    value("hot_max_factor", ABOVE_ZERO, |d, v| {
        put(&mut d.settings.shown.hot_max_factor, real(v, |f| f > 0.0))
    }),
    value("warm_max_factor", ABOVE_ZERO, |d, v| {
        put(&mut d.settings.shown.warm_max_factor, real(v, |f| f > 0.0))
    }),
    value("temporary_ttl", "0 to 4294967295 seconds", |d, v| {
        put(&mut d.settings.shown.temporary_ttl, u32(v).map(Some))
    }),
    value("watcher_logbuf_size", KIB, |d, v| {
        put(&mut d.settings.shown.watcher_logbuf_size, kib(v))
    }),
    value("worker_logbuf_size", KIB, |d, v| put(&mut d.settings.shown.worker_logbuf_size, kib(v))),
    value("read_buf_mem_limit", "0 to 1048576 MiB", |d, v| {
        let bytes = number(v, 0..=1 << 20).map(|n: usize| n << 20);
        put(&mut d.settings.shown.read_buf_mem_limit, bytes)
    }),
    value("resp_obj_mem_limit", U32, |_, v| u32(v).map(|_| ())),
    switch("inline_ascii_resp", |_, v| yes(v).map(|_| ())),
    switch("drop_privileges", |d, v| put(&mut d.settings.shown.drop_privileges, yes(v))),
    switch("relaxed_privileges", |_, v| yes(v).map(|_| ())),
    value("sock_cookie_id", U32, |_, v| u32(v).map(|_| ())),
    value("ext_path", "file:size", |_, v| (!v.is_empty()).then_some(())),
    value("ext_page_size", U32, |_, v| u32(v).map(|_| ())),
    value("ext_threads", U32, |_, v| u32(v).map(|_| ())),
    value("ext_io_depth", U32, |_, v| u32(v).map(|_| ())),
    value("ext_wbuf_size", "0 to 4294967295 MiB", |d, v| {
        put(&mut d.settings.shown.ext.wbuf_size, u32(v).map(|n| u64::from(n) << 20))
    }),
    value("ext_item_size", U32, |d, v| put(&mut d.settings.shown.ext.item_size, u32(v))),
    value("ext_item_age", U32, |d, v| put(&mut d.settings.shown.ext.item_age, u32(v))),
    value("ext_low_ttl", U32, |d, v| put(&mut d.settings.shown.ext.low_ttl, u32(v))),
    value("ext_recache_rate", U32, |d, v| put(&mut d.settings.shown.ext.recache_rate, u32(v))),
    value("ext_compact_under", U32, |d, v| put(&mut d.settings.shown.ext.compact_under, u32(v))),
    value("ext_drop_under", U32, |d, v| put(&mut d.settings.shown.ext.drop_under, u32(v))),
    value("ext_max_sleep", U32, |d, v| put(&mut d.settings.shown.ext.max_sleep, u32(v))),
    value("ext_max_frag", ABOVE_ZERO, |d, v| {
        put(&mut d.settings.shown.ext.max_frag, real(v, |f| f > 0.0))
    }),
    switch("ext_drop_unread", |d, v| put(&mut d.settings.shown.ext.drop_unread, yes(v))),
];

/// Reads one element of the list: `name`, `name=value` or `no_name`. `given_as` names the list's
/// source.
pub(super) fn apply(draft: &mut Draft, given_as: &str, text: &str) -> Result<(), Refusal> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let Some((sub, text)) = find(name, value) else {
        let hint = nearest(name, SUBOPTIONS.iter().map(|sub| sub.name))
            .map_or(String::new(), |near| format!("; did you mean {near}?"));
        let known: Vec<&str> = SUBOPTIONS.iter().map(|sub| sub.name).collect();
        return Err(Refusal::bad(format!(
            "Illegal suboption \"{text}\" for {given_as}; allowed: {}{hint}",
            known.join(" ")
        )));
    };
    let refused = || match text {
        Some(text) => format!("{given_as} {} was given \"{text}\"", sub.name),
        None => format!("{given_as} {} was given no value", sub.name),
    };
    text.and_then(|text| (sub.set)(draft, text))
        .ok_or_else(|| Refusal::bad(format!("{}; allowed: {}", refused(), sub.allowed)))?;
    if !sub.effect {
        draft.without_effect.insert(format!("-o {name}"));
    }
    Ok(())
}

/// The suboption that `name` names, and the text its value stands for.
fn find<'a>(name: &str, value: Option<&'a str>) -> Option<(&'static Sub, Option<&'a str>)> {
    if let Some(sub) = SUBOPTIONS.iter().find(|sub| sub.name == name) {
        return Some((sub, value.or(sub.bare)));
    }
    let negated = name.strip_prefix("no_")?;
    let sub = SUBOPTIONS.iter().find(|sub| sub.name == negated && sub.no.is_some())?;
    // `no_x = false` in a file or `no_x=no`: a double negation.
    match value.map(yes) {
        None | Some(Some(true)) => Some((sub, sub.no)),
        Some(Some(false)) => Some((sub, sub.bare)),
        Some(None) => Some((sub, value)),
    }
}

/// Help for those that do something.
pub(super) fn described() -> String {
    let offered = SUBOPTIONS.iter().filter(|sub| !sub.help.is_empty());
    let lines: Vec<String> = offered.map(|sub| format!("{:<16} {}", sub.name, sub.help)).collect();
    lines.join("\n  ")
}

/// Those that do nothing, without external storage, which is not offered.
pub(super) fn names_without_effect() -> Vec<&'static str> {
    let silent = SUBOPTIONS.iter().filter(|sub| !sub.effect && !sub.name.starts_with("ext_"));
    silent.map(|sub| sub.name).collect()
}
