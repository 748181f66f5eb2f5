//! The demo on a cluster of the user's own: the same mail and the same last line, with the fault that any cluster bears.

use std::time::Duration;

use anyhow::{Context, Result};
use mailcluster_e2e::{
    DOMAIN, Kubernetes, NAMESPACE, OwnCluster, PASSWORD, Plan, PullPolicy, Reader, Site, picture, reads,
    wait_for,
};

use super::{CLUSTER, Played, QUICKSTART, letters::Letters, story::Story};
use crate::cargo;

/// All of it; the cluster stays up.
pub fn play(story: &Story, own: OwnCluster) -> Result<Played> {
    story.say("mailcluster's programs (about 15 minutes, the first time)");
    cargo::build_programs()?;
    let site = install(story, own)?;
    act(story, &site).inspect_err(|_| {
        println!("{}", picture(&site.kubernetes));
        println!("it stays as it is, to be looked at: `cargo xtask demo --down --context …` removes it");
    })
}

fn install(story: &Story, own: OwnCluster) -> Result<Site> {
    let workspace = cargo::workspace();
    let binary = cargo::binary("kubectl-mailcluster")?;
    let plan = Plan {
        workspace: &workspace,
        binaries: binary.parent().context("no target folder")?,
        registry: own.registry.clone(),
        tag: env!("CARGO_PKG_VERSION"),
        pull: PullPolicy::IfNotPresent,
    };
    story.say(&format!("helm install, with the images of {}", own.registry));
    let (site, _) = plan.install(Kubernetes::Own(own.clone()), CLUSTER)?;
    story.say(&format!("kubectl apply {QUICKSTART}, without the lab's fence Job and volumes"));
    own.apply(&std::fs::read_to_string(workspace.join(QUICKSTART)).context(QUICKSTART)?)?;
    site.wait_ready(Duration::from_secs(400))?;
    wait_for(
        "the Service has an IP address (install a load balancer such as MetalLB, or let yours give one to type \
         LoadBalancer)",
        Duration::from_secs(120),
        || site.address().map(Some),
    )?;
    story.say(&format!("Ready; clients connect to {}", site.address()?));
    Ok(site)
}

fn act(story: &Story, site: &Site) -> Result<Played> {
    let say = |what: &str| story.say(what);
    let accounts = site.make_accounts(&say)?;
    let addresses: Vec<String> = accounts.iter().map(|account| account.address.clone()).collect();
    let load = site.load("demo", &addresses)?;
    let imap = site.port(993)?;
    let reader = Reader::start(imap, &addresses);
    let letters = Letters::to(site.port(25)?)?;
    let (mut ledger, _) = letters.send_until_accepted("before", &addresses, say)?;
    wait_for("mail flows", Duration::from_secs(60), || Ok((load.accepted() >= 100).then_some(())))?;
    say("skipped: power-off of a node (needs the lab)");
    let victim = accounts.first().context("no accounts")?;
    story.cut();
    say(&format!("kubectl delete pod {}-a-0, while a sender and a reader go on", victim.store));
    let seconds = site.restart_store(&victim.store, || reads(imap, &victim.address))?;
    say(&format!("served again after {seconds:.1} s"));
    let before = load.accepted();
    wait_for("mail flows on", Duration::from_secs(120), || {
        Ok((load.accepted() >= before + 100).then_some(()))
    })?;
    say(&format!("longest time without an accepted message: {:.1} s", load.longest_gap().as_secs_f64()));
    ledger.merge(&load.finish());
    let (read, failed) = reader.finish();
    say(&format!("the reader read {read} times and failed {failed} times"));
    site.drain_queues(&say)?;
    say("reading everything back over IMAP and POP3");
    let verdict = site.read_back(&ledger, &addresses)?;
    Ok(Played { verdict, seconds, hints: hints(site, &victim.address)? })
}

fn hints(site: &Site, user: &str) -> Result<String> {
    let address = site.address()?;
    Ok(format!(
        "
the cluster is up in namespace {NAMESPACE}, with the domain {DOMAIN}; to play on:
  kubectl -n {NAMESPACE} get mailclusters,mailstores -o wide
  {} -n {NAMESPACE} status
mail: {address}, ports 25 465 587 143 993 110 995; account {user}, password '{PASSWORD}'
the end:
  cargo xtask demo --down --context …",
        site.binaries.join("kubectl-mailcluster").display()
    ))
}
