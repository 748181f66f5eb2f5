//! Stores that move: asked for, by a drain, and because their node died.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::wait_for;
use mailcluster_test_clients::Ledger;
use serde_json::json;

use crate::stage::{LIMIT, Stage, pod_of, say};

/// `kubectl mailcluster failover`, there and back.
pub fn planned(stage: &Stage) -> Result<Ledger> {
    let store = &stage.accounts[0].store;
    let home = stage.site.store(store)?;
    stage.sending("planned", || {
        stage.site.admin(&["failover", store], "")?;
        let away = stage.serves_again(store, home.epoch)?;
        ensure!(away.host != home.host, "it was to move and is on {} still", away.host);
        stage.site.admin(&["failover", store, "--to", &home.host], "")?;
        let back = stage.serves_again(store, away.epoch)?;
        ensure!(back.host == home.host, "it was to go back to {} and is on {}", home.host, back.host);
        Ok(())
    })
}

/// `kubectl drain` ends by itself: its evictions are let through in each store's turn, and nothing is lost.
pub fn drained(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let stores = site.stores()?;
    let victim = stores.iter().find(|s| s.kind == "Mail").context("no store")?.host.clone();
    let ledger = stage.sending("drained", || {
        let begun = Instant::now();
        site.drain(&victim)?;
        say(&format!("drained in {:.1} s", begun.elapsed().as_secs_f64()));
        wait_for("no store is left on the drained node", LIMIT, || {
            Ok(site.stores()?.iter().all(|s| s.host != victim && s.phase == "Serving").then_some(()))
        })
    });
    site.kubernetes.kubectl(&["uncordon", &victim])?;
    ledger
}

/// A changed MailCluster reaches the stores' pods: one after the other, never two away.
pub fn changed(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let stores = site.stores()?;
    let uids = |stage: &Stage| -> Result<Vec<String>> {
        stores.iter().map(|store| stage.site.pod_uid(&pod_of(&store.name))).collect()
    };
    let before = uids(stage)?;
    let requests = |cpu: &str| {
        let resources = json!({"resources": {"requests": {"cpu": cpu}}});
        json!({"spec": {"stores": resources, "directory": resources}}).to_string()
    };
    let path = "jsonpath={.spec.stores.resources.requests.cpu}";
    let cpu = match stage.kubectl(&["get", "mailcluster", "demo", "-o", path])?.as_str() {
        "60m" => "50m",
        _ => "60m",
    };
    stage.sending("changed", || {
        stage.kubectl(&["patch", "mailcluster", "demo", "--type", "merge", "--patch", &requests(cpu)])?;
        let mut most = Vec::new();
        wait_for("every store's pod is a new one", LIMIT, || {
            let away = site.stores()?.into_iter().filter(|store| store.phase != "Serving");
            let away: Vec<String> = away.map(|store| format!("{} {}", store.name, store.phase)).collect();
            if away.len() > most.len() {
                most = away;
            }
            let now = uids(stage)?;
            let old = now.iter().filter(|uid| before.contains(uid)).count();
            if old > 0 {
                bail!("{old} are the old ones still");
            }
            Ok(Some(()))
        })?;
        say(&format!("at most {} of {} stores were away at once", most.len(), stores.len()));
        ensure!(most.len() <= 1, "away at once: {most:?}");
        site.wait_ready(LIMIT)
    })
}

/// A node loses its power: it is fenced, and its stores move.
pub fn lost_node(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let victim = site.store(&stage.accounts[0].store)?.host;
    let ledger = stage.sending("lost-node", || {
        let loss = site.loss(&stage.accounts, &victim)?;
        let cut = Instant::now();
        site.lab()?.power_off(&victim)?;
        site.wait_served(&say, &loss, cut).map(drop)
    })?;
    site.power_on(&victim)?;
    Ok(ledger)
}
