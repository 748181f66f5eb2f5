//! A cluster of the last release is upgraded while it serves: the operator first, which touches no mail pod, then the nodes,
//! of which those of two versions talk to each other meanwhile.

use anyhow::{Context, Result, ensure};
use mailcluster_test_clients::Ledger;
use serde_json::json;

use crate::{
    beside::{self, judged},
    chart::{mail_pods, operators, rolled},
    mirrors::mirrored_as,
    stage::{LIMIT, Stage, plan, say},
    upkeep::{all_new, hardly_noticed, made_anew, pods},
};

/// The cluster is of the last release until this has been played: it comes first.
pub const NAME: &str = "a_cluster_of_the_last_release_is_upgraded_under_load";
const MIRRORED: &str = "prior";

/// One with single copies and one with mirrors.
pub fn upgraded(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored_as(stage, MIRRORED, volume)?;
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
    beside::taken_down(&twin, &["directory", "store"], volume)?;
    Ok(promised)
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
    all_new(stage, &before)?;
    stage.site.wait_ready(LIMIT)
}
