//! Rounds in turns, and whether their figures may be compared.
//!
//! Picture two runners who take turns on the same track, because the weather changes. A turn in which
//! somebody else stood on the track is run again; if that goes on, or one of them fell, there is no
//! result, only the reason.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::contender::{Contender, Crew, Office};
use crate::scenario::{Asked, Over, Scenario};
use crate::support::cores::{Cores, busy_seconds};
use crate::support::driver::{Load, Outcome, Pace, Script};
use crate::support::exchange::Exchange;
use crate::support::figures::Rounds;

/// How it is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) cores: Cores,
    /// The share of the servers' cores that others may have used in a round.
    pub(crate) others_at_most: f64,
}

/// What came of a scenario.
pub(crate) struct Comparison {
    pub(crate) scenario: Scenario,
    pub(crate) sides: [Side; 2],
}

/// One contender's figures.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) a_second: Rounds,
    pub(crate) cpu: Rounds,
    pub(crate) p50: Rounds,
    pub(crate) p99: Rounds,
    pub(crate) p999: Rounds,
    pub(crate) memory: Rounds,
    /// Percent of the servers' cores that others used meanwhile.
    pub(crate) others: Rounds,
    /// Of all rounds.
    pub(crate) latencies: Option<Histogram<u64>>,
    /// Why there are no figures to compare.
    pub(crate) refused: Option<String>,
}

/// One round's.
struct Turn {
    outcome: Outcome,
    cpu: f64,
    /// The share of the servers' cores that others used.
    others: f64,
}

/// Measures a scenario.
pub(crate) fn compare(
    scenario: &Scenario,
    contenders: &[Contender; 2],
    plan: &Plan,
    office: &Office,
) -> Comparison {
    let crews = contenders.each_ref().map(|one| one.start(scenario, &plan.cores, office));
    let sides = match crews {
        [Ok(ours), Ok(theirs)] => take_turns(scenario, [ours, theirs], plan),
        crews => crews.map(|crew| Side { refused: crew.err(), ..Side::default() }),
    };
    Comparison { scenario: *scenario, sides }
}

/// Measures two that are ready.
pub(crate) fn take_turns(scenario: &Scenario, mut crews: [Crew; 2], plan: &Plan) -> [Side; 2] {
    let mut sides = [Side::default(), Side::default()];
    measure(scenario, &mut crews, &mut sides, plan);
    for (crew, side) in crews.iter().zip(&mut sides) {
        crew.a_unit.into_iter().for_each(|bytes| side.memory.add(bytes));
    }
    sides
}

fn measure(scenario: &Scenario, crews: &mut [Crew; 2], sides: &mut [Side; 2], plan: &Plan) {
    let mut others: Vec<f64> = Vec::new();
    for _ in 0..3 * plan.rounds {
        let mut turns = Vec::new();
        for (crew, side) in crews.iter_mut().zip(sides.iter_mut()) {
            match turn(scenario, crew, plan) {
                Ok(turn) => turns.push(turn),
                Err(why) => side.refused = Some(why),
            }
        }
        if turns.len() < sides.len() {
            return;
        }
        let worst = turns.iter().map(|turn| turn.others).fold(0.0, f64::max);
        if worst > plan.others_at_most {
            others.push(worst);
            continue;
        }
        for (turn, side) in turns.into_iter().zip(sides.iter_mut()) {
            side.add(&turn);
        }
        if sides[0].cpu.count() == plan.rounds {
            break;
        }
    }
    if sides[0].cpu.count() < plan.rounds {
        let least = others.iter().copied().fold(f64::INFINITY, f64::min);
        let why = format!(
            "short of cores: in {} of {} rounds others used {:.0} % and more of the servers' cores",
            others.len(),
            3 * plan.rounds,
            least * 100.0
        );
        sides.iter_mut().for_each(|side| side.refused = Some(why.clone()));
    }
    for (crew, side) in crews.iter_mut().zip(sides) {
        if let Err(why) = crew.check(scenario) {
            side.refused = Some(why);
        }
    }
}

fn turn(scenario: &Scenario, crew: &mut Crew, plan: &Plan) -> Result<Turn, String> {
    let _idle = crew.seat_idle(scenario)?;
    let batches = scenario.batches();
    let mut exchanges: Vec<Exchange> = batches
        .iter()
        .map(|batch| Exchange::of(scenario.dialect, batch, scenario.value_len))
        .collect();
    if scenario.over == Over::Udp {
        exchanges = exchanges.into_iter().map(Exchange::in_datagram).collect();
    }
    let load = Load {
        servers: crew.servers.clone(),
        transport: crew.transport.clone(),
        connections: scenario.connections,
        threads: plan.cores.clients.len().min(scenario.connections),
        reconnecting: scenario.asked == Asked::Visits,
        script: match scenario.asked {
            Asked::Sessions => Script::InTurn(exchanges),
            _ => Script::Drawn(exchanges),
        },
        keys: scenario.keys,
        pace: scenario.rate.map_or(Pace::Closed, Pace::Open),
        duration: plan.duration,
    };
    let used = || (crew.cpu_seconds(), busy_seconds(&plan.cores.servers));
    let mut before = (0.0, 0.0);
    let outcome = load.run(|| before = used())?;
    let after = used();
    if outcome.operations == 0.0 {
        return Err("nothing was answered".to_owned());
    }
    let cpu = after.0 - before.0;
    let others = after.1 - before.1 - cpu;
    let had = outcome.seconds * plan.cores.servers.len() as f64;
    Ok(Turn { cpu, others: others.max(0.0) / had, outcome })
}

impl Default for Side {
    fn default() -> Side {
        let none = Rounds::default;
        Side {
            a_second: none(),
            cpu: none(),
            p50: none(),
            p99: none(),
            p999: none(),
            memory: none(),
            others: none(),
            latencies: None,
            refused: None,
        }
    }
}

impl Side {
    fn add(&mut self, turn: &Turn) {
        let outcome = &turn.outcome;
        self.a_second.add(outcome.operations / outcome.seconds);
        self.cpu.add(turn.cpu * 1e6 / outcome.operations);
        self.others.add(turn.others * 100.0);
        self.p50.add(outcome.latency(0.5));
        self.p99.add(outcome.latency(0.99));
        self.p999.add(outcome.latency(0.999));
        match &mut self.latencies {
            Some(all) => all.add(&outcome.latencies).expect("histograms of one kind"),
            None => self.latencies = Some(outcome.latencies.clone()),
        }
    }

    /// All figures in the order of the table's columns.
    pub(crate) fn figures(&self) -> [&Rounds; 6] {
        [&self.a_second, &self.cpu, &self.p50, &self.p99, &self.p999, &self.memory]
    }
}

impl Comparison {
    pub(crate) fn is_refused(&self) -> bool {
        self.sides.iter().any(|side| side.refused.is_some())
    }

    /// Why there is no ratio, if there is none.
    pub(crate) fn refused(&self, contenders: &[Contender; 2]) -> Option<String> {
        let whys: Vec<String> = contenders
            .iter()
            .zip(&self.sides)
            .filter_map(|(contender, side)| {
                side.refused.as_ref().map(|why| format!("{}: {why}", contender.name))
            })
            .collect();
        (!whys.is_empty()).then(|| whys.join("; "))
    }
}
