//! The first seconds of `cargo xtask`: a machine that cannot run the lab is refused before minutes go into compiling;
//! on any other the package `xtask` is built and run with the same words.

use std::{
    env::{self, args_os},
    ffi::OsString,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Result, anyhow};
use mailcluster_machine::{paths::Paths, preflight};

fn main() -> ExitCode {
    let Err(error) = run(&args_os().skip(1).collect::<Vec<_>>());
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Nothing comes back but an error: the commands take this process over.
fn run(words: &[OsString]) -> Result<std::convert::Infallible> {
    if wants_a_lab(words) {
        preflight::check(&Paths::from_environment()?)?;
    }
    if !built() {
        eprintln!("building the commands of `cargo xtask` (about 3 minutes, the first time)");
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Said here: an unknown option must be xtask's to explain.
    command.args(["run", "--quiet", "--package", "xtask", "--"]).args(words);
    // What cargo sets for the program it runs is not for the next.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text == "CARGO" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    Err(anyhow!(command.exec()).context("failed to start cargo"))
}

/// Whether these words bring a lab up on this machine. When in doubt they do not: the commands themselves look again.
fn wants_a_lab(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let elsewhere = ["--down", "--context", "--no-lab", "--only", "--help", "-h"];
    if words.iter().any(|word| elsewhere.contains(&word.split('=').next().unwrap_or_default())) {
        return false;
    }
    matches!(
        words.as_slice(),
        ["demo" | "test" | "faults", ..] | ["lab", "up", ..] | ["bench", "failover", ..]
    )
}

/// Whether the commands were built before, beside this program.
fn built() -> bool {
    let beside = env::current_exe().ok().and_then(|path| Some(path.parent()?.join("xtask")));
    beside.as_deref().is_some_and(Path::is_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_brings_a_lab_up_looks_at_the_machine() {
        for (line, expected) in [
            ("demo", true),
            ("demo --down", false),
            ("demo --context=mine --registry r.example", false),
            ("test", true),
            ("test --long", true),
            ("test --no-lab", false),
            ("test --only lint", false),
            ("lab up --nodes 3", true),
            ("lab down", false),
            ("bench failover", true),
            ("bench delivery", false),
            ("faults --minutes 60 --mode single", true),
            ("tidy", false),
            ("test --help", false),
            ("", false),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(wants_a_lab(&words), expected, "{line}");
        }
    }
}
