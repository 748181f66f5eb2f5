//! What administrators do to a cluster of mirrored stores while it serves: a node is drained, and every pod is made anew.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use mailcluster_e2e::{Prober, event_time, wait_for};
use mailcluster_test_clients::Ledger;
use serde_json::{Value, json};

use crate::{
    beside::judged,
    mirrors::{all_in_sync, mirrored, store},
    stage::{LIMIT, Stage, say},
};

/// A hand-over is promised to take less than a second; this is for a machine that is busy with all of it.
const HANDED_OVER: Duration = Duration::from_secs(10);

/// Runs this while mail is sent and a client logs in again and again; that one is not away for longer than a hand-over
/// takes.
pub fn hardly_noticed(stage: &Stage, name: &str, during: impl FnOnce() -> Result<()>) -> Result<Ledger> {
    stage.sending(name, || {
        let prober = Prober::start(stage.site.port(993)?, &stage.addresses[0]);
        let done = during();
        let (gap, failed) = prober.finish();
        say(&format!("not served for {gap:.1} s at most, {failed} tries failed"));
        done?;
        ensure!(gap < HANDED_OVER.as_secs_f64(), "not served for {gap:.1} s");
        Ok(())
    })
}

/// `kubectl drain` of the primary's node: the budgets let it through, and a mirror has the store before its pod is gone.
pub fn drained(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let others = stage.site.stores_on(&before.host)?;
    let promised = hardly_noticed(&twin, "drained-mirrors", || {
        let begun = Instant::now();
        twin.site.drain(&before.host)?;
        say(&format!("drained in {:.1} s", begun.elapsed().as_secs_f64()));
        let after = twin.serves_again(&before.name, before.epoch)?;
        ensure!(after.epoch == before.epoch + 1, "handed over once, not by epoch {}", after.epoch);
        Ok(())
    });
    twin.site.kubernetes.kubectl(&["uncordon", &before.host])?;
    stage.site.wait_elsewhere(&others)?;
    let promised = promised?;
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// The UIDs of all pods of stores, by name.
pub fn pods(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let found = stage.site.get(&["pods", "-l", "mailcluster.io/store"])?;
    let text = |pod: &Value, at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let items = found["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().map(|pod| (text(pod, "/metadata/name"), text(pod, "/metadata/uid"))).collect())
}

/// A changed template reaches every copy of every store as an upgrade does: one pod at a time, mirrors first, so that each
/// store is handed over once.
pub fn renewed(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    // Another than before, however often this is played.
    let cpu = format!("{}m", 11 + twin.epochs()?.iter().map(|(_, epoch)| epoch).sum::<u64>() % 50);
    let requests = json!({"resources": {"requests": {"cpu": cpu}}});
    let change = json!({"spec": {"stores": requests, "directory": requests}}).to_string();
    let promised = hardly_noticed(&twin, "renewed", || {
        let seconds = made_anew(&twin, &change)?;
        say(&format!("every pod made anew in {seconds:.1} s"));
        Ok(())
    })?;
    judged(&twin, &promised)
}

/// Waits until each of these pods is another.
pub fn all_new(of: &Stage, before: &BTreeMap<String, String>) -> Result<()> {
    wait_for("every store's pod is a new one", 2 * LIMIT, || {
        let now = pods(of)?;
        let old = before.iter().filter(|(name, uid)| now.get(*name) == Some(uid)).count();
        if now.len() < before.len() || old > 0 {
            bail!("{} of {}, {old} of them old", now.len(), before.len());
        }
        Ok(Some(()))
    })
}

/// Changes the MailCluster so that every copy's pod is made anew, and waits for it; each store is handed over once. Answers
/// how many seconds it took.
pub fn made_anew(twin: &Stage, change: &str) -> Result<f64> {
    let before = (pods(twin)?, twin.epochs()?);
    let begun = Instant::now();
    twin.kubectl(&["patch", "mailcluster", &twin.site.cluster, "--type", "merge", "--patch", change])?;
    all_new(twin, &before.0)?;
    all_in_sync(twin)?;
    let seconds = begun.elapsed().as_secs_f64();
    let handed: Vec<_> = before.1.iter().map(|(name, epoch)| (name.clone(), epoch + 1)).collect();
    let now = twin.epochs()?;
    if now != handed {
        let told: Vec<_> = now.iter().filter(|store| !handed.contains(store)).collect();
        let told = told.iter().map(|(name, _)| finished(twin, name)).collect::<Result<Vec<_>>>()?;
        bail!(
            "each store was to be handed over once: {:?} to {now:?}: {}",
            before.1,
            told.concat().join("; ")
        );
    }
    Ok(seconds)
}

/// What the operator said of a store's failovers, the latest last.
fn finished(of: &Stage, store: &str) -> Result<Vec<String>> {
    let about = format!("involvedObject.name={store},reason=FailoverFinished");
    let events = of.site.get(&["events", "--field-selector", &about])?;
    let items = events["items"].as_array().into_iter().flatten();
    let mut told: Vec<_> = items
        .map(|event| format!("{} {}", event_time(event), event["message"].as_str().unwrap_or_default()))
        .collect();
    told.sort();
    Ok(told)
}
