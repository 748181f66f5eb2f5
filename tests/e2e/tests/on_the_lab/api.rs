//! The Kubernetes API away, whole or in part.

use anyhow::{Result, ensure};
use mailcluster_test_clients::Ledger;

use crate::stage::{LIMIT, Stage, length};

/// No API server: with fencing by proof a cut-off single copy serves on for as long as it takes.
pub fn away(stage: &Stage) -> Result<Ledger> {
    let epochs = stage.epochs()?;
    let ledger = stage.sending("no-api", || {
        stage.site.lab()?.api_down(None)?;
        let read = stage.all_can_read_for(length(90, 300));
        stage.site.lab()?.api_up(None)?;
        read
    })?;
    stage.site.wait_ready(LIMIT)?;
    let after = stage.epochs()?;
    ensure!(epochs == after, "a store changed its holder because the API was away: {epochs:?} {after:?}");
    Ok(ledger)
}

/// One of two API servers dead: renewals find the other one within the lease.
pub fn one_dead(stage: &Stage) -> Result<Ledger> {
    let epochs = stage.epochs()?;
    let ledger = stage.sending("one-api", || {
        for server in [1, 2] {
            stage.site.lab()?.api_down(Some(server))?;
            let read = stage.all_can_read_for(length(25, 60));
            stage.site.lab()?.api_up(Some(server))?;
            read?;
        }
        Ok(())
    })?;
    stage.site.wait_ready(LIMIT)?;
    let after = stage.epochs()?;
    ensure!(epochs == after, "a store changed its holder with one API server alive: {epochs:?} {after:?}");
    Ok(ledger)
}
