//! How fast mail becomes durable: N clients deliver messages of one size, each waiting for its receipt.
//!
//! `load DIR [CLIENTS=64] [OCTETS=8192] [MESSAGES=50000] [ACCOUNTS=10000] [THREADS=2]`; DIR must be on a disk, and empty. Prints deliveries
//! per second with latencies, then what the bare log does: the same octets in the same batches, written and synced,
//! and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark stops at the first error")]

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use mailcluster_store::{Account, Delivery, DeliveryTarget, Identity, OpenGate, Replica, Store, StoreKind};
use mailcluster_types::{AccountId, ClusterId, DeliveryId, ReplicaId, StoreName};

struct Settings {
    clients: u64,
    octets: usize,
    messages: u64,
    accounts: u64,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("usage: load DIR [CLIENTS] [OCTETS] [MESSAGES] [ACCOUNTS]");
    let mut number = |default: u64| args.next().map_or(default, |a| a.parse().expect("a number"));
    let settings = Settings {
        clients: number(64),
        octets: usize::try_from(number(8192)).unwrap(),
        messages: number(50_000),
        accounts: number(10_000),
    };
    let threads = usize::try_from(number(2)).unwrap();
    let dir = Path::new(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().unwrap();
    let batches = runtime.block_on(run(&dir.join("store"), &settings));
    bare(&dir.join("bare"), &settings, batches);
}

async fn run(dir: &Path, settings: &Settings) -> u64 {
    let identity = Identity {
        cluster: ClusterId(1),
        store: StoreName::from("load-0"),
        replica: ReplicaId(1),
        kind: StoreKind::Mail,
    };
    let replica = Replica::initialise(dir, &identity).expect("an empty directory on a disk");
    let store = replica.serve(1, &[ReplicaId(1)], Arc::new(OpenGate)).unwrap();
    let start = Instant::now();
    for from in (0..settings.accounts).step_by(1000) {
        let chunk = (from..settings.accounts.min(from + 1000)).map(account).collect();
        store.put_accounts(chunk).await.unwrap().acknowledge().unwrap();
    }
    println!("{} accounts in {:.2} s", settings.accounts, start.elapsed().as_secs_f64());

    let body: Bytes = (0..settings.octets).map(|i| b'a' + u8::try_from(i * 7919 % 26).unwrap()).collect();
    let next = Arc::new(AtomicU64::new(0));
    let before = batches(dir);
    let start = Instant::now();
    let tasks: Vec<_> = (0..settings.clients)
        .map(|_| {
            let (store, next, body) = (store.clone(), next.clone(), body.clone());
            let (messages, accounts) = (settings.messages, settings.accounts);
            tokio::spawn(async move { client(&store, &next, &body, messages, accounts).await })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 1000];
    println!(
        "store: {} clients x {} octets: {:.0} msg/s, p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        settings.clients,
        settings.octets,
        settings.messages as f64 / seconds,
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    let wrong = store.read(|v| v.verify()).await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    drop(store.stop().await);
    batches(dir) - before
}

async fn client(store: &Store, next: &AtomicU64, body: &Bytes, messages: u64, accounts: u64) -> Vec<u64> {
    let mut latencies = Vec::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= messages {
            return latencies;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let id = DeliveryId::new(u64::try_from(now.as_millis()).unwrap()).unwrap();
        let user = n * 7919 % accounts;
        let target = DeliveryTarget {
            account: AccountId(u128::from(user + 1)),
            recipient: format!("user{user}@example.org"),
            mailbox: "INBOX".into(),
            prefix: Bytes::from_static(
                b"Return-Path: <sender@example.com>\r\nDelivered-To: user@example.org\r\n",
            ),
        };
        let delivery = Delivery {
            id,
            sender: "sender@example.com".into(),
            at: i64::try_from(now.as_secs()).unwrap(),
            body: body.clone(),
            targets: vec![target],
        };
        let start = Instant::now();
        store.deliver(delivery).await.unwrap().acknowledge().unwrap();
        latencies.push(u64::try_from(start.elapsed().as_micros()).unwrap());
    }
}

fn account(n: u64) -> Account {
    Account {
        id: AccountId(u128::from(n + 1)),
        address: format!("user{n}@example.org"),
        store: StoreName::from("load-0"),
        generation: 1,
        password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g".into(),
        quota_octets: 1 << 40,
        used_octets: 0,
        suspended: false,
        pending: false,
        tombstone: false,
    }
}

/// Batches in the log: how often it was synced.
fn batches(dir: &Path) -> u64 {
    let mut count = 0;
    for entry in std::fs::read_dir(dir.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(path).unwrap();
        let mut at = 4096;
        while bytes.get(at..at + 4) == Some(b"MCB1") {
            let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
            at += (80 + usize::try_from(length).unwrap()).next_multiple_of(8);
            count += 1;
        }
    }
    count
}

/// As many octets in as many batches, appended to a file as plainly as can be.
fn bare(path: &Path, settings: &Settings, batches: u64) {
    let per_batch = settings.messages.div_ceil(batches.max(1));
    let size = usize::try_from(per_batch).unwrap() * (settings.octets + 200);
    let buffer = vec![7; size];
    let file = File::create(path).unwrap();
    let start = Instant::now();
    let count = settings.messages / per_batch;
    for n in 0..count {
        file.write_all_at(&buffer, n * size as u64).unwrap();
        file.sync_data().unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "bare log: {} batches of {} messages: {:.0} msg/s, {:.0} syncs/s",
        count,
        per_batch,
        (count * per_batch) as f64 / seconds,
        count as f64 / seconds
    );
    std::fs::remove_file(path).unwrap();
}
