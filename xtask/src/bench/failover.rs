//! How long the users of a store are not served when its process or node is lost: measured by a client through the
//! Service, with a new connection for each try.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mailcluster_e2e::{
    NAMESPACE, Placed, Prober, SYSTEM, Site, Sizes, StoreView, mirrored_disks, mirrored_manifest, reads,
    wait_for,
};
use serde_json::{Value, json};

use super::crowd;
use crate::demo;

/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(300);

/// What is done to a store.
struct Case {
    kind: &'static str,
    /// What is arranged first, while all is well.
    arrange: Act,
    fault: Act,
    /// How it is mended.
    mend: Act,
}

type Act = fn(&Site, &StoreView) -> Result<()>;

const KINDS: [Case; 4] = [
    Case { kind: "crash", arrange: nothing, fault: crash, mend: renew },
    Case { kind: "drain", arrange: nothing, fault: cordon, mend: uncordon },
    Case { kind: "power-off", arrange: nothing, fault: power_off, mend: power_on },
    Case { kind: "partition", arrange: nothing, fault: partition, mend: heal },
];

/// The same for a store with three copies.
const MIRRORED: [Case; 5] = [
    Case { kind: "crash", arrange: nothing, fault: crash_copy, mend: nothing },
    Case { kind: "drain", arrange: nothing, fault: drain, mend: uncordon },
    Case { kind: "power-off", arrange: nothing, fault: power_off, mend: power_on },
    // With the operator's leader, the directory's primary and one of two frontends: in each of the runs.
    Case { kind: "power-off, all", arrange: all_on_its_node, fault: power_off, mend: power_on },
    Case { kind: "partition", arrange: nothing, fault: partition, mend: reconnect },
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
        wait_for("every copy has everything", LIMIT, || Ok(in_sync(&site.in_sync()?).then_some(())))
    })
}

/// Has every copy of the store and of the directory everything?
fn in_sync(stores: &[(String, usize)]) -> bool {
    stores.len() == 2 && stores.iter().all(|(_, copies)| *copies == 3)
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
    cases: &[Case],
    (site, accounts): (&Site, &[Placed]),
    settle: impl Fn() -> Result<()>,
) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    settle()?;
    for case in cases {
        let (kind, mut gaps) = (case.kind, Vec::new());
        for n in 1..=runs {
            let gap = measure(site, accounts, case)
                .with_context(|| format!("{kind}, run {n}"))
                .and_then(|(gap, host)| (case.mend)(site, &host).map(|()| gap))?;
            println!("{kind:<14} {n:>2}  {gap:6.1} s");
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
fn measure(site: &Site, accounts: &[Placed], case: &Case) -> Result<(f64, StoreView)> {
    let victim = accounts.first().context("no accounts")?;
    (case.arrange)(site, &site.store(&victim.store)?)?;
    let before = site.store(&victim.store)?;
    let port = site.port(993)?;
    let prober = Prober::start(port, &victim.address);
    (case.fault)(site, &before)?;
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

/// What moves single copies is the cordon; `kubectl drain` evicts the pod when its turn has come, as the operator does here.
fn cordon(site: &Site, store: &StoreView) -> Result<()> {
    site.kubernetes.kubectl(&["cordon", &store.host]).map(drop)
}

fn drain(site: &Site, store: &StoreView) -> Result<()> {
    let drained = site.drain(&store.host);
    if drained.is_err() {
        uncordon(site, store)?;
    }
    drained
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

/// The worst node to lose: the operator's leader, the directory's primary and a frontend are on it, too; whoever is to lead
/// next is elsewhere. That it is so is looked at last of all.
fn all_on_its_node(site: &Site, store: &StoreView) -> Result<()> {
    site.make_carry_all(&|what| println!("  {what}"), &store.host)?;
    let label = "app.kubernetes.io/name=mailcluster-operator";
    let nodes = ["-n", SYSTEM, "get", "pods", "-l", label, "-o", "jsonpath={.items[*].spec.nodeName}"];
    wait_for("all copies and an operator stand by for the loss of all else", LIMIT, || {
        let operators = site.kubernetes.kubectl(&nodes)?;
        let next = operators.split_whitespace().any(|node| node != store.host);
        let stand_by = in_sync(&site.in_sync()?);
        Ok((next && stand_by && site.carried(&store.host)?.lacks().is_empty()).then_some(()))
    })
}

/// Nobody was fenced.
fn reconnect(site: &Site, store: &StoreView) -> Result<()> {
    site.lab()?.heal(&store.host)
}
