//! Keys of domains: made and put to use by administrators, had by signers through the network, kept when the directory
//! is away, and part of what a directory is rebuilt from.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use common::World;
use mailcluster_directory::{
    AdminError, ChannelSource, RemoteConfig, RemoteDirectory, SendLimits,
    serve::{DirectoryServer, Wish},
};
use mailcluster_rpc::directory::v1::KeyState::{self, Active, Pending, Retiring};
use mailcluster_types::{Directory, KeyAlgorithm, Unavailable};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const DOMAIN: &str = "example.org";

async fn states(world: &World) -> Vec<KeyState> {
    world.directory.domain_keys(DOMAIN).await.unwrap().iter().map(|key| key.state()).collect()
}

#[tokio::test]
async fn keys_are_made_used_and_retired_and_the_audit_log_tells_who_did_it() {
    let world = World::ready(&["t-0"]).await;
    let directory = &world.directory;
    assert!(matches!(directory.rotate_domain_keys("ann", "example.net").await, Err(AdminError::NotFound(_))));
    assert!(matches!(directory.activate_domain_keys("ann", DOMAIN).await, Err(AdminError::Refused(_))));
    let made = directory.rotate_domain_keys("ann", DOMAIN).await.unwrap();
    assert_eq!(states(&world).await, [Pending, Pending]);
    assert!(directory.signing_keys(DOMAIN).await.unwrap().keys.is_empty(), "nobody can verify them yet");
    assert!(made[0].record_name.ends_with("._domainkey.example.org"));
    assert!(made[0].record_text.starts_with("v=DKIM1; k=rsa; p=MIIB"), "{}", made[0].record_text);
    directory.activate_domain_keys("bob", DOMAIN).await.unwrap();
    let first = directory.signing_keys("Mail.Example.org").await.unwrap();
    assert_eq!(first.domain, DOMAIN, "a name below the domain is signed for by it");
    let algorithms: Vec<_> = first.keys.iter().map(|key| key.algorithm).collect();
    assert_eq!(algorithms, [KeyAlgorithm::RsaSha256, KeyAlgorithm::Ed25519Sha256]);
    assert!(directory.signing_keys("example.net").await.unwrap().keys.is_empty());
    directory.rotate_domain_keys("ann", DOMAIN).await.unwrap();
    assert_eq!(directory.signing_keys(DOMAIN).await.unwrap(), first);
    let all = directory.activate_domain_keys("ann", DOMAIN).await.unwrap();
    assert_eq!(states(&world).await, [Retiring, Retiring, Active, Active]);
    assert_ne!(directory.signing_keys(DOMAIN).await.unwrap(), first);
    let signs = &all[2].selector;
    assert!(matches!(directory.remove_domain_key("ann", DOMAIN, signs).await, Err(AdminError::Refused(_))));
    directory.remove_domain_key("ann", DOMAIN, &all[0].selector).await.unwrap();
    let log = format!("{:?}", directory.audit_log(20).await.unwrap());
    for part in
        ["\"ann\", \"domain dkim rotate example.org\"", "\"bob\", \"domain dkim activate example.org\""]
    {
        assert!(log.contains(part), "{part} in {log}");
    }
}

/// A directory over a socket, which can be cut off.
struct Wire {
    channel: Channel,
    cut: AtomicBool,
}

#[async_trait]
impl ChannelSource for Wire {
    async fn channel(&self) -> Result<Channel, Unavailable> {
        if self.cut.load(Ordering::SeqCst) {
            Err(Unavailable("cut".into()))
        } else {
            Ok(self.channel.clone())
        }
    }
}

#[tokio::test]
async fn a_frontend_signs_on_when_the_directory_is_away_and_others_get_no_keys() {
    let world = World::ready(&["t-0"]).await;
    world.directory.rotate_domain_keys("ann", DOMAIN).await.unwrap();
    world.directory.activate_domain_keys("ann", DOMAIN).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let routes = DirectoryServer::routes(world.directory.clone(), Arc::new(|_, wish| *wish == Wish::Lookup));
    let channel = common::over_socket(&dir.path().join("d.sock"), routes).await;
    let wire = Arc::new(Wire { channel, cut: AtomicBool::new(false) });
    let over = CancellationToken::new();
    let remote = RemoteDirectory::start(wire.clone(), RemoteConfig::default(), over.clone()).unwrap();
    let told = remote.signing_keys(DOMAIN).await.unwrap();
    assert_eq!(told, world.directory.signing_keys(DOMAIN).await.unwrap());
    wire.cut.store(true, Ordering::SeqCst);
    assert_eq!(remote.signing_keys("EXAMPLE.org").await.unwrap(), told);
    assert!(remote.signing_keys("example.net").await.is_err(), "not known is not: none");
    over.cancel();

    let closed = DirectoryServer::routes(world.directory.clone(), Arc::new(|_, _| false));
    let channel = common::over_socket(&dir.path().join("e.sock"), closed).await;
    let wire = Arc::new(Wire { channel, cut: AtomicBool::new(false) });
    let over = CancellationToken::new();
    let stranger = RemoteDirectory::start(wire, RemoteConfig::default(), over.clone()).unwrap();
    assert!(stranger.signing_keys(DOMAIN).await.is_err());
    over.cancel();
}

#[tokio::test]
async fn stores_carry_keys_for_a_directory_that_is_lost() {
    let world = World::ready(&["t-0"]).await;
    world.directory.rotate_domain_keys("ann", DOMAIN).await.unwrap();
    world.directory.activate_domain_keys("ann", DOMAIN).await.unwrap();
    let own = world.directory.store().read(|view| view.domain(DOMAIN)).await.unwrap();
    common::until("the store has the keys", || async {
        world.stores[0].read(|view| view.domain(DOMAIN)).await.unwrap() == own
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_counts_for_all_frontends_and_for_each_when_the_directory_is_away() {
    use mailcluster_types::{AccountId, Allowance::Granted};
    let send_limits = SendLimits { messages_per_hour: Some(3), ..SendLimits::default() };
    let world = World::with(&["t-0"], |config| config.send_limits = send_limits);
    let dir = tempfile::tempdir().unwrap();
    let routes = DirectoryServer::routes(world.directory.clone(), Arc::new(|_, wish| *wish == Wish::Lookup));
    let channel = common::over_socket(&dir.path().join("d.sock"), routes).await;
    let wire = Arc::new(Wire { channel, cut: AtomicBool::new(false) });
    let over = CancellationToken::new();
    let config = || RemoteConfig { send_limits, ..RemoteConfig::default() };
    let start = || RemoteDirectory::start(wire.clone(), config(), over.clone()).unwrap();
    let (one, two) = (start(), start());
    let ann = AccountId(1);
    let granted =
        |remote: Arc<RemoteDirectory>| async move { remote.count_sent(ann, 1).await == Ok(Granted) };
    for (remote, expected) in [(&one, true), (&two, true), (&one, true), (&two, false), (&one, false)] {
        assert_eq!(granted(remote.clone()).await, expected);
    }
    wire.cut.store(true, Ordering::SeqCst);
    for expected in [true, true, true, false] {
        assert_eq!(granted(two.clone()).await, expected);
    }
    over.cancel();
}
