//! Nodes that are cut off and go on running.

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::wait_for;
use mailcluster_test_clients::Ledger;

use crate::stage::{LIMIT, Stage, say};

/// A node that is cut off, alive and writing: its power reads back Off before a sibling serves its stores.
pub fn fenced(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let store = stage.accounts[0].store.clone();
    let before = site.store(&store)?;
    let victim = before.host.clone();
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
        let status = site.get(&["mailstore", &store])?;
        let at = |field: &str| {
            let pointer = format!("/status/lastFailover/{field}");
            status.pointer(&pointer).and_then(serde_json::Value::as_str).map(str::to_owned).context(pointer)
        };
        let (detected, fenced, serving) = (at("detectedAt")?, at("fencedAt")?, at("servingAt")?);
        say(&format!("detected {detected}, fenced {fenced}, serving {serving}"));
        ensure!(fenced <= serving && detected <= fenced, "it served before its old node was proven off");
        let evidence = status.pointer("/status/lastFailover/evidence").cloned().unwrap_or_default();
        ensure!(evidence.to_string().contains("FenceJob"), "no fence Job among {evidence}");
        Ok(())
    });
    site.lab()?.heal(&victim)?;
    site.power_on(&victim)?;
    ledger
}
