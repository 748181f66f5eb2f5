//! A new copy of a store that has something in it: how long its snapshot takes.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use mailcluster_replication::Snapshots;
use mailcluster_store::Store;
use serde_json::{Value, json};

use crate::{
    certificates,
    deliver::{body, delivery, put_accounts},
    mirror::{Mirror, certificates_in},
    primary::{Primary, identity},
    wire::Octets,
};

/// Clients that fill the store.
const CLIENTS: u64 = 64;
/// Accounts that the mail is for.
const ACCOUNTS: u64 = 1_000;
/// As a mirror does with what arrives.
const SYNC_EVERY: u64 = 16 << 20;
/// Octets read at a time.
const BLOCK: usize = 1 << 20;
/// Between two looks at what the new copy has.
const LOOK: Duration = Duration::from_millis(5);
/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(1_200);

/// What is copied.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// A folder on a disk; it is made, and must not be there yet
    pub dir: PathBuf,
    /// Mail in the store, in MiB: enough for files to be cheaper than records
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(256..=65_536))]
    pub mebibytes: u64,
    /// Octets of each message
    #[arg(long, default_value_t = 8192)]
    pub octets: usize,
    /// Send it as fast as it goes, and not at the rate that primaries keep to
    #[arg(long)]
    pub unthrottled: bool,
    /// The processor that the new copy runs on, as it would on a node of its own
    #[arg(long)]
    pub mirrors_cpu: Option<usize>,
}

/// Fills a store, adds a copy, and prints how long that took until the copy had all of it.
pub async fn run(plan: &Plan) -> Result<Value> {
    ensure!(!plan.dir.exists(), "{} is there already", plan.dir.display());
    ensure!(plan.octets > 0, "messages have at least one octet");
    fs::create_dir_all(&plan.dir)?;
    certificates::make(&certificates_in(&plan.dir))?;
    let mut primary = Primary::start(&plan.dir, &[]).await?;
    put_accounts(&primary.store, ACCOUNTS).await?;
    fill(&primary.store, plan).await?;
    let mut snapshots = Snapshots::default();
    let rate = (!plan.unthrottled).then_some(snapshots.rate);
    if plan.unthrottled {
        snapshots.rate = u64::MAX;
    }
    let mirror = Mirror::start(&plan.dir, 2, plan.mirrors_cpu)?;
    let begun = Instant::now();
    primary.add(&mirror, snapshots)?;
    until_copied(&mut primary, &plan.dir).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let wire = Octets::to([mirror.at])?;
    primary.stop().await?;
    let files = plan.dir.join("1");
    let (octets, took) = bare(&files, &plan.dir.join("bare"))?;
    Ok(json!({
        "mebibytes": plan.mebibytes, "seconds": seconds, "wire_sent": wire.sent, "rate": rate,
        "bare_octets": octets, "bare_seconds": took,
    }))
}

async fn fill(store: &Store, plan: &Plan) -> Result<()> {
    let (body, count) = (body(plan.octets), (plan.mebibytes << 20).div_ceil(u64::try_from(plan.octets)?));
    let next = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (store, next, body) = (store.clone(), next.clone(), body.clone());
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return anyhow::Ok(());
                    }
                    store.deliver(delivery(n * 7919 % ACCOUNTS, &body)?).await?.acknowledge()?;
                }
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    Ok(())
}

/// Waits until the new copy has synced, and has in its index, all that the primary has; it came as files.
async fn until_copied(primary: &mut Primary, dir: &Path) -> Result<()> {
    let (end, copy) = (primary.store.committed().1, identity(2).replica.to_string());
    let offered = dir.join("1").join("snapshot-out");
    let (begun, mut were_files) = (Instant::now(), false);
    loop {
        were_files |= fs::read_dir(&offered).is_ok_and(|mut folders| folders.next().is_some());
        let heard = primary.progress.heard().get(&copy).copied();
        if heard.is_some_and(|heard| heard.synced >= end && heard.applied >= end) {
            ensure!(were_files, "the copy was made from records, not from a snapshot");
            return Ok(());
        }
        primary.all_fed()?;
        ensure!(begun.elapsed() < LIMIT, "the copy is not complete after {} s", LIMIT.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}

/// The same files copied and synced as often, and nothing else: octets, and seconds.
fn bare(from: &Path, to: &Path) -> Result<(u64, f64)> {
    let begun = Instant::now();
    fs::create_dir(to)?;
    let octets = copy_folder(from, to)?;
    let seconds = begun.elapsed().as_secs_f64();
    fs::remove_dir_all(to)?;
    Ok((octets, seconds))
}

fn copy_folder(from: &Path, to: &Path) -> Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        octets += if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_folder(&entry.path(), &to)?
        } else {
            copy_file(&entry.path(), &to)?
        };
    }
    Ok(octets)
}

fn copy_file(from: &Path, to: &Path) -> Result<u64> {
    let mut from = File::open(from).with_context(|| from.display().to_string())?;
    let to = File::create(to).with_context(|| to.display().to_string())?;
    let (mut buffer, mut at, mut synced) = (vec![0; BLOCK], 0, 0);
    loop {
        let got = from.read(&mut buffer)?;
        to.write_all_at(&buffer[..got], at)?;
        at += u64::try_from(got)?;
        if got == 0 || at - synced >= SYNC_EVERY {
            to.sync_data()?;
            synced = at;
        }
        if got == 0 {
            return Ok(at);
        }
    }
}
