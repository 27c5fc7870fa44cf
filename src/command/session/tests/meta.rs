//! The meta commands: every return code and flag. Uniques differ from run to run, so what shows
//! one gives it first (`E`).

use super::*;

#[test]
fn mg_answers_what_its_flags_ask_for_in_their_order() {
    converse(&[
        ("mg k\r\n", "EN\r\n"),
        ("mg k v k O9 s\r\n", "EN kk O9\r\n"),
        ("mg k v k O9 q\r\n", ""),
        ("ms k 3 F5 T100 E77\r\nabc\r\n", "HD\r\n"),
        ("mg k\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 3\r\nabc\r\n"),
        ("mg k s v t c f k O1 q\r\n", "VA 3 s3 t100 c77 f5 kk O1\r\nabc\r\n"),
        ("mg k k f O P1 L2 m\r\n", "CLIENT_ERROR invalid flag\r\n"),
        ("mg k k f O P1 L2 I M x\r\n", "HD kk f5 O\r\n"),
        ("mg k t T200\r\n", "HD t100\r\n"),
        ("mg k T300 t\r\n", "HD t300\r\n"),
        ("mg k T0 t\r\n", "HD t-1\r\n"),
        ("mg k C77 v s\r\n", "HD s3\r\n"),
        ("mg k C76 v s\r\n", "VA 3 s3\r\nabc\r\n"),
        ("ms e 0\r\n\r\n", "HD\r\n"),
        ("mg e v\r\n", "VA 0\r\n\r\n"),
    ]);
}

/// An mg that is no more than a read takes a shorter way, which none takes while prefixes are counted.
#[test]
fn whatever_flags_mg_has_it_answers_the_same_by_the_short_way() {
    let flags = "k O1 q s c t f h l u C76 C77 E9 N30 R200 T50".split(' ');
    let flags: Vec<&str> = flags.collect();
    let keys = [("foo", "foo"), ("Zm9v b", "Zm9v b"), ("Zm9v b", "foo")];
    for (one, other) in flags.iter().flat_map(|one| flags.iter().map(move |other| (one, other))) {
        let other = if one == other { "" } else { other };
        for ((stored, asked), before) in keys.into_iter().flat_map(|keys| {
            // As it was stored; stale; with its token out.
            ["", "md foo I E78\r\n", "mg foo R200\r\n"].map(|before| (keys, before))
        }) {
            let (key, binary) = stored.split_once(' ').unwrap_or((stored, ""));
            let lines = format!(
                "ms {key} 3 F5 T100 E77 {binary}\r\nabc\r\n{before}\
                 mg {asked} v {one} {other}\r\nmg {asked} v\r\nmg foo h l t\r\n"
            );
            let answers = [false, true].map(|counted| {
                let server = server(Settings::default());
                server.prefixes.enable(counted);
                Client::of(&server).say(lines.as_bytes()).escape_ascii().to_string()
            });
            assert_eq!(answers[0], answers[1], "{lines}");
        }
    }
}

#[test]
fn mg_shows_the_state_before_its_own_access() {
    converse(&[
        ("ms k 1\r\nx\r\n", "HD\r\n"),
        ("mg k h l u\r\n", "HD h0 l0\r\n"),
        ("mg k h\r\n", "HD h0\r\n"),
        ("mg k h\r\n", "HD h1\r\n"),
    ]);
}

#[test]
fn one_reader_wins_what_is_missing_short_lived_or_stale() {
    converse(&[
        ("mg k N30 v t E5 c\r\n", "VA 0 t30 c5 W\r\n\r\n"),
        ("mg k N30 v t\r\n", "VA 0 t30 Z\r\n\r\n"),
        ("ms k 1 T30\r\nx\r\n", "HD\r\n"),
        ("mg k R30\r\n", "HD\r\n"),
        ("mg k R31\r\n", "HD W\r\n"),
        ("mg k R31\r\n", "HD Z\r\n"),
        ("ms k 1 E9\r\nx\r\n", "HD\r\n"),
        ("mg k R31\r\n", "HD\r\n"),
        ("mg k T30 R31 t\r\n", "HD t30 W\r\n"),
        ("ms k 1 T30\r\nx\r\n", "HD\r\n"),
        ("mg k T90 R31\r\n", "HD\r\n"),
        ("mg k R91 T300\r\n", "HD W\r\n"),
        ("md k I T60\r\n", "HD\r\n"),
        ("mg k t v\r\n", "VA 1 t60 X W\r\nx\r\n"),
        ("mg k t v\r\n", "VA 1 t60 Z X\r\nx\r\n"),
        ("ms k 1\r\ny\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 1\r\ny\r\n"),
        ("mg gone N-1 t\r\n", "HD t0 W\r\n"),
        ("mg gone\r\n", "EN\r\n"),
    ]);
}

#[test]
fn ms_stores_on_the_condition_of_its_mode() {
    converse(&[
        ("ms k 1 MR\r\nx\r\n", "NS\r\n"),
        ("ms k 1 MA c s\r\nx\r\n", "NS c0 s1\r\n"),
        ("ms k 1 ME q\r\nx\r\n", ""),
        ("ms k 1 MEadd q O3 k\r\ny\r\n", "NS O3 kk\r\n"),
        ("ms k 2 MA s E6 c\r\nyz\r\n", "HD s3 c6\r\n"),
        ("ms k 1 MP s\r\nw\r\n", "HD s4\r\n"),
        ("mg k v\r\n", "VA 4\r\nwxyz\r\n"),
        ("ms k 1 MR E8\r\nr\r\n", "HD\r\n"),
        ("ms k 1 MS S1\r\nx\r\n", "CLIENT_ERROR invalid flag\r\n"),
        ("ms k 1 Me\r\nx\r\n", "CLIENT_ERROR invalid mode for ms M token\r\n"),
        ("ms k 1 M\r\nx\r\n", "CLIENT_ERROR invalid mode for ms M token\r\n"),
        ("ms new 1 MA N50\r\nx\r\n", "HD\r\n"),
        ("mg new t v\r\n", "VA 1 t50\r\nx\r\n"),
    ]);
}

#[test]
fn ms_with_a_unique_stores_over_that_version_or_marks_an_older_one_stale() {
    converse(&[
        ("ms k 1 C5 c\r\nx\r\n", "NF c0\r\n"),
        ("ms k 1 E50 T90\r\na\r\n", "HD\r\n"),
        ("ms k 1 C49 c q\r\nb\r\n", "EX c0\r\n"),
        ("ms k 1 ME C50\r\nb\r\n", "NS\r\n"),
        ("ms k 1 MA C49\r\nb\r\n", "EX\r\n"),
        ("ms k 1 C50 E60 c\r\nb\r\n", "HD c60\r\n"),
        ("ms k 1 I C70\r\nc\r\n", "EX\r\n"),
        ("ms k 1 T90 E60\r\nb\r\n", "HD\r\n"),
        ("ms k 1 I C55 T5 E61\r\nc\r\n", "HD\r\n"),
        ("mg k v t c\r\n", "VA 1 t90 c61 X W\r\nc\r\n"),
    ]);
}

#[test]
fn a_refused_ms_is_answered_even_when_quiet_and_leaves_no_command_behind() {
    let over = "k".repeat(251);
    let many = " a".repeat(18);
    converse(&[
        ("ms k 3\r\nold\r\n", "HD\r\n"),
        ("ms k 2 q\r\nabcd", "CLIENT_ERROR bad data chunk\r\n"),
        ("mn\r\n", "MN\r\n"),
        ("ms\r\n", MALFORMED),
        ("ms k\r\n", MALFORMED),
        ("ms k S2\r\n", MALFORMED),
        ("ms k -1\r\n", MALFORMED),
        ("ms k 2147483646\r\n", MALFORMED),
        (&format!("ms {over} 9\r\nflush_all\r\n"), MALFORMED),
        ("ms k 9 *\r\nflush_all\r\n", MALFORMED),
        ("ms k 9 Fx\r\nflush_all\r\n", MALFORMED),
        ("ms k 9 F4294967296\r\nflush_all\r\n", MALFORMED),
        ("ms k 9 q Tx\r\nflush_all\r\n", "CLIENT_ERROR bad token in command line format\r\n"),
        ("ms k 9 q z\r\nflush_all\r\n", "CLIENT_ERROR invalid flag\r\n"),
        ("ms k 9 q q\r\nflush_all\r\n", "CLIENT_ERROR duplicate flag\r\n"),
        ("ms k 9 b\r\nflush_all\r\n", "CLIENT_ERROR error decoding key\r\n"),
        (&format!("ms k 9{many}\r\nflush_all\r\n"), "CLIENT_ERROR options flags are too long\r\n"),
        ("mg k v\r\n", "VA 3\r\nold\r\n"),
    ]);
}

#[test]
fn a_value_too_large_for_ms_takes_the_old_one_along_in_every_mode() {
    let settings = Settings { item_size_max: 1024, ..Settings::default() };
    let data = "x".repeat(2000);
    for mode in ["", " ME", " MA", " MP", " MR", " C1", " q"] {
        converse_with(
            &settings,
            &[
                ("ms k 3\r\nold\r\n", "HD\r\n"),
                (
                    &format!("ms k 2000{mode}\r\n{data}\r\n"),
                    "SERVER_ERROR object too large for cache\r\n",
                ),
                ("mg k\r\n", "EN\r\n"),
            ],
        );
    }
}

#[test]
fn md_deletes_marks_or_empties() {
    converse(&[
        ("md k\r\n", "NF\r\n"),
        ("md k q O1 k\r\n", "NF O1 kk\r\n"),
        ("ms k 1 E5 F3\r\nx\r\n", "HD\r\n"),
        ("md k C4 q\r\n", "EX\r\n"),
        ("md k I E6 T40 v\r\n", "HD\r\n"),
        ("mg k c t f v\r\n", "VA 1 c6 t40 f3 X W\r\nx\r\n"),
        ("md k x E7 q\r\n", ""),
        ("mg k c t f v\r\n", "VA 0 c7 t-1 f0\r\n\r\n"),
        ("md k C7 T5 O2 k\r\n", "HD O2 kk\r\n"),
        ("mg k\r\n", "EN\r\n"),
        ("md\r\n", MALFORMED),
        ("md k z\r\n", "CLIENT_ERROR invalid flag\r\n"),
    ]);
}

#[test]
fn ma_counts_and_creates() {
    let refused = "CLIENT_ERROR invalid or duplicate flag\r\n";
    let bad_mode = "CLIENT_ERROR invalid mode for ma M token\r\n";
    let over = "k".repeat(251);
    converse(&[
        ("ma n\r\n", "NF\r\n"),
        ("ma n q O1 k\r\n", "NF O1 kn\r\n"),
        ("ma n N30 J13 v t E4 c\r\n", "VA 2 t30 c4\r\n13\r\n"),
        ("ma n N30 J13 D7 v\r\n", "VA 2\r\n20\r\n"),
        ("ma n\r\n", "HD\r\n"),
        ("ma n MD D20 v\r\n", "VA 1\r\n1\r\n"),
        ("ma n M- D20 v k O2\r\n", "VA 1 kn O2\r\n0\r\n"),
        ("ma n M+ q v\r\n", ""),
        ("ma n MI q\r\n", ""),
        ("ma n t T200 v\r\n", "VA 1 t30\r\n3\r\n"),
        ("ma n T300 t f s E8\r\n", "HD t300\r\n"),
        ("ma n C9\r\n", "EX\r\n"),
        ("ma n C8 E8 c\r\n", "HD c8\r\n"),
        ("ma n C0 v\r\n", "VA 1\r\n6\r\n"),
        ("ms s 1\r\nx\r\n", "HD\r\n"),
        ("ma s q\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
        ("ma n Mx\r\n", bad_mode),
        ("ma n Mi\r\n", bad_mode),
        ("ma n M\r\n", bad_mode),
        ("ma n z\r\n", refused),
        ("ma n v v\r\n", refused),
        ("ma n Dx\r\n", refused),
        ("ma n J-1\r\n", refused),
        (&format!("ma {over}\r\n"), refused),
        ("ma n *\r\n", MALFORMED),
        ("ma\r\n", MALFORMED),
    ]);
}

#[test]
fn a_binary_key_is_named_in_base64_whoever_asks() {
    converse(&[
        ("ms AP8gCg== 2 b k O1\r\nhi\r\n", "HD kAP8gCg== b O1\r\n"),
        ("mg AP8gCg== k b v\r\n", "VA 2 kAP8gCg== b\r\nhi\r\n"),
        ("me AP8gCg==\r\n", "EN\r\n"),
        ("ms Zm9v 1 b\r\n1\r\n", "HD\r\n"),
        ("mg foo k v\r\n", "VA 1 kZm9v b\r\n1\r\n"),
        ("ma foo k\r\n", "HD kZm9v b\r\n"),
        ("md Zm9v b k\r\n", "HD kZm9v b\r\n"),
        ("mg Zm9v b k\r\n", "EN kZm9v b\r\n"),
        ("mg Zm9 b\r\n", "CLIENT_ERROR error decoding key\r\n"),
        ("mg Zm9vYg b\r\n", "CLIENT_ERROR error decoding key\r\n"),
        ("mg Zm9v N0 b\r\n", "HD W\r\n"),
        ("mg foo k\r\n", "HD kZm9v b Z\r\n"),
    ]);
}

#[test]
fn mg_refuses_malformed_lines() {
    let (most, over) = ("o".repeat(31), "o".repeat(32));
    let (key, long_key) = ("k".repeat(250), "k".repeat(251));
    let bad = "CLIENT_ERROR bad token in command line format\r\n";
    converse(&[
        ("mg\r\n", MALFORMED),
        (&format!("mg {key}\r\n"), "EN\r\n"),
        (&format!("mg {long_key} q\r\n"), MALFORMED),
        ("mg a\rb N0\r\n", MALFORMED),
        ("mg k !\r\n", MALFORMED),
        ("mg k [\r\n", "CLIENT_ERROR invalid flag\r\n"),
        ("mg k v q v\r\n", "CLIENT_ERROR duplicate flag\r\n"),
        (&format!("mg k O{most}\r\n"), &format!("EN O{most}\r\n")),
        (&format!("mg k O{over}\r\n"), "CLIENT_ERROR opaque token too long\r\n"),
        ("mg k Dx Tx\r\n", bad),
        ("mg k Tx z\r\n", "CLIENT_ERROR invalid flag\r\n"),
        ("mg k Tx v v\r\n", "CLIENT_ERROR duplicate flag\r\n"),
        ("mg k T2147483648\r\n", bad),
        ("mg k N\r\n", bad),
        ("mg k Rx\r\n", bad),
        ("mg k C-1\r\n", bad),
        ("mg k E18446744073709551616\r\n", bad),
        ("mg k Jx\r\n", "CLIENT_ERROR invalid numeric initial value\r\n"),
        ("mg k Dx\r\n", "CLIENT_ERROR invalid numeric delta value\r\n"),
    ]);
}

#[test]
fn me_tells_what_is_known_without_an_access() {
    converse(&[
        ("me k\r\n", "EN\r\n"),
        ("ms k 1 E5 T60\r\nx\r\n", "HD\r\n"),
        ("me k\r\n", "ME k exp=60 la=0 cas=5 fetch=no cls=1 size=61\r\n"),
        ("mg k\r\n", "HD\r\n"),
        ("ms Zm9v 1 b E6\r\nx\r\n", "HD\r\n"),
        ("me k\r\n", "ME k exp=60 la=0 cas=5 fetch=yes cls=1 size=61\r\n"),
        ("me Zm9v b\r\n", "ME Zm9v exp=-1 la=0 cas=6 fetch=no cls=1 size=63\r\n"),
        ("me\r\n", MALFORMED),
        ("me z b\r\n", "CLIENT_ERROR error decoding key\r\n"),
        ("mn k v\r\n", "MN\r\n"),
    ]);
}

#[test]
fn without_cas_meta_uniques_are_zero() {
    let settings = Settings { cas: false, ..Settings::default() };
    converse_with(
        &settings,
        &[
            ("ms k 1 c\r\nx\r\n", "HD c0\r\n"),
            ("mg k c v C0\r\n", "VA 1 c0\r\nx\r\n"),
            ("ms n 1\r\n1\r\n", "HD\r\n"),
            ("ma n c\r\n", "HD c0\r\n"),
        ],
    );
}

#[test]
fn a_large_value_comes_whole_and_what_follows_it_stays_in_order() {
    let value = "v".repeat(900_000);
    let mut client = Client::of(&server(Settings::default()));
    client.say(format!("ms k 900000\r\n{value}\r\n").as_bytes());
    let heard = client.say(b"mg k v\r\nmn\r\n");
    assert!(heard == format!("VA 900000\r\n{value}\r\nMN\r\n").into_bytes());
    assert!(client.longest_send < 200_000, "{}", client.longest_send);
}
