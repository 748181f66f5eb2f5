//! Volumes: more of them, wrong ones, and old ones in a new Kubernetes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{DOMAIN, PASSWORD, Placed, SYSTEM, Site, StoreView, wait_for};
use mailcluster_lab::{Lab, VolumeSpec};
use mailcluster_test_clients::Ledger;
use serde_json::{Value, json};

use crate::{
    backups::as_in_a_backup,
    stage::{LIMIT, Stage, plan, pod_of, say},
};

/// The store that comes when `stores.count` is raised.
const ADDED: &str = "demo-3";

/// `stores.count` raised by one: the store comes, serves, and takes accounts and mail.
pub fn added(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let nodes: Vec<String> = site.lab()?.state()?.nodes.iter().map(|node| node.name.clone()).collect();
    site.lab()?.create_volumes(&[VolumeSpec::new("mail-store-d", &[&nodes[0], &nodes[1]], 1 << 30)])?;
    let ledger = stage.sending("added", || {
        let patch = json!({"spec": {"stores": {"count": 4}}}).to_string();
        stage.kubectl(&["patch", "mailcluster", "demo", "--type", "merge", "--patch", &patch])?;
        wait_for("the new store serves", LIMIT, || Ok((site.store(ADDED)?.phase == "Serving").then_some(())))
    })?;
    let late = Placed { address: format!("late@{DOMAIN}"), store: ADDED.to_owned() };
    let words = ["account", "add", &late.address, "--store", ADDED, "--password-file", "-"];
    site.admin(&words, PASSWORD)?;
    let own = Site::new(Lab::attach()?.into(), &site.cluster, site.binaries.clone());
    let newcomer = Stage::of(own, vec![late])?;
    let promised = newcomer.sending("late", || Ok(()))?;
    let verdict = site.read_back(&promised, &newcomer.addresses)?;
    ensure!(verdict.is_clean(), "{verdict}");
    say(&format!("{} messages on {ADDED}", verdict.accepted));
    Ok(ledger)
}

/// The contents of a store's volume are another store's, and of another none at all: both are refused by name, nobody is
/// served from them, mail for them waits; with the right ones back they serve.
pub fn exchanged(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let (one, other) = (&stage.accounts[0].store, stage.other_store()?);
    let (at_one, at_other) = (volume_of(stage, one)?, volume_of(stage, &other)?);
    let away = site.lab()?.paths().lab.join("set-aside");
    let (kept_one, kept_other) = (away.join("one"), away.join("other"));
    stage.sending("exchanged", || {
        with_pods_ended(stage, &[one, &other], || {
            copy(&at_one, &kept_one)?;
            copy(&at_other, &kept_other)?;
            copy(&kept_other, &at_one)?;
            emptied(&at_other)
        })?;
        let refused =
            refused(stage, one, "ForeignVolume").and_then(|()| refused(stage, &other, "EmptyVolume"));
        with_pods_ended(stage, &[one, &other], || {
            copy(&kept_one, &at_one)?;
            copy(&kept_other, &at_other)
        })?;
        std::fs::remove_dir_all(&away)?;
        refused?;
        site.wait_ready(LIMIT)
    })
}

/// Waits until the status of the store says so; its users are not served.
pub fn refused(stage: &Stage, store: &str, word: &str) -> Result<()> {
    let said = wait_for(&format!("{store} says {word}"), LIMIT, || {
        let view = stage.site.store(store)?;
        Ok(view.blocked.contains(word).then_some(view.blocked))
    })?;
    say(&format!("{store}: {said}"));
    ensure!(!stage.reads(&stage.user_of(store)?), "{store} is served from a wrong volume");
    Ok(())
}

/// The folder of the volume that a store's claim is bound to.
pub fn volume_of(stage: &Stage, store: &str) -> Result<PathBuf> {
    Ok(stage.site.lab()?.volume_path(&pv_of(stage, store)?))
}

/// The PersistentVolume that a store's claim is bound to.
fn pv_of(stage: &Stage, store: &str) -> Result<String> {
    let claims =
        stage.site.get(&["persistentvolumeclaims", "-l", &format!("mailcluster.io/store={store}")])?;
    let volume = claims.pointer("/items/0/spec/volumeName").and_then(Value::as_str);
    volume.map(str::to_owned).with_context(|| format!("{store} has no volume"))
}

/// Nothing runs on these stores' volumes meanwhile: no node takes their pods.
pub fn with_pods_ended(stage: &Stage, stores: &[&str], change: impl FnOnce() -> Result<()>) -> Result<()> {
    let nodes: Vec<String> = stage.site.lab()?.state()?.nodes.iter().map(|node| node.name.clone()).collect();
    // Or the operator would take the cordons for drains.
    stage.scale_operator(0)?;
    for node in &nodes {
        stage.site.kubernetes.kubectl(&["cordon", node])?;
    }
    let changed = ended(stage, stores).and_then(|()| change());
    for node in &nodes {
        stage.site.kubernetes.kubectl(&["uncordon", node])?;
    }
    stage.scale_operator(2)?;
    changed
}

fn ended(stage: &Stage, stores: &[&str]) -> Result<()> {
    for store in stores {
        stage.kubectl(&["delete", "pod", &pod_of(store), "--wait=false"])?;
    }
    wait_for("their pods have ended", LIMIT, || {
        for store in stores {
            let pod = stage.site.get(&["pod", &pod_of(store)])?;
            if pod.pointer("/spec/nodeName").is_some() {
                bail!("{store} still runs");
            }
        }
        Ok(Some(()))
    })
}

/// Puts a copy of what is in one folder into another, and nothing else.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    emptied(to)?;
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status()?;
    ensure!(status.success(), "cp {} {}", from.display(), to.display());
    Ok(())
}

pub fn emptied(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // The file system's own.
        if path.file_name().is_some_and(|name| name == "lost+found") {
            continue;
        }
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    Ok(())
}

/// A store's machine is dead, and the other node of its volume is closed to it: its disk goes to a third one, where it
/// is adopted. The lab's disks are plugged into every machine already; what ties one to nodes is its PersistentVolume.
pub fn adopted(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let chart = plan(&site.binaries)?.chart();
    let value = "clusterAccess.adoptVolumes=true";
    let words = ["upgrade", "mailcluster", &chart, "--namespace", SYSTEM, "--reuse-values", "--set", value];
    site.kubernetes.helm(&words)?;
    stage.site.kubernetes.kubectl(&[
        "-n",
        SYSTEM,
        "rollout",
        "status",
        "deployment/mailcluster-operator",
        "--timeout=180s",
    ])?;
    wait_for("an operator leads", LIMIT, || site.leader().map(Some))?;
    let store = stage.other_store()?;
    let home = site.store(&store)?;
    let volume = stage.site.kubernetes.kubectl(&["get", "pv", &pv_of(stage, &store)?, "-o", "json"])?;
    let volume: Value = serde_json::from_str(&volume)?;
    let name = volume.pointer("/metadata/name").and_then(Value::as_str).context("a name")?;
    let reached = reached_from(&volume);
    let others = site.other_nodes(&home.host)?;
    let third =
        others.iter().find(|node| !reached.contains(node)).context("every node reaches its volume")?;
    // It goes first in a failover, and would be waited for.
    if site.store("demo-directory")?.host == home.host {
        site.admin(&["failover", "demo-directory"], "")?;
    }
    let closed: Vec<&String> = others.iter().filter(|node| reached.contains(node)).collect();
    for node in &closed {
        site.kubernetes.kubectl(&["taint", "node", node, "test/closed=:NoSchedule"])?;
    }
    let ledger = stage.sending("adopted", || adopt(stage, &home, name, third));
    for node in &closed {
        site.kubernetes.kubectl(&["taint", "node", node, "test/closed:NoSchedule-"])?;
    }
    site.power_on(&home.host)?;
    let claims = site.get(&["persistentvolumeclaims", "-l", &format!("mailcluster.io/store={store}")])?;
    let phase = claims.pointer("/items/0/status/phase").and_then(Value::as_str);
    ensure!(phase == Some("Bound"), "the claim of {store} is {phase:?}");
    ledger
}

fn adopt(stage: &Stage, home: &StoreView, volume: &str, third: &str) -> Result<()> {
    let site = &stage.site;
    let asked = ["store", "adopt", "--pv", volume, "--to", third, "--wait", "200"];
    let served = site.admin(&asked, "").err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(served.contains("is served from"), "a store that is served is not adopted: {served}");
    site.lab()?.power_off(&home.host)?;
    wait_for("the store has nowhere to go", LIMIT, || {
        let view = site.store(&home.name)?;
        let nowhere = ["NoCandidateNode", "OneNodeVolume"].iter().any(|why| view.blocked.contains(why));
        Ok(nowhere.then_some(()))
    })?;
    site.admin(&asked, "")?;
    let view = stage.serves_again(&home.name, home.epoch)?;
    ensure!(view.host == third, "it was to be adopted on {third} and is on {}", view.host);
    let made: Value = serde_json::from_str(&site.kubernetes.kubectl(&["get", "pv", volume, "-o", "json"])?)?;
    ensure!(reached_from(&made) == [third], "the volume is reached from {:?}", reached_from(&made));
    say(&format!("{} is served from {third}, {volume} was made anew for it", home.name));
    Ok(())
}

/// The nodes that a volume names.
fn reached_from(volume: &Value) -> Vec<String> {
    let path = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values";
    let values = volume.pointer(path).and_then(Value::as_array);
    values.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Everything of ours is gone from the Kubernetes but the disks: the volumes are registered as a backup of their
/// objects has them, the chart and the MailCluster applied as on the first day, and everybody reads his mail.
pub fn old_volumes_in_an_empty_kubernetes(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let before = site.known_accounts()?;
    let ledger = stage.sending("empty-kubernetes", || Ok(()))?;
    stage.settle()?;
    let manifest = stage.kubectl(&["get", "mailcluster", "demo", "-o", "jsonpath={.spec}"])?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let epochs = stage.epochs()?;
    let volumes = all_gone(stage)?;
    for volume in volumes {
        site.kubernetes.apply(&volume.to_string())?;
    }
    plan(&site.binaries)?.install_chart(&site.kubernetes)?;
    wait_for("an operator leads", LIMIT, || site.leader().map(Some))?;
    site.bmc_secret()?;
    let object = json!({"apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
        "metadata": {"name": "demo", "namespace": site.namespace}, "spec": manifest});
    wait_for("the MailCluster is taken", LIMIT, || site.kubernetes.apply(&object.to_string()).map(Some))?;
    site.wait_ready(LIMIT)?;
    let mut after = site.known_accounts()?;
    after.sort();
    let mut before = before;
    before.sort();
    ensure!(before == after, "accounts before {before:?} and after {after:?}");
    for (store, epoch) in stage.epochs()? {
        let old = epochs.iter().find(|(name, _)| *name == store).map_or(0, |(_, epoch)| *epoch);
        ensure!(epoch > old, "{store} serves at epoch {epoch}, before at {old}");
    }
    Ok(ledger)
}

/// Takes everything away but the disks; answers the objects of the volumes, as a backup would have them.
fn all_gone(stage: &Stage) -> Result<Vec<Value>> {
    let lab = stage.site.lab()?;
    stage.kubectl(&["delete", "mailcluster", "demo", "--timeout=120s"])?;
    let claims = stage.site.get(&["persistentvolumeclaims"])?;
    let bound = |claim: &Value| claim.pointer("/spec/volumeName").and_then(Value::as_str).map(str::to_owned);
    let names: Vec<String> = claims["items"].as_array().into_iter().flatten().filter_map(bound).collect();
    ensure!(names.len() >= 4, "the claims went with the MailCluster: {names:?}");
    let mut volumes = Vec::new();
    for name in &names {
        let volume = serde_json::from_str(&lab.kubectl(&["get", "pv", name, "-o", "json"])?)?;
        volumes.push(as_in_a_backup(volume, &["name", "labels", "annotations"]));
    }
    lab.helm(&["uninstall", "mailcluster", "--namespace", SYSTEM, "--wait"])?;
    lab.kubectl(&["delete", "namespace", &stage.site.namespace, SYSTEM, "--timeout=120s"])?;
    let words =
        ["delete", "crd", "mailclusters.mailcluster.io", "mailstores.mailcluster.io", "--timeout=60s"];
    lab.kubectl(&words)?;
    let mut words = vec!["delete", "pv", "--timeout=60s"];
    words.extend(names.iter().map(String::as_str));
    lab.kubectl(&words)?;
    say("no object of ours is left in this Kubernetes");
    Ok(volumes)
}
