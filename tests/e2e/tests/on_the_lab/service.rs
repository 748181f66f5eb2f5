//! Frontends and backends that come, go, die and freeze.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::{Knocked, Knocker, NAMESPACE, SYSTEM, Site, wait_for};
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

/// Every frontend is made anew, one after another, and nobody who comes meanwhile is turned away.
pub fn restarted(stage: &Stage) -> Result<Ledger> {
    let names = || -> Result<BTreeSet<String>> {
        let words = ["get", "pods", "-l", "app.kubernetes.io/component=frontend", "-o", "name"];
        Ok(stage.kubectl(&words)?.lines().map(str::to_owned).collect())
    };
    let before = wait_for("those that end are gone", LIMIT, || {
        let now = names()?;
        Ok((u64::try_from(now.len())? == ready_frontends(&stage.site)?).then_some(now))
    })?;
    let knocker = Knocker::start(stage.site.port(25)?);
    let restarted = stage
        .kubectl(&["rollout", "restart", "deployment", "demo-frontend"])
        .and_then(|_| {
            // Those that end are gone, too.
            wait_for("all frontends are others", LIMIT, || {
                let now = names()?;
                Ok((now.len() == before.len() && now.is_disjoint(&before)).then_some(()))
            })
        })
        .and_then(|()| stage.site.wait_ready(LIMIT));
    let Knocked { greeted, turned_away } = knocker.finish();
    restarted?;
    say(&format!("{greeted} connections were greeted while {} frontends were made anew", before.len()));
    ensure!(greeted > 0 && turned_away.is_empty(), "turned away: {turned_away:?}");
    Ok(Ledger::default())
}

/// A frozen frontend is taken out of the Service, also when the operator's leader dies with it; it comes back when it
/// goes on.
pub fn frontend_taken_out(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let mut promised = Ledger::default();
    for (name, with_leader, bound) in [("frontend", false, 5), ("frontend-leader", true, 12)] {
        let victim = site.frontends()?.first().cloned().context("no frontends")?;
        let ledger =
            stage.sending(name, || {
                wait_for("all frontends are in", LIMIT, || {
                    Ok((endpoints(site)?.len() == site.frontends()?.len()).then_some(()))
                })?;
                let start = std::time::Instant::now();
                site.lab()?.pause_pod(NAMESPACE, &victim)?;
                let leader = site.leader()?;
                if with_leader {
                    site.lab()?.pause_pod(SYSTEM, &leader)?;
                }
                let out = wait_for("it is taken out", LIMIT, || {
                    Ok((!endpoints(site)?.contains(&victim)).then_some(()))
                });
                let took = start.elapsed().as_secs_f64();
                site.lab()?.resume_pod(NAMESPACE, &victim)?;
                if with_leader {
                    site.lab()?.resume_pod(SYSTEM, &leader)?;
                }
                out?;
                say(&format!(
                    "taken out after {took:.1} s{}",
                    if with_leader { ", with the leader" } else { "" }
                ));
                // A generous multiple of the promise: the machine is shared with other work.
                ensure!(took < f64::from(bound) * 3.0, "the promise is {bound} s");
                wait_for("it is in again", LIMIT, || Ok(endpoints(site)?.contains(&victim).then_some(())))
            })?;
        promised.merge(&ledger);
    }
    Ok(promised)
}

/// The frontends' pods that the Service sends clients to.
fn endpoints(site: &Site) -> Result<Vec<String>> {
    let slices =
        site.get(&["endpointslices", "-l", &format!("kubernetes.io/service-name={}", site.cluster)])?;
    let slices = slices["items"].as_array().into_iter().flatten();
    let all = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = all.filter(|endpoint| endpoint.pointer("/conditions/ready") == Some(&true.into()));
    Ok(ready.filter_map(|e| Some(e.pointer("/targetRef/name")?.as_str()?.to_owned())).collect())
}

/// kill -9 of a backend: it starts again in place, at a higher epoch.
pub fn killed(stage: &Stage) -> Result<Ledger> {
    let store = &stage.accounts[0].store;
    let before = stage.site.store(store)?;
    let ledger = stage.sending("killed", || {
        stage.site.lab()?.kill_pod(NAMESPACE, &pod_of(store))?;
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
        stage.site.lab()?.pause_pod(NAMESPACE, &pod)?;
        let served = stage.serves_again(store, before.epoch);
        // Whoever ended it did so with SIGKILL; one that is still there goes on now, and must find itself deposed.
        stage.thaw(&pod)?;
        let now = served?;
        say(&format!("epoch {} -> {}, on {}", before.epoch, now.epoch, now.host));
        stage.all_can_read_for(std::time::Duration::from_secs(5))?;
        let later = stage.site.store(store)?;
        ensure!(later.epoch == now.epoch, "it was taken over once, and then again: {later:?}");
        Ok(())
    })
}
