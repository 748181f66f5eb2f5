//! `rebalance`: hands stores with mirrors over, so that each node serves about as many as the others again.

use std::time::{Duration, Instant};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};
use mailcluster_api::{
    MailStore, labels,
    mailstore::Phase,
    names::{REPLICAS, StoreNames},
};
use mailcluster_failover::rebalance::{Move, Placed, plan};
use serde_json::json;

use super::failover;
use crate::{
    args::{self, Global},
    connect::Cluster,
    copies,
    failure::Failure,
    output::{self, Format},
};

/// Seconds that a hand-over may take.
const WAIT: u32 = 120;
/// One that is refused is asked for again for so long.
const REFUSED: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(1);

/// `rebalance [--dry-run]`
pub async fn run(dry_run: bool, global: &Global) -> Result<(), Failure> {
    failover::in_cluster(global)?;
    let cluster = Cluster::find(global).await?;
    let moves = plan(placed(&cluster).await?);
    if dry_run || moves.is_empty() {
        tell(&moves, global.output);
        return Ok(());
    }
    for each in &moves {
        if let Format::Text = global.output {
            output::line(&each.to_string());
        }
        hand_over(&cluster, each).await?;
    }
    if let Format::Json = global.output {
        tell(&moves, global.output);
    }
    Ok(())
}

/// A copy that has just become one that could serve is refused until the operator has heard so.
async fn hand_over(cluster: &Cluster, each: &Move) -> Result<(), Failure> {
    let asked = args::Failover {
        store: each.store.clone(),
        to: Some(each.to.clone()),
        force: false,
        accept_loss: false,
        yes: false,
        wait: WAIT,
    };
    let deadline = Instant::now() + REFUSED;
    let stores: Api<MailStore> = cluster.api();
    loop {
        let outcome = failover::moved(cluster, &asked).await;
        let Err(Failure::Failed(_)) = &outcome else { return outcome.map(drop) };
        let now = stores.get(&each.store).await?;
        if now.status.and_then(|status| status.host).as_deref() == Some(each.to.as_str()) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return outcome.map(drop);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn tell(moves: &[Move], format: Format) {
    match format {
        Format::Json => {
            let all = moves.iter().map(|m| json!({"store": m.store, "from": m.from, "to": m.to}));
            output::json(&json!({"moves": all.collect::<Vec<_>>()}));
        }
        Format::Text if moves.is_empty() => output::line("nothing to move"),
        Format::Text => moves.iter().for_each(|each| output::line(&each.to_string())),
    }
}

/// The stores with mirrors that are served, each with where it could be.
async fn placed(cluster: &Cluster) -> Result<Vec<Placed>, Failure> {
    let stores: Api<MailStore> = cluster.api();
    let mut stores = stores.list(&ListParams::default()).await?.items;
    stores.retain(|s| s.spec.cluster == cluster.name() && s.spec.is_mirrored());
    let of_cluster = ListParams::default().labels(&format!("{}={}", labels::CLUSTER, cluster.name()));
    let leases: Api<Lease> = cluster.api();
    let leases = leases.list(&of_cluster).await?.items;
    let pods: Api<Pod> = cluster.api();
    let ours = ListParams::default().labels(&format!("{}={}", labels::INSTANCE, cluster.name()));
    let pods = pods.list(&ours).await?.items;
    Ok(stores.iter().filter_map(|store| seen(store, &leases, &pods)).collect())
}

fn seen(store: &MailStore, leases: &[Lease], pods: &[Pod]) -> Option<Placed> {
    let status = store.status.as_ref().filter(|s| s.phase == Some(Phase::Serving))?;
    let name = store.name_any();
    let lease = leases.iter().find(|lease| lease.name_any() == name);
    let names = StoreNames::new(name.clone());
    let copies = store.spec.replicas.iter().zip(REPLICAS).filter_map(|(replica, letter)| {
        let pod = pods.iter().find(|pod| pod.name_any() == names.pod(letter))?;
        let is_ready = pod
            .status
            .as_ref()?
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        (is_ready && copies::has_everything(lease, &replica.id))
            .then(|| pod.spec.as_ref()?.node_name.clone())?
    });
    Some(Placed { store: name, host: status.host.clone()?, copies: copies.collect() })
}
