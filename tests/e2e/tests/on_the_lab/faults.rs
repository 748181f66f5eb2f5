//! Faults at random on the mirrored cluster, for as long as an ordinary run has time; `cargo xtask faults` goes on for
//! hours, and with nodes.

use anyhow::{Result, ensure};
use mailcluster_e2e::{
    BROKEN,
    faults::{self, Kind, Logs, Mode, Run},
};
use mailcluster_test_clients::Ledger;

use crate::{
    mirrors::mirrored,
    stage::{Stage, length, say},
};

/// What takes no node from the other cluster, whose stores would be fenced and moved.
const KINDS: [Kind; 9] = [
    Kind::Kill,
    Kind::Pause,
    Kind::DeletePod,
    Kind::CutMirrors,
    Kind::CutFrontends,
    Kind::FillDisk,
    Kind::DeleteLease,
    Kind::DeleteLeader,
    Kind::HandOver,
];
/// Always the same faults: a frozen primary, ended pods, a hand-over, mirrors that are cut off. And always this mode: it is
/// that of the cluster which other scenarios have made; the others want other volumes and copies, which are fixed when a
/// cluster is made.
const SEED: u64 = 104;

/// Clients deliver, append, flag, copy, move and expunge meanwhile; everything they were told is compared with a model.
pub fn at_random(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let cache = twin.site.lab()?.paths().cache.clone();
    let outcome = faults::run(
        &Run {
            site: &twin.site,
            mode: Mode::Required,
            seed: SEED,
            length: length(75, 1200),
            only: &KINDS,
            logs: Logs::OfFailures(faults::logs_of(&cache, Mode::Required, SEED)),
        },
        &say,
    )?;
    outcome.text().lines().for_each(say);
    ensure!(outcome.is_clean(), "{BROKEN}: {} rules", outcome.violations.len());
    ensure!(outcome.made() > 0, "no fault was made: {:?}", outcome.skipped);
    ensure!(outcome.looks > 0 && outcome.accepted > 0, "nobody did anything");
    Ok(Ledger::default())
}
