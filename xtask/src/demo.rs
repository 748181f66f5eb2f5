//! `cargo xtask demo`: the main job on a real local Kubernetes, told second by second.

mod story;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use mailcluster_e2e::{NAMESPACE, Placed, Plan, Reader, SYSTEM, Site, wait_for};
use mailcluster_lab::{Lab, Options, Owner};
use mailcluster_test_clients::{Ledger, Verdict};
use story::Story;

use crate::{cargo, images};

/// The example that is applied.
const QUICKSTART: &str = "docs/examples/quickstart.yaml";
/// Its MailCluster's name.
const CLUSTER: &str = "demo";

/// Runs the demo, or with `down` removes what an earlier one left up.
pub fn run(down: bool) -> Result<()> {
    if down {
        return Lab::down();
    }
    let story = Story::begin();
    let mut site = bring_up(&story)?;
    match play(&story, &site) {
        Ok((verdict, seconds)) => {
            site.lab.release();
            hints(&site);
            println!(
                "demo: {} failover_seconds={seconds:.1} accepted={} lost={} duplicated={} ambiguous={}",
                if verdict.is_clean() { "ok" } else { "FAILED" },
                verdict.accepted,
                verdict.lost.len(),
                verdict.duplicated.len() + verdict.unexpected.len(),
                verdict.ambiguous
            );
            if !verdict.is_clean() {
                bail!("{verdict}");
            }
            Ok(())
        }
        Err(error) => {
            site.lab.release();
            eprintln!(
                "the lab stays up to be looked at: `cargo xtask lab env`, then `cargo xtask demo --down`"
            );
            Err(error)
        }
    }
}

/// The cluster that a demo left up, or a new one with accounts on every store, which stays up too.
pub fn site() -> Result<(Site, Vec<Placed>)> {
    if let Ok(lab) = Lab::attach() {
        let binary = cargo::binary("kubectl-mailcluster")?;
        let binaries = binary.parent().context("no target folder")?.to_owned();
        let site = Site::new(lab, CLUSTER, binaries);
        let accounts = site
            .known_accounts()
            .context("a lab is up, but not with the demo's cluster: `cargo xtask lab down` ends it")?;
        return Ok((site, accounts));
    }
    let story = Story::begin();
    let mut site = bring_up(&story)?;
    site.lab.release();
    let accounts = site.make_accounts(&|what| story.say(what))?;
    Ok((site, accounts))
}

fn bring_up(story: &Story) -> Result<Site> {
    story.say("a Kubernetes with 3 nodes (a minute; the first time about 15 minutes of builds)");
    let lab = Lab::up(&Options { nodes: 3, owner: Owner::Demo, ..Options::default() })?;
    story.say("mailcluster's programs and images");
    lab.load_image(&images::build()?)?;
    let workspace = cargo::workspace();
    let binary = cargo::binary("kubectl-mailcluster")?;
    let binaries = binary.parent().context("no target folder")?;
    let plan =
        Plan { workspace: &workspace, binaries, registry: images::LOCAL, tag: env!("CARGO_PKG_VERSION") };
    story.say("helm install");
    let (site, victim) = plan.install(lab, CLUSTER)?;
    let others = site.other_nodes(&victim)?;
    let [second, third] = others.as_slice() else { bail!("the demo wants three nodes") };
    site.volumes(&victim, second, third)?;
    story.say(&format!(
        "kubectl apply {QUICKSTART}; {victim} gets the directory, a store and a frontend beside the leader"
    ));
    let manifest = std::fs::read_to_string(workspace.join(QUICKSTART)).context(QUICKSTART)?;
    site.bmc_secret()?;
    site.apply_on(&victim, &manifest)?;
    site.wait_ready(Duration::from_secs(240))?;
    wait_for("the Service has an address", Duration::from_secs(60), || site.address().map(Some))?;
    story.say(&format!("Ready; clients connect to {}", site.address()?));
    Ok(site)
}

fn play(story: &Story, site: &Site) -> Result<(Verdict, f64)> {
    let say = |what: &str| story.say(what);
    let accounts = site.make_accounts(&say)?;
    let addresses: Vec<String> = accounts.iter().map(|account| account.address.clone()).collect();
    let swaks = swaks(site, &addresses)?;
    let load = site.load("demo", &addresses)?;
    let reader = Reader::start(site.port(993)?, &addresses);
    wait_for("mail flows", Duration::from_secs(60), || Ok((load.accepted() >= 100).then_some(())))?;
    story.say(&format!("{} messages accepted; a sender and a reader go on", load.accepted()));
    let victim = site.node_of(SYSTEM, &site.leader()?)?;
    let seconds = site.pull_the_plug(&say, &accounts, &victim)?;
    let before = load.accepted();
    wait_for("mail flows on", Duration::from_secs(120), || {
        Ok((load.accepted() >= before + 100).then_some(()))
    })?;
    story
        .say(&format!("longest time without an accepted message: {:.1} s", load.longest_gap().as_secs_f64()));
    let mut ledger = load.finish();
    let (reads, failed) = reader.finish();
    story.say(&format!("the reader read {reads} times and failed {failed} times"));
    ledger.merge(&swaks);
    site.drain_queues(&say)?;
    story.say("reading everything back over IMAP and POP3");
    Ok((site.read_back(&ledger, &addresses)?, seconds))
}

/// A real client's mail to everyone, through the Service.
fn swaks(site: &Site, addresses: &[String]) -> Result<Ledger> {
    let root = mailcluster_interop::ClientRoot::ensure()?;
    let mut ledger = Ledger::default();
    for (n, to) in addresses.iter().enumerate() {
        let token = format!("swaks-{n}");
        let line = format!(
            "swaks --server {} --tls-optional --from joe@elsewhere.test --to {to} --data -",
            site.port(25)?
        );
        // swaks ends the last line itself.
        let text = mailcluster_test_clients::message(&token, 1024);
        let ran = root.shell(&line, text.trim_ascii_end(), 60)?;
        if !ran.success {
            bail!("swaks: {}", ran.output);
        }
        ledger.record(&token, to, mailcluster_test_clients::Outcome::Accepted);
    }
    Ok(ledger)
}

fn hints(site: &Site) {
    println!();
    println!("the cluster is up; to play on:");
    println!("  eval \"$(cargo xtask lab env)\"");
    println!("  kubectl -n {NAMESPACE} get mailclusters,mailstores -o wide");
    println!("  {}/kubectl-mailcluster -n {NAMESPACE} status", site.binaries.display());
    println!(
        "  cargo xtask lab power-on NODE; cargo xtask lab partition NODE; cargo xtask lab kill-pod -n {NAMESPACE} POD"
    );
    println!("  cargo xtask demo --down");
}
