//! Writes the CustomResourceDefinitions into `crds/` and into the chart, and their reference into `docs/`: `crdgen`, or
//! `crdgen --check` to be told whether they are fresh.

use std::{path::PathBuf, process::ExitCode};

/// Where the definitions stand, from the workspace's folder.
const DEFINITIONS: &[&str] = &["crds", "charts/mailcluster/files/crds"];
/// Where the reference stands.
const REFERENCE: &[&str] = &["docs/reference"];

fn main() -> ExitCode {
    match run(std::env::args().any(|arg| arg == "--check")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<(), Box<dyn std::error::Error>> {
    let workspace = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let definitions = mailcluster_api::crd::render()?.into_iter().map(|file| (DEFINITIONS, file));
    let reference = mailcluster_api::reference::render()?.into_iter().map(|file| (REFERENCE, file));
    for (folders, (name, text)) in definitions.chain(reference) {
        for folder in folders {
            let path = workspace.join(folder).join(name);
            if !check {
                std::fs::create_dir_all(workspace.join(folder))?;
                std::fs::write(&path, &text)?;
            } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
                return Err(format!("{folder}/{name} is stale: run `cargo xtask generate`").into());
            }
        }
    }
    Ok(())
}
