//! The operator against a real API server: children appear, are repaired, and go; volumes are never replaced.
//!
//! `MAILCLUSTER_TEST_KUBECONFIG` names the API server; a controller manager must run beside it, nodes need not. Without
//! the variable the test says so and does nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use mailcluster_api::{MailCluster, MailStore};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// The operator as a process of its own; ended when dropped.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct World {
    client: Client,
    namespace: String,
    kubeconfig: PathBuf,
    metrics: u16,
}

impl World {
    async fn new(kubeconfig: PathBuf) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let namespace = format!("operator-test-{}", std::process::id());
        let world = Self { client, namespace, kubeconfig, metrics: free_port() };
        let force = PatchParams::apply("operator-test").force();
        for (_, crd) in mailcluster_api::crd::all() {
            let api: Api<
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
            > = Api::all(world.client.clone());
            api.patch(&crd.name_any(), &force, &Patch::Apply(&crd)).await.unwrap();
        }
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": world.namespace}})).unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        world
    }

    fn operator(&self) -> Operator {
        let child = Command::new(env!("CARGO_BIN_EXE_mailcluster-operator"))
            .env("KUBECONFIG", &self.kubeconfig)
            .args([
                "--node-image=localhost/none:1",
                "--leader-election=false",
                "--token-review-cluster-role=",
            ])
            .arg(format!("--metrics-addr=127.0.0.1:{}", self.metrics))
            .arg(format!("--watch-namespaces={}", self.namespace))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Operator(child)
    }

    fn dynamic(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let gvk = kube::api::GroupVersionKind::gvk(group, "v1", kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&gvk))
    }

    fn clusters(&self) -> Api<MailCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn stores(&self) -> Api<MailStore> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create_cluster(&self) {
        let object: MailCluster = serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster", "metadata": {"name": "live"},
            "spec": {"hostname": "mail.example.org", "frontends": {"exposure": "ClusterIP", "replicas": 1},
                     "stores": {"count": 1, "storage": {"storageClassName": "no-such-class", "size": "1Gi"}}}}))
        .unwrap();
        self.clusters().create(&PostParams::default(), &object).await.unwrap();
    }

    /// The sum of the operator's writes so far.
    async fn writes(&self) -> u64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.metrics)).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let lines = text.lines().filter(|l| l.starts_with("mailcluster_operator_writes_total{"));
        lines.map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `check` gives something.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn get(api: &Api<DynamicObject>, name: &str) -> DynamicObject {
    until(name, || async { api.get_opt(name).await.unwrap() }).await
}

/// Every kind of child that is repaired: group, kind, name, an edit, and where the edit stands.
fn table() -> Vec<(&'static str, &'static str, &'static str, Value, &'static str)> {
    let metadata = json!({"metadata": {"labels": {"app.kubernetes.io/instance": "edited"}}});
    let label = "/metadata/labels/app.kubernetes.io~1instance";
    let empty = json!({"data": {"node.yaml": "edited"}});
    vec![
        ("apps", "StatefulSet", "live-0-a", json!({"spec": {"replicas": 0}}), "/spec/replicas"),
        ("apps", "Deployment", "live-frontend", json!({"spec": {"replicas": 7}}), "/spec/replicas"),
        (
            "",
            "Service",
            "live",
            json!({"spec": {"selector": {"app.kubernetes.io/instance": "x"}}}),
            "/spec/selector",
        ),
        ("", "ConfigMap", "live-0", empty.clone(), "/data"),
        ("", "ConfigMap", "live-frontend", empty, "/data"),
        ("", "ServiceAccount", "live-0", metadata.clone(), label),
        ("", "Secret", "live-0-identity", json!({"data": {"tls.key": "eA=="}}), "/data/tls.key"),
        ("", "Secret", "live-tls", metadata.clone(), label),
        (
            "policy",
            "PodDisruptionBudget",
            "live-0",
            json!({"spec": {"maxUnavailable": 3}}),
            "/spec/maxUnavailable",
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            "live-backend",
            json!({"spec": {"ingress": []}}),
            "/spec/ingress",
        ),
        ("rbac.authorization.k8s.io", "Role", "live-0", json!({"rules": []}), "/rules"),
        ("rbac.authorization.k8s.io", "RoleBinding", "live-0", json!({"subjects": []}), "/subjects"),
    ]
}

async fn repairs(world: &World) {
    for (group, kind, name, edit, place) in table() {
        let api = world.dynamic(group, kind);
        let before = get(&api, name).await;
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let other = |o: DynamicObject| {
            (o.uid() != before.uid() && o.metadata.deletion_timestamp.is_none()).then_some(o)
        };
        let what = format!("{kind} {name} deleted");
        let again = until(&what, || async { api.get_opt(name).await.unwrap().and_then(other) }).await;
        let good = serde_json::to_value(&again).unwrap().pointer(place).cloned();
        api.patch(name, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
        let what = format!("{kind} {name} edited at {place}");
        until(&what, || async {
            let now = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
            // A key is made anew with its certificate, so that only the edit has to be gone.
            let edited = edit.pointer(place) == now.pointer(place);
            (now.pointer(place).cloned() == good || (kind == "Secret" && !edited)).then_some(())
        })
        .await;
    }
}

/// What each ServiceAccount may do, as the API server tells it (`kubectl auth can-i --list`), against a golden file.
/// `UPDATE_GOLDEN=1` writes it anew.
async fn rights(world: &World) {
    let mut text = String::new();
    for account in ["live-frontend", "live-0", "live-directory", "live-admin"] {
        let read = Kubeconfig::read_from(&world.kubeconfig).unwrap();
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{}:{account}", world.namespace));
        let client = Client::try_from(config).unwrap();
        let reviews: Api<SelfSubjectRulesReview> = Api::all(client);
        let question = serde_json::from_value(json!({"spec": {"namespace": world.namespace}})).unwrap();
        let answer = reviews.create(&PostParams::default(), &question).await.unwrap();
        let mut lines: Vec<String> = Vec::new();
        for rule in answer.status.unwrap().resource_rules {
            let words = |list: Option<Vec<String>>| list.unwrap_or_default().join(",");
            let (groups, resources) = (words(rule.api_groups), words(rule.resources));
            // Everybody may ask what they may do.
            if !resources.starts_with("selfsubject") {
                let names = words(rule.resource_names);
                lines.push(format!("{account}: {groups}/{resources} [{names}] {}\n", rule.verbs.join(",")));
            }
        }
        lines.sort();
        text.extend(lines);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/can-i.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), text);
}

/// A claim that is gone is reported and stays gone.
async fn missing_volume(world: &World) {
    let claims = world.dynamic("", "PersistentVolumeClaim");
    let store = world.stores().get("live-0").await.unwrap();
    let claim = store.spec.replicas[0].pvc.clone();
    // Its pod holds it; the StatefulSet's pod is pending for ever here and can go.
    claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    let pods = world.dynamic("", "Pod");
    drop(
        pods.delete("live-0-a-0", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() })
            .await,
    );
    until("VolumeMissing is told", || async {
        let status = world.stores().get("live-0").await.unwrap().status?;
        mailcluster_api::condition::is_true(&status.conditions, "VolumeMissing").then_some(())
    })
    .await;
    assert!(claims.get_opt(&claim).await.unwrap().is_none(), "nothing is made in its place");
}

/// Deletion keeps the claims, and the same cluster comes back with the same ids.
async fn comes_back(world: &World, id: &str) {
    let claims = world.dynamic("", "PersistentVolumeClaim");
    let directory = world.stores().get("live-directory").await.unwrap().spec.replicas[0].clone();
    world.clusters().delete("live", &DeleteParams::default()).await.unwrap();
    until("the cluster is gone", || async {
        world.clusters().get_opt("live").await.unwrap().is_none().then_some(())
    })
    .await;
    until("its stores are gone", || async {
        world.stores().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
    assert!(claims.get_opt(&directory.pvc).await.unwrap().is_some(), "volumes are kept");
    world.create_cluster().await;
    let back =
        until("the directory is back", || async { world.stores().get_opt("live-directory").await.unwrap() })
            .await;
    assert_eq!(back.spec.replicas[0], directory);
    let status = world.clusters().get("live").await.unwrap().status.unwrap();
    assert_eq!(status.cluster_id.as_deref(), Some(id));
}

#[tokio::test]
async fn children_are_made_repaired_and_taken_down() {
    let Some(kubeconfig) = std::env::var_os("MAILCLUSTER_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("skipped: MAILCLUSTER_TEST_KUBECONFIG names no API server");
        return;
    };
    let world = World::new(kubeconfig).await;
    let _operator = world.operator();
    world.create_cluster().await;
    let id = until("the cluster has an id", || async {
        world.clusters().get("live").await.unwrap().status.and_then(|s| s.cluster_id)
    })
    .await;
    until("the stores have claims", || async {
        let stores = world.stores().list(&ListParams::default()).await.unwrap().items;
        let claimed = |s: &MailStore| s.status.as_ref().is_some_and(|s| !s.claimed.is_empty());
        (stores.len() == 2 && stores.iter().all(claimed)).then_some(())
    })
    .await;
    until("roles are bound", || async {
        world.dynamic("rbac.authorization.k8s.io", "RoleBinding").get_opt("live-0").await.unwrap()
    })
    .await;
    repairs(&world).await;
    rights(&world).await;
    missing_volume(&world).await;
    comes_back(&world, &id).await;
    // At rest nothing is written: two looks, far enough apart for several reconciliations, see the same count.
    until("the operator comes to rest", || async {
        let before = world.writes().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        (world.writes().await == before).then_some(())
    })
    .await;
    world.clusters().delete("live", &DeleteParams::default()).await.unwrap();
    until("the cluster is gone", || async {
        world.clusters().get_opt("live").await.unwrap().is_none().then_some(())
    })
    .await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
}
