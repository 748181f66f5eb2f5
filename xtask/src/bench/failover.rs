//! How long the users of a store are not served when its process or node is lost: measured by a client through the
//! Service, with a new connection for each try.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mailcluster_e2e::{
    NAMESPACE, Placed, Prober, Site, Sizes, StoreView, mirrored_disks, mirrored_manifest, reads, wait_for,
};
use serde_json::{Value, json};

use super::crowd;
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

/// The same for a store with three copies.
const MIRRORED: [(&str, Fault, Fault); 4] = [
    ("crash", crash_copy, nothing),
    ("hand-over", end_copy, nothing),
    ("power-off", power_off, power_on),
    ("partition", partition, reconnect),
];

/// A deadline, not an expectation.
const LIMIT_OF_IMPORT: Duration = Duration::from_secs(1800);
/// The domain of those who are not read.
const CROWD: &str = "crowd.test";

/// The mirrored cluster.
const TWIN: &str = "twin";

/// Runs each kind so many times on the cluster that a demo left up, or on one of its own.
pub fn run(runs: usize) -> Result<Vec<Value>> {
    let (site, accounts) = ready()?;
    rows(("failover", runs), &KINDS, (&site, &accounts), || site.wait_ready(LIMIT))
}

/// The same on a cluster with mirrors, made beside it. The other one's stores are moved off the nodes that die, so that
/// no fence switches a node off once more. The store has so many accounts, beside those that are read.
pub fn run_mirrored(runs: usize, accounts_beside: usize) -> Result<Vec<Value>> {
    let (demo, _) = ready()?;
    demo.kubernetes.kubectl(&["-n", NAMESPACE, "delete", "mailcluster", "demo", "--timeout=120s"])?;
    let volume = |of: &str, node: &str| format!("{TWIN}-{of}-{node}-{}", std::process::id());
    let sizes = Sizes::of(u64::try_from(accounts_beside)?);
    let disks = |nodes: &[&str]| mirrored_disks(nodes, sizes, volume);
    let say = |what: &str| println!("{what}");
    let (site, accounts) = demo.beside(TWIN, &mirrored_manifest(TWIN, sizes), disks, &say)?;
    fill(&site, accounts_beside)?;
    let name = format!("failover-mirrored, {accounts_beside} accounts");
    rows((&name, runs), &MIRRORED, (&site, &accounts), || {
        wait_for("every copy has everything", LIMIT, || {
            let all = site.in_sync()?;
            Ok((all.len() == 2 && all.iter().all(|(_, copies)| *copies == 3)).then_some(()))
        })
    })
}

/// Imports accounts and waits until the last of them is active.
fn fill(site: &Site, count: usize) -> Result<()> {
    let Some(last) = count.checked_sub(1).map(|last| crowd::address(last, CROWD)) else { return Ok(()) };
    let is_active =
        || site.admin(&["account", "show", &last], "").is_ok_and(|shown| shown.contains("active"));
    if is_active() {
        return Ok(());
    }
    site.admin(&["domain", "add", CROWD], "")?;
    let folder = mailcluster_interop::scratch("crowd")?;
    let file = folder.join("crowd.csv");
    std::fs::write(&file, crowd::csv(0..count, CROWD)?)?;
    let begun = Instant::now();
    site.admin(&["account", "import", file.to_str().context("path")?], "")?;
    std::fs::remove_dir_all(folder)?;
    println!("{count} accounts imported after {:.0} s", begun.elapsed().as_secs_f64());
    wait_for("the last account is active", LIMIT_OF_IMPORT, || Ok(is_active().then_some(())))?;
    println!("... and active after {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The demo's cluster, each node of it on.
fn ready() -> Result<(Site, Vec<Placed>)> {
    let (site, accounts) = demo::site()?;
    // A demo leaves its victim switched off: each store is to have somewhere to go.
    for node in site.lab()?.state()?.nodes {
        site.power_on(&node.name)?;
    }
    Ok((site, accounts))
}

fn rows(
    (name, runs): (&str, usize),
    kinds: &[(&str, Fault, Fault)],
    (site, accounts): (&Site, &[Placed]),
    settle: impl Fn() -> Result<()>,
) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    settle()?;
    for (kind, fault, mend) in kinds {
        let mut gaps = Vec::new();
        for n in 1..=runs {
            let gap = measure(site, accounts, *fault)
                .with_context(|| format!("{kind}, run {n}"))
                .and_then(|(gap, host)| mend(site, &host).map(|()| gap))?;
            println!("{kind:<10} {n:>2}  {gap:6.1} s");
            gaps.push(gap);
            settle()?;
        }
        gaps.sort_by(f64::total_cmp);
        rows.push(json!({"name": name, "kind": kind, "runs": runs, "min": gaps.first(),
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
    // The host that the status names is of an older epoch until the operator has seen the new one.
    wait_for("the operator has seen it", LIMIT, || {
        let now = site.store(&victim.store)?;
        Ok((now.phase == "Serving" && now.seen == now.epoch).then_some(()))
    })?;
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

/// Nothing is to be mended.
fn nothing(_: &Site, _: &StoreView) -> Result<()> {
    Ok(())
}

fn crash_copy(site: &Site, store: &StoreView) -> Result<()> {
    let pod = site.copy_on(&store.name, |node| node == store.host)?;
    site.lab()?.kill_pod(&site.namespace, &pod)
}

fn end_copy(site: &Site, store: &StoreView) -> Result<()> {
    let pod = site.copy_on(&store.name, |node| node == store.host)?;
    site.kubernetes.kubectl(&["-n", &site.namespace, "delete", "pod", &pod, "--wait=false"]).map(drop)
}

/// Nobody was fenced.
fn reconnect(site: &Site, store: &StoreView) -> Result<()> {
    site.lab()?.heal(&store.host)
}
