//! The operator away, killed at bad moments, and what it makes anew.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{SYSTEM, audit, wait_for};
use mailcluster_test_clients::Ledger;

use crate::stage::{LIMIT, Stage, length, say};

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
            let epoch =
                lease.pointer("/spec/leaseTransitions").and_then(serde_json::Value::as_u64).unwrap_or(0);
            if lease.pointer("/metadata/uid") == Some(&old) {
                bail!("the old one is still there");
            }
            ensure!(epoch >= before.epoch, "epoch {epoch} fell below {}", before.epoch);
            Ok(Some(()))
        })?;
        stage.site.wait_ready(LIMIT)
    })
}

/// A node loses its power, and the leader is killed each time the store that it carried enters a phase: the next one
/// goes on from what it sees.
pub fn killed_in_each_phase(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let store = stage.accounts[0].store.clone();
    let before = site.store(&store)?;
    let ledger = stage.sending("operator-killed", || {
        site.lab()?.power_off(&before.host)?;
        let mut killed = Vec::new();
        let moved = wait_for("the store moves in spite of it", LIMIT, || {
            let view = site.store(&store)?;
            if view.phase != "Serving" && !killed.contains(&view.phase) {
                let leader = site.leader()?;
                say(&format!("in phase {} the leader {leader} is killed", view.phase));
                // Without a farewell: its leader lease must run out.
                let words =
                    ["-n", SYSTEM, "delete", "pod", &leader, "--grace-period=0", "--force", "--wait=false"];
                site.kubernetes.kubectl(&words)?;
                killed.push(view.phase.clone());
            }
            Ok((view.phase == "Serving" && view.epoch > before.epoch).then_some(view))
        })?;
        ensure!(killed.len() >= 2, "only seen: {killed:?}");
        ensure!(moved.host != before.host, "it was to move and is on {} still", moved.host);
        stage.serves_again(&store, before.epoch)?;
        let label = format!("mailcluster.io/store={store}");
        let pods = stage.kubectl(&["get", "pods", "-l", &label, "-o", "name"])?;
        ensure!(pods.lines().count() == 1, "one pod is to serve {store}: {pods}");
        Ok(())
    });
    site.power_on(&before.host)?;
    ledger
}

/// Nobody sends, nothing changes: our service accounts write nothing but lease renewals, and read less than once a second.
pub fn idle(stage: &Stage) -> Result<Ledger> {
    let time = length(180, 600);
    at_rest(stage)?;
    let mark = stage.site.audit_mark()?;
    std::thread::sleep(time);
    let requests = stage.site.audited_since(&mark)?;
    for ((account, verb, resource), count) in &requests {
        say(&format!("{count:>5}  {account} {verb} {resource}"));
    }
    let writes = audit::writes_but_leases(&requests);
    ensure!(writes.is_empty(), "writes of an idle cluster: {writes:?}");
    let reads = audit::reads(&requests);
    let rate = reads as f64 / time.as_secs_f64();
    say(&format!("{rate:.2} reads a second"));
    ensure!(rate < 1.0, "an idle cluster reads {rate:.2} times a second");
    Ok(Ledger::default())
}

/// Waits for the last counts of what went before: they are written at most once a minute.
fn at_rest(stage: &Stage) -> Result<()> {
    let mut mark = stage.site.audit_mark()?;
    let mut since = Instant::now();
    wait_for("a minute without a write", LIMIT, || {
        let writes = audit::writes_but_leases(&stage.site.audited_since(&mark)?);
        if !writes.is_empty() {
            (mark, since) = (stage.site.audit_mark()?, Instant::now());
            bail!("{writes:?}");
        }
        Ok((since.elapsed() > Duration::from_secs(62)).then_some(()))
    })
}
