//! Writes the CustomResourceDefinitions into `crds/` and into the chart: `crdgen`, or `crdgen --check` to be told
//! whether they are fresh.

use std::{path::PathBuf, process::ExitCode};

/// Where they stand, from the workspace's folder.
const FOLDERS: [&str; 2] = ["crds", "charts/mailcluster/files/crds"];

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
    for (name, text) in mailcluster_api::crd::render()? {
        for folder in FOLDERS {
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
