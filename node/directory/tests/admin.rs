//! Administration over a unix socket, as a standalone node serves it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use common::World;
use mailcluster_directory::{
    LocalStore, StoreDialer, StoreQuery,
    serve::{AdminAccess, AdminServer},
};
use mailcluster_rpc::{
    admin::v1::{self as pb, admin_client::AdminClient},
    directory::v1::Secret,
};
use mailcluster_store::{Delivery, DeliveryTarget, Enqueue, QueueRecipient, Store};
use mailcluster_types::{DeliveryId, StoreName, Unavailable};
use tonic::{Code, transport::Channel};

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

/// A client, with `t-0` there and `t-1` away.
async fn client(world: &World, dir: &tempfile::TempDir, uid_shift: u32) -> AdminClient<Channel> {
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path()).unwrap());
    let stores = HashMap::from([
        (StoreName::from("t-0"), Some(world.stores[0].clone())),
        (StoreName::from("t-1"), None),
    ]);
    let access = AdminAccess::Socket { uid: uid + uid_shift };
    let routes = AdminServer::routes(world.directory.clone(), access, Arc::new(Dialer(stores)));
    AdminClient::new(common::over_socket(&dir.path().join("admin.sock"), routes).await)
}

fn password(text: &str) -> Option<pb::Credential> {
    Some(pb::Credential { kind: Some(pb::credential::Kind::Password(Secret::from(text))) })
}

#[tokio::test]
async fn a_day_of_administration() {
    let world = World::new(&["t-0"]);
    world.sync();
    let dir = tempfile::tempdir().unwrap();
    let mut admin = client(&world, &dir, 0).await;
    let add_domain = |name: &str| pb::AddDomainRequest { name: name.into() };
    admin.add_domain(add_domain("Example.org")).await.unwrap();
    assert_eq!(admin.add_domain(add_domain("example.org")).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(admin.add_domain(add_domain("a b")).await.unwrap_err().code(), Code::InvalidArgument);
    let new = pb::AddAccountRequest {
        address: "ann@example.org".into(),
        credential: password("secret"),
        wait_ms: 20_000,
        ..Default::default()
    };
    let account = admin.add_account(new).await.unwrap().into_inner();
    assert_eq!(account.state(), pb::AccountState::Active);
    assert_eq!((account.store.as_str(), account.password_scheme.as_str()), ("t-0", "ARGON2ID"));
    let asked = pb::SetSuspendedRequest { address: "ann@example.org".into(), suspended: true };
    let suspended = admin.set_suspended(asked).await.unwrap().into_inner();
    assert_eq!(suspended.state(), pb::AccountState::Suspended);
    let missing = pb::GetAccountRequest { address: "bob@example.org".into() };
    assert_eq!(admin.get_account(missing).await.unwrap_err().code(), Code::NotFound);
    let rows = (0..1500).map(|i| pb::ImportRow {
        line: i,
        address: format!("u{i}@example.org"),
        ..Default::default()
    });
    let rows: Vec<_> = rows.collect();
    let messages: Vec<_> =
        rows.chunks(500).map(|rows| pb::ImportAccountsRequest { rows: rows.to_vec() }).collect();
    let imported = admin.import_accounts(tokio_stream::iter(messages)).await.unwrap().into_inner();
    assert_eq!((imported.added, imported.failed), (1500, 0));
    for (limit, expected) in [(0, 1501), (7, 7)] {
        let asked = pb::ListAccountsRequest { domain: "example.org".into(), limit, ..Default::default() };
        let mut stream = admin.list_accounts(asked).await.unwrap().into_inner();
        let mut listed = 0;
        while stream.message().await.unwrap().is_some() {
            listed += 1;
        }
        assert_eq!(listed, expected);
    }
    let unknown = pb::ListAccountsRequest { domain: "no.org".into(), ..Default::default() };
    assert_eq!(admin.list_accounts(unknown).await.unwrap_err().code(), Code::NotFound);
    let asked = pb::DeleteDomainRequest { name: "example.org".into(), force: false };
    assert_eq!(admin.delete_domain(asked).await.unwrap_err().code(), Code::FailedPrecondition);
    let status = admin.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.domains, status.accounts, status.stores.len()), (1, 1501, 2));
    assert!(status.stores[0].reachable && !status.stores[1].reachable);
    let mut log = admin.list_audit(pb::ListAuditRequest { limit: 10 }).await.unwrap().into_inner();
    let newest = log.message().await.unwrap().unwrap();
    assert!(newest.what.starts_with("account import of") && newest.who.starts_with("uid "), "{newest:?}");
}

#[tokio::test]
async fn mail_is_traced_and_stores_that_are_away_are_named() {
    let world = World::ready(&["t-0"]).await;
    let ann = world.add("ann@example.org").await;
    let dir = tempfile::tempdir().unwrap();
    let mut admin = client(&world, &dir, 0).await;
    let id = DeliveryId::new(1_700_000_000_000).unwrap();
    let store = &world.stores[0];
    let target = DeliveryTarget {
        account: ann.id,
        recipient: "ann@example.org".into(),
        mailbox: "INBOX".into(),
        filing: None,
        prefix: Default::default(),
    };
    let delivery = Delivery {
        id,
        sender: String::new(),
        at: 1_700_000_000,
        body: "x\r\n".into(),
        met: "spf:pass,dmarc:none".into(),
        targets: vec![target],
    };
    store.deliver(delivery).await.unwrap().acknowledge().unwrap();
    let waiting = QueueRecipient {
        store: Some("t-1".into()),
        attempts: 2,
        last_error: "away".into(),
        ..QueueRecipient::new("bob@example.org".into(), 5)
    };
    let message = Enqueue {
        delivery: id,
        sender: "s@example.org".into(),
        at: 1_700_000_001,
        params: String::new(),
        recipients: vec![waiting],
        body: "x\r\n".into(),
    };
    store.queue_put(message).await.unwrap().acknowledge().unwrap();
    for key in [
        pb::trace_request::Key::Delivery(id.to_string()),
        pb::trace_request::Key::Recipient("Ann@example.org".into()),
    ] {
        let asked = pb::TraceRequest { key: Some(key), limit: 0 };
        let trace = admin.trace(asked).await.unwrap().into_inner();
        assert_eq!(trace.unreachable_stores, ["t-1"]);
        let first = trace.events[0].event.clone().unwrap();
        assert_eq!((first.event.as_str(), first.recipient.as_str()), ("delivered", "ann@example.org"));
        assert!(first.detail.contains("spf:pass,dmarc:none"), "{first:?}");
    }
    let queue = admin.list_queue(pb::ListQueueRequest::default()).await.unwrap().into_inner();
    let item = queue.entries[0].item.clone().unwrap();
    assert_eq!((item.delivery, item.recipients[0].last_error.as_str()), (id.to_string(), "away"));
    let nowhere = pb::ListQueueRequest { store: "t-9".into(), ..Default::default() };
    assert_eq!(admin.list_queue(nowhere).await.unwrap_err().code(), Code::NotFound);
    let garbage = pb::TraceRequest { key: Some(pb::trace_request::Key::Delivery("zz".into())), limit: 1 };
    let answer = admin.trace(garbage).await;
    assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_socket_serves_its_owner() {
    let world = World::ready(&["t-0"]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut admin = client(&world, &dir, 1).await;
    let answer = admin.get_status(pb::GetStatusRequest {}).await;
    let me_is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path()).unwrap()) == 0;
    assert_eq!(answer.is_ok(), me_is_root, "root may, others may not");
}
