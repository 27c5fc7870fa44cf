//! Wires between the nodes: connections whose bytes arrive late, in order, and in pieces.
//!
//! Picture each connection as two pipes. Bytes put into one come out after a random delay, never
//! before those put in earlier, and not as they were cut when they were sent. While a direction is
//! cut its pipes hold back what is in them, as a transport that sends again does: nothing is lost
//! unless the connection is. An end that is closed loses what comes; its other end hears of it
//! behind the bytes on the way, or never, when the machine has lost power or the pipe stays cut.
//!
//! What is NOT here: when events happen ([`super::world`]), and what the bytes say.

use std::collections::VecDeque;

use super::plan::NodeIndex;
use super::rng::Rng;

/// A connection's number: which connection of the whole history it is. Both ends call it so.
pub(super) type Wire = usize;

/// What came out of a pipe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    Bytes(Vec<u8>),
    /// The other end has closed.
    End,
}

#[derive(Debug)]
struct Parcel {
    due: u64,
    out: Out,
}

#[derive(Debug, Default)]
struct Pipe {
    parcels: VecDeque<Parcel>,
    /// Nothing put in later comes out earlier than this.
    last_due: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Connection {
    /// Who dialled, and who was dialled.
    ends: [NodeIndex; 2],
    /// Which ends are open.
    open: [bool; 2],
    /// `pipes[e]` leads to end `e`.
    pipes: [Pipe; 2],
}

/// All wires, and which directions are cut.
#[derive(Debug)]
pub(super) struct Network {
    rng: Rng,
    nodes: usize,
    delay_us: u64,
    connections: Vec<Connection>,
    cut: Vec<bool>,
}

/// What a look at a pipe's end finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// This has arrived.
    Now(Out),
    /// Look again at this microsecond.
    At(u64),
    /// Nothing on the way, or held back.
    Nothing,
}

impl Network {
    pub(super) fn new(nodes: usize, delay_ms: u64, rng: Rng) -> Network {
        Network {
            rng,
            nodes,
            delay_us: delay_ms * 1_000,
            connections: Vec::new(),
            cut: vec![false; nodes * nodes],
        }
    }

    pub(super) fn set_cut(&mut self, from: NodeIndex, to: NodeIndex, cut: bool) {
        self.cut[from * self.nodes + to] = cut;
    }

    pub(super) fn is_cut(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.cut[from * self.nodes + to]
    }

    /// How long the next message is on its way.
    pub(super) fn delay(&mut self) -> u64 {
        // Mostly short, sometimes the longest.
        let most = self.delay_us / self.rng.pick(&[1, 4, 16]);
        200 + self.rng.below(most)
    }

    /// A connection from `dialler` to `dialled`, open at both ends.
    pub(super) fn connect(&mut self, dialler: NodeIndex, dialled: NodeIndex) -> Wire {
        self.connections.push(Connection {
            ends: [dialler, dialled],
            open: [true, true],
            pipes: Default::default(),
        });
        self.connections.len() - 1
    }

    /// The end of `wire` that is at `node`.
    pub(super) fn end(&self, wire: Wire, node: NodeIndex) -> usize {
        usize::from(self.connections[wire].ends[1] == node)
    }

    pub(super) fn other(&self, wire: Wire, node: NodeIndex) -> NodeIndex {
        self.connections[wire].ends[1 - self.end(wire, node)]
    }

    pub(super) fn is_open(&self, wire: Wire, node: NodeIndex) -> bool {
        self.connections[wire].open[self.end(wire, node)]
    }

    /// Wires that are open at `node`, oldest first.
    pub(super) fn open_at(&self, node: NodeIndex) -> Vec<Wire> {
        let has =
            |wire: &Wire| self.connections[*wire].ends.contains(&node) && self.is_open(*wire, node);
        (0..self.connections.len()).filter(has).collect()
    }

    /// Wires between the two that are open at either end.
    pub(super) fn between(&self, one: NodeIndex, other: NodeIndex) -> Vec<Wire> {
        let joins = |ends: [NodeIndex; 2]| ends == [one, other] || ends == [other, one];
        let all = self.connections.iter().enumerate();
        all.filter(|(_, c)| joins(c.ends) && c.open != [false, false]).map(|(n, _)| n).collect()
    }

    /// Puts bytes in at `node`'s end. Returns when they come out, unless the end is closed.
    pub(super) fn send(
        &mut self,
        wire: Wire,
        node: NodeIndex,
        bytes: Vec<u8>,
        now: u64,
    ) -> Option<u64> {
        let end = self.end(wire, node);
        if !self.connections[wire].open[end] {
            return None;
        }
        Some(self.put(wire, 1 - end, Out::Bytes(bytes), now))
    }

    fn put(&mut self, wire: Wire, to: usize, out: Out, now: u64) -> u64 {
        let delay = self.delay();
        let pipe = &mut self.connections[wire].pipes[to];
        let due = (now + delay).max(pipe.last_due);
        pipe.last_due = due;
        if let Out::Bytes(bytes) = &out {
            pipe.bytes += bytes.len();
        }
        pipe.parcels.push_back(Parcel { due, out });
        due
    }

    /// Bytes that `node` has put in and that have not come out.
    pub(super) fn unsent(&self, wire: Wire, node: NodeIndex) -> usize {
        self.connections[wire].pipes[1 - self.end(wire, node)].bytes
    }

    /// Closes `node`'s end. Returns when the other end hears of it.
    pub(super) fn close(&mut self, wire: Wire, node: NodeIndex, now: u64) -> Option<u64> {
        let end = self.end(wire, node);
        if !std::mem::replace(&mut self.connections[wire].open[end], false) {
            return None;
        }
        self.connections[wire].pipes[end] = Pipe::default();
        self.connections[wire].open[1 - end].then(|| self.put(wire, 1 - end, Out::End, now))
    }

    /// Breaks `node`'s end behind what is on the way to it. Returns when it hears of it; `None`
    /// when it will already.
    pub(super) fn refuse(&mut self, wire: Wire, node: NodeIndex, now: u64) -> Option<u64> {
        let end = self.end(wire, node);
        let pipe = &self.connections[wire].pipes[end];
        let is_told = pipe.parcels.back().is_some_and(|parcel| parcel.out == Out::End);
        (!is_told).then(|| self.put(wire, end, Out::End, now))
    }

    /// The machine is gone: its end is closed and nobody hears of it. What it sent last is lost.
    pub(super) fn vanish(&mut self, wire: Wire, node: NodeIndex) {
        let end = self.end(wire, node);
        self.connections[wire].open[end] = false;
        self.connections[wire].pipes = Default::default();
    }

    /// What arrives at `node`'s end at `now`.
    pub(super) fn arrive(&mut self, wire: Wire, node: NodeIndex, now: u64) -> Arrival {
        let end = self.end(wire, node);
        let from = self.connections[wire].ends[1 - end];
        if self.is_cut(from, node) || !self.connections[wire].open[end] {
            return Arrival::Nothing;
        }
        let split = self.rng.percent(12).then(|| self.rng.next());
        let connection = &mut self.connections[wire];
        let pipe = &mut connection.pipes[end];
        match pipe.parcels.front() {
            None => Arrival::Nothing,
            Some(parcel) if parcel.due > now => Arrival::At(parcel.due),
            Some(_) => {
                let mut bytes = Vec::new();
                // What has come by now comes in one piece.
                while let Some(Parcel { out: Out::Bytes(more), .. }) =
                    pipe.parcels.pop_front_if(|parcel| parcel.due <= now && parcel.out != Out::End)
                {
                    bytes.extend_from_slice(&more);
                }
                if bytes.is_empty() {
                    pipe.parcels.pop_front();
                    connection.open[end] = false;
                    return Arrival::Now(Out::End);
                }
                if let Some(dice) = split
                    && bytes.len() > 1
                {
                    let at = 1 + usize::try_from(dice % (bytes.len() as u64 - 1)).unwrap_or(0);
                    let rest = Out::Bytes(bytes.split_off(at));
                    pipe.parcels.push_front(Parcel { due: now + 1 + dice % 1_500, out: rest });
                    // Later parcels must not overtake the rest.
                    pipe.last_due = pipe.last_due.max(now + 1 + dice % 1_500);
                }
                pipe.bytes -= bytes.len();
                Arrival::Now(Out::Bytes(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_late_in_pieces_and_in_order_and_not_through_a_cut() {
        let mut network = Network::new(2, 30, Rng::new(7));
        let wire = network.connect(0, 1);
        let sent: Vec<u8> = (0..=255).collect();
        let mut now = 0;
        for chunk in sent.chunks(5) {
            now += 1_000;
            assert!(network.send(wire, 0, chunk.to_vec(), now).is_some_and(|due| due > now));
        }
        network.set_cut(0, 1, true);
        assert_eq!(network.arrive(wire, 1, u64::MAX / 2), Arrival::Nothing);
        network.set_cut(0, 1, false);
        let (mut received, mut pieces, mut now) = (Vec::new(), 0, 0);
        loop {
            match network.arrive(wire, 1, now) {
                Arrival::Now(Out::Bytes(bytes)) => {
                    received.extend(bytes);
                    pieces += 1;
                }
                Arrival::At(due) => now = due,
                Arrival::Now(Out::End) => panic!("nobody closed"),
                Arrival::Nothing => break,
            }
        }
        assert_eq!(received, sent);
        assert!(pieces > 3, "{pieces}");
        assert_eq!(network.unsent(wire, 0), 0);
    }

    #[test]
    fn an_end_hears_that_the_other_has_closed_behind_its_bytes() {
        let mut network = Network::new(2, 1, Rng::new(1));
        let wire = network.connect(0, 1);
        network.send(wire, 0, b"last words".to_vec(), 0);
        assert!(network.close(wire, 0, 0).is_some());
        let mut late = 1_000_000_000;
        let mut heard = Vec::new();
        loop {
            match network.arrive(wire, 1, late) {
                Arrival::Now(Out::Bytes(bytes)) => heard.extend(bytes),
                Arrival::Now(Out::End) => break,
                Arrival::At(due) => late = due,
                Arrival::Nothing => panic!("the end must be heard"),
            }
        }
        assert!(b"last words".starts_with(&heard[..]));
        assert!(!network.is_open(wire, 1));
        assert_eq!(network.send(wire, 1, b"too late".to_vec(), late), None);
    }
}
