//! Stores are looked after each by itself, over an API server that hangs where it is told to.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::Mutex,
    task::{self, Poll},
};

use clap::Parser;
use http::{Request, Response};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{PersistentVolume, PersistentVolumeClaim},
};
use kube::{
    Client, Resource,
    client::Body,
    runtime::events::{Recorder, Reporter},
};
use mailcluster_api::MailCluster;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use super::*;
use crate::{
    failover::observe::tests::{NOW, frozen, unready},
    leader::Leadership,
    metrics::Metrics,
};

/// An API server with these objects, in which nothing changes. It never answers about what it hangs at.
#[derive(Clone)]
pub(super) struct StandIn {
    objects: Arc<BTreeMap<String, Value>>,
    hangs_at: &'static str,
    seen: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    pub(super) fn new(world: &World, hangs_at: &'static str) -> Self {
        let mut objects = BTreeMap::new();
        put(&mut objects, &world.clusters);
        put(&mut objects, &world.stores);
        put(&mut objects, &world.leases);
        put(&mut objects, &world.pods);
        put(&mut objects, &world.claims);
        put(&mut objects, &world.volumes);
        let list = |kind: &str, items: Vec<Value>| json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items});
        let nodes = world.nodes.iter().map(|node| json!(**node)).collect();
        objects.insert("/api/v1/nodes".into(), list("NodeList", nodes));
        objects.insert("/apis/batch/v1/namespaces/mail/jobs".into(), list("JobList", Vec::new()));
        let stores = world.stores.iter().map(|store| json!(**store)).collect();
        let of_mail = "/apis/mailcluster.io/v1alpha1/namespaces/mail/mailstores";
        objects.insert(of_mail.into(), list("MailStoreList", stores));
        let leases = world.leases.iter().map(|lease| json!(**lease)).collect();
        objects
            .insert("/apis/coordination.k8s.io/v1/namespaces/mail/leases".into(), list("LeaseList", leases));
        Self { objects: Arc::new(objects), hangs_at, seen: Arc::default() }
    }

    fn answer(&self, method: &str, path: &str) -> Response<Body> {
        let object = self.objects.get(path.trim_end_matches("/status"));
        let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": path, "reason": "NotFound", "code": 404});
        let code = if object.is_some() && method != "POST" { 200 } else { 404 };
        let body = object.filter(|_| code == 200).unwrap_or(&missing);
        Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
    }

    /// How often this was asked.
    pub(super) fn asked(&self, wanted: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|asked| *asked == wanted).count()
    }
}

fn put<K: Resource<DynamicType = ()> + Serialize>(
    objects: &mut BTreeMap<String, Value>,
    all: &shelf::Shelf<K>,
) {
    for object in all {
        let path = format!("{}/{}", K::url_path(&(), object.namespace().as_deref()), object.name_any());
        objects.insert(path, json!(**object));
    }
}

impl Service<Request<Body>> for StandIn {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (head, body) = request.into_parts();
        let (method, path, api) = (head.method.as_str().to_owned(), head.uri.path().to_owned(), self.clone());
        Box::pin(async move {
            let written = body.collect_bytes().await.unwrap_or_default();
            let written = std::str::from_utf8(&written).unwrap_or_default();
            let what = match written {
                begins if begins.contains("\"target\":{") => " with a target",
                spreads if spreads.contains(annotations::REBALANCED) => " to spread the stores",
                _ => "",
            };
            api.seen.lock().unwrap().push(format!("{method} {path}{what}"));
            if path.contains(api.hangs_at) {
                std::future::pending::<()>().await;
            }
            Ok(api.answer(&method, &path))
        })
    }
}

pub(super) fn failover(api: &StandIn) -> Failover {
    let args = ["mailcluster-operator", "--node-image", "node", "--leader-election=false"];
    let config = crate::args::Args::parse_from(args).into_config().unwrap();
    let leading = Leadership { leading: true, since: Duration::ZERO, good_until: Duration::MAX };
    let client = Client::new(api.clone(), "mail");
    let reporter = Reporter { controller: "test".into(), instance: None };
    let ctx = Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        leadership: watch::channel(leading).1,
        config: Arc::new(config),
        metrics: Arc::new(Metrics::new().unwrap()),
        stop: CancellationToken::new(),
    };
    let mut failover = Failover::new(ctx, Arc::default()).unwrap();
    let key = |name: &str| ("mail".to_owned(), name.to_owned());
    let still = ["demo-0", "demo-1"].map(|name| (key(name), 60_000));
    let heard = Heard {
        unchanged: still.into(),
        now: NOW,
        is_told: true,
        awaited: Some([].into()),
        ..Heard::default()
    };
    failover.heard = Arc::new(heard);
    failover
}

/// Two stores on a node that is lost, of which so many may move at once.
fn two_lost(max_concurrent: u32) -> World {
    let mut world = frozen();
    unready(&mut world, "n1");
    let mut cluster = MailCluster::clone(&world.clusters[0]);
    cluster.spec.failover.max_concurrent = max_concurrent;
    world.clusters.put(Arc::new(cluster));
    let mut store = (*world.stores[0]).clone();
    (store.metadata.name, store.metadata.uid) = (Some("demo-1".into()), Some("s1".into()));
    store.annotations_mut().insert(annotations::HELD_BY.into(), "p2".into());
    store.spec.replicas[0].pvc = "mail-demo-1-aaaaaaaa".into();
    world.stores.put(Arc::new(store));
    let mut lease = Lease::clone(&world.leases[0]);
    lease.metadata.name = Some("demo-1".into());
    lease.spec.as_mut().unwrap().holder_identity = Some("p2/s".into());
    world.leases.put(Arc::new(lease));
    let mut pod = Pod::clone(&world.pods[0]);
    (pod.metadata.name, pod.metadata.uid) = (Some("demo-1-a-0".into()), Some("p2".into()));
    world.pods.put(Arc::new(pod));
    let mut claim = PersistentVolumeClaim::clone(&world.claims[0]);
    claim.metadata.name = Some("mail-demo-1-aaaaaaaa".into());
    claim.spec.as_mut().unwrap().volume_name = Some("pv2".into());
    world.claims.put(Arc::new(claim));
    let mut volume = PersistentVolume::clone(&world.volumes[0]);
    volume.metadata.name = Some("pv2".into());
    world.volumes.put(Arc::new(volume));
    world
}

const FIRST: &str = "/apis/mailcluster.io/v1alpha1/namespaces/mail/mailstores/demo-0";
const SECOND: &str = "/apis/mailcluster.io/v1alpha1/namespaces/mail/mailstores/demo-1";

fn read(store: &str) -> String {
    format!("GET {store}")
}

/// Says in the status that it begins.
fn began(store: &str) -> String {
    format!("PATCH {store}/status with a target")
}

/// Lets everything go on that need not wait for time to pass.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{what}");
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_api_calls_hang_holds_up_no_other() {
    let world = Arc::new(two_lost(5));
    let api = StandIn::new(&world, "demo-0");
    let mut failover = failover(&api);
    failover.decide(&world);
    until("the first one's step has begun", || api.asked(&read(FIRST)) == 1).await;
    until("the second one's failover begins", || api.asked(&began(SECOND)) >= 1).await;
    // Looks go on meanwhile, and begin nothing anew for the one that hangs.
    for _ in 0..3 {
        failover.under_way.take_in();
        failover.decide(&world);
        tokio::task::yield_now().await;
    }
    assert!(failover.under_way.is_busy(&world.stores[0]));
    assert_eq!((api.asked(&read(FIRST)), api.asked(&began(FIRST))), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_has_its_place_among_those_that_move_until_it_came_to_nothing() {
    let world = Arc::new(two_lost(1));
    let api = StandIn::new(&world, "demo-0");
    let mut failover = failover(&api);
    for _ in 0..3 {
        failover.under_way.take_in();
        failover.decide(&world);
        until("the first one's step has begun", || api.asked(&read(FIRST)) == 1).await;
    }
    assert_eq!(api.asked(&began(SECOND)), 0, "one may move at once");
    // No call takes longer.
    tokio::time::sleep(CALL_LIMIT * 2).await;
    until("the first one's step has failed", || {
        failover.under_way.take_in();
        failover.under_way.is_unlucky(&world.stores[0])
    })
    .await;
    failover.decide(&world);
    assert_eq!(api.asked(&began(SECOND)), 0, "it counts a moment longer");
    tokio::time::sleep(under_way::LINGERS).await;
    failover.under_way.take_in();
    failover.decide(&world);
    until("it is the second one's turn", || api.asked(&began(SECOND)) >= 1).await;
    assert_eq!(api.asked(&began(FIRST)), 0);
}
