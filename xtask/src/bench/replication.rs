//! What it costs to have mirrors: a new copy of a store, how far mirrors are behind under load, and octets on the wire.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    ROUNDS,
    engine::{CPUS, deliver, load},
    median,
};

/// Clients that deliver at the same time.
const CLIENTS: u32 = 64;
/// Octets of their messages.
const SIZES: &[u32] = &[2 << 10, 8 << 10, 100 << 10];
/// Mail in the store that gets a new copy, in MiB, and octets of each message.
const MAIL: (&str, u32) = ("512", 8 << 10);
const MIB: f64 = 1_048_576.0;

/// All of it.
pub fn run() -> Result<Vec<Value>> {
    let mut rows = vec![snapshot("snapshot", &[])?, snapshot("unthrottled", &["--unthrottled"])?];
    for (copies, path) in [(2, "preferred"), (3, "required")] {
        for size in SIZES {
            println!("{copies} copies: {CLIENTS} clients, {size} octets");
            let case = (CLIENTS, *size);
            let runs = (0..ROUNDS).map(|_| deliver(copies, case, Some(CPUS))).collect::<Result<Vec<_>>>()?;
            rows.extend(lag(path, *size, &runs)?);
            rows.push(wire((path, copies), *size, &runs)?);
        }
    }
    Ok(rows)
}

/// The figures of one row: all rows have the same fields.
struct Row<'a> {
    clients: u32,
    size: u32,
    path: &'a str,
    what: &'a str,
    ours: f64,
    p99: Option<f64>,
    max: Option<f64>,
    peer: Option<f64>,
    limit: Option<f64>,
}

impl Row<'_> {
    fn json(&self) -> Value {
        let Self { clients, size, path, what, ours, p99, max, peer, limit } = *self;
        json!({"name": "replication", "clients": clients, "size": size, "path": path, "what": what, "ours": ours,
            "p99": p99, "max": max, "peer": peer, "ratio": peer.map(|peer| ours / peer), "limit": limit})
    }
}

/// A new copy, MiB of files a second until it has everything; beside the same files copied and synced as often.
fn snapshot(path: &str, options: &[&str]) -> Result<Value> {
    println!("{path}: a new copy of a store with {} MiB of mail", MAIL.0);
    let (octets, mut ours, mut bare) = (MAIL.1.to_string(), Vec::new(), Vec::new());
    let all = [&["--mebibytes", MAIL.0, "--octets", &octets], options].concat();
    let mut limit = None;
    for _ in 0..ROUNDS {
        let run = load("copy", &all, Some(CPUS))?;
        ours.push(figure(&run, "/wire_sent")? / MIB / figure(&run, "/seconds")?);
        bare.push(figure(&run, "/bare_octets")? / MIB / figure(&run, "/bare_seconds")?);
        limit = run["rate"].as_f64().map(|rate| rate / MIB);
    }
    let row = Row {
        clients: 0,
        size: MAIL.1,
        path,
        what: "MiB/s",
        ours: median(ours),
        p99: None,
        max: None,
        peer: Some(median(bare)),
        limit,
    };
    Ok(row.json())
}

/// What the mirror that has the least is behind: the median run's figures.
fn lag(path: &str, size: u32, runs: &[Value]) -> Result<Vec<Value>> {
    let kinds = [
        ("confirmed_records", "log rec"),
        ("confirmed_ms", "log ms"),
        ("applied_records", "index rec"),
        ("applied_ms", "index ms"),
    ];
    kinds
        .into_iter()
        .map(|(kind, what)| {
            let of = |which: &str| middle(runs, &format!("/lag/{kind}/{which}"));
            let (ours, p99, max) = (of("median")?, Some(of("p99")?), Some(of("max")?));
            Ok(Row { clients: CLIENTS, size, path, what, ours, p99, max, peer: None, limit: None }.json())
        })
        .collect()
}

/// Octets sent to each mirror for each that clients have delivered.
fn wire((path, copies): (&str, u8), size: u32, runs: &[Value]) -> Result<Value> {
    let each = runs.iter().map(|run| {
        let delivered = figure(run, "/messages")? * f64::from(size) * f64::from(copies - 1);
        Ok(figure(run, "/wire_sent")? / delivered)
    });
    let ours = median(each.collect::<Result<_>>()?);
    let row = Row {
        clients: CLIENTS,
        size,
        path,
        what: "wire",
        ours,
        p99: None,
        max: None,
        peer: None,
        limit: None,
    };
    Ok(row.json())
}

fn middle(runs: &[Value], pointer: &str) -> Result<f64> {
    Ok(median(runs.iter().map(|run| figure(run, pointer)).collect::<Result<_>>()?))
}

fn figure(run: &Value, pointer: &str) -> Result<f64> {
    run.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in {run}"))
}
