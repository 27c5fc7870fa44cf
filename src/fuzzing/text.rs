//! Streams of lines.

use super::choices::Choices;
use super::client::{Heard, Plan};
use crate::limits::LINE_WITHOUT_LF_MAX;
use crate::settings::BindingProtocol;

/// Commands whose answers say when they were asked, come in an order that differs from server to
/// server, or depend on what waits to be sent.
const OF_THE_MOMENT: [&[u8]; 3] = [b"stats", b"watch", b"dump"];

/// A stream of bytes to a server that speaks text, or whatever its first byte says.
pub fn text(input: &[u8]) {
    let mut choices = Choices::new(input);
    let plan = Plan::read(&mut choices, BindingProtocol::Ascii);
    let stream = choices.rest();
    let [in_one, in_many] = plan.hear_twice(stream);
    if !is_of_the_moment(stream) {
        assert_same(&in_one, &in_many);
    }
}

/// Whether the answers to lines may depend on when and in which pieces they come. So may whether
/// a line is too long: that is noticed when more than allowed has come and no end of it.
pub(super) fn is_of_the_moment(stream: &[u8]) -> bool {
    let holds = |word: &[u8]| stream.windows(word.len()).any(|window| window == word);
    let is_long = |line: &[u8]| line.len() > LINE_WITHOUT_LF_MAX;
    OF_THE_MOMENT.into_iter().any(holds) || stream.split(|&byte| byte == b'\n').any(is_long)
}

pub(super) fn assert_same(in_one: &Heard, in_many: &Heard) {
    assert!(
        in_one == in_many,
        "in one piece: {} {:?}\nin many: {} {:?}",
        in_one.answers.escape_ascii(),
        in_one.end,
        in_many.answers.escape_ascii(),
        in_many.end
    );
}
