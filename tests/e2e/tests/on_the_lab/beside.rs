//! A second MailCluster on the same lab, in a namespace of its own, with a ledger of its own.

use anyhow::{Result, ensure};
use mailcluster_e2e::{Site, wait_for};
use mailcluster_lab::{Lab, VolumeSpec};
use mailcluster_test_clients::Ledger;
use serde_json::json;

use crate::stage::{LIMIT, Stage, say};

/// The cluster of this name, with empty mailboxes; made when it is not there yet, after its `disks` on these nodes.
pub fn cluster(
    stage: &Stage,
    name: &str,
    manifest: &str,
    disks: impl FnOnce(&[&str]) -> Vec<VolumeSpec>,
) -> Result<Stage> {
    let site = Site {
        namespace: name.to_owned(),
        cluster: name.to_owned(),
        ..Site::new(Lab::attach()?.into(), name, stage.site.binaries.clone())
    };
    if site.kubernetes.kubectl(&["get", "namespace", name]).is_err() {
        let nodes: Vec<String> = site.lab()?.state()?.nodes.iter().map(|node| node.name.clone()).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        site.lab()?.create_volumes(&disks(&nodes))?;
        site.kubernetes.kubectl(&["create", "namespace", name])?;
    }
    site.kubernetes.apply(manifest)?;
    site.wait_ready(LIMIT)?;
    wait_for("the Service has an address", LIMIT, || site.address().map(Some))?;
    let accounts = match site.known_accounts() {
        Ok(accounts) if !accounts.is_empty() => accounts,
        _ => site.make_accounts(&say)?,
    };
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
