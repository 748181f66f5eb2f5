//! End to end on the lab: a real Kubernetes, the chart, a MailCluster, and what can happen to it. The scenarios share
//! one cluster and run in order, as one test; they are left out, by name, unless `cargo xtask test` has brought the lab
//! up. After each of them everything is read back and compared with what was promised.

mod api;
mod chart;
mod directory;
mod moves;
mod operator;
mod partition;
mod service;
mod stage;

use anyhow::{Context, Result, ensure};
use mailcluster_test_clients::Ledger;
use stage::Stage;

/// What happens to the cluster; answers what was promised to clients meanwhile.
type Scenario = fn(&Stage) -> Result<Ledger>;

/// In this order: later ones find the cluster as the earlier ones left it.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("the_chart_refuses_what_cannot_work", chart::checked),
    ("frontends_are_scaled_by_kubectl", service::scaled),
    ("f01_a_killed_backend_comes_back_where_it_is", service::killed),
    ("f13_a_frozen_process_acknowledges_nothing_old", service::frozen),
    ("an_idle_cluster_writes_nothing_but_leases", operator::idle),
    ("f23_the_operator_is_not_needed_for_service", operator::absent),
    ("api_away_service_goes_on", api::away),
    ("one_of_two_api_servers_dead_and_nobody_fences_itself", api::one_dead),
    ("f26_a_deleted_lease_is_made_anew", operator::lease_deleted),
    ("f27_the_directory_is_away_and_a_frontend_starts", directory::away),
    ("a_store_is_moved_by_hand", moves::planned),
    ("f31_a_drained_node_gives_its_stores_away", moves::drained),
    ("f24_the_operator_is_killed_in_each_phase", operator::killed_in_each_phase),
    ("f18_a_lost_node_is_fenced_and_its_stores_move", moves::lost_node),
    ("f15_a_partitioned_node_is_fenced_before_its_stores_serve", partition::fenced),
    ("an_upgrade_of_the_operator_restarts_no_mail_pod", chart::upgraded),
    ("an_uninstalled_chart_leaves_the_cluster_serving", chart::uninstalled),
];

#[test]
fn a_cluster_lives_through_bad_days() -> Result<()> {
    if std::env::var_os("MAILCLUSTER_E2E").is_none() {
        println!("left out: needs the lab (`cargo xtask test` brings it up)");
        return Ok(());
    }
    let stage = Stage::set()?;
    let only = std::env::var("MAILCLUSTER_E2E_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|part| name.contains(part));
    let mut promised = Ledger::default();
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| wanted(name)) {
        println!("e2e {name} ...");
        let start = std::time::Instant::now();
        promised.merge(&scenario(&stage).with_context(|| (*name).to_owned())?);
        stage.settle().with_context(|| format!("after {name}"))?;
        let verdict = stage.site.read_back(&promised, &stage.addresses)?;
        ensure!(verdict.is_clean(), "{name}: {verdict}");
        println!(
            "e2e {name} ... ok, {:.0} s, {} messages, none lost, none twice",
            start.elapsed().as_secs_f64(),
            verdict.accepted
        );
    }
    Ok(())
}
