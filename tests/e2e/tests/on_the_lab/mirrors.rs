//! A MailCluster of stores with three copies, each on the disk of one node that no other reaches: when that node dies,
//! a mirror takes over, without a fence, and the dead one's copy catches up when it is back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{Site, StoreView, wait_for};
use mailcluster_lab::{Lab, VolumeSpec};
use mailcluster_test_clients::Ledger;
use serde_json::{Value, json};

use crate::stage::{LIMIT, Stage, say};

const NAME: &str = "twin";
const COPIES: usize = 3;

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
    let site = Site {
        namespace: NAME.to_owned(),
        cluster: NAME.to_owned(),
        ..Site::new(Lab::attach()?.into(), NAME, stage.site.binaries.clone())
    };
    if site.kubernetes.kubectl(&["get", "namespace", NAME]).is_err() {
        let nodes: Vec<String> = site.lab()?.state()?.nodes.iter().map(|node| node.name.clone()).collect();
        let mut disks = Vec::new();
        for node in nodes.iter().map(String::as_str) {
            disks.push(VolumeSpec::new(&volume("directory", node), &[node], 320 << 20));
            disks.push(VolumeSpec::new(&volume("store", node), &[node], 420 << 20));
        }
        site.lab()?.create_volumes(&disks)?;
        site.kubernetes.kubectl(&["create", "namespace", NAME])?;
    }
    site.kubernetes.apply(&manifest())?;
    site.wait_ready(LIMIT)?;
    wait_for("the Service has an address", LIMIT, || site.address().map(Some))?;
    let accounts = match site.known_accounts() {
        Ok(accounts) if !accounts.is_empty() => accounts,
        _ => site.make_accounts(&say)?,
    };
    let mirrored = Stage::of(site, accounts)?;
    all_in_sync(&mirrored)?;
    mirrored.site.empty_mailboxes(&mirrored.addresses)?;
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

/// Compares what was promised with what is there, and answers nothing for the other cluster's ledger.
fn judged(stage: &Stage, promised: &Ledger) -> Result<Ledger> {
    stage.settle()?;
    let verdict = stage.site.read_back(promised, &stage.addresses)?;
    ensure!(verdict.is_clean(), "{verdict}");
    say(&format!("{} messages on the mirrored cluster, none lost, none twice", verdict.accepted));
    Ok(Ledger::default())
}

/// The only mail store.
fn store(stage: &Stage) -> Result<StoreView> {
    stage.site.store(&format!("{NAME}-0"))
}

/// Waits until a store's users can read at a higher epoch, and answers after how long that was.
fn followed(stage: &Stage, before: &StoreView, since: Instant) -> Result<StoreView> {
    wait_for("its users read again", LIMIT, || Ok(stage.reads(&stage.addresses[0]).then_some(())))?;
    let took = since.elapsed();
    let after = stage.serves_again(&before.name, before.epoch)?;
    say(&format!(
        "epoch {} on {} -> {} on {}, read again after {:.1} s",
        before.epoch,
        before.host,
        after.epoch,
        after.host,
        took.as_secs_f64()
    ));
    ensure!(after.host != before.host, "it was to leave {}", before.host);
    Ok(after)
}

/// The primary's node loses its power; it comes back, and its copies catch up. The other cluster's stores on it move as
/// they do: after a fence.
pub fn lost_primary(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let promised = twin.sending("lost-primary", || {
        let cut = Instant::now();
        twin.site.lab()?.power_off(&before.host)?;
        followed(&twin, &before, cut).map(drop)
    })?;
    twin.site.power_on(&before.host)?;
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// A primary that is told to end hands its store over first; and one that a person asks, to the copy on that node.
pub fn handed_over(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let pods = twin.site.get(&["pods", "-l", &format!("mailcluster.io/store={}", before.name)])?;
    let on = |pod: &&Value| pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(&before.host);
    let pod = pods["items"].as_array().into_iter().flatten().find(on).context("no pod of the primary")?;
    let pod = pod.pointer("/metadata/name").and_then(Value::as_str).context("no name")?.to_owned();
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
    let pods = twin.site.get(&["pods", "-l", &format!("mailcluster.io/store={}", before.name)])?;
    let off = |pod: &&Value| pod.pointer("/spec/nodeName").and_then(Value::as_str) != Some(&before.host);
    let pod = pods["items"].as_array().into_iter().flatten().find(off).context("no pod of a mirror")?;
    let pod = pod.pointer("/metadata/name").and_then(Value::as_str).context("no name")?.to_owned();
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

/// Takes the cluster down: the disks are needed by nobody else.
pub fn taken_down(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let patch = json!({"spec": {"deletionPolicy": "Delete"}}).to_string();
    twin.kubectl(&["patch", "mailcluster", NAME, "--type", "merge", "--patch", &patch])?;
    twin.kubectl(&["delete", "mailcluster", NAME, "--timeout=120s"])?;
    twin.site.kubernetes.kubectl(&["delete", "namespace", NAME])?;
    for node in twin.site.lab()?.state()?.nodes {
        for of in ["directory", "store"] {
            let name = volume(of, &node.name);
            twin.site.kubernetes.kubectl(&["delete", "persistentvolume", &name, "--ignore-not-found"])?;
        }
    }
    Ok(Ledger::default())
}
