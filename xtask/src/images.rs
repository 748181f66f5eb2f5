//! `cargo xtask images`: container images with nothing in them but one static program.

mod login;
mod registry;
pub mod released;
mod target;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use mailcluster_lab::{OciArchive, OciImage, Source};

use crate::cargo;

/// The images and the program of each.
const IMAGES: [(&str, &str); 3] = [
    ("mailcluster-node", "mailcluster-node"),
    ("mailcluster-operator", "mailcluster-operator"),
    ("mailcluster-fence-redfish", "mailcluster-fence-redfish"),
];

/// The registry part of the names of images that are loaded by hand.
pub const LOCAL: &str = "localhost";

/// What can be done with the images.
#[derive(clap::Subcommand)]
pub enum Action {
    /// Write one archive with all images, as `docker load` and `ctr images import` take it
    Save {
        /// The archive, like images.tar
        file: PathBuf,
    },
    /// Push the images to a registry, with the login that `docker login` has left
    Push {
        /// HOST[:PORT][/FOLDER]; on this machine by HTTP, else by HTTPS
        registry: String,
    },
    /// Load the images into a cluster made by another tool
    Load {
        /// Which tool
        tool: Tool,
        /// The cluster's name (kind)
        #[arg(long, default_value = "kind")]
        name: String,
    },
}

/// A tool that makes clusters.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Tool {
    /// kind: every node of a cluster
    Kind,
    /// k3s: this machine
    K3s,
}

/// Runs one of them.
pub fn run(action: &Action) -> Result<()> {
    match action {
        Action::Save { file } => {
            build_into(file)?;
            println!("{}", file.display());
            hint(LOCAL);
            Ok(())
        }
        Action::Push { registry } => {
            let target = target::Target::parse(registry)?;
            let login = login::Login::of_user(&target.host)?;
            let archive = OciArchive::open(&build()?)?;
            for name in registry::Registry::new(target, login).push(&archive)? {
                println!("{name}");
            }
            hint(registry.trim_end_matches('/'));
            Ok(())
        }
        Action::Load { tool, name } => {
            load(*tool, name)?;
            hint(LOCAL);
            Ok(())
        }
    }
}

/// Builds the programs and writes an archive of all images into the cache; answers it.
pub fn build() -> Result<PathBuf> {
    let file = mailcluster_lab::Paths::from_environment()?.cache.join("images/mailcluster.tar");
    // Another process may be loading what it built itself.
    let new = file.with_extension(format!("{}.new", std::process::id()));
    build_into(&new)?;
    std::fs::rename(&new, &file)?;
    Ok(file)
}

fn build_into(file: &Path) -> Result<()> {
    cargo::build_programs()?;
    write(file, env!("CARGO_PKG_VERSION"))
}

/// An archive of all images, of the programs as they lie where cargo puts them.
fn write(file: &Path, tag: &str) -> Result<()> {
    let images: Vec<OciImage> = IMAGES
        .iter()
        .map(|(image, program)| {
            let inside = format!("/usr/bin/{program}");
            let name = format!("{LOCAL}/{image}:{tag}");
            let source = Source::File(cargo::binary(program)?);
            Ok(OciImage::new(&name, &[&inside]).user("65532:65532").file(&inside, source, 0o755))
        })
        .collect::<Result<_>>()?;
    OciImage::write_all(&images, file)
}

fn load(tool: Tool, name: &str) -> Result<()> {
    let archive = build()?;
    let archive = archive.to_str().context("the cache folder is not UTF-8")?;
    let words = words(tool, archive, name);
    let status = Command::new(words[0]).args(&words[1..]).status();
    let status = status.with_context(|| format!("failed to start {}: is it installed?", words[0]))?;
    if !status.success() {
        bail!("`{}` failed", words.join(" "));
    }
    Ok(())
}

fn words<'a>(tool: Tool, archive: &'a str, name: &'a str) -> Vec<&'a str> {
    match tool {
        Tool::Kind => vec!["kind", "load", "image-archive", archive, "--name", name],
        Tool::K3s => vec!["k3s", "ctr", "images", "import", archive],
    }
}

fn hint(registry: &str) {
    let policy = if registry == LOCAL { " --set image.pullPolicy=Never" } else { "" };
    println!(
        "next: helm install mailcluster charts/mailcluster --namespace mailcluster-system --create-namespace \
         --set image.registry={registry}{policy}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_gets_one_archive() {
        let kind = words(Tool::Kind, "/c/images.tar", "mail").join(" ");
        assert_eq!(kind, "kind load image-archive /c/images.tar --name mail");
        assert_eq!(
            words(Tool::K3s, "/c/images.tar", "mail").join(" "),
            "k3s ctr images import /c/images.tar"
        );
    }
}
