//! `cargo xtask bench`: our figures beside a peer's, measured in turn in the same run on the same disk.

mod audit;
mod crowd;
mod delivery;
mod dovecot;
mod engine;
mod failover;
mod fleet;
mod goals;
mod growth;
mod operator;
mod outbound;
mod reclaim;
mod replication;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// Rounds of each case; the median counts.
const ROUNDS: usize = 3;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// Which: delivery (beside dovecot-lmtpd; the store beside the bare log; mirrors beside none), growth (up to a million accounts), failover or failover-mirrored (gaps as clients see them), replication (snapshots, lag, octets on the wire), reclaim (room given back under load), outbound (beside Postfix), operator (what a large MailCluster costs it)
    name: String,
    /// How often each fault is made (failover)
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Accounts that the store has beside those that are read (failover-mirrored)
    #[arg(long, default_value_t = 0)]
    accounts: usize,
    /// Messages that the store has first (reclaim): the newest GiB of a log stays, so few show nothing
    #[arg(long, default_value_t = 250_000)]
    messages: u64,
    /// Stores of the MailCluster (operator)
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=200))]
    stores: u16,
    /// Its frontends (operator)
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    frontends: u16,
    /// Write the rows here as JSON too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs a benchmark.
pub fn run(asked: Asked) -> Result<()> {
    let Asked { runs, accounts, messages, stores, frontends, .. } = asked;
    let rows = match &*asked.name {
        "delivery" => {
            prepare()?;
            [delivery::run()?, engine::alone()?, engine::mirrored()?].concat()
        }
        "growth" => {
            prepare()?;
            growth::run()?
        }
        "failover" => failover::run(runs)?,
        "failover-mirrored" => failover::run_mirrored(runs, accounts)?,
        "replication" => {
            prepare()?;
            replication::run()?
        }
        "reclaim" => {
            prepare()?;
            reclaim::run(messages)?
        }
        "outbound" => {
            prepare()?;
            outbound::run()?
        }
        "operator" => {
            cargo::build_programs()?;
            operator::run(stores, frontends)?
        }
        name => bail!(
            "there is no benchmark {name:?}: use delivery, growth, failover, failover-mirrored, replication, reclaim, outbound or operator"
        ),
    };
    table(&rows);
    match asked.json {
        Some(file) => std::fs::write(&file, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| file.display().to_string()),
        None => Ok(()),
    }
}

/// The programs, and room for what they write.
fn prepare() -> Result<()> {
    mailcluster_interop::sweep()?;
    cargo::build_programs()
}

/// Rows of one kind, under the names of their fields.
fn table(rows: &[Value]) {
    let Some(first) = rows.first().and_then(Value::as_object) else { return };
    let names: Vec<&String> = first.keys().collect();
    println!("{}", names.iter().map(|name| format!("{name:>10}")).collect::<Vec<_>>().join(" "));
    for row in rows {
        let cells = names.iter().map(|name| match &row[name.as_str()] {
            Value::Number(number) if number.is_f64() => {
                format!("{:>10.2}", number.as_f64().unwrap_or_default())
            }
            Value::String(text) => format!("{text:>10}"),
            Value::Null => format!("{:>10}", "-"),
            other => format!("{other:>10}"),
        });
        println!("{}", cells.collect::<Vec<_>>().join(" "));
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
