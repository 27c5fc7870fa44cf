//! Families of metrics on their way to the text format: a name, a type, a line of help, and one
//! value for each set of labels.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::{Classes, Stats};

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
}

pub(super) const fn counter(stat: &'static str, name: &'static str, help: &'static str) -> Row {
    Row { stat, name, kind: Kind::Counter, help }
}

pub(super) const fn gauge(stat: &'static str, name: &'static str, help: &'static str) -> Row {
    Row { stat, name, kind: Kind::Gauge, help }
}

impl Row {
    fn family(&self) -> Family {
        Family::new(self.kind, self.name, self.help)
    }
}

/// The families of one scrape.
#[derive(Debug, Default)]
pub(super) struct Exposition(Vec<Family>);

impl Exposition {
    /// Adds `family`, unless it has no value: a statistic that an option switches off.
    pub(super) fn add(&mut self, family: Family) {
        if !family.metrics.is_empty() {
            self.0.push(family);
        }
    }

    /// Adds a family for each of `rows` that `stats` has.
    pub(super) fn add_rows(&mut self, rows: &[Row], stats: &Stats) {
        for row in rows {
            let mut family = row.family();
            family.put(&[], stats.number(row.stat));
            self.add(family);
        }
    }

    /// Adds a family for each of `rows`, labelled with the slab class.
    pub(super) fn add_rows_by_class(&mut self, rows: &[Row], classes: &Classes) {
        for row in rows {
            let mut family = row.family();
            for (class, stats) in classes {
                family.put(&[("slab", &class.to_string())], stats.number(row.stat));
            }
            self.add(family);
        }
    }

    pub(super) fn families(self) -> Vec<MetricFamily> {
        self.0.into_iter().map(Family::into_proto).collect()
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
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        family.set_metric(self.metrics);
        family
    }
}
