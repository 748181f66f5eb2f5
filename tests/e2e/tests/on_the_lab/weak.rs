//! A second MailCluster whose `fencing.minimum` is LeaseExpired: its stores must stop by themselves, by their own clocks,
//! before anybody may take over.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{Line, wait_for};
use mailcluster_lab::VolumeSpec;
use mailcluster_test_clients::Ledger;
use serde_json::json;

use crate::{
    beside::{self, judged},
    stage::{LIMIT, Stage, length, pod_of, say},
};

const NAME: &str = "weak";
const STORE: &str = "weak-0";
/// Milliseconds: `leaseSeconds` below, and the part of it after which a holder must have stopped.
const STOPS_AFTER: i64 = 8_000 * 3 / 4;
/// What the log of a store says when its gate has closed by its own clock.
const SILENT: &str = "nothing is acknowledged";

/// The name of a volume: the lab keeps those of an earlier run.
fn volume(of: &str) -> String {
    format!("weak-{of}-{}", std::process::id())
}

fn manifest() -> String {
    let storage = |size: &str| json!({"storage": {"storageClassName": "mail-local", "size": size}});
    json!({"apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
    "metadata": {"name": NAME, "namespace": NAME},
    "spec": {
        "hostname": "weak.example.org",
        "frontends": {"replicas": 2},
        "stores": {"count": 1, "storage": storage("400Mi")["storage"]},
        "directory": storage("300Mi"),
        "failover": {"leaseSeconds": 8, "fencing": {"minimum": "LeaseExpired", "acceptUnsafe":
            "I accept that mail is lost or corrupted when a node that counts as dead still writes"}},
    }})
    .to_string()
}

/// The weak cluster, made when it is not there yet. The other one moves nothing meanwhile.
fn weak(stage: &Stage) -> Result<Stage> {
    beside::cluster(stage, NAME, &manifest(), |nodes| {
        // Reachable from everywhere: wherever the directory's pod comes first, the smaller one is there for it.
        vec![
            VolumeSpec::new(&volume("directory"), nodes, 300 << 20),
            VolumeSpec::new(&volume("store"), nodes, 400 << 20),
        ]
    })
}

/// `Manual` on the quickstart's cluster: what happens to nodes here must move none of its stores. A new epoch where it was is
/// no move: a pod whose node still counts as Ready when the lease and the time to come back are over is made anew there.
fn manually(stage: &Stage, during: impl FnOnce() -> Result<Ledger>) -> Result<Ledger> {
    let policy = |policy: &str| {
        let patch = json!({"spec": {"failover": {"policy": policy}}}).to_string();
        stage.kubectl(&["patch", "mailcluster", "demo", "--type", "merge", "--patch", &patch])
    };
    let hosts = || -> Result<Vec<_>> {
        Ok(stage.site.stores()?.into_iter().map(|store| (store.name, store.host)).collect())
    };
    let before = hosts()?;
    policy("Manual")?;
    let outcome = during();
    let after = stage.site.wait_ready(LIMIT).and_then(|()| hosts());
    policy("Automatic")?;
    let after = after?;
    ensure!(before == after, "with policy Manual a store moved: {before:?} {after:?}");
    outcome
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// When the gate of this epoch had closed, by the log of its holder.
fn silent_since(log: &[Line], epoch: u64) -> Result<i64> {
    let line = log.iter().rev().find(|line| line.message.contains(SILENT) && line.is_of(epoch));
    let line = line.with_context(|| format!("the holder of epoch {epoch} never said that it had stopped"))?;
    Ok(line.at - line.number("since_ms").context("since when?")?)
}

/// When this epoch began to serve.
fn serving_since(log: &[Line], epoch: u64) -> Result<i64> {
    let line = log.iter().find(|line| line.message == "serving" && line.is_of(epoch));
    Ok(line.with_context(|| format!("nobody serves epoch {epoch}"))?.at)
}

/// No API server: nobody can renew, so the store stops in time, and says so; afterwards it goes on where it is.
pub fn api_away(stage: &Stage) -> Result<Ledger> {
    let weak = weak(stage)?;
    let before = weak.site.store(STORE)?;
    let promised = weak.sending("weak-no-api", || {
        weak.site.lab()?.api_down(None)?;
        // Not before: while the servers go one after the other, a lease may still be renewed.
        let from = now();
        let stopped = wait_for("the store stops", LIMIT, || {
            silent_since(&weak.site.pod_log(&before.host, &pod_of(STORE))?, before.epoch).map(Some)
        });
        let hold = length(20, 300);
        let until = std::time::Instant::now() + hold;
        let mut read = 0;
        while std::time::Instant::now() < until {
            read += u32::from(weak.reads(&weak.addresses[0]));
        }
        weak.site.lab()?.api_up(None)?;
        let after = stopped? - from;
        say(&format!("it stopped {after} ms after the API went, and served no reader for {hold:?}"));
        ensure!(after <= STOPS_AFTER + 500, "three quarters of the lease are {STOPS_AFTER} ms");
        ensure!(read == 0, "it served {read} readers without a lease");
        weak.site.wait_ready(LIMIT)
    })?;
    let after = weak.site.store(STORE)?;
    ensure!(after.host == before.host, "it was to stay on {} and is on {}", before.host, after.host);
    judged(&weak, &promised)
}

/// A node that is cut off, alive: its store has stopped by its own clock before the sibling serves it.
pub fn partitioned(stage: &Stage) -> Result<Ledger> {
    let weak = weak(stage)?;
    manually(stage, || {
        let before = weak.site.store(STORE)?;
        let promised = weak.sending("weak-partition", || {
            weak.site.lab()?.partition(&before.host)?;
            // Not before: until the cut is complete a lease may still be renewed.
            let from = now();
            let timeline = taken_over(&weak, &before);
            weak.site.lab()?.heal(&before.host)?;
            let (stopped, serving) = timeline?;
            say(&format!(
                "cut off; it stopped after {} ms, the sibling served after {} ms",
                stopped - from,
                serving - from
            ));
            ensure!(stopped - from <= STOPS_AFTER + 500, "three quarters of the lease are {STOPS_AFTER} ms");
            ensure!(stopped < serving, "two served at once");
            weak.site.wait_ready(LIMIT)
        })?;
        wait_for("one pod is left", LIMIT, || {
            let label = format!("mailcluster.io/store={STORE}");
            let pods = weak.kubectl(&["get", "pods", "-l", &label, "-o", "name"])?;
            Ok((pods.lines().count() == 1).then_some(()))
        })?;
        judged(&weak, &promised)
    })
}

/// Waits for the takeover; answers when the old one had stopped and when the new one served.
fn taken_over(weak: &Stage, before: &mailcluster_e2e::StoreView) -> Result<(i64, i64)> {
    let after = wait_for("the sibling serves", LIMIT, || {
        let view = weak.site.store(STORE)?;
        if view.host == before.host || view.phase != "Serving" {
            bail!("{view:?}");
        }
        Ok(Some(view))
    })?;
    let pod = pod_of(STORE);
    let stopped = silent_since(&weak.site.pod_log(&before.host, &pod)?, before.epoch)?;
    Ok((stopped, serving_since(&weak.site.pod_log(&after.host, &pod)?, after.epoch)?))
}

/// Frozen for longer than the lease and made to go on after somebody else has taken over.
pub fn frozen(stage: &Stage) -> Result<Ledger> {
    let weak = weak(stage)?;
    let before = weak.site.store(STORE)?;
    let pod = pod_of(STORE);
    let promised = weak.sending("weak-frozen", || {
        weak.site.lab()?.pause_pod(NAME, &pod)?;
        let served = weak.serves_again(STORE, before.epoch);
        weak.thaw(&pod)?;
        let after = served?;
        say(&format!("epoch {} -> {}, on {}", before.epoch, after.epoch, after.host));
        weak.all_can_read_for(std::time::Duration::from_secs(5))
    })?;
    judged(&weak, &promised)
}

/// `deletionPolicy: Delete` takes the volumes' claims along, and everything else; the other cluster is not touched.
pub fn deleted(stage: &Stage) -> Result<Ledger> {
    let weak = weak(stage)?;
    beside::delete(&weak)?;
    let kinds = "mailstores,statefulsets,deployments,services,secrets,leases,persistentvolumeclaims,pods,roles,\
                 rolebindings,networkpolicies,poddisruptionbudgets,serviceaccounts";
    wait_for("nothing of it is left", LIMIT, || {
        let left = weak.kubectl(&["get", kinds, "-l", "app.kubernetes.io/name=mailcluster", "-o", "name"])?;
        if !left.trim().is_empty() {
            bail!("{}", left.replace('\n', " "));
        }
        let claims = weak.kubectl(&["get", "persistentvolumeclaims", "-o", "name"])?;
        ensure!(claims.trim().is_empty(), "{claims}");
        Ok(Some(()))
    })?;
    beside::remove(&weak, &[volume("directory"), volume("store")])?;
    Ok(Ledger::default())
}
