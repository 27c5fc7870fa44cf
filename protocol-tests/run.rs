//! Runs one conversation on one server and says where it went wrong.
//!
//! The same conversation can be sent in several ways ([`Writes`]): a server may not notice how the
//! bytes were cut. Reading the files is not here, nor which conversations run where.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::conversation::{Act, Conversation, Step};
use crate::frame::{self, Frame};
use crate::pattern::{Memory, Pattern, escape};
use crate::server::{Program, Server, Stream};
use crate::words::{Extent, Words};

/// How the bytes to send are cut into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// The lines sent between two answers in one write.
    AsWritten,
    /// Every byte in its own write.
    ByteByByte,
    /// The same lines in two writes, cut in the middle.
    Halves,
    /// Everything that need not wait for an answer in one write.
    Coalesced,
}

/// Longest wait for an expected answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where the oracle is known to answer otherwise, perhaps by saying nothing.
const PATIENCE_FOR_DIFFERENCE: Duration = Duration::from_millis(1_500);
/// How long to listen for what else was said once an answer is wrong; only for the report.
const REST_OF_WRONG_ANSWER: Duration = Duration::from_millis(100);
/// Byte by byte ends here: beyond, a write takes this many bytes, so that a megabyte takes
/// thousands of writes and not a million.
const SMALL: usize = 512;
/// What a client that speaks binary is probed with, and answers.
const FRAME_PROBE: &str = "noop opaque=0x70726f62";

/// What went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) line: usize,
    pub(crate) report: String,
}

/// Runs `conversation` on a fresh server.
pub(crate) fn run(
    conversation: &Conversation,
    program: Program,
    writes: Writes,
) -> Result<(), Failure> {
    let flags = conversation.flags_of(program);
    let server = Server::try_start(program, &flags)
        .map_err(|report| Failure { line: conversation.line, report })?;
    let differs = program == Program::Oracle && conversation.oracle_differs.is_some();
    let patience = if differs { PATIENCE_FOR_DIFFERENCE } else { PATIENCE };
    let mut run = Run {
        server,
        program,
        writes,
        patience,
        only_text: flags.windows(2).any(|pair| pair == ["-B", "ascii"]),
        connections: BTreeMap::new(),
        memory: Memory::new(),
        moved: 0,
        transcript: String::new(),
    };
    run.whole(&conversation.steps).map_err(|(line, wrong)| {
        let title = &conversation.title;
        let said = run.server.stderr();
        let stderr =
            if said.is_empty() { said } else { format!("\n  stderr: {}", said.trim_end()) };
        let report = format!(
            "\"{title}\" failed on {program:?}, sent {writes:?}:\n{}{wrong}{stderr}",
            run.transcript
        );
        Failure { line, report }
    })
}

struct Run {
    server: Server,
    program: Program,
    writes: Writes,
    patience: Duration,
    /// The server takes frames for lines.
    only_text: bool,
    connections: BTreeMap<usize, Connection>,
    memory: Memory,
    /// Seconds by which our clock was moved.
    moved: u32,
    transcript: String,
}

type Wrong = (usize, String);

impl Run {
    fn whole(&mut self, steps: &[Step]) -> Result<(), Wrong> {
        let mut sent = vec![false; steps.len()];
        for at in 0..steps.len() {
            if sent[at] {
                continue;
            }
            let step = &steps[at];
            let outcome = match &step.act {
                Act::Send(_) => self.send(steps, at, &mut sent),
                Act::AnyLines | Act::Never(_) => Ok(()),
                Act::Expect(words) => self.expect(steps, at, words),
                Act::Silence => self.probe(step.client),
                Act::Closed => self.expect_end(step.client),
                Act::HalfClose => self.open(step.client).half_close(),
                Act::Leave => {
                    self.open(step.client).left = true;
                    Ok(())
                }
                Act::Ended => self.expect_exit(),
                Act::Wait(seconds) => self.wait(*seconds),
            };
            outcome.map_err(|wrong| (step.line, wrong))?;
        }
        let last = steps.last().map_or(0, |step| step.line);
        let open: Vec<usize> =
            self.connections.iter().filter(|(_, c)| !c.left).map(|(&name, _)| name).collect();
        for connection in open {
            self.probe(connection).map_err(|wrong| (last, wrong))?;
        }
        let ends = matches!(steps.last(), Some(Step { act: Act::Ended, .. }));
        match self.server.complaint() {
            Some(complaint) if !ends => Err((last, complaint)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, connection: usize) -> &mut Connection {
        self.connections.entry(connection).or_insert_with(|| {
            let stream = self.server.connect();
            stream.set_timeout(self.patience);
            Connection { stream, unread: Vec::new(), first: None, left: false, ended: false }
        })
    }

    fn now(&self) -> i64 {
        unix_now() + i64::from(self.moved)
    }

    /// Sends the step `at` and those after it that go into the same write.
    fn send(&mut self, steps: &[Step], at: usize, sent: &mut [bool]) -> Result<(), String> {
        let connection = steps[at].client;
        let mut bytes = Vec::new();
        for (ahead, step) in steps.iter().enumerate().skip(at) {
            match &step.act {
                Act::Send(words) if step.client == connection => {
                    if ahead > at && words.needs_memory() {
                        break;
                    }
                    let part = words.bytes(&self.memory, self.now());
                    let part = part.ok_or("it cannot be sent: something in it is not known")?;
                    _ = writeln!(self.transcript, "   {}> {}", letter(connection), escape(&part));
                    bytes.extend(part);
                    sent[ahead] = true;
                }
                Act::Expect(_) | Act::AnyLines | Act::Never(_)
                    if step.client == connection && self.writes == Writes::Coalesced => {}
                _ => break,
            }
        }
        let writes = self.writes;
        // A server may close before it has read everything; the answer that follows tells.
        let _ = self.open(connection).write(&bytes, writes);
        Ok(())
    }

    fn expect(&mut self, steps: &[Step], at: usize, words: &Words) -> Result<(), String> {
        let connection = steps[at].client;
        let mut nevers = Vec::new();
        let mut skips = false;
        for step in steps[..at].iter().rev().filter(|step| step.client == connection) {
            match &step.act {
                Act::Never(never) => nevers.push(never),
                Act::AnyLines => skips = true,
                _ => break,
            }
        }
        loop {
            let now = self.now();
            let mut memory = std::mem::take(&mut self.memory);
            let read = self.open(connection).answer_to(words, &memory, skips);
            let (answer, ended) = read;
            let fits = words.fits(&answer, &mut memory, now);
            self.memory = memory;
            if fits {
                let shown = words.show(&answer);
                _ = writeln!(self.transcript, "   {}< {shown}", letter(connection));
                return Ok(());
            }
            let forbidden =
                nevers.iter().find(|never| never.fits(&answer, &mut Memory::new(), now));
            if let Some(never) = forbidden {
                return Err(format!("  - (not) {never}\n  + {}", words.show(&answer)));
            }
            if !skips || ended.is_some() {
                let rest = self.open(connection).rest();
                let answer = words.show(&[answer, rest].concat());
                let ended = ended.map_or(String::new(), |why| format!(" [{why}]"));
                return Err(format!("  - {words}\n  + {answer}{ended}"));
            }
        }
    }

    /// Asks for a sign of life in the client's own protocol, and expects only that.
    fn probe(&mut self, connection: usize) -> Result<(), String> {
        let speaks_binary = !self.only_text && self.open(connection).first == Some(0x80);
        let (question, answer) = if speaks_binary {
            let noop = Frame::request(FRAME_PROBE)?;
            (Words::Frame(noop), Words::Frame(Frame::reply(FRAME_PROBE)?))
        } else {
            let version = Pattern::parse("VERSION {word}")?.then(b"\r\n");
            (Words::Bytes(Pattern::parse("version\\r\\n")?), Words::Bytes(version))
        };
        let writes = self.writes;
        let question = question.bytes(&self.memory, 0).ok_or("a probe is always known")?;
        let _ = self.open(connection).write(&question, writes);
        let probe = Step { line: 0, client: connection, act: Act::Expect(answer.clone()) };
        self.expect(&[probe], 0, &answer).map_err(|wrong| format!("  (nothing more)\n{wrong}"))
    }

    fn expect_end(&mut self, connection: usize) -> Result<(), String> {
        let opened = self.open(connection);
        opened.left = true;
        opened.fill(1);
        match (opened.unread.is_empty(), opened.ended) {
            (true, true) => Ok(()),
            (true, false) => Err("  - [closed]\n  + [still open]".to_string()),
            (false, _) => {
                let rest = opened.rest();
                let said = escape(&[std::mem::take(&mut opened.unread), rest].concat());
                Err(format!("  - [closed]\n  + {said}"))
            }
        }
    }

    fn expect_exit(&mut self) -> Result<(), String> {
        let status = self.server.wait_until_it_ends();
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}")) }
    }

    fn wait(&mut self, seconds: u32) -> Result<(), String> {
        _ = writeln!(self.transcript, "   (wait {seconds}s)");
        match self.program {
            Program::Oracle => std::thread::sleep(Duration::from_secs(u64::from(seconds))),
            Program::Twincached => {
                self.moved += seconds;
                move_clock(&self.server, seconds)?;
            }
        }
        Ok(())
    }
}

/// Moves the clock of a server of ours.
pub(crate) fn move_clock(server: &Server, seconds: u32) -> Result<(), String> {
    let mut control = server.connect();
    control.set_timeout(PATIENCE);
    let mut answer = [0; 4];
    let asked = control.write_all(format!("debugtime +{seconds}\r\n").as_bytes());
    match asked.and_then(|()| control.read_exact(&mut answer)) {
        Ok(()) if &answer == b"OK\r\n" => Ok(()),
        other => Err(format!("debugtime: {other:?}, {}", escape(&answer))),
    }
}

/// Seconds since 1970 by this machine.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn letter(connection: usize) -> String {
    let letter = u8::try_from(connection).ok().and_then(|n| n.checked_sub(1));
    letter.map_or(String::new(), |n| char::from(b'A' + n).to_string())
}

struct Connection {
    stream: Stream,
    unread: Vec<u8>,
    /// The first byte sent, which decides the protocol.
    first: Option<u8>,
    /// Not to be probed at the end.
    left: bool,
    /// The server sent its end, or reset.
    ended: bool,
}

impl Connection {
    fn write(&mut self, bytes: &[u8], writes: Writes) -> std::io::Result<()> {
        self.first = self.first.or(bytes.first().copied());
        match writes {
            Writes::AsWritten | Writes::Coalesced => self.stream.write_all(bytes),
            Writes::Halves => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                self.stream.write_all(first)?;
                // Long enough for a server on an idle machine to read the first half alone.
                std::thread::sleep(Duration::from_millis(1));
                self.stream.write_all(second)
            }
            Writes::ByteByByte => {
                let (head, rest) = bytes.split_at(SMALL.min(bytes.len()));
                let (middle, tail) = rest.split_at(rest.len().saturating_sub(SMALL));
                let parts = head.chunks(1).chain(middle.chunks(SMALL)).chain(tail.chunks(1));
                for part in parts {
                    self.stream.write_all(part)?;
                    std::thread::yield_now();
                }
                Ok(())
            }
        }
    }

    fn half_close(&mut self) -> Result<(), String> {
        self.stream.half_close().map_err(|error| error.to_string())
    }

    /// Reads until `wanted` bytes are unread, or the end, or no patience; says whether they are.
    fn fill(&mut self, wanted: usize) -> bool {
        let mut chunk = vec![0; 64 << 10];
        while self.unread.len() < wanted && !self.ended {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(read) => self.unread.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
                Err(_) => break,
            }
        }
        self.unread.len() >= wanted
    }

    /// As much of the unread bytes as `words` ask for, and why there is no more, if so.
    fn answer_to(
        &mut self,
        words: &Words,
        memory: &Memory,
        skips: bool,
    ) -> (Vec<u8>, Option<&'static str>) {
        let extent = words.extent(memory, skips);
        let mut looked_at = 0;
        let mut feeds_seen = 0;
        loop {
            let end = match &extent {
                Extent::Exact(exact) => {
                    let known = self.unread.len().min(exact.len());
                    let same = self.unread[..known] == exact[..known];
                    (known == exact.len() || !same).then_some(known)
                }
                Extent::Frame => {
                    frame::reply_length(&self.unread).filter(|&end| end <= self.unread.len())
                }
                Extent::Lines(line_feeds) => {
                    let feed = self.unread[looked_at..].iter().position(|&b| b == b'\n');
                    looked_at = feed.map_or(self.unread.len(), |feed| looked_at + feed + 1);
                    feeds_seen += usize::from(feed.is_some());
                    if feed.is_some() && feeds_seen < *line_feeds {
                        continue;
                    }
                    feed.map(|_| looked_at)
                }
            };
            if let Some(end) = end {
                return (self.unread.drain(..end).collect(), None);
            }
            let wanted = self.unread.len() + 1;
            if !self.fill(wanted) {
                let why = if self.ended { "closed" } else { "then silence" };
                return (std::mem::take(&mut self.unread), Some(why));
            }
        }
    }

    /// What else comes within a moment.
    fn rest(&mut self) -> Vec<u8> {
        self.stream.set_timeout(REST_OF_WRONG_ANSWER);
        let deadline = Instant::now() + REST_OF_WRONG_ANSWER;
        while self.unread.len() < 2_000 && !self.ended && Instant::now() < deadline {
            let wanted = self.unread.len() + 1;
            self.fill(wanted);
        }
        std::mem::take(&mut self.unread)
    }
}
