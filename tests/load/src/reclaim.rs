//! What giving room back costs: a store is filled, most of it is expunged, and while clients go on delivering, each copy gives
//! the room back.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use mailcluster_store::{Expunge, Store};
use mailcluster_types::{AccountId, ReplicaId};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    certificates,
    deliver::{body, delivery, put_accounts},
    mirror::{Mirror, certificates_in},
    primary::Primary,
};

/// Clients that fill the store.
const FILLING: u64 = 64;
/// Accounts that the mail is for.
const ACCOUNTS: u64 = 1_000;

/// What is filled, and goes.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// A folder on a disk; it is made, and must not be there yet
    pub dir: PathBuf,
    /// Copies of the store, 1 to 3
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub copies: u8,
    /// Messages in the store. The newest GiB of a log (5 % of a small volume) is never given back: with few, nothing is
    #[arg(long, default_value_t = 250_000)]
    pub messages: u64,
    /// Octets of each
    #[arg(long, default_value_t = 8192)]
    pub octets: usize,
    /// So many of a hundred are expunged
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub gone: u64,
    /// Clients that deliver meanwhile
    #[arg(long, default_value_t = 16)]
    pub clients: u64,
    /// For how long they deliver before, and afterwards, in seconds
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// The processor that all mirrors run on, as they would on nodes of their own
    #[arg(long)]
    pub mirrors_cpu: Option<usize>,
}

/// Does it, and makes sure that what stays is there.
pub async fn run(plan: &Plan) -> Result<Value> {
    ensure!(!plan.dir.exists(), "{} is there already", plan.dir.display());
    std::fs::create_dir_all(&plan.dir)?;
    certificates::make(&certificates_in(&plan.dir))?;
    let mirrors: Vec<Mirror> = (2..=u128::from(plan.copies))
        .map(|number| Mirror::start(&plan.dir, number, plan.mirrors_cpu))
        .collect::<Result<_>>()?;
    let mut primary = Primary::start(&plan.dir, &mirrors).await?;
    let others = (2..=u128::from(plan.copies)).map(|number| ReplicaId(number).to_string());
    primary.progress.set_others(Some(others.collect()));
    let store = primary.store.clone();
    fill(&store, plan).await?;
    primary.until_level().await?;
    let filled = octets(plan)?;
    let load = || Load::begin(&store, plan);
    let quiet = Duration::from_secs(plan.seconds);
    let before = load().after(tokio::time::sleep(quiet)).await?.1;
    let began = Instant::now();
    let (done, meanwhile) = load().after(give_back(&store, mirrors)).await?;
    let (mirrors, given_back) = done?;
    let seconds = began.elapsed().as_secs_f64();
    let left = octets(plan)?;
    let afterwards = load().after(tokio::time::sleep(quiet)).await?.1;
    let wrong = store.read(|view| view.verify()).await?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    primary.stop().await?;
    drop(mirrors);
    Ok(
        json!({"copies": plan.copies, "seconds": seconds, "given_back": given_back, "filled": filled, "left": left,
        "before": before, "meanwhile": meanwhile, "afterwards": afterwards}),
    )
}

/// Fills the store, and expunges.
async fn fill(store: &Store, plan: &Plan) -> Result<()> {
    put_accounts(store, ACCOUNTS).await?;
    let (body, next, messages) = (body(plan.octets), Arc::new(AtomicU64::new(0)), plan.messages);
    let clients = (0..FILLING).map(|_| {
        let (store, body, next) = (store.clone(), body.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= messages {
                    return anyhow::Ok(());
                }
                store.deliver(delivery(n % ACCOUNTS, &body)?).await?.acknowledge()?;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    let gone = plan.gone;
    for n in 1..=u128::from(ACCOUNTS) {
        let inbox = store.read(move |view| view.mailbox_by_name(AccountId(n), "INBOX")).await?;
        let inbox = inbox.context("an account has no inbox")?;
        let uids = (1..inbox.uid_next).filter(|uid| u64::from(*uid) * 7919 % 100 < gone).collect();
        store.expunge(inbox.id, Expunge::These(uids)).await?.acknowledge()?;
    }
    Ok(())
}

/// All copies at once; what each has removed.
async fn give_back(store: &Store, mirrors: Vec<Mirror>) -> Result<(Vec<Mirror>, Vec<Value>)> {
    let theirs: Vec<JoinHandle<Result<(Mirror, Value)>>> = mirrors
        .into_iter()
        .map(|mut mirror| {
            tokio::task::spawn_blocking(move || {
                let done = mirror.reclaim()?;
                Ok((mirror, done))
            })
        })
        .collect();
    let own = store.reclaim().await.map_err(anyhow::Error::msg)?;
    let (mut back, mut given_back) = (Vec::new(), vec![said(&own)]);
    for each in theirs {
        let (mirror, done) = each.await??;
        back.push(mirror);
        given_back.push(done);
    }
    Ok((back, given_back))
}

/// What a copy has given back.
pub fn said(done: &mailcluster_store::Reclaimed) -> Value {
    json!({"files": done.files, "removed": done.removed, "packed": done.packed})
}

/// Octets of each copy's log.
fn octets(plan: &Plan) -> Result<Vec<u64>> {
    let of = |number: u8| -> Result<u64> {
        let log: &Path = &plan.dir.join(number.to_string()).join("log");
        let files = std::fs::read_dir(log)?.map(|entry| anyhow::Ok(entry?.metadata()?.len()));
        files.sum()
    };
    (1..=plan.copies).map(of).collect()
}

/// Clients that deliver until they are told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Vec<u64>>>>,
    began: Instant,
}

impl Load {
    fn begin(store: &Store, plan: &Plan) -> Self {
        let (is_over, body) = (Arc::new(AtomicBool::new(false)), body(plan.octets));
        let client =
            |n| tokio::spawn(client(store.clone(), body.clone(), (n, plan.clients), is_over.clone()));
        let clients = (0..plan.clients).map(client).collect();
        Self { is_over, clients, began: Instant::now() }
    }

    /// Goes on until `done`; the deliveries in a second, and how long they took.
    async fn after<T>(self, done: impl Future<Output = T>) -> Result<(T, Value)> {
        let done = done.await;
        self.is_over.store(true, Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64();
        let mut latencies = Vec::new();
        for client in self.clients {
            latencies.extend(client.await??);
        }
        latencies.sort_unstable();
        let at =
            |permille: usize| latencies.get(latencies.len().saturating_sub(1) * permille / 1000).copied();
        let count = u32::try_from(latencies.len())?;
        let figures = json!({"rate": f64::from(count) / seconds, "p50_us": at(500), "p99_us": at(990),
            "p999_us": at(999), "max_us": at(1000)});
        Ok((done, figures))
    }
}

async fn client(
    store: Store,
    body: Bytes,
    (mut user, step): (u64, u64),
    is_over: Arc<AtomicBool>,
) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let delivery = delivery(user % ACCOUNTS, &body)?;
        user += step;
        let asked = Instant::now();
        store.deliver(delivery).await?.acknowledge()?;
        latencies.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok(latencies)
}
