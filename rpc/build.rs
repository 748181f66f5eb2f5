//! Compiles every `proto/*.proto`; a new file needs no change here. protox, so that no protoc is needed.

use std::{error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files: Vec<PathBuf> =
        fs::read_dir("proto")?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    tonic_prost_build::configure()
        // Parts of batches are not copied.
        .bytes(".mailcluster.mirror.v1")
        .skip_debug([".mailcluster.directory.v1.Secret"])
        .include_file("generated.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
