//! Answers as lines.

use crate::limits::VERSION;
use crate::protocol::meta::MetaFault;
use crate::protocol::response::{Reject, Response, Stat};
use crate::version::Version;

/// After the hits of a get, the statistics, and other lists.
pub const END: &[u8] = b"END\r\n";

/// What the `VALUE` line of a hit is made from.
#[derive(Clone, Copy, Debug)]
pub struct ValueLine<'k> {
    /// The key asked for.
    pub key: &'k [u8],
    /// Client flags.
    pub flags: u32,
    /// The value's length.
    pub value_len: usize,
    /// The value's version.
    pub version: Version,
    /// The cas unique at its end.
    pub cas: CasColumn,
}

/// The cas unique in a `VALUE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CasColumn {
    /// Not there (get).
    Absent,
    /// The item's (gets).
    Unique,
    /// 0: the server runs without cas (`-C`).
    Zero,
}

/// `VALUE <key> <flags> <bytes> [<cas unique>]`
// Always: a part of the loop over a get's keys.
#[inline(always)]
pub fn value_line(line: &ValueLine<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(line.key);
    number_behind_space(u64::from(line.flags), out);
    number_behind_space(line.value_len as u64, out);
    match line.cas {
        CasColumn::Absent => {}
        CasColumn::Unique => number_behind_space(line.version.0, out),
        CasColumn::Zero => number_behind_space(0, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// A space and a number. Flags are 0 most of the time.
#[inline]
fn number_behind_space(number: u64, out: &mut Vec<u8>) {
    if number == 0 {
        return out.extend_from_slice(b" 0");
    }
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an answer.
pub fn response(response: &Response, out: &mut Vec<u8>) {
    let line = match response {
        Response::Stored { .. } => "STORED\r\n",
        Response::NotStored => "NOT_STORED\r\n",
        Response::Exists => "EXISTS\r\n",
        Response::NotFound => "NOT_FOUND\r\n",
        Response::Deleted => "DELETED\r\n",
        Response::Touched { .. } => "TOUCHED\r\n",
        Response::Ok => "OK\r\n",
        Response::Reset => "RESET\r\n",
        Response::Number { number, .. } => {
            return line_of(&[itoa::Buffer::new().format(*number)], out);
        }
        Response::Version => return line_of(&["VERSION ", VERSION], out),
        Response::Line(line) => return line_of(&[line], out),
        Response::Stats(stats) => return stat_lines(stats, out),
        Response::Listing(lines) => {
            out.extend_from_slice(lines);
            return out.extend_from_slice(END);
        }
        Response::Reject(reject) => return refusal(*reject, out),
    };
    out.extend_from_slice(line.as_bytes());
}

fn line_of(parts: &[&str], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn stat_lines(stats: &[Stat], out: &mut Vec<u8>) {
    for stat in stats {
        line_of(&["STAT ", &stat.name, " ", &stat.value.to_string()], out);
    }
    out.extend_from_slice(END);
}

fn refusal(reject: Reject, out: &mut Vec<u8>) {
    let line = match reject {
        Reject::UnknownCommand => "ERROR",
        Reject::BadFormat => "CLIENT_ERROR bad command line format",
        Reject::LineTooLong => "CLIENT_ERROR line too long",
        Reject::BadDataChunk => "CLIENT_ERROR bad data chunk",
        Reject::TooLarge => "SERVER_ERROR object too large for cache",
        Reject::NoMemoryToStore => "SERVER_ERROR out of memory storing object",
        Reject::NoMemory => "SERVER_ERROR out of memory",
        Reject::InvalidDelta => "CLIENT_ERROR invalid numeric delta argument",
        Reject::NonNumeric => "CLIENT_ERROR cannot increment or decrement non-numeric value",
        Reject::InvalidExptime => "CLIENT_ERROR invalid exptime argument",
        Reject::DeleteUsage => {
            "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
        }
        Reject::TooLargeForUdp => "SERVER_ERROR reply too large for udp",
        Reject::LockByUdp => "SERVER_ERROR lock keys are not changed by udp",
        Reject::NotReplicated => "SERVER_ERROR replication timeout",
        Reject::FlushNotAllowed => "CLIENT_ERROR flush_all not allowed",
        Reject::NotLoggedIn => "CLIENT_ERROR unauthenticated",
        Reject::Meta(fault) => meta_fault(fault),
        Reject::CannotPipeline { before } => {
            return line_of(&["ERROR cannot pipeline other commands before ", before], out);
        }
    };
    line_of(&[line], out);
}

fn meta_fault(fault: MetaFault) -> &'static str {
    match fault {
        MetaFault::InvalidFlag => "CLIENT_ERROR invalid flag",
        MetaFault::DuplicateFlag => "CLIENT_ERROR duplicate flag",
        MetaFault::InvalidOrDuplicateFlag => "CLIENT_ERROR invalid or duplicate flag",
        MetaFault::TooManyFlags => "CLIENT_ERROR options flags are too long",
        MetaFault::BadToken => "CLIENT_ERROR bad token in command line format",
        MetaFault::InvalidInitial => "CLIENT_ERROR invalid numeric initial value",
        MetaFault::InvalidDelta => "CLIENT_ERROR invalid numeric delta value",
        MetaFault::OpaqueTooLong => "CLIENT_ERROR opaque token too long",
        MetaFault::KeyDecoding => "CLIENT_ERROR error decoding key",
        MetaFault::InvalidSetMode => "CLIENT_ERROR invalid mode for ms M token",
        MetaFault::InvalidCountMode => "CLIENT_ERROR invalid mode for ma M token",
        MetaFault::VersionGiven => "CLIENT_ERROR explicit cas is not allowed with peers",
        MetaFault::NoMemoryForNumber => "SERVER_ERROR Out of memory allocating new item",
    }
}
