//! How long the users of a store are not served when its process or node is lost: measured by a client through the
//! Service, with a new connection for each try.

use std::time::Duration;

use anyhow::{Context, Result};
use mailcluster_e2e::{NAMESPACE, Placed, Prober, Site, StoreView, reads, wait_for};
use serde_json::{Value, json};

use crate::demo;

/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(300);

/// What is done to the store, and how it is mended.
const KINDS: [(&str, Fault, Fault); 4] = [
    ("crash", crash, renew),
    ("drain", drain, uncordon),
    ("power-off", power_off, power_on),
    ("partition", partition, heal),
];

type Fault = fn(&Site, &StoreView) -> Result<()>;

/// Runs each kind so many times on the cluster that a demo left up, or on one of its own.
pub fn run(runs: usize) -> Result<Vec<Value>> {
    let (site, accounts) = demo::site()?;
    // A demo leaves its victim switched off: each store is to have somewhere to go.
    for node in site.lab()?.state()?.nodes {
        site.power_on(&node.name)?;
    }
    let mut rows = Vec::new();
    for (kind, fault, mend) in KINDS {
        let mut gaps = Vec::new();
        for n in 1..=runs {
            let gap = measure(&site, &accounts, fault)
                .with_context(|| format!("{kind}, run {n}"))
                .and_then(|(gap, host)| mend(&site, &host).map(|()| gap))?;
            println!("{kind:<10} {n:>2}  {gap:6.1} s");
            gaps.push(gap);
            site.wait_ready(LIMIT)?;
        }
        gaps.sort_by(f64::total_cmp);
        rows.push(json!({"name": "failover", "kind": kind, "runs": runs, "min": gaps.first(),
            "median": gaps.get(gaps.len() / 2), "max": gaps.last()}));
    }
    Ok(rows)
}

/// One fault; answers the gap in seconds, and the store as it was.
fn measure(site: &Site, accounts: &[Placed], fault: Fault) -> Result<(f64, StoreView)> {
    let victim = accounts.first().context("no accounts")?;
    let before = site.store(&victim.store)?;
    let port = site.port(993)?;
    let prober = Prober::start(port, &victim.address);
    fault(site, &before)?;
    wait_for("the store serves again", LIMIT, || {
        let now = site.store(&victim.store)?;
        Ok((now.epoch > before.epoch && reads(port, &victim.address)).then_some(()))
    })?;
    let (gap, _) = prober.finish();
    Ok((gap, before))
}

/// The kubelet lets a container that ends again soon wait longer each time; a new pod's does not wait.
fn renew(site: &Site, store: &StoreView) -> Result<()> {
    site.restart_store(&store.name, || true).map(drop)
}

fn crash(site: &Site, store: &StoreView) -> Result<()> {
    site.lab()?.kill_pod(NAMESPACE, &format!("{}-a-0", store.name))
}

/// What moves the stores is the cordon; `kubectl drain` evicts the pod when its turn has come, as the operator does here.
fn drain(site: &Site, store: &StoreView) -> Result<()> {
    site.kubernetes.kubectl(&["cordon", &store.host]).map(drop)
}

fn uncordon(site: &Site, store: &StoreView) -> Result<()> {
    site.kubernetes.kubectl(&["uncordon", &store.host]).map(drop)
}

fn power_off(site: &Site, store: &StoreView) -> Result<()> {
    site.lab()?.power_off(&store.host)
}

fn power_on(site: &Site, store: &StoreView) -> Result<()> {
    site.power_on(&store.host)
}

fn partition(site: &Site, store: &StoreView) -> Result<()> {
    site.lab()?.partition(&store.host)
}

/// The fence Job has switched it off meanwhile.
fn heal(site: &Site, store: &StoreView) -> Result<()> {
    site.lab()?.heal(&store.host)?;
    site.power_on(&store.host)
}
