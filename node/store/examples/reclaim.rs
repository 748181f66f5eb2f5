//! What giving room back costs: a store is filled, most of it is expunged, and while clients go on delivering, the room is
//! given back.
//!
//! `reclaim DIR [MESSAGES=250000] [OCTETS=8192] [CLIENTS=16] [GONE=80]`; DIR must be on a disk, and empty. Prints the
//! latencies of deliveries before, meanwhile and afterwards, and what the log takes. The newest GiB of a log is never
//! given back: fewer messages show nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark stops at the first error")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use mailcluster_store::{
    Account, Delivery, DeliveryTarget, Expunge, Identity, OpenGate, Replica, Store, StoreKind,
};
use mailcluster_types::{AccountId, ClusterId, DeliveryId, ReplicaId, StoreName};

const ACCOUNTS: u64 = 1000;

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("usage: reclaim DIR [MESSAGES] [OCTETS] [CLIENTS] [GONE]");
    let mut number = |default: u64| args.next().map_or(default, |a| a.parse().expect("a number"));
    let (messages, octets, clients, gone) = (number(250_000), number(8192), number(16), number(80));
    let body = (0..octets).map(|i| b'a' + u8::try_from(i * 7919 % 26).unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(Path::new(&dir), messages, body, (clients, gone)));
}

async fn run(dir: &Path, messages: u64, body: Bytes, (clients, gone): (u64, u64)) {
    let identity = Identity {
        cluster: ClusterId(1),
        store: StoreName::from("load-0"),
        replica: ReplicaId(1),
        kind: StoreKind::Mail,
    };
    let replica = Replica::initialise(dir, &identity).expect("an empty directory on a disk");
    let store = replica.serve(1, &[ReplicaId(1)], Arc::new(OpenGate)).unwrap();
    store.put_accounts((0..ACCOUNTS).map(account).collect()).await.unwrap().acknowledge().unwrap();
    let left = Arc::new(AtomicU64::new(messages));
    let filling =
        move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
    report("filling", &load(&store, 64, &body, filling).await);
    println!("the log: {} MiB", log_octets(dir) >> 20);
    for n in 0..ACCOUNTS {
        let inbox = store.read(move |v| v.mailbox_by_name(id(n), "INBOX")).await.unwrap().unwrap();
        let uids = (1..inbox.uid_next).filter(|uid| u64::from(*uid) * 7919 % 100 < gone).collect();
        store.expunge(inbox.id, Expunge::These(uids)).await.unwrap().acknowledge().unwrap();
    }
    for when in ["without", "meanwhile", "afterwards"] {
        let is_over = Arc::new(AtomicBool::new(false));
        let watched = is_over.clone();
        let task = tokio::spawn({
            let (store, body) = (store.clone(), body.clone());
            async move { load(&store, clients, &body, move || !watched.load(Ordering::Relaxed)).await }
        });
        let began = Instant::now();
        if when == "meanwhile" {
            let done = store.reclaim().await.unwrap();
            println!("{done:?} in {:.1} s", began.elapsed().as_secs_f64());
        } else {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        is_over.store(true, Ordering::Relaxed);
        report(when, &task.await.unwrap());
        println!("the log: {} MiB", log_octets(dir) >> 20);
    }
    let wrong = store.read(|v| v.verify()).await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    drop(store.stop().await);
}

fn report(when: &str, latencies: &[u64]) {
    let at = |permille: usize| latencies[(latencies.len() - 1) * permille / 1000];
    println!(
        "{when}: {} deliveries, p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        latencies.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}

async fn load(
    store: &Store,
    clients: u64,
    body: &Bytes,
    go_on: impl Fn() -> bool + Send + Sync + 'static,
) -> Vec<u64> {
    let go_on = Arc::new(go_on);
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (store, body, go_on) = (store.clone(), body.clone(), go_on.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while go_on() {
                    let delivery = delivery(client + u64::try_from(latencies.len()).unwrap() * 61, &body);
                    let start = Instant::now();
                    store.deliver(delivery).await.unwrap().acknowledge().unwrap();
                    latencies.push(u64::try_from(start.elapsed().as_micros()).unwrap());
                }
                latencies
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_unstable();
    all
}

fn id(n: u64) -> AccountId {
    AccountId(u128::from(n + 1))
}

fn delivery(n: u64, body: &Bytes) -> Delivery {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let user = n * 7919 % ACCOUNTS;
    let target = DeliveryTarget {
        account: id(user),
        recipient: format!("user{user}@example.org"),
        mailbox: "INBOX".into(),
        prefix: Bytes::from_static(b"Return-Path: <sender@example.com>\r\n"),
    };
    Delivery {
        id: DeliveryId::new(u64::try_from(now.as_millis()).unwrap()).unwrap(),
        sender: "sender@example.com".into(),
        at: i64::try_from(now.as_secs()).unwrap(),
        body: body.clone(),
        met: String::new(),
        targets: vec![target],
    }
}

fn account(n: u64) -> Account {
    Account {
        id: id(n),
        address: format!("user{n}@example.org"),
        store: StoreName::from("load-0"),
        generation: 1,
        password_hash: String::new(),
        quota_octets: 0,
        used_octets: 0,
        suspended: false,
        pending: false,
        tombstone: false,
    }
}

/// Octets of the log's files.
fn log_octets(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("log")).unwrap();
    files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
