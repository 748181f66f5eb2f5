//! `status`: the cluster at a glance, from the Kubernetes API and from the directory; what one of them cannot say is
//! left out and said so.

mod picture;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::ListParams};
use mailcluster_api::{MailStore, labels};
use mailcluster_rpc::admin::v1 as pb;
use serde_json::{Value, json};

use crate::{
    args::Global,
    connect::{self, Cluster},
    failure::Failure,
    output::{self, Format},
};
use picture::Picture;

pub async fn run(global: &Global) -> Result<(), Failure> {
    if global.standalone.is_some() {
        let answer = connect::admin(global).await?.get_status(pb::GetStatusRequest {}).await?.into_inner();
        match global.output {
            Format::Json => output::json(&json!({"directory": directory_json(&answer)})),
            Format::Text => picture::directory(&answer),
        }
        return Ok(());
    }
    let cluster = Cluster::find(global).await?;
    let params = ListParams::default().labels(&format!("{}={}", labels::CLUSTER, cluster.name()));
    let stores: Api<MailStore> = cluster.api();
    let mut stores = stores.list(&ListParams::default()).await?.items;
    stores.retain(|s| s.spec.cluster == cluster.name());
    stores.sort_by_key(|s| (cluster.names().store_number(&s.name_any()), s.name_any()));
    let leases: Api<Lease> = cluster.api();
    let leases = leases.list(&params).await.map(|l| l.items).unwrap_or_default();
    let directory = ask_directory(&cluster).await;
    match global.output {
        Format::Json => output::json(&json!({
            "mailCluster": cluster.resource,
            "mailStores": stores,
            "leases": leases,
            "directory": directory.as_ref().map_or(Value::Null, directory_json),
            "directoryError": directory.as_ref().err().map(ToString::to_string),
        })),
        Format::Text => {
            Picture { cluster: &cluster.resource, stores: &stores, leases: &leases, directory: &directory }
                .print();
        }
    }
    Ok(())
}

async fn ask_directory(cluster: &Cluster) -> Result<pb::Status, Failure> {
    Ok(cluster.admin().await?.get_status(pb::GetStatusRequest {}).await?.into_inner())
}

fn directory_json(status: &pb::Status) -> Value {
    let store = |s: &pb::StoreStatus| {
        let usage = s.usage.as_ref().map(|u| {
            json!({
                "epoch": u.epoch,
                "octets": u.octets,
                "freeOctets": u.free_octets,
                "totalOctets": u.total_octets,
                "queuedMessages": u.queued_messages,
                "queuedRecipients": u.queued_recipients,
                "heldRecipients": u.held_recipients,
                "oldestQueued": u.oldest_queued,
            })
        });
        json!({"store": s.store, "accounts": s.accounts, "reachable": s.reachable, "usage": usage})
    };
    json!({
        "store": status.store,
        "epoch": status.epoch,
        "sequence": status.sequence,
        "domains": status.domains,
        "accounts": status.accounts,
        "stores": status.stores.iter().map(store).collect::<Vec<_>>(),
    })
}
