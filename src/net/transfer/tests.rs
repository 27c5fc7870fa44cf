//! That it makes no difference to a transfer how it is made.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use crate::stats::Totals;

fn batcher(may_use_ring: bool) -> Batcher {
    Batcher::new(may_use_ring, Totals::default().register())
}

/// Sockets, each in another state when it is read and written: with bytes, without, with an end behind bytes,
/// ended, closed, and full.
fn sockets() -> Vec<(UnixStream, Option<UnixStream>)> {
    let states = (0..STATES).cycle().take(30 * STATES);
    let in_state = |state| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        match state {
            0 => theirs.write_all(b"some").unwrap(),
            1 => {}
            2 => {
                theirs.write_all(b"more").unwrap();
                theirs.shutdown(std::net::Shutdown::Write).unwrap();
            }
            3 => theirs.shutdown(std::net::Shutdown::Write).unwrap(),
            4 => return (ours, None),
            _ => {
                ours.set_nonblocking(true).unwrap();
                while (&ours).write(&[b'x'; 4096]).is_ok() {}
                while (&ours).write(b"x").is_ok() {}
                ours.set_nonblocking(false).unwrap();
            }
        }
        (ours, Some(theirs))
    };
    states.map(in_state).collect()
}

const STATES: usize = 6;

const EXPECTED_READS: [Result<usize, ErrorKind>; STATES] =
    [Ok(4), Err(ErrorKind::WouldBlock), Ok(4), Ok(0), Ok(0), Err(ErrorKind::WouldBlock)];

const EXPECTED_WRITES: [Result<usize, ErrorKind>; STATES] =
    [Ok(7), Ok(7), Ok(7), Ok(7), Err(ErrorKind::BrokenPipe), Err(ErrorKind::WouldBlock)];

/// Reads and writes all with this batcher, and checks what came of it.
#[track_caller]
fn check(batcher: &mut Batcher) {
    let sockets = sockets();
    let mut rooms = vec![[0; 16]; sockets.len()];
    let fds = || sockets.iter().map(|(ours, _)| ours.as_fd());
    let reads = fds().zip(&mut rooms).map(|(fd, room)| Transfer::receive(fd, room)).collect();
    let reads = batcher.make(reads);
    let writes = fds().map(|fd| Transfer::send(fd, b"written")).collect();
    let writes = batcher.make(writes);
    let kinds = |outcomes: Vec<io::Result<usize>>| {
        outcomes
            .into_iter()
            .map(|outcome| outcome.map_err(|error| error.kind()))
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(reads), EXPECTED_READS.repeat(30));
    assert_eq!(kinds(writes), EXPECTED_WRITES.repeat(30));
    for (nth, (room, (ours, theirs))) in rooms.iter().zip(sockets).enumerate() {
        drop(ours);
        let expected: &[u8] = match nth % STATES {
            0 => b"some",
            2 => b"more",
            _ => b"",
        };
        let (filled, rest) = room.split_at(expected.len());
        assert_eq!((filled, rest.iter().any(|&byte| byte != 0)), (expected, false), "socket {nth}");
        if let Some(mut theirs) = theirs.filter(|_| nth % STATES != 5) {
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, b"written", "socket {nth}");
        }
    }
}

#[test]
fn of_transfers_made_together_comes_what_comes_of_them_one_by_one() {
    let mut alone = batcher(false);
    check(&mut alone);
    assert_eq!(alone.counters.batched_transfers.count(), 0);
    let mut together = batcher(true);
    check(&mut together);
    check(&mut together);
    let expected = if together.is_together() { 4 * 30 * STATES as u64 } else { 0 };
    assert_eq!(together.counters.batched_transfers.count(), expected);
}

#[test]
fn a_ring_that_the_kernel_refuses_is_given_up_and_every_transfer_is_made_once() {
    let mut batcher = batcher(true);
    // It was opened for this thread.
    let other = thread::spawn(move || {
        check(&mut batcher);
        assert!(!batcher.is_together());
        check(&mut batcher);
    });
    other.join().unwrap();
}

#[test]
fn a_ring_that_has_failed_makes_nothing_more() {
    let Ok(mut ring) = Ring::open() else { return eprintln!("there is no io_uring here to fail") };
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"some").unwrap();
    let mut room = [0; 4];
    let mut refused = [Transfer::receive(ours.as_fd(), &mut room)];
    thread::scope(|scope| scope.spawn(|| ring.make(&mut refused).unwrap_err()).join().unwrap());
    let mut later = [Transfer::send(ours.as_fd(), b"later")];
    ring.make(&mut later).unwrap_err();
    assert!(refused[0].outcome.is_none() && later[0].outcome.is_none());
    assert_eq!(room, [0; 4], "nobody has read what was refused");
}
