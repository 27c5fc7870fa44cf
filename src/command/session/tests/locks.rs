use super::*;
use crate::command::LockClerk;
use crate::replication::{Execute, Executed};

const DELETE: &[u8] = b"\x80\x04\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0l";

#[test]
fn what_comes_too_late_to_let_a_lock_go_finds_nothing_and_changes_nothing() {
    let server = server(Settings::default());
    let now = server.clock.now();
    let mut clerk = LockClerk::new(&server, now);
    let mut execute = |request: &[u8], is_late| {
        let Executed { answer, takes, .. } = clerk.execute(request, is_late, now);
        (answer, takes)
    };
    assert_eq!(execute(b"add l 0 0 1\r\n1\r\n", false), (b"STORED\r\n".to_vec(), true));
    let late: [(&[u8], &str); 8] = [
        (b"delete l\r\n", "NOT_FOUND\r\n"),
        (b"touch l 0\r\n", "NOT_FOUND\r\n"),
        (b"decr l 1\r\n", "NOT_FOUND\r\n"),
        (b"set l 0 0 1\r\n0\r\n", "NOT_STORED\r\n"),
        (b"md l O7\r\n", "NF O7\r\n"),
        (b"ms l 1\r\n0\r\n", "NS\r\n"),
        (b"ma l MD\r\n", "NF\r\n"),
        (b"md l q\r\n", "NF\r\n"),
    ];
    for (request, answer) in late {
        assert_eq!(execute(request, true), (answer.as_bytes().to_vec(), false));
    }
    let (answer, _) = execute(DELETE, true);
    assert_eq!(answer[6..8], [0, 1], "{answer:?}");
    assert_eq!(execute(b"incr l 1\r\n", true), (b"2\r\n".to_vec(), true));
    assert_eq!(execute(b"delete l\r\n", false), (b"DELETED\r\n".to_vec(), false));
}
