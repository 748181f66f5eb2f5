//! Puts pods on nodes and says that they run: scheduler and kubelet of nodes that are not there. Those of a dead node
//! go on to listen: whoever had it die sees to it that nothing reaches them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::{Binding, Pod, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use mailcluster_api::{FRONTEND_GATE, labels, ports};
use mailcluster_net::{
    grpc,
    mtls::{Identity, Role},
};
use mailcluster_rpc::control::v1::control_server::{Control, ControlServer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::transport::Server;

use crate::{
    frontend::{Frontend, health},
    plan::{address, copy_of, node_name},
    replica::{Me, Replica, replica_id, until_there},
    site::{CLUSTER, Site},
};

/// All of them.
pub struct Kubelets {
    site: Site,
    pods: Api<Pod>,
    /// What runs, by the pod's UID.
    running: BTreeMap<String, Runs>,
    /// Frontends that were placed so far.
    frontends: usize,
    /// Addresses that each node has given.
    given: BTreeMap<usize, usize>,
}

struct Runs {
    node: usize,
    task: JoinHandle<()>,
}

impl Kubelets {
    /// Nothing runs yet.
    pub fn new(site: Site) -> Self {
        let pods = Api::namespaced(site.client.clone(), &site.namespace);
        Self { site, pods, running: BTreeMap::new(), frontends: 0, given: BTreeMap::new() }
    }

    /// Goes on for ever.
    pub async fn run(mut self) -> Result<()> {
        let mut events = watcher(self.pods.clone(), watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                    let name = pod.name_any();
                    if let Err(error) = self.mind(pod).await {
                        eprintln!("pod {name}: {error:#}");
                    }
                }
                Ok(watcher::Event::Delete(pod)) => {
                    if let Some(gone) = pod.uid().and_then(|uid| self.running.remove(&uid)) {
                        gone.task.abort();
                    }
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                Err(error) => eprintln!("the pods' watch: {error}"),
            }
        }
        Err(anyhow!("the pods' watch has ended"))
    }

    async fn mind(&mut self, pod: Pod) -> Result<()> {
        let uid = pod.uid().context("no UID")?;
        let there = self.running.get(&uid).map(|runs| runs.node);
        match (there, pod.metadata.deletion_timestamp.is_some()) {
            (Some(node), _) if self.site.is_dead(node) => Ok(()),
            (None, false) => self.start(&pod, uid).await,
            (Some(_), false) => self.open_gate(&pod).await,
            (_, true) => {
                let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                self.pods.delete(&pod.name_any(), &now).await?;
                Ok(())
            }
        }
    }

    /// Where a pod goes; a frontend goes to nodes that live.
    fn place(&mut self, pod: &Pod) -> usize {
        if let Some((store, copy)) = copy_of(CLUSTER, &pod.name_any()) {
            return self.site.size.node_of_copy(store, copy);
        }
        loop {
            let node = self.site.size.node_of_frontend(self.frontends);
            self.frontends += 1;
            if !self.site.is_dead(node) {
                return node;
            }
        }
    }

    async fn start(&mut self, pod: &Pod, uid: String) -> Result<()> {
        let name = pod.name_any();
        let node = self.place(pod);
        if self.site.is_dead(node) {
            return Ok(());
        }
        let given = self.given.entry(node).or_default();
        let at = address(node, *given).context("its node has no more addresses")?;
        *given += 1;
        let binding: Binding = serde_json::from_value(
            json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node_name(node)}}),
        )?;
        let _: Value = self
            .pods
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await
            .context("binding")?;
        let (site, pods, pod) = (self.site.clone(), self.pods.clone(), pod.clone());
        let task = tokio::spawn(async move {
            let name = pod.name_any();
            let ran = tokio::try_join!(run(&site, &pod, (node, at)), say_running(&pods, &pod, at));
            if let Err(error) = ran {
                eprintln!("pod {name}: {error:#}");
            }
        });
        self.running.insert(uid, Runs { node, task });
        Ok(())
    }

    /// A frontend is Ready when the operator lets it be.
    async fn open_gate(&self, pod: &Pod) -> Result<()> {
        let conditions = || pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let is = |kind: &str, status: &str| conditions().any(|c| c.type_ == kind && c.status == status);
        if is(FRONTEND_GATE, "True") && is("Ready", "False") {
            let patch = json!({"status": {"conditions": [condition("Ready", "True")]}});
            let params = PatchParams::default();
            self.pods.patch_status(&pod.name_any(), &params, &Patch::Strategic(patch)).await?;
        }
        Ok(())
    }
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()})
}

async fn say_running(pods: &Api<Pod>, pod: &Pod, at: Ipv4Addr) -> Result<()> {
    let spec = pod.spec.as_ref().context("no spec")?;
    let has_gate = spec.readiness_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let containers: Vec<Value> = spec
        .containers
        .iter()
        .map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": "fake", "containerID": "fake://0",
                "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": now}}})
        })
        .collect();
    let conditions = [
        condition("Initialized", "True"),
        condition("ContainersReady", "True"),
        condition("Ready", if has_gate { "False" } else { "True" }),
    ];
    let patch = json!({"status": {"phase": "Running", "startTime": now, "podIP": at, "podIPs": [{"ip": at}],
        "containerStatuses": containers, "conditions": conditions}});
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

async fn run(site: &Site, pod: &Pod, (node, at): (usize, Ipv4Addr)) -> Result<()> {
    let identity = identity(site, pod).await?;
    let label = |key: &str| pod.labels().get(key).cloned();
    let Some(store) = label(labels::STORE) else {
        let (frontend, listens) = (Frontend::new(site.clone()), health(at));
        return tokio::try_join!(serve(frontend, at, identity), listens).map(drop);
    };
    let (_, copy) = copy_of(CLUSTER, &pod.name_any()).context("the pod of no copy")?;
    let found = until_there(site, &store).await;
    let me = Me {
        id: replica_id(&found, copy).context("no such copy")?,
        cluster: identity.me().cluster.to_string(),
        pod: pod.uid().context("no UID")?,
        at: SocketAddr::from((at, ports::BACKEND_GRPC)),
        store,
        node,
    };
    let replica = Replica::new(me, site.clone());
    let lives = async {
        replica.clone().live().await;
        anyhow::Ok(())
    };
    tokio::try_join!(serve(replica.clone(), at, identity), lives).map(drop)
}

/// Serves what the operator asks.
async fn serve(control: impl Control, at: Ipv4Addr, identity: Identity) -> Result<()> {
    let listener = TcpListener::bind((at, ports::BACKEND_GRPC)).await.context("listening")?;
    let incoming = grpc::serve_incoming(listener, identity, vec![Role::Operator]);
    Server::builder().add_service(ControlServer::new(control)).serve_with_incoming(incoming).await?;
    Ok(())
}

/// What the operator has put into the pod's Secret.
async fn identity(site: &Site, pod: &Pod) -> Result<Identity> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut secrets = volumes.filter(|volume| volume.name == "identity").filter_map(|v| v.secret.as_ref());
    let name = secrets.next().and_then(|s| s.secret_name.clone()).context("no identity is mounted")?;
    let api: Api<Secret> = Api::namespaced(site.client.clone(), &site.namespace);
    let data = api.get(&name).await?.data.unwrap_or_default();
    let file = |key: &str| data.get(key).map(|octets| octets.0.as_slice()).context(key.to_owned());
    Ok(Identity::from_pem(file("ca.crt")?, file("tls.crt")?, file("tls.key")?)?)
}
