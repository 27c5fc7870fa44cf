//! Families of metrics on their way to the text format: a name, a type, a line of help, and one
//! value for each set of labels, or one histogram.

use std::collections::BTreeMap;
use std::fmt::Display;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::Stats;

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It grows until a restart or `stats reset`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A family that shows one statistic.
#[derive(Debug)]
pub(super) struct Row {
    /// The statistic's name.
    pub(super) stat: &'static str,
    /// The family's.
    pub(super) name: &'static str,
    kind: Kind,
    help: &'static str,
    per_unit: f64,
}

pub(super) const fn counter(stat: &'static str, name: &'static str, help: &'static str) -> Row {
    Row { stat, name, kind: Kind::Counter, help, per_unit: 1.0 }
}

pub(super) const fn gauge(stat: &'static str, name: &'static str, help: &'static str) -> Row {
    Row { stat, name, kind: Kind::Gauge, help, per_unit: 1.0 }
}

impl Row {
    /// The statistic counts parts of the family's unit, so many to one.
    pub(super) const fn of_parts(self, per_unit: f64) -> Row {
        Row { per_unit, ..self }
    }

    fn family(&self) -> Family {
        Family::new(self.kind, self.name, self.help)
    }

    fn value(&self, stats: &Stats) -> Option<f64> {
        stats.number(self.stat).map(|number| number / self.per_unit)
    }
}

/// How many of what was measured were how large.
#[derive(Debug)]
pub(super) struct Distribution {
    /// Upper bounds, ascending, each with the count of what is above the bound before and not above
    /// this one.
    pub(super) buckets: Vec<(f64, u64)>,
    /// What is above all bounds.
    pub(super) above: u64,
    /// Everything added up.
    pub(super) sum: f64,
}

impl Distribution {
    fn into_proto(self) -> Histogram {
        let mut count = 0;
        let cumulative = |(bound, within): (f64, u64)| {
            count += within;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(self.buckets.into_iter().map(cumulative).collect());
        histogram.set_sample_count(count + self.above);
        histogram.set_sample_sum(self.sum);
        histogram
    }
}

/// The families of one scrape.
#[derive(Debug, Default)]
pub(super) struct Exposition(Vec<MetricFamily>);

impl Exposition {
    /// Adds `family`, unless it has no value: a statistic that an option switches off.
    pub(super) fn add(&mut self, family: Family) {
        if !family.metrics.is_empty() {
            self.0.push(family.into_proto());
        }
    }

    /// Adds a family that is one histogram.
    pub(super) fn add_histogram(&mut self, name: &str, help: &str, values: Distribution) {
        let mut metric = Metric::default();
        metric.set_histogram(values.into_proto());
        self.0.push(proto(MetricType::HISTOGRAM, name, help, vec![metric]));
    }

    /// Adds a family for each of `rows` that `stats` has.
    pub(super) fn add_rows(&mut self, rows: &[Row], stats: &Stats) {
        for row in rows {
            let mut family = row.family();
            family.put(&[], row.value(stats));
            self.add(family);
        }
    }

    /// Adds a family for each of `rows`, with a value for each of `lists` under its `label`.
    pub(super) fn add_rows_by<L: Display>(
        &mut self,
        label: &str,
        rows: &[Row],
        lists: &BTreeMap<L, Stats>,
    ) {
        for row in rows {
            let mut family = row.family();
            for (whose, stats) in lists {
                family.put(&[(label, &whose.to_string())], row.value(stats));
            }
            self.add(family);
        }
    }

    pub(super) fn families(self) -> Vec<MetricFamily> {
        self.0
    }
}

/// One name with its values.
#[derive(Debug)]
pub(super) struct Family {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    metrics: Vec<Metric>,
}

impl Family {
    pub(super) fn new(kind: Kind, name: &'static str, help: &'static str) -> Family {
        Family { kind, name, help, metrics: Vec::new() }
    }

    /// Adds `value` under `labels`; without a value there is nothing to add.
    pub(super) fn put(&mut self, labels: &[(&str, &str)], value: Option<f64>) {
        let Some(value) = value else { return };
        let pair = |&(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.push(metric);
    }

    fn into_proto(self) -> MetricFamily {
        let kind = match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        };
        proto(kind, self.name, self.help, self.metrics)
    }
}

fn proto(kind: MetricType, name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
