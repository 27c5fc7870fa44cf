//! Datagrams: no letter knows of those before it, except by what they stored.

use super::choices::Choices;
use super::client::{NOW, Plan, session};
use crate::command::{Datagram, Session, Source, Transport};
use crate::limits::{UDP_FACTOR_MAX, UDP_REPLY_MAX};
use crate::protocol::udp::{DATAGRAM_MAX, HEADING_LEN, PIECE_MAX, Request, write};
use crate::settings::BindingProtocol;

/// Datagrams, each with the length of its payload in front.
pub fn udp(input: &[u8]) {
    let mut choices = Choices::new(input);
    let plan = Plan::read(&mut choices, BindingProtocol::Auto);
    let source = choices.pick(&[Source::Allowed, Source::Unproven]);
    let (one, other) = (plan.server(), plan.server());
    let mut lasting = session(&one, Transport::Udp);
    while !choices.is_over() {
        let datagram = datagram(&mut choices);
        let heard = answer(&mut lasting, source, &datagram);
        let alone = answer(&mut session(&other, Transport::Udp), source, &datagram);
        if !tells_statistics(&datagram) {
            assert!(heard == alone, "a datagram before it matters: {}", datagram.escape_ascii());
        }
    }
}

fn datagram(choices: &mut Choices<'_>) -> Vec<u8> {
    let heading = match choices.below(16) {
        0 => return choices.take(12).to_vec(),
        1 => choices.take(HEADING_LEN),
        _ => b"\x12\x34\0\0\0\x01\0\0",
    };
    let len = usize::from(choices.byte());
    let payload = choices.take(len);
    // One source of long answers: as many gets as fit.
    let times = if choices.one_in(16) { 1 + choices.below(32) } else { 1 };
    [heading, &payload.repeat(usize::from(times))].concat()
}

fn tells_statistics(datagram: &[u8]) -> bool {
    datagram.windows(5).any(|word| word == b"stats")
        || datagram.windows(2).any(|start| start == [0x80, 0x10])
}

/// The datagrams that answer one.
fn answer(session: &mut Session, source: Source, datagram: &[u8]) -> Vec<u8> {
    let Some(request) = Request::read(datagram) else { return Vec::new() };
    let mut rest = Datagram::new(session, source, request.payload);
    let (mut messages, mut total, mut answers) = (0, 0, Vec::new());
    loop {
        let mut message = Vec::new();
        rest.next_message(NOW, &mut message);
        if message.is_empty() {
            break;
        }
        messages += 1;
        total += message.len();
        assert!(messages <= request.payload.len(), "more answers than bytes");
        write(request.id, &message, &mut answers);
    }
    match source {
        Source::Allowed => assert!(total <= UDP_REPLY_MAX + PIECE_MAX, "{total} bytes"),
        Source::Unproven => {
            assert!(messages <= 1 && answers.len() <= DATAGRAM_MAX, "{} bytes", answers.len());
            assert!(answers.len() <= UDP_FACTOR_MAX * datagram.len(), "{} bytes", answers.len());
        }
    }
    answers
}
