//! A MailCluster of stores with three copies, each on the disk of one node that no other reaches: when that node dies,
//! a mirror takes over, without a fence, and the dead one's copy catches up when it is back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{Prober, Sizes, StoreView, mirrored_disks, mirrored_manifest, wait_for};
use mailcluster_lab::VolumeSpec;
use mailcluster_test_clients::{Ledger, Load, LoadPlan};
use serde_json::{Value, json};

use crate::{
    beside::{self, judged},
    stage::{LIMIT, Stage, say},
    volumes::emptied,
};

const NAME: &str = "twin";
pub const COPIES: usize = 3;
/// A disk for a copy that is replaced.
const SPARE: &str = "spare";
/// A disk for a copy that takes the place of one that was lost for good.
pub const AFTER: &str = "after";
/// For so long it is watched that nothing is moved: the operator looks every two seconds.
const STAYS: Duration = Duration::from_secs(10);
/// Octets of a large message, and how many of them have a new copy get files: those have more than 64 MiB, which records
/// would be sent for below.
const LARGE: usize = 2 << 20;
const MANY: usize = 48;

/// The name of a volume: the lab keeps those of an earlier run.
pub fn volume(of: &str, node: &str) -> String {
    format!("{NAME}-{of}-{node}-{}", std::process::id())
}

/// The mirrored cluster, made when it is not there yet. Each node has a disk for a copy of the store, and one for a copy
/// of the directory.
pub fn mirrored(stage: &Stage) -> Result<Stage> {
    mirrored_as(stage, NAME, volume)
}

/// One of another name, with these volumes.
pub fn mirrored_as(stage: &Stage, name: &str, volume: fn(&str, &str) -> String) -> Result<Stage> {
    let sizes = Sizes::of(0);
    let disks = |nodes: &[&str]| mirrored_disks(nodes, sizes, volume);
    let mirrored = beside::cluster(stage, name, &mirrored_manifest(name, sizes), disks)?;
    all_in_sync(&mirrored)?;
    Ok(mirrored)
}

pub fn all_in_sync(stage: &Stage) -> Result<()> {
    wait_for("every copy has everything", LIMIT, || {
        let now = stage.site.in_sync()?;
        if now.is_empty() || now.iter().any(|(_, copies)| *copies < COPIES) {
            bail!("{now:?}");
        }
        Ok(Some(()))
    })
}

/// The only mail store.
pub fn store(stage: &Stage) -> Result<StoreView> {
    stage.site.store(&format!("{NAME}-0"))
}

/// Does something to the primary, and waits until another copy serves at a higher epoch; says for how long a client with
/// a new connection for each try was not served.
fn followed(stage: &Stage, before: &StoreView, fault: impl FnOnce() -> Result<()>) -> Result<StoreView> {
    let prober = Prober::start(stage.site.port(993)?, &stage.addresses[0]);
    let after = fault().and_then(|()| {
        stage.serves_again(&before.name, before.epoch)?;
        // The holder says that it serves, and the operator, a moment later, on which node that is.
        wait_for(&format!("it has left {}", before.host), LIMIT, || {
            let now = stage.site.store(&before.name)?;
            Ok((now.host != before.host).then_some(now))
        })
    });
    let (gap, _) = prober.finish();
    let after = after?;
    say(&format!(
        "epoch {} on {} -> {} on {}, not served for {gap:.1} s",
        before.epoch, before.host, after.epoch, after.host
    ));
    Ok(after)
}

/// No client is sent to the frontends of a dead node, and not only since Kubernetes has noticed that it is dead.
fn taken_out(stage: &Stage, node: &str) -> Result<()> {
    let of_service = format!("kubernetes.io/service-name={NAME}");
    let in_time = wait_for("the dead frontend is taken out", LIMIT, || {
        let object = stage.site.get(&["node", node])?;
        let slices = stage.site.get(&["endpointslices", "-l", &of_service])?;
        let slices = slices["items"].as_array().cloned().unwrap_or_default();
        let mut endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
        let is_sent_to = endpoints.any(|e| e["nodeName"] == node && e["conditions"]["ready"] == true);
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let is_alive = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        let passes_for_alive = conditions.into_iter().flatten().any(is_alive);
        Ok((!is_sent_to || !passes_for_alive).then_some(passes_for_alive))
    })?;
    ensure!(in_time, "Kubernetes has noticed first that {node} is dead");
    Ok(())
}

/// The primary's node loses its power; it comes back, and its copies catch up. The other cluster's stores on it move as
/// they do: after a fence.
pub fn lost_primary(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let fenced = stage.site.stores_on(&before.host)?;
    let promised = twin.sending("lost-primary", || {
        followed(&twin, &before, || {
            twin.site.lab()?.power_off(&before.host)?;
            taken_out(&twin, &before.host)
        })
        .map(drop)
    })?;
    // A fence that is still under way would switch the node off again.
    stage.site.wait_elsewhere(&fenced)?;
    twin.site.power_on(&before.host)?;
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// Has the store served from that node. It is refused until the operator has heard that the copy there stands by.
fn asked_for(stage: &Stage, store: &str, node: &str) -> Result<()> {
    let asked = || {
        let now = stage.site.store(store)?;
        if now.host == node && now.phase == "Serving" && now.seen == now.epoch {
            return Ok(Some(String::new()));
        }
        stage.site.admin(&["failover", store, "--to", node], "").map(Some)
    };
    wait_for("it is asked for", LIMIT, asked).map(drop)
}

/// A primary that is told to end hands its store over first; and one that a person asks, to the copy on that node.
pub fn handed_over(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let pod = twin.site.copy_on(&before.name, |node| node == before.host)?;
    let promised = twin.sending("handed-over", || {
        let away =
            followed(&twin, &before, || twin.kubectl(&["delete", "pod", &pod, "--wait=false"]).map(drop))?;
        all_in_sync(&twin)?;
        let back = followed(&twin, &away, || asked_for(&twin, &before.name, &before.host))?;
        ensure!(back.host == before.host, "it was to go back to {} and is on {}", before.host, back.host);
        Ok(())
    })?;
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// A mirror that hangs is left out, and catches up when it goes on. For how long it holds writes up is measured on loopback
/// (node/arbiter/tests/mirrored/hanging.rs): this machine is shared with too much else.
pub fn hanging_mirror(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let pod = twin.site.copy_on(&before.name, |node| node != before.host)?;
    let promised = twin.sending("hanging-mirror", || {
        twin.site.lab()?.pause_pod(NAME, &pod)?;
        let left_out = wait_for("it is left out", LIMIT, || {
            let now = twin.site.in_sync()?;
            Ok(now.iter().any(|(name, copies)| *name == before.name && *copies < COPIES).then_some(()))
        });
        let read = twin.all_can_read_for(Duration::from_secs(3));
        twin.thaw(&pod)?;
        left_out.and(read)
    })?;
    ensure!(store(&twin)?.epoch == before.epoch, "nobody was to take over");
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// Has so much mail delivered that a new copy gets a snapshot.
fn filled(stage: &Stage) -> Result<Ledger> {
    let load = Load::start(&LoadPlan {
        addr: stage.site.port(25)?,
        lmtp: false,
        recipients: stage.addresses.clone(),
        threads: 2,
        size: LARGE,
        pause: Duration::ZERO,
        timeout: Duration::from_secs(60),
        name: format!("large-{}", std::process::id()),
    });
    let filled =
        wait_for("large messages are accepted", LIMIT, || Ok((load.accepted() >= MANY).then_some(())));
    let ledger = load.finish();
    filled.map(|()| ledger)
}

/// What the store's status says of snapshots until `done`, each once.
fn progress(stage: &Stage, store: &str, done: &AtomicBool) -> Vec<String> {
    let mut seen = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let now = stage.site.get(&["mailstore", store]).unwrap_or_default();
        let all = now.pointer("/status/snapshots").and_then(Value::as_array);
        for snapshot in all.into_iter().flatten() {
            let text = format!("{} % of {}", snapshot["percent"], snapshot["bytes"]);
            if seen.last() != Some(&text) {
                seen.push(text);
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    seen
}

/// The copy in this pod was made from files, as its own log says.
fn by_snapshot(stage: &Stage, node: &str, pod: &str) -> Result<()> {
    let log = stage.site.pod_log(node, pod)?;
    let octets = log.iter().find(|line| line.message == "taking a snapshot of the store");
    let octets = octets.and_then(|line| line.number("octets")).context("no snapshot was taken")?;
    let installed = log.iter().find(|line| line.message == "the snapshot has taken the log's place");
    let end = installed.and_then(|line| line.number("end")).context("the snapshot was not put in place")?;
    say(&format!("a snapshot of {octets} octets up to record {end} has made the new copy"));
    Ok(())
}

/// A mirror's disk is exchanged for an empty one: it does not begin anew by itself. A new copy takes its place, gets a
/// snapshot and what was written meanwhile, and serves.
pub fn replaced(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let lab = twin.site.lab()?;
    let pod = twin.site.copy_on(&before.name, |node| node != before.host)?;
    let object = twin.site.get(&["pod", &pod])?;
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let node = text("/spec/nodeName").context("no node")?;
    let copy = pod.trim_end_matches("-0").chars().last().context("no letter")?.to_string();
    lab.create_volumes(&[VolumeSpec::new(&volume(SPARE, &node), &[&node], 420 << 20)])?;
    let large = filled(&twin)?;
    let mut promised = twin.sending("replaced", || {
        emptied(&lab.volume_path(&volume("store", &node)))?;
        lab.kill_pod(NAME, &pod)?;
        wait_for("it refuses the empty disk", LIMIT, || {
            let log = twin.kubectl(&["logs", &pod, "--tail=20"])?;
            Ok(log.contains("EmptyVolume").then_some(()))
        })?;
        let begun = Instant::now();
        let words = ["store", "replace-replica", &before.name, &copy, "--yes", "--wait", "240"];
        let done = AtomicBool::new(false);
        let (said, seen) = std::thread::scope(|threads| {
            let seen = threads.spawn(|| progress(&twin, &before.name, &done));
            let said = twin.site.admin(&words, "");
            done.store(true, Ordering::Relaxed);
            (said, seen.join().unwrap_or_default())
        });
        say(&format!("after {:.1} s: {}", begun.elapsed().as_secs_f64(), said?.trim()));
        say(&format!("the store's status said: {seen:?}"));
        by_snapshot(&twin, &node, &pod)?;
        asked_for(&twin, &before.name, &node)
    })?;
    promised.merge(&large);
    ensure!(store(&twin)?.host == node, "the new copy was to serve");
    let kept = twin.site.get(&["persistentvolumeclaims", "-l", "mailcluster.io/retired=true"])?;
    ensure!(kept["items"].as_array().is_some_and(|claims| claims.len() == 1), "one claim is kept: {kept}");
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// The nodes that serve.
fn hosts(stage: &Stage) -> Result<Vec<String>> {
    Ok(stage.site.stores()?.into_iter().map(|store| store.host).collect())
}

/// One node serves everything, as after failures.
fn on_one_node(stage: &Stage) -> Result<String> {
    let (mail, directory) = (store(stage)?, stage.site.store(&format!("{NAME}-directory"))?);
    if mail.host != directory.host {
        asked_for(stage, &mail.name, &directory.host)?;
    }
    Ok(directory.host)
}

/// One node serves everything; they are spread again, in order, while mail flows: when a person asks for it, and by itself
/// in a window.
pub fn rebalanced(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let promised = twin.sending("rebalanced", || {
        let host = on_one_node(&twin)?;
        let planned = twin.site.admin(&["rebalance", "--dry-run"], "")?;
        ensure!(planned.lines().count() == 1 && planned.contains(" -> "), "one hand-over: {planned}");
        let now = hosts(&twin)?;
        ensure!(now.iter().all(|at| *at == host), "a dry run moves nothing: {now:?}");
        let done = twin.site.admin(&["rebalance"], "")?;
        ensure!(done == planned, "planned {planned}, done {done}");
        let after = hosts(&twin)?;
        ensure!(after.len() == 2 && after[0] != after[1], "on {after:?}");
        let again = twin.site.admin(&["rebalance"], "")?;
        ensure!(again.trim() == "nothing to move", "{again}");
        all_in_sync(&twin)?;
        by_itself(&twin)
    })?;
    all_in_sync(&twin)?;
    judged(&twin, &promised)
}

/// Sets what `failover.rebalance` says.
fn windowed(stage: &Stage, rebalance: &Value) -> Result<()> {
    let patch = json!({"spec": {"failover": {"rebalance": rebalance}}}).to_string();
    stage.kubectl(&["patch", "mailcluster", NAME, "--type", "merge", "--patch", &patch]).map(drop)
}

/// In a window, and not before it opens, the operator spreads the primaries. What a person moves back stays there.
fn by_itself(stage: &Stage) -> Result<()> {
    let host = on_one_node(stage)?;
    // What a person has moved stays for the rest of a window: this one opens with the next minute.
    let opens = jiff::Timestamp::from_second((jiff::Timestamp::now().as_second() / 60 + 1) * 60)?;
    let start = opens.strftime("%H:%M").to_string();
    windowed(stage, &json!({"window": {"start": start, "durationMinutes": 60}}))?;
    let spread = opened(stage, &host, opens);
    // Whatever has come of it: the next scenarios move stores themselves.
    spread.and(windowed(stage, &Value::Null))
}

fn opened(stage: &Stage, host: &str, opens: jiff::Timestamp) -> Result<()> {
    while jiff::Timestamp::now() < opens {
        let now = hosts(stage)?;
        ensure!(
            jiff::Timestamp::now() >= opens || now.iter().all(|at| at == host),
            "before it opens: {now:?}"
        );
        std::thread::sleep(Duration::from_millis(250));
    }
    let gone = wait_for("the primaries are spread", LIMIT, || {
        let stores = stage.site.stores()?;
        ensure!(stores.iter().all(|store| store.phase == "Serving"), "{stores:?}");
        Ok(stores.into_iter().find(|store| store.host != host))
    })?;
    let object = stage.site.get(&["mailstore", &gone.name])?;
    let reason = object.pointer("/status/lastFailover/reason").and_then(Value::as_str);
    ensure!(reason == Some("Rebalanced"), "{} went to {} for {reason:?}", gone.name, gone.host);
    all_in_sync(stage)?;
    asked_for(stage, &gone.name, host)?;
    all_in_sync(stage)?;
    std::thread::sleep(STAYS);
    let stays = stage.site.store(&gone.name)?;
    ensure!(stays.host == host, "{} was moved back by a person, and is on {}", gone.name, stays.host);
    Ok(())
}

/// Takes the cluster down: the disks are needed by nobody else.
pub fn taken_down(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    beside::taken_down(&twin, &["directory", "store", SPARE, AFTER], volume)?;
    Ok(Ledger::default())
}
