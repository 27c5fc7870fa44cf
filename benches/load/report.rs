//! The table, on the terminal and, if asked for, in a file.

use std::fs;
use std::path::PathBuf;

use crate::compare::{Comparison, Plan};
use crate::contender::Contender;
use crate::support::figures::{Rounds, load_average};

/// What is printed, and kept if somebody named a place.
pub(crate) struct Report {
    pub(crate) text: String,
    /// The path without its ending.
    stem: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(stem: Option<PathBuf>) -> Report {
        Report { text: String::new(), stem }
    }

    pub(crate) fn say(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// How it is measured, and the table's head.
    pub(crate) fn begin(&mut self, contenders: &[Contender; 2], plan: &Plan) {
        let [ours, theirs] = contenders;
        self.say(&format!("# {} beside {}\n", ours.name, theirs.name));
        self.say(&format!(
            "{} rounds of {:.1} s in turns, `-t {}` on cores {:?}, clients on {:?}; load average {}.",
            plan.rounds,
            plan.duration.as_secs_f64(),
            plan.cores.servers.len(),
            plan.cores.servers,
            plan.cores.clients,
            load_average(),
        ));
        self.say(
            "Median of the rounds (least-greatest); the ratio is the median of the rounds' own \
             ratios.\n",
        );
        self.say("| scenario | | op/s | CPU us/op | p50 us | p99 us | p99.9 us | RSS B | others % | aim |");
        self.say("|---|---|---|---|---|---|---|---|---|---|");
    }

    /// A scenario's rows.
    pub(crate) fn add(&mut self, comparison: &Comparison, contenders: &[Contender; 2]) {
        let name = comparison.scenario.name;
        for (row, (contender, side)) in contenders.iter().zip(&comparison.sides).enumerate() {
            let cells = side.figures().map(ToString::to_string).join(" | ");
            let name = if row == 0 { name } else { "" };
            self.say(&format!("| {name} | {} | {cells} | {} | |", contender.name, side.others));
        }
        if let Some(why) = comparison.refused(contenders) {
            return self.say(&format!("| | not compared | {} | | | | | | | |", cell(&why)));
        }
        let [ours, theirs] = &comparison.sides;
        let cells: Vec<String> = ours
            .figures()
            .iter()
            .zip(theirs.figures())
            .map(|(ours, theirs)| format!("**{}**", ours.ratio_to(theirs)))
            .collect();
        let scenario = &comparison.scenario;
        let aims = [
            aim("CPU", scenario.cpu_at_most, ours.cpu.ratios_to(&theirs.cpu)),
            aim("p99", scenario.p99_at_most, ours.p99.ratios_to(&theirs.p99)),
        ];
        let aims: Vec<String> = aims.into_iter().flatten().collect();
        self.say(&format!("| | **ratio** | {} | | {} |", cells.join(" | "), aims.join(", ")));
    }

    /// Where a plot of this name goes, if anything is kept.
    pub(crate) fn plot_path(&self, name: &str) -> Option<PathBuf> {
        let stem = self.stem.as_ref()?;
        let file = format!("{}-{name}.svg", stem.file_name()?.to_string_lossy());
        Some(stem.with_file_name(file))
    }

    pub(crate) fn end(&mut self) {
        self.say(&format!("\nload average after: {}", load_average()));
        if let Some(stem) = &self.stem {
            fs::write(stem.with_extension("md"), &self.text).expect("a place for the report");
        }
    }
}

/// Somebody's words, so that they stay in one cell of a table.
pub(crate) fn cell(words: &str) -> String {
    words.lines().map(str::trim).collect::<Vec<_>>().join(" / ").replace('|', "\\|")
}

fn aim(what: &str, at_most: Option<f64>, ratios: Option<Rounds>) -> Option<String> {
    let (at_most, ratio) = (at_most?, ratios?.median()?);
    let verdict = if ratio <= at_most { "met" } else { "missed" };
    Some(format!("{what} <= {at_most:.2}: {verdict}"))
}
