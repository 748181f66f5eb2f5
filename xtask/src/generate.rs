//! `cargo xtask generate`: what is made from the code, so that the two cannot differ.

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Writes the generated files, or with `check` only says whether they are fresh.
pub fn run(check: bool) -> Result<()> {
    cargo::run(&["build", "--quiet", "--package", "mailcluster-api", "--bin", "crdgen"])?;
    generate(check)
}

/// Says whether they are fresh, by the program that has been built with all the others.
pub fn check_built() -> Result<()> {
    generate(true)
}

fn generate(check: bool) -> Result<()> {
    let output = std::process::Command::new(cargo::binary("crdgen")?)
        .args(check.then_some("--check"))
        .current_dir(cargo::workspace())
        .output()
        .context("failed to run crdgen")?;
    if !output.status.success() {
        bail!("crdgen: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
