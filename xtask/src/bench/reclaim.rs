//! Room given back under load: most of a store is expunged, and each copy gives it back while clients deliver.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::engine::{CPUS, load};

const MIB: f64 = 1_048_576.0;

/// For a single copy, and each copy of a store with a mirror: `messages` of 8 KiB, of which 80 % go.
pub fn run(messages: u64) -> Result<Vec<Value>> {
    let messages = messages.to_string();
    let mut rows = Vec::new();
    for (copies, path) in [("1", "single"), ("2", "preferred")] {
        println!("{path}: {messages} messages, 80 % of them expunged");
        let run = load("reclaim", &["--copies", copies, "--messages", &messages], Some(CPUS))?;
        for when in ["before", "meanwhile", "afterwards"] {
            rows.push(row(&run, path, when)?);
        }
    }
    Ok(rows)
}

/// Deliveries at one time, and MiB of the log of the copy that has most of it then.
fn row(run: &Value, path: &str, when: &str) -> Result<Value> {
    let figure =
        |field: &str| run.pointer(field).and_then(Value::as_f64).with_context(|| format!("no {field}"));
    let of = |field: &str| figure(&format!("/{when}/{field}"));
    let log = if when == "afterwards" { "left" } else { "filled" };
    let logs = run[log].as_array().context("no logs")?;
    let largest = logs.iter().filter_map(Value::as_f64).fold(0.0, f64::max);
    let took = if when == "meanwhile" { json!(figure("/seconds")?) } else { Value::Null };
    let ms = |field: &str| of(field).map(|micros| micros / 1e3);
    Ok(json!({"name": "reclaim", "path": path, "when": when, "ours": of("rate")?, "p50_ms": ms("p50_us")?,
        "p99_ms": ms("p99_us")?, "p999_ms": ms("p999_us")?, "max_ms": ms("max_us")?, "log_mib": largest / MIB,
        "seconds": took}))
}
