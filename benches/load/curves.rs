//! Curves: how figures change with the number of cores and of items, and how latency is spread.

use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;

use crate::compare::{Comparison, Plan, compare};
use crate::contender::{Contender, Office};
use crate::report::Report;
use crate::scenario::{Scenario, USUAL};

const ITEMS: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const ITEMS_SHORT: usize = 3;
const RATE: f64 = 20_000.0;
const COLORS: [RGBColor; 2] = [RGBColor(200, 60, 30), RGBColor(30, 90, 180)];

/// A picture: a title, what the axes mean, and a line for each contender.
struct Picture<'p> {
    title: &'p str,
    across: &'p str,
    up: &'p str,
    lines: [Vec<(f64, f64)>; 2],
    /// Marks on the first axis are powers.
    is_logarithmic: bool,
}

/// Measures and draws all curves.
pub(crate) fn draw(
    report: &mut Report,
    contenders: &[Contender; 2],
    plan: &Plan,
    office: &Office,
    is_long: bool,
) {
    let mut lines = [Vec::new(), Vec::new()];
    for servers in 1..8 {
        let Some(cores) = plan.cores.divided(servers) else { break };
        let plan = Plan { cores, ..plan.clone() };
        let names = ["get/set on 1 core", "get/set on 2 cores", "get/set on 3 cores"];
        let name = names.get(servers - 1).copied().unwrap_or("get/set on more cores");
        let measured = measure(report, &Scenario { name, ..USUAL }, contenders, &plan, office);
        add(&mut lines, servers as f64, &measured, |side| side.a_second.median());
    }
    let picture = Picture {
        title: "get/set 10:1, 100 B, 50 connections",
        across: "cores of the server",
        up: "operations a second",
        lines,
        is_logarithmic: false,
    };
    picture.keep(report, "cores", contenders);

    let mut lines = [Vec::new(), Vec::new()];
    let names = ["10 k items", "100 k items", "1 M items", "10 M items"];
    let shown = if is_long { ITEMS.len() } else { ITEMS_SHORT };
    for (keys, name) in ITEMS.into_iter().zip(names).take(shown) {
        let scenario = Scenario { name, keys, pipelined: 16, ..USUAL };
        let measured = measure(report, &scenario, contenders, plan, office);
        add(&mut lines, f64::from(keys), &measured, |side| side.cpu.median());
    }
    let picture = Picture {
        title: "get/set 10:1, 100 B, pipelined 16",
        across: "items",
        up: "CPU us an operation",
        lines,
        is_logarithmic: true,
    };
    picture.keep(report, "items", contenders);

    let scenario = Scenario { name: "at a fixed rate", rate: Some(RATE), ..USUAL };
    let measured = measure(report, &scenario, contenders, plan, office);
    let picture = Picture {
        title: "20,000 requests a second (corrected for coordinated omission)",
        across: "one request in ... is slower",
        up: "microseconds",
        lines: measured.sides.each_ref().map(|side| match &side.latencies {
            Some(latencies) if !measured.is_refused() => nines(latencies),
            _ => Vec::new(),
        }),
        is_logarithmic: true,
    };
    picture.keep(report, "latency", contenders);
}

fn measure(
    report: &mut Report,
    scenario: &Scenario,
    contenders: &[Contender; 2],
    plan: &Plan,
    office: &Office,
) -> Comparison {
    let scenario = Scenario { cpu_at_most: None, p99_at_most: None, ..*scenario };
    let measured = compare(&scenario, contenders, plan, office);
    report.add(&measured, contenders);
    measured
}

/// A point on each line, if the two may be compared.
fn add(
    lines: &mut [Vec<(f64, f64)>; 2],
    across: f64,
    measured: &Comparison,
    up: impl Fn(&crate::compare::Side) -> Option<f64>,
) {
    if measured.is_refused() {
        return;
    }
    for (line, side) in lines.iter_mut().zip(&measured.sides) {
        line.extend(up(side).map(|up| (across, up)));
    }
}

/// One in 2, 4, 8 ... requests is slower than so many microseconds.
fn nines(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let one_in = |power: i32| f64::from(2_u32.pow(power.unsigned_abs()));
    (1..14)
        .map(one_in)
        .take_while(|one_in| *one_in * 10.0 < latencies.len() as f64)
        .map(|one_in| (one_in, latencies.value_at_quantile(1.0 - 1.0 / one_in) as f64 / 1000.0))
        .collect()
}

impl Picture<'_> {
    /// Draws it beside the report, if that is kept.
    fn keep(&self, report: &Report, name: &str, contenders: &[Contender; 2]) {
        let Some(path) = report.plot_path(name) else { return };
        if self.lines.iter().all(|line| !line.is_empty()) {
            self.draw(&path, contenders).expect("a picture");
        }
    }

    fn draw(
        &self,
        path: &Path,
        contenders: &[Contender; 2],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.lines.iter().flatten();
        let of = |pick: fn(&(f64, f64)) -> f64, fold: fn(f64, f64) -> f64, start: f64| {
            points().map(pick).fold(start, fold)
        };
        let right = of(|point| point.0, f64::max, 0.0);
        let left = of(|point| point.0, f64::min, f64::INFINITY);
        let top = of(|point| point.1, f64::max, 0.0) * 1.1;
        let root = SVGBackend::new(path, (720, 420)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root);
        chart.caption(self.title, ("sans-serif", 18)).margin(12);
        chart.x_label_area_size(40).y_label_area_size(70);
        // Two kinds of axes are two types, so the same words stand here twice.
        macro_rules! draw_over {
            ($across:expr) => {{
                let mut chart = chart.build_cartesian_2d($across, 0.0..top)?;
                chart.configure_mesh().x_desc(self.across).y_desc(self.up).draw()?;
                for ((line, contender), color) in self.lines.iter().zip(contenders).zip(COLORS) {
                    chart
                        .draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?
                        .label(&contender.name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
                }
                chart.configure_series_labels().background_style(WHITE).draw()?;
            }};
        }
        if self.is_logarithmic {
            draw_over!((left..right).log_scale());
        } else {
            draw_over!(left..right.max(left + 1.0));
        }
        root.present()?;
        Ok(())
    }
}
