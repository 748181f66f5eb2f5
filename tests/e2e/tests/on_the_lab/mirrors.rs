//! A MailCluster of stores with three copies, each on the disk of one node that no other reaches: when that node dies,
//! a mirror takes over, without a fence, and the dead one's copy catches up when it is back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{StoreView, wait_for};
use mailcluster_lab::VolumeSpec;
use mailcluster_test_clients::Ledger;
use serde_json::{Value, json};

use crate::{
    beside::{self, judged},
    stage::{LIMIT, Stage, say},
    volumes::emptied,
};

const NAME: &str = "twin";
const COPIES: usize = 3;
/// A disk for a copy that is replaced.
const SPARE: &str = "spare";

/// The name of a volume: the lab keeps those of an earlier run.
fn volume(of: &str, node: &str) -> String {
    format!("{NAME}-{of}-{node}-{}", std::process::id())
}

fn manifest() -> String {
    let storage = |size: &str| json!({"storageClassName": "mail-local", "size": size});
    json!({"apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
    "metadata": {"name": NAME, "namespace": NAME},
    "spec": {
        "hostname": "twin.example.org",
        "frontends": {"replicas": 2},
        "stores": {"count": 1, "replicas": COPIES, "mirrorTimeoutMilliseconds": 1000,
            "storage": storage("420Mi")},
        "directory": {"storage": storage("320Mi")},
        "failover": {"leaseSeconds": 8},
    }})
    .to_string()
}

/// The mirrored cluster, made when it is not there yet. Each node has a disk for a copy of the store, and one for a copy
/// of the directory.
fn mirrored(stage: &Stage) -> Result<Stage> {
    let mirrored = beside::cluster(stage, NAME, &manifest(), |nodes| {
        let disk = |of: &str, node: &str, size: u64| VolumeSpec::new(&volume(of, node), &[node], size);
        let disks = |node: &&str| [disk("directory", node, 320 << 20), disk("store", node, 420 << 20)];
        nodes.iter().flat_map(disks).collect()
    })?;
    all_in_sync(&mirrored)?;
    Ok(mirrored)
}

/// How many copies of each store have everything, by their Leases.
fn in_sync(stage: &Stage) -> Result<Vec<(String, usize)>> {
    let leases = stage.site.get(&["leases", "-l", "mailcluster.io/store"])?;
    let members = |lease: &Value| {
        let set = lease.pointer("/metadata/annotations/mailcluster.io~1in-sync").and_then(Value::as_str);
        let (_, ids) = set.unwrap_or_default().split_once(':').unwrap_or_default();
        ids.split(',').filter(|id| !id.is_empty()).count()
    };
    let name = |lease: &Value| lease.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let items = leases["items"].as_array().context("no leases")?;
    Ok(items.iter().filter_map(|lease| Some((name(lease)?, members(lease)))).collect())
}

fn all_in_sync(stage: &Stage) -> Result<()> {
    wait_for("every copy has everything", LIMIT, || {
        let now = in_sync(stage)?;
        if now.is_empty() || now.iter().any(|(_, copies)| *copies < COPIES) {
            bail!("{now:?}");
        }
        Ok(Some(()))
    })
}

/// The only mail store.
fn store(stage: &Stage) -> Result<StoreView> {
    stage.site.store(&format!("{NAME}-0"))
}

/// A pod of that store, on a node that is `meant`.
fn pod_where(stage: &Stage, meant: impl Fn(&str) -> bool) -> Result<String> {
    let pods = stage.site.get(&["pods", "-l", &format!("mailcluster.io/store={NAME}-0")])?;
    let is_meant = |pod: &&Value| pod.pointer("/spec/nodeName").and_then(Value::as_str).is_some_and(&meant);
    let pod = pods["items"].as_array().into_iter().flatten().find(is_meant).context("no such pod")?;
    Ok(pod.pointer("/metadata/name").and_then(Value::as_str).context("no name")?.to_owned())
}

/// Waits until a store's users can read at a higher epoch, and answers after how long that was.
fn followed(stage: &Stage, before: &StoreView, since: Instant) -> Result<StoreView> {
    wait_for("its users read again", LIMIT, || Ok(stage.reads(&stage.addresses[0]).then_some(())))?;
    let took = since.elapsed();
    stage.serves_again(&before.name, before.epoch)?;
    // The holder says that it serves, and the operator, a moment later, on which node that is.
    let after = wait_for(&format!("it has left {}", before.host), LIMIT, || {
        let now = stage.site.store(&before.name)?;
        Ok((now.host != before.host).then_some(now))
    })?;
    say(&format!(
        "epoch {} on {} -> {} on {}, read again after {:.1} s",
        before.epoch,
        before.host,
        after.epoch,
        after.host,
        took.as_secs_f64()
    ));
    Ok(after)
}

/// The primary's node loses its power; it comes back, and its copies catch up. The other cluster's stores on it move as
/// they do: after a fence.
pub fn lost_primary(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let fenced = stage.site.stores_on(&before.host)?;
    let promised = twin.sending("lost-primary", || {
        let cut = Instant::now();
        twin.site.lab()?.power_off(&before.host)?;
        followed(&twin, &before, cut).map(drop)
    })?;
    // A fence that is still under way would switch the node off again.
    stage.site.wait_elsewhere(&fenced)?;
    twin.site.power_on(&before.host)?;
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// A primary that is told to end hands its store over first; and one that a person asks, to the copy on that node.
pub fn handed_over(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let pod = pod_where(&twin, |node| node == before.host)?;
    let promised = twin.sending("handed-over", || {
        let begun = Instant::now();
        twin.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
        let away = followed(&twin, &before, begun)?;
        all_in_sync(&twin)?;
        let begun = Instant::now();
        // It is refused until the copy there, which has just come back, says that it stands by.
        wait_for("it is asked for", LIMIT, || {
            twin.site.admin(&["failover", &before.name, "--to", &before.host], "").map(Some)
        })?;
        let back = followed(&twin, &away, begun)?;
        ensure!(back.host == before.host, "it was to go back to {} and is on {}", before.host, back.host);
        Ok(())
    })?;
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// A mirror that hangs holds a write up once, for no longer than mirrorTimeout; it catches up when it goes on.
pub fn hanging_mirror(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let pod = pod_where(&twin, |node| node != before.host)?;
    let promised = twin.sending("hanging-mirror", || {
        twin.site.lab()?.pause_pod(NAME, &pod)?;
        let left_out = wait_for("it is left out", LIMIT, || {
            let now = in_sync(&twin)?;
            Ok(now.iter().any(|(name, copies)| *name == before.name && *copies < COPIES).then_some(()))
        });
        let read = twin.all_can_read_for(Duration::from_secs(3));
        if let Err(error) = twin.site.lab()?.resume_pod(NAME, &pod) {
            say(&format!("the frozen process is gone: {error}"));
        }
        left_out.and(read)
    })?;
    ensure!(store(&twin)?.epoch == before.epoch, "nobody was to take over");
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// A mirror's disk is exchanged for an empty one: it does not begin anew by itself. A new copy takes its place, has
/// everything soon, and serves.
pub fn replaced(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let lab = twin.site.lab()?;
    let pod = pod_where(&twin, |node| node != before.host)?;
    let object = twin.site.get(&["pod", &pod])?;
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let node = text("/spec/nodeName").context("no node")?;
    let copy = pod.trim_end_matches("-0").chars().last().context("no letter")?.to_string();
    lab.create_volumes(&[VolumeSpec::new(&volume(SPARE, &node), &[&node], 420 << 20)])?;
    let promised = twin.sending("replaced", || {
        emptied(&lab.volume_path(&volume("store", &node)))?;
        lab.kill_pod(NAME, &pod)?;
        wait_for("it refuses the empty disk", LIMIT, || {
            let log = twin.kubectl(&["logs", &pod, "--tail=20"])?;
            Ok(log.contains("EmptyVolume").then_some(()))
        })?;
        let begun = Instant::now();
        let words = ["store", "replace-replica", &before.name, &copy, "--yes", "--wait", "240"];
        let said = twin.site.admin(&words, "")?;
        say(&format!("after {:.1} s: {}", begun.elapsed().as_secs_f64(), said.trim()));
        wait_for("it is asked for", LIMIT, || {
            twin.site.admin(&["failover", &before.name, "--to", &node], "").map(Some)
        })?;
        Ok(())
    })?;
    ensure!(store(&twin)?.host == node, "the new copy was to serve");
    let kept = twin.site.get(&["persistentvolumeclaims", "-l", "mailcluster.io/retired=true"])?;
    ensure!(kept["items"].as_array().is_some_and(|claims| claims.len() == 1), "one claim is kept: {kept}");
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// Takes the cluster down: the disks are needed by nobody else.
pub fn taken_down(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    beside::delete(&twin)?;
    let nodes = twin.site.lab()?.state()?.nodes;
    let disks = nodes.iter().flat_map(|node| ["directory", "store", SPARE].map(|of| volume(of, &node.name)));
    beside::remove(&twin, &disks.collect::<Vec<_>>())?;
    Ok(Ledger::default())
}
