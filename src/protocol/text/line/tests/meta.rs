//! Lines of the meta commands, on every split.

use super::*;
use crate::protocol::meta::{Meta, MetaKey};

pub(super) fn key_of(key: &MetaKey<'_>) -> String {
    format!("{}{}", key.bytes.escape_ascii(), if key.binary { " (binary)" } else { "" })
}

pub(super) fn words_of(meta: &Meta<'_>) -> String {
    let flags = meta
        .flags
        .iter()
        .map(|(letter, argument)| format!(" {}{}", char::from(letter), argument.escape_ascii()));
    format!("{}{}", key_of(&meta.key), flags.collect::<String>())
}

#[test]
fn meta_lines_give_their_key_and_flags_in_order_however_they_are_spaced() {
    assert_steps(b"mg k\r\n", &["mg k"]);
    assert_steps(b"mg  k  t   v Oab \n", &["mg k t v Oab"]);
    assert_steps(b"md k q I T30\r\n", &["md k q I T30"]);
    assert_steps(b"ma n MD D5\r\n", &["ma down n MD D5"]);
    assert_steps(b"ma n\r\n", &["ma up n"]);
    assert_steps(b"mn\r\nmn a b\r\n", &["mn", "mn"]);
    assert_steps(b"mn\n", &["BadFormat"]);
    assert_steps(b"me k\r\nme Zm9v b\r\n", &["me k", "me foo (binary)"]);
    assert_steps(b"mg AP8= k b\r\n", &["mg \\x00\\xff (binary) k b"]);
}

#[test]
fn a_meta_set_is_whole_when_its_data_block_is() {
    assert_steps(b"ms k 3 MA T5\r\nabc\r\nmn\r\n", &["ms Append k MA T5 <abc>", "mn"]);
    assert_steps(b"ms k 0\r\n\r\n", &["ms Set k <>"]);
    assert_steps(b"ms Zm9v 2 b\r\n\r\n\r\n", &["ms Set foo (binary) b <\\r\\n>"]);
    assert_steps(b"ms k 2\r\nabcdmn\r\n", &["ms Set k <unterminated>", "mn"]);
    let large = format!("ms k 5000 q\r\n{}\r\nmn\r\n", "x".repeat(5000));
    let mut decoder = Decoder::new(ITEM_SIZE_MAX, true);
    let Step::Request { consumed, request, manner: Manner::ANSWERED } =
        decoder.decode(large.as_bytes())
    else {
        panic!("a request that is too large is one")
    };
    assert_eq!((consumed, describe(&request, false).as_str()), (13, "ms Set k q <too large>"));
    assert_eq!(decoder.decode(&large.as_bytes()[13..]), Step::Skip { consumed: 5002 });
}

#[test]
fn a_refused_meta_set_skips_the_block_it_declares() {
    assert_steps(b"ms k 4 z\r\nmn\r\n\r\nmn\r\n", &["Meta(InvalidFlag)", "mn"]);
    assert_steps(b"ms k 4 *\r\nmn\r\n\r\nmn\r\n", &["BadFormat", "mn"]);
    assert_steps(b"ms a\rb 4\r\nmn\r\n\r\nmn\r\n", &["BadFormat", "mn"]);
    assert_steps(b"ms k 4 MX\r\nmn\r\n\r\nmn\r\n", &["Meta(InvalidSetMode)", "mn"]);
    assert_steps(b"ms k S2\r\nmn\r\n", &["BadFormat", "mn"]);
}

#[test]
fn a_meta_line_has_at_most_twenty_words() {
    let letters = "b N0 T0 R0 O P L k s t c f v h u q x F0".split(' ').collect::<Vec<_>>();
    assert_eq!(letters.len(), 18);
    let line = format!("mg Zm9v {}\r\n", letters.join(" "));
    assert_steps(line.as_bytes(), &[&format!("mg foo (binary) {}", letters.join(" "))]);
    let line = format!("mg Zm9v {} C1\r\n", letters.join(" "));
    assert_steps(line.as_bytes(), &["Meta(TooManyFlags)"]);
    let line = format!("ms Zm9v 2 {}\r\nhi\r\nmn\r\n", letters.join(" "));
    assert_steps(line.as_bytes(), &["Meta(TooManyFlags)", "mn"]);
}

#[test]
fn of_several_faults_of_a_meta_line_one_is_told() {
    let long = "k".repeat(251);
    let many = " v".repeat(19);
    for (line, told) in [
        ("mg a\rb v v".to_owned(), "BadFormat"),
        ("mg a\rb\rc v".to_owned(), "BadFormat"),
        ("me a\rb".to_owned(), "BadFormat"),
        (format!("mg {long} v v"), "BadFormat"),
        (format!("mg {long}{many}"), "Meta(TooManyFlags)"),
        (format!("mg a\rb{many}"), "Meta(TooManyFlags)"),
        ("mg k v v *".to_owned(), "BadFormat"),
        (format!("mg k{many} *"), "BadFormat"),
        (format!("mg k{many}"), "Meta(TooManyFlags)"),
        ("mg k Tx v v z".to_owned(), "Meta(DuplicateFlag)"),
        ("mg k z v v".to_owned(), "Meta(InvalidFlag)"),
        ("mg k Tx Fx".to_owned(), "BadFormat"),
        ("mg k Fx Tx".to_owned(), "Meta(BadToken)"),
        ("mg !!! b b".to_owned(), "Meta(DuplicateFlag)"),
        ("mg !!! b v".to_owned(), "Meta(KeyDecoding)"),
        ("mg !!! b Tx".to_owned(), "Meta(BadToken)"),
    ] {
        assert_steps(format!("{line}\r\nmn\r\n").as_bytes(), &[told, "mn"]);
    }
}
