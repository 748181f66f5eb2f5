//! A cluster of the last release is upgraded while it serves: the operator first, which touches no mail pod, then the nodes,
//! of which those of two versions talk to each other meanwhile.

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{Sizes, mirrored_disks, mirrored_manifest, wait_for};
use mailcluster_test_clients::Ledger;
use serde_json::json;

use crate::{
    beside::{self, judged},
    chart::{mail_pods, operators, rolled},
    mirrors::all_in_sync,
    stage::{LIMIT, Stage, plan, say},
    upkeep::{hardly_noticed, made_anew, pods},
};

/// The cluster is of the last release until this has been played: it comes first.
pub const NAME: &str = "a_cluster_of_the_last_release_is_upgraded_under_load";
const MIRRORED: &str = "prior";

/// One with single copies and one with mirrors.
pub fn upgraded(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let promised = stage.sending("released", || {
        let promised = hardly_noticed(&twin, "released-mirrors", || {
            operator(&[stage, &twin])?;
            let seconds = made_anew(&twin, &image(stage)?)?;
            say(&format!(
                "nodes of a mirrored cluster upgraded in {seconds:.1} s, each store handed over once"
            ));
            Ok(())
        })?;
        restarted(stage)?;
        judged(&twin, &promised).map(drop)
    })?;
    for of in [stage, &twin] {
        let serving = of.site.get(&["mailcluster", &of.site.cluster])?;
        let runs = serving.pointer("/status/image").and_then(|image| image.as_str()).unwrap_or_default();
        ensure!(runs.ends_with(env!("CARGO_PKG_VERSION")), "{} runs {runs}", of.site.cluster);
    }
    // What comes next is for one cluster.
    beside::delete(&twin)?;
    let nodes = twin.site.lab()?.state()?.nodes;
    let disks = nodes.iter().flat_map(|node| ["directory", "store"].map(|of| volume(of, &node.name)));
    beside::remove(&twin, &disks.collect::<Vec<_>>())?;
    Ok(promised)
}

/// A cluster with mirrors of its own, which goes again.
fn mirrored(stage: &Stage) -> Result<Stage> {
    let sizes = Sizes::of(0);
    let disks = |nodes: &[&str]| mirrored_disks(nodes, sizes, volume);
    let mirrored = beside::cluster(stage, MIRRORED, &mirrored_manifest(MIRRORED, sizes), disks)?;
    all_in_sync(&mirrored)?;
    Ok(mirrored)
}

/// The name of a volume: the lab keeps those of an earlier run.
fn volume(of: &str, node: &str) -> String {
    format!("{MIRRORED}-{of}-{node}-{}", std::process::id())
}

/// `helm upgrade` to today's chart.
fn operator(clusters: &[&Stage]) -> Result<()> {
    let stage = clusters.first().context("no cluster")?;
    let before = clusters.iter().map(|of| mail_pods(of)).collect::<Result<Vec<_>>>()?;
    let old = operators(stage)?;
    plan(&stage.site.binaries)?.upgrade_chart(&stage.site.kubernetes)?;
    rolled(stage, &old)?;
    for (of, before) in clusters.iter().zip(&before) {
        of.site.wait_ready(LIMIT)?;
        ensure!(
            mail_pods(of)? == *before,
            "the upgrade of the operator touched mail pods of {}",
            of.site.cluster
        );
    }
    say("the operator is upgraded, and no mail pod is another");
    Ok(())
}

/// The change that has the nodes upgraded.
fn image(stage: &Stage) -> Result<String> {
    let image = plan(&stage.site.binaries)?.image("mailcluster-node");
    Ok(json!({"spec": {"image": image}}).to_string())
}

/// Stores without mirrors are restarted in place, one after another.
fn restarted(stage: &Stage) -> Result<()> {
    let before = pods(stage)?;
    let change = image(stage)?;
    stage.kubectl(&["patch", "mailcluster", &stage.site.cluster, "--type", "merge", "--patch", &change])?;
    wait_for("every store's pod is a new one", 2 * LIMIT, || {
        let now = pods(stage)?;
        let old = before.iter().filter(|(name, uid)| now.get(*name) == Some(uid)).count();
        if now.len() < before.len() || old > 0 {
            bail!("{} of {}, {old} of them old", now.len(), before.len());
        }
        Ok(Some(()))
    })?;
    stage.site.wait_ready(LIMIT)
}
