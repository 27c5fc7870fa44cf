//! Holds one conversation by datagrams with one server and says where it went wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::caller::{Caller, DATAGRAM_MAX, Heading};
use super::format::{Act, Conversation, Line, Sizes, Step};
use crate::frame::{self, Frame};
use crate::pattern::{Memory, Pattern, escape};
use crate::run::{Failure, move_clock, unix_now};
use crate::server::{Program, Server};
use crate::words::Words;

/// Longest wait for an expected datagram.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where the oracle is known to answer otherwise, perhaps by saying nothing.
const PATIENCE_FOR_DIFFERENCE: Duration = Duration::from_millis(1_000);
/// The number of the request that must be answered by nothing but its answer.
const PROBE: u16 = 0xfeed;

/// Holds `conversation` with a fresh server that has so many workers.
pub(crate) fn run(
    conversation: &Conversation,
    program: Program,
    workers: &str,
) -> Result<(), Failure> {
    let flags = [vec!["-U", "-1", "-t", workers], conversation.flags_of(program)].concat();
    let server = Server::try_start(program, &flags)
        .map_err(|report| Failure { line: conversation.line, report })?;
    let differs = program == Program::Oracle && conversation.oracle_differs.is_some();
    let mut run = Run {
        server,
        program,
        patience: if differs { PATIENCE_FOR_DIFFERENCE } else { PATIENCE },
        binary: conversation.flags.iter().any(|flag| flag == "binary"),
        clients: BTreeMap::new(),
        memory: Memory::new(),
        moved: 0,
        transcript: String::new(),
    };
    run.whole(&conversation.steps).map_err(|(line, wrong)| {
        let (title, transcript) = (&conversation.title, &run.transcript);
        let stderr = run.server.stderr();
        let report = format!(
            "\"{title}\" failed on {program:?}, -t {workers}:\n{transcript}{wrong}\n{stderr}"
        );
        Failure { line, report }
    })
}

struct Run {
    server: Server,
    program: Program,
    patience: Duration,
    /// Text is not heard.
    binary: bool,
    clients: BTreeMap<usize, Caller>,
    memory: Memory,
    /// Seconds by which our clock was moved.
    moved: u32,
    transcript: String,
}

impl Run {
    fn whole(&mut self, steps: &[Step]) -> Result<(), (usize, String)> {
        for step in steps {
            let outcome = match &step.act {
                Act::Send(heading, parts) => self.send(step.client, *heading, parts),
                Act::SendRaw(pattern) => self.send_raw(step.client, pattern),
                Act::Expect(id, sizes, lines) => self.expect(step.client, *id, sizes, lines),
                Act::Silence => self.probe(step.client),
                Act::Wait(seconds) => self.wait(*seconds),
            };
            outcome.map_err(|wrong| (step.line, wrong))?;
        }
        let last = steps.last().map_or(0, |step| step.line);
        let clients: Vec<usize> = self.clients.keys().copied().collect();
        for client in clients {
            self.probe(client).map_err(|wrong| (last, wrong))?;
        }
        self.server.complaint().map_or(Ok(()), |complaint| Err((last, complaint)))
    }

    fn client(&mut self, client: usize) -> &mut Caller {
        self.clients.entry(client).or_insert_with(|| {
            let caller = Caller::of(&self.server);
            caller.set_patience(self.patience);
            caller
        })
    }

    fn now(&self) -> i64 {
        unix_now() + i64::from(self.moved)
    }

    fn send(&mut self, client: usize, heading: Heading, parts: &[Words]) -> Result<(), String> {
        let mut payload = Vec::new();
        for part in parts {
            payload.extend(known(part.bytes(&self.memory, self.now()))?);
        }
        self.put(client, &heading.around(&payload))
    }

    fn send_raw(&mut self, client: usize, pattern: &Pattern) -> Result<(), String> {
        let datagram = known(pattern.bytes(&self.memory, self.now()))?;
        self.put(client, &datagram)
    }

    fn put(&mut self, client: usize, datagram: &[u8]) -> Result<(), String> {
        _ = writeln!(self.transcript, "   {client}> {}", escape(datagram));
        self.client(client).send(datagram).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Takes the next message in and compares it.
    fn expect(
        &mut self,
        client: usize,
        id: u16,
        sizes: &Sizes,
        lines: &[Line],
    ) -> Result<(), String> {
        let mut message = Vec::new();
        let mut heard = Vec::new();
        for sequence in 0.. {
            let Some(datagram) = self.client(client).hear() else {
                return Err(format!("  - datagram {sequence}\n  + [silence]"));
            };
            _ = writeln!(self.transcript, "   {client}< {}", escape(&datagram));
            let (heading, piece) = Heading::read(&datagram).ok_or("  + [a runt]")?;
            let wanted = Heading { id, sequence, total: heading.total.max(1), reserved: 0 };
            if heading != wanted {
                return Err(format!("  - {wanted:?}\n  + {heading:?}"));
            }
            heard.push(datagram.len());
            message.extend_from_slice(piece);
            if sequence + 1 == heading.total {
                break;
            }
        }
        let as_expected = match sizes {
            Sizes::OneDatagram => heard.len() == 1,
            Sizes::Any => true,
            Sizes::These(sizes) => *sizes == heard,
        };
        let (last, full) = heard.split_last().ok_or("nothing came")?;
        if !as_expected || *last > DATAGRAM_MAX || full.iter().any(|&len| len != DATAGRAM_MAX) {
            return Err(format!("  - {sizes:?}\n  + {heard:?}"));
        }
        self.compare(&message, lines)
    }

    fn compare(&mut self, message: &[u8], lines: &[Line]) -> Result<(), String> {
        let now = self.now();
        let mut heard = match message {
            [frame::REPLY_MAGIC, ..] => frame::split(message).collect::<Vec<_>>(),
            _ => message.split_inclusive(|&byte| byte == b'\n').collect(),
        }
        .into_iter();
        let mut skips = false;
        for line in lines {
            let Line::Fits(words) = line else {
                skips = true;
                continue;
            };
            loop {
                let said = heard.next().unwrap_or_default();
                if words.fits(said, &mut self.memory, now) {
                    break;
                }
                if !skips || said.is_empty() {
                    return Err(format!("  - {words}\n  + {}", words.show(said)));
                }
            }
            skips = false;
        }
        match heard.next() {
            Some(more) if !skips => Err(format!("  (no more lines)\n  + {}", escape(more))),
            _ => Ok(()),
        }
    }

    /// Asks for something and expects only that.
    fn probe(&mut self, client: usize) -> Result<(), String> {
        let (request, answer) = if self.binary {
            (frame::request("noop"), Words::Frame(Frame::reply("noop")?))
        } else {
            let version = Pattern::parse("VERSION {word}")?.then(b"\r\n");
            (b"version\r\n".to_vec(), Words::Bytes(version))
        };
        self.put(client, &Heading::of(PROBE).around(&request))?;
        self.expect(client, PROBE, &Sizes::OneDatagram, &[Line::Fits(answer)])
            .map_err(|wrong| format!("  (nothing more)\n{wrong}"))
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

fn known(bytes: Option<Vec<u8>>) -> Result<Vec<u8>, String> {
    bytes.ok_or_else(|| "it cannot be sent: something in it is not known".to_string())
}
