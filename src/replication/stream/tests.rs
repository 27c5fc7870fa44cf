//! What lies on a tray becomes what is sent.

use super::*;
use crate::replication::event::LinkId;

fn framed(version: u64) -> Vec<u8> {
    let version = Version(version);
    let lost = Record::lost(version, version);
    let mut bytes = Vec::new();
    frame(b"key", &Record { kind: Kind::Value, ..lost }, b"value", &mut bytes);
    bytes
}

fn all_framed(versions: &[u64]) -> Vec<u8> {
    versions.iter().flat_map(|version| framed(*version)).collect()
}

fn link() -> Link {
    Link::new(LinkId(1), None, 0, Now::from_unix_seconds(1))
}

#[test]
fn a_tray_is_handed_over_for_as_much_memory() {
    let mut link = link();
    let mut tray = Tray::default();
    tray.frames = Vec::with_capacity(500);
    tray.records = 3;
    tray.frames.extend(all_framed(&[1, 2, 3]));
    let (frames, memory) = (tray.frames.clone(), tray.frames.as_ptr());
    hand_over(&mut link, &mut tray);
    assert_eq!((link.out.as_ptr(), &link.out), (memory, &frames));
    assert_eq!((tray.frames.capacity(), tray.frames.len()), (500, 0));
    assert_eq!(link.counts.sent_records, 3);
}

#[test]
fn what_is_passed_on_comes_after_what_was_said_and_leaves_out_what_was_told() {
    let cases = [
        (0, vec![], vec![1, 2, 3]),
        (1, vec![], vec![2, 3]),
        (0, vec![2], vec![1, 3]),
        (1, vec![3], vec![2]),
        (3, vec![], vec![]),
    ];
    for (after, told, lacks) in cases {
        let mut link = link();
        link.say(&Frame::Goodbye);
        let said = link.out.clone();
        let told: BTreeSet<Version> = told.into_iter().map(Version).collect();
        pass_on(&mut link, &all_framed(&[1, 2, 3]), 3, Version(after), &told);
        assert_eq!(link.out, [said, all_framed(&lacks)].concat());
        assert_eq!(link.counts.sent_records, lacks.len() as u64);
    }
}
