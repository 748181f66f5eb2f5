//! What `cargo xtask bench operator` puts around an operator: one large MailCluster on nodes that are objects in the API
//! and no more. Node Leases, pods' placement and status, stores' Leases, routes and whatever pods answer the operator come
//! from this one process; there is no mail.
//!
//! It prints a line of JSON when everything serves; upon the line `die` it lets nodes die, and prints another when every
//! store serves again. It ends with its input.

mod death;
mod frontend;
mod kubelet;
mod nodes;
mod plan;
mod replica;
mod site;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use futures::{StreamExt, future::try_join_all};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Pod};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt, reflector, watcher},
};
use mailcluster_api::MailCluster;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    plan::{Size, ZONES},
    site::{CLUSTER, Site},
};

/// Between two looks at what does not serve yet.
const LOOK: Duration = Duration::from_secs(1);
/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(1_800);

#[derive(Parser)]
#[command(about = "One large MailCluster on nodes that are not there, for an operator to look after")]
struct Cli {
    /// The API's administrator; its operator, with the resource definitions, is somebody else's matter
    #[arg(long)]
    kubeconfig: PathBuf,
    /// A namespace, which is made
    #[arg(long)]
    namespace: String,
    #[command(flatten)]
    size: Size,
    /// Print the addresses of those that will die, and end
    #[arg(long)]
    show_dying: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let zone_size = usize::from(cli.size.nodes).div_ceil(ZONES);
    ensure!(usize::from(cli.size.dying) <= zone_size, "a zone has {zone_size} nodes: no more can die");
    if cli.show_dying {
        cli.size.dying_nodes().for_each(|node| println!("{}", plan::subnet(node)));
        return Ok(());
    }
    // An error means that one is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let site = site(&cli).await?;
    let begun = Instant::now();
    prepare(&site).await?;
    let kubelets = kubelet::Kubelets::new(site.clone()).run();
    tokio::select! {
        ended = kubelets => ended,
        done = play(&site, begun) => done,
    }
}

async fn site(cli: &Cli) -> Result<Site> {
    let read = Kubeconfig::read_from(&cli.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let (stores, writer) = reflector::store();
    let watched = watcher(Api::namespaced(client.clone(), &cli.namespace), watcher::Config::default())
        .default_backoff()
        .reflect(writer);
    tokio::spawn(watched.for_each(|event| async {
        if let Err(error) = event {
            eprintln!("the stores' watch: {error}");
        }
    }));
    Ok(Site::new(client, cli.namespace.clone(), cli.size, stores))
}

/// Nodes, volumes and the MailCluster.
async fn prepare(site: &Site) -> Result<()> {
    let new = PostParams::default();
    let namespace = serde_json::from_value(json!({"metadata": {"name": site.namespace}}))?;
    Api::<Namespace>::all(site.client.clone()).create(&new, &namespace).await.context("the namespace")?;
    nodes::start(site).await.context("nodes")?;
    let volumes: Api<PersistentVolume> = Api::all(site.client.clone());
    let volume = |n: usize| {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{}-{n:03}", site.namespace)},
            "spec": {"storageClassName": site.namespace, "capacity": {"storage": "100Mi"},
                "accessModes": ["ReadWriteOncePod"], "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": format!("/var/empty/{n}")}}}))
    };
    let all = (0..(usize::from(site.size.stores) + 1) * ZONES)
        .map(volume)
        .collect::<Result<Vec<PersistentVolume>, _>>()?;
    try_join_all(all.iter().map(|volume| volumes.create(&new, volume))).await.context("volumes")?;
    let cluster: MailCluster = serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster", "metadata": {"name": CLUSTER},
        "spec": {"hostname": "mail.example.org",
            "frontends": {"exposure": "ClusterIP", "replicas": site.size.frontends},
            "failover": {"leaseSeconds": replica::LEASE_SECONDS},
            "stores": {"count": site.size.stores, "replicas": ZONES,
                "storage": {"storageClassName": site.namespace, "size": "100Mi"}}}}))?;
    Api::namespaced(site.client.clone(), &site.namespace)
        .create(&new, &cluster)
        .await
        .context("MailCluster")?;
    Ok(())
}

async fn play(site: &Site, begun: Instant) -> Result<()> {
    until_served(site, begun).await?;
    println!("{}", json!({"served_s": begun.elapsed().as_secs_f64()}));
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        match line.as_str() {
            "die" => println!("{}", death::follow(site).await?),
            other => bail!("{other:?} is not known here: use die"),
        }
    }
    Ok(())
}

/// The lines of the input, until it ends; a thread that nobody waits for reads them.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let all = std::io::stdin().lines().map_while(Result::ok);
        // An error means that nobody listens any more.
        let _ = all.map(|line| sender.blocking_send(line)).find(Result::is_err);
    });
    lines
}

/// Waits until the operator says that all stores serve, and all frontends are Ready.
async fn until_served(site: &Site, begun: Instant) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(site.client.clone(), &site.namespace);
    let frontends = ListParams::default().labels("app.kubernetes.io/component=frontend");
    loop {
        let stores = site.stores.state();
        let serving = stores.iter().filter(|store| death::serves(store)).count();
        let ready = pods.list(&frontends).await?.items.iter().filter(|pod| is_ready(pod)).count();
        if serving == usize::from(site.size.stores) + 1 && ready == usize::from(site.size.frontends) {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < LIMIT,
            "{serving} stores serve and {ready} frontends are ready after {} s",
            LIMIT.as_secs()
        );
        tokio::time::sleep(LOOK).await;
    }
}

fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
