//! Many accounts at once: import, export, and a directory made anew from its stores.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{collections::HashMap, sync::Arc, time::Instant};

use async_trait::async_trait;
use common::{World, login, names, until};
use futures::TryStreamExt;
use mailcluster_directory::{
    ImportOutcome, ImportRow, LocalStore, StoreDialer, StoreQuery, merge,
    serve::{AdminAccess, AdminServer},
};
use mailcluster_rpc::admin::v1::{MergeResponse, RebuildRequest, admin_client::AdminClient};
use mailcluster_store::{DirectoryRecord, Store};
use mailcluster_types::{Directory, StoreName, Unavailable};

const HASH: &str = "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME";

fn row(line: u64, address: &str, credential: &str) -> ImportRow {
    ImportRow { line, address: address.into(), credential: credential.into(), quota_octets: 7, store: None }
}

struct Dialer(HashMap<StoreName, Option<Store>>);

#[async_trait]
impl StoreDialer for Dialer {
    fn stores(&self) -> Result<Vec<StoreName>, Unavailable> {
        let mut names: Vec<_> = self.0.keys().cloned().collect();
        names.sort();
        Ok(names)
    }
    async fn dial(&self, store: &StoreName) -> Result<Arc<dyn StoreQuery>, Unavailable> {
        match self.0.get(store).cloned().flatten() {
            Some(store) => Ok(Arc::new(LocalStore(store))),
            None => Err(Unavailable("away".into())),
        }
    }
}

#[tokio::test]
async fn rows_are_taken_or_named() {
    let world = World::ready(&["t-0", "t-1"]).await;
    world.add("here@example.org").await;
    let mut on_one = row(8, "placed@example.org", "");
    on_one.store = Some("t-1".into());
    let mut nowhere = row(9, "lost@example.org", "");
    nowhere.store = Some("t-9".into());
    let rows = vec![
        row(1, "ann@example.org", "clear password"),
        row(2, "bob@example.org", HASH),
        row(3, "here@example.org", HASH),
        row(4, "ANN@example.org", HASH),
        row(5, "no address", HASH),
        row(6, "x@elsewhere.org", HASH),
        row(7, "y@example.org", "{MD5}abc"),
        on_one,
        nowhere,
    ];
    let mut outcome = ImportOutcome::default();
    world.directory.import_accounts("test", rows, &mut outcome).await.unwrap();
    assert_eq!((outcome.added, outcome.existing, outcome.failed), (3, 1, 5), "{outcome:?}");
    let mut lines: Vec<_> = outcome.errors.iter().map(|(line, _, _)| *line).collect();
    lines.sort_unstable();
    assert_eq!(lines, [4, 5, 6, 7, 9]);
    assert!(!format!("{outcome:?}").contains("abc"), "no hash in messages");
    let (ann, _) = world.directory.account("ann@example.org").await.unwrap();
    assert!(ann.password_hash.starts_with("$argon2id$") && ann.quota_octets == 7);
    assert_eq!(world.directory.account("bob@example.org").await.unwrap().0.password_hash, HASH);
    assert_eq!(world.directory.account("placed@example.org").await.unwrap().0.store.as_str(), "t-1");
    until("all are active", || async {
        let page = world.directory.accounts_page(None, "").await.unwrap();
        page.accounts.len() == 4 && page.accounts.iter().all(|a| !a.pending)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_come_in_and_go_round() {
    let world = World::ready(&["t-0", "t-1"]).await;
    let started = Instant::now();
    let mut outcome = ImportOutcome::default();
    for batch in 0..20 {
        let rows = (0..1000).map(|i| row(i, &format!("u{batch}-{i}@example.org"), HASH)).collect();
        world.directory.import_accounts("test", rows, &mut outcome).await.unwrap();
    }
    println!("imported 20000 accounts with hashes in {:?}", started.elapsed());
    assert_eq!((outcome.added, outcome.failed), (20_000, 0));
    until("all are active", || async {
        let newest = world.directory.accounts_page(None, "u9-998@").await.unwrap();
        let last = world.directory.accounts_page(None, "u19-998@").await.unwrap();
        newest.accounts.iter().chain(&last.accounts).all(|a| !a.pending)
    })
    .await;
    println!("active on their stores after {:?}", started.elapsed());
    let exported: Vec<DirectoryRecord> = world.directory.export_records().try_collect().await.unwrap();
    assert_eq!(exported.len(), 20_001);
    assert_eq!(merge([], exported).accounts.len(), 20_000);
}

/// Two stores with two accounts, the tombstone of a third, and an alias of both.
async fn populated() -> (World, HashMap<StoreName, Option<Store>>) {
    let world = World::ready(&["t-0", "t-1"]).await;
    for user in ["ann", "bob", "cid"] {
        world.add(&format!("{user}@example.org")).await;
    }
    world.directory.delete_account("test", "cid@example.org").await.unwrap();
    let both = ["ann@example.org".to_owned(), "bob@example.org".to_owned()];
    world.directory.add_alias("test", "all@example.org", &both, false).await.unwrap();
    until("every store has what is its own", || async {
        let mut tombstones = 0;
        for store in &world.stores {
            let (accounts, alias) = store
                .read(|v| Ok((v.accounts(None, 100)?, v.alias("all@example.org")?.is_some())))
                .await
                .unwrap();
            tombstones += accounts.iter().filter(|a| a.tombstone).count();
            if !alias {
                return false;
            }
        }
        tombstones == 1
    })
    .await;
    let stores = world.stores.iter().map(|s| (s.identity().store, Some(s.clone()))).collect();
    (world, stores)
}

/// `directory rebuild` of this directory from these stores; those without one are away.
async fn rebuild(
    into: &World,
    stores: HashMap<StoreName, Option<Store>>,
    partial: bool,
) -> Result<MergeResponse, tonic::Status> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path()).unwrap());
    let access = AdminAccess::Socket { uid };
    let routes = AdminServer::routes(into.directory.clone(), access, Arc::new(Dialer(stores)));
    let channel = common::over_socket(&path, routes).await;
    AdminClient::new(channel).rebuild(RebuildRequest { partial }).await.map(|r| r.into_inner())
}

#[tokio::test]
async fn a_lost_directory_is_rebuilt_from_the_stores() {
    let (_world, stores) = populated().await;
    let fresh = World::new(&["t-0", "t-1"]);
    let mut one_away = stores.clone();
    one_away.insert("t-1".into(), None);
    assert_eq!(rebuild(&fresh, one_away, false).await.unwrap_err().code(), tonic::Code::Unavailable);
    assert!(fresh.directory.resolve(&"ann@example.org".parse().unwrap()).await.is_err(), "still empty");
    let counts = rebuild(&fresh, stores.clone(), false).await.unwrap();
    assert_eq!((counts.accounts, counts.aliases, counts.domains), (3, 1, 1), "{counts:?}");
    for (asked, expected) in [
        ("ann@example.org", vec!["ann@example.org"]),
        ("all@example.org", vec!["ann@example.org", "bob@example.org"]),
        ("cid@example.org", vec!["NoSuchMailbox"]),
    ] {
        let resolution = fresh.directory.resolve(&asked.parse().unwrap()).await.unwrap();
        assert_eq!(names(&resolution), expected, "{asked}");
    }
    let counts = rebuild(&fresh, stores, false).await.unwrap();
    assert_eq!((counts.accounts, counts.unchanged), (0, 5), "a second time changes nothing");
}

/// One store is left out: what only it tells of is not known to be unknown, until it is asked, too.
#[tokio::test]
async fn a_partly_rebuilt_directory_never_says_no() {
    let (_world, stores) = populated().await;
    let mut one_away = stores.clone();
    one_away.insert("t-1".into(), None);
    let poor = World::new(&["t-0", "t-1"]);
    let counts = rebuild(&poor, one_away, true).await.unwrap();
    assert_eq!(counts.unreachable_stores, ["t-1"]);
    let there: Vec<bool> = futures::future::join_all(["ann", "bob", "nobody"].map(|user| {
        let (address, directory) = (format!("{user}@example.org"), poor.directory.clone());
        async move { directory.resolve(&address.parse().unwrap()).await.is_ok() }
    }))
    .await;
    assert_eq!(there.iter().filter(|there| **there).count(), 1, "one of two is found, nobody is unknown");
    assert!(poor.directory.resolve(&"x@elsewhere.org".parse().unwrap()).await.is_err());
    let attempt = poor.directory.authenticate(&login("nobody@example.org", "x", "192.0.2.1")).await;
    assert!(attempt.is_err(), "not a rejection: {attempt:?}");
    rebuild(&poor, stores, false).await.unwrap();
    let resolution = poor.directory.resolve(&"nobody@example.org".parse().unwrap()).await.unwrap();
    assert_eq!(names(&resolution), ["NoSuchMailbox"]);
}
