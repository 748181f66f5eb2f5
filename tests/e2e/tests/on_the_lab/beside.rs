//! A second MailCluster on the same lab, in a namespace of its own, with a ledger of its own.

use anyhow::{Result, ensure};
use mailcluster_lab::VolumeSpec;
use mailcluster_test_clients::Ledger;
use serde_json::json;

use crate::stage::{Stage, say};

/// The cluster of this name, with empty mailboxes; made when it is not there yet, after its `disks` on these nodes.
pub fn cluster(
    stage: &Stage,
    name: &str,
    manifest: &str,
    disks: impl FnOnce(&[&str]) -> Vec<VolumeSpec>,
) -> Result<Stage> {
    let (site, accounts) = stage.site.beside(name, manifest, disks, &say)?;
    let beside = Stage::of(site, accounts)?;
    beside.site.empty_mailboxes(&beside.addresses)?;
    Ok(beside)
}

/// Compares what was promised with what is there, and answers nothing for the other cluster's ledger.
pub fn judged(beside: &Stage, promised: &Ledger) -> Result<Ledger> {
    beside.settle()?;
    let verdict = beside.site.read_back(promised, &beside.addresses)?;
    ensure!(verdict.is_clean(), "{verdict}");
    let name = &beside.site.cluster;
    say(&format!("{} messages on cluster {name}, none lost, none twice", verdict.accepted));
    Ok(Ledger::default())
}

/// The cluster goes with its claims, its namespace, and its disks of these kinds on each node.
pub fn taken_down(beside: &Stage, kinds: &[&str], volume: fn(&str, &str) -> String) -> Result<()> {
    delete(beside)?;
    let nodes = beside.site.lab()?.state()?.nodes;
    let disks = nodes.iter().flat_map(|node| kinds.iter().map(|of| volume(of, &node.name)));
    remove(beside, &disks.collect::<Vec<_>>())
}

/// Deletes the MailCluster, and with it the claims of its volumes.
pub fn delete(beside: &Stage) -> Result<()> {
    let (name, patch) = (&beside.site.cluster, json!({"spec": {"deletionPolicy": "Delete"}}).to_string());
    beside.kubectl(&["patch", "mailcluster", name, "--type", "merge", "--patch", &patch])?;
    beside.kubectl(&["delete", "mailcluster", name, "--timeout=120s"]).map(drop)
}

/// Deletes its namespace and these volumes.
pub fn remove(beside: &Stage, volumes: &[String]) -> Result<()> {
    beside.site.kubernetes.kubectl(&["delete", "namespace", &beside.site.namespace])?;
    let mut words = vec!["delete", "persistentvolume", "--ignore-not-found"];
    words.extend(volumes.iter().map(String::as_str));
    beside.site.kubernetes.kubectl(&words).map(drop)
}
