//! The parts of a test run, each easy to call alone.

use std::{ffi::OsString, path::Path};

use anyhow::{Context, Result, bail};
use mailcluster_e2e::{OwnCluster, Plan, PullPolicy, SYSTEM, picture};
use mailcluster_lab::{Lab, Options, Owner, Paths, VolumeSpec};

use super::Part;
use crate::{cargo, generate, images, tally::Count, tidy};

/// The end-to-end tests, the lab's own, and the operator's against a real API.
const SERVICE: &str = "service_goes_on";
const FAILOVER: &str = "stores_move";
const LAB: &str = "a_lab_and_its_faults";
const LIVE: &str = "children_are_made_repaired_and_taken_down";
/// Tests that are parts of their own, or programs that other tests start: not among the others.
const ELSEWHERE: &[&str] = &[SERVICE, FAILOVER, LAB, LIVE, "victim"];

/// The lab that tests the lab: beside one that somebody has up.
const LAB_NAME: &str = "selftest";

/// The volumes of the operator's test, and their size. Its claims want 100 MiB.
const LIVE_VOLUMES: [&str; 2] = ["live-0", "live-1"];
const LIVE_VOLUME: u64 = 256 << 20;

/// Format, lints, structure, generated files, licences.
pub fn lint() -> Result<Count> {
    cargo::run(&["fmt", "--all", "--check"]).context("run `cargo fmt --all`")?;
    cargo::run(&["clippy", "--workspace", "--quiet", "--", "-D", "warnings"])?;
    // In a test a failed step is a failed test, in its helpers as in itself.
    let allowed = ["-A", "clippy::unwrap_used", "-A", "clippy::expect_used", "-A", "clippy::panic"];
    let mut all = vec!["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    all.extend(allowed);
    cargo::run(&all)?;
    cargo::build_programs()?;
    tidy::run()?;
    generate::check_built()?;
    licences()?;
    // Format, lints without and with tests, structure, generated files, licences.
    Ok(Count::of(6))
}

/// cargo-deny is built once, into the cache.
fn licences() -> Result<()> {
    let root = Paths::from_environment()?.cache.join("cargo-deny-0.20.2");
    if !root.join("bin/cargo-deny").is_file() {
        println!("building cargo-deny (about 5 minutes, once)");
        let root = root.to_str().context("the cache folder is not UTF-8")?.to_owned();
        let args = ["install", "cargo-deny", "--version", "0.20.2", "--locked", "--root", &root, "--debug"];
        cargo::run(&args).context("failed to build cargo-deny")?;
    }
    // cargo-deny looks at every platform's dependencies, a build has fetched this one's.
    cargo::run(&["fetch", "--locked"])?;
    let words = ["deny", "--offline", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"];
    let status = cargo::command(&words)?.env("PATH", prepended(&root.join("bin"))?).status()?;
    if !status.success() {
        bail!("a dependency breaks deny.toml");
    }
    Ok(())
}

fn prepended(folder: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("PATH")
}

/// Unit, property and protocol tests, real clients and crashes.
pub fn unit(long: &str) -> Result<Count> {
    mailcluster_interop::sweep()?;
    cargo::build_programs()?;
    let bin = binaries()?;
    let env = [("MAILCLUSTER_BIN", bin.as_str()), ("MAILCLUSTER_LONG", long), ("RUST_BACKTRACE", "0")];
    let mut words = vec!["test", "--workspace", "--no-fail-fast", "--quiet", "--", "--exact"];
    for name in ELSEWHERE {
        words.extend(["--skip", name]);
    }
    cargo::test(&words, &env)
}

/// The lab's own test, on a lab of its own.
pub fn lab() -> Result<Count> {
    cargo::build_programs()?;
    let helper = cargo::binary("xtask")?;
    let env = [
        ("MAILCLUSTER_LAB_TESTS", "1"),
        ("MAILCLUSTER_LAB", LAB_NAME),
        ("MAILCLUSTER_XTASK", helper.to_str().context("the target folder is not UTF-8")?),
        ("RUST_BACKTRACE", "0"),
    ];
    run_one(Part::Lab, &env)
}

/// A lab with our images, for the parts that share it.
pub fn bring_up() -> Result<Lab> {
    let archive = images::build()?;
    let options = Options { nodes: 3, api_servers: 2, owner: Owner::Tests, ..Options::default() };
    let lab = Lab::up(&options)?;
    lab.load_image(&archive)?;
    Ok(lab)
}

/// The operator's test against a real API, with the chart installed, and its stores on volumes that they really serve
/// from. Afterwards the lab is as it was.
pub fn live(lab: &Lab) -> Result<Count> {
    let (workspace, bin) = (cargo::workspace(), binaries()?);
    let plan = Plan {
        workspace: &workspace,
        binaries: Path::new(&bin),
        registry: images::LOCAL.to_owned(),
        tag: env!("CARGO_PKG_VERSION"),
        pull: PullPolicy::Never,
    };
    // Waits until an operator leads, by which time the API knows the chart's kinds.
    plan.install(Lab::attach()?.into(), "live")?;
    let nodes: Vec<String> = lab.state()?.nodes.into_iter().map(|node| node.name).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    lab.create_volumes(&LIVE_VOLUMES.map(|name| VolumeSpec::new(name, &nodes, LIVE_VOLUME)))?;
    let kubeconfig = lab.kubeconfig();
    let env = [
        ("MAILCLUSTER_TEST_KUBECONFIG", kubeconfig.to_str().context("the cache folder is not UTF-8")?),
        ("MAILCLUSTER_TEST_INSTALLED", "1"),
        ("MAILCLUSTER_TEST_STORAGE_CLASS", mailcluster_lab::STORAGE_CLASS),
        ("RUST_BACKTRACE", "0"),
    ];
    let result = run_one(Part::Live, &env)?;
    if result.failed > 0 {
        println!("{}", picture(&Lab::attach()?.into()));
    }
    remove_live(lab).context("failed to remove what the operator's test has left")?;
    Ok(result)
}

/// In this order: as long as the operator is there, it takes leave of its MailClusters.
fn remove_live(lab: &Lab) -> Result<()> {
    let limit = "--timeout=180s";
    let namespaces = lab.kubectl(&["get", "namespaces", "-o", "name"])?;
    for namespace in namespaces.lines().filter(|name| name.starts_with("namespace/operator-test-")) {
        lab.kubectl(&["delete", namespace, limit, "--ignore-not-found"])?;
    }
    for volume in LIVE_VOLUMES {
        lab.kubectl(&["delete", "pv", volume, limit, "--ignore-not-found"])?;
    }
    lab.helm(&["uninstall", "mailcluster", "--namespace", SYSTEM, "--wait"])?;
    lab.kubectl(&["delete", "namespace", SYSTEM, limit])?;
    // The chart keeps them.
    let kinds = ["mailclusters.mailcluster.io", "mailstores.mailcluster.io"];
    lab.kubectl(&["delete", "crd", kinds[0], kinds[1], limit, "--ignore-not-found"]).map(drop)
}

/// What can happen to a cluster, on the lab that is up: all of it, or what begins with this scenario.
pub fn end_to_end(lab: &Lab, part: Part, long: &str, from: &str) -> Result<Count> {
    let bin = binaries()?;
    let mut env = vec![
        ("MAILCLUSTER_BIN", bin.as_str()),
        ("MAILCLUSTER_LONG", long),
        ("MAILCLUSTER_E2E", "1"),
        ("MAILCLUSTER_E2E_FROM", from),
        ("RUST_BACKTRACE", "0"),
    ];
    // What must not disturb service begins with an upgrade.
    let released = if part == Part::Service { images::released::build()? } else { None };
    if let Some(released) = &released {
        lab.load_image(&released.archive)?;
        env.push((
            "MAILCLUSTER_RELEASED",
            released.source.to_str().context("the cache folder is not UTF-8")?,
        ));
    }
    run_one(part, &env)
}

/// What breaks nothing, on a cluster of the user's own. Both tables play on one cluster, which is gone afterwards.
pub fn on_own_cluster(own: &OwnCluster, long: &str) -> Result<Count> {
    cargo::build_programs()?;
    let bin = binaries()?;
    let named = own.environment();
    let mut env = vec![
        ("MAILCLUSTER_BIN", bin.as_str()),
        ("MAILCLUSTER_LONG", long),
        ("MAILCLUSTER_E2E", "1"),
        ("RUST_BACKTRACE", "0"),
    ];
    env.extend(named.iter().map(|(name, value)| (*name, value.as_str())));
    let mut count = run_one(Part::Service, &env)?;
    if count.failed == 0 {
        env.push(("MAILCLUSTER_E2E_ATTACH", "1"));
        count += run_one(Part::Failover, &env)?;
    }
    own.take_down().context("failed to remove what the tests have made")?;
    Ok(count)
}

/// Without a lab: the test programs say themselves what they leave out.
pub fn name_left_out(part: Part) -> Result<Count> {
    run_one(part, &[])
}

/// One test program that needs a lab.
fn run_one(part: Part, env: &[(&str, &str)]) -> Result<Count> {
    let (target, test) = match part {
        Part::Lab => ("lab", LAB),
        Part::Live => ("live", LIVE),
        Part::Failover => ("on_the_lab", FAILOVER),
        _ => ("on_the_lab", SERVICE),
    };
    // The whole workspace, as everywhere: see `cargo::build_programs`.
    let words = ["test", "--workspace", "--quiet", "--test", target, "--", "--exact", test, "--nocapture"];
    cargo::test(&words, env)
}

fn binaries() -> Result<String> {
    let node = cargo::binary("mailcluster-node")?;
    let folder = node.parent().and_then(|folder| folder.to_str()).context("target folder")?;
    Ok(folder.to_owned())
}
