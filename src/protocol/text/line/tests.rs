//! Every input is decoded whole, in every split into two reads, and byte by byte: what comes out
//! must not depend on how the bytes came in.

mod meta;

use meta::{key_of, words_of};
use proptest::prelude::*;

use super::*;
use crate::protocol::meta::MetaArithmetic;
use crate::protocol::request::Arithmetic;
use crate::version::Version;

const ITEM_SIZE_MAX: usize = 4096;

/// What a decoder made of a stream: each step in words, skipped bytes added up, and how many bytes
/// were left over.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    steps: Vec<String>,
    skipped: usize,
    left: usize,
}

/// Feeds `pieces` to a decoder as a connection does.
fn hear(pieces: &[&[u8]]) -> Heard {
    let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
    let mut waiting: Vec<u8> = Vec::new();
    let mut heard = Heard { steps: Vec::new(), skipped: 0, left: 0 };
    let mut at_least = 1;
    for piece in pieces {
        waiting.extend_from_slice(piece);
        while waiting.len() >= at_least {
            let consumed = match decoder.decode(&waiting) {
                Step::Wait { at_least: needed } => {
                    assert!(needed > waiting.len(), "waiting for what is there");
                    at_least = needed;
                    continue;
                }
                Step::Skip { consumed } => {
                    heard.skipped += consumed;
                    consumed
                }
                step @ (Step::Request { consumed, .. } | Step::Reject { consumed, .. }) => {
                    heard.steps.push(format!("{step:?}"));
                    consumed
                }
                step @ Step::Close { .. } => {
                    heard.steps.push(format!("{step:?}"));
                    return heard;
                }
            };
            assert!(consumed > 0, "a step without progress");
            waiting.drain(..consumed);
            at_least = 1;
        }
    }
    heard.left = waiting.len();
    heard
}

/// Decodes `input` in every way and returns what was heard.
fn decode(input: &[u8]) -> Heard {
    let whole = hear(&[input]);
    for split in 1..input.len() {
        let (first, second) = input.split_at(split);
        assert_eq!(hear(&[first, second]), whole, "split after {split} bytes");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(hear(&bytes), whole, "byte by byte");
    whole
}

/// The requests and refusals in `input`, without their lengths.
fn steps(input: &[u8]) -> Vec<String> {
    let _ = decode(input);
    let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
    let mut words = Vec::new();
    let mut front = input;
    loop {
        let consumed = match decoder.decode(front) {
            Step::Wait { .. } => return words,
            Step::Skip { consumed } => consumed,
            Step::Request { consumed, request, manner: Manner::Lines { noreply } } => {
                words.push(describe(&request, noreply));
                consumed
            }
            Step::Reject { consumed, reject, manner: Manner::Lines { noreply } } => {
                let silently = if noreply { " silently" } else { "" };
                words.push(format!("{reject:?}{silently}"));
                consumed
            }
            Step::Close { answer } => {
                let reject = answer.map(|(reject, _)| reject);
                words.push(format!("close {reject:?}"));
                return words;
            }
            framed => panic!("{framed:?} in a stream of lines"),
        };
        front = &front[consumed..];
    }
}

/// A request in words that a test can compare at a glance.
fn describe(request: &Request<'_>, noreply: bool) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let words = match request {
        Request::Retrieve(wanted) => {
            let keys: Vec<_> = wanted.keys.clone().map(text).collect();
            let touch = wanted.touch.map_or(String::new(), |exptime| format!(" until {exptime}"));
            let cas = if wanted.with_cas { " with cas" } else { "" };
            format!("fetch {}{touch}{cas}", keys.join(","))
        }
        Request::Store(storage) => {
            let Storage { key, mode, flags, exptime, compare, block } = storage;
            let over = compare.map_or(String::new(), |Version(unique)| format!(" over {unique}"));
            let block = block_of(block);
            format!("{mode:?} {} {flags} {exptime} <{block}>{over}", text(key))
        }
        Request::Delete { key, .. } => format!("delete {}", text(key)),
        Request::Arithmetic(Arithmetic { key, delta, up, .. }) => {
            format!("{} {} {delta}", if *up { "up" } else { "down" }, text(key))
        }
        Request::Touch { key, exptime } => format!("touch {} {exptime}", text(key)),
        Request::FlushAll { delay } => format!("flush {delay:?}"),
        Request::Version => "version".to_owned(),
        Request::Quit => "quit".to_owned(),
        Request::Stats(args) => format!("stats <{}>", text(args)),
        Request::Admin(admin) => format!("{:?} <{}>", admin.verb, text(admin.args)),
        Request::MetaGet(meta) => format!("mg {}", words_of(meta)),
        Request::MetaDelete(meta) => format!("md {}", words_of(meta)),
        Request::MetaSet(MetaSet { meta, mode, block }) => {
            format!("ms {mode:?} {} <{}>", words_of(meta), block_of(block))
        }
        Request::MetaArithmetic(MetaArithmetic { meta, up }) => {
            format!("ma {} {}", if *up { "up" } else { "down" }, words_of(meta))
        }
        Request::MetaNoop => "mn".to_owned(),
        Request::MetaDebug(key) => format!("me {}", key_of(key)),
        Request::RetrieveFrame(_) | Request::Noop | Request::Sasl(_) => {
            panic!("no line says {request:?}")
        }
    };
    format!("{words}{}", if noreply { " silently" } else { "" })
}

fn block_of(block: &Block<'_>) -> String {
    match block {
        Block::Value(value) => value.escape_ascii().to_string(),
        Block::Unterminated => "unterminated".to_owned(),
        Block::TooLarge => "too large".to_owned(),
    }
}

#[track_caller]
fn assert_steps(input: &[u8], expected: &[&str]) {
    assert_eq!(steps(input), expected, "{}", input.escape_ascii());
}

#[test]
fn retrieval_lines_give_their_keys_in_order_however_they_are_spaced() {
    assert_steps(b"get a\r\n", &["fetch a"]);
    assert_steps(b"get a\n", &["fetch a"]);
    assert_steps(b"get  a   b a  \r\n", &["fetch a,b,a"]);
    assert_steps(b"gets noreply\r\n", &["fetch noreply with cas"]);
    assert_steps(b"gat 0 noreply\r\n", &["fetch noreply until 0"]);
    assert_steps(b"gats -1 a b\r\n", &["fetch a,b until -1 with cas"]);
    assert_steps(b"get a\tb\0\x7f\xff\r\n", &["fetch a\\tb\\x00\\x7f\\xff"]);
    assert_steps(b"get a\r\r\n", &["fetch a\\r"]);
}

#[test]
fn retrieval_lines_without_keys_or_with_a_long_one_are_malformed() {
    for line in ["get\r\n", "get \r\n", "gets  \r\n", "gat\r\n", "gat 0\r\n", "gat 0  \r\n"] {
        assert_steps(line.as_bytes(), &["BadFormat"]);
    }
    let (most, over) = ("k".repeat(250), "k".repeat(251));
    assert_steps(format!("get {most}\r\n").as_bytes(), &[&format!("fetch {most}")]);
    assert_steps(
        format!("get a {most} {most} b\r\n").as_bytes(),
        &[&format!("fetch a,{most},{most},b")],
    );
    for line in ["get ", "get a ", "gats 0 a  ", "get a b c d e f g h i j k l m n o "] {
        assert_steps(format!("{line}{over}\r\n").as_bytes(), &["BadFormat"]);
        assert_steps(format!("{line}{over} {most}\r\n").as_bytes(), &["BadFormat"]);
    }
    assert_steps(b"gat abc k\r\n", &["InvalidExptime"]);
    assert_steps(b"gat 2147483648 k\r\n", &["InvalidExptime"]);
}

#[test]
fn storage_lines_take_their_data_block_whatever_it_holds() {
    assert_steps(b"set k 1 -5 3\r\nabc\r\n", &["Set k 1 -5 <abc>"]);
    assert_steps(b"set k 1 2 3\nabc\r\n", &["Set k 1 2 <abc>"]);
    assert_steps(b"add k 0 0 0\r\n\r\n", &["Add k 0 0 <>"]);
    assert_steps(b"replace k 0 0 6\r\na\r\nb\r\n\r\n", &["Replace k 0 0 <a\\r\\nb\\r\\n>"]);
    assert_steps(b"append k 0 0 1 noreply\r\nx\r\n", &["Append k 0 0 <x> silently"]);
    assert_steps(b"prepend k 0 0 1 noreply foo\r\nx\r\n", &["Prepend k 0 0 <x>"]);
    assert_steps(b"set noreply 0 0 1\r\nx\r\n", &["Set noreply 0 0 <x>"]);
    assert_steps(b"set k +5 +7 1\r\nx\r\n", &["Set k 5 7 <x>"]);
    assert_steps(b"set k 4294967295 2147483647 1\r\nx\r\n", &["Set k 4294967295 2147483647 <x>"]);
    assert_steps(b"set k 0 -2147483648 1\r\nx\r\n", &["Set k 0 -2147483648 <x>"]);
    assert_steps(b"cas k 0 0 1 7\r\nx\r\n", &["Set k 0 0 <x> over 7"]);
    assert_steps(
        b"cas k 0 0 1 18446744073709551615 noreply\r\nx\r\n",
        &["Set k 0 0 <x> over 18446744073709551615 silently"],
    );
}

#[test]
fn a_wrong_length_is_refused_aloud_and_the_data_is_heard_as_commands() {
    let lengths = [
        "-1",
        "abc",
        "+1",
        "1e3",
        "0x10",
        "1a",
        "2147483646",
        "2147483647",
        "2147483648",
        "4294967296",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
    ];
    for length in lengths {
        for command in ["set", "add", "replace", "append", "prepend"] {
            let input = format!("{command} k 0 0 {length} noreply\r\nversion\r\n");
            assert_steps(input.as_bytes(), &["BadFormat", "version"]);
        }
        let input = format!("cas k 0 0 {length} 1\r\nversion\r\n");
        assert_steps(input.as_bytes(), &["BadFormat", "version"]);
    }
    for line in ["set", "set k", "set k 0", "set k 0 0", "cas k 0 0", "append  "] {
        assert_steps(format!("{line}\r\nversion\r\n").as_bytes(), &["BadFormat", "version"]);
    }
}

#[test]
fn a_refused_value_is_swallowed_and_the_next_command_heard() {
    let over = "k".repeat(251);
    let lines = [
        format!("set {over} 0 0 9"),
        "set k -1 0 9".to_owned(),
        "set k abc 0 9".to_owned(),
        "set k 0x10 0 9".to_owned(),
        "set k 5a 0 9".to_owned(),
        "set k 4294967296 0 9".to_owned(),
        "set k 0 abc 9".to_owned(),
        "set k 0 2147483648 9".to_owned(),
        "set k 0 -2147483649 9".to_owned(),
        "set k 0 - 9".to_owned(),
        "set k 0 +-1 9".to_owned(),
        "set a\rb 0 0 9".to_owned(),
        "cas k 0 0 9".to_owned(),
        "cas k 0 0 9 abc".to_owned(),
        "cas k 0 0 9 -1".to_owned(),
        "cas k 0 0 9 18446744073709551616".to_owned(),
    ];
    for line in lines {
        assert_steps(format!("{line}\r\nflush_all\r\nquit\r\n").as_bytes(), &["BadFormat", "quit"]);
        let silent = format!("{line} noreply\r\nflush_all\r\nquit\r\n");
        assert_steps(silent.as_bytes(), &["BadFormat silently", "quit"]);
    }
}

#[test]
fn a_block_that_does_not_end_where_it_should_is_cut_at_its_length() {
    assert_steps(
        b"set k 0 0 3\r\nabcdef\r\nversion\r\n",
        &["Set k 0 0 <unterminated>", "BadFormat", "version"],
    );
    assert_steps(
        b"set k 0 0 3 noreply\r\nabc\n\nversion\r\n",
        &["Set k 0 0 <unterminated> silently", "version"],
    );
}

#[test]
fn a_value_too_large_for_an_item_is_refused_before_it_has_come() {
    let fits = ITEM_SIZE_MAX - size_of(1, 0, 0, true);
    let input = format!("set k 0 0 {}\r\n", fits + 1);
    assert_steps(input.as_bytes(), &["Set k 0 0 <too large>"]);
    let input = format!("add k 0 0 {} noreply\r\n{}\r\nget a\r\n", fits + 1, "x".repeat(fits + 1));
    assert_steps(input.as_bytes(), &["Add k 0 0 <too large> silently", "fetch a"]);
    let input = format!("set k 0 0 {fits}\r\n{}\r\n", "x".repeat(fits));
    assert_steps(input.as_bytes(), &[&format!("Set k 0 0 <{}>", "x".repeat(fits))]);
    let heard = hear(&[b"set k 0 0 2147483645\r\n", b"abc"]);
    assert_eq!((heard.steps.len(), heard.skipped), (1, 3));
}

#[test]
fn delete_takes_a_zero_and_noreply_and_nothing_else() {
    assert_steps(b"delete k\r\n", &["delete k"]);
    assert_steps(b"delete k 0\r\n", &["delete k"]);
    assert_steps(b"delete k noreply\r\n", &["delete k silently"]);
    assert_steps(b"delete k 0 noreply\r\n", &["delete k silently"]);
    assert_steps(b"delete noreply\r\n", &["delete noreply"]);
    assert_steps(b"delete noreply noreply\r\n", &["delete noreply silently"]);
    for line in ["delete k 1", "delete k foo", "delete k 0 0", "delete k noreply 0"] {
        assert_steps(format!("{line}\r\n").as_bytes(), &["DeleteUsage"]);
    }
    assert_steps(b"delete k foo noreply\r\n", &["DeleteUsage silently"]);
    assert_steps(b"delete\r\n", &["BadFormat"]);
    assert_steps(format!("delete {}\r\n", "k".repeat(251)).as_bytes(), &["BadFormat"]);
}

#[test]
fn counting_wants_a_key_and_digits() {
    assert_steps(b"incr k 1\r\n", &["up k 1"]);
    assert_steps(
        b"decr k 18446744073709551615 noreply\r\n",
        &["down k 18446744073709551615 silently"],
    );
    assert_steps(b"incr noreply 1\r\n", &["up noreply 1"]);
    for delta in ["abc", "-1", "+1", "18446744073709551616", "1a"] {
        assert_steps(format!("incr k {delta}\r\n").as_bytes(), &["InvalidDelta"]);
    }
    assert_steps(b"incr k noreply\r\n", &["InvalidDelta silently"]);
    assert_steps(b"incr k\r\ndecr\r\nincr noreply\r\n", &["BadFormat", "BadFormat", "BadFormat"]);
    assert_steps(format!("incr {} 1\r\n", "k".repeat(251)).as_bytes(), &["BadFormat"]);
}

#[test]
fn touch_and_flush_all_take_an_exptime_of_32_bits() {
    assert_steps(b"touch k 10\r\n", &["touch k 10"]);
    assert_steps(b"touch k -1 noreply\r\n", &["touch k -1 silently"]);
    assert_steps(b"touch k 10 foo\r\n", &["touch k 10"]);
    assert_steps(b"touch k abc\r\ntouch k 2147483648\r\n", &["InvalidExptime", "InvalidExptime"]);
    assert_steps(b"touch k noreply\r\n", &["InvalidExptime silently"]);
    assert_steps(b"touch\r\ntouch k\r\n", &["BadFormat", "BadFormat"]);
    assert_steps(b"flush_all\r\n", &["flush Some(0)"]);
    assert_steps(b"flush_all noreply\r\n", &["flush Some(0) silently"]);
    assert_steps(b"flush_all 5 noreply\r\n", &["flush Some(5) silently"]);
    assert_steps(b"flush_all -5\r\n", &["flush Some(-5)"]);
    assert_steps(b"flush_all abc\r\n", &["flush None"]);
    assert_steps(b"flush_all noreply 5\r\n", &["flush None"]);
}

#[test]
fn operators_commands_keep_their_words_and_lose_a_last_noreply() {
    assert_steps(b"stats\r\n", &["stats <>"]);
    assert_steps(b"stats  detail  on \r\n", &["stats <detail  on>"]);
    assert_steps(b"stats reset noreply\r\n", &["stats <reset noreply>"]);
    assert_steps(b"verbosity noreply\r\n", &["Verbosity <> silently"]);
    assert_steps(b"cache_memlimit 64 noreply\r\n", &["CacheMemlimit <64> silently"]);
    assert_steps(b"shutdown noreply\r\n", &["Shutdown <noreply>"]);
    assert_steps(b"lru_crawler metadump all\r\n", &["LruCrawler <metadump all>"]);
    assert_steps(b"slabs reassign 1 2\r\n", &["Slabs <reassign 1 2>"]);
    assert_steps(b"watch\r\n", &["Watch <>"]);
    assert_steps(b"lru mode flat\r\n", &["Lru <mode flat>"]);
    assert_steps(b"extstore item_age 1\r\n", &["Extstore <item_age 1>"]);
    assert_steps(b"refresh_certs\r\n", &["RefreshCerts <>"]);
    assert_steps(b"debugtime +5\r\n", &["Debugtime <+5>"]);
    assert_steps(b"debugpanic\r\n", &["Debugpanic <>"]);
    assert_steps(b"version foo\r\nquit foo\r\n", &["version", "quit"]);
}

#[test]
fn unknown_words_are_refused_and_http_is_hung_up_on() {
    for line in ["GET k", "foo", " get k", "g k", "misbehave", "noreply", "get\tk", "HTTP/1.1"] {
        assert_steps(format!("{line}\r\n").as_bytes(), &["UnknownCommand"]);
    }
    assert_steps(b"foo noreply\r\n", &["UnknownCommand silently"]);
    for line in ["GET / HTTP/1.1", "DELETE HTTP/1.1", "PUT /x  HTTP/2  ", "a HTTP/"] {
        assert_steps(format!("{line}\r\nquit\r\n").as_bytes(), &["close None"]);
    }
    assert_steps(b"get HTTP/1.1\r\n", &["fetch HTTP/1.1"]);
}

#[test]
fn a_line_of_less_than_four_bytes_is_malformed() {
    for line in ["\n", "\r\n", "g\r\n", "mn\n", " \r\n", "  \n"] {
        assert_steps(format!("{line}version\r\n").as_bytes(), &["BadFormat", "version"]);
    }
}

#[test]
fn a_line_without_end_closes_beyond_2048_bytes_unless_it_is_a_get() {
    assert_eq!(hear(&[&[b'x'; 2048]]).steps, Vec::<String>::new());
    assert_eq!(hear(&[&[b'x'; 2049]]).steps, ["Close { answer: None }"]);
    assert_eq!(hear(&[&[b' '; 2049]]).steps, ["Close { answer: None }"]);
    let mut long = b"foo ".to_vec();
    long.resize(5000, b'x');
    long.extend_from_slice(b"\r\n");
    assert_eq!(hear(&[&long]).steps.len(), 1, "a long line is no harm once it is there");
    for command in ["get ", "gets ", "   get "] {
        let keys = "key ".repeat(50_000);
        let heard = hear(&[command.as_bytes(), keys.as_bytes(), b"\r\n"]);
        assert!(heard.steps.len() == 1 && !heard.steps[0].starts_with("Close"), "{command}");
    }
    for command in ["gat 0 ", "getter ", &format!("{}get ", " ".repeat(101))] {
        let input = format!("{command}{}", "key ".repeat(600));
        assert_eq!(hear(&[input.as_bytes()]).steps, ["Close { answer: None }"], "{command}");
    }
}

#[test]
fn a_get_line_over_its_bound_is_refused_and_the_stream_ends() {
    let mut line = b"get ".to_vec();
    line.resize(GET_LINE_MAX + 1, b'k');
    let close = ["Close { answer: Some((LineTooLong, Lines { noreply: false })) }"];
    assert_eq!(hear(&[&line]).steps, close);
    line.extend_from_slice(b"k\r\n");
    assert_eq!(hear(&[&line]).steps, close);
}

#[test]
fn an_incomplete_request_says_how_many_bytes_it_needs() {
    let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
    assert_eq!(decoder.decode(b""), Step::Wait { at_least: 1 });
    assert_eq!(decoder.decode(b"set k 0 0 10"), Step::Wait { at_least: 13 });
    assert!(!decoder.is_in_data());
    assert_eq!(decoder.decode(b"set k 0 0 10\r\nabc"), Step::Wait { at_least: 26 });
    assert!(decoder.is_in_data());
}

#[test]
fn bytes_that_were_searched_for_a_line_end_are_not_searched_again() {
    let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
    assert_eq!(decoder.decode(b"get kkkk"), Step::Wait { at_least: 9 });
    assert_eq!(decoder.decode(b"get\nkkkkk"), Step::Wait { at_least: 10 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_are_heard_differently_in_pieces(
        lines in prop::collection::vec(
            prop_oneof![
                "(get|gets|gat 0|delete|touch|incr|foo|stats|set) [a-z ]{0,6}( [0-9+-]{1,3}){0,3}( noreply)?\r?\n",
                "(set|cas|add) [ab]{1,2} [0-9]{1,2} [0-9]{1,2} [0-9]{1,2}( 7)?( noreply)?\r\n[a-c\r\n]{0,12}",
                "[ -~\r]{0,12}\n",
            ],
            1..5,
        )
    ) {
        let _ = decode(lines.concat().as_bytes());
    }

    #[test]
    fn no_bytes_at_all_make_the_decoder_stop_or_stumble(
        bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        let _ = decode(&bytes);
    }
}
