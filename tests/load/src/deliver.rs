//! The clients.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use mailcluster_store::{Account, Delivery, DeliveryTarget, Store};
use mailcluster_types::{AccountId, DeliveryId, StoreName};
use serde_json::Value;

use crate::{
    certificates::{self, STORE},
    lag::Watch,
    mirror::{Mirror, certificates_in},
    primary::Primary,
    wire::Octets,
};

/// What is delivered.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// A folder on a disk; it is made, and must not be there yet
    pub dir: PathBuf,
    /// Copies of the store, 1 to 3
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub copies: u8,
    /// Clients that deliver at the same time
    #[arg(long, default_value_t = 64)]
    pub clients: u64,
    /// Octets of each message
    #[arg(long, default_value_t = 8192)]
    pub octets: usize,
    /// For how long, in seconds
    #[arg(long, default_value_t = 8)]
    pub seconds: u64,
    /// Accounts that get mail in turn
    #[arg(long, default_value_t = 10_000)]
    pub accounts: u64,
    /// The processor that all mirrors run on, as they would on nodes of their own
    #[arg(long)]
    pub mirrors_cpu: Option<usize>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Deliveries that were confirmed.
    pub messages: u64,
    /// In so many seconds.
    pub seconds: f64,
    /// Syncs of the log that they took.
    pub batches: u64,
    /// Microseconds from asking to the receipt: half of them took no longer.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// How far the mirrors were behind; `None`: there were none.
    pub lag: Option<Value>,
    /// What went to them, and came back, meanwhile.
    pub wire: Octets,
}

/// Makes the store and its mirrors, delivers, and makes sure that all of it is there.
pub async fn run(plan: &Plan) -> Result<Figures> {
    ensure!(!plan.dir.exists(), "{} is there already", plan.dir.display());
    std::fs::create_dir_all(&plan.dir)?;
    certificates::make(&certificates_in(&plan.dir))?;
    let mirrors: Vec<Mirror> = (2..=u128::from(plan.copies))
        .map(|number| Mirror::start(&plan.dir, number, plan.mirrors_cpu))
        .collect::<Result<_>>()?;
    let mut primary = Primary::start(&plan.dir, &mirrors).await?;
    put_accounts(&primary.store, plan.accounts).await?;
    // What the accounts took is not the deliveries'.
    primary.until_level().await?;
    let store = &primary.store;
    let wire = || Octets::to(mirrors.iter().map(|mirror| mirror.at));
    let (before, wire_before) = (store.stats().commit_seconds().count, wire()?);
    let watch = (plan.copies > 1).then(|| Watch::start(primary.written.clone()));
    let (seconds, mut latencies) = deliver(store, plan).await?;
    let lag = watch.map(Watch::finish).transpose()?;
    let batches = store.stats().commit_seconds().count - before;
    let wire = wire()?.since(wire_before);
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get((latencies.len().saturating_sub(1)) * percent / 100).copied();
    let figures = Figures {
        messages: u64::try_from(latencies.len())?,
        seconds,
        batches,
        p50: at(50).context("nothing was delivered")?,
        p99: at(99).context("nothing was delivered")?,
        lag,
        wire,
    };
    let wrong = store.read(|view| view.verify()).await?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    primary.stop().await?;
    Ok(figures)
}

/// So many accounts.
pub async fn put_accounts(store: &Store, count: u64) -> Result<()> {
    for from in (0..count).step_by(1000) {
        let chunk = (from..count.min(from + 1000)).map(account).collect();
        store.put_accounts(chunk).await?.acknowledge()?;
    }
    Ok(())
}

/// A text of so many octets.
pub fn body(octets: usize) -> Bytes {
    (0..octets).map(|i| b'a' + u8::try_from(i * 7919 % 26).unwrap_or(0)).collect()
}

/// All clients at once; the seconds that they took, and every delivery's microseconds.
async fn deliver(store: &Store, plan: &Plan) -> Result<(f64, Vec<u64>)> {
    let body = body(plan.octets);
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let clients: Vec<_> = (0..plan.clients)
        .map(|_| tokio::spawn(client(store.clone(), next.clone(), body.clone(), (start, plan.clone()))))
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await??);
    }
    Ok((start.elapsed().as_secs_f64(), latencies))
}

async fn client(
    store: Store,
    next: Arc<AtomicU64>,
    body: Bytes,
    (start, plan): (Instant, Plan),
) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    while start.elapsed() < Duration::from_secs(plan.seconds) {
        let delivery = delivery(next.fetch_add(1, Ordering::Relaxed) * 7919 % plan.accounts, &body)?;
        let asked = Instant::now();
        store.deliver(delivery).await?.acknowledge()?;
        latencies.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok(latencies)
}

/// A message for an account.
pub fn delivery(user: u64, body: &Bytes) -> Result<Delivery> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let target = DeliveryTarget {
        account: AccountId(u128::from(user + 1)),
        recipient: format!("user{user}@example.org"),
        mailbox: "INBOX".into(),
        filing: None,
        prefix: Bytes::from_static(
            b"Return-Path: <sender@example.com>\r\nDelivered-To: user@example.org\r\n",
        ),
    };
    Ok(Delivery {
        id: DeliveryId::new(u64::try_from(now.as_millis())?)?,
        sender: "sender@example.com".into(),
        at: i64::try_from(now.as_secs())?,
        body: body.clone(),
        met: String::new(),
        targets: vec![target],
    })
}

fn account(n: u64) -> Account {
    Account {
        id: AccountId(u128::from(n + 1)),
        address: format!("user{n}@example.org"),
        store: StoreName::from(STORE),
        generation: 1,
        password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g".into(),
        quota_octets: 1 << 40,
        used_octets: 0,
        suspended: false,
        pending: false,
        tombstone: false,
    }
}
