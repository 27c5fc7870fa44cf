//! How the runs of a conversation, by either program, are judged.

use crate::conversation::Conversation;
use crate::run::Failure;
use crate::server::Program;

/// The oracle is not what is tested, and runs by a clock and background threads that nobody can
/// hold: on a busy machine it may need a second chance to show what it does.
const ORACLE_ATTEMPTS: usize = 3;

/// How one run of a conversation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    PassedOnOurs,
    PassedOnOracle,
    DiffersAsListed,
    Failed,
}

/// Has `program` run `conversation`. On the oracle one that is marked as differing must differ.
pub(crate) fn judge<A>(
    conversation: &Conversation<A>,
    program: Program,
    run: impl Fn() -> Result<(), Failure>,
) -> (Outcome, Option<Failure>) {
    let differs = conversation.oracle_differs.is_some();
    let attempts = if program == Program::Oracle && !differs { ORACLE_ATTEMPTS } else { 1 };
    let mut result = run();
    for _ in 1..attempts {
        if result.is_err() {
            result = run();
        }
    }
    match (result, program) {
        (Ok(()), Program::Oracle) if differs => {
            let title = &conversation.title;
            let report =
                format!("\"{title}\" is marked as differing, but the oracle answers as we do");
            (Outcome::Failed, Some(Failure { line: conversation.line, report }))
        }
        (Err(_), Program::Oracle) if differs => (Outcome::DiffersAsListed, None),
        (Ok(()), Program::Oracle) => (Outcome::PassedOnOracle, None),
        (Ok(()), Program::Twincached) => (Outcome::PassedOnOurs, None),
        (Err(failure), _) => (Outcome::Failed, Some(failure)),
    }
}
