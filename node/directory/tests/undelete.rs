//! Expunged mail comes back by way of administration, over the network as well, page by page and once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use common::World;
use mailcluster_directory::{
    RemoteStore, StoreDialer, StoreQuery,
    serve::{AdminAccess, AdminServer, StoreAdminServer},
};
use mailcluster_rpc::{
    admin::v1::{self as pb, admin_client::AdminClient},
    store::v1 as store_pb,
};
use mailcluster_store::{
    Delivery, DeliveryTarget, Expunge, Identity, OpenGate, Options, Replica, Store, StoreKind,
};
use mailcluster_types::{AccountId, ClusterId, DeliveryId, ReplicaId, StoreName, Unavailable};
use tonic::{Code, transport::Channel};

struct Dialer(HashMap<StoreName, Arc<dyn StoreQuery>>);

#[async_trait]
impl StoreDialer for Dialer {
    fn stores(&self) -> Result<Vec<StoreName>, Unavailable> {
        Ok(self.0.keys().cloned().collect())
    }
    async fn dial(&self, store: &StoreName) -> Result<Arc<dyn StoreQuery>, Unavailable> {
        self.0.get(store).cloned().ok_or_else(|| Unavailable("away".into()))
    }
}

/// A store that keeps what is expunged for an hour.
fn store(dir: &std::path::Path) -> Store {
    let identity =
        Identity { cluster: ClusterId(1), store: "t-0".into(), replica: ReplicaId(9), kind: StoreKind::Mail };
    let options = Options::default().with_undelete(std::time::Duration::from_secs(3600));
    let replica = Replica::initialise_with(dir, &identity, &options).unwrap();
    replica.serve(1, &[ReplicaId(9)], Arc::new(OpenGate)).unwrap()
}

async fn deliver(store: &Store, account: AccountId, n: u128) {
    let target = DeliveryTarget {
        account,
        recipient: "ann@example.org".into(),
        mailbox: "INBOX".into(),
        filing: None,
        prefix: Default::default(),
    };
    let delivery = Delivery {
        id: DeliveryId(1_700_000_000_000 << 80 | n),
        sender: String::new(),
        at: 1_700_000_000,
        body: format!("Subject: =?utf-8?Q?n=C2=B0_{n}?=\r\n\r\ntext\r\n").into(),
        met: String::new(),
        targets: vec![target],
    };
    store.deliver(delivery).await.unwrap().acknowledge().unwrap();
}

async fn client(world: &World, dir: &std::path::Path, dialer: Dialer) -> AdminClient<Channel> {
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir).unwrap());
    let routes = AdminServer::routes(world.directory.clone(), AdminAccess::Socket { uid }, Arc::new(dialer));
    AdminClient::new(common::over_socket(&dir.join("admin.sock"), routes).await)
}

fn asked(address: &str, page: store_pb::UndeleteRequest) -> pb::UndeleteRequest {
    pb::UndeleteRequest { address: address.into(), page: Some(page) }
}

async fn audit(admin: &mut AdminClient<Channel>) -> Vec<String> {
    let mut stream = admin.list_audit(pb::ListAuditRequest { limit: 3 }).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(entry) = stream.message().await.unwrap() {
        told.push(entry.what);
    }
    told
}

#[tokio::test]
async fn expunged_mail_comes_back_over_the_network_page_by_page_and_once() {
    let mut world = World::new(&["t-0"]);
    let (mail, sockets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(mail.path());
    world.stores = vec![store.clone()];
    world.sync();
    world.directory.add_domain("test", "example.org").await.unwrap();
    let account = world.add("ann@example.org").await;
    for n in 1..=5 {
        deliver(&store, account.id, n).await;
    }
    let id = account.id;
    let inbox = store.read(move |v| v.mailbox_by_name(id, "INBOX")).await.unwrap().unwrap().id;
    let gone = Expunge::These((1..=5).collect());
    store.expunge(inbox, gone).await.unwrap().acknowledge().unwrap();

    let routes = StoreAdminServer::routes(store.clone(), Arc::new(|_, _| true));
    let remote = RemoteStore::new(common::over_socket(&sockets.path().join("store.sock"), routes).await);
    let there: Arc<dyn StoreQuery> = Arc::new(remote);
    let mut admin = client(&world, sockets.path(), Dialer([("t-0".into(), there)].into())).await;

    let dry = store_pb::UndeleteRequest { dry_run: true, ..Default::default() };
    let listed = admin.undelete(asked("Ann@Example.org", dry.clone())).await.unwrap().into_inner();
    assert_eq!((listed.messages.len(), listed.next, listed.mailboxes), (5, None, 0));
    let first = &listed.messages[0];
    assert_eq!((first.mailbox.as_str(), first.uid, first.subject.as_str()), ("INBOX", 1, "n\u{b0} 1"));
    assert!(!first.mailbox_is_gone && first.date == 1_700_000_000 && first.expunged_at > first.date);
    assert_eq!(audit(&mut admin).await[0], "account undelete ann@example.org --dry-run");
    let none = store_pb::UndeleteRequest { mailbox: "Sent".into(), ..dry.clone() };
    assert!(admin.undelete(asked("ann@example.org", none)).await.unwrap().into_inner().messages.is_empty());

    // Two at a time, each page behind the last one.
    let (mut page, mut came) = (store_pb::UndeleteRequest { limit: 2, ..Default::default() }, Vec::new());
    loop {
        let answer = admin.undelete(asked("ann@example.org", page.clone())).await.unwrap().into_inner();
        came.extend(answer.messages.iter().map(|message| message.uid));
        page.after = answer.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(came, [1, 2, 3, 4, 5]);
    let told = audit(&mut admin).await;
    assert_eq!(told[0], "account undelete ann@example.org: 1 messages came back", "{told:?}");
    assert_eq!(store.read(move |v| v.uids(inbox)).await.unwrap(), [6, 7, 8, 9, 10]);
    let again = asked("ann@example.org", store_pb::UndeleteRequest::default());
    assert!(admin.undelete(again).await.unwrap().into_inner().messages.is_empty(), "a second time");

    // What is refused says why, and is noted.
    store.expunge(inbox, Expunge::These(vec![6])).await.unwrap().acknowledge().unwrap();
    let bad = store_pb::UndeleteRequest { into: "a//b".into(), ..Default::default() };
    let refused = admin.undelete(asked("ann@example.org", bad)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let told = audit(&mut admin).await;
    assert!(told[0].starts_with("failed: account undelete ann@example.org --into a//b: "), "{told:?}");
    let long = store_pb::UndeleteRequest { mailbox: "x".repeat(1001), ..Default::default() };
    let refused = admin.undelete(asked("ann@example.org", long)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let unknown = admin.undelete(asked("bob@example.org", dry.clone())).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let into = store_pb::UndeleteRequest { into: "Back/again".into(), ..Default::default() };
    let answer = admin.undelete(asked("ann@example.org", into)).await.unwrap().into_inner();
    assert_eq!((answer.messages.len(), answer.mailboxes), (1, 2));

    let mut away = client(&world, tempfile::tempdir().unwrap().path(), Dialer(HashMap::new())).await;
    let refused = away.undelete(asked("ann@example.org", dry)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}
