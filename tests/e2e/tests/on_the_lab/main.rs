//! End to end on the lab: a real Kubernetes, the chart, a MailCluster, and what can happen to it. The scenarios of a
//! table share one cluster and run in order, as one test; two labs may play a table each at the same time. They are
//! left out, by name, unless `cargo xtask test` has brought the lab up. After each of them everything is read back and
//! compared with what was promised.

mod api;
mod backups;
mod beside;
mod certificates;
mod chart;
mod directory;
mod faults;
mod forced;
mod mirrored_directory;
mod mirrors;
mod moves;
mod network;
mod operator;
mod partition;
mod release;
mod service;
mod stage;
mod upkeep;
mod volumes;
mod weak;

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::{BROKEN, Kubernetes, picture};
use mailcluster_test_clients::Ledger;
use stage::{From, Stage};

/// What happens to the cluster; answers what was promised to clients meanwhile.
type Scenario = fn(&Stage) -> Result<Ledger>;

/// What a scenario takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Any Kubernetes: nothing is done to its nodes or to the API.
    Kubernetes,
    /// The lab's faults, disks or logs.
    TheLab,
}
use Needs::{Kubernetes as Any, TheLab};

/// What must not disturb service, in this order: later ones find the cluster as the earlier ones left it.
const SERVICE: &[(&str, Needs, Scenario)] = &[
    (release::NAME, TheLab, release::upgraded),
    ("the_chart_refuses_what_cannot_work", Any, chart::checked),
    ("frontends_are_scaled_by_kubectl", Any, service::scaled),
    ("frontends_are_made_anew_and_nobody_is_turned_away", Any, service::restarted),
    ("a_foreign_pod_reaches_the_doors_of_the_frontends_only", TheLab, network::foreign_pod),
    ("a_frozen_frontend_is_taken_out", TheLab, service::frontend_taken_out),
    ("an_idle_cluster_writes_nothing_but_leases", TheLab, operator::idle),
    ("f23_the_operator_is_not_needed_for_service", Any, operator::absent),
    ("api_away_service_goes_on", TheLab, api::away),
    ("one_of_two_api_servers_dead_and_nobody_fences_itself", TheLab, api::one_dead),
    ("f26_a_deleted_lease_is_made_anew", Any, operator::lease_deleted),
    ("f26_a_lease_from_a_backup_is_refused_until_a_person_says_so", TheLab, backups::lease_rolled_back),
    ("f27_the_directory_is_away_and_a_frontend_starts", TheLab, directory::away),
    ("certificates_of_two_minutes_are_renewed_under_load", TheLab, certificates::short_lived),
    ("an_upgrade_of_the_operator_restarts_no_mail_pod", Any, chart::upgraded),
    ("an_uninstalled_chart_leaves_the_cluster_serving", Any, chart::uninstalled),
    (
        "old_volumes_in_an_empty_kubernetes_bring_everything_back",
        TheLab,
        volumes::old_volumes_in_an_empty_kubernetes,
    ),
    // On a cluster of their own, whose stores have mirrors.
    ("f19_a_mirror_takes_over_from_a_lost_node_that_comes_back", TheLab, mirrors::lost_primary),
    (
        "a_mirror_takes_the_directory_over_and_whoever_was_seen_logs_in_meanwhile",
        TheLab,
        mirrored_directory::primary_lost,
    ),
    ("a_primary_that_ends_hands_its_store_to_a_mirror", TheLab, mirrors::handed_over),
    ("f16_a_hanging_mirror_is_left_out_and_let_in_again", TheLab, mirrors::hanging_mirror),
    ("a_mirror_whose_disk_is_empty_is_replaced_by_a_new_copy", TheLab, mirrors::replaced),
    ("a_copy_that_is_behind_serves_by_force_and_what_it_lacks_is_brought", TheLab, forced::forced),
    ("f26_a_lease_from_a_backup_promotes_no_mirror", TheLab, backups::mirrored_lease_rolled_back),
    ("primaries_are_spread_over_the_nodes_again", TheLab, mirrors::rebalanced),
    ("a_drained_node_hands_its_mirrored_stores_over", TheLab, upkeep::drained),
    ("every_copy_is_made_anew_and_hardly_anybody_notices", TheLab, upkeep::renewed),
    ("clients_are_told_nothing_wrong_through_faults_at_random", TheLab, faults::at_random),
    ("a_mirrored_cluster_is_taken_down", TheLab, mirrors::taken_down),
];

/// What makes stores move or stop, in this order.
const FAILOVER: &[(&str, Needs, Scenario)] = &[
    ("f01_a_killed_backend_comes_back_where_it_is", TheLab, service::killed),
    ("f13_a_frozen_process_acknowledges_nothing_old", TheLab, service::frozen),
    ("a_changed_mailcluster_reaches_the_stores_one_by_one", Any, moves::changed),
    ("a_store_is_moved_by_hand", TheLab, moves::planned),
    ("f31_a_drained_node_gives_its_stores_away", TheLab, moves::drained),
    ("f24_the_operator_is_killed_in_each_phase", TheLab, operator::killed_in_each_phase),
    ("f18_a_lost_node_is_fenced_and_its_stores_move", TheLab, moves::lost_node),
    ("f15_a_partitioned_node_is_fenced_before_its_stores_serve", TheLab, partition::fenced),
    ("wrong_volumes_are_refused_and_said", TheLab, volumes::exchanged),
    ("f44_a_volume_from_a_backup_serves_when_a_person_says_so", TheLab, backups::restored),
    ("a_store_is_added_by_count", TheLab, volumes::added),
    ("lease_expired_without_an_api_the_store_stops_in_time", TheLab, weak::api_away),
    ("lease_expired_a_cut_off_store_stops_before_its_sibling_serves", TheLab, weak::partitioned),
    ("lease_expired_a_frozen_process_acknowledges_nothing_old", TheLab, weak::frozen),
    ("deletion_policy_delete_leaves_nothing", TheLab, weak::deleted),
    ("a_disk_moved_to_another_machine_is_adopted", TheLab, volumes::adopted),
];

#[test]
fn service_goes_on() -> Result<()> {
    play_all(SERVICE)
}

#[test]
fn stores_move() -> Result<()> {
    play_all(FAILOVER)
}

/// All scenarios of a table, on one cluster.
fn play_all(scenarios: &[(&str, Needs, Scenario)]) -> Result<()> {
    if std::env::var_os("MAILCLUSTER_E2E").is_none() {
        leave_out(scenarios, "needs the lab (`cargo xtask test` brings it up)");
        return Ok(());
    }
    let only = std::env::var("MAILCLUSTER_E2E_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|part| name.contains(part));
    // A second try begins with what failed; those before it have been counted.
    let from = std::env::var("MAILCLUSTER_E2E_FROM").unwrap_or_default();
    let first = scenarios.iter().position(|(name, ..)| *name == from).unwrap_or(0);
    let scenarios = &scenarios[first..];
    // `cargo xtask test` names it, where the history has it.
    let has_release = std::env::var_os("MAILCLUSTER_RELEASED").is_some();
    let is_upgraded =
        has_release && scenarios.iter().any(|(name, ..)| *name == release::NAME && wanted(name));
    let from = if is_upgraded { From::LastRelease } else { From::Today };
    let stage = Stage::set(from).inspect_err(|_| show_what_is_there())?;
    let mut promised = Ledger::default();
    for (number, (name, needs, scenario)) in scenarios.iter().enumerate() {
        if !wanted(name) {
            leave_out(&scenarios[number..=number], "not among MAILCLUSTER_E2E_ONLY");
            continue;
        }
        if *name == release::NAME && !has_release {
            leave_out(&scenarios[number..=number], "the last release's commit is not in this clone");
            continue;
        }
        if *needs == TheLab && stage.site.lab().is_err() {
            leave_out(&scenarios[number..=number], "needs the lab's faults");
            continue;
        }
        println!("e2e {name} ...");
        if let Err(error) = play(&stage, name, *scenario, &mut promised) {
            let why = format!("{error:#}").replace('\n', " ");
            println!("e2e {name} ... FAILED: {why}");
            show_what_is_there();
            leave_out(&scenarios[number + 1..], &format!("{name} failed before it"));
            return Err(error.context((*name).to_owned()));
        }
    }
    Ok(())
}

/// One scenario, and after it everything read back.
fn play(stage: &Stage, name: &str, scenario: Scenario, promised: &mut Ledger) -> Result<()> {
    let start = std::time::Instant::now();
    promised.merge(&scenario(stage)?);
    stage.settle().context("after it")?;
    let verdict = stage.site.read_back(promised, &stage.addresses)?;
    ensure!(verdict.is_clean(), "{BROKEN}: {verdict}");
    println!(
        "e2e {name} ... ok, {:.0} s, {} messages, none lost, none twice",
        start.elapsed().as_secs_f64(),
        verdict.accepted
    );
    Ok(())
}

/// For those who read of it when the machine is gone.
fn show_what_is_there() {
    match Kubernetes::of_test() {
        Ok(kubernetes) => println!("{}", picture(&kubernetes)),
        Err(error) => println!("  nothing can be shown: {error:#}"),
    }
}

/// Names what is not run, for those who count.
fn leave_out(scenarios: &[(&str, Needs, Scenario)], why: &str) {
    for (name, _, _) in scenarios {
        println!("left out {name}: {why}");
    }
}
