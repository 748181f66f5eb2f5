//! Metrics that are read when Prometheus asks, each described by one entry of a table.

use std::collections::HashMap;

use mailcluster_store::Histogram;
use prometheus::{
    core::{Collector, Desc},
    proto::{self, LabelPair, MetricFamily, MetricType},
};

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// How often values lay within bounds.
    Histogram,
}

/// One metric, read from a `T`.
pub struct Metric<T> {
    /// Its whole name.
    pub name: &'static str,
    /// What kind of number.
    pub kind: Kind,
    /// Labels that each sample has a value for, in this order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// Reads it; nothing when there is nothing to be told.
    pub read: fn(&T) -> Vec<Sample>,
}

/// A value with its labels' values.
pub struct Sample {
    labels: Vec<String>,
    value: Value,
}

enum Value {
    Number(f64),
    Histogram(Histogram),
}

impl Sample {
    /// A number without labels.
    #[allow(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
    pub fn number(number: u64) -> Self {
        Self { labels: Vec::new(), value: Value::Number(number as f64) }
    }

    /// How many there are.
    pub fn count(number: usize) -> Self {
        Self::number(u64::try_from(number).unwrap_or(u64::MAX))
    }

    /// Unix time.
    pub fn seconds(seconds: i64) -> Self {
        Self::number(u64::try_from(seconds).unwrap_or(0))
    }

    /// A histogram without labels.
    pub fn histogram(histogram: Histogram) -> Self {
        Self { labels: Vec::new(), value: Value::Histogram(histogram) }
    }

    /// The same with one more label's value.
    pub fn of(mut self, label: &str) -> Self {
        self.labels.push(label.to_owned());
        self
    }
}

/// A table of metrics with where they are read from.
pub struct Readings<T: 'static> {
    metrics: &'static [Metric<T>],
    descs: Vec<Desc>,
    source: Box<dyn Fn() -> T + Send + Sync>,
}

impl<T> Readings<T> {
    /// Reads `source` once whenever it is asked. `constant` labels are the same in all samples.
    pub fn new(
        metrics: &'static [Metric<T>],
        constant: &[(&str, &str)],
        source: impl Fn() -> T + Send + Sync + 'static,
    ) -> prometheus::Result<Self> {
        let constant: HashMap<String, String> =
            constant.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let desc = |metric: &Metric<T>| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, constant.clone())
        };
        let descs = metrics.iter().map(desc).collect::<prometheus::Result<_>>()?;
        Ok(Self { metrics, descs, source: Box::new(source) })
    }
}

impl<T> Collector for Readings<T> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let source = (self.source)();
        let family = |(metric, desc): (&Metric<T>, &Desc)| {
            let samples = (metric.read)(&source).into_iter().map(|sample| told(metric.kind, desc, sample));
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(samples.collect());
            family
        };
        self.metrics.iter().zip(&self.descs).map(family).collect()
    }
}

fn told(kind: Kind, desc: &Desc, sample: Sample) -> proto::Metric {
    let pair = |(name, value): (&String, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.clone());
        pair.set_value(value);
        pair
    };
    let mut labels: Vec<LabelPair> = desc.variable_labels.iter().zip(sample.labels).map(pair).collect();
    labels.extend(desc.const_label_pairs.iter().cloned());
    let mut metric = proto::Metric::from_label(labels);
    match (kind, sample.value) {
        (Kind::Counter, Value::Number(number)) => {
            let mut counter = proto::Counter::default();
            counter.set_value(number);
            metric.set_counter(counter);
        }
        (_, Value::Number(number)) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(number);
            metric.set_gauge(gauge);
        }
        (_, Value::Histogram(read)) => metric.set_histogram(histogram(read)),
    }
    metric
}

fn histogram(read: Histogram) -> proto::Histogram {
    let bucket = |(bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(read.buckets.into_iter().map(bucket).collect());
    histogram.set_sample_sum(read.sum);
    histogram.set_sample_count(read.count);
    histogram
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::*;

    const TABLE: &[Metric<u64>] = &[
        Metric {
            name: "things_total",
            kind: Kind::Counter,
            labels: &["kind"],
            help: "Things.",
            read: |n| vec![Sample::number(*n).of("good"), Sample::number(0).of("bad")],
        },
        Metric { name: "nothing", kind: Kind::Gauge, labels: &[], help: "Nothing.", read: |_| Vec::new() },
        Metric {
            name: "long_seconds",
            kind: Kind::Histogram,
            labels: &[],
            help: "Long.",
            read: |_| {
                vec![Sample::histogram(Histogram { buckets: vec![(0.5, 1), (1.0, 3)], sum: 9.5, count: 4 })]
            },
        },
    ];

    #[test]
    fn what_is_read_is_told_and_what_is_not_there_is_not() {
        let registry = Registry::new();
        for store in ["a", "b"] {
            registry.register(Box::new(Readings::new(TABLE, &[("store", store)], || 7).unwrap())).unwrap();
        }
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "# TYPE things_total counter",
            r#"things_total{kind="good",store="a"} 7"#,
            r#"things_total{kind="bad",store="b"} 0"#,
            "# TYPE long_seconds histogram",
            r#"long_seconds_bucket{store="a",le="1"} 3"#,
            r#"long_seconds_bucket{store="a",le="+Inf"} 4"#,
            r#"long_seconds_sum{store="b"} 9.5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing:\n{text}");
        }
        assert!(!text.contains("nothing"), "{text}");
    }
}
