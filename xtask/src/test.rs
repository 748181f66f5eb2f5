//! `cargo xtask test`: every test there is, on a machine with nothing but Debian or Ubuntu, root, gcc, cargo and Go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mailcluster_lab::Lab;

use crate::{
    cargo::{self, Count},
    generate, images, tidy,
};

/// The test target that runs on the lab.
const E2E: &str = "on_the_lab";

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Run the stated lengths (100 kills, 20 power cuts), not the short forms.
    pub long: bool,
    /// Leave out what needs the Kubernetes lab, and say so.
    pub no_lab: bool,
}

/// One part of the run and how long it took.
struct Part {
    name: &'static str,
    took: Duration,
    count: Count,
}

/// Runs everything; the last line counts.
pub fn run(options: Options) -> Result<()> {
    let mut parts = Vec::new();
    let mut part = |name: &'static str, run: &dyn Fn() -> Result<Count>| -> Result<()> {
        println!("=== {name}");
        let start = Instant::now();
        let count = run().with_context(|| format!("part `{name}`"))?;
        parts.push(Part { name, took: start.elapsed(), count });
        Ok(())
    };
    part("format, lints", &lints)?;
    part("tidy, generated files", &|| {
        tidy::run().and_then(|()| generate::run(true)).map(|()| Count::default())
    })?;
    part("licences", &licences)?;
    let long = if options.long { "1" } else { "" };
    part("unit, property and protocol tests, real clients, crashes", &|| without_lab(long))?;
    if options.no_lab {
        println!("=== end to end on the lab: left out (--no-lab)");
    } else {
        part("end to end on the lab", &|| end_to_end(long))?;
    }
    report(&parts)
}

fn lints() -> Result<Count> {
    cargo::run(&["fmt", "--all", "--check"]).context("run `cargo fmt --all`")?;
    cargo::run(&["clippy", "--workspace", "--quiet", "--", "-D", "warnings"])?;
    // In a test a failed step is a failed test, in its helpers as in itself.
    let allowed = ["-A", "clippy::unwrap_used", "-A", "clippy::expect_used", "-A", "clippy::panic"];
    let mut all = vec!["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    all.extend(allowed);
    cargo::run(&all)?;
    Ok(Count::default())
}

/// cargo-deny is built once, into the cache.
fn licences() -> Result<Count> {
    let root = mailcluster_lab::Paths::from_environment()?.cache.join("cargo-deny-0.20.2");
    if !root.join("bin/cargo-deny").is_file() {
        println!("building cargo-deny (about 5 minutes, once)");
        let root = root.to_str().context("the cache folder is not UTF-8")?.to_owned();
        let args = ["install", "cargo-deny", "--version", "0.20.2", "--locked", "--root", &root, "--debug"];
        cargo::run(&args).context("failed to build cargo-deny")?;
    }
    // cargo-deny looks at every platform's dependencies, a build has fetched this one's.
    cargo::run(&["fetch", "--locked"])?;
    let status = cargo::command(&[
        "deny",
        "--offline",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ])?
    .env("PATH", prepended(&root.join("bin"))?)
    .status()?;
    if !status.success() {
        bail!("a dependency breaks deny.toml");
    }
    Ok(Count { passed: 1, failed: 0 })
}

fn prepended(folder: &std::path::Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("PATH")
}

/// Unit, property and protocol tests, real clients and crashes.
fn without_lab(long: &str) -> Result<Count> {
    mailcluster_interop::sweep()?;
    cargo::build_programs()?;
    let bin = binaries()?;
    let env = [("MAILCLUSTER_BIN", bin.as_str()), ("MAILCLUSTER_LONG", long), ("RUST_BACKTRACE", "0")];
    cargo::test(&["test", "--workspace", "--no-fail-fast", "--quiet"], &env)
}

fn end_to_end(long: &str) -> Result<Count> {
    let archive = images::build()?;
    let lab = Lab::up(&mailcluster_lab::Options { nodes: 3, api_servers: 2, ..Default::default() })?;
    lab.load_image(&archive)?;
    let bin = binaries()?;
    let env = [
        ("MAILCLUSTER_BIN", bin.as_str()),
        ("MAILCLUSTER_LONG", long),
        ("MAILCLUSTER_E2E", "1"),
        ("RUST_BACKTRACE", "0"),
    ];
    let args = ["test", "--workspace", "--test", E2E, "--", "--test-threads", "1", "--nocapture"];
    let result = cargo::test(&args, &env);
    lab.shutdown()?;
    result
}

fn binaries() -> Result<String> {
    let node = cargo::binary("mailcluster-node")?;
    let folder = node.parent().and_then(|folder| folder.to_str()).context("target folder")?;
    Ok(folder.to_owned())
}

fn report(parts: &[Part]) -> Result<()> {
    let mut total = Count::default();
    println!();
    for part in parts {
        println!("{:>6.0} s  {:>4} passed  {}", part.took.as_secs_f64(), part.count.passed, part.name);
        total += part.count;
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("{} test(s) failed", total.failed);
    }
    Ok(())
}
