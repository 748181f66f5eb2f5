//! What administrators ask of screening, for the judge and for the gates.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mailcluster_api::mailcluster::Screening;
use mailcluster_auth::ThrottlePolicy;
use mailcluster_directory::{DirectoryConfig, ScreeningSource, run_screening};
use mailcluster_screen::{Gate, Lists, Policy};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The gate of a frontend. `proxies` are never refused.
pub fn gate(asked: &Screening, proxies: &[String]) -> Result<Gate> {
    if !asked.enabled {
        return Ok(Gate::default());
    }
    let allow: Vec<&String> = asked.allow_cidrs.iter().chain(proxies).collect();
    let block: Vec<&String> = asked.block_cidrs.iter().collect();
    Ok(Gate::new(Lists::parse(&allow, &block).context("screening")?))
}

/// Keeps a gate up to date until `shutdown`, and tells of it.
pub fn follow(
    gate: &Gate,
    source: Arc<dyn ScreeningSource>,
    registry: &Registry,
    shutdown: &CancellationToken,
) -> Result<()> {
    metrics::register_screening(registry, gate.clone())?;
    // An open gate has nothing to hear.
    if gate.counts(Instant::now()).is_some() {
        tokio::spawn(run_screening(gate.clone(), source, shutdown.clone()));
    }
    Ok(())
}

/// Has a directory judge, and leaves addresses to its judgement.
pub fn judge(asked: &Screening, config: &mut DirectoryConfig) -> Result<()> {
    config.throttle = patient(asked);
    if asked.enabled {
        let lists = Lists::parse(&asked.allow_cidrs, &asked.block_cidrs).context("screening")?;
        config.screening = Some((policy(asked), lists));
    }
    Ok(())
}

/// How patient logins are: addresses as a whole are left to screening, where that is on.
pub fn patient(asked: &Screening) -> ThrottlePolicy {
    let usual = ThrottlePolicy::default();
    if asked.enabled { ThrottlePolicy { free_per_network: f64::INFINITY, ..usual } } else { usual }
}

fn policy(asked: &Screening) -> Policy {
    Policy {
        failures: f64::from(asked.failed_logins),
        accounts: asked.accounts,
        first_ban: Duration::from_secs(asked.first_ban_seconds.into()),
        longest_ban: Duration::from_secs(asked.longest_ban_seconds.into()),
        ..Policy::default()
    }
}
