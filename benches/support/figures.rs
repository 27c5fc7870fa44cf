//! Figures of several rounds, and how they are printed.

use std::fmt;
use std::fs;

/// The figure of each round, or why a round has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    figures: Vec<f64>,
    refused: Option<String>,
}

impl Rounds {
    pub(crate) fn add(&mut self, figure: f64) {
        self.figures.push(figure);
    }

    pub(crate) fn count(&self) -> usize {
        self.figures.len()
    }

    /// A round failed: there is nothing to compare any more.
    pub(crate) fn refuse(&mut self, why: &str) {
        self.refused.get_or_insert_with(|| why.to_owned());
    }

    pub(crate) fn median(&self) -> Option<f64> {
        if self.refused.is_some() || self.figures.is_empty() {
            return None;
        }
        let mut sorted = self.figures.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let half = sorted.len() / 2;
        Some(if sorted.len() % 2 == 1 {
            sorted[half]
        } else {
            f64::midpoint(sorted[half - 1], sorted[half])
        })
    }

    /// The median of the rounds' own ratios: what both rounds had in common cancels out.
    pub(crate) fn ratio_to(&self, other: &Rounds) -> String {
        self.ratios_to(other).map_or_else(|| "-".to_owned(), |ratios| ratios.to_string())
    }

    /// The ratio of each round; none if a round of either failed.
    pub(crate) fn ratios_to(&self, other: &Rounds) -> Option<Rounds> {
        self.median().and(other.median())?;
        let pairs = self.figures.iter().zip(&other.figures);
        Some(Rounds { figures: pairs.map(|(a, b)| a / b).collect(), refused: None })
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.refused {
            return write!(f, "not compared: {why}");
        }
        let Some(median) = self.median() else { return write!(f, "not measured") };
        let least = self.figures.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = self.figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        write!(f, "{} ({}-{})", short(median), short(least), short(greatest))
    }
}

pub(crate) fn short(figure: f64) -> String {
    if figure >= 10_000.0 {
        format!("{:.0}k", figure / 1000.0)
    } else if figure >= 100.0 {
        format!("{figure:.0}")
    } else if figure >= 10.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.2}")
    }
}

/// Prints a table's head: title, the machine's load, columns.
pub(crate) fn head(title: &str, columns: &[&str]) {
    println!("\n## {title}\nload average before: {}\n", load_average());
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len()));
}

/// The machine's load average.
pub(crate) fn load_average() -> String {
    let read = fs::read_to_string("/proc/loadavg").expect("a load average");
    read.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
