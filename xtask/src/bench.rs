//! `cargo xtask bench`: our figures beside a peer's, measured in turn in the same run on the same disk.

mod dovecot;
mod failover;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dovecot::Dovecot;
use mailcluster_interop::{ClientRoot, NodeBinary, Standalone};
use mailcluster_test_clients::{SendOutcome, SmtpClient, message};
use serde_json::{Value, json};

use crate::cargo;

/// How long one measurement lasts.
const MEASURE: Duration = Duration::from_secs(8);
/// Rounds of each case; the median counts.
const ROUNDS: usize = 3;
/// Accounts that the deliveries go to in turn.
const ACCOUNTS: usize = 64;

/// Runs the benchmark of this name; with `out`, the rows are written there as JSON too. `runs`: of each fault.
pub fn run(name: &str, runs: usize, out: Option<PathBuf>) -> Result<()> {
    let rows = match name {
        "delivery" => delivery()?,
        "failover" => failover::run(runs)?,
        "failover-mirrored" => failover::run_mirrored(runs)?,
        _ => bail!("there is no benchmark {name:?}: use delivery, failover or failover-mirrored"),
    };
    table(&rows);
    match out {
        Some(file) => std::fs::write(&file, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| file.display().to_string()),
        None => Ok(()),
    }
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

/// LMTP into `standalone` beside dovecot-lmtpd with `mail_fsync=always`.
fn delivery() -> Result<Vec<Value>> {
    mailcluster_interop::sweep()?;
    cargo::build_programs()?;
    let program = cargo::binary("mailcluster-node")?;
    let binary = NodeBinary::in_folder(program.parent().context("no target folder")?)?;
    let root = ClientRoot::ensure()?;
    let data = mailcluster_interop::scratch("bench")?;
    let node = Standalone::start_with(binary, &data)?;
    let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("bench{n}")).collect();
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    node.accounts("example.test", &borrowed, "correct horse")?;
    let dovecot = Dovecot::start(&root)?;
    let mut rows = Vec::new();
    for (clients, size) in [(1, 8192), (64, 8192)] {
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(measure(node.addr("lmtp")?, clients, size)?);
            peer.push(measure(dovecot.addr(), clients, size)?);
        }
        let (ours, peer) = (median(ours), median(peer));
        rows.push(json!({"name": "delivery", "clients": clients, "size": size, "path": "single",
            "ours": ours, "peer": peer, "ratio": ours / peer, "limit": Value::Null}));
    }
    drop((node, dovecot));
    std::fs::remove_dir_all(data)?;
    Ok(rows)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Deliveries per second.
fn measure(addr: SocketAddr, clients: usize, size: usize) -> Result<f64> {
    let start = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            std::thread::spawn(move || -> Result<u64> {
                let mut session = SmtpClient::lmtp(addr, Duration::from_secs(30))?;
                let mut done = 0;
                while start.elapsed() < MEASURE {
                    let to = format!("bench{}@example.test", (client + usize::try_from(done)?) % ACCOUNTS);
                    let body = message(&format!("b{client}-{done}"), size);
                    match session.send("sender@elsewhere.test", &[&to], &body) {
                        SendOutcome::Accepted(_) => done += 1,
                        other => bail!("{other:?}"),
                    }
                }
                Ok(done)
            })
        })
        .collect();
    let mut total = 0;
    for thread in threads {
        total += thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    Ok(total as f64 / start.elapsed().as_secs_f64())
}
