//! `cargo xtask images`: container images with nothing in them but one static program.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mailcluster_lab::{OciImage, Source};

use crate::cargo;

/// The images and the program of each.
const IMAGES: [(&str, &str); 3] = [
    ("mailcluster-node", "mailcluster-node"),
    ("mailcluster-operator", "mailcluster-operator"),
    ("mailcluster-fence-redfish", "mailcluster-fence-redfish"),
];

/// The registry part of the names of images that are loaded by hand.
pub const LOCAL: &str = "localhost";

/// An image's full name.
pub fn name(image: &str) -> String {
    format!("{LOCAL}/{image}:{}", env!("CARGO_PKG_VERSION"))
}

/// Builds the programs and writes an OCI archive of each into the cache; answers the archives.
pub fn build() -> Result<Vec<PathBuf>> {
    cargo::build_programs()?;
    let folder = mailcluster_lab::Paths::from_environment()?.cache.join("images");
    write(&folder)
}

fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    IMAGES
        .iter()
        .map(|(image, program)| {
            let archive = folder.join(format!("{image}.tar"));
            let inside = format!("/usr/bin/{program}");
            OciImage::new(&name(image), &[&inside])
                .user("65532:65532")
                .file(&inside, Source::File(cargo::binary(program)?), 0o755)
                .write(&archive)
                .with_context(|| format!("failed to write {}", archive.display()))?;
            Ok(archive)
        })
        .collect()
}

/// Writes the archives into a folder.
pub fn save(folder: &Path) -> Result<()> {
    build()?;
    for archive in write(folder)? {
        println!("{}", archive.display());
    }
    Ok(())
}

/// Loads the images into a cluster made by another tool.
pub fn load(target: &str) -> Result<()> {
    for archive in build()? {
        let archive = archive.to_str().context("the cache folder is not UTF-8")?;
        let words: &[&str] = match target {
            "kind" => &["kind", "load", "image-archive", archive],
            "k3s" => &["k3s", "ctr", "images", "import", archive],
            _ => bail!("{target:?}: expected kind or k3s"),
        };
        let status = std::process::Command::new(words[0])
            .args(&words[1..])
            .status()
            .with_context(|| words[0].to_owned())?;
        if !status.success() {
            bail!("`{}` failed", words.join(" "));
        }
    }
    Ok(())
}
