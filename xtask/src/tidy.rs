//! `cargo xtask tidy`: the structure that docs/architecture.md describes, checked.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, generate};

/// Longest file in lines, tests apart; beyond it a module wants to be split.
const MAX_LINES: usize = 500;

/// Which of our crates each crate may depend on (dev-dependencies apart). The arrows go one way only.
const ARROWS: &[(&str, &[&str])] = &[
    ("mailcluster-types", &[]),
    ("mailcluster-failover", &[]),
    ("mailcluster-proto-imap", &[]),
    ("mailcluster-proto-smtp", &[]),
    ("mailcluster-proto-pop3", &[]),
    ("mailcluster-message", &[]),
    ("mailcluster-api", &["failover"]),
    ("mailcluster-rpc", &[]),
    ("mailcluster-lmtp", &["types", "proto-smtp"]),
    ("mailcluster-store", &["types"]),
    ("mailcluster-auth", &["types"]),
    ("mailcluster-net", &["types", "proto-smtp"]),
    ("mailcluster-queue", &["types", "store", "lmtp", "message", "proto-smtp"]),
    ("mailcluster-directory", &["types", "store", "auth", "rpc"]),
    ("mailcluster-arbiter", &["types", "api", "failover", "store", "rpc"]),
    (
        "mailcluster-backend",
        &["types", "net", "store", "message", "lmtp", "proto-imap", "proto-smtp", "proto-pop3"],
    ),
    ("mailcluster-frontend", &["types", "net", "auth", "lmtp", "proto-imap", "proto-smtp", "proto-pop3"]),
    ("mailcluster-operator", &["api", "rpc", "failover"]),
    ("mailcluster-fence-redfish", &[]),
    ("kubectl-mailcluster", &["api", "rpc"]),
    ("mailcluster-lab", &[]),
    ("mailcluster-test-clients", &[]),
    ("mailcluster-interop", &["lab", "test-clients"]),
    ("mailcluster-e2e", &["lab", "test-clients"]),
    ("xtask", &["lab", "test-clients", "e2e", "interop"]),
];

/// Checks the structure, and that what is generated is fresh.
pub fn run_all() -> Result<()> {
    run()?;
    generate::run(true)
}

/// Checks the structure; the error lists all that is wrong.
pub fn run() -> Result<()> {
    let mut wrong = arrows()?;
    wrong.extend(files(&cargo::workspace())?);
    if wrong.is_empty() {
        println!("tidy: ok");
        return Ok(());
    }
    bail!("tidy: {} finding(s)\n  {}", wrong.len(), wrong.join("\n  "))
}

fn arrows() -> Result<Vec<String>> {
    let output = cargo::command(&["metadata", "--no-deps", "--format-version", "1"])?.output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = allowed.get(name) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let internal = ours.contains(&target) && dependency["kind"].as_str() != Some("dev");
            let short = target.strip_prefix("mailcluster-").unwrap_or(target);
            if internal && !allowed.contains(&short) {
                wrong.push(format!("{name} must not depend on {target} (see docs/architecture.md)"));
            }
        }
    }
    Ok(wrong)
}

fn files(root: &Path) -> Result<Vec<String>> {
    let output =
        Command::new("git").args(["ls-files", "*.rs"]).current_dir(root).output().context("git ls-files")?;
    let mut wrong = Vec::new();
    for name in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        wrong.extend(file(name, &text));
    }
    Ok(wrong)
}

/// What is wrong with one file.
fn file(name: &str, text: &str) -> Option<String> {
    let is_test = name.contains("/tests/") || name.ends_with("tests.rs") || name.contains("/examples/");
    if !name.ends_with("/tests.rs") && !text.trim_start().starts_with("//!") {
        return Some(format!("{name} does not begin with `//!` and what it is for"));
    }
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    (!is_test && lines > MAX_LINES)
        .then(|| format!("{name} has {lines} lines, more than {MAX_LINES}: split it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_undocumented_files_are_found() {
        assert!(file("a.rs", "fn main() {}\n").is_some());
        assert!(file("a.rs", "//! A file.\n").is_none());
        let long = format!("//! Long.\n{}", "\n".repeat(600));
        assert!(file("src/a.rs", &long).is_some());
        assert!(file("crate/tests/a.rs", &long).is_none());
    }
}
