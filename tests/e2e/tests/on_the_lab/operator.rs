//! The operator away, killed at bad moments, and what it makes anew.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{SYSTEM, audit, wait_for};
use mailcluster_test_clients::Ledger;

use crate::stage::{LIMIT, Stage, length, pod_of, say};

/// No operator at all: mail flows on.
pub fn absent(stage: &Stage) -> Result<Ledger> {
    stage.scale_operator(0)?;
    let ledger = stage.sending("no-operator", || stage.all_can_read_for(Duration::from_secs(15)));
    stage.scale_operator(2)?;
    wait_for("an operator leads again", LIMIT, || stage.site.leader().map(Some))?;
    ledger
}

/// A Lease that somebody deletes comes back from its holder's account: same epoch or higher, nobody else serves.
pub fn lease_deleted(stage: &Stage) -> Result<Ledger> {
    let store = &stage.accounts[0].store;
    let before = stage.site.store(store)?;
    let lease = stage.site.get(&["lease", store])?;
    let old = lease.pointer("/metadata/uid").cloned().context("no uid")?;
    stage.sending("lease-deleted", || {
        stage.kubectl(&["delete", "lease", store, "--wait=false"])?;
        wait_for("the lease is made anew", LIMIT, || {
            let lease = stage.site.get(&["lease", store])?;
            let epoch = lease.pointer("/spec/leaseTransitions").and_then(serde_json::Value::as_u64).unwrap_or(0);
            if lease.pointer("/metadata/uid") == Some(&old) {
                bail!("the old one is still there");
            }
            ensure!(epoch >= before.epoch, "epoch {epoch} fell below {}", before.epoch);
            Ok(Some(()))
        })?;
        stage.site.wait_ready(LIMIT)
    })
}

/// The leader is killed each time a store that moves enters a phase; the next one finishes the move.
pub fn killed_in_each_phase(stage: &Stage) -> Result<Ledger> {
    let store = stage.accounts[0].store.clone();
    let before = stage.site.store(&store)?;
    stage.sending("operator-killed", || {
        // A pod that is deleted with its node Ready goes through every phase that a move has.
        stage.site.admin(&["failover", &store], "")?;
        let mut killed = Vec::new();
        let moved = wait_for("the move is finished in spite of it", LIMIT, || {
            let view = stage.site.store(&store)?;
            if view.phase != "Serving" && !killed.contains(&view.phase) {
                say(&format!("the leader is killed in phase {}", view.phase));
                let leader = stage.site.leader()?;
                // The pod goes without a farewell: its leader lease must run out.
                stage.site.lab.kubectl(&[
                    "-n", SYSTEM, "delete", "pod", &leader, "--grace-period=0", "--force", "--wait=false",
                ])?;
                killed.push(view.phase.clone());
            }
            Ok((view.phase == "Serving" && view.epoch > before.epoch).then_some(view))
        })?;
        ensure!(!killed.is_empty(), "the move was over before a phase was seen");
        ensure!(moved.host != before.host, "it was to move and is on {} still", moved.host);
        let pods = stage.kubectl(&["get", "pods", "-l", &format!("mailcluster.io/store={store}"), "-o", "name"])?;
        ensure!(pods.lines().count() == 1, "one pod serves {store}: {pods} ({})", pod_of(&store));
        Ok(())
    })
}

/// Nobody sends, nothing changes: our service accounts write nothing but lease renewals, and read little.
pub fn idle(stage: &Stage) -> Result<Ledger> {
    let time = length(180, 600);
    let mark = stage.site.audit_mark()?;
    std::thread::sleep(time);
    let requests = stage.site.audited_since(&mark)?;
    for ((account, verb, resource), count) in &requests {
        say(&format!("{count:>5}  {account} {verb} {resource}"));
    }
    let writes = audit::writes_but_leases(&requests);
    ensure!(writes.is_empty(), "writes of an idle cluster: {writes:?}");
    let reads = audit::reads(&requests);
    say(&format!("{:.2} reads a second", reads as f64 / time.as_secs_f64()));
    ensure!((reads as u64) < time.as_secs(), "{reads} reads in {} s: more than one a second", time.as_secs());
    Ok(Ledger::default())
}
