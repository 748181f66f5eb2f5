//! Images of the last release, built from this repository's history: what an upgrade begins with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use mailcluster_lab::Paths;

use crate::{cargo, images};

/// The commit of the last release, in a file beside what its nodes say to each other.
const COMMIT: &str = "rpc/released/commit";
/// The tag of its images: both may have the same version.
pub const TAG: &str = "released";

/// Its own packages are built with other settings than today's, and its dependencies with the same: so cargo keeps apart
/// what would have the same name, and builds no dependency twice.
const SETTINGS: [&str; 4] = [
    "--config",
    "profile.dev.overflow-checks=false",
    "--config",
    "profile.dev.package.\"*\".overflow-checks=true",
];

/// The last release.
pub struct Released {
    /// Its source, with its chart.
    pub source: PathBuf,
    /// Its images in one archive.
    pub archive: PathBuf,
}

/// Takes it out of the history and builds it, once. Nothing, where the history is not here.
pub fn build() -> Result<Option<Released>> {
    let commit = fs::read_to_string(cargo::workspace().join(COMMIT)).context(COMMIT)?;
    let commit = commit.trim();
    let mut look = Command::new("git");
    look.args(["cat-file", "-e", commit]).current_dir(cargo::workspace()).stderr(Stdio::null());
    if !look.status().context("git")?.success() {
        println!("the last release ({commit}) is not in this clone: `git fetch --unshallow` brings it");
        return Ok(None);
    }
    let folder = Paths::from_environment()?.cache.join("released").join(commit);
    let released = Released { source: folder.join("source"), archive: folder.join("images.tar") };
    if !released.archive.is_file() {
        println!("building the last release, to upgrade from (about 5 minutes, once)");
        check_out(commit, &released.source)?;
        let new = folder.join(format!("images.{}.new", std::process::id()));
        build_into(&released.source, &new)?;
        fs::rename(&new, &released.archive)?;
    }
    Ok(Some(released))
}

/// Its files, without its history. Their times are those of now, by which cargo tells one state of a package from another.
fn check_out(commit: &str, source: &Path) -> Result<()> {
    if source.is_dir() {
        fs::remove_dir_all(source)?;
    }
    fs::create_dir_all(source)?;
    let mut archive = Command::new("git")
        .args(["archive", commit])
        .current_dir(cargo::workspace())
        .stdout(Stdio::piped())
        .spawn()
        .context("git")?;
    let files = archive.stdout.take().context("git has no output")?;
    let unpacked = Command::new("tar").args(["-xmf", "-", "-C"]).arg(source).stdin(files).status();
    let unpacked = unpacked.context("tar")?;
    if !archive.wait()?.success() || !unpacked.success() {
        bail!("`git archive {commit}` failed");
    }
    Ok(())
}

fn build_into(source: &Path, archive: &Path) -> Result<()> {
    // With one test, what the tests need beside the programs is chosen as it is for today's: see `cargo::build_programs`.
    let words = ["build", "--quiet", "--locked", "--workspace", "--bins", "--test", "crds"];
    cargo::run_in(source, &[&words[..], &SETTINGS[..]].concat())?;
    images::write(archive, TAG)?;
    // Both lie under one name where cargo puts them.
    cargo::build_programs()
}
