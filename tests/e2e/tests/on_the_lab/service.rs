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

/// SIGSTOP for longer than the lease: the store serves again, by the kubelet's restart or by the operator's, and what the
/// frozen process is made to do afterwards acknowledges nothing at the old epoch.
pub fn frozen(stage: &Stage) -> Result<Ledger> {
    let store = &stage.accounts[0].store;
    let before = stage.site.store(store)?;
    let pod = pod_of(store);
    stage.sending("frozen", || {
        stage.site.lab.pause_pod(NAMESPACE, &pod)?;
        let served = stage.serves_again(store, before.epoch);
        // Whoever ended it did so with SIGKILL; one that is still there goes on now, and must find itself deposed.
        if let Err(error) = stage.site.lab.resume_pod(NAMESPACE, &pod) {
            say(&format!("the frozen process is gone: {error}"));
        }
        let now = served?;
        say(&format!("epoch {} -> {}, on {}", before.epoch, now.epoch, now.host));
        stage.all_can_read_for(std::time::Duration::from_secs(5))
    })
}
