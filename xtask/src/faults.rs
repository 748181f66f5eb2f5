//! `cargo xtask faults`: faults at random on the lab, under load, and everything that clients were told compared with a
//! model of IMAP.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use mailcluster_e2e::{
    Plan, PullPolicy, Site,
    faults::{self, Kind, Logs, Mode, Outcome, Run},
    picture, wait_for,
};
use mailcluster_lab::{Lab, Options, Owner};

use crate::{Told, cargo, images};

/// The MailCluster's name.
const CLUSTER: &str = "demo";
/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(400);

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// For how long faults are made
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// What decides them; a new one without it
    #[arg(long)]
    seed: Option<u64>,
    /// How the stores are kept: single, preferred or required
    #[arg(long, default_value = "preferred", value_parser = mode)]
    mode: Mode,
    /// Only these kinds of faults
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// Write what came of it here as JSON too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keep the logs of all pods in this folder, whatever comes of it; without it, those of a failure are kept
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

fn mode(name: &str) -> Result<Mode, String> {
    Mode::named(name).ok_or_else(|| "it is single, preferred or required".to_owned())
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| "there is no such fault: see docs/operations.md".to_owned())
}

/// Runs it on a lab of its own. The lab stays up to be looked at when a rule was broken.
pub fn run(asked: &Asked) -> Result<()> {
    let seed = match asked.seed {
        Some(seed) => seed,
        None => u64::from(std::process::id()),
    };
    asked.logs.as_deref().map_or(Ok(()), made_for_this_run)?;
    println!("faults: mode {}, seed {seed}, {} minutes", asked.mode.name(), asked.minutes);
    let mut site = bring_up(asked.mode)?;
    let cache = site.lab()?.paths().cache.clone();
    let logs = match &asked.logs {
        Some(folder) => Logs::Always(folder.clone()),
        None => Logs::OfFailures(faults::logs_of(&cache, asked.mode, seed)),
    };
    let outcome = faults::run(
        &Run {
            site: &site,
            mode: asked.mode,
            seed,
            length: Duration::from_secs(asked.minutes * 60),
            only: &asked.only,
            logs,
        },
        &|what| println!("    {what}"),
    );
    let clean = outcome.as_ref().is_ok_and(Outcome::is_clean);
    if !clean {
        println!("{}", picture(&site.kubernetes));
        println!("the lab stays up to be looked at: `cargo xtask lab env`, then `cargo xtask lab down`");
        site.kubernetes.release();
    }
    let outcome = outcome?;
    if let Some(file) = &asked.json {
        std::fs::write(file, serde_json::to_vec_pretty(&outcome.json())?)
            .with_context(|| file.display().to_string())?;
    }
    println!("{}", outcome.text());
    if !clean {
        // The last line has said so.
        bail!(Told);
    }
    Ok(())
}

/// Makes the folder, before hours are spent. Two runs in one could not be told apart.
fn made_for_this_run(folder: &Path) -> Result<()> {
    let named = || folder.display().to_string();
    std::fs::create_dir_all(folder).with_context(named)?;
    if std::fs::read_dir(folder).with_context(named)?.next().is_some() {
        bail!("{} is not empty", named());
    }
    Ok(())
}

fn bring_up(mode: Mode) -> Result<Site> {
    let archive = images::build()?;
    let lab = Lab::up(&Options { nodes: 3, api_servers: 2, owner: Owner::Tests, ..Options::default() })?;
    lab.load_image(&archive)?;
    let nodes: Vec<String> = lab.state()?.nodes.iter().map(|node| node.name.clone()).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    lab.create_volumes(&mode.disks(&nodes))?;
    let workspace = cargo::workspace();
    let binary = cargo::binary("kubectl-mailcluster")?;
    let plan = Plan {
        workspace: &workspace,
        binaries: binary.parent().context("no target folder")?,
        registry: images::LOCAL.to_owned(),
        tag: env!("CARGO_PKG_VERSION"),
        pull: PullPolicy::Never,
    };
    let (site, _) = plan.install(lab.into(), CLUSTER)?;
    site.bmc_secret()?;
    site.kubernetes.apply(&mode.manifest(&site.namespace, CLUSTER))?;
    site.wait_ready(LIMIT)?;
    wait_for("the Service has an address", LIMIT, || site.address().map(Some))?;
    Ok(site)
}
