//! `cargo xtask tidy`: the structure that docs/architecture.md describes, checked.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, generate};

/// Longest file in lines, tests apart; beyond it a module wants to be split.
const MAX_LINES: usize = 500;

/// What is there of each RFC, and the test of it.
const RFCS: &str = "docs/rfc.tsv";

/// Which of our crates each crate may depend on (dev-dependencies apart). The arrows go one way only.
const ARROWS: &[(&str, &[&str])] = &[
    ("mailcluster-types", &[]),
    ("mailcluster-failover", &[]),
    ("mailcluster-proto-imap", &[]),
    ("mailcluster-proto-smtp", &[]),
    ("mailcluster-proto-pop3", &[]),
    ("mailcluster-proto-managesieve", &[]),
    ("mailcluster-message", &[]),
    ("mailcluster-sieve", &[]),
    ("mailcluster-dkim", &["types"]),
    ("mailcluster-screen", &[]),
    ("mailcluster-api", &["failover"]),
    ("mailcluster-rpc", &[]),
    ("mailcluster-lmtp", &["types", "proto-smtp"]),
    ("mailcluster-store", &["types"]),
    ("mailcluster-auth", &["types"]),
    ("mailcluster-net", &["types", "proto-smtp", "screen"]),
    ("mailcluster-queue", &["types", "store", "dkim", "lmtp", "message", "outbound", "proto-smtp", "relay"]),
    ("mailcluster-outbound", &["proto-smtp"]),
    ("mailcluster-resolver", &[]),
    ("mailcluster-relay", &["types", "lmtp", "outbound", "proto-smtp", "resolver"]),
    ("mailcluster-directory", &["types", "failover", "store", "auth", "dkim", "rpc", "message", "screen"]),
    ("mailcluster-replication", &["types", "failover", "store", "rpc"]),
    ("mailcluster-arbiter", &["types", "api", "failover", "store", "replication", "rpc"]),
    (
        "mailcluster-backend",
        &[
            "types",
            "net",
            "store",
            "message",
            "dkim",
            "lmtp",
            "outbound",
            "proto-imap",
            "proto-smtp",
            "proto-pop3",
            "proto-managesieve",
            "sieve",
        ],
    ),
    (
        "mailcluster-frontend",
        &[
            "types",
            "net",
            "auth",
            "dkim",
            "lmtp",
            "message",
            "screen",
            "verdict",
            "proto-imap",
            "proto-smtp",
            "proto-pop3",
            "proto-managesieve",
            "sieve",
        ],
    ),
    ("mailcluster-verdict", &["resolver"]),
    ("mailcluster-operator", &["api", "rpc", "failover"]),
    ("mailcluster-fence-redfish", &[]),
    ("mailcluster-import", &["proto-imap"]),
    ("kubectl-mailcluster", &["api", "failover", "rpc", "import", "resolver"]),
    ("mailcluster-machine", &[]),
    ("mailcluster-model", &["failover"]),
    ("mailcluster-sim", &[]),
    ("mailcluster-lab", &["machine"]),
    ("mailcluster-test-clients", &[]),
    ("mailcluster-interop", &["lab", "test-clients"]),
    ("mailcluster-e2e", &["lab", "test-clients"]),
    ("xtask-start", &["machine"]),
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
    wrong.extend(rfcs(&cargo::workspace())?);
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

/// The table of RFCs: each row has five columns, a state, and a test that exists.
fn rfcs(root: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string(root.join(RFCS)).context(RFCS)?;
    let rows = table.lines().enumerate().skip(1);
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    Ok(rows.filter_map(|(n, row)| Some(format!("{RFCS}:{}: {}", n + 1, rfc(row, read)?))).collect())
}

/// What is wrong with a row; `read` answers a file's text.
fn rfc(row: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let columns: Vec<&str> = row.split('\t').collect();
    let [_, _, _, state, test] = columns.as_slice() else {
        return Some(format!("{} columns instead of five", columns.len()));
    };
    match (*state, *test) {
        ("no", "") => None,
        ("no", _) => Some("what is not there has no test".to_owned()),
        ("yes" | "partly", test) => {
            let found = test.split_once("::").is_some_and(|(path, name)| {
                read(path).is_some_and(|text| text.contains(&format!("fn {name}(")))
            });
            (!found).then(|| format!("there is no test {test:?} (FILE::FUNCTION)"))
        }
        (other, _) => Some(format!("the state is yes, partly or no, not {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_a_test_that_exists() {
        let read = |path: &str| (path == "a.rs").then(|| "fn it_works() {}".to_owned());
        for (row, good) in [
            ("1939\t3\tPOP3\tyes\ta.rs::it_works", true),
            ("1939\t3\tPOP3\tpartly\ta.rs::it_fails", false),
            ("1939\t3\tPOP3\tyes\tb.rs::it_works", false),
            ("1939\t3\tPOP3\tyes\t", false),
            ("1939\t7\tAPOP\tno\t", true),
            ("1939\t7\tAPOP\tno\ta.rs::it_works", false),
            ("1939\t7\tAPOP\tperhaps\t", false),
            ("1939\tAPOP", false),
        ] {
            assert_eq!(rfc(row, read).is_none(), good, "{row}");
        }
    }

    #[test]
    fn long_and_undocumented_files_are_found() {
        assert!(file("a.rs", "fn main() {}\n").is_some());
        assert!(file("a.rs", "//! A file.\n").is_none());
        let long = format!("//! Long.\n{}", "\n".repeat(600));
        assert!(file("src/a.rs", &long).is_some());
        assert!(file("crate/tests/a.rs", &long).is_none());
    }
}
