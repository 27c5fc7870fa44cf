//! Answers as frames.
//!
//! The opcode of a request decides how much of its answer is sent: a quiet get sends hits only,
//! every other quiet request sends refusals only.

use super::header::Answer;
use super::opcode::{Opcode, Verb};
use crate::limits::VERSION;
use crate::protocol::request::Echo;
use crate::protocol::response::{Reject, Response, SaslReply, Stat};
use crate::version::Version;

/// Bytes of the extras of a hit: the client flags.
const FLAGS_LEN: u8 = 4;

/// How a request ended, with upstream's number and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    code: u16,
    text: &'static str,
}

const OK: u16 = 0x00;
const AUTH_CONTINUE: u16 = 0x21;
const NOT_FOUND: Status = Status { code: 0x01, text: "Not found" };
const EXISTS: Status = Status { code: 0x02, text: "Data exists for key." };
const TOO_LARGE: Status = Status { code: 0x03, text: "Too large." };
const INVALID: Status = Status { code: 0x04, text: "Invalid arguments" };
const NOT_STORED: Status = Status { code: 0x05, text: "Not stored." };
const NON_NUMERIC: Status =
    Status { code: 0x06, text: "Non-numeric server-side value for incr or decr" };
const AUTH_FAILURE: Status = Status { code: 0x20, text: "Auth failure." };
const UNKNOWN: Status = Status { code: 0x81, text: "Unknown command" };
const NO_MEMORY_TO_STORE: Status = Status { code: 0x82, text: "Out of memory allocating item" };
const NOT_REPLICATED: Status = Status { code: 0x86, text: "Replication timeout" };
const NO_MEMORY: Status = Status { code: 0x82, text: "Out of memory incrementing value" };

/// What the head of a hit is made from.
#[derive(Clone, Copy, Debug)]
pub struct HitHead<'k> {
    /// The key asked for.
    pub key: &'k [u8],
    /// What the answer repeats.
    pub echo: Echo,
    /// Whether cas uniques are shown (`!-C`).
    pub cas: bool,
    /// Client flags.
    pub flags: u32,
    /// The value's length.
    pub value_len: usize,
    /// The value's version.
    pub version: Version,
}

/// All of a hit but its value, which follows.
pub fn hit(head: &HitHead<'_>, out: &mut Vec<u8>) {
    let shows_key = Opcode::known(head.echo.opcode).is_some_and(Opcode::shows_key);
    let key = if shows_key { head.key } else { b"" };
    let answer = Answer {
        echo: head.echo,
        status: OK,
        extras_len: FLAGS_LEN,
        key_len: key.len(),
        value_len: head.value_len,
        unique: if head.cas { head.version.0 } else { 0 },
    };
    answer.write(out);
    out.extend_from_slice(&head.flags.to_be_bytes());
    out.extend_from_slice(key);
}

/// A miss. With the key to repeat there is no text: nobody could tell them apart.
pub fn miss(key: &[u8], echo: Echo, out: &mut Vec<u8>) {
    match Opcode::known(echo.opcode) {
        Some(Opcode { quiet: true, .. }) => {}
        Some(opcode) if opcode.shows_key() => {
            frame(echo, NOT_FOUND.code, Body { key, ..Body::default() }, out);
        }
        _ => failure(echo, NOT_FOUND, out),
    }
}

/// Appends an answer.
pub fn response(response: &Response, echo: Echo, out: &mut Vec<u8>) {
    let opcode = Opcode::known(echo.opcode);
    if let Some(status) = failed(response, opcode.map(|opcode| opcode.verb)) {
        return failure(echo, status, out);
    }
    if opcode.is_some_and(|opcode| opcode.quiet) {
        return;
    }
    match response {
        Response::Stored { unique } => {
            frame(echo, OK, Body { unique: *unique, ..Body::default() }, out);
        }
        Response::Touched { flags, unique } => {
            let extras = &flags.to_be_bytes();
            frame(echo, OK, Body { extras, unique: *unique, ..Body::default() }, out);
        }
        Response::Number { number, unique } => {
            let value = &number.to_be_bytes();
            frame(echo, OK, Body { value, unique: *unique, ..Body::default() }, out);
        }
        Response::Version => {
            frame(echo, OK, Body { value: VERSION.as_bytes(), ..Body::default() }, out);
        }
        Response::Stats(stats) => {
            for stat in stats {
                stat_frame(echo, stat, out);
            }
            frame(echo, OK, Body::default(), out);
        }
        Response::Listing(lines) => {
            let value = &[lines, &b"END\r\n"[..]].concat();
            frame(echo, OK, Body { key: b"detailed", value, ..Body::default() }, out);
            frame(echo, OK, Body::default(), out);
        }
        _ => frame(echo, OK, Body::default(), out),
    }
}

/// Appends the last answer to a client whose frames cannot be followed: its opcode plays no part.
pub fn malformed(reject: Reject, echo: Echo, out: &mut Vec<u8>) {
    failure(echo, refusal(reject), out);
}

/// Appends the answer to a step of SASL.
pub fn sasl(reply: &SaslReply, echo: Echo, out: &mut Vec<u8>) {
    let (status, value) = match reply {
        SaslReply::Mechanisms(names) => (OK, names.as_bytes()),
        SaslReply::Authenticated => (OK, &b"Authenticated"[..]),
        SaslReply::Challenge(challenge) => (AUTH_CONTINUE, &challenge[..]),
        SaslReply::Failure => return failure(echo, AUTH_FAILURE, out),
        SaslReply::TooLong => return failure(echo, INVALID, out),
    };
    frame(echo, status, Body { value, ..Body::default() }, out);
}

/// The status of an answer that is no success. What a failed condition is called depends on the
/// condition.
fn failed(response: &Response, verb: Option<Verb>) -> Option<Status> {
    Some(match response {
        Response::NotStored => match verb {
            Some(Verb::Add) => EXISTS,
            Some(Verb::Replace) => NOT_FOUND,
            _ => NOT_STORED,
        },
        Response::Exists => EXISTS,
        Response::NotFound => NOT_FOUND,
        Response::Reject(Reject::NotLoggedIn) => AUTH_FAILURE,
        // Statistics that are not known, or not allowed.
        Response::Line(_) | Response::Reject(_) if verb == Some(Verb::Stat) => NOT_FOUND,
        Response::Reject(reject) => refusal(*reject),
        Response::Line(_) => UNKNOWN,
        _ => return None,
    })
}

fn refusal(reject: Reject) -> Status {
    match reject {
        Reject::TooLarge | Reject::TooLargeForUdp => TOO_LARGE,
        Reject::NoMemoryToStore => NO_MEMORY_TO_STORE,
        Reject::NoMemory => NO_MEMORY,
        Reject::NotReplicated => NOT_REPLICATED,
        Reject::LockByUdp => UNKNOWN,
        Reject::NonNumeric => NON_NUMERIC,
        Reject::FlushNotAllowed | Reject::NotLoggedIn => AUTH_FAILURE,
        Reject::UnknownCommand | Reject::CannotPipeline { .. } => UNKNOWN,
        Reject::BadFormat
        | Reject::LineTooLong
        | Reject::BadDataChunk
        | Reject::InvalidDelta
        | Reject::InvalidExptime
        | Reject::DeleteUsage
        | Reject::Meta(_) => INVALID,
    }
}

fn stat_frame(echo: Echo, stat: &Stat, out: &mut Vec<u8>) {
    let value = stat.value.to_string();
    let body = Body { key: stat.name.as_bytes(), value: value.as_bytes(), ..Body::default() };
    frame(echo, OK, body, out);
}

fn failure(echo: Echo, status: Status, out: &mut Vec<u8>) {
    frame(echo, status.code, Body { value: status.text.as_bytes(), ..Body::default() }, out);
}

/// What follows a header, and the cas unique in it.
#[derive(Clone, Copy, Default)]
struct Body<'b> {
    extras: &'b [u8],
    key: &'b [u8],
    value: &'b [u8],
    unique: u64,
}

fn frame(echo: Echo, status: u16, body: Body<'_>, out: &mut Vec<u8>) {
    let answer = Answer {
        echo,
        status,
        extras_len: u8::try_from(body.extras.len()).unwrap_or(u8::MAX),
        key_len: body.key.len(),
        value_len: body.value.len(),
        unique: body.unique,
    };
    answer.write(out);
    out.extend_from_slice(body.extras);
    out.extend_from_slice(body.key);
    out.extend_from_slice(body.value);
}

#[cfg(test)]
mod tests;
