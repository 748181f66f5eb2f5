//! Nodes that are cut off and go on running.

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::{Site, wait_for};
use mailcluster_test_clients::Ledger;
use serde_json::Value;

use crate::stage::{LIMIT, Stage, say};

/// A node that is cut off, alive and writing: its power reads back Off before a sibling serves its stores.
pub fn fenced(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let store = stage.accounts[0].store.clone();
    let before = site.store(&store)?;
    let victim = before.host.clone();
    let known = last_failover(site, &store)?["detectedAt"].clone();
    let lost: Vec<_> = site.stores()?.into_iter().filter(|s| s.host == victim).collect();
    let ledger = stage.sending("partition", || {
        site.lab()?.partition(&victim)?;
        for store in lost.iter().filter(|s| s.kind == "Mail") {
            stage.serves_again(&store.name, store.epoch)?;
        }
        wait_for("every store serves elsewhere", LIMIT, || {
            Ok(site.stores()?.iter().all(|s| s.host != victim && s.phase == "Serving").then_some(()))
        })?;
        ensure!(
            site.lab()?.state()?.node(&victim)?.power == mailcluster_lab::Power::Off,
            "the node was not switched off"
        );
        // The record is closed when everything about the move is done, which can be after the phase says Serving.
        let last = wait_for("the failover is on record", LIMIT, || {
            let last = last_failover(site, &store)?;
            ensure!(last["detectedAt"] != known && last["servingAt"].is_string(), "{last}");
            Ok(Some(last))
        })?;
        let at = |field: &str| {
            last.get(field)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .with_context(|| format!("no {field}: {last}"))
        };
        let (detected, fenced, serving) = (at("detectedAt")?, at("fencedAt")?, at("servingAt")?);
        say(&format!("detected {detected}, fenced {fenced}, serving {serving}"));
        ensure!(fenced <= serving && detected <= fenced, "it served before its old node was proven off");
        ensure!(last["evidence"].to_string().contains("FenceJob"), "no fence Job in {last}");
        Ok(())
    });
    site.lab()?.heal(&victim)?;
    site.power_on(&victim)?;
    ledger
}

/// The store's last failover; null when there was none.
fn last_failover(site: &Site, store: &str) -> Result<Value> {
    Ok(site.get(&["mailstore", store])?["status"]["lastFailover"].clone())
}
