//! `cargo xtask demo`: the main job on a real local Kubernetes, told second by second.

mod letters;
mod own;
mod playground;
mod story;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use letters::{Letters, Sent};
use mailcluster_e2e::{Loss, Placed, Plan, PullPolicy, Reader, Site, Tell, Teller, picture, wait_for};
use mailcluster_lab::{Lab, Options, Owner};
use mailcluster_test_clients::{Ledger, Load, Verdict};
use story::Story;

use crate::{
    Told, cargo, images,
    own_cluster::{self, Intent},
};

/// The example that is applied.
const QUICKSTART: &str = "docs/examples/quickstart.yaml";
/// Its MailCluster's name.
const CLUSTER: &str = "demo";

/// What a demo came to.
struct Played {
    verdict: Verdict,
    seconds: f64,
    hints: String,
}

/// Removes what an earlier demo left up.
pub fn take_down(options: &own_cluster::Choice) -> Result<()> {
    match options.agreed(Intent::Remove)? {
        Some(own) => own.take_down(),
        None => playground::take_down(),
    }
}

/// Runs the demo. Its last line says how it ended.
pub fn run(options: &own_cluster::Choice) -> Result<()> {
    let story = Story::begin();
    let played = options.agreed(Intent::Make).and_then(|own| match own {
        Some(own) => own::play(&story, own),
        None => play(&story),
    });
    let played = played.inspect_err(|error| eprintln!("error: {error:#}"));
    if let Ok(played) = &played {
        println!("{}", played.hints);
        if !played.verdict.is_clean() {
            println!("{}", played.verdict);
        }
    }
    println!("\n{}", last_line(&played));
    match played {
        Ok(played) if played.verdict.is_clean() => Ok(()),
        _ => bail!(Told),
    }
}

/// For people and for programs.
fn last_line(played: &Result<Played>) -> String {
    match played {
        Ok(Played { verdict, seconds, .. }) => format!(
            "demo: {} failover_seconds={seconds:.1} accepted={} lost={} duplicated={} ambiguous={}",
            if verdict.is_clean() { "ok" } else { "FAILED" },
            verdict.accepted,
            verdict.lost.len(),
            verdict.duplicated.len() + verdict.unexpected.len(),
            verdict.ambiguous
        ),
        // An error may have several lines; the last line is one.
        Err(error) => {
            let error = format!("{error:#}");
            format!("demo: FAILED {}", error.lines().next().unwrap_or_default())
        }
    }
}

/// All of it; the lab stays up as soon as there is a cluster in it to be looked at.
fn play(story: &Story) -> Result<Played> {
    playground::make_room()?;
    let (site, victim) = bring_up(story)?;
    act(story, &site, &victim).inspect_err(|_| {
        println!("{}", picture(&site.kubernetes));
        println!("the lab stays up to be looked at: `cargo xtask lab env`, then `cargo xtask demo --down`");
    })
}

/// The cluster that a demo left up, or a new one with accounts on every store, which stays up too.
pub fn site() -> Result<(Site, Vec<Placed>)> {
    if let Ok(lab) = Lab::attach() {
        let binary = cargo::binary("kubectl-mailcluster")?;
        let binaries = binary.parent().context("no target folder")?.to_owned();
        let site = Site::new(lab.into(), CLUSTER, binaries);
        let accounts = site
            .known_accounts()
            .context("a lab is up, but not with the demo's cluster: `cargo xtask lab down` ends it")?;
        return Ok((site, accounts));
    }
    let story = Story::begin();
    let (site, _) = bring_up(&story)?;
    let accounts = site.make_accounts(&|what| story.say(what))?;
    Ok((site, accounts))
}

/// A cluster that serves, on a lab that stays up; answers the node with one of everything, too.
fn bring_up(story: &Story) -> Result<(Site, String)> {
    story.say("a Kubernetes with 3 nodes (a minute; the first time about 15 minutes of builds)");
    let lab = Lab::up(&Options { nodes: 3, owner: Owner::Demo, ..Options::default() })?;
    story.say("mailcluster's programs and images");
    lab.load_image(&images::build()?)?;
    let workspace = cargo::workspace();
    let binary = cargo::binary("kubectl-mailcluster")?;
    let binaries = binary.parent().context("no target folder")?;
    let plan = Plan {
        workspace: &workspace,
        binaries,
        registry: images::LOCAL.to_owned(),
        tag: env!("CARGO_PKG_VERSION"),
        pull: PullPolicy::Never,
    };
    story.say("helm install");
    let (mut site, victim) = plan.install(lab.into(), CLUSTER)?;
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
    site.kubernetes.release();
    Ok((site, victim))
}

fn act(story: &Story, site: &Site, victim: &str) -> Result<Played> {
    let say = |what: &str| story.say(what);
    let accounts = site.make_accounts(&say)?;
    let addresses: Vec<String> = accounts.iter().map(|account| account.address.clone()).collect();
    let load = site.load("demo", &addresses)?;
    let reader = Reader::start(site.port(993)?, &addresses);
    let letters = Letters::to(site.port(25)?)?;
    let (mut ledger, _) = letters.send_until_accepted("before", &addresses, say)?;
    wait_for("mail flows", Duration::from_secs(60), || Ok((load.accepted() >= 100).then_some(())))?;
    say("a sender and a reader go on");
    site.make_carry_all(&say, victim)?;
    let loss = site.loss(&accounts, victim)?;
    let teller = Teller::start(site, &tell(story), figures(&load, &reader))?;
    let (seconds, sent) = lose(story, site, &loss, letters, &mut ledger)?;
    let before = load.accepted();
    wait_for("mail flows on", Duration::from_secs(120), || {
        Ok((load.accepted() >= before + 100).then_some(()))
    })?;
    say(&format!("longest time without an accepted message: {:.1} s", load.longest_gap().as_secs_f64()));
    ledger.merge(&load.finish());
    let (reads, failed) = reader.finish();
    say(&format!("the reader read {reads} times and failed {failed} times"));
    site.drain_queues(&say)?;
    drop(teller);
    let handed_off = show_trace(story, site, &sent)?;
    say("reading everything back over IMAP and POP3");
    let verdict = site.read_back(&ledger, &addresses)?;
    Ok(Played { verdict, seconds, hints: playground::hints(site, &accounts, handed_off)? })
}

/// Cuts the power, while swaks goes on sending to those whose store is lost. Answers the seconds until they were served
/// again, and what swaks was promised meanwhile.
fn lose(
    story: &Story,
    site: &Site,
    loss: &Loss,
    letters: Letters,
    ledger: &mut Ledger,
) -> Result<(f64, Vec<Sent>)> {
    let stores: Vec<&str> = loss.stores.iter().map(|store| store.name.as_str()).collect();
    let cut = story.cut();
    story.say(&format!(
        "POWER OFF {}: it carries the operator's leader, a frontend, {}",
        loss.node,
        stores.join(" and ")
    ));
    site.lab()?.power_off(&loss.node)?;
    let (tell, to) = (tell(story), loss.users.iter().map(|user| user.address.clone()).collect::<Vec<_>>());
    let sender = std::thread::spawn(move || letters.send_until_accepted("outage", &to, |what| tell(what)));
    let seconds = site.wait_served(&|what| story.say(what), loss, cut);
    let sent = sender.join().map_err(|_| anyhow::anyhow!("the thread that runs swaks panicked"))?;
    let seconds = seconds?;
    let (promised, sent) = sent?;
    ledger.merge(&promised);
    Ok((seconds, sent))
}

/// The way of the messages that swaks sent meanwhile; answers one that waited in another store's queue.
fn show_trace<'a>(story: &Story, site: &Site, sent: &'a [Sent]) -> Result<Option<&'a Sent>> {
    let mut handed_off = None;
    for letter in sent {
        let trace = site.admin(&["trace", &letter.id], "")?;
        story.say(&format!("kubectl mailcluster trace {} (to {}):", letter.id, letter.to));
        trace.lines().for_each(|line| println!("           {line}"));
        if trace.contains("queued") {
            handed_off = Some(letter);
        }
    }
    story.say(match handed_off {
        Some(_) => "accepted while its store was away, and delivered from another store's queue",
        None => "no message of swaks was handed off: each was accepted when its store served again",
    });
    Ok(handed_off)
}

fn tell(story: &Story) -> Tell {
    let story = story.clone();
    Arc::new(move |what: &str| story.say(what))
}

/// A line of what senders and readers met, and what is new since the last one.
fn figures(load: &Load, reader: &Reader) -> impl FnMut() -> String + Send + 'static {
    let (mail, reads) = (load.counter(), reader.counter());
    let mut before = 0;
    move || {
        let (mail, (read, failed)) = (mail(), reads());
        let new = mail.accepted.saturating_sub(before);
        before = mail.accepted;
        format!(
            "  mail: {} accepted (+{new}), {} refused, {} ambiguous; reads: {read} ok, {failed} failed",
            mail.accepted, mail.refused, mail.ambiguous
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_how_it_ended() {
        let played = |verdict| Ok(Played { verdict, seconds: 21.04, hints: String::new() });
        let good = Verdict { accepted: 7, ambiguous: 1, ..Verdict::default() };
        let bad = Verdict { lost: vec![("t".into(), "a@x".into())], ..good.clone() };
        for (played, expected) in [
            (played(good), "demo: ok failover_seconds=21.0 accepted=7 lost=0 duplicated=0 ambiguous=1"),
            (played(bad), "demo: FAILED failover_seconds=21.0 accepted=7 lost=1 duplicated=0 ambiguous=1"),
            (Err(anyhow::anyhow!("no lab:\n  - no gcc").context("failed")), "demo: FAILED failed: no lab:"),
        ] {
            assert_eq!(last_line(&played), expected);
        }
    }
}
