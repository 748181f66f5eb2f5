//! The API server, a namespace on it, and the operator that serves it.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Namespace, PersistentVolume},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use mailcluster_api::{MailCluster, MailStore, mailstore::Phase};
use serde_json::{Value, json};

/// No wait is longer. Stores that really serve take their time to stop.
const LIMIT: Duration = Duration::from_secs(180);
/// What the operator may bind to directories, where this test starts it.
const TOKEN_REVIEW: &str = "operator-test-token-review";
/// The label of this test's PersistentVolumes.
const MADE_BY: &str = "operator-test";

/// The operator as a process of its own; ended when dropped.
pub struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The API server and a namespace of this test's own.
pub struct World {
    /// As its administrator.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Does the chart's operator serve?
    pub installed: bool,
    kubeconfig: PathBuf,
    /// The class with volumes that can be served from.
    storage_class: Option<String>,
    metrics: u16,
}

impl World {
    pub async fn new(kubeconfig: PathBuf) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut world = Self {
            client: connect(&kubeconfig, None).await,
            namespace: format!("operator-test-{}", std::process::id()),
            installed: set("MAILCLUSTER_TEST_INSTALLED").is_some(),
            kubeconfig,
            storage_class: set("MAILCLUSTER_TEST_STORAGE_CLASS"),
            metrics: free_port(),
        };
        if !world.installed {
            world.storage_class = None;
            world.prepare().await;
        }
        let object = serde_json::from_value(json!({"metadata": {"name": world.namespace}})).unwrap();
        Api::<Namespace>::all(world.client.clone()).create(&PostParams::default(), &object).await.unwrap();
        world
    }

    /// What the chart installs otherwise.
    async fn prepare(&self) {
        let force = PatchParams::apply("operator-test").force();
        for (_, crd) in mailcluster_api::crd::all() {
            let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
            api.patch(&crd.name_any(), &force, &Patch::Apply(&crd)).await.unwrap();
        }
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": TOKEN_REVIEW},
            "rules": [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]});
        let api: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(self.client.clone());
        api.patch(TOKEN_REVIEW, &force, &Patch::Apply(&role)).await.unwrap();
    }

    /// Starts the operator, unless it is installed.
    pub async fn operator(&self) -> Option<Operator> {
        if self.installed {
            return None;
        }
        let child = Command::new(env!("CARGO_BIN_EXE_mailcluster-operator"))
            .env("KUBECONFIG", &self.kubeconfig)
            .args(["--node-image=localhost/none:1", "--leader-election=false"])
            .arg(format!("--token-review-cluster-role={TOKEN_REVIEW}"))
            .arg(format!("--metrics-addr=127.0.0.1:{}", self.metrics))
            .arg(format!("--watch-namespaces={}", self.namespace))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Operator(child))
    }

    /// An API server's answers to another user.
    pub async fn as_user(&self, user: &str) -> Client {
        connect(&self.kubeconfig, Some(user)).await
    }

    pub fn dynamic(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(group, "v1", kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&gvk))
    }

    pub fn clusters(&self) -> Api<MailCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn stores(&self) -> Api<MailStore> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    /// Do the stores of the cluster `live` really serve?
    pub fn serves(&self) -> bool {
        self.storage_class.is_some()
    }

    /// The MailCluster of this name, with what `change` merges into its spec.
    pub fn manifest(&self, name: &str, change: &Value) -> Value {
        let class = match (&self.storage_class, name) {
            (Some(class), "live") => class.clone(),
            _ => format!("{}-{name}", self.namespace),
        };
        let mut object = json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster", "metadata": {"name": name},
            "spec": {"hostname": "mail.example.org", "frontends": {"exposure": "ClusterIP", "replicas": 1},
                     "stores": {"count": 1, "storage": {"storageClassName": class, "size": "100Mi"}}}});
        merge(&mut object["spec"], change);
        object
    }

    pub async fn create_cluster(&self, name: &str) {
        let object: MailCluster = serde_json::from_value(self.manifest(name, &json!({}))).unwrap();
        self.clusters().create(&PostParams::default(), &object).await.unwrap();
    }

    pub async fn delete_cluster(&self, name: &str) {
        crate::delete(&self.clusters(), name).await;
    }

    /// A volume that claims of this cluster can be bound to. Where there are nodes, no store can be served from it.
    pub async fn make_volume(&self, cluster: &str, number: usize) -> String {
        let name = format!("{}-{cluster}-{number}", self.namespace);
        let volume = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {MADE_BY: self.namespace}},
            "spec": {"storageClassName": format!("{}-{cluster}", self.namespace),
                     "capacity": {"storage": "100Mi"}, "accessModes": ["ReadWriteOncePod"],
                     "persistentVolumeReclaimPolicy": "Retain",
                     "hostPath": {"path": format!("/tmp/{name}"), "type": "DirectoryOrCreate"}}}))
        .unwrap();
        self.volumes().create(&PostParams::default(), &volume).await.unwrap();
        name
    }

    /// Waits until all stores of the cluster serve, where they can.
    pub async fn until_served(&self, cluster: &str) {
        if !self.serves() {
            return;
        }
        until("the stores serve", || async {
            let stores = self.stores().list(&kube::api::ListParams::default()).await.unwrap().items;
            let mut own = stores.iter().filter(|s| s.spec.cluster == cluster);
            let serving = |s: &MailStore| s.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Serving));
            own.all(serving).then_some(())
        })
        .await;
    }

    /// The sum of the operator's writes so far.
    pub async fn writes(&self) -> u64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.metrics)).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let lines = text.lines().filter(|l| l.starts_with("mailcluster_operator_writes_total{"));
        lines.map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Removes the namespace and the volumes that were made here.
    pub async fn remove(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
        let ours = kube::api::ListParams::default().labels(&format!("{MADE_BY}={}", self.namespace));
        self.volumes().delete_collection(&DeleteParams::default(), &ours).await.unwrap();
    }
}

async fn connect(kubeconfig: &PathBuf, user: Option<&str>) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = user.map(str::to_owned);
    Client::try_from(config).unwrap()
}

/// Merges `change` into `into`, as an API server does.
pub fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `check` gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
