//! What happens in a history, decided before it begins: who writes what when, and what breaks.
//!
//! A plan is a list of [`Action`]s in the order of time. Each makes sense whatever happens to the
//! others (a heal without a cut, a start of a node that runs), so a plan can be cut down to those
//! that matter.
//!
//! What is NOT here: how much of it happens ([`super::settings`]); delays and chunks of the network,
//! which are thrown when bytes are sent.

use super::rng::Rng;
use super::settings::Setting;

/// A node's index, from 0; its number in versions is one more.
pub(super) type NodeIndex = usize;

/// What a client asks of the node that it speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Set {
        ttl: Ttl,
    },
    Add {
        ttl: Ttl,
    },
    Replace,
    Append,
    Incr,
    Decr,
    /// `gets` on that node, then `cas` here.
    Cas {
        seen_on: NodeIndex,
    },
    Delete,
    /// Mark stale instead of deleting (meta `md I`).
    MarkStale,
    Touch {
        ttl: Ttl,
    },
    /// Get and touch.
    GetAndTouch {
        ttl: Ttl,
    },
    Get,
    FlushAll,
    /// `flush_all` with a delay in seconds.
    FlushLater {
        after: u32,
    },
}

/// How long an item is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ttl {
    Never,
    Seconds(u32),
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Client {
        node: NodeIndex,
        key: usize,
        op: Op,
    },
    /// Bytes from one to the other are held back.
    Cut {
        from: NodeIndex,
        to: NodeIndex,
    },
    Heal {
        from: NodeIndex,
        to: NodeIndex,
    },
    /// Nothing goes to a node or comes from it.
    CutOff {
        node: NodeIndex,
    },
    Rejoin {
        node: NodeIndex,
    },
    /// Connections between the two are reset.
    Reset {
        one: NodeIndex,
        other: NodeIndex,
    },
    /// The process ends and its memory is lost; `quietly` as when the machine loses power.
    Kill {
        node: NodeIndex,
        quietly: bool,
    },
    Start {
        node: NodeIndex,
    },
    /// The clock of a node that does not run is set back by so many milliseconds.
    Step {
        node: NodeIndex,
        back: u64,
    },
    /// SIGSTOP.
    Freeze {
        node: NodeIndex,
    },
    /// SIGCONT.
    Thaw {
        node: NodeIndex,
    },
    /// An operator says `peers remove peer` to `node`.
    Remove {
        node: NodeIndex,
        peer: NodeIndex,
    },
    /// An operator says `peers add peer` to `node`.
    Add {
        node: NodeIndex,
        peer: NodeIndex,
    },
    /// The item is pushed out for room.
    Evict {
        node: NodeIndex,
        key: usize,
    },
    /// A node is given what another knows, twice and in a wrong order.
    Hearsay {
        from: NodeIndex,
        to: NodeIndex,
    },
}

/// Something that happens at a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) at: u64,
    pub(super) what: What,
}

/// When the first node may be written to: by then a cold start is over.
pub(super) const WARM: u64 = 400;

/// In so many milliseconds a node that was cut off has met all others, and is one of them.
const REUNION: u64 = 4_000;

/// The actions of the history `seed`.
pub(super) fn plan(setting: &Setting, seed: u64) -> Vec<Action> {
    let mut planner = Planner { rng: Rng::branch(seed, 1), setting, actions: Vec::new() };
    planner.clients();
    if setting.whole {
        planner.cuts_off();
    } else {
        (0..setting.cuts).for_each(|_| planner.cut());
    }
    for _ in 0..setting.resets {
        let (one, other) = planner.pair();
        planner.somewhen(What::Reset { one, other });
    }
    for _ in 0..setting.kills {
        let node = planner.node();
        let quietly = planner.rng.percent(30);
        let down = planner.rng.weighted(&[(3, 50), (3, 500), (2, 2_500), (1, 6_000)]);
        let at = planner.for_a_while(What::Kill { node, quietly }, What::Start { node }, down);
        if planner.rng.percent(25) {
            let back = planner.rng.between(0, 2 * setting.skew);
            planner.push(at, What::Step { node, back });
        }
    }
    for _ in 0..setting.freezes {
        let node = planner.node();
        let long = planner.rng.weighted(&[(2, 300), (2, 1_500), (3, 4_000)]);
        planner.for_a_while(What::Freeze { node }, What::Thaw { node }, long);
    }
    for _ in 0..setting.evictions {
        let (node, key) = (planner.node(), planner.key());
        planner.somewhen(What::Evict { node, key });
    }
    for _ in 0..planner.rng.below(setting.flushes + 1) {
        let (node, key) = (planner.node(), 0);
        let after = planner.rng.weighted(&[(1, 1), (1, 2), (1, 4)]);
        let op = if planner.rng.percent(60) { Op::FlushAll } else { Op::FlushLater { after } };
        planner.somewhen(What::Client { node, key, op });
    }
    for _ in 0..setting.hearsays {
        let (from, to) = planner.pair();
        planner.somewhen(What::Hearsay { from, to });
    }
    for _ in 0..setting.removals {
        planner.removal();
    }
    if setting.joins {
        planner.join();
    }
    planner.actions.sort_by_key(|action| action.at);
    planner.actions
}

struct Planner<'s> {
    rng: Rng,
    setting: &'s Setting,
    actions: Vec<Action>,
}

impl Planner<'_> {
    fn node(&mut self) -> NodeIndex {
        self.rng.index(self.setting.nodes)
    }

    fn key(&mut self) -> usize {
        self.rng.index(self.setting.keys)
    }

    fn pair(&mut self) -> (NodeIndex, NodeIndex) {
        let one = self.node();
        let step = 1 + self.rng.index(self.setting.nodes - 1);
        (one, (one + step) % self.setting.nodes)
    }

    fn moment(&mut self) -> u64 {
        self.rng.between(WARM, WARM + self.setting.span)
    }

    fn push(&mut self, at: u64, what: What) {
        self.actions.push(Action { at, what });
    }

    fn somewhen(&mut self, what: What) {
        let at = self.moment();
        self.push(at, what);
    }

    /// Returns when it begins.
    fn for_a_while(&mut self, begin: What, end: What, about: u64) -> u64 {
        let at = self.moment();
        let until = at + self.rng.between(about / 2, about);
        self.push(at, begin);
        self.push(until, end);
        at
    }

    /// Half of the operations come alone, half in bursts on one key from anywhere.
    fn clients(&mut self) {
        let mut left = self.setting.operations;
        while left > 0 {
            let (at, key) = (self.moment(), self.key());
            let burst = if self.rng.percent(25) { self.rng.between(2, 6).min(left) } else { 1 };
            for _ in 0..burst {
                let node = self.node();
                let op = self.op();
                let at = at + if burst > 1 { self.rng.below(40) } else { 0 };
                self.push(at, What::Client { node, key, op });
            }
            left -= burst;
        }
    }

    fn ttl(&mut self) -> Ttl {
        self.rng.weighted(&[
            (6, Ttl::Never),
            (2, Ttl::Seconds(1)),
            (2, Ttl::Seconds(3)),
            (1, Ttl::Seconds(6)),
            (2, Ttl::Seconds(1_000)),
        ])
    }

    fn op(&mut self) -> Op {
        let ttl = self.ttl();
        let seen_on = self.node();
        self.rng.weighted(&[
            (26, Op::Set { ttl }),
            (8, Op::Add { ttl }),
            (4, Op::Replace),
            (4, Op::Append),
            (6, Op::Incr),
            (2, Op::Decr),
            (8, Op::Cas { seen_on }),
            (16, Op::Delete),
            (2, Op::MarkStale),
            (14, Op::Touch { ttl }),
            (4, Op::GetAndTouch { ttl }),
            (4, Op::Get),
        ])
    }

    /// A node is taken out of the cluster, with or without its knowledge, and running or not, and is
    /// taken in again.
    fn removal(&mut self) {
        let gone = self.node();
        let at = self.moment();
        let until = at + self.rng.weighted(&[(2, 300), (3, 2_000), (2, 5_000)]);
        let is_told = self.rng.percent(50);
        let is_stopped = self.rng.percent(40);
        for other in (0..self.setting.nodes).filter(|&other| other != gone) {
            let [removed, added] = [at, until].map(|at| at + self.rng.below(300));
            self.push(removed, What::Remove { node: other, peer: gone });
            self.push(added, What::Add { node: other, peer: gone });
            if is_told {
                let [removed, added] = [at, until].map(|at| at + self.rng.below(300));
                self.push(removed, What::Remove { node: gone, peer: other });
                self.push(added, What::Add { node: gone, peer: other });
            }
        }
        if is_stopped {
            let [down, up] = [at + self.rng.below(600), until + self.rng.below(300)];
            self.push(down, What::Kill { node: gone, quietly: false });
            self.push(up, What::Start { node: gone });
        }
    }

    /// The last node is new.
    fn join(&mut self) {
        let new = self.setting.nodes - 1;
        let at = self.moment();
        for other in 0..new {
            let added = at + self.rng.below(300);
            self.push(added, What::Add { node: other, peer: new });
        }
        let started = at + self.rng.below(300);
        self.push(started, What::Start { node: new });
    }

    /// The last node is cut off from all others now and then, and meets them all before it is again.
    fn cuts_off(&mut self) {
        let node = self.setting.nodes - 1;
        let mut at = self.rng.between(WARM, WARM + 3_000);
        for _ in 0..self.setting.cuts {
            let until = at + self.rng.between(20, self.setting.longest_cut);
            self.push(at, What::CutOff { node });
            self.push(until, What::Rejoin { node });
            at = until + self.rng.between(REUNION, 2 * REUNION);
        }
    }

    fn cut(&mut self) {
        let mut links = Vec::new();
        if self.rng.percent(35) {
            // One node apart from all others.
            let apart = self.node();
            links.extend((0..self.setting.nodes).filter(|&n| n != apart).map(|n| (apart, n)));
        } else {
            links.push(self.pair());
        }
        let (forth, back) =
            self.rng.weighted(&[(6, (true, true)), (1, (true, false)), (1, (false, true))]);
        let mut at = self.moment();
        let mut times = if self.setting.flapping { self.rng.between(1, 5) } else { 1 };
        while times > 0 {
            let long = self.setting.longest_cut / if self.setting.flapping { 4 } else { 1 };
            let until = at + self.rng.between(20, long);
            for &(one, other) in &links {
                for (from, to, cut) in [(one, other, forth), (other, one, back)] {
                    if cut {
                        self.push(at, What::Cut { from, to });
                        self.push(until, What::Heal { from, to });
                    }
                }
            }
            at = until + self.rng.between(10, 400);
            times -= 1;
        }
    }
}
