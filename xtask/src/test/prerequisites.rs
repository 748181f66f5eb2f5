//! What this machine must have, looked at before anything is built or downloaded; all that is missing is named at once.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use mailcluster_lab::{Lab, in_path};

/// Programs that the tests start, each with the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("gcc", "gcc, with libc6-dev"),
    ("git", "git"),
    ("setpriv", "util-linux"),
    ("losetup", "mount"),
    ("chroot", "coreutils"),
    ("tar", "tar"),
    ("apt-get", "apt"),
    ("dpkg", "dpkg"),
];

/// What comes with rustup: the command that shows it, and the component.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

/// What the parts that are wanted need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Only to build.
    Cargo,
    /// Disks, loopback addresses and clients, too.
    Root,
    /// A Kubernetes, too.
    Lab,
}

/// Fails with everything that is missing.
pub fn check(needs: Needs) -> Result<()> {
    let mut lacks = Vec::new();
    if needs == Needs::Lab {
        lacks.extend(Lab::lacks()?);
        if Lab::attach().is_ok() {
            let owner = Lab::owner()?.unwrap_or_default();
            lacks.push(format!("{} (MAILCLUSTER_LAB=NAME uses another)", owner.described()));
        }
    } else if needs == Needs::Root && !rustix::process::geteuid().is_root() {
        lacks.push("the tests need root: they mount disks, cut power and run clients by chroot".to_owned());
    }
    lacks.extend(missing(PROGRAMS, &lacks, in_path));
    for (command, component) in COMPONENTS {
        let mut cargo = Command::new("cargo");
        let run = cargo.args([command, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !run.is_ok_and(|status| status.success()) {
            lacks.push(format!(
                "`cargo {command}` is missing: `rustup component add {component}` (https://rustup.rs)"
            ));
        }
    }
    if lacks.is_empty() {
        return Ok(());
    }
    bail!("the tests cannot run on this machine:\n  - {}", lacks.join("\n  - "))
}

/// Programs that are missing and not named yet.
fn missing(programs: &[(&str, &str)], named: &[String], is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let said = |program: &str| named.iter().any(|lack| lack.contains(&format!("the program {program} ")));
    let lacking = programs.iter().filter(|(program, _)| !is_there(program) && !said(program));
    lacking
        .map(|(program, package)| format!("the program {program} is missing (Debian package {package})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_program_is_named_once() {
        let named = ["the program gcc is missing (Debian package gcc)".to_owned()];
        let there = ["dpkg", "apt-get", "chroot", "losetup", "tar"];
        let found = missing(PROGRAMS, &named, |program| there.contains(&program));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("git") && found[1].contains("util-linux"), "{found:?}");
    }
}
