//! docs/reference/metrics.md, from the metrics' own descriptions.

use std::fmt::Write;

use anyhow::Result;
use prometheus::core::{Collector, Desc};

use super::{
    CERTIFICATES, CONNECTIONS, DIRECTORY, QUEUE, SCREENING, backend_sessions, frontend_sessions,
    readings::{Kind, Metric},
    store,
};

const HEAD: &str = "# Metrics

This file is generated: `mailcluster-node metrics-reference > docs/reference/metrics.md`. Those of the operator stand in
[operator-metrics.md](operator-metrics.md).

Every pod serves Prometheus metrics at `/metrics` on port 9090; a standalone node on its `http` listener. Times are
Unix seconds, sizes are octets.
";

/// A row of a table.
struct Row {
    name: String,
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

/// The whole document.
pub fn reference() -> Result<String> {
    let mut text = HEAD.to_owned();
    let sessions = |all: &[Box<dyn Collector>]| -> Vec<Row> {
        all.iter().flat_map(|collector| collector.desc()).map(counted).collect()
    };
    let mut clients = sessions(&frontend_sessions()?);
    clients.extend(table(CONNECTIONS, &[]));
    clients.extend(table(SCREENING, &[]));
    section(&mut text, "Clients (frontends, standalone)", "", &clients)?;
    section(&mut text, "What is remembered of the directory (frontends)", "", &table(DIRECTORY, &[]))?;
    section(&mut text, "Certificates (every pod, standalone)", "", &table(CERTIFICATES, &[]))?;
    let mut backend = sessions(&backend_sessions()?);
    backend.extend(table(QUEUE, &[]));
    section(&mut text, "Sessions and queue of a store (backends, standalone)", "", &backend)?;
    let note = "\nOf a store that another process serves, or none, this one tells no more than `serving`, `poisoned`, \
                `epoch` and the lease, and what it counted of commits while it served.\n";
    let stores = table(store::METRICS, &["store"]);
    section(&mut text, "Stores (backends, directory, standalone)", note, &stores)?;
    Ok(text)
}

fn table<T>(metrics: &[Metric<T>], constant: &[&str]) -> Vec<Row> {
    metrics
        .iter()
        .map(|metric| Row {
            name: metric.name.to_owned(),
            kind: match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            },
            labels: constant.iter().chain(metric.labels).map(|label| (*label).to_owned()).collect(),
            help: metric.help.to_owned(),
        })
        .collect()
}

/// What sessions count: counters and gauges, told apart by their names.
fn counted(desc: &Desc) -> Row {
    Row {
        name: desc.fq_name.clone(),
        kind: if desc.fq_name.ends_with("_total") { "counter" } else { "gauge" },
        labels: desc.variable_labels.clone(),
        help: desc.help.clone(),
    }
}

fn section(text: &mut String, title: &str, note: &str, rows: &[Row]) -> Result<()> {
    write!(text, "\n## {title}\n{note}\n| name | kind | labels | what |\n|---|---|---|---|\n")?;
    for Row { name, kind, labels, help } in rows {
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
        let committed = std::fs::read_to_string(file).unwrap();
        let hint = "run `mailcluster-node metrics-reference > docs/reference/metrics.md`";
        assert!(committed == reference().unwrap(), "docs/reference/metrics.md is stale: {hint}");
    }
}
