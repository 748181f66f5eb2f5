//! Running cargo, with everything it builds kept in the cache folder outside the checkout.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use mailcluster_lab::Paths;

use crate::{
    tally::{Count, Tally},
    turn::Turn,
};

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Where cargo builds: where CARGO_TARGET_DIR says, else in the cache, outside the checkout, so that a fresh clone
/// finds its dependencies built.
pub fn target_dir() -> Result<PathBuf> {
    if let Some(named) =
        std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|path| path.is_absolute())
    {
        return Ok(named);
    }
    Ok(Paths::from_environment()?.cache.join("target"))
}

/// A program that `cargo build` has made.
pub fn binary(name: &str) -> Result<PathBuf> {
    Ok(target_dir()?.join(host()?).join("debug").join(name))
}

/// The target that cargo builds for, like `x86_64-unknown-linux-gnu`.
fn host() -> Result<String> {
    let output = Command::new("rustc").args(["-vV"]).output().context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// `cargo` in the workspace; it ends with this program, however that ends.
pub fn command(args: &[&str]) -> Result<Command> {
    let mut command = mailcluster_interop::mortal("cargo");
    command.args(args).current_dir(workspace()).env("CARGO_TARGET_DIR", target_dir()?).stdin(Stdio::null());
    // What `cargo xtask` was built with must not reach what it builds.
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    // What helps whoever edits takes three times the room, and tests of a checkout build each crate once.
    if std::env::var_os("CARGO_INCREMENTAL").is_none() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    Ok(command)
}

/// The right to build, which other checkouts do not have meanwhile.
fn turn() -> Result<Turn> {
    Turn::take(&target_dir()?, &workspace())
}

/// Runs `cargo` to its end.
pub fn run(args: &[&str]) -> Result<()> {
    run_in(&workspace(), args)
}

/// The same in another folder, which has a workspace of its own.
pub fn run_in(folder: &Path, args: &[&str]) -> Result<()> {
    let _turn = turn()?;
    let status = command(args)?.current_dir(folder).status().context("failed to start cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed", args.join(" "));
    }
    Ok(())
}

/// Builds every program. Always the whole workspace with its tests: with fewer packages, or without the tests' own
/// dependencies, cargo would choose other features for shared dependencies, and build those a second time.
pub fn build_programs() -> Result<()> {
    println!("building the programs (about 15 minutes, the first time)");
    run(&["build", "--quiet", "--workspace", "--bins", "--tests"])
}

/// Runs `cargo test` and counts; a failure to build is an error, failed tests are counted.
pub fn test(args: &[&str], env: &[(&str, &str)]) -> Result<Count> {
    let _turn = turn()?;
    let runner = format!("CARGO_TARGET_{}_RUNNER", host()?.to_uppercase().replace('-', "_"));
    let mut child = command(args)?
        .envs(env.iter().copied())
        // The test programs end with cargo as cargo does with this one, and their nodes with them.
        .env(runner, "setpriv --pdeathsig KILL --")
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            tally.read(&line);
            if worth_showing(&line) {
                println!("{line}");
            }
        }
    }
    let count = tally.finish();
    if !child.wait()?.success() && count.failed == 0 {
        bail!("`cargo {}` failed before its tests could", args.join(" "));
    }
    Ok(count)
}

/// Lines of passing tests and empty runs say nothing.
fn worth_showing(line: &str) -> bool {
    !(line.trim().is_empty()
        || line.starts_with("running ")
        || line.ends_with("... ok")
        || line.contains("ok. 0 passed"))
}
