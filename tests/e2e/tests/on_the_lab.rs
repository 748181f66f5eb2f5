//! End to end on the lab: a real Kubernetes, the chart, a MailCluster, and what can happen to it. The tests share one
//! cluster and run in order, as one; they are left out, by name, unless `cargo xtask test` has brought the lab up.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::{NAMESPACE, Placed, Plan, Site, reads, wait_for};
use mailcluster_lab::Lab;
use mailcluster_test_clients::Ledger;

const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn a_cluster_lives_through_bad_days() -> Result<()> {
    if std::env::var_os("MAILCLUSTER_E2E").is_none() {
        println!("left out: needs the lab (`cargo xtask test` brings it up)");
        return Ok(());
    }
    let site = install()?;
    let say = |what: &str| println!("    {what}");
    let accounts = site.make_accounts(&say)?;
    let addresses: Vec<String> = accounts.iter().map(|account| account.address.clone()).collect();
    let mut promised = Ledger::default();
    let mut run = |name: &str, test: &dyn Fn() -> Result<Ledger>| -> Result<()> {
        println!("e2e {name} ...");
        promised.merge(&test().with_context(|| name.to_owned())?);
        site.drain_queues(&say)?;
        let verdict = site.read_back(&promised, &addresses)?;
        ensure!(verdict.is_clean(), "{name}: {verdict:?}");
        println!("e2e {name} ... ok, {} messages, none lost, none twice", verdict.accepted);
        Ok(())
    };
    run("frontends_are_scaled_by_kubectl", &|| scaled(&site))?;
    run("f01_a_killed_backend_comes_back_where_it_is", &|| killed(&site, &accounts))?;
    run("f23_the_operator_is_not_needed_for_service", &|| without_operator(&site, &addresses))?;
    run("api_away_service_goes_on", &|| without_api(&site, &accounts))?;
    run("a_deleted_child_is_repaired", &|| repaired(&site))?;
    run("f18_a_lost_node_is_fenced_and_its_stores_move", &|| lost_node(&site, &accounts))?;
    Ok(())
}

fn install() -> Result<Site> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("no workspace")?;
    let binaries = std::env::var("MAILCLUSTER_BIN").context("MAILCLUSTER_BIN")?;
    let plan = Plan {
        workspace,
        binaries: Path::new(&binaries),
        registry: "localhost",
        tag: env!("CARGO_PKG_VERSION"),
    };
    let (site, first) = plan.install(Lab::attach()?, "demo")?;
    let others = site.other_nodes(&first)?;
    site.volumes(&first, &others[0], &others[1])?;
    site.bmc_secret()?;
    let manifest = std::fs::read_to_string(workspace.join("docs/examples/quickstart.yaml"))?;
    site.apply_on(&first, &manifest)?;
    site.wait_ready(LIMIT)?;
    wait_for("the Service has an address", LIMIT, || site.address().map(Some))?;
    Ok(site)
}

/// Sends for as long as `during` takes, and a little longer.
fn sending(
    site: &Site,
    name: &str,
    addresses: &[String],
    during: impl FnOnce() -> Result<()>,
) -> Result<Ledger> {
    let load = site.load(name, addresses)?;
    wait_for("mail flows", LIMIT, || Ok((load.accepted() >= 20).then_some(())))?;
    let outcome = during();
    let before = load.accepted();
    let after = wait_for("mail flows on", LIMIT, || Ok((load.accepted() >= before + 20).then_some(())));
    let ledger = load.finish();
    outcome.and(after)?;
    Ok(ledger)
}

fn addresses(accounts: &[Placed]) -> Vec<String> {
    accounts.iter().map(|account| account.address.clone()).collect()
}

fn ready_frontends(site: &Site) -> Result<u64> {
    let deployment = site.get(&["deployment", "demo-frontend"])?;
    Ok(deployment.pointer("/status/readyReplicas").and_then(serde_json::Value::as_u64).unwrap_or(0))
}

fn scaled(site: &Site) -> Result<Ledger> {
    for count in [3, 2] {
        site.lab.kubectl(&["-n", NAMESPACE, "scale", "mailcluster/demo", &format!("--replicas={count}")])?;
        wait_for("the frontends follow", LIMIT, || Ok((ready_frontends(site)? == count).then_some(())))?;
    }
    Ok(Ledger::default())
}

fn killed(site: &Site, accounts: &[Placed]) -> Result<Ledger> {
    let store = &accounts[0].store;
    let before = site.store(store)?;
    let ledger = sending(site, "killed", &addresses(accounts), || {
        site.lab.kill_pod(NAMESPACE, &format!("{store}-a-0"))?;
        wait_for("it serves at a higher epoch", LIMIT, || {
            Ok((site.store(store)?.epoch > before.epoch).then_some(()))
        })
    })?;
    ensure!(site.store(store)?.host == before.host, "a crashed process must restart where it is");
    Ok(ledger)
}

fn without_operator(site: &Site, addresses: &[String]) -> Result<Ledger> {
    let scale = |count: &str| {
        let replicas = format!("--replicas={count}");
        site.lab.kubectl(&[
            "-n",
            mailcluster_e2e::SYSTEM,
            "scale",
            "deployment",
            "mailcluster-operator",
            &replicas,
        ])
    };
    scale("0")?;
    let ledger = sending(site, "no-operator", addresses, || Ok(()));
    scale("2")?;
    wait_for("an operator leads again", LIMIT, || site.leader().map(Some))?;
    ledger
}

fn without_api(site: &Site, accounts: &[Placed]) -> Result<Ledger> {
    let epochs: Vec<u64> = site.stores()?.iter().map(|store| store.epoch).collect();
    let port = site.port(993)?;
    let ledger = sending(site, "no-api", &addresses(accounts), || {
        site.lab.api_down(None)?;
        // Longer than a lease by far: with fencing by proof a cut-off single copy serves on.
        let until = std::time::Instant::now() + Duration::from_secs(60);
        let mut failed = 0;
        while std::time::Instant::now() < until {
            failed += usize::from(!accounts.iter().all(|account| reads(port, &account.address)));
            std::thread::sleep(Duration::from_secs(1));
        }
        site.lab.api_up(None)?;
        ensure!(failed == 0, "{failed} rounds of reading failed without the API");
        Ok(())
    })?;
    site.wait_ready(LIMIT)?;
    let after: Vec<u64> = site.stores()?.iter().map(|store| store.epoch).collect();
    ensure!(epochs == after, "a store changed its holder because the API was away: {epochs:?} {after:?}");
    Ok(ledger)
}

fn repaired(site: &Site) -> Result<Ledger> {
    for kind in
        ["service/demo", "poddisruptionbudget/demo-frontend", "configmap/demo-ca", "role/demo-frontend"]
    {
        site.lab.kubectl(&["-n", NAMESPACE, "delete", kind])?;
        wait_for(kind, LIMIT, || site.get(&[kind]).map(Some))?;
    }
    wait_for("the Service has an address", LIMIT, || site.address().map(Some))?;
    Ok(Ledger::default())
}

fn lost_node(site: &Site, accounts: &[Placed]) -> Result<Ledger> {
    let say = |what: &str| println!("    {what}");
    sending(site, "lost-node", &addresses(accounts), || {
        let seconds = site.pull_the_plug(&say, accounts, &site.store(&accounts[0].store)?.host)?;
        println!("    served again after {seconds:.1} s");
        Ok(())
    })
}
