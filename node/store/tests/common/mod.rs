//! What the tests share.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "tests; each file uses a part of it")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use mailcluster_store::{
    Account, Delivered, Delivery, DeliveryTarget, Identity, Mailbox, OpenGate, Replica, Store, StoreKind,
};
use mailcluster_types::{AccountId, ClusterId, DeliveryId, ReplicaId, StoreName};

pub const STORE: &str = "mail-0";
static NEXT: AtomicU64 = AtomicU64::new(1);

pub fn identity() -> Identity {
    Identity {
        cluster: ClusterId(7),
        store: StoreName::from(STORE),
        replica: ReplicaId(9),
        kind: StoreKind::Mail,
    }
}

pub fn directory() -> Identity {
    Identity { store: StoreName::from("mail-directory"), kind: StoreKind::Directory, ..identity() }
}

pub fn account(n: u128) -> Account {
    Account {
        id: AccountId(n),
        address: format!("user{n}@example.org"),
        store: StoreName::from(STORE),
        generation: 1,
        password_hash: String::new(),
        quota_octets: 0,
        used_octets: 0,
        suspended: false,
        pending: false,
        tombstone: false,
    }
}

pub fn target(n: u128) -> DeliveryTarget {
    DeliveryTarget {
        account: AccountId(n),
        recipient: format!("user{n}@example.org"),
        mailbox: "INBOX".into(),
        filing: None,
        prefix: Bytes::from(format!("Delivered-To: user{n}@example.org\r\n")),
    }
}

/// Ids that rise, with a time in them.
pub fn delivery_id() -> DeliveryId {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    DeliveryId(u128::from(1_700_000_000_000 + n) << 80 | u128::from(n))
}

pub fn delivery(targets: Vec<DeliveryTarget>, body: &str) -> Delivery {
    Delivery {
        id: delivery_id(),
        sender: "sender@example.com".into(),
        at: 1_700_000_000,
        body: Bytes::from(body.to_owned()),
        met: String::new(),
        targets,
    }
}

/// A store in a fresh directory, with accounts 1..=`accounts`.
pub async fn store(accounts: u128) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::initialise(dir.path(), &identity()).unwrap();
    let store = replica.serve(1, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap();
    for n in 1..=accounts {
        store.put_account(account(n)).await.unwrap().acknowledge().unwrap();
    }
    (dir, store)
}

/// Stops and opens again at the next epoch.
pub async fn reopen(dir: &tempfile::TempDir, store: Store) -> Store {
    let epoch = store.epoch() + 1;
    drop(store.stop().await);
    let replica = Replica::open(dir.path(), &identity()).unwrap();
    assert_eq!(replica.view().verify().unwrap(), Vec::<String>::new());
    replica.serve(epoch, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap()
}

pub async fn mailbox(store: &Store, n: u128, name: &str) -> Mailbox {
    let name = name.to_owned();
    store.read(move |v| v.mailbox_by_name(AccountId(n), &name)).await.unwrap().unwrap()
}

pub async fn deliver(store: &Store, n: u128, body: &str) -> (u64, u32) {
    let delivered = store.deliver(delivery(vec![target(n)], body)).await.unwrap().acknowledge().unwrap();
    match delivered.as_slice() {
        [Delivered::Stored { mailbox, uid }] => (*mailbox, *uid),
        other => panic!("{other:?}"),
    }
}

pub async fn sound(store: &Store) {
    assert_eq!(store.read(|v| v.verify()).await.unwrap(), Vec::<String>::new());
}
