//! What a forced promotion left behind, from a copy's volume through administration into the store that serves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{collections::HashMap, path::Path, sync::Arc};

use async_trait::async_trait;
use common::World;
use mailcluster_directory::{
    LocalStore, RemoteStore, StoreDialer, StoreQuery,
    serve::{AdminAccess, AdminServer, StoreAdminServer},
};
use mailcluster_rpc::{
    admin::v1::{self as pb, admin_client::AdminClient},
    store::v1::SalvageResponse,
};
use mailcluster_store::{
    Account, Delivery, DeliveryTarget, FlagChange, FlagOp, Flags, Follower, Identity, LogReader, Names,
    OpenGate, Replica, Store, StoreKind, SystemFlag, left_behind,
};
use mailcluster_types::{AccountId, ClusterId, DeliveryId, ReplicaId, StoreName, Unavailable};
use tonic::{Code, Status, transport::Channel};

const ANN: AccountId = AccountId(1);

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

fn identity(replica: u128) -> Identity {
    Identity {
        cluster: ClusterId(1),
        store: "t-0".into(),
        replica: ReplicaId(replica),
        kind: StoreKind::Mail,
    }
}

async fn deliver(store: &Store, n: u128) {
    let target = DeliveryTarget {
        account: ANN,
        recipient: "ann@example.org".into(),
        mailbox: "INBOX".into(),
        filing: None,
        prefix: Default::default(),
    };
    let delivery = Delivery {
        id: DeliveryId(1_700_000_000_000 << 80 | n),
        sender: String::new(),
        at: 1_700_000_000,
        body: format!("Subject: {n}\r\n\r\n{}", "x".repeat(200_000)).into(),
        met: String::new(),
        targets: vec![target],
    };
    store.deliver(delivery).await.unwrap().acknowledge().unwrap();
}

async fn inbox(store: &Store) -> (u64, usize) {
    let read = store.read(|view| {
        let mailbox = view.mailbox_by_name(ANN, "INBOX")?.unwrap();
        Ok((mailbox.id, view.uids(mailbox.id)?.len()))
    });
    read.await.unwrap()
}

async fn flag(store: &Store, flag: SystemFlag) {
    let (mailbox, _) = inbox(store).await;
    let flags = Flags::default().with(flag);
    let change = FlagChange { mailbox, uids: vec![1, 2], op: FlagOp::Replace, flags, unchanged_since: None };
    store.set_flags(change).await.unwrap().acknowledge().unwrap();
}

fn account() -> Account {
    Account {
        id: ANN,
        address: "ann@example.org".into(),
        store: "t-0".into(),
        generation: 1,
        password_hash: String::new(),
        quota_octets: 0,
        used_octets: 0,
        suspended: false,
        pending: false,
        tombstone: false,
    }
}

/// Ten messages of both lines; eight more, and flags, on the one that is left behind. Answers where they part, and the store
/// of the new line.
async fn parted(old: &Path, new: &Path) -> (u64, Store) {
    let follower = |dir: &Path, id| Follower::new(Replica::initialise(dir, &identity(id)).unwrap()).unwrap();
    let mut first = follower(old, 9);
    let (_, end) = first.begin(1, &[ReplicaId(9)]).unwrap();
    first.advance(end).unwrap();
    let store = first.into_replica().go_on(Arc::new(OpenGate)).unwrap();
    store.put_account(account()).await.unwrap().acknowledge().unwrap();
    for n in 0..10 {
        deliver(&store, n).await;
    }
    let (_, shared) = store.committed();
    let mut mirror = follower(new, 10);
    let mut reader = LogReader::after(old, identity(9), 0).unwrap();
    while let Some(batch) = reader.next(shared).unwrap() {
        mirror.append(1, std::slice::from_ref(&batch)).unwrap();
    }
    mirror.advance(shared).unwrap();
    for n in 10..18 {
        deliver(&store, n).await;
    }
    flag(&store, SystemFlag::Seen).await;
    drop(store.stop().await);
    let (_, start) = mirror.begin_forced(2, &[ReplicaId(10)], Names::Kept).unwrap();
    mirror.advance(start).unwrap();
    (shared, mirror.into_replica().go_on(Arc::new(OpenGate)).unwrap())
}

fn file(dir: &Path, after: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    left_behind::gather(dir, (1, after), &mut octets, &mut |_, _| {}).unwrap();
    octets
}

async fn send(admin: &mut AdminClient<Channel>, store: &str, file: &[u8]) -> Result<SalvageResponse, Status> {
    let first = pb::SalvageRequest { store: store.to_owned(), octets: Vec::new() };
    let part = |octets: &[u8]| pb::SalvageRequest { store: String::new(), octets: octets.to_vec() };
    let parts: Vec<_> = std::iter::once(first).chain(file.chunks(100_000).map(part)).collect();
    admin.salvage(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_file_goes_to_its_store_once_from_where_the_lines_part_and_is_written_down() {
    let [old, new, sockets] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (shared, store) = parted(old.path(), new.path()).await;
    let world = World::new(&["t-1"]);
    // The store is asked over the network, as in a cluster.
    let routes = StoreAdminServer::routes(store.clone(), Arc::new(|_, _| true));
    let remote = RemoteStore::new(common::over_socket(&sockets.path().join("store.sock"), routes).await);
    let other: Arc<dyn StoreQuery> = Arc::new(LocalStore(world.stores[0].clone()));
    let stores =
        HashMap::from([("t-0".into(), Arc::new(remote) as Arc<dyn StoreQuery>), ("t-1".into(), other)]);
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(sockets.path()).unwrap());
    let access = AdminAccess::Socket { uid };
    let routes = AdminServer::routes(world.directory.clone(), access, Arc::new(Dialer(stores)));
    let mut admin = AdminClient::new(common::over_socket(&sockets.path().join("admin.sock"), routes).await);

    let right = file(old.path(), shared);
    for (name, octets, code, part) in [
        ("t-0", file(old.path(), shared - 1), Code::FailedPrecondition, format!("--after 1/{shared}")),
        ("t-0", b"Subject: not such a file\r\n".to_vec(), Code::InvalidArgument, "no file that".into()),
        ("t-0", Vec::new(), Code::InvalidArgument, "no file that".into()),
        ("t-1", right.clone(), Code::InvalidArgument, "is of store t-0".into()),
        ("t-2", right.clone(), Code::NotFound, "no store t-2".into()),
    ] {
        let refused = send(&mut admin, name, &octets).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(&part), "{refused:?}");
    }
    assert_eq!(inbox(&store).await.1, 10, "nothing was taken over by mistake");
    assert_eq!(store.stats().last_salvage(), None);
    let flipped = {
        let mut octets = right.clone();
        let at = octets.len() - 1000;
        octets[at] ^= 1;
        octets
    };
    assert_eq!(send(&mut admin, "t-0", &flipped).await.unwrap_err().code(), Code::InvalidArgument);
    let cut = send(&mut admin, "t-0", &right[..right.len() - 1]).await.unwrap_err();
    assert_eq!(cut.code(), Code::Aborted, "{cut:?}");

    let done = send(&mut admin, "t-0", &right).await.unwrap();
    assert_eq!(inbox(&store).await.1, 18);
    assert_eq!(done.kept, 0, "{done:?}");
    let again = send(&mut admin, "t-0", &right).await.unwrap();
    assert_eq!(again, SalvageResponse::default());
    flag(&store, SystemFlag::Answered).await;
    let last = send(&mut admin, "t-0", &right).await.unwrap();
    assert_eq!((last.kept, last.kept_lines.len(), last.flags), (2, 2, 0), "{last:?}");
    // What is told of it afterwards: all that came, by whichever try, and what the last one did not take over.
    let told = store.stats().last_salvage().unwrap();
    assert_eq!((told.counts.messages, told.kept), (8, 2), "{told:?}");
    assert_eq!(store.read(|view| view.verify()).await.unwrap(), Vec::<String>::new());
    let log = world.directory.audit_log(100).await.unwrap();
    assert!(log.iter().any(|(_, _, what)| what.starts_with("store salvage t-0: ")), "{log:?}");
    assert!(log.iter().any(|(_, _, what)| what.starts_with("failed: store salvage t-0")), "{log:?}");
}
