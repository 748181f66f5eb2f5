//! Frontends and backends that come, go, die and freeze.

use anyhow::{Result, ensure};
use mailcluster_e2e::{NAMESPACE, Site, wait_for};
use mailcluster_test_clients::Ledger;

use crate::stage::{LIMIT, Stage, pod_of, say};

fn ready_frontends(site: &Site) -> Result<u64> {
    let deployment = site.get(&["deployment", "demo-frontend"])?;
    Ok(deployment.pointer("/status/readyReplicas").and_then(serde_json::Value::as_u64).unwrap_or(0))
}

/// `kubectl scale mailcluster/demo` changes the frontends.
pub fn scaled(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    for count in [3, 2] {
        stage.kubectl(&["scale", "mailcluster/demo", &format!("--replicas={count}")])?;
        wait_for("the frontends follow", LIMIT, || Ok((ready_frontends(site)? == count).then_some(())))?;
    }
    Ok(Ledger::default())
}

/// kill -9 of a backend: it starts again in place, at a higher epoch.
pub fn killed(stage: &Stage) -> Result<Ledger> {
    let store = &stage.accounts[0].store;
    let before = stage.site.store(store)?;
    let ledger = stage.sending("killed", || {
        stage.site.lab.kill_pod(NAMESPACE, &pod_of(store))?;
        stage.serves_again(store, before.epoch).map(drop)
    })?;
    ensure!(stage.site.store(store)?.host == before.host, "a crashed process must restart where it is");
    Ok(ledger)
}

/// SIGSTOP for longer than the lease, then SIGCONT: whatever was accepted at the old epoch is there, and nothing is
/// acknowledged at an epoch that was taken over.
pub fn frozen(stage: &Stage) -> Result<Ledger> {
    let store = &stage.accounts[0].store;
    let before = stage.site.store(store)?;
    let pod = pod_of(store);
    let ledger = stage.sending("frozen", || {
        let frozen = stage.site.pod_uid(&pod)?;
        stage.site.lab.pause_pod(NAMESPACE, &pod)?;
        // Its node is Ready, so the operator asks the kubelet to end it, and waits for that.
        let taken = wait_for("the operator gives the frozen process up", LIMIT, || {
            let uid = stage.site.pod_uid(&pod)?;
            Ok((uid != frozen).then_some(()))
        });
        // Only a process that is still there can be let go on: the kubelet kills it after its grace period.
        let resumed = stage.site.lab.resume_pod(NAMESPACE, &pod);
        taken?;
        if let Err(error) = resumed {
            say(&format!("the frozen process is gone: {error}"));
        }
        stage.serves_again(store, before.epoch).map(drop)
    })?;
    Ok(ledger)
}
