//! Faults at random under load, and everything that clients were told compared with a model: which is in `model` and
//! `world`; `actor` and `talk` are the clients, `schedule` decides the faults and `nemesis` makes them.

mod actor;
mod dice;
mod held_back;
mod inboxes;
mod keep;
mod mode;
mod model;
mod nemesis;
mod report;
mod schedule;
mod talk;
mod world;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mailcluster_test_clients::Load;
use serde_json::Value;

use self::{
    actor::Troupe,
    held_back::HeldBack,
    inboxes::Inboxes,
    keep::Kept,
    nemesis::{Broken, Nemesis},
    report::Made,
};
pub use self::{
    mode::Mode,
    report::{Outcome, Violation},
    schedule::{Kind, Planned, Role, schedule},
};
use crate::{
    drill::{DOMAIN, Say},
    layout::PASSWORD,
    prober::Prober,
    site::{Site, wait_for},
};

/// Until all is well again after a fault; later is never.
const RECOVERY: Duration = Duration::from_secs(300);
/// Mailboxes are compared with what was promised after so many faults.
const CHECK_EVERY: usize = 4;
/// Accounts on each store: that mail comes to, and that actors have.
const RECIPIENTS: usize = 2;
const ACTORS: usize = 3;

/// What is to be done.
#[derive(Debug)]
pub struct Run<'a> {
    /// The cluster, which serves.
    pub site: &'a Site,
    /// What kind it is.
    pub mode: Mode,
    /// What decides everything.
    pub seed: u64,
    /// For how long faults begin.
    pub length: Duration,
    /// These kinds only; all when it is empty.
    pub only: &'a [Kind],
    /// Where the logs of all pods go, the operators' among them.
    pub logs: Logs,
}

/// When the logs of a run are kept, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logs {
    /// Whatever came of it.
    Always(PathBuf),
    /// When a rule was broken, or the run did not come to its end.
    OfFailures(PathBuf),
}

impl Logs {
    /// Where they go after a run that ended so.
    fn wanted(&self, is_clean: bool) -> Option<&Path> {
        match self {
            Self::Always(folder) => Some(folder),
            Self::OfFailures(folder) => (!is_clean).then_some(folder),
        }
    }
}

/// Makes faults under load, and answers what came of it.
///
/// # Errors
/// When the lab or the cluster does not do what any run needs; a broken rule is none.
pub fn run(run: &Run<'_>, say: Say<'_>) -> Result<Outcome> {
    let kept = Kept::new(run.site.lab()?, "kept-pods")?;
    let outcome = play(run, &kept, say);
    if let Some(folder) = run.logs.wanted(outcome.as_ref().is_ok_and(Outcome::is_clean)) {
        match kept.save(folder) {
            Ok(folder) => say(&format!("the logs of all pods are in {}", folder.display())),
            // What the run has come to is worth more than its logs.
            Err(error) => say(&format!("the logs of all pods are not kept: {error:#}")),
        }
    }
    outcome
}

fn play(run: &Run<'_>, kept: &Kept, say: Say<'_>) -> Result<Outcome> {
    let cast = Cast::make(run.site, say)?;
    let mut stage = Stage::start(run, &cast, kept)?;
    let begun = Instant::now();
    stage.faults(say)?;
    stage.outcome.seconds = begun.elapsed().as_secs();
    stage.finish(&cast, say)
}

/// Who takes part.
struct Cast {
    stores: Vec<String>,
    recipients: Vec<String>,
    actors: Vec<String>,
    /// One account on each mail store.
    probed: Vec<String>,
}

impl Cast {
    /// Makes the accounts that are not there yet.
    fn make(site: &Site, say: Say<'_>) -> Result<Self> {
        let known = site.known_accounts().unwrap_or_default();
        if known.is_empty() {
            site.admin(&["domain", "add", DOMAIN], "")?;
        }
        let stores = site.stores()?;
        let mut cast = Self {
            stores: stores.iter().map(|store| store.name.clone()).collect(),
            recipients: Vec::new(),
            actors: Vec::new(),
            probed: Vec::new(),
        };
        for store in stores.iter().filter(|store| store.kind == "Mail") {
            for (of, count) in [("mail", RECIPIENTS), ("actor", ACTORS)] {
                for n in 0..count {
                    let address = format!("{of}{n}-{}@{DOMAIN}", store.name);
                    if !known.iter().any(|account| account.address == address) {
                        let words =
                            ["account", "add", &address, "--store", &store.name, "--password-file", "-"];
                        site.admin(&words, PASSWORD)?;
                    }
                    let list = if of == "mail" { &mut cast.recipients } else { &mut cast.actors };
                    list.push(address);
                }
            }
            cast.probed.push(format!("mail0-{}@{DOMAIN}", store.name));
        }
        say(&format!("{} recipients and {} actors", cast.recipients.len(), cast.actors.len()));
        Ok(cast)
    }
}

/// A run that goes on.
struct Stage<'a> {
    run: &'a Run<'a>,
    kept: &'a Kept,
    nemesis: Nemesis<'a>,
    held_back: HeldBack,
    planned: Vec<Planned>,
    troupe: Troupe,
    load: Load,
    inboxes: Inboxes,
    probers: Vec<Prober>,
    outcome: Outcome,
}

impl<'a> Stage<'a> {
    fn start(run: &'a Run<'a>, cast: &Cast, kept: &'a Kept) -> Result<Self> {
        let (site, imap) = (run.site, run.site.port(993)?);
        site.empty_mailboxes(&cast.recipients)?;
        let minutes = run.length.as_secs().div_ceil(60);
        let planned = schedule(run.seed, run.mode, minutes, &cast.stores, run.only);
        let load = site.load(&format!("faults-{}-{}", run.seed, std::process::id()), &cast.recipients)?;
        wait_for("mail flows", RECOVERY, || Ok((load.accepted() >= 20).then_some(())))?;
        Ok(Self {
            run,
            kept,
            nemesis: Nemesis::new(site),
            held_back: HeldBack::default(),
            planned,
            troupe: Troupe::start(imap, &cast.actors, run.seed),
            load,
            inboxes: Inboxes::of(imap, &cast.recipients),
            probers: cast.probed.iter().map(|user| Prober::start(imap, user)).collect(),
            outcome: Outcome { seed: run.seed, mode: run.mode.name(), ..Outcome::default() },
        })
    }

    fn faults(&mut self, say: Say<'_>) -> Result<()> {
        self.recover(say).context("before the first fault")?;
        let until = Instant::now() + self.run.length;
        for (number, planned) in self.planned.clone().iter().enumerate() {
            std::thread::sleep(planned.calm);
            if Instant::now() >= until || self.is_broken() {
                break;
            }
            say(&format!("{} {planned}", jiff::Timestamp::now()));
            if !self.fault(planned, say) {
                break;
            }
            if (number + 1) % CHECK_EVERY == 0
                && let Err(error) = self.check(say)
            {
                let what = format!("mailboxes could not be compared: {error:#}");
                self.outcome.violations.push(Violation::now("mail", what));
            }
        }
        Ok(())
    }

    /// One fault, and its recovery. False when it did not recover.
    fn fault(&mut self, planned: &Planned, say: Say<'_>) -> bool {
        for prober in &self.probers {
            let _before = prober.lap();
        }
        let begun = Instant::now();
        let struck = self.nemesis.strike(planned);
        let (healed, held) = (Instant::now(), begun.elapsed());
        let recovered = self.recover(say);
        let gap = self.probers.iter().map(Prober::lap).max().unwrap_or_default();
        match recovered {
            Ok(()) => {
                let recovered = healed.elapsed();
                say(&format!(
                    "  held {:.1} s, well again {:.1} s later; longest gap {:.1} s",
                    held.as_secs_f64(),
                    recovered.as_secs_f64(),
                    gap.as_secs_f64()
                ));
                match struck {
                    Ok(()) => self.outcome.faults.push(Made { kind: planned.kind, held, recovered, gap }),
                    Err(error) if error.is::<Broken>() => {
                        let what = format!("{planned}: {error:#}");
                        self.outcome.violations.push(Violation::now("fault", what));
                    }
                    Err(error) => self.outcome.skipped.push(format!("{planned}: {error:#}")),
                }
                true
            }
            Err(error) => {
                let what = format!("after {planned}: {error:#}");
                self.outcome.violations.push(Violation::now("recovery", what));
                false
            }
        }
    }

    /// Waits until everything is as before a fault: nodes, copies, and every actor's mailboxes.
    fn recover(&self, say: Say<'_>) -> Result<()> {
        let mut wanted = None;
        wait_for("all is well again", RECOVERY, || {
            self.kept.link()?;
            // A fence may have switched a node off, or do so still.
            self.nemesis.power_on_all()?;
            self.held_back.make_anew(self.run.site, say)?;
            if let Err(error) = self.is_well() {
                wanted = None;
                return Err(error);
            }
            // Only what they see behind this counts.
            let wanted = *wanted.get_or_insert_with(|| self.troupe.want_looks());
            match self.troupe.missing(wanted) {
                0 => Ok(Some(())),
                _ if self.is_broken() => Ok(Some(())),
                missing => bail!("{missing} actors have not read their mailboxes"),
            }
        })
    }

    fn is_well(&self) -> Result<()> {
        let site = self.run.site;
        let nodes = site.get(&["nodes"])?;
        for node in nodes["items"].as_array().into_iter().flatten() {
            let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
            let ready =
                conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
            if !ready {
                bail!("node {} is not Ready", node["metadata"]["name"]);
            }
        }
        site.wait_ready(Duration::ZERO)?;
        if let Some(store) = site.stores()?.iter().find(|store| store.phase != "Serving") {
            bail!("{} is {} {}", store.name, store.phase, store.blocked);
        }
        let copies = self.run.mode.copies();
        let all = site.in_sync()?;
        if self.run.mode != Mode::Single && (all.is_empty() || all.iter().any(|(_, have)| *have < copies)) {
            bail!("not every copy has everything: {all:?}");
        }
        Ok(())
    }

    fn is_broken(&self) -> bool {
        !self.outcome.violations.is_empty() || !self.troupe.shared.tally().violations.is_empty()
    }

    /// Compares the recipients' mailboxes with what was promised until now.
    fn check(&mut self, say: Say<'_>) -> Result<()> {
        let promised = self.load.snapshot();
        self.run.site.drain_queues(&|_| ())?;
        let wrong = wait_for("mailboxes can be read", RECOVERY, || self.inboxes.check(&promised).map(Some))?;
        say(&format!("  {} accepted messages looked for, {} faults found", promised.accepted(), wrong.len()));
        self.outcome.violations.extend(wrong);
        Ok(())
    }

    fn finish(mut self, cast: &Cast, say: Say<'_>) -> Result<Outcome> {
        self.nemesis.mend()?;
        self.outcome.held_back = self.held_back.count();
        let broken_before = self.is_broken();
        let ledger = self.load.finish();
        for prober in self.probers {
            let _told_already = prober.finish();
        }
        let tally = self.troupe.finish();
        self.outcome.operations = tally.operations;
        self.outcome.looks = tally.looks;
        self.outcome.violations.extend(tally.violations);
        let counts = ledger.counts();
        self.outcome.accepted = counts.accepted;
        self.outcome.ambiguous = counts.ambiguous;
        let verdict = self.run.site.drain_queues(say).and_then(|()| {
            self.outcome.violations.extend(self.inboxes.check(&ledger)?);
            say("reading everything back over IMAP and POP3");
            self.run.site.read_back(&ledger, &cast.recipients)
        });
        match verdict {
            Ok(verdict) => {
                self.outcome.lost = verdict.lost.len();
                self.outcome.duplicated = verdict.duplicated.len() + verdict.unexpected.len();
                if !verdict.is_clean() {
                    self.outcome.violations.push(Violation::now("mail", verdict.to_string()));
                }
            }
            // A cluster that is broken may not be readable; what broke it is told already.
            Err(error) if broken_before => {
                self.outcome.skipped.push(format!("reading everything back: {error:#}"));
            }
            Err(error) => {
                let what = format!("not to be read back: {error:#}");
                self.outcome.violations.push(Violation::now("mail", what));
            }
        }
        Ok(self.outcome)
    }
}

/// Where the logs of a run that failed are kept when nobody has said where.
#[must_use]
pub fn logs_of(cache: &Path, mode: Mode, seed: u64) -> PathBuf {
    let now = jiff::Timestamp::now().as_second();
    cache.join("faults").join(format!("{}-{seed}-{now}", mode.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_kept_of_failures_or_always() {
        let folder = PathBuf::from("/somewhere");
        for (logs, after_success, after_failure) in [
            (Logs::Always(folder.clone()), Some(folder.as_path()), Some(folder.as_path())),
            (Logs::OfFailures(folder.clone()), None, Some(folder.as_path())),
        ] {
            assert_eq!((logs.wanted(true), logs.wanted(false)), (after_success, after_failure), "{logs:?}");
        }
    }
}
