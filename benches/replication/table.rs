//! Figures of several rounds, and how they are printed.

use std::fmt;
use std::fs;

/// The figure of each round, or why a round has none.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    figures: Vec<f64>,
    refused: Option<String>,
}

impl Rounds {
    pub(crate) fn add(&mut self, figure: f64) {
        self.figures.push(figure);
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
        if self.median().is_none() || other.median().is_none() {
            return "-".to_owned();
        }
        let pairs = self.figures.iter().zip(&other.figures);
        let ratios = Rounds { figures: pairs.map(|(a, b)| a / b).collect(), refused: None };
        ratios.to_string()
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

fn short(figure: f64) -> String {
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

/// The value below which `per_mille` thousandths of `sorted` lie.
pub(crate) fn quantile(sorted: &[u32], per_mille: usize) -> f64 {
    let at = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().map_or(f64::NAN, f64::from)
}
