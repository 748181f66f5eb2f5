//! The directory across the network, and taken away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use common::{World, login, names, until};
use mailcluster_directory::{
    ChannelSource, DirectoryFeed, RemoteConfig, RemoteDirectory, RemoteFeed,
    serve::{DirectoryServer, PeerCheck, Wish},
    sync,
};
use mailcluster_rpc::directory::v1 as pb;
use mailcluster_store::StoreKind;
use mailcluster_types::{AccountId, AuthOutcome, AuthRequest, Directory, Located, Resolution, Unavailable};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

/// Leads to whatever address the test says.
struct Leads(watch::Receiver<Option<SocketAddr>>);

#[async_trait]
impl ChannelSource for Leads {
    async fn channel(&self) -> Result<Channel, Unavailable> {
        let address = (*self.0.borrow()).ok_or_else(|| Unavailable("no route".into()))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Ok(endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy())
    }
}

/// A directory that knows everybody, and has no time for logins.
struct NoLogins(Option<tonic::Code>);

#[async_trait]
impl pb::lookup_server::Lookup for NoLogins {
    async fn resolve(&self, _: Request<pb::ResolveRequest>) -> Result<Response<pb::ResolveResponse>, Status> {
        let answer = pb::Answer::NoSuchMailbox.into();
        Ok(Response::new(pb::ResolveResponse { answer, accounts: Vec::new() }))
    }

    async fn locate(&self, _: Request<pb::LocateRequest>) -> Result<Response<pb::LocateResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn authenticate(
        &self,
        _: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        match self.0 {
            Some(code) => Err(Status::new(code, "not now")),
            None => std::future::pending().await,
        }
    }

    async fn may_send_as(
        &self,
        _: Request<pb::MaySendAsRequest>,
    ) -> Result<Response<pb::MaySendAsResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn known(&self, _: Request<pb::KnownRequest>) -> Result<Response<pb::KnownResponse>, Status> {
        Err(Status::unimplemented("an older directory"))
    }

    async fn signing_keys(
        &self,
        _: Request<pb::SigningKeysRequest>,
    ) -> Result<Response<pb::SigningKeysResponse>, Status> {
        Err(Status::unimplemented("an older directory"))
    }

    async fn count_sent(
        &self,
        _: Request<pb::CountSentRequest>,
    ) -> Result<Response<pb::CountSentResponse>, Status> {
        Err(Status::unimplemented("an older directory"))
    }
}

#[tokio::test]
async fn logins_that_fail_do_not_stop_mail() {
    for code in [Some(tonic::Code::ResourceExhausted), Some(tonic::Code::FailedPrecondition), None] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(pb::lookup_server::LookupServer::new(NoLogins(code)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let far = Far::patient(Some(address), Duration::from_secs(3600));
        let rejected = (0..20).map(|i| {
            let from = format!("192.0.2.{i}");
            let user = format!("u{i}");
            let remote = far.remote.clone();
            async move { remote.authenticate(&login(&user, "x", &from)).await }
        });
        for outcome in futures::future::join_all(rejected).await {
            assert!(outcome.is_err(), "{code:?}: {outcome:?}");
        }
        assert_eq!(far.resolve("fresh@example.org").await.unwrap(), ["NoSuchMailbox"], "{code:?}");
        // One of an older version has no keys: mail goes on, unsigned as before.
        assert!(far.remote.signing_keys("example.org").await.unwrap().keys.is_empty(), "{code:?}");
    }
}

struct Served {
    task: JoinHandle<()>,
    address: SocketAddr,
}

async fn serve(world: &World, check: PeerCheck) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = DirectoryServer::routes(world.directory.clone(), check);
    let task = tokio::spawn(async move {
        let server = Server::builder().add_routes(routes);
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    Served { task, address }
}

fn everyone() -> PeerCheck {
    Arc::new(|_, _| true)
}

struct Far {
    remote: Arc<RemoteDirectory>,
    route: watch::Sender<Option<SocketAddr>>,
    shutdown: CancellationToken,
}

impl Far {
    fn new(address: Option<SocketAddr>) -> Self {
        Self::patient(address, Duration::from_millis(50))
    }

    /// After a failure it does not ask again for `back_off`.
    fn patient(address: Option<SocketAddr>, back_off: Duration) -> Self {
        let (route, routes) = watch::channel(address);
        let shutdown = CancellationToken::new();
        let config = RemoteConfig {
            back_off,
            login_limit: Duration::from_secs(1),
            default_domain: Some("example.org".into()),
            ahead: true,
            ..RemoteConfig::default()
        };
        let remote = RemoteDirectory::start(Arc::new(Leads(routes)), config, shutdown.clone()).unwrap();
        Self { remote, route, shutdown }
    }

    async fn resolve(&self, address: &str) -> Result<Vec<String>, Unavailable> {
        self.remote.resolve(&address.parse().unwrap()).await.map(|r| names(&r))
    }

    async fn login(&self, user: &str, password: &str) -> Result<AuthOutcome, Unavailable> {
        self.remote.authenticate(&login(user, password, "192.0.2.7")).await
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn it_answers_as_the_directory_does() {
    let world = World::ready(&["t-0"]).await;
    let ann = world.add("ann@example.org").await.id;
    let served = serve(&world, everyone()).await;
    let far = Far::new(Some(served.address));
    for asked in ["ann@example.org", "ann+x@example.org", "no@example.org", "ann@elsewhere.org"] {
        let near = world.directory.resolve(&asked.parse().unwrap()).await.map(|r| names(&r));
        assert_eq!(far.resolve(asked).await, near, "{asked}");
        assert_eq!(far.resolve(asked).await, near, "{asked}, remembered");
    }
    assert_eq!(far.remote.locate(ann).await, Ok(Located::On("t-0".into())));
    assert_eq!(far.remote.locate(AccountId(5)).await, Ok(Located::Unknown));
    assert!(matches!(far.login("ann", "secret").await, Ok(AuthOutcome::Accepted(a)) if a.id == ann));
    assert_eq!(far.login("ann", "wrong").await, Ok(AuthOutcome::Rejected));
    assert_eq!(far.login("nobody", "secret").await, Ok(AuthOutcome::Rejected));
    assert_eq!(far.remote.may_send_as(ann, &"ann@example.org".parse().unwrap()).await, Ok(true));
    assert_eq!(far.remote.may_send_as(ann, &"bob@example.org".parse().unwrap()).await, Ok(false));
    world.directory.delete_account("test", "ann@example.org").await.unwrap();
    assert_eq!(far.remote.locate(ann).await, Ok(Located::Deleted));
}

#[tokio::test]
async fn a_ticket_lets_in_over_imap_and_is_not_remembered() {
    let world = World::ready(&["t-0"]).await;
    let ann = world.add("ann@example.org").await.id;
    world.add("bob@example.org").await;
    let served = serve(&world, everyone()).await;
    let far = Far::new(Some(served.address));
    let (ticket, account) =
        world.directory.issue_ticket("test", "Ann@example.org", "import of /srv/ann").await.unwrap();
    assert_eq!(account.id, ann);
    assert!(matches!(far.login("ann", &ticket).await, Ok(AuthOutcome::Accepted(a)) if a.id == ann));
    assert_eq!(far.login("bob", &ticket).await, Ok(AuthOutcome::Rejected), "another's");
    for service in ["submission", "pop3"] {
        let request = AuthRequest { service, ..login("ann", &ticket, "192.0.2.7") };
        assert_eq!(far.remote.authenticate(&request).await, Ok(AuthOutcome::Rejected), "{service}");
    }
    let (what, who) = (format!("login ticket for {}: import of /srv/ann", account.address), "test");
    let log = world.directory.audit_log(10).await.unwrap();
    assert!(log.iter().any(|entry| entry.1 == who && entry.2 == what), "{log:?}");
    for (address, purpose) in [("eve@example.org", "x"), ("ann@example.org", ""), ("ann@example.org", "a\nb")]
    {
        assert!(
            world.directory.issue_ticket("test", address, purpose).await.is_err(),
            "{address} {purpose:?}"
        );
    }
    served.task.abort();
    far.route.send_replace(Some("127.0.0.1:1".parse().unwrap()));
    until("the directory is gone", || async { far.resolve("fresh@example.org").await.is_err() }).await;
    assert!(far.login("ann", &ticket).await.is_err(), "nobody but the directory knows whether it has ended");

    world.directory.set_suspended("test", "ann@example.org", true).await.unwrap();
    assert!(world.directory.issue_ticket("test", "ann@example.org", "x").await.is_err(), "suspended");
    let request = login("ann", &ticket, "192.0.2.7");
    assert_eq!(world.directory.authenticate(&request).await, Ok(AuthOutcome::Rejected), "suspended since");
}

#[tokio::test]
async fn without_the_directory_it_knows_what_it_knew_and_never_says_no() {
    let world = World::ready(&["t-0"]).await;
    world.add("ann@example.org").await;
    let served = serve(&world, everyone()).await;
    let far = Far::new(Some(served.address));
    assert_eq!(far.resolve("ann@example.org").await.unwrap(), ["ann@example.org"]);
    assert!(matches!(far.login("ann", "secret").await, Ok(AuthOutcome::Accepted(_))));
    served.task.abort();
    far.route.send_replace(Some("127.0.0.1:1".parse().unwrap()));
    until("the directory is gone", || async { far.resolve("fresh@example.org").await.is_err() }).await;
    let started = Instant::now();
    assert_eq!(far.resolve("ann@example.org").await.unwrap(), ["ann@example.org"]);
    for unknown in ["bob@example.org", "ann+x@example.org", "x@elsewhere.org"] {
        let answer = far.remote.resolve(&unknown.parse().unwrap()).await;
        assert!(answer.is_err(), "{unknown}: {answer:?}");
    }
    assert!(matches!(far.login("ann", "secret").await, Ok(AuthOutcome::Accepted(_))), "remembered");
    assert!(far.login("ann", "wrong").await.is_err(), "not a rejection");
    assert!(far.login("bob", "secret").await.is_err());
    assert!(started.elapsed() < Duration::from_secs(20));
    // Back, elsewhere.
    let served = serve(&world, everyone()).await;
    far.route.send_replace(Some(served.address));
    until("found again", || async { far.resolve("nobody@example.org").await.is_ok() }).await;
    assert_eq!(far.login("ann", "wrong").await, Ok(AuthOutcome::Rejected));
}

#[tokio::test]
async fn addresses_are_known_before_anyone_asks() {
    let world = World::ready(&["t-0"]).await;
    // More than a page of them.
    let many: Vec<String> = (0..600).map(|i| format!("u{i}@example.org")).collect();
    for address in &many {
        world.add(address).await;
    }
    world.directory.add_alias("test", "all@example.org", &many[..2], false).await.unwrap();
    let served = serve(&world, everyone()).await;
    let far = Far::new(Some(served.address));
    until("all are known", || async { far.remote.addresses_known() == 601 }).await;
    world.add("late@example.org").await;
    until("one that came later, too", || async { far.remote.addresses_known() == 602 }).await;
    served.task.abort();
    far.route.send_replace(Some("127.0.0.1:1".parse().unwrap()));
    until("the directory is gone", || async { far.resolve("fresh@example.org").await.is_err() }).await;
    for known in ["u0@example.org", "u599@example.org", "late@example.org"] {
        assert_eq!(far.resolve(known).await.unwrap(), [known]);
    }
    assert_eq!(far.resolve("all@example.org").await.unwrap(), many[..2]);
    assert!(far.resolve("nobody@example.org").await.is_err(), "never a no");
    assert!(far.login("u0", "secret").await.is_err(), "passwords are not among it");
}

#[tokio::test]
async fn a_frontend_started_without_a_directory_waits_for_it() {
    let world = World::ready(&["t-0"]).await;
    world.add("ann@example.org").await;
    let far = Far::new(None);
    assert!(far.resolve("ann@example.org").await.is_err());
    assert!(far.login("ann", "secret").await.is_err());
    let served = serve(&world, everyone()).await;
    far.route.send_replace(Some(served.address));
    until("found", || async { far.resolve("ann@example.org").await.is_ok() }).await;
}

#[tokio::test]
async fn changes_are_heard_at_once() {
    let world = World::ready(&["t-0"]).await;
    world.add("ann@example.org").await;
    let served = serve(&world, everyone()).await;
    let far = Far::new(Some(served.address));
    assert!(far.resolve("bob@example.org").await.unwrap() == ["NoSuchMailbox"]);
    assert!(matches!(far.login("ann", "secret").await, Ok(AuthOutcome::Accepted(_))));
    world.add("bob@example.org").await;
    until("bob is known", || async { far.resolve("bob@example.org").await.unwrap() == ["bob@example.org"] })
        .await;
    world.directory.set_suspended("test", "ann@example.org", true).await.unwrap();
    until("ann is cut off", || async { far.login("ann", "secret").await == Ok(AuthOutcome::Rejected) }).await;
}

#[tokio::test]
async fn guessing_is_slowed_here_too() {
    let world = World::ready(&["t-0"]).await;
    world.add("ann@example.org").await;
    let served = serve(&world, everyone()).await;
    let far = Far::new(Some(served.address));
    assert!(matches!(far.login("ann", "secret").await, Ok(AuthOutcome::Accepted(_))));
    for _ in 0..7 {
        let _ = far.login("ann", "wrong").await;
    }
    let outcome = far.login("ann", "secret").await.unwrap();
    assert!(matches!(outcome, AuthOutcome::Throttled(_)), "the memory is no way round: {outcome:?}");
}

#[tokio::test]
async fn peers_get_what_their_role_allows() {
    let world = World::ready(&["t-0"]).await;
    world.add("ann@example.org").await;
    let check: PeerCheck = Arc::new(|_, wish| *wish == Wish::Feed("t-0".into()));
    let served = serve(&world, check).await;
    let far = Far::new(Some(served.address));
    assert!(far.resolve("ann@example.org").await.is_err());
    let feed = RemoteFeed::new(Arc::new(Leads(far.route.subscribe())));
    assert!(feed.changes(&"t-0".into(), (0, 0)).await.is_ok());
    assert!(feed.changes(&"t-1".into(), (0, 0)).await.is_err());
    assert!(feed.confirm(&"t-1".into(), Vec::new()).await.is_err());
}

#[tokio::test]
async fn a_store_follows_across_the_network() {
    let world = World::new(&[]);
    world.loads.send_replace(vec![mailcluster_directory::StoreLoad::named("t-7".into())]);
    world.directory.add_domain("test", "example.org").await.unwrap();
    let served = serve(&world, everyone()).await;
    let (_dir, store) = common::open(StoreKind::Mail, "t-7");
    let (route, routes) = watch::channel(None);
    let feed = Arc::new(RemoteFeed::new(Arc::new(Leads(routes))));
    tokio::spawn(sync::run(store.clone(), feed, world.shutdown.clone()));
    route.send_replace(Some(served.address));
    let id = world.add("ann@example.org").await.id;
    assert!(store.read(move |v| v.account(id)).await.unwrap().is_some());
    let Resolution::Accounts(found) =
        world.directory.resolve(&"ann@example.org".parse().unwrap()).await.unwrap()
    else {
        panic!("not found");
    };
    assert_eq!(found[0].status, mailcluster_types::AccountStatus::Active);
}
