//! Nodes that are only said to be there: their objects, and the Leases by which kubelets say that they live.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Node},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    plan::{node_name, zone},
    site::Site,
};

/// As a kubelet does.
const RENEWAL: Duration = Duration::from_secs(10);
const LEASES: &str = "kube-node-lease";

/// The boot of a node.
pub fn boot_id(node: usize) -> String {
    format!("00000000-0000-4000-8000-{node:012x}")
}

/// Makes them all, and goes on to renew the Leases of those that live.
pub async fn start(site: &Site) -> Result<()> {
    try_join_all((0..usize::from(site.size.nodes)).map(|node| make(site, node))).await?;
    for node in 0..usize::from(site.size.nodes) {
        let site = site.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = site.until_dead(node) => {}
                () = renew(&site, node) => {}
            }
        });
    }
    Ok(())
}

async fn make(site: &Site, node: usize) -> Result<()> {
    let (name, now) = (node_name(node), Timestamp::now().to_string());
    let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "250", "ephemeral-storage": "1Ti"});
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "Fake", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let object: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": zone(node)}},
        "status": {"capacity": resources, "allocatable": resources,
            "addresses": [{"type": "Hostname", "address": name}],
            "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"),
                condition("DiskPressure", "False"), condition("PIDPressure", "False")],
            "nodeInfo": {"bootID": boot_id(node), "systemUUID": boot_id(node), "machineID": boot_id(node),
                "architecture": "amd64", "operatingSystem": "linux", "kernelVersion": "", "osImage": "",
                "containerRuntimeVersion": "", "kubeletVersion": "v1.33.0", "kubeProxyVersion": ""}}}))?;
    let nodes: Api<Node> = Api::all(site.client.clone());
    nodes.create(&PostParams::default(), &object).await?;
    let lease = serde_json::from_value(json!({"metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro()}}))?;
    leases(site).create(&PostParams::default(), &lease).await?;
    Ok(())
}

fn leases(site: &Site) -> Api<Lease> {
    Api::namespaced(site.client.clone(), LEASES)
}

fn micro() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

async fn renew(site: &Site, node: usize) {
    let (leases, name) = (leases(site), node_name(node));
    loop {
        tokio::time::sleep(RENEWAL).await;
        let patch = Patch::Merge(json!({"spec": {"renewTime": micro()}}));
        if let Err(error) = leases.patch(&name, &PatchParams::default(), &patch).await {
            eprintln!("the Lease of {name} was not renewed: {error}");
        }
    }
}
