//! The store alone: beside the bare log, and with mirrors beside without.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{ROUNDS, goals::goal, median};
use crate::cargo;

/// Seconds of one measurement.
const MEASURE: &str = "4";
/// Clients and octets of each case.
const CASES: &[(u32, u32)] = &[(1, 8 << 10), (64, 2 << 10), (64, 8 << 10), (64, 100 << 10)];
/// The primary with its clients on one processor, all mirrors on another: as they have it on nodes of their own. The disk
/// is the same for all of them.
pub const CPUS: (&str, &str) = ("0", "1");

/// The engine beside the bare log.
pub fn alone() -> Result<Vec<Value>> {
    CASES
        .iter()
        .map(|case| {
            println!("the store alone: {} clients, {} octets", case.0, case.1);
            let runs = (0..ROUNDS).map(|_| deliver(1, *case, None)).collect::<Result<Vec<_>>>()?;
            row("engine", *case, &runs, &runs, "bare")
        })
        .collect()
}

/// With mirrors, in turn with a single copy.
pub fn mirrored() -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for (copies, path) in [(2, "preferred"), (3, "required")] {
        for case in CASES {
            println!("{copies} copies: {} clients, {} octets", case.0, case.1);
            let (mut ours, mut single) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ours.push(deliver(copies, *case, Some(CPUS))?);
                single.push(deliver(1, *case, Some(CPUS))?);
            }
            rows.push(row(path, *case, &ours, &single, "ours")?);
        }
    }
    Ok(rows)
}

/// The median of each figure; `peer` is that field of the peer's runs.
fn row(path: &str, case: (u32, u32), ours: &[Value], peers: &[Value], peer: &str) -> Result<Value> {
    let middle = |runs: &[Value], field: &str| -> Result<f64> {
        let figures = runs.iter().map(|run| run[field].as_f64()).collect::<Option<Vec<_>>>();
        Ok(median(figures.with_context(|| format!("no {field}"))?))
    };
    let (rate, theirs) = (middle(ours, "ours")?, middle(peers, peer)?);
    Ok(json!({"name": "delivery", "clients": case.0, "size": case.1, "rcpts": 1, "path": path,
        "ours": rate, "peer": theirs, "ratio": rate / theirs,
        "p50_ms": middle(ours, "p50_us")? / 1e3, "p99_ms": middle(ours, "p99_us")? / 1e3,
        "peer_p99": if peer == "ours" { json!(middle(peers, "p99_us")? / 1e3) } else { Value::Null },
        "limit": goal(path, usize::try_from(case.0)?, usize::try_from(case.1)?, 1)}))
}

/// One run; with `cpus`, the primary is on the first, its mirrors on the second.
pub fn deliver(copies: u8, (clients, octets): (u32, u32), cpus: Option<(&str, &str)>) -> Result<Value> {
    let [copies, clients, octets] = [copies.to_string(), clients.to_string(), octets.to_string()];
    let what = ["--copies", &copies, "--clients", &clients, "--octets", &octets, "--seconds", MEASURE];
    load("deliver", &what, cpus)
}

/// One run of a command of `mailcluster-load` in a folder of its own.
pub fn load(what: &str, options: &[&str], cpus: Option<(&str, &str)>) -> Result<Value> {
    let folder = mailcluster_interop::scratch("load")?;
    let program = cargo::binary("mailcluster-load")?;
    let mut command = match cpus {
        Some((own, _)) => {
            let mut pinned = mailcluster_interop::mortal("taskset");
            pinned.args(["--cpu-list", own]).arg(program);
            pinned
        }
        None => mailcluster_interop::mortal(program),
    };
    command.arg(what).arg(folder.join("store")).args(options);
    command.args(cpus.map(|(_, mirrors)| ["--mirrors-cpu", mirrors]).into_iter().flatten());
    let output = command.output().context("mailcluster-load")?;
    std::fs::remove_dir_all(folder)?;
    ensure!(output.status.success(), "mailcluster-load: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
