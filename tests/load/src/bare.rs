//! The bare log: the same octets in the same batches, written and synced, and nothing else.

use std::{fs::File, os::unix::fs::FileExt, path::Path, time::Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::deliver::{Figures, Plan};

/// What a record has besides its body, roughly.
const RECORD: usize = 200;
/// Batches that are enough to know.
const ENOUGH: u64 = 2_000;

/// The figures of a run, with the bare log's beside them.
pub fn beside(plan: &Plan, figures: &Figures) -> Result<Value> {
    let bare = measure(&plan.dir.join("bare"), plan, figures)?;
    let ours = figures.messages as f64 / figures.seconds;
    Ok(json!({
        "copies": plan.copies, "clients": plan.clients, "size": plan.octets,
        "messages": figures.messages, "batches": figures.batches,
        "ours": ours, "bare": bare, "p50_us": figures.p50, "p99_us": figures.p99,
        "lag": figures.lag, "wire_sent": figures.wire.sent, "wire_received": figures.wire.received,
    }))
}

/// Messages per second.
fn measure(path: &Path, plan: &Plan, figures: &Figures) -> Result<f64> {
    let per_batch = figures.messages.div_ceil(figures.batches.max(1));
    let buffer = vec![7; usize::try_from(per_batch)? * (plan.octets + RECORD)];
    let count = figures.batches.clamp(1, ENOUGH);
    let file = File::create(path)?;
    let start = Instant::now();
    for n in 0..count {
        file.write_all_at(&buffer, n * u64::try_from(buffer.len())?)?;
        file.sync_data()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok((count * per_batch) as f64 / seconds)
}
